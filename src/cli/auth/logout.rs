//! `logout`: remove credentials.

use std::collections::BTreeSet;

use layerslayer::{CredentialStore, RegistryKey, StoreKind};

use super::{Context, erase, failure};
use crate::cli::{args::account::LogoutArguments, exit::Failure};

/// Removes the credentials of one registry, or of all.
pub(super) fn run(arguments: &LogoutArguments, context: &Context<'_>) -> Result<(), Failure> {
    let stores = match arguments.store {
        Some(kind) => vec![context.credentials.store(kind).map_err(failure)?],
        None => context.credentials.stores(),
    };
    let (mut failures, mut removed) = (Vec::new(), BTreeSet::new());
    for store in &stores {
        match remove(arguments, store.as_ref()) {
            Ok(registries) => {
                removed.extend(registries.into_iter().map(|registry| (registry, store.place())))
            }
            // A keyring that does not exist holds nothing.
            Err(error) if error.is_unavailable() && arguments.store.is_none() => {}
            Err(error) => failures.push(failure(error)),
        }
    }
    for (registry, place) in &removed {
        context.console.note(&format!("logged out of {registry}: removed from {place}"));
    }
    if removed.is_empty() && failures.is_empty() {
        let of = if arguments.all { String::new() } else { format!(" for {}", arguments.registry) };
        context.console.note(&format!("nothing was stored{of}"));
    }
    Failure::all(failures)?;
    if !arguments.all {
        for remaining in context.credentials.candidates(&arguments.registry) {
            let (place, registry) = (&remaining.place, &arguments.registry);
            let remedy = remedy(arguments, place, context);
            context.console.note(&format!("{place} still has a credential for {registry}{remedy}"));
        }
    }
    Ok(())
}

/// The command that removes a credential from a file shared with other programs, if known.
fn remedy(arguments: &LogoutArguments, place: &str, context: &Context<'_>) -> String {
    let registry = &arguments.registry;
    let docker = context.credentials.store(StoreKind::DockerConfig).map(|store| store.place());
    match docker {
        Ok(docker) if place.contains(&docker) => {
            format!("; remove it with: layerslayer logout {registry} --store {}", StoreKind::DockerConfig)
        }
        _ if place.contains(".json at ") || place.contains(".conf at ") => {
            format!("; remove it with: podman logout {registry}")
        }
        _ => String::new(),
    }
}

/// Removes credentials from one store and returns their registries.
fn remove(
    arguments: &LogoutArguments,
    store: &dyn CredentialStore,
) -> Result<Vec<RegistryKey>, layerslayer::CredentialError> {
    let mut removed = Vec::new();
    let registries: BTreeSet<RegistryKey> = match arguments.all {
        true => store.list()?.into_iter().map(|entry| entry.registry).collect(),
        false => BTreeSet::from([arguments.registry.clone()]),
    };
    for registry in registries {
        if erase(store, &registry)? {
            removed.push(registry);
        }
    }
    Ok(removed)
}
