//! No secret appears in any output, whatever the outcome.

use std::collections::BTreeSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Image, Layout, Tar,
        transport::{Trust, inspect, push},
    },
    program::{Program, Ran},
    recorder::Recorder,
    token_server::{Policy, TokenServer},
};

const PASSWORD: &str = "canary-yellow-feather";
const WRONG: &str = "canary-wrong-feather";
const IDENTITY: &str = "canary-identity-feather";

/// Texts that no output may contain, in addition to the tokens that were sent.
fn secrets() -> Vec<String> {
    let encoded = [PASSWORD, WRONG].map(|password| STANDARD.encode(format!("alice:{password}")));
    [PASSWORD, WRONG, IDENTITY, "canary"].map(str::to_owned).into_iter().chain(encoded).collect()
}

#[track_caller]
fn silent(ran: &Ran, secrets: &[String]) {
    let everything = ran.everything();
    for secret in secrets {
        assert!(!everything.contains(secret), "{secret}: {everything}");
    }
}

/// Runs with every outcome against `host`, which has only the image `HOST/closed:1`.
fn outcomes(host: &str) -> Vec<Program> {
    let image = format!("{host}/closed:1");
    let runs: [&[&str]; 10] = [
        &["peek", "IMAGE"],
        &["peek", "IMAGE", "--all", "--json"],
        &["peek", "IMAGE", "--rootfs", "--verify"],
        &["carve", "IMAGE", "/file", "--explain"],
        &["carve", "IMAGE", "/file", "--json", "-o", "/dev/null"],
        &["carve", "IMAGE", "/missing"],
        &["carve", "IMAGE", "/file", "--platform", "windows/amd64"],
        &["carve", "IMAGE-missing", "/file"],
        &["peek", "IMAGE", "--layer", "7"],
        &["carve", "IMAGE", "/file", "/missing", "--tar"],
    ];
    let runs = runs.map(|run| Program::new(run.iter().map(|text| text.replace("IMAGE", &image))).arg("-v"));
    runs.into()
}

fn stored(host: &str, password: &str) -> String {
    json!({ "auths": { host: { "auth": STANDARD.encode(format!("alice:{password}")) } } }).to_string()
}

#[test]
fn passwords_and_tokens_appear_nowhere() {
    let policy = Policy::closed().user("alice", PASSWORD).identity_token(IDENTITY, "alice");
    let server = TokenServer::start(policy.public_under("open/"));
    let registries = [DockerRegistry::htpasswd("alice", PASSWORD), DockerRegistry::token(&server)];
    let alice = Trust::Credentials("alice", PASSWORD);
    for mut registry in registries {
        let layout = Layout::of(&Image::of([Tar::new().file("file", "content").finish()]));
        let reference = format!("{}/closed:1", registry.host());
        push(&layout, "latest", &reference, alice);
        let layer = inspect(&reference, alice).unwrap()["Layers"][0].as_str().unwrap().to_owned();
        let recorder = Recorder::before(&registry.host());
        let host = recorder.host();
        let identity = json!({ "auths": { &host: { "identitytoken": IDENTITY } } }).to_string();
        let broken =
            format!("{{\"auths\": {{\"{host}\": {{\"password\": \"{PASSWORD}\", \"auth\": \"{WRONG}\"");
        let odd = json!({ "auths": { &host: { "auth": format!("%{WRONG}%") } } }).to_string();
        let mut codes = BTreeSet::new();
        let mut all = Vec::new();
        let mut keep = |program: Program| {
            let ran = program.run();
            codes.insert(ran.code);
            all.push(ran);
        };
        for password in [PASSWORD, WRONG] {
            outcomes(&host).into_iter().for_each(|program| keep(program.login("alice", password)));
            outcomes(&host)
                .into_iter()
                .for_each(|program| keep(program.docker_config(stored(&host, password))));
        }
        for config in [&identity, &broken, &odd] {
            outcomes(&host).into_iter().for_each(|program| keep(program.docker_config(config)));
        }
        std::fs::write(registry.blob_file(&layer), "no longer a layer").unwrap();
        outcomes(&host).into_iter().for_each(|program| keep(program.login("alice", PASSWORD)));
        registry.stop();
        keep(outcomes(&host).swap_remove(0).login("alice", PASSWORD));
        assert_eq!(codes, BTreeSet::from([0, 2, 3, 6, 7, 8, 9]));
        let mut secrets = secrets();
        for exchange in recorder.settled() {
            let Some(authorization) = exchange.field("authorization") else { continue };
            secrets.extend(authorization.split(['.', ' ']).filter(|part| part.len() > 10).map(str::to_owned));
        }
        assert!(secrets.len() > 10);
        for ran in &all {
            silent(ran, &secrets);
        }
    }
}
