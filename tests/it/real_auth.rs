//! Who may read what, at Debian's registry behind htpasswd and behind tokens.

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
fn brought_passwd(ran: Ran) -> Ran {
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
fn an_open_registry_asks_for_nothing() {
    let registry = DockerRegistry::open();
    let reference = push_to(&registry, "library/one", Trust::Plain);
    let recorder = Recorder::before(&registry.host());
    let recorded = reference.replace(&registry.host(), &recorder.host());
    let ran =
        brought_passwd(carve(&recorded).docker_config(login("elsewhere:5000", "alice", "secret")).run());
    assert_eq!(ran.stderr, "");
    assert!(recorder.settled().iter().all(|exchange| exchange.field("authorization").is_none()));
}

#[test]
fn a_registry_behind_htpasswd_takes_the_password_from_stdin_or_from_docker() {
    let registry = DockerRegistry::htpasswd("alice", "wonder:land");
    let reference = push_to(&registry, "private", ALICE);
    brought_passwd(carve(&reference).login("alice", "wonder:land").run());
    brought_passwd(carve(&reference).docker_config(login(&registry.host(), "alice", "wonder:land")).run());
    // What is given at the command line counts, not what is stored.
    let stored = login(&registry.host(), "alice", "stale");
    brought_passwd(carve(&reference).docker_config(&stored).login("alice", "wonder:land").run());
}

#[test]
fn a_wrong_password_is_refused_with_its_origin_and_not_tried_again() {
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
fn without_credentials_htpasswd_refuses_at_once_and_the_message_says_what_to_do() {
    let registry = DockerRegistry::htpasswd("alice", "wonder:land");
    let reference = push_to(&registry, "private", ALICE);
    let ran = carve(&reference).run().failed(6).said("layerslayer login").said(&registry.host());
    assert_eq!(ran.report["requests"], 1, "{}", ran.stderr);
    assert!(ran.report["error"].as_str().unwrap().contains("layerslayer login"));
    assert!(ran.stdout.is_empty());
}

#[test]
fn a_broken_config_keeps_nobody_from_a_public_image() {
    let registry = DockerRegistry::open();
    let reference = push_to(&registry, "public", ALICE);
    let ran = carve(&reference).docker_config("{ \"auths\": {").run();
    let ran = ran.said("warning").said("config.json").said("going on without it");
    brought_passwd(ran);
}

#[test]
fn a_public_repository_gives_a_token_to_anybody() {
    let (server, _registry, [open, _]) = with_tokens(Policy::closed().public_under("open/"));
    let before = server.requests().len();
    brought_passwd(carve(&open).run());
    let requests = server.requests().split_off(before);
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].scopes, ["repository:open/one:pull"]);
    assert_eq!((&requests[0].user, requests[0].status), (&None, 200));
}

#[test]
fn a_user_gets_a_token_for_a_private_repository() {
    let (server, registry, [_, closed]) = with_tokens(Policy::closed());
    brought_passwd(carve(&closed).login("alice", "wonder:land").run());
    brought_passwd(carve(&closed).docker_config(login(&registry.host(), "alice", "wonder:land")).run());
    let last = server.requests().pop().unwrap();
    assert_eq!(
        (last.user.as_deref(), last.scopes),
        (Some("alice"), vec!["repository:closed/one:pull".into()])
    );
}

#[test]
fn an_identity_token_from_docker_buys_a_token_by_post() {
    let (server, registry, [_, closed]) = with_tokens(Policy::closed().identity_token("identity", "alice"));
    let auth = STANDARD.encode("<token>:");
    let config = json!({ "auths": { registry.host(): { "auth": auth, "identitytoken": "identity" } } });
    brought_passwd(carve(&closed).docker_config(&config).run());
    let last = server.requests().pop().unwrap();
    assert_eq!((last.method.as_str(), last.user.as_deref()), ("POST", Some("alice")));
    assert_eq!(last.parameters["grant_type"], "refresh_token");
    assert_eq!(last.parameters["service"], server.service());
}

#[test]
fn a_private_repository_says_to_a_stranger_what_to_do() {
    // Some token servers refuse, some give a token that allows nothing.
    for policy in [Policy::closed(), Policy::closed().public_under("open/")] {
        let (_server, registry, [_, closed]) = with_tokens(policy);
        let ran = carve(&closed).run().failed(6);
        let ran = ran.said("closed/one").said("private or does not exist").said(&registry.host());
        assert!(ran.stdout.is_empty());
    }
}

#[test]
fn a_wrong_password_buys_no_token_and_is_tried_once() {
    let (server, _registry, [open, closed]) = with_tokens(Policy::closed().public_under("open/"));
    for reference in [open, closed] {
        let before = server.requests().len();
        carve(&reference).login("alice", "wrong").run().failed(6).said("--username");
        assert_eq!(server.requests().len() - before, 1);
    }
}

#[test]
fn a_stored_credential_that_a_public_image_refuses_is_left_out_with_a_warning_that_names_its_file() {
    let (server, registry, [open, closed]) = with_tokens(Policy::closed().public_under("open/"));
    let before = server.requests().len();
    let stale = login(&registry.host(), "alice", "stale");
    let ran = brought_passwd(carve(&open).docker_config(&stale).run());
    let ran = ran.said("warning").said("config.json at /").said(&registry.host());
    assert_eq!(ran.stderr.matches("warning").count(), 1, "{}", ran.stderr);
    let users: Vec<_> = server
        .requests()
        .split_off(before)
        .into_iter()
        .map(|request| (request.user, request.status))
        .collect();
    assert_eq!(users, [(Some("alice".to_owned()), 401), (None, 200)]);
    // Where leaving it out does not help, the credential is what the message is about.
    carve(&closed).docker_config(&stale).run().failed(6).said("config.json at /");
    // Quiet means no warnings.
    let ran = brought_passwd(carve(&open).docker_config(&stale).arg("-q").run());
    assert_eq!(ran.stderr, "");
}

/// One client, two registries that both ask for a password: each sees its own, in whatever order they are asked.
#[tokio::test]
async fn a_credential_goes_to_its_registry_alone() {
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
fn a_user_name_for_an_image_on_disk_is_a_mistake() {
    let demo = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
    carve(demo).login("alice", "secret").run().failed(2).said("--username is for registries");
}
