//! What a credential costs: from each local store, and a token in memory beside it.
//!
//! With `DBUS_SESSION_BUS_ADDRESS` set, the keyring of that session is measured too: `dbus-run-session -- sh -c 'printf x |
//! gnome-keyring-daemon --unlock --components=secrets; cargo bench --bench credentials'`.
#![expect(clippy::print_stderr, reason = "what is left out is said")]

use std::{hint::black_box, time::Duration};

use criterion::Criterion;
use layerslayer::{Credential, CredentialSources, RegistryKey, StoreKind};

fn main() {
    let mut criterion = Criterion::default().configure_from_args().measurement_time(Duration::from_secs(5));
    let registry: RegistryKey = "registry.example:5000".parse().expect("a registry");
    let sources = CredentialSources::new().ask_passphrase(|_| Ok(Some(String::from("open sesame").into())));
    let credential = Credential::basic("alice", String::from("wonder:land").into());
    criterion.bench_function("in memory", |bencher| bencher.iter(|| black_box(credential.clone())));
    for kind in [StoreKind::Plaintext, StoreKind::File, StoreKind::DockerConfig, StoreKind::Keyring] {
        let store = sources.store(kind).expect("a store");
        if let Err(error) = store.store(&registry, &credential) {
            eprintln!("{kind}: left out: {error}");
            continue;
        }
        let opened = format!("{kind}, opened before");
        criterion.bench_function(&opened, |bencher| {
            bencher.iter(|| black_box(store.retrieve(&registry, credential.kind()).expect("it is there")));
        });
        if kind == StoreKind::File {
            criterion.bench_function("file, with its passphrase", |bencher| {
                bencher.iter(|| {
                    let sources = CredentialSources::new()
                        .ask_passphrase(|_| Ok(Some(String::from("open sesame").into())));
                    let store = sources.store(kind).expect("a store");
                    black_box(store.retrieve(&registry, credential.kind()).expect("it is there"))
                });
            });
        }
        store.delete(&registry, credential.kind()).expect("it can be removed");
    }
    criterion.final_summary();
}
