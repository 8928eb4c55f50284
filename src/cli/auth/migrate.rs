//! `auth migrate`: move credentials from docker's and podman's files to a secure store.

use layerslayer::{MigrationOptions, MigrationOutcome, MigrationSource, StoreKind};

use super::{Context, failure};
use crate::cli::{
    args::account::MigrateArguments,
    exit::{Exit, Failure},
};

/// Moves credentials.
pub(super) fn run(arguments: &MigrateArguments, context: &Context<'_>) -> Result<(), Failure> {
    if matches!(arguments.store, Some(StoreKind::Plaintext | StoreKind::DockerConfig)) {
        return Err(Failure::usage(
            "auth migrate moves credentials to the keyring or the encrypted file: use --store keyring or --store file",
        ));
    }
    let all = [MigrationSource::DockerConfig, MigrationSource::Containers];
    let from =
        all.into_iter().filter(|source| arguments.from.as_deref().is_none_or(|name| name == source.as_str()));
    let store = context.store(arguments.store)?;
    let mut options = MigrationOptions::default();
    (options.dry_run, options.backup) = (arguments.dry_run, arguments.backup);
    let (mut failures, mut moved, mut seen) = (Vec::new(), 0_usize, 0_usize);
    for source in from {
        let migrated = match context.credentials.migrate(source, store.as_ref(), options) {
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
                        "{registry}: {} has a different credential, so the one in {from} was not moved; log out of one of them",
                        store.place()
                    ),
                )),
                MigrationOutcome::Stayed(error) => {
                    let exit = failure(error.clone()).exit;
                    failures.push(Failure::new(exit, format!("{registry}: not moved from {from}: {error}")));
                }
                _ => {}
            }
        }
    }
    let verb = if arguments.dry_run { "would be moved" } else { "moved" };
    context.console.note(&format!("{moved} of {seen} credentials {verb}"));
    if moved > 0 && !arguments.dry_run {
        context.console.note(
            "docker finds them with \"credsStore\": \"layerslayer\" in its config.json, if \
             docker-credential-layerslayer is in the PATH",
        );
    }
    Failure::all(failures)
}
