//! The behaviour that all stores share.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    super::{
        credential::{Credential, CredentialKind},
        key::RegistryKey,
        passphrase::Passphrases,
    },
    CredentialStore,
    environment::Environment,
    plain_file::PlainFile,
    preferred,
    private::tests::private_folder,
    sealed_file::SealedFile,
};

fn key(text: &str) -> RegistryKey {
    text.parse().unwrap()
}

fn basic(user: &str, password: &str) -> Credential {
    Credential::basic(user, password)
}

fn token(token: &str) -> Credential {
    Credential::identity_token("", token)
}

#[track_caller]
fn holds(store: &dyn CredentialStore, registry: &RegistryKey, expected: &Credential) {
    let found = store.retrieve(registry, expected.kind()).unwrap().unwrap();
    assert!(found.is_same(expected), "{found:?}");
    assert_eq!(found.expiry(), expected.expiry());
    assert_eq!(found.source(), store.place());
    assert!(store.exists(registry, expected.kind()).unwrap());
}

/// Runs the whole suite. Each call of `open` opens the same store again, as another process would.
pub(super) fn run(open: &dyn Fn() -> Box<dyn CredentialStore>) {
    let store = open();
    // The store is empty at first.
    assert!(store.list().unwrap().is_empty());
    assert!(store.retrieve(&key("a.b"), CredentialKind::Password).unwrap().is_none());
    assert!(!store.exists(&key("a.b"), CredentialKind::Password).unwrap());
    assert!(!store.delete(&key("a.b"), CredentialKind::Password).unwrap());
    assert!(preferred(store.as_ref(), &key("a.b"), Some("x/y")).unwrap().is_none());
    // A stored credential is there, also after opening the store again.
    let odd = "p:ä\"'\\\n\t\u{0}{}[]#=$(x) \u{1f511}";
    store.store(&key("a.b"), &basic("me", "one")).unwrap();
    store.store(&key("docker.io"), &basic("ü:\"x\"", odd)).unwrap();
    store.store(&key("[::1]:5000"), &basic("", "only a password")).unwrap();
    holds(store.as_ref(), &key("a.b"), &basic("me", "one"));
    holds(open().as_ref(), &key("a.b"), &basic("me", "one"));
    holds(open().as_ref(), &key("https://index.docker.io/v1/"), &basic("ü:\"x\"", odd));
    holds(open().as_ref(), &key("[::1]:5000"), &basic("", "only a password"));
    // Other registries and kinds are unaffected.
    assert!(store.retrieve(&key("b"), CredentialKind::Password).unwrap().is_none());
    assert!(store.retrieve(&key("a.b:5000"), CredentialKind::Password).unwrap().is_none());
    assert!(store.retrieve(&key("a.b"), CredentialKind::IdentityToken).unwrap().is_none());
    // Storing again replaces, user name included.
    store.store(&key("a.b"), &basic("you", "two")).unwrap();
    holds(open().as_ref(), &key("a.b"), &basic("you", "two"));
    // Kinds are stored separately, and a token takes precedence over a password.
    let pinned = token("refresh").pinned_to(Some("https://auth.a.b/token".into()));
    let pinned = pinned.with_expiry(Some("2030-01-02T03:04:05Z".parse::<Timestamp>().unwrap()));
    store.store(&key("a.b"), &pinned).unwrap();
    holds(open().as_ref(), &key("a.b"), &pinned);
    holds(open().as_ref(), &key("a.b"), &basic("you", "two"));
    assert!(preferred(store.as_ref(), &key("a.b"), Some("x/y")).unwrap().unwrap().1.is_same(&pinned));
    // Storing again also removes the token server and the expiry.
    store.store(&key("a.b"), &token("refresh")).unwrap();
    holds(open().as_ref(), &key("a.b"), &token("refresh"));
    let registry = Credential::registry_token("ready");
    store.store(&key("c.d"), &registry).unwrap();
    holds(open().as_ref(), &key("c.d"), &registry);
    // A path below a registry takes precedence over the registry.
    store.store(&key("c.d/team"), &basic("team", "x")).unwrap();
    let user = |repository| preferred(open().as_ref(), &key("c.d"), repository).unwrap().unwrap().1;
    assert_eq!((user(Some("team/app")).username(), user(Some("teams")).username()), ("team", ""));
    assert!(store.delete(&key("c.d/team"), CredentialKind::Password).unwrap());
    // A long secret, as cloud registries issue.
    let long = basic("AWS", &"0123456789".repeat(600));
    store.store(&key("e.f"), &long).unwrap();
    holds(open().as_ref(), &key("e.f"), &long);
    // The list is sorted and contains no secret.
    let listed = open().list().unwrap();
    let shown = format!("{listed:?}");
    for secret in ["two", "refresh", "ready", "0123456789", "only a password"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    let listed: Vec<_> =
        listed.iter().map(|entry| (entry.registry.as_str(), entry.kind, entry.username.as_str())).collect();
    let expected = [
        ("[::1]:5000", CredentialKind::Password, ""),
        ("a.b", CredentialKind::IdentityToken, ""),
        ("a.b", CredentialKind::Password, "you"),
        ("c.d", CredentialKind::RegistryToken, ""),
        ("docker.io", CredentialKind::Password, "ü:\"x\""),
        ("e.f", CredentialKind::Password, "AWS"),
    ];
    assert_eq!(listed, expected);
    // Only the deleted credential is gone.
    assert!(store.delete(&key("a.b"), CredentialKind::Password).unwrap());
    assert!(!open().delete(&key("a.b"), CredentialKind::Password).unwrap());
    assert!(!open().exists(&key("a.b"), CredentialKind::Password).unwrap());
    holds(open().as_ref(), &key("a.b"), &token("refresh"));
    for (registry, kind, _) in expected {
        open().delete(&key(registry), kind).unwrap();
    }
    assert!(open().list().unwrap().is_empty());
}

/// Concurrent writers lose no entry.
pub(super) fn run_in_parallel(open: &(dyn Fn() -> Box<dyn CredentialStore> + Sync), number: usize) {
    std::thread::scope(|scope| {
        for index in 0..number {
            scope.spawn(move || open().store(&key(&format!("host-{index}")), &basic("me", "x")).unwrap());
        }
    });
    let listed = open().list().unwrap();
    assert_eq!(listed.len(), number, "{listed:?}");
}

/// Runs itself again in a session with its own keyring.
#[cfg(feature = "keyring")]
#[test]
fn the_keyring_conforms() {
    if let Some(folder) = std::env::var_os("LAYERSLAYER_TEST_KEYRING") {
        return keyring_of_this_session_conforms(folder.as_ref());
    }
    let folder = private_folder();
    let script = r#"printf 'open sesame' | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1
        for try in $(seq 1000); do
            keyring=$(dbus-send --print-reply=literal --dest=org.freedesktop.DBus / \
                org.freedesktop.DBus.GetConnectionUnixProcessID string:org.freedesktop.secrets 2>/dev/null) && break
        done
        trap 'kill "${keyring##* }"' EXIT
        "$1" --exact auth::store::conformance::the_keyring_conforms"#;
    let output = std::process::Command::new("dbus-run-session")
        .args(["--", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .env("HOME", folder.path())
        .env("XDG_RUNTIME_DIR", folder.path())
        .env("LAYERSLAYER_TEST_KEYRING", folder.path())
        .env_remove("XDG_DATA_HOME")
        .output()
        .expect("dbus-run-session and gnome-keyring-daemon are installed: run `make deps`");
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
}

#[cfg(feature = "keyring")]
fn keyring_of_this_session_conforms(folder: &std::path::Path) {
    let open = || Box::new(super::keyring::Keyring) as Box<dyn CredentialStore>;
    run(&open);
    run_in_parallel(&open, 8);
    let sealed = || {
        let no_passphrase = Passphrases::from_process(std::sync::Arc::new(|_| Ok(None)));
        let key_store = Box::new(super::keyring::Keyring);
        Box::new(SealedFile::new(folder, no_passphrase, Some(key_store))) as Box<dyn CredentialStore>
    };
    for entry in open().list().unwrap() {
        open().delete(&entry.registry, entry.kind).unwrap();
    }
    run(&sealed);
    super::keyring::Keyring.probe().unwrap();
    assert!(open().list().unwrap().is_empty());
}

#[test]
fn the_plain_file_conforms() {
    let folder = private_folder();
    let open = || Box::new(PlainFile::new(folder.path())) as Box<dyn CredentialStore>;
    run(&open);
    run_in_parallel(&open, 32);
}

#[test]
fn the_encrypted_file_conforms() {
    let folder = private_folder();
    let open = || {
        let sealed = SealedFile::new(folder.path(), Passphrases::fixed("open sesame"), None);
        Box::new(sealed) as Box<dyn CredentialStore>
    };
    run(&open);
    run_in_parallel(&open, 32);
}

/// The part of the suite that applies to a read-only store.
#[test]
fn the_environment_conforms_for_reading() {
    let open = |value: &str| Environment::new([("LAYERSLAYER_AUTH".into(), value.into())]);
    let store = open("{}");
    assert!(store.list().unwrap().is_empty());
    assert!(store.retrieve(&key("a.b"), CredentialKind::Password).unwrap().is_none());
    assert!(!store.delete(&key("a.b"), CredentialKind::Password).unwrap());
    let odd = "p:ä\"'\\\n\t{}[]#=$(x) \u{1f511}";
    let all = BTreeMap::from([("a.b", format!("me:{odd}")), ("c.d:5", "<token>:refresh".to_owned())]);
    let store = open(&serde_json::to_string(&all).unwrap());
    let found = store.retrieve(&key("a.b"), CredentialKind::Password).unwrap().unwrap();
    assert!(found.is_same(&basic("me", odd)));
    assert!(preferred(&store, &key("c.d:5"), None).unwrap().unwrap().1.is_same(&token("refresh")));
    assert!(store.retrieve(&key("c.d"), CredentialKind::IdentityToken).unwrap().is_none());
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(!format!("{listed:?}").contains("refresh"));
    let refused = store.store(&key("a.b"), &basic("me", "x")).unwrap_err();
    assert!(refused.is_read_only() && !refused.to_string().contains(odd));
    assert_eq!(found.expose_secret(), odd);
}
