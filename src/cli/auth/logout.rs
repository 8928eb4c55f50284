//! `logout`: forget.

use std::collections::BTreeSet;

use layerslayer::{CredentialStore, RegistryKey, StoreKind};

use super::{Context, erase, failure};
use crate::cli::{args::account::LogoutArguments, exit::Failure};

/// Forgets the credential of a registry, or of all.
pub(super) fn run(arguments: &LogoutArguments, context: &Context<'_>) -> Result<(), Failure> {
    let stores = match arguments.store {
        Some(kind) => vec![context.sources.store(kind).map_err(failure)?],
        None => context.sources.stores(),
    };
    let (mut failures, mut forgotten) = (Vec::new(), BTreeSet::new());
    for store in &stores {
        match forget(arguments, store.as_ref()) {
            Ok(registries) => {
                forgotten.extend(registries.into_iter().map(|registry| (registry, store.place())))
            }
            // A keyring that is not there holds nothing.
            Err(error) if error.is_unavailable() && arguments.store.is_none() => {}
            Err(error) => failures.push(failure(error)),
        }
    }
    for (registry, place) in &forgotten {
        context.console.note(&format!("logged out of {registry}: removed from {place}"));
    }
    if forgotten.is_empty() && failures.is_empty() {
        let of = if arguments.all { String::new() } else { format!(" for {}", arguments.registry) };
        context.console.note(&format!("nothing was stored{of}"));
    }
    Failure::all(failures)?;
    if !arguments.all {
        for left in context.sources.candidates(&arguments.registry) {
            let (place, registry) = (&left.place, &arguments.registry);
            let remedy = remedy(arguments, place, context);
            context.console.note(&format!("{place} has a credential for {registry} still{remedy}"));
        }
    }
    Ok(())
}

/// What removes a credential from a place that is not ours alone, as far as we know it.
fn remedy(arguments: &LogoutArguments, place: &str, context: &Context<'_>) -> String {
    let registry = &arguments.registry;
    let docker = context.sources.store(StoreKind::DockerConfig).map(|store| store.place());
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

/// Forgets in one store; which registries.
fn forget(
    arguments: &LogoutArguments,
    store: &dyn CredentialStore,
) -> Result<Vec<RegistryKey>, layerslayer::CredentialError> {
    let mut forgotten = Vec::new();
    let registries: BTreeSet<RegistryKey> = match arguments.all {
        true => store.list()?.into_iter().map(|entry| entry.registry).collect(),
        false => BTreeSet::from([arguments.registry.clone()]),
    };
    for registry in registries {
        if erase(store, &registry)? {
            forgotten.push(registry);
        }
    }
    Ok(forgotten)
}
