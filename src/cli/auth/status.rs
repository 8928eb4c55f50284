//! `auth status`: list credentials and show which ones are used.

use std::io::Write as _;

use jiff::Timestamp;
use layerslayer::{Candidate, Client, RegistryKey};
use serde::Serialize;

use super::Context;
use crate::cli::{args::account::StatusArguments, exit::Failure, output::sanitize};

/// One credential, as printed.
#[derive(Serialize)]
struct Line {
    #[serde(rename = "type")]
    kind_of_line: &'static str,
    registry: String,
    /// Whether this one is used.
    wins: bool,
    username: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Shows them.
pub(super) async fn run(arguments: &StatusArguments, context: &Context<'_>) -> Result<(), Failure> {
    let registries = match &arguments.registry {
        Some(registry) => vec![registry.clone()],
        None => tokio::task::block_in_place(|| context.credentials.registries()),
    };
    let client = context.client()?;
    let mut lines = Vec::new();
    for registry in &registries {
        let candidates = tokio::task::block_in_place(|| context.credentials.candidates(registry));
        let winner = candidates.iter().position(|candidate| candidate.credential.is_some());
        for (index, candidate) in candidates.iter().enumerate() {
            let wins = winner == Some(index);
            let check = match arguments.check && wins {
                true => Some(check(&client, registry, candidate).await),
                false => None,
            };
            lines.push(Line::new(registry, candidate, wins, check));
        }
    }
    if arguments.registry.is_none() {
        tokio::task::block_in_place(|| warn_about_locked_stores(context));
    }
    let writing = |error: std::io::Error| Failure::writing("stdout", &error);
    let mut stdout = context.console.stdout()?;
    if arguments.json {
        for line in &lines {
            serde_json::to_writer(&mut stdout, line).map_err(|error| writing(error.into()))?;
            stdout.write_all(b"\n").map_err(writing)?;
        }
    } else {
        table(&lines, &mut stdout).map_err(writing)?;
    }
    stdout.flush().map_err(writing)?;
    if lines.is_empty() {
        let of = arguments.registry.as_ref().map(|registry| format!(" for {registry}")).unwrap_or_default();
        context.console.note(&format!("no credential{of}: requests are anonymous"));
        for key in arguments.registry.iter().flat_map(|registry| below(registry, context)) {
            context.console.note(&format!("except below {key}; see: layerslayer auth status {key}"));
        }
    }
    Ok(())
}

/// Paths below a registry that have their own credential.
fn below(registry: &RegistryKey, context: &Context<'_>) -> Vec<RegistryKey> {
    let mut keys = tokio::task::block_in_place(|| context.credentials.registries());
    keys.retain(|key| key != registry && key.host() == registry.as_str());
    keys
}

/// Warns that a locked keyring cannot be listed.
fn warn_about_locked_stores(context: &Context<'_>) {
    for error in context.credentials.stores().iter().filter_map(|store| store.list().err()) {
        if error.is_locked() {
            context.console.warning(&format!("{error}; its credentials are not listed"));
        }
    }
}

/// Whether the registry accepts it.
async fn check(client: &Client, registry: &RegistryKey, candidate: &Candidate) -> String {
    let Some(credential) = &candidate.credential else { return "not checked".into() };
    match client.log_in(registry, credential).await {
        Ok(login) if login.is_verified => "accepted".into(),
        Ok(_) => "not asked for".into(),
        Err(error) if error.is_unauthorized() => "refused".into(),
        Err(error) if error.is_unavailable() => "unreachable".into(),
        Err(_) => "failed".into(),
    }
}

impl Line {
    fn new(registry: &RegistryKey, candidate: &Candidate, wins: bool, check: Option<String>) -> Self {
        let expires = candidate.expires.and_then(|time| Timestamp::try_from(time).ok());
        let pin = candidate.credential.as_ref().and_then(|credential| credential.token_server());
        Self {
            kind_of_line: "credential",
            registry: registry.to_string(),
            wins,
            username: candidate.username.clone(),
            kind: candidate.kind.map(|kind| kind.as_str()),
            place: candidate.place.clone(),
            token_server: pin.map(str::to_owned),
            expires: expires.map(|time| time.to_string()),
            check,
            problem: candidate.problem.as_ref().map(ToString::to_string),
        }
    }

    /// The table's columns: registry, user, kind and details.
    fn columns(&self) -> [String; 4] {
        let mut details = if self.wins { self.place.clone() } else { format!("{} (shadowed)", self.place) };
        if let Some(problem) = &self.problem {
            // The problem names the place, which is already in the column.
            let problem = problem.strip_prefix(&format!("{}: ", self.place)).unwrap_or(problem);
            let problem = problem.strip_suffix(&format!(", named in {}", self.place)).unwrap_or(problem);
            details = format!("{} (unusable: {problem})", self.place);
        }
        let facts = [
            self.expires.as_ref().map(|time| format!("expires {time}")),
            self.token_server.as_ref().map(|pin| format!("pinned to {pin}")),
            self.check.clone(),
        ];
        for fact in facts.into_iter().flatten() {
            details = format!("{details}, {fact}");
        }
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let columns =
            [self.registry.clone(), or_dash(&self.username), or_dash(self.kind.unwrap_or_default()), details];
        columns.map(|column| sanitize::message(&column))
    }
}

fn table(lines: &[Line], stdout: &mut impl std::io::Write) -> std::io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let heads = ["REGISTRY", "USER", "KIND", "FROM"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(heads).chain(lines.iter().map(Line::columns)).collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|text| text.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths = [width(0), width(1), width(2)];
    for [registry, user, kind, from] in &rows {
        let [first, second, third] = widths;
        writeln!(stdout, "{registry:<first$}  {user:<second$}  {kind:<third$}  {from}")?;
    }
    Ok(())
}
