//! The TOML of a credentials file: `[registries."HOST".KIND]`. Everything else in it is preserved.

use std::{ops::Range, path::Path};

use toml_edit::{DocumentMut, Item, Table, Value};

use super::{
    super::{credential::CredentialKind, error::CredentialError, key::RegistryKey},
    StoredEntry,
};

/// The version of the format.
const VERSION: i64 = 1;

/// The position of a span in a text, for messages.
pub(in super::super) fn line_and_column(text: &str, span: Option<Range<usize>>) -> (usize, usize) {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
    (line, column)
}

/// The content of a credentials file. Cannot be printed: it may contain secrets.
pub(super) struct CredentialsDocument {
    document: DocumentMut,
    path: String,
}

impl CredentialsDocument {
    /// Parses the text of the file at `path`; `None` if there is no file yet.
    pub(super) fn parse(text: Option<&str>, path: &Path) -> Result<Self, CredentialError> {
        let path = path.display().to_string();
        let Some(text) = text else {
            let mut document = DocumentMut::new();
            document.insert("version", Item::Value(VERSION.into()));
            return Ok(Self { document, path });
        };
        // The parser's message quotes lines.
        let document = text.parse::<DocumentMut>().map_err(|error| {
            let (line, column) = line_and_column(text, error.span());
            CredentialError::other(format!(
                "{path} is damaged: line {line}, column {column} is not TOML; it is not changed"
            ))
        })?;
        let document = Self { document, path };
        match document.document.get("version").and_then(Item::as_integer) {
            Some(VERSION) => Ok(document),
            Some(version) => Err(document.damaged(format!("version {version} is unknown"))),
            None => Err(document.damaged("it has no version")),
        }
    }

    /// The text to write.
    pub(super) fn text(&self) -> String {
        self.document.to_string()
    }

    /// An error about this file.
    pub(super) fn damaged(&self, problem: impl std::fmt::Display) -> CredentialError {
        CredentialError::other(format!("{} is damaged: {problem}; it is not changed", self.path))
    }

    /// A top-level table other than `registries`.
    pub(super) fn section(&self, name: &str) -> Option<&Table> {
        self.document.get(name).and_then(Item::as_table)
    }

    /// Adds a top-level table.
    pub(super) fn set_section(&mut self, name: &str, values: Vec<(&str, Value)>) {
        let mut table = Table::new();
        fill(&mut table, values);
        self.document.insert(name, Item::Table(table));
    }

    /// All entries, sorted.
    pub(super) fn list(&self) -> Result<Vec<StoredEntry>, CredentialError> {
        let mut entries = Vec::new();
        for (host, kinds) in self.registries()?.into_iter().flat_map(Table::iter) {
            let registry: RegistryKey = host.parse().map_err(|error| self.damaged(error))?;
            let Some(kinds) = kinds.as_table() else {
                return Err(self.damaged(format!("registries.{host:?} is not a table")));
            };
            for (name, entry) in kinds {
                // A later version may have added this kind.
                let (Some(kind), Some(entry)) = (CredentialKind::from_name(name), entry.as_table()) else {
                    continue;
                };
                let username = entry.get("username").and_then(Item::as_str).unwrap_or_default().to_owned();
                entries.push(StoredEntry { registry: registry.clone(), kind, username });
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// One entry.
    pub(super) fn entry(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<Option<&Table>, CredentialError> {
        let kinds = self.registries()?.and_then(|registries| registries.get(registry.as_str()));
        let Some(entry) = kinds.and_then(Item::as_table).and_then(|kinds| kinds.get(kind.as_str())) else {
            return Ok(None);
        };
        match entry.as_table() {
            Some(entry) => Ok(Some(entry)),
            None => Err(self.damaged(format!("the entry of {registry} is not a table"))),
        }
    }

    /// A string of an entry; `None` if it is missing.
    pub(super) fn text_of<'a>(
        &self,
        registry: &RegistryKey,
        entry: &'a Table,
        name: &str,
    ) -> Result<Option<&'a str>, CredentialError> {
        match entry.get(name) {
            None => Ok(None),
            Some(value) => match value.as_str() {
                Some(text) => Ok(Some(text)),
                None => Err(self.damaged(format!("{name} of {registry} is not a string"))),
            },
        }
    }

    /// Sets values of an entry and removes those that are `None`. Other values are preserved.
    pub(super) fn set(
        &mut self,
        registry: &RegistryKey,
        kind: CredentialKind,
        values: Vec<(&str, Option<Value>)>,
    ) -> Result<(), CredentialError> {
        self.registries()?;
        let registries = self.document.entry("registries").or_insert_with(implicit);
        let kinds =
            registries.as_table_mut().map(|table| table.entry(registry.as_str()).or_insert_with(implicit));
        let entry = kinds
            .and_then(Item::as_table_mut)
            .map(|kinds| kinds.entry(kind.as_str()).or_insert_with(|| Item::Table(Table::new())));
        let Some(entry) = entry.and_then(Item::as_table_mut) else {
            return Err(self.damaged(format!("the entry of {registry} is not a table")));
        };
        for (name, value) in values {
            match value {
                Some(value) => fill(entry, vec![(name, value)]),
                None => drop(entry.remove(name)),
            }
        }
        Ok(())
    }

    /// Removes an entry and returns whether there was one.
    pub(super) fn remove(&mut self, registry: &RegistryKey, kind: CredentialKind) -> bool {
        let registries = self.document.get_mut("registries").and_then(Item::as_table_mut);
        let Some(registries) = registries else { return false };
        let Some(kinds) = registries.get_mut(registry.as_str()).and_then(Item::as_table_mut) else {
            return false;
        };
        let was_there = kinds.remove(kind.as_str()).is_some();
        if kinds.is_empty() {
            registries.remove(registry.as_str());
        }
        was_there
    }

    fn registries(&self) -> Result<Option<&Table>, CredentialError> {
        match self.document.get("registries") {
            None => Ok(None),
            Some(registries) => match registries.as_table() {
                Some(registries) => Ok(Some(registries)),
                None => Err(self.damaged("registries is not a table")),
            },
        }
    }
}

/// A table without a header of its own.
fn implicit() -> Item {
    let mut table = Table::new();
    table.set_implicit(true);
    Item::Table(table)
}

/// Sets values, preserving the position and comments of existing ones.
fn fill(table: &mut Table, values: Vec<(&str, Value)>) {
    for (name, mut value) in values {
        if let Some(old) = table.get(name).and_then(Item::as_value) {
            *value.decor_mut() = old.decor().clone();
        }
        table.insert(name, Item::Value(value));
    }
}
