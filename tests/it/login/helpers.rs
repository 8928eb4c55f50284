//! Credential helpers: real ones that we use, and ourselves as one that skopeo uses.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
};

use serde_json::{Value, json};

use super::{PASSWORD, USER, private_image};
use crate::support::{
    docker_registry::DockerRegistry,
    home::{Done, Home},
    images::{
        Image, Layout, Tar,
        transport::{Trust, push},
    },
    tools,
};

fn helper(home: &Home, verb: &str, input: &str) -> Done {
    let mut command = std::process::Command::new(home.path("bin/docker-credential-layerslayer"));
    let own = home.command([verb]);
    command.env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?)))).arg(verb);
    Done::of(&mut command, input)
}

#[test]
fn a_real_helper_named_in_dockers_configuration_is_used() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let image = private_image(&registry);
    let home = Home::with_keyring().file(".docker/config.json", r#"{"credsStore":"secretservice"}"#);
    let record = json!({ "ServerURL": registry.host(), "Username": USER, "Secret": PASSWORD });
    let mut store = home.other("docker-credential-secretservice");
    Done::of(store.arg("store"), &record.to_string()).done();
    home.run(["peek", &image], "").done();
    let status = home.status(&[]);
    assert!(status[0]["place"].as_str().unwrap().contains("docker-credential-secretservice"), "{status:?}");
    // It is also written to, as docker does.
    let ran = home.login(&registry.host(), USER, PASSWORD, &["--store", "docker-config"]).done();
    let ran = ran.said("the password itself is in docker-credential-secretservice");
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    assert!(!home.text(".docker/config.json").contains("auth\":"));
    home.run(["logout", &registry.host(), "--store", "docker-config"], "").done();
    home.run(["peek", &image], "").failed(6);
}

/// `pass` in a home directory with its own key. Its agent ends when this is dropped.
struct PasswordStore<'a>(&'a Home);

impl<'a> PasswordStore<'a> {
    fn of(home: &'a Home) -> Self {
        let folder = home.path(".gnupg");
        fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
        let key =
            ["--batch", "--quiet", "--passphrase", "", "--quick-generate-key", USER, "default", "default"];
        tools::run(home.other("gpg").args(key).arg("never"));
        let store = Self(home);
        tools::run(home.other("pass").args(["init", USER]));
        store
    }
}

impl Drop for PasswordStore<'_> {
    fn drop(&mut self) {
        let _ = tools::try_run(self.0.other("gpgconf").args(["--kill", "gpg-agent"]));
    }
}

#[test]
fn credentials_in_pass_are_read_written_and_erased_through_its_helper() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let image = private_image(&registry);
    let config = json!({ "credHelpers": { registry.host(): "pass" } }).to_string();
    let home = Home::new().file(".docker/config.json", config);
    let _store = PasswordStore::of(&home);
    home.run(["peek", &image], "").failed(6);
    let record = json!({ "ServerURL": registry.host(), "Username": USER, "Secret": PASSWORD }).to_string();
    Done::of(home.other("docker-credential-pass").arg("store"), &record).done();
    home.run(["peek", &image], "").done();
    let status = home.status(&["--check"]);
    assert!(status[0]["place"].as_str().unwrap().contains("docker-credential-pass"), "{status:?}");
    assert_eq!((&status[0]["username"], &status[0]["check"]), (&USER.into(), &"accepted".into()));
    home.run(["logout", &registry.host(), "--store", "docker-config"], "").done().said("removed from");
    assert_eq!(Done::of(home.other("docker-credential-pass").arg("list"), "").done().stdout.trim(), "{}");
    // Skopeo reads what we have written.
    home.login(&registry.host(), USER, PASSWORD, &["--store", "docker-config"]).done();
    let file = home.path(".docker/config.json");
    let image = format!("docker://{image}");
    let inspect = ["inspect", "--tls-verify=false", "--authfile", tools::text(&file), &image];
    tools::run(home.other("skopeo").args(inspect));
}

#[test]
fn a_missing_or_failing_helper_does_not_prevent_reading_a_public_image() {
    let registry = DockerRegistry::open();
    let layout = Layout::of(&Image::of([Tar::new().file("etc/passwd", "root\n").finish()]));
    let image = format!("{}/public:1", registry.host());
    push(&layout, "latest", &image, Trust::Plain);
    let home = Home::new().file(".docker/config.json", r#"{"credsStore":"no-such-helper"}"#);
    let ran = home.run(["peek", &image], "").done();
    let ran = ran.said("docker-credential-no-such-helper is not installed").said("config.json");
    assert_eq!(ran.stderr.matches("warning").count(), 1, "{}", ran.stderr);
    // The real helper without a session bus.
    let home = Home::new().file(".docker/config.json", r#"{"credsStore":"secretservice"}"#);
    home.run(["peek", &image], "").done().said("docker-credential-secretservice failed");
}

#[test]
fn skopeo_stores_gets_and_erases_through_us() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let (host, image) = (registry.host(), private_image(&registry));
    let config = json!({ "auths": {}, "credHelpers": { &host: "layerslayer" } });
    let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame").file("auth.json", config.to_string());
    let file = home.path("auth.json");
    let skopeo = |verb: &str, words: &[&str]| {
        let mut command = home.other("skopeo");
        command.args([verb, "--authfile", tools::text(&file)]).args(words);
        tools::try_run(&mut command)
    };
    let login = ["--tls-verify=false", "--username", USER, "--password", PASSWORD, &host];
    skopeo("login", &login).unwrap();
    assert!(!home.text("auth.json").contains("auth\":\""), "{}", home.text("auth.json"));
    assert!(!home.text(".config/layerslayer/credentials.sealed.toml").contains(PASSWORD));
    skopeo("inspect", &["--tls-verify=false", &format!("docker://{image}")]).unwrap();
    // We find it too.
    home.run(["peek", &image], "").done();
    let listed: Value = serde_json::from_str(&helper(&home, "list", "").done().stdout).unwrap();
    assert_eq!(listed, json!({ &host: USER }));
    skopeo("logout", &[&host]).unwrap();
    assert_eq!(helper(&home, "list", "").done().stdout, "{}");
    skopeo("inspect", &["--tls-verify=false", &format!("docker://{image}")]).unwrap_err();
}

#[test]
fn a_helper_in_the_current_directory_is_not_run() {
    let home = Home::new().file(".docker/config.json", r#"{"credsStore":"here"}"#);
    let home = home.file("here/docker-credential-here", "#!/bin/sh\ntouch ran\n");
    let here = home.path("here");
    fs::set_permissions(here.join("docker-credential-here"), fs::Permissions::from_mode(0o755)).unwrap();
    for path in [".", "", "/nowhere::", "../here"] {
        let mut command = home.command(["auth", "status", "a.b"]);
        let done = Done::of(command.current_dir(&here).env("PATH", path), "").done();
        assert!(done.stdout.contains("docker-credential-here is not installed"), "{path:?}: {}", done.stdout);
        assert!(!here.join("ran").exists(), "{path:?}");
    }
}

/// Docker with us as its helper, docker/cli `cli/config/credentials/native_store.go`: `store` with the user's name or `<token>`, and
/// an empty entry in its own file.
#[test]
fn a_credential_that_docker_stores_with_us_is_listed_once_and_read_from_our_store() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let (host, image) = (registry.host(), private_image(&registry));
    let config = json!({ "auths": { &host: {} }, "credsStore": "layerslayer" }).to_string();
    let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame").file(".docker/config.json", config);
    let token = json!({ "ServerURL": host, "Username": "<token>", "Secret": "old" }).to_string();
    helper(&home, "store", &token).done();
    // If both were stored, the token would take precedence.
    let record = json!({ "ServerURL": host, "Username": USER, "Secret": PASSWORD }).to_string();
    helper(&home, "store", &record).done();
    assert!(helper(&home, "get", &host).done().stdout.contains(USER));
    for flags in [&[][..], &[host.as_str()]] {
        let status = home.status(flags);
        assert!(status.len() == 1 && status[0]["username"] == USER, "{status:?}");
        assert!(status[0]["place"].as_str().unwrap().contains("encrypted file"), "{status:?}");
    }
    home.run(["peek", &image], "").done();
    helper(&home, "erase", &host).done();
    home.run(["peek", &image], "").failed(6);
    // Docker's configuration leads to our own store.
    let login = home.login(&host, USER, PASSWORD, &["--store", "docker-config"]).done();
    let login = login.said("the encrypted file");
    assert!(!login.stderr.contains("warning"), "{}", login.stderr);
    home.run(["peek", &image], "").done();
    home.run(["logout", &host, "--store", "docker-config"], "").done().said("removed from");
    assert!(home.status(&[]).is_empty());
}

#[test]
fn the_helper_protocol_is_followed_exactly() {
    let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame");
    let missing = helper(&home, "get", "a.b").failed(1);
    assert_eq!(missing.stdout, "credentials not found in native keychain\n");
    let record = r#"{"ServerURL":"https://index.docker.io/v1/","Username":"me","Secret":"hush"}"#;
    assert_eq!(helper(&home, "store", record).done().stdout, "");
    assert_eq!(helper(&home, "get", "https://index.docker.io/v1/").done().stdout, record);
    assert_eq!(helper(&home, "get", "docker.io\n").done().stdout, record);
    helper(&home, "erase", "https://index.docker.io/v1/").done();
    helper(&home, "get", "docker.io").failed(1);
    assert!(helper(&home, "version", "").done().stdout.contains(env!("CARGO_PKG_VERSION")));
    for (verb, input) in [("steal", ""), ("get", ""), ("store", "hush"), ("store", "{}"), ("get", "a b")] {
        let refused = helper(&home, verb, input).failed(1);
        assert!(!refused.stdout.is_empty() && !refused.stdout.contains("hush"), "{}", refused.stdout);
    }
}
