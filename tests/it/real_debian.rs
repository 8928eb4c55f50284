//! A real Debian root file system, read from a real registry.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use layerslayer::Digest;
use serde_json::Value;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{debian, oracle::Kind},
    program::Program,
    tools,
};

fn path(line: &Value) -> Vec<u8> {
    match line["path_bytes"].as_str() {
        Some(exact) => STANDARD.decode(exact).unwrap(),
        None => line["path"].as_str().unwrap().as_bytes().to_vec(),
    }
}

#[test]
fn debian_from_a_registry_is_what_umoci_unpacks() {
    let registry = DockerRegistry::open();
    let reference = format!("{}/debian:zstd", registry.host());
    let destination = format!("docker://{reference}");
    let copy = ["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"];
    tools::run(tools::command("skopeo").args(copy).args([&debian::reference("zstd"), &destination]));

    let ran = Program::new(["peek", &reference, "--rootfs", "--json"]).run().done();
    assert_eq!(ran.report["verified"], "blob");
    let lines = ran.lines();
    let entries = lines.iter().filter(|line| line["type"] == "entry");
    let mut found: BTreeMap<Vec<u8>, &Value> = entries.map(|line| (path(line), line)).collect();
    found.remove(&b""[..]);
    let unpacked = debian::unpacked();
    assert!(found.keys().eq(unpacked.keys()), "other paths");
    for (path, line) in found {
        let expected = &unpacked[&path];
        let kind = match expected.kind {
            Kind::Block => "block",
            Kind::Char => "char",
            Kind::Directory => "dir",
            Kind::Fifo => "fifo",
            Kind::File => "file",
            Kind::Symlink => "symlink",
        };
        match line["kind"].as_str().unwrap() {
            "hardlink" => assert!(expected.links > 1, "{line}"),
            // Without root, umoci creates a plain file in place of a device.
            "char" | "block" => {}
            found => assert_eq!(found, kind, "{line}"),
        }
        if line["kind"] == "file" {
            assert_eq!(line["size"], expected.size, "{line}");
        }
    }

    // Through a link in a parent directory, and possibly a hard link.
    let shell = Program::new(["carve", &reference, "/bin/bash", "--verify"]).run().done();
    assert_eq!(Some(Digest::sha256(&shell.stdout)), unpacked[&b"usr/bin/bash"[..]].digest);
    assert_eq!(shell.report["resolved_path"], "usr/bin/bash");
}
