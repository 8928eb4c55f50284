//! Every store, with both kinds of registry.

use std::{
    fs,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    thread,
};

use super::{PASSWORD, USER, private_image};
use crate::support::{
    docker_registry::DockerRegistry,
    home::{Done, Home, open_to_others},
    registry::{Reply, ScriptedRegistry},
    token_server::{Policy, TokenServer},
};

const PASSPHRASE: (&str, &str) = ("LAYERSLAYER_PASSPHRASE", "open sesame");

/// Runs login → status → peek of a private image → logout.
fn round_trip(home: &Home, registry: &DockerRegistry, flags: &[&str], place: &str, kind: &str) {
    let host = registry.host();
    let image = private_image(registry);
    home.run(["peek", &image], "").failed(6).said("layerslayer login");
    home.login(&host, USER, PASSWORD, flags).done().said(place);
    let status = home.status(&[&host, "--check"]);
    assert_eq!(status.len(), 1, "{status:?}");
    assert_eq!((&status[0]["username"], &status[0]["kind"]), (&USER.into(), &kind.into()));
    assert_eq!((&status[0]["wins"], &status[0]["check"]), (&true.into(), &"accepted".into()));
    assert!(status[0]["place"].as_str().unwrap().contains(place), "{status:?}");
    let table = home.run(["auth", "status"], "").done().stdout;
    assert!(table.contains(&host) && table.contains(place) && !table.contains(PASSWORD), "{table}");
    home.run(["peek", &image], "").done();
    // Logging in again replaces it.
    home.login(&host, USER, PASSWORD, flags).done();
    assert_eq!(home.status(&[&host]).len(), 1);
    let store = if flags.contains(&"docker-config") { flags } else { &[] };
    home.run(["logout", &host].iter().chain(store), "").done().said("removed from");
    assert!(home.status(&[&host]).is_empty());
    home.run(["peek", &image], "").failed(6);
    home.run(["logout", &host], "").done().said("nothing was stored");
}

fn round_trips(home: &Home, flags: &[&str], place: &str) {
    round_trip(home, &DockerRegistry::htpasswd(USER, PASSWORD), flags, place, "password");
    let server = TokenServer::start(Policy::closed().user(USER, PASSWORD).issuing_identity_tokens());
    round_trip(home, &DockerRegistry::token(&server), flags, place, "identity-token");
}

#[test]
fn the_keyring_is_used_if_there_is_one() {
    let home = Home::with_keyring();
    round_trips(&home, &[], "the keyring");
    // Nothing is written to files.
    assert!(!home.path(".config/layerslayer/credentials.toml").exists());
    assert!(!home.path(".config/layerslayer/credentials.sealed.toml").exists());
}

#[test]
fn the_encrypted_file_is_used_if_there_is_a_passphrase_and_no_keyring() {
    let home = Home::new().set(PASSPHRASE.0, PASSPHRASE.1);
    round_trips(&home, &[], "the encrypted file");
    let path = home.path(".config/layerslayer/credentials.sealed.toml");
    assert!(!open_to_others(&path) && !fs::read_to_string(path).unwrap().contains("wonder"));
}

#[test]
fn the_plain_file_is_used_on_request() {
    let home = Home::new();
    round_trips(&home, &["--store", "plaintext"], "the plain file");
    assert!(!open_to_others(&home.path(".config/layerslayer/credentials.toml")));
    assert!(!open_to_others(&home.path(".config/layerslayer")));
}

#[test]
fn dockers_configuration_is_used_on_request() {
    round_trips(&Home::new(), &["--store", "docker-config"], "config.json");
}

#[test]
fn without_a_passphrase_the_key_of_the_encrypted_file_is_in_the_keyring() {
    let home = Home::with_keyring();
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    round_trip(&home, &registry, &["--store", "file"], "the encrypted file", "password");
    assert!(home.text(".config/layerslayer/credentials.sealed.toml").contains("kind = \"keyring\""));
}

#[test]
fn without_a_secure_store_there_is_no_prompt_and_the_error_names_the_remedies() {
    let home = Home::new();
    let ran = home.login("127.0.0.1:1", USER, PASSWORD, &[]).failed(6);
    ran.said("LAYERSLAYER_PASSPHRASE").said("--store plaintext").said("no session bus");
    assert!(!home.path(".config/layerslayer").exists());
}

/// To readers a locked keyring looks empty.
#[test]
fn a_locked_keyring_is_detected_before_a_password_is_sent() {
    let home = Home::with_keyring().lock_keyring();
    assert!(home.status(&[]).is_empty());
    let ran = home.login("127.0.0.1:1", USER, PASSWORD, &[]).failed(6);
    ran.said("the keyring is locked").said("LAYERSLAYER_PASSPHRASE").said("--store plaintext");
    assert!(!home.path(".config/layerslayer").exists());
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    home.login(&registry.host(), USER, PASSWORD, &["--store", "keyring"])
        .failed(6)
        .said("the keyring is locked");
    let home = home.set(PASSPHRASE.0, PASSPHRASE.1);
    round_trip(&home, &registry, &[], "the encrypted file", "password");
    assert!(home.text(".config/layerslayer/credentials.sealed.toml").contains("kind = \"passphrase\""));
}

/// A locked keyring can be searched but not listed.
#[test]
fn a_credential_in_a_locked_keyring_is_reported_and_does_not_affect_other_registries() {
    let (registry, open) = (DockerRegistry::htpasswd(USER, PASSWORD), DockerRegistry::open());
    let (closed_image, open_image) = (private_image(&registry), private_image(&open));
    let home = Home::with_keyring();
    home.login(&registry.host(), USER, PASSWORD, &[]).done();
    let home = home.lock_keyring();
    home.run(["peek", &closed_image], "").failed(1).said("the keyring is locked");
    let ran = home.run(["peek", &open_image], "").done();
    assert!(!ran.stderr.contains("locked"), "{}", ran.stderr);
    home.run(["auth", "status"], "").done().said("the keyring is locked");
    let status = home.status(&[&registry.host()]);
    assert!(status[0]["problem"].as_str().unwrap().contains("locked"), "{status:?}");
    assert!(home.status(&[&open.host()]).is_empty());
    home.run(["logout", &registry.host()], "").failed(6).said("the keyring is locked");
    home.run(["logout", &open.host()], "").done().said("nothing was stored");
    home.run(["logout", "--all"], "").failed(6).said("the keyring is locked");
}

/// Nothing listens on port 1: a request would be reported.
#[test]
fn a_store_that_does_not_work_is_reported_before_a_password_is_sent() {
    let refused = |home: &Home, store: &str, why: &str, code: i32| {
        let ran = home.login("127.0.0.1:1", USER, PASSWORD, &["--store", store]).failed(code).said(why);
        assert!(!ran.stderr.contains("cannot reach"), "{}", ran.stderr);
    };
    let home = Home::new();
    refused(&home, "file", "needs a passphrase", 6);
    refused(&home, "keyring", "there is no keyring", 1);
    assert!(!home.path(".config/layerslayer").exists());
    let home = Home::new().file(".config", "in the way");
    refused(&home, "plaintext", ".config", 1);
    let home = home.set(PASSPHRASE.0, PASSPHRASE.1);
    refused(&home, "file", ".config", 1);
    let home = Home::new().set(PASSPHRASE.0, PASSPHRASE.1);
    home.login("127.0.0.1:1", USER, PASSWORD, &["--store", "plaintext"]).failed(7).said("cannot reach");
    for (store, name) in [("plaintext", "credentials.toml"), ("file", "credentials.sealed.toml")] {
        let path = home.path(".config/layerslayer").join(name);
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        fs::write(&path, "damaged").unwrap();
        refused(&home, store, "damaged", 1);
    }
    let config = |text: &str| Home::new().file(".docker/config.json", text);
    refused(&config("["), "docker-config", "not a docker configuration", 1);
    refused(&config(r#"{"auths": 1}"#), "docker-config", "not a docker configuration", 1);
    refused(&Home::new().file(".docker", "in the way"), "docker-config", ".docker", 1);
    let home = config(r#"{"credsStore": "no-such-helper"}"#);
    refused(&home, "docker-config", "docker-credential-no-such-helper is not installed", 1);
    let home = config(r#"{"credHelpers": {"127.0.0.1:1": "secretservice"}}"#);
    refused(&home, "docker-config", "see why with: docker-credential-secretservice list", 1);
    // A helper for another registry is not used.
    let home = config(r#"{"credHelpers": {"a.b": "no-such-helper"}}"#);
    let login = home.login("127.0.0.1:1", USER, PASSWORD, &["--store", "docker-config"]);
    login.failed(7).said("cannot reach");
    assert_eq!(fs::read_dir(home.path(".docker")).unwrap().count(), 1);
}

/// A wrong passphrase is reported by login and peek, and changes nothing.
#[test]
fn a_wrong_passphrase_loses_nothing() {
    let home = Home::new().set(PASSPHRASE.0, PASSPHRASE.1);
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let image = private_image(&registry);
    home.login(&registry.host(), USER, PASSWORD, &[]).done();
    let before = home.text(".config/layerslayer/credentials.sealed.toml");
    let mut wrong = home.command(["peek", &image]);
    wrong.env(PASSPHRASE.0, "wrong");
    let ran = Done::of(&mut wrong, "");
    assert!(ran.code != 0 && ran.stderr.contains("wrong passphrase"), "{}", ran.stderr);
    let mut wrong = home.command(["login", "a.b", "--username", "x", "--password-stdin"]);
    wrong.env(PASSPHRASE.0, "wrong");
    Done::of(&mut wrong, "x").failed(6).said("wrong passphrase");
    assert_eq!(home.text(".config/layerslayer/credentials.sealed.toml"), before);
    home.run(["peek", &image], "").done();
    // Without a passphrase the entry can still be listed.
    let mut blind = home.command(["auth", "status"]);
    blind.env_remove(PASSPHRASE.0);
    let ran = Done::of(&mut blind, "").done();
    assert!(ran.stdout.contains(USER) && ran.stdout.contains("locked"), "{}", ran.stdout);
}

#[test]
fn a_login_with_another_store_removes_the_older_credential() {
    let home = Home::new().set(PASSPHRASE.0, PASSPHRASE.1);
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let host = registry.host();
    home.login(&host, USER, PASSWORD, &[]).done();
    home.login(&host, USER, PASSWORD, &["--store", "plaintext"]).done().said("in plain text");
    let status = home.status(&[&host]);
    assert!(status.len() == 1 && status[0]["place"].as_str().unwrap().contains("plain file"), "{status:?}");
}

#[test]
fn a_file_that_other_users_can_read_is_refused_with_the_command_that_fixes_it() {
    let home = Home::new();
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let image = private_image(&registry);
    home.login(&registry.host(), USER, PASSWORD, &["--store", "plaintext"]).done();
    let path = home.path(".config/layerslayer/credentials.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    home.run(["peek", &image], "").failed(1).said("chmod 600").said("credentials.toml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    home.run(["peek", &image], "").done();
}

/// A registry with one user.
pub(super) fn basic_registry() -> ScriptedRegistry {
    ScriptedRegistry::start(|request| match request.authorization() {
        // alice:wonder:land
        Some("Basic YWxpY2U6d29uZGVyOmxhbmQ=") => Reply::ok("{}"),
        _ => Reply::challenge("Basic realm=\"r\""),
    })
}

#[test]
fn concurrent_logins_lose_no_credential() {
    for flags in [&["--store", "plaintext"][..], &["--store", "file"], &["--store", "docker-config"]] {
        let home = Home::new().set(PASSPHRASE.0, PASSPHRASE.1);
        let registries: Vec<_> = (0..32).map(|_| basic_registry()).collect();
        thread::scope(|scope| {
            for registry in &registries {
                let home = &home;
                scope.spawn(move || home.login(&registry.host(), USER, PASSWORD, flags).done());
            }
        });
        assert_eq!(home.status(&[]).len(), 32);
    }
}

#[test]
fn logout_all_removes_every_credential() {
    let home = Home::new();
    let registries = [basic_registry(), basic_registry()];
    for registry in &registries {
        home.login(&registry.host(), USER, PASSWORD, &["--store", "plaintext"]).done();
    }
    home.run(["logout", "--all"], "").done().said(&registries[0].host()).said(&registries[1].host());
    assert!(home.status(&[]).is_empty());
    home.run(["logout", "--all"], "").done().said("nothing was stored");
}
