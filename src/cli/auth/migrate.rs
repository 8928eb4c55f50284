//! `auth migrate`: out of the files of others, into a secure store.

use layerslayer::{MigrationOptions, MigrationOutcome, MigrationSource, StoreKind};

use super::{Context, failure};
use crate::cli::{
    args::account::MigrateArguments,
    exit::{Exit, Failure},
};

/// Moves credentials.
pub(super) fn run(arguments: &MigrateArguments, context: &Context<'_>) -> Result<(), Failure> {
    if matches!(arguments.store, Some(StoreKind::Plaintext | StoreKind::DockerConfig)) {
        return Err(Failure::usage("--store: credentials are moved to the keyring or to the encrypted file"));
    }
    let all = [MigrationSource::DockerConfig, MigrationSource::Containers];
    let from =
        all.into_iter().filter(|source| arguments.from.as_deref().is_none_or(|name| name == source.as_str()));
    let store = context.store(arguments.store)?;
    let mut options = MigrationOptions::default();
    (options.dry_run, options.backup) = (arguments.dry_run, arguments.backup);
    let (mut failures, mut moved, mut seen) = (Vec::new(), 0_usize, 0_usize);
    for source in from {
        let migrated = match context.sources.migrate(source, store.as_ref(), options) {
            Ok(migrated) => migrated,
            Err(error) => {
                failures.push(failure(error));
                continue;
            }
        };
        for one in migrated {
            seen += 1;
            let (registry, from) = (&one.registry, one.from.display());
            match one.outcome {
                MigrationOutcome::Moved => {
                    moved += 1;
                    context.console.note(&format!("{registry}: moved from {from} to {}", store.place()));
                }
                MigrationOutcome::Planned => {
                    moved += 1;
                    context.console.note(&format!("{registry}: would be moved from {from} to {}", store.place()));
                }
                MigrationOutcome::Conflict => failures.push(Failure::new(
                    Exit::Other,
                    format!(
                        "{registry}: {} has another credential, so the one in {from} stays; log out of one of them",
                        store.place()
                    ),
                )),
                MigrationOutcome::Stayed(error) => {
                    let exit = failure(error.clone()).exit;
                    failures.push(Failure::new(exit, format!("{registry}: stays in {from}: {error}")));
                }
                _ => {}
            }
        }
    }
    let verb = if arguments.dry_run { "would be moved" } else { "moved" };
    context.console.note(&format!("{moved} of {seen} credentials {verb}"));
    if moved > 0 && !arguments.dry_run {
        context.console.note(
            "docker finds them again with \"credsStore\": \"layerslayer\" in its config.json, once \
             docker-credential-layerslayer is in the PATH",
        );
    }
    Failure::all(failures)
}
