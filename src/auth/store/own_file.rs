//! What our two files of credentials have in common: where they lie, and how they are read and changed.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    super::{credential::CredentialKind, error::CredentialError, key::RegistryKey},
    private::PrivateDirectory,
    table::Content,
};

/// A file in our directory, be it there or not.
#[derive(Clone, Debug)]
pub(super) struct OwnFile {
    directory: PrivateDirectory,
    name: &'static str,
    path: PathBuf,
}

impl OwnFile {
    pub(super) fn new(directory: &Path, name: &'static str) -> Self {
        let directory = PrivateDirectory::new(directory);
        Self { path: directory.file(name), directory, name }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is such a file.
    pub(super) fn is_there(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    /// Whether it could be written now.
    pub(super) fn check(&self) -> Result<(), CredentialError> {
        self.read()?;
        self.directory.lock()?.try_out()
    }

    pub(super) fn read(&self) -> Result<Content, CredentialError> {
        let text = self.directory.read(self.name)?;
        Content::parse(text.as_ref().map(|text| text.as_str()), &self.path)
    }

    /// Reads, changes and writes it, under the lock.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Content) -> Result<T, CredentialError>,
    ) -> Result<T, CredentialError> {
        let lock = self.directory.lock()?;
        let mut content = self.read()?;
        let result = change(&mut content)?;
        lock.write(self.name, &Zeroizing::new(content.text()))?;
        Ok(result)
    }

    /// Removes an entry; whether there was one. A file without it is not touched.
    pub(super) fn delete(
        &self,
        registry: &RegistryKey,
        kind: CredentialKind,
    ) -> Result<bool, CredentialError> {
        if self.read()?.entry(registry, kind)?.is_none() {
            return Ok(false);
        }
        self.change(|content| Ok(content.remove(registry, kind)))
    }
}
