//! Every kind of registry, as skopeo sees it.

use std::time::Duration;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Image, Layout, Tar,
        transport::{Trust, inspect, manifest, push, push_as_docker},
    },
    recorder::Recorder,
    token_server::{Policy, TokenServer},
    tools,
};

fn layout() -> Layout {
    Layout::of(&Image::of([Tar::new().file("etc/passwd", "root:x:0:0::/:/bin/sh\n").finish()]))
}

#[test]
fn an_open_registry_gives_back_what_was_pushed() {
    let registry = DockerRegistry::open();
    let reference = format!("{}/library/one:1", registry.host());
    push(&layout(), "latest", &reference, Trust::Plain);
    assert_eq!(inspect(&reference, Trust::Plain).unwrap()["Layers"].as_array().unwrap().len(), 1);
    let docker = format!("{}/library/two:1", registry.host());
    push_as_docker(&layout(), "latest", &docker, Trust::Plain);
    let manifest = manifest(&docker, Trust::Plain).unwrap();
    assert_eq!(manifest["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
}

#[test]
fn a_registry_behind_htpasswd_wants_the_right_password() {
    let registry = DockerRegistry::htpasswd("alice", "wonder:land");
    let reference = format!("{}/private:1", registry.host());
    push(&layout(), "latest", &reference, Trust::Credentials("alice", "wonder:land"));
    assert!(inspect(&reference, Trust::Credentials("alice", "wonder:land")).is_ok());
    assert!(inspect(&reference, Trust::Credentials("alice", "other")).is_err());
    assert!(inspect(&reference, Trust::Plain).is_err());
}

#[test]
fn a_registry_over_tls_is_trusted_through_its_own_authority_only() {
    let registry = DockerRegistry::tls();
    let authority = registry.certificate_folder();
    let reference = format!("{}/tls:1", registry.host());
    push(&layout(), "latest", &reference, Trust::Authority(&authority));
    assert!(inspect(&reference, Trust::Authority(&authority)).is_ok());
    let localhost = format!("localhost:{}/tls:1", registry.port());
    assert!(inspect(&localhost, Trust::Authority(&authority)).is_ok());
    let stranger = tools::temporary_folder();
    assert!(inspect(&reference, Trust::Authority(stranger.path())).unwrap_err().contains("certificate"));
}

#[test]
fn a_token_buys_what_the_policy_allows_and_no_more() {
    let server = TokenServer::start(Policy::closed().user("alice", "secret").public_under("open/"));
    let registry = DockerRegistry::token(&server);
    let [open, private] = ["open/one:1", "closed/one:1"].map(|name| format!("{}/{name}", registry.host()));
    let alice = Trust::Credentials("alice", "secret");
    push(&layout(), "latest", &open, alice);
    push(&layout(), "latest", &private, alice);
    assert!(inspect(&private, alice).is_ok());
    assert!(inspect(&open, Trust::Plain).is_ok());
    assert!(inspect(&private, Trust::Plain).is_err());
    assert!(inspect(&open, Trust::Credentials("alice", "wrong")).is_err());
    let requests = server.requests();
    assert!(requests.iter().any(|request| request.user.is_none() && request.status == 200));
    assert!(requests.iter().any(|request| request.user.as_deref() == Some("alice") && request.status == 401));
    assert!(requests.iter().any(|request| request.scopes == ["repository:closed/one:pull,push"]));
}

#[test]
fn a_token_long_expired_is_refused_by_the_registry() {
    let server = TokenServer::start(Policy::public().user("alice", "secret"));
    let registry = DockerRegistry::token(&server);
    let reference = format!("{}/one:1", registry.host());
    push(&layout(), "latest", &reference, Trust::Credentials("alice", "secret"));
    assert!(inspect(&reference, Trust::Plain).is_ok());
    server
        .set_policy(Policy::public().lifetime(Duration::from_secs(60)).back_dated(Duration::from_secs(600)));
    assert!(inspect(&reference, Trust::Plain).is_err());
}

#[test]
fn after_a_restart_with_another_certificate_only_new_tokens_are_accepted() {
    let server = TokenServer::start(Policy::public().user("alice", "secret"));
    let mut registry = DockerRegistry::token(&server);
    let reference = format!("{}/one:1", registry.host());
    push(&layout(), "latest", &reference, Trust::Credentials("alice", "secret"));
    let recorder = Recorder::before(&registry.host());
    let recorded = format!("{}/one:1", recorder.host());
    assert!(inspect(&recorded, Trust::Plain).is_ok());
    let host = registry.host();
    let first = server.certificate_path();
    server.rotate_key();
    assert!(!first.exists());
    assert!(inspect(&recorded, Trust::Plain).is_err(), "a key that the registry does not know yet");
    registry.restart_trusting(&server);
    assert_eq!(registry.host(), host);
    assert!(inspect(&recorded, Trust::Plain).is_ok(), "{}", registry.log());
}

#[test]
fn a_recorder_sees_every_request_with_its_fields_and_its_answer() {
    let server = TokenServer::start(Policy::public().user("alice", "secret"));
    let registry = DockerRegistry::token(&server);
    let recorder = Recorder::before(&registry.host());
    let reference = format!("{}/one:1", recorder.host());
    push(&layout(), "latest", &reference, Trust::Credentials("alice", "secret"));
    inspect(&reference, Trust::Plain).unwrap();
    let exchanges = recorder.exchanges();
    let manifest = exchanges
        .iter()
        .find(|exchange| exchange.method == "GET" && exchange.target.ends_with("/manifests/1"))
        .unwrap();
    assert!(manifest.field("authorization").unwrap().starts_with("Bearer "));
    assert_eq!(manifest.status, Some(200));
    assert!(manifest.body_bytes > 100);
    assert!(exchanges.iter().any(|exchange| exchange.method == "PATCH" && exchange.status == Some(202)));
}

#[test]
fn a_blob_in_the_storage_can_be_tampered_with() {
    let registry = DockerRegistry::open();
    let layout = layout();
    let reference = format!("{}/one:1", registry.host());
    push(&layout, "latest", &reference, Trust::Plain);
    let digest = inspect(&reference, Trust::Plain).unwrap()["Layers"][0].as_str().unwrap().to_owned();
    assert_eq!(
        std::fs::read(registry.blob_file(&digest)).unwrap(),
        std::fs::read(layout.blob_file(&digest)).unwrap()
    );
}
