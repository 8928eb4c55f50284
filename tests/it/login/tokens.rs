//! Rotating identity tokens and pinned token servers.

use std::thread;

use super::{ALICE, PASSWORD, USER, private_image};
use crate::support::{
    docker_registry::DockerRegistry,
    home::Home,
    images::transport::inspect,
    registry::{Reply, ScriptedRegistry},
    token_server::{Policy, TokenServer},
};

#[test]
fn concurrent_processes_share_a_rotating_identity_token() {
    let policy = Policy::closed().user(USER, PASSWORD).issuing_identity_tokens();
    let server = TokenServer::start(policy.rotating_identity_tokens());
    let registry = DockerRegistry::token(&server);
    let image = private_image(&registry);
    let (host, closed) = (registry.host(), format!("{}/closed", registry.host()));
    for (store, registry) in [("plaintext", &host), ("file", &host), ("plaintext", &closed)] {
        let home = Home::new().set("LAYERSLAYER_PASSPHRASE", "open sesame");
        home.login(registry, USER, PASSWORD, &["--store", store]).done();
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| home.run(["peek", &image, "--no-cache"], "").done());
            }
        });
        assert_eq!(home.status(&["--check"])[0]["check"], "accepted");
        home.run(["peek", &image, "--no-cache"], "").done();
    }
}

#[test]
fn a_pinned_credential_is_sent_to_no_other_token_server() {
    let policy = || Policy::closed().user(USER, PASSWORD);
    let (first, second) = (TokenServer::start(policy()), TokenServer::start(policy()));
    let mut registry = DockerRegistry::token(&first);
    let image = private_image(&registry);
    let (pinned, free) = (Home::new(), Home::new());
    pinned.login(&registry.host(), USER, PASSWORD, &["--store", "plaintext", "--pin-realm"]).done();
    free.login(&registry.host(), USER, PASSWORD, &["--store", "plaintext"]).done();
    pinned.run(["peek", &image], "").done();
    assert_eq!(pinned.status(&[])[0]["token_server"], first.realm());
    registry.restart_trusting(&second);
    inspect(&image, ALICE).unwrap();
    free.run(["peek", &image], "").done();
    let before = second.requests().len();
    let host = |server: &TokenServer| server.realm().replace("http://", "").replace("/token", "");
    pinned.run(["peek", &image], "").failed(6).said(&host(&first)).said(&host(&second)).said("pinned");
    assert_eq!(second.requests().len(), before);
    // Logging in again accepts the new token server.
    pinned.login(&registry.host(), USER, PASSWORD, &["--store", "plaintext", "--pin-realm"]).done();
    pinned.run(["peek", &image], "").done();
}

/// Signing in at a server that behaves like GitHub.
#[test]
fn signing_in_with_a_device_code_logs_in() {
    let registry = ScriptedRegistry::start(|request| match request.authorization() {
        // octocat:gho_canary
        Some("Basic b2N0b2NhdDpnaG9fY2FuYXJ5") => Reply::ok("{}"),
        _ => Reply::challenge("Basic realm=\"r\""),
    });
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let github = ScriptedRegistry::start(move |request| match request.path() {
        "/login/device/code" => Reply::ok(
            r#"{"device_code":"d","user_code":"WDJB-MJHT","verification_uri":"https://example.com/device","expires_in":900,"interval":1}"#,
        ),
        "/login/oauth/access_token" => match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::ok(r#"{"error":"authorization_pending"}"#),
            _ => Reply::ok(r#"{"access_token":"gho_canary","token_type":"bearer"}"#),
        },
        "/api/v3/user" => Reply::ok(r#"{"login":"octocat"}"#),
        _ => Reply::status(404),
    });
    let home = Home::new();
    let server = format!("http://{}", github.host());
    let arguments = ["login", &registry.host(), "--device", "--client-id", "app", "--device-server", &server];
    let ran = home.run(arguments.iter().chain(&["--store", "plaintext"]), "").done();
    let ran = ran.said("WDJB-MJHT").said("https://example.com/device").said("octocat");
    assert!(!ran.stderr.contains("gho_canary"), "{}", ran.stderr);
    assert_eq!(home.status(&["--check"])[0]["check"], "accepted");
}
