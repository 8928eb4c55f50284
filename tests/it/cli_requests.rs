//! `--explain` compared with what the servers recorded.

use std::fs;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Image, Layout, Tar, layout,
        transport::{Trust, push},
    },
    program::{Program, Ran},
    recorder::Recorder,
    registry::{Reply, ScriptedRegistry},
    token_server::{Policy, TokenServer},
};

fn layout() -> Layout {
    Layout::of(&Image::of([Tar::new().file("a", "base").finish(), Tar::new().file("b", "newer").finish()]))
}

/// The lines about requests.
fn requests(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter(|line| line.contains("GET ") || line.contains("read blob ")).collect()
}

#[test]
fn explain_prints_target_status_and_bytes_of_every_request() {
    let server = TokenServer::start(Policy::public().user("alice", "secret"));
    let registry = DockerRegistry::token(&server);
    let reference = format!("{}/one:1", registry.host());
    push(&layout(), "latest", &reference, Trust::Credentials("alice", "secret"));
    let recorder = Recorder::before(&registry.host());
    let image = format!("{}/one:1", recorder.host());
    let ran = Program::new(["carve", &image, "/a", "--explain", "--no-cache"]).run().done();
    assert_eq!(ran.stdout, b"base");
    let (lines, exchanges) = (requests(&ran), recorder.settled());
    // Manifest (401), token, manifest, configuration, two layers.
    assert_eq!(lines.len() as u64, ran.report["requests"].as_u64().unwrap(), "{}", ran.stderr);
    assert_eq!(lines.len(), exchanges.len() + 1);
    let from = format!(" from http://{}: ", recorder.host());
    assert!(lines[0].starts_with(&format!("GET manifest 1{from}401, ")), "{}", lines[0]);
    assert!(lines[1].starts_with("GET token from http://") && lines[1].contains(": 200, "), "{}", lines[1]);
    let bytes = exchanges[1].body_bytes;
    assert_eq!(lines[2], format!("GET manifest 1{from}200, {bytes} bytes came"));
    // The configuration and the layers are fetched in parallel.
    for start in ["GET blob sha256:", "layer 1: GET blob sha256:", "layer 0: GET blob sha256:"] {
        let line = lines[3..].iter().find(|line| line.starts_with(start)).unwrap();
        let digest = line.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
        let exchange = exchanges.iter().find(|exchange| exchange.target.ends_with(digest)).unwrap();
        assert!(line.ends_with(&format!("{from}200, {} bytes came", exchange.body_bytes)), "{line}");
    }
}

#[test]
fn explain_prints_only_the_host_of_a_presigned_url() {
    let layout = layout();
    let index = fs::read(layout.path().join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let blobs = layout.path().join("blobs/sha256");
    let folder = blobs.clone();
    let storage = ScriptedRegistry::start(move |request| {
        let hex = request.path().rsplit_once('/').unwrap().1;
        Reply::blob(request, &fs::read(folder.join(hex)).unwrap())
    });
    let (links, host) = (storage.url(), storage.host());
    let registry = ScriptedRegistry::start(move |request| {
        let name = request.path().rsplit_once('/').unwrap().1;
        if request.path().contains("/manifests/") {
            let bytes = fs::read(blobs.join(manifest.strip_prefix("sha256:").unwrap())).unwrap();
            return Reply::ok(bytes).header("content-type", layout::MANIFEST);
        }
        let hex = name.strip_prefix("sha256:").unwrap();
        Reply::redirect(307, &format!("{links}/hush-path/{hex}?X-Amz-Signature=hush"))
    });
    let image = format!("{}/one", registry.host());
    let ran = Program::new(["carve", &image, "/b", "--explain", "--no-cache"]).run().done();
    let lines = requests(&ran);
    let told = |line: &str, end: &str| assert!(line.contains(end), "{line}");
    let layer: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("layer 1: ")).collect();
    assert_eq!(layer.len(), 2, "{lines:?}");
    told(layer[0], &format!(" from http://{}: 307, ", registry.host()));
    told(layer[1], &format!(" from http://{host}: 200, "));
    assert!(!ran.everything().contains("hush"), "{}", ran.stderr);
}

#[test]
fn explain_prints_requests_after_a_failure() {
    let registry = ScriptedRegistry::start(|_| Reply::status(404));
    let image = format!("{}/one:gone", registry.host());
    let ran = Program::new(["carve", &image, "/b", "--explain", "--no-cache"]).run().failed(9);
    let expected = format!("GET manifest gone from http://{}: 404, 0 bytes came", registry.host());
    assert_eq!(requests(&ran), [expected]);
    let silent = ScriptedRegistry::start(|_| Reply::close());
    let image = format!("{}/one:gone", silent.host());
    let ran = Program::new(["carve", &image, "/b", "--explain", "--no-cache"]).run().failed(7);
    let expected = format!("GET manifest gone from http://{}: no answer", silent.host());
    assert_eq!(requests(&ran)[0], expected);
}

#[test]
fn explain_prints_the_ranges_read_from_a_local_image() {
    let ran = Program::new(["carve", "oci:fixtures/demo", "/etc/passwd", "--explain"]).run().done();
    let read = |layer: u32, digits: &str, size: u32| {
        let lines = requests(&ran);
        let found = lines.iter().filter(|line| {
            line.starts_with(&format!("layer {layer}: read blob sha256:{digits}"))
                && line.ends_with(&format!(" bytes 0..{size}: {size} bytes read"))
        });
        assert_eq!(found.count(), 1, "{}", ran.stderr);
    };
    read(2, "6d4a3c7003e1", 154);
    read(1, "0da8f8f8a036", 315);
    let without = Program::new(["carve", "oci:fixtures/demo", "/etc/passwd"]).run().done();
    assert_eq!(requests(&without), [""; 0]);
}
