//! Error messages and what remains stored after an error.

use super::{PASSWORD, USER, private_image, stores::basic_registry};
use crate::support::{
    docker_registry::DockerRegistry,
    home::{Done, Home},
    registry::{Reply, ScriptedRegistry},
    token_server::{Policy, TokenServer},
};

const PLAIN: [&str; 2] = ["--store", "plaintext"];

fn nothing_is_stored(home: &Home) {
    assert!(!home.path(".config/layerslayer/credentials.toml").exists());
    assert!(home.status(&[]).is_empty());
}

#[test]
fn a_wrong_password_is_reported_and_nothing_is_stored() {
    let server = TokenServer::start(Policy::closed().user(USER, PASSWORD));
    for registry in [DockerRegistry::htpasswd(USER, PASSWORD), DockerRegistry::token(&server)] {
        let home = Home::new();
        let ran = home.login(&registry.host(), USER, "wrong", &PLAIN).failed(6);
        ran.said("invalid username or password").said("nothing was stored");
        nothing_is_stored(&home);
        home.login(&registry.host(), "bob", PASSWORD, &PLAIN).failed(6).said("invalid username or password");
        nothing_is_stored(&home);
    }
}

#[test]
fn a_refused_login_leaves_every_store_unchanged() {
    let registry = DockerRegistry::htpasswd(USER, PASSWORD);
    let (host, image) = (registry.host(), private_image(&registry));
    let with_passphrase = || Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame");
    for (store, home) in [
        ("docker-config", Home::new()),
        ("file", with_passphrase()),
        ("file", Home::with_keyring()),
        ("keyring", Home::with_keyring()),
        ("plaintext", Home::new()),
    ] {
        let flags = ["--store", store];
        home.login(&host, USER, "wrong", &flags).failed(6).said("nothing was stored");
        assert!(home.status(&[]).is_empty(), "{store}");
        home.login(&host, USER, PASSWORD, &flags).done();
        home.login(&host, "bob", "wrong", &flags).failed(6);
        let status = home.status(&["--check"]);
        let shown = status.iter().map(|line| (line["username"].as_str(), line["check"].as_str()));
        assert_eq!(shown.collect::<Vec<_>>(), [(Some(USER), Some("accepted"))], "{store}");
        home.run(["peek", &image], "").done();
    }
}

#[test]
fn an_unreachable_registry_is_reported() {
    let home = Home::new();
    // A port that was free a moment ago.
    let host = {
        let registry = basic_registry();
        registry.host()
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_ne!(host, port.to_string());
    let ran = home.login(&port.to_string(), USER, PASSWORD, &PLAIN).failed(7);
    ran.said(&format!("cannot reach {port}")).said("check the name");
    nothing_is_stored(&home);
}

#[test]
fn a_failing_registry_or_token_server_is_temporarily_unavailable() {
    let home = Home::new();
    let registry = ScriptedRegistry::start(|_| Reply::status(503));
    home.login(&registry.host(), USER, PASSWORD, &PLAIN)
        .failed(7)
        .said("temporarily unavailable")
        .said("503");
    let registry = ScriptedRegistry::start(|request| match request.path() {
        "/token" => Reply::status(500),
        _ => Reply::challenge(&format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap())),
    });
    let ran = home.login(&registry.host(), USER, PASSWORD, &PLAIN);
    assert!(ran.code == 7 && ran.stderr.contains("temporarily unavailable"), "{}", ran.stderr);
    nothing_is_stored(&home);
}

#[test]
fn a_server_that_is_not_a_registry_is_reported() {
    let home = Home::new();
    let server = ScriptedRegistry::start(|_| Reply::status(404));
    home.login(&server.host(), USER, PASSWORD, &PLAIN).failed(1).said("is not a registry");
    home.login("not a host", USER, PASSWORD, &PLAIN).failed(2);
    nothing_is_stored(&home);
}

#[test]
fn an_expired_session_is_reported_and_its_token_removed() {
    let policy = Policy::closed().user(USER, PASSWORD);
    let server = TokenServer::start(policy.clone().issuing_identity_tokens());
    let registry = DockerRegistry::token(&server);
    let image = private_image(&registry);
    let home = Home::new();
    home.login(&registry.host(), USER, PASSWORD, &PLAIN).done().said("the password is not stored");
    assert!(!home.text(".config/layerslayer/credentials.toml").contains(PASSWORD));
    home.run(["peek", &image], "").done();
    // The server no longer knows any of its tokens.
    server.set_policy(policy);
    home.run(["peek", &image], "").failed(6).said("session expired").said("log in again");
    assert!(home.status(&[]).is_empty());
}

#[test]
fn without_a_terminal_the_error_names_the_options_to_use() {
    let home = Home::new();
    // A session of its own has no terminal.
    let mut command = home.other("setsid");
    command.args(["--wait", env!("CARGO_BIN_EXE_layerslayer"), "login", "127.0.0.1:1"]);
    Done::of(&mut command, "").failed(2).said("--username and --password-stdin");
    nothing_is_stored(&home);
}

#[test]
fn invalid_combinations_of_options_are_refused() {
    let home = Home::new();
    home.login("127.0.0.1:1", USER, PASSWORD, &["--store", "vault"]).failed(2).said("docker-config, file");
    home.login("127.0.0.1:1", USER, PASSWORD, &["--store", "docker-config", "--pin-realm"]).failed(2);
    home.run(["login", "a.b", "--device", "--client-id", "x"], "").failed(2).said("--device-server");
    home.run(["login", "ghcr.io", "--device"], "").failed(2);
    home.run(["login", "a.b", "--password", "x"], "").failed(2);
    home.run(["logout", "a.b", "--all"], "").failed(2);
    home.run(["auth", "migrate", "--store", "plaintext"], "").failed(2);
}

#[test]
fn an_invalid_user_name_is_refused_before_anything_is_sent() {
    let home = Home::new();
    for user in ["al:ice", "al\nice", "al\rice", "al\u{1b}ice"] {
        // Nothing listens on port 1: a request would fail with 7.
        let ran = home.login("127.0.0.1:1", user, PASSWORD, &PLAIN).failed(2);
        ran.said("a user name cannot contain");
        let carve = ["carve", "127.0.0.1:1/x", "f", "--username", user, "--password-stdin"];
        home.run(carve, PASSWORD).failed(2).said("a user name cannot contain");
    }
    nothing_is_stored(&home);
}

#[test]
fn a_password_in_place_of_a_registry_is_not_repeated() {
    let home = Home::new();
    for arguments in [
        &["login", "https://alice:canary@a.b"][..],
        &["logout", "alice:canary@a.b/x"],
        &["auth", "status", "https://alice:canary@a.b"],
        &["peek", "https://alice:canary@a.b/x:1"],
        &["peek", "alice:canary@a.b/x:1"],
        &["carve", "docker://alice:canary@a.b/x:1", "f"],
    ] {
        let ran = home.run(arguments, "").failed(2);
        assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
    }
}

#[test]
fn an_invalid_variable_is_an_error_that_names_it() {
    let registry = basic_registry();
    let home = Home::new().set("LAYERSLAYER_AUTH", "{\"a.b\": \"canary\"}");
    let ran = home.run(["peek", &format!("{}/x", registry.host())], "").failed(1).said("LAYERSLAYER_AUTH");
    assert!(!ran.stderr.contains("canary"), "{}", ran.stderr);
}
