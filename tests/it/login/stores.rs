//! Every store, at both kinds of registry.

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

/// login → status → peek of a private image → logout.
fn goes_round(home: &Home, registry: &DockerRegistry, flags: &[&str], place: &str, kind: &str) {
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

fn at_both_kinds_of_registry(home: &Home, flags: &[&str], place: &str) {
    goes_round(home, &DockerRegistry::htpasswd(USER, PASSWORD), flags, place, "password");
    let server = TokenServer::start(Policy::closed().user(USER, PASSWORD).issuing_identity_tokens());
    goes_round(home, &DockerRegistry::token(&server), flags, place, "identity-token");
}

#[test]
fn the_keyring_is_taken_where_there_is_one() {
    let home = Home::with_keyring();
    at_both_kinds_of_registry(&home, &[], "the keyring");
    // Nothing of it lies in files.
    assert!(!home.path(".config/layerslayer/credentials.toml").exists());
    assert!(!home.path(".config/layerslayer/credentials.sealed.toml").exists());
}

#[test]
fn the_encrypted_file_is_taken_where_there_is_a_passphrase_and_no_keyring() {
    let home = Home::new().set(PASSPHRASE.0, PASSPHRASE.1);
    at_both_kinds_of_registry(&home, &[], "the encrypted file");
    let path = home.path(".config/layerslayer/credentials.sealed.toml");
    assert!(!open_to_others(&path) && !fs::read_to_string(path).unwrap().contains("wonder"));
}

#[test]
fn the_plain_file_is_taken_if_one_asks_for_it() {
    let home = Home::new();
    at_both_kinds_of_registry(&home, &["--store", "plaintext"], "the plain file");
    assert!(!open_to_others(&home.path(".config/layerslayer/credentials.toml")));
    assert!(!open_to_others(&home.path(".config/layerslayer")));
}

#[test]
fn dockers_configuration_is_taken_if_one_asks_for_it() {
    at_both_kinds_of_registry(&Home::new(), &["--store", "docker-config"], "config.json");
}

#[test]
fn the_key_of_the_encrypted_file_lies_in_the_keyring_where_nobody_gives_a_passphrase() {
    let home = Home::with_keyring();
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    goes_round(&home, &registry, &["--store", "file"], "the encrypted file", "password");
    assert!(home.text(".config/layerslayer/credentials.sealed.toml").contains("kind = \"keyring\""));
}

#[test]
fn without_any_secure_store_nothing_is_asked_and_the_advice_says_what_to_do() {
    let home = Home::new();
    let ran = home.login("127.0.0.1:1", USER, PASSWORD, &[]).failed(6);
    ran.said("LAYERSLAYER_PASSPHRASE").said("--store plaintext").said("no session bus");
    assert!(!home.path(".config/layerslayer").exists());
}

/// To readers a locked keyring looks empty.
#[test]
fn a_locked_keyring_is_found_out_before_a_password_is_shown_to_anybody() {
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
    goes_round(&home, &registry, &[], "the encrypted file", "password");
    assert!(home.text(".config/layerslayer/credentials.sealed.toml").contains("kind = \"passphrase\""));
}

/// Nothing can be listed of it, but everything be asked for.
#[test]
fn a_credential_in_a_locked_keyring_is_told_of_and_others_are_not_held_up() {
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

/// Nobody listens at port 1: whoever went there would say so.
#[test]
fn a_store_that_keeps_nothing_says_so_before_a_password_is_shown_to_anybody() {
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
    refused(&config("["), "docker-config", "not docker's configuration", 1);
    refused(&config(r#"{"auths": 1}"#), "docker-config", "not docker's configuration", 1);
    refused(&Home::new().file(".docker", "in the way"), "docker-config", ".docker", 1);
    let home = config(r#"{"credsStore": "no-such-helper"}"#);
    refused(&home, "docker-config", "docker-credential-no-such-helper is not installed", 1);
    let home = config(r#"{"credHelpers": {"127.0.0.1:1": "secretservice"}}"#);
    refused(&home, "docker-config", "see why with: docker-credential-secretservice list", 1);
    // What is not asked about this registry is in nobody's way.
    let home = config(r#"{"credHelpers": {"a.b": "no-such-helper"}}"#);
    let login = home.login("127.0.0.1:1", USER, PASSWORD, &["--store", "docker-config"]);
    login.failed(7).said("cannot reach");
    assert_eq!(fs::read_dir(home.path(".docker")).unwrap().count(), 1);
}

/// A wrong passphrase says so, at login and at peek, and changes nothing.
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
    // Nobody to ask: the entry can still be listed.
    let mut blind = home.command(["auth", "status"]);
    blind.env_remove(PASSPHRASE.0);
    let ran = Done::of(&mut blind, "").done();
    assert!(ran.stdout.contains(USER) && ran.stdout.contains("locked"), "{}", ran.stdout);
}

#[test]
fn another_store_does_not_leave_the_older_credential_behind() {
    let home = Home::new().set(PASSPHRASE.0, PASSPHRASE.1);
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let host = registry.host();
    home.login(&host, USER, PASSWORD, &[]).done();
    home.login(&host, USER, PASSWORD, &["--store", "plaintext"]).done().said("in the clear");
    let status = home.status(&[&host]);
    assert!(status.len() == 1 && status[0]["place"].as_str().unwrap().contains("plain file"), "{status:?}");
}

#[test]
fn a_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
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

/// A registry that knows one user.
pub(super) fn basic_registry() -> ScriptedRegistry {
    ScriptedRegistry::start(|request| match request.authorization() {
        // alice:wonder:land
        Some("Basic YWxpY2U6d29uZGVyOmxhbmQ=") => Reply::ok("{}"),
        _ => Reply::challenge("Basic realm=\"r\""),
    })
}

#[test]
fn parallel_logins_lose_nothing_of_each_others() {
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
fn all_are_forgotten_at_once() {
    let home = Home::new();
    let registries = [basic_registry(), basic_registry()];
    for registry in &registries {
        home.login(&registry.host(), USER, PASSWORD, &["--store", "plaintext"]).done();
    }
    home.run(["logout", "--all"], "").done().said(&registries[0].host()).said(&registries[1].host());
    assert!(home.status(&[]).is_empty());
    home.run(["logout", "--all"], "").done().said("nothing was stored");
}
