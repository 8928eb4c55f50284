//! Names, platforms and indexes, with Debian's registry and the program.

use serde_json::{Value, json};

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Compression, Image, Layer, Layout, Tar,
        layout::{INDEX, architecture},
        transport::{Trust, push, push_as_docker},
    },
    program::{Program, Ran},
    token_server::{Policy, TokenServer},
    tools,
};

/// An architecture that tests do not run on.
const FOREIGN: &str = "mips64le";

fn image(content: &str) -> Image {
    Image::of([Tar::new().file("which", content).finish()])
}

fn carve(reference: &str) -> Program {
    Program::new(["carve", reference, "/which"])
}

#[track_caller]
fn content(ran: Ran) -> String {
    String::from_utf8(ran.done().stdout).unwrap()
}

/// A registry with the index `multi:1` for this machine and two others, with BuildKit's attestations; and the index itself.
fn multi() -> (DockerRegistry, Layout, Value) {
    let mut layout = Layout::new();
    let images = [
        layout.image(&image("foreign").platform("linux", FOREIGN, "")),
        layout.image(&image("host")),
        layout.image(&image("arm").platform("linux", "arm", "v7")),
    ];
    let attestations: Vec<Value> = images.iter().map(|image| layout.attestation(image)).collect();
    let index = layout.index(&[&images[..], &attestations].concat());
    layout.tag("multi", index.clone());
    let registry = DockerRegistry::open();
    push(&layout, "multi", &format!("{}/multi:1", registry.host()), Trust::Plain);
    (registry, layout, index)
}

#[test]
fn the_image_for_this_machine_is_selected_unless_another_platform_is_requested() {
    let (registry, _layout, index) = multi();
    let reference = format!("{}/multi:1", registry.host());
    let ran = carve(&reference).run();
    assert_eq!(ran.stderr, "");
    assert_eq!(content(ran), "host");
    assert_eq!(content(carve(&reference).args(["--platform", &format!("linux/{FOREIGN}")]).run()), "foreign");
    // containerd's normalisation: arm is arm/v7.
    for platform in ["linux/arm", "linux/arm/v7", "linux/armhf"] {
        assert_eq!(content(carve(&reference).args(["--platform", platform]).run()), "arm");
    }
    let by_digest = format!("{}/multi@{}", registry.host(), index["digest"].as_str().unwrap());
    assert_eq!(content(carve(&by_digest).run()), "host");
    // The digest takes precedence over the tag.
    assert_eq!(content(carve(&by_digest.replace("/multi@", "/multi:2@")).run()), "host");
}

#[test]
fn the_error_for_a_missing_platform_lists_the_available_ones() {
    let (registry, ..) = multi();
    let reference = format!("{}/multi:1", registry.host());
    let ran = carve(&reference).args(["--platform", "windows/amd64"]).run().failed(9);
    let ran = ran.said("windows/amd64").said(&format!("linux/{FOREIGN}")).said("linux/arm");
    let ran = ran.said(&format!("linux/{}", architecture()));
    assert!(!ran.stderr.contains("unknown"), "attestations are not platforms: {}", ran.stderr);
    carve(&reference).args(["--platform", "linux/nothing/at/all"]).run().failed(2);
}

#[test]
fn nested_indexes_are_followed() {
    let (registry, _layout, inner) = multi();
    let outer =
        |index: &Value| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [index] }).to_string();
    let nested = outer(&inner);
    registry.put_manifest("multi", "nested", INDEX, nested.as_bytes());
    let reference = format!("{}/multi:nested", registry.host());
    assert_eq!(content(carve(&reference).run()), "host");
    assert_eq!(content(carve(&reference).args(["--platform", "linux/arm"]).run()), "arm");
    let mut text = nested;
    for _ in 0..4 {
        let digest = layerslayer::Digest::sha256(text.as_bytes()).to_string();
        let size = text.len();
        text = outer(&json!({ "mediaType": INDEX, "digest": digest, "size": size }));
        registry.put_manifest("multi", "deep", INDEX, text.as_bytes());
    }
    carve(&format!("{}/multi:deep", registry.host())).run().failed(1).said("nested image indexes");
}

#[test]
fn a_single_image_for_another_platform_is_a_warning_by_default_and_an_error_if_a_platform_is_required() {
    let registry = DockerRegistry::open();
    let reference = format!("{}/foreign:1", registry.host());
    let layout = Layout::of(&image("foreign").platform("linux", FOREIGN, ""));
    push(&layout, "latest", &reference, Trust::Plain);
    let ran = carve(&reference).run().said("warning").said(FOREIGN);
    assert_eq!(ran.report["platform"], format!("linux/{FOREIGN}"));
    assert_eq!(content(ran), "foreign");
    let required = carve(&reference).args(["--platform", &format!("linux/{FOREIGN}")]).run().done();
    assert_eq!(required.stderr, "");
    carve(&reference).args(["--platform", "linux/s390x"]).run().failed(9).said("linux/s390x").said(FOREIGN);
}

#[test]
fn a_missing_tag_digest_or_repository_is_no_such_image() {
    let registry = DockerRegistry::open();
    push(&Layout::of(&image("x")), "latest", &format!("{}/team/one:1", registry.host()), Trust::Plain);
    let none = format!("team/one@sha256:{}", "0".repeat(64));
    for name in ["team/one:2", "team/one", "team/two:1", &none] {
        let reference = format!("{}/{name}", registry.host());
        for program in [Program::new(["peek", &reference]), carve(&reference)] {
            let ran = program.run().failed(9).said("404").said(&registry.host());
            assert!(ran.stdout.is_empty());
            assert_eq!(ran.report["requests"], 1);
        }
    }
    let server = TokenServer::start(Policy::public());
    let registry = DockerRegistry::token(&server);
    carve(&format!("{}/team/one:1", registry.host())).run().failed(9).said("404");
}

#[test]
fn a_stopped_registry_is_unavailable_at_once() {
    let mut registry = DockerRegistry::open();
    let reference = format!("{}/one:1", registry.host());
    registry.stop();
    let ran = carve(&reference).run().failed(7).said("one at 127.0.0.1").said("refused");
    assert!(ran.report["requests"].as_u64().unwrap() <= 2, "{}", ran.report);
}

#[test]
fn images_with_docker_media_types_are_read() {
    let registry = DockerRegistry::open();
    let reference = format!("{}/docker:1", registry.host());
    push_as_docker(&Layout::of(&image("docker")), "latest", &reference, Trust::Plain);
    assert_eq!(content(carve(&reference).run()), "docker");
}

/// Two layers with entries of every kind that listings show differently.
fn varied() -> Layout {
    let base = Tar::new()
        .directory("etc")
        .file("etc/passwd", "root:x:0:0::/:/bin/sh\n")
        .file("etc/gone", "x")
        .directory("opt")
        .file("opt/old", "x")
        .symlink("etc/link", "/etc/passwd")
        .hardlink("etc/hard", "etc/passwd")
        .file(b"etc/\xff\x1b name", "odd");
    let top = Tar::new().whiteout("etc/gone").opaque("opt").file("usr/share/implied/file", "new");
    let layers = [(base, Compression::Gzip), (top, Compression::Zstd)];
    let layers = layers.map(|(tar, compression)| Layer::new(&tar.finish(), compression));
    Layout::of(&layers.into_iter().fold(Image::new(), Image::layer))
}

#[test]
fn json_output_of_a_registry_and_a_layout_differ_only_in_the_reference() {
    let layout = varied();
    let registry = DockerRegistry::open();
    let reference = format!("{}/varied:1", registry.host());
    push(&layout, "latest", &reference, Trust::Plain);
    let local = layout.reference("latest");
    for flags in [&[][..], &["--all"], &["--layer=1", "--layer=0"], &["--rootfs"], &["--rootfs", "etc/*"]] {
        let [mut remote_lines, mut local_lines] = [&reference, &local].map(|reference| {
            let ran = Program::new(["peek", reference, "--json"]).args(flags).run().done();
            assert_eq!(ran.report["reference"], *reference);
            assert_eq!(ran.lines()[0]["reference"], *reference);
            ran.lines()
        });
        for lines in [&mut remote_lines, &mut local_lines] {
            lines[0]["reference"] = Value::Null;
            assert_eq!(lines.last().unwrap(), &json!({ "type": "end", "complete": true }));
        }
        assert_eq!(remote_lines, local_lines, "{flags:?}");
    }
    let folder = tools::temporary_folder();
    let [mut remote_lines, mut local_lines] = [&reference, &local].map(|reference| {
        let output = folder.path().join("out");
        let carve = Program::new(["carve", reference, "/etc/link", "--json", "-o"]).arg(&output);
        carve.run().done().lines()
    });
    (remote_lines[0]["reference"], local_lines[0]["reference"]) = (Value::Null, Value::Null);
    assert_eq!(remote_lines, local_lines);
}

#[test]
fn images_with_no_layers_empty_layers_or_equal_layers_are_read() {
    let registry = DockerRegistry::open();
    let tar = Tar::new().file("which", "twice").finish();
    let empty = Tar::new().finish();
    let layer = |tar: &[u8], compression| Layer::new(tar, compression);
    let images = [
        ("none", Image::new(), ""),
        (
            "empty",
            Image::new().layer(layer(&empty, Compression::Gzip)).layer(layer(&empty, Compression::None)),
            "",
        ),
        (
            "twice",
            Image::new().layer(layer(&tar, Compression::Gzip)).layer(layer(&tar, Compression::Gzip)),
            "twice",
        ),
        (
            "blank",
            Image::new().layer(layer(b"", Compression::None)).layer(layer(&tar, Compression::Zstd)),
            "twice",
        ),
    ];
    for (name, image, expected) in images {
        let reference = format!("{}/{name}:1", registry.host());
        push(&Layout::of(&image), "latest", &reference, Trust::Plain);
        for verify in [None, Some("--verify")] {
            let ran = carve(&reference).args(verify).run();
            match expected {
                "" => drop(ran.failed(3).said("no /which")),
                expected => assert_eq!(content(ran), expected),
            }
            let lines =
                Program::new(["peek", &reference, "--all", "--json"]).args(verify).run().done().lines();
            let entries = lines.iter().filter(|line| line["type"] == "entry").count();
            assert_eq!(
                entries,
                match name {
                    "twice" => 2,
                    "blank" => 1,
                    _ => 0,
                }
            );
        }
    }
}
