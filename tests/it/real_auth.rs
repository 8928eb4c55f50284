//! Access to images in Debian's registry, with htpasswd and with tokens.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use layerslayer::{Client, Credential, Platform};
use serde_json::{Value, json};

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Image, Layout, Tar,
        transport::{Trust, push},
    },
    program::{Program, Ran},
    recorder::Recorder,
    token_server::{Policy, TokenServer},
};

const PASSWD: &str = "root:x:0:0::/:/bin/sh\n";
const ALICE: Trust<'static> = Trust::Credentials("alice", "wonder:land");

fn push_to(registry: &DockerRegistry, name: &str, trust: Trust<'_>) -> String {
    let layout = Layout::of(&Image::of([Tar::new().file("etc/passwd", PASSWD).finish()]));
    push(&layout, "latest", &format!("{}/{name}:1", registry.host()), trust);
    format!("{}/{name}:1", registry.host())
}

fn carve(reference: &str) -> Program {
    Program::new(["carve", reference, "/etc/passwd"])
}

fn login(host: &str, user: &str, password: &str) -> Value {
    json!({ "auths": { host: { "auth": STANDARD.encode(format!("{user}:{password}")) } } })
}

#[track_caller]
fn printed_passwd(ran: Ran) -> Ran {
    let ran = ran.done();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), PASSWD);
    ran
}

/// Registry, token server with alice, and the repositories `open/one` and `closed/one`.
fn with_tokens(policy: Policy) -> (TokenServer, DockerRegistry, [String; 2]) {
    let server = TokenServer::start(policy.user("alice", "wonder:land"));
    let registry = DockerRegistry::token(&server);
    let references = ["open/one", "closed/one"].map(|name| push_to(&registry, name, ALICE));
    (server, registry, references)
}

#[test]
fn an_open_registry_receives_no_credential() {
    let registry = DockerRegistry::open();
    let reference = push_to(&registry, "library/one", Trust::Plain);
    let recorder = Recorder::before(&registry.host());
    let recorded = reference.replace(&registry.host(), &recorder.host());
    let ran =
        printed_passwd(carve(&recorded).docker_config(login("elsewhere:5000", "alice", "secret")).run());
    assert_eq!(ran.stderr, "");
    assert!(recorder.settled().iter().all(|exchange| exchange.field("authorization").is_none()));
}

#[test]
fn a_password_from_stdin_or_dockers_configuration_opens_a_registry_with_htpasswd() {
    let registry = DockerRegistry::htpasswd("alice", "wonder:land");
    let reference = push_to(&registry, "private", ALICE);
    printed_passwd(carve(&reference).login("alice", "wonder:land").run());
    printed_passwd(carve(&reference).docker_config(login(&registry.host(), "alice", "wonder:land")).run());
    // The command line takes precedence over stored credentials.
    let stored = login(&registry.host(), "alice", "stale");
    printed_passwd(carve(&reference).docker_config(&stored).login("alice", "wonder:land").run());
}

#[test]
fn a_refused_password_is_reported_with_its_source_and_not_retried() {
    let registry = DockerRegistry::htpasswd("alice", "wonder:land");
    let reference = push_to(&registry, "private", ALICE);
    let recorder = Recorder::before(&registry.host());
    let recorded = reference.replace(&registry.host(), &recorder.host());
    carve(&recorded).login("alice", "wrong").run().failed(6).said("--username").said("401").said("private");
    let sent = recorder.settled().iter().filter(|exchange| exchange.field("authorization").is_some()).count();
    assert_eq!(sent, 1);
    let stored = login(&recorder.host(), "alice", "wrong");
    let ran = carve(&recorded).docker_config(&stored).run().failed(6).said("config.json at /");
    assert!(ran.stdout.is_empty());
}

#[test]
fn without_a_credential_htpasswd_refuses_at_once_and_the_message_names_the_remedy() {
    let registry = DockerRegistry::htpasswd("alice", "wonder:land");
    let reference = push_to(&registry, "private", ALICE);
    let ran = carve(&reference).run().failed(6).said("layerslayer login").said(&registry.host());
    assert_eq!(ran.report["requests"], 1, "{}", ran.stderr);
    assert!(ran.report["error"].as_str().unwrap().contains("layerslayer login"));
    assert!(ran.stdout.is_empty());
}

#[test]
fn a_malformed_configuration_does_not_prevent_reading_a_public_image() {
    let registry = DockerRegistry::open();
    let reference = push_to(&registry, "public", ALICE);
    let ran = carve(&reference).docker_config("{ \"auths\": {").run();
    let ran = ran.said("warning").said("config.json").said("continuing without it");
    printed_passwd(ran);
}

#[test]
fn a_public_repository_is_read_with_an_anonymous_token() {
    let (server, _registry, [open, _]) = with_tokens(Policy::closed().public_under("open/"));
    let before = server.requests().len();
    printed_passwd(carve(&open).run());
    let requests = server.requests().split_off(before);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].scopes, ["repository:open/one:pull"]);
    assert_eq!((&requests[0].user, requests[0].status), (&None, 200));
}

#[test]
fn a_user_gets_a_token_for_a_private_repository() {
    let (server, registry, [_, closed]) = with_tokens(Policy::closed());
    printed_passwd(carve(&closed).login("alice", "wonder:land").run());
    printed_passwd(carve(&closed).docker_config(login(&registry.host(), "alice", "wonder:land")).run());
    let last = server.requests().pop().unwrap();
    assert_eq!(
        (last.user.as_deref(), last.scopes),
        (Some("alice"), vec!["repository:closed/one:pull".into()])
    );
}

#[test]
fn dockers_identity_token_is_exchanged_by_post() {
    let (server, registry, [_, closed]) = with_tokens(Policy::closed().identity_token("identity", "alice"));
    let auth = STANDARD.encode("<token>:");
    let config = json!({ "auths": { registry.host(): { "auth": auth, "identitytoken": "identity" } } });
    printed_passwd(carve(&closed).docker_config(&config).run());
    let last = server.requests().pop().unwrap();
    assert_eq!((last.method.as_str(), last.user.as_deref()), ("POST", Some("alice")));
    assert_eq!(last.parameters["grant_type"], "refresh_token");
    assert_eq!(last.parameters["service"], server.service());
}

#[test]
fn the_error_for_a_private_repository_names_the_remedy() {
    // Some token servers refuse, others issue a token without access.
    for policy in [Policy::closed(), Policy::closed().public_under("open/")] {
        let (_server, registry, [_, closed]) = with_tokens(policy);
        let ran = carve(&closed).run().failed(6);
        let ran = ran.said("closed/one").said("private or does not exist").said(&registry.host());
        assert!(ran.stdout.is_empty());
    }
}

#[test]
fn a_wrong_password_is_sent_to_the_token_server_once() {
    let (server, _registry, [open, closed]) = with_tokens(Policy::closed().public_under("open/"));
    for reference in [open, closed] {
        let before = server.requests().len();
        carve(&reference).login("alice", "wrong").run().failed(6).said("--username");
        assert_eq!(server.requests().len() - before, 1);
    }
}

#[test]
fn a_rejected_stored_credential_is_left_out_with_a_warning_that_names_its_file() {
    let (server, registry, [open, closed]) = with_tokens(Policy::closed().public_under("open/"));
    let before = server.requests().len();
    let stale = login(&registry.host(), "alice", "stale");
    let ran = printed_passwd(carve(&open).docker_config(&stale).run());
    let ran = ran.said("warning").said("config.json at /").said(&registry.host());
    assert_eq!(ran.stderr.matches("warning").count(), 1, "{}", ran.stderr);
    let users: Vec<_> = server
        .requests()
        .split_off(before)
        .into_iter()
        .map(|request| (request.user, request.status))
        .collect();
    assert_eq!(users, [(Some("alice".to_owned()), 401), (None, 200)]);
    // If the anonymous request fails as well, the message is about the credential.
    carve(&closed).docker_config(&stale).run().failed(6).said("config.json at /");
    // Quiet means no warnings.
    let ran = printed_passwd(carve(&open).docker_config(&stale).arg("-q").run());
    assert_eq!(ran.stderr, "");
}

/// One client and two registries with different passwords: each receives its own.
#[tokio::test]
async fn a_credential_is_sent_to_its_registry_only() {
    let registries = ["of the first", "of the second"].map(|password| {
        let registry = DockerRegistry::htpasswd("alice", password);
        let reference = push_to(&registry, "one", Trust::Credentials("alice", password));
        let recorder = Recorder::before(&registry.host());
        let reference = reference.replace(&registry.host(), &recorder.host());
        (registry, recorder, reference, password)
    });
    let mut builder = Client::builder();
    for (_, recorder, _, password) in &registries {
        builder = builder.credential(recorder.host(), Credential::basic("alice", *password));
    }
    let client = builder.build().unwrap();
    for (_, recorder, reference, password) in &registries {
        client.image(&reference.parse().unwrap(), &Platform::default()).await.unwrap();
        let basic = format!("Basic {}", STANDARD.encode(format!("alice:{password}")));
        let exchanges = recorder.exchanges();
        let sent: Vec<&str> =
            exchanges.iter().filter_map(|exchange| exchange.field("authorization")).collect();
        assert!(!sent.is_empty() && sent.iter().all(|value| *value == basic), "{sent:?}");
    }
}

#[test]
fn a_user_name_for_an_image_on_disk_is_refused() {
    let demo = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
    carve(demo).login("alice", "secret").run().failed(2).said("--username requires a registry image");
}
