//! Quirks of real images, archives and references.

use std::{fs, os::unix::fs::symlink, path::Path};

use serde_json::{Value, json};

use crate::support::{
    images::{Compression, Image, Layer, Layout, Tar, layout::MANIFEST, transport},
    program::Program,
    tools,
};

const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const HELM_CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";

fn image(content: &str) -> Image {
    Image::of([Tar::new().file("f", content).finish()])
}

/// Stores a Helm chart and returns its manifest's descriptor.
fn chart(layout: &Layout) -> Value {
    let content = Compression::Gzip.encode(&Tar::new().file("c/Chart.yaml", "name: c\n").finish());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.blob(br#"{"name":"c"}"#, HELM_CONFIG),
        "layers": [layout.blob(&content, HELM_CHART)],
    });
    layout.blob(manifest.to_string().as_bytes(), MANIFEST)
}

fn carve(reference: &str, path: &str) -> Program {
    Program::new(["carve", reference, path, "--no-cache"])
}

#[track_caller]
fn has_content(program: Program, content: &str) {
    let ran = program.run().done();
    assert_eq!(String::from_utf8_lossy(&ran.stdout), content);
}

#[test]
fn an_artifact_without_a_platform_is_not_selected_in_place_of_an_image() {
    let mut layout = Layout::new();
    let own = layout.image(&image("own"));
    let other = layout.image(&image("other").platform("linux", "mips64le", ""));
    let chart = chart(&layout);
    let mixed = layout.index(&[own, other.clone(), chart.clone()]);
    layout.tag("mixed", mixed);
    let foreign = layout.index(&[other, chart]);
    layout.tag("foreign", foreign);
    has_content(carve(&layout.reference("mixed"), "f"), "own");
    let required = |path| carve(&layout.reference("mixed"), path).args(["--platform", "linux/s390x"]);
    for program in
        [required("f"), required("c/Chart.yaml"), carve(&layout.reference("foreign"), "c/Chart.yaml")]
    {
        program.run().failed(9).said("linux/mips64le").said("an entry without a platform");
    }
    Program::new(["peek", &layout.reference("foreign")]).run().failed(9).said("linux/mips64le");
}

#[test]
fn peek_shows_what_an_artifact_is() {
    let mut layout = Layout::new();
    let descriptor = chart(&layout);
    layout.tag("chart", descriptor);
    let reference = layout.reference("chart");
    let ran = Program::new(["peek", &reference]).run().done();
    let text = String::from_utf8(ran.stdout).unwrap();
    assert!(text.contains(&format!("artifact    {HELM_CONFIG}\n")) && text.contains(HELM_CHART), "{text}");
    assert!(!text.contains("platform") && !text.contains("linux"), "{text}");
    assert_eq!(ran.report["platform"], Value::Null);
    let lines = Program::new(["peek", &reference, "--json"]).run().done().lines();
    assert_eq!((&lines[0]["artifact_type"], &lines[0]["platform"]), (&HELM_CONFIG.into(), &Value::Null));
    // Its layer is a tar, so it can be read.
    has_content(carve(&reference, "c/Chart.yaml"), "name: c\n");
    let ran = Program::new(["peek", &reference, "--platform", "linux/amd64"]).run();
    ran.failed(9).said("states no platform, and linux/amd64 is required");
}

#[test]
fn layers_without_a_media_type_are_read() {
    let tar = Tar::new().file("f", "content").finish();
    for (compression, media_type) in [
        (Compression::Gzip, None),
        (Compression::Zstd, Some(json!(""))),
        (Compression::None, Some(Value::Null)),
    ] {
        let mut layout = Layout::new();
        let layer = Layer::new(&tar, compression);
        let mut descriptor = layout.blob(&layer.blob, "");
        match media_type {
            Some(media_type) => descriptor["mediaType"] = media_type,
            None => drop(descriptor.as_object_mut().unwrap().remove("mediaType")),
        }
        let image = Image::new().config("rootfs", json!({ "type": "layers", "diff_ids": [layer.diff_id] }));
        let descriptor = layout.image(&image.manifest("layers", json!([descriptor])));
        layout.tag("latest", descriptor);
        has_content(carve(&layout.reference("latest"), "f").arg("--verify"), "content");
    }
}

#[test]
fn archives_are_read_from_standard_input_and_pipes() {
    let folder = tools::temporary_folder();
    let layout = Layout::of(&image("content"));
    let (docker, oci) = (folder.path().join("docker.tar"), folder.path().join("oci.tar"));
    transport::save_docker_archive(&layout, "latest", &docker, "example/one:1");
    transport::save_oci_archive(&layout, "latest", &oci);
    for (transport, file) in [("docker-archive", &docker), ("oci-archive", &oci)] {
        let plain = fs::read(file).unwrap();
        for bytes in [plain.clone(), Compression::Gzip.encode(&plain), Compression::Zstd.encode(&plain)] {
            for path in ["-", "/dev/stdin"] {
                has_content(carve(&format!("{transport}:{path}"), "f").input(bytes.clone()), "content");
            }
        }
        let ran = carve(&format!("{transport}:-"), "f").input(plain[..plain.len() / 2].to_vec()).run();
        ran.failed(8).said("standard input is cut off at byte");
    }
}

#[test]
fn the_temporary_directory_and_the_limit_of_a_copy_are_named() {
    let folder = tools::temporary_folder();
    let file = folder.path().join("image.tar");
    transport::save_docker_archive(&Layout::of(&image("content")), "latest", &file, "example/one:1");
    let compressed = folder.path().join("image.tar.gz");
    fs::write(&compressed, Compression::Gzip.encode(&fs::read(&file).unwrap())).unwrap();
    let reference = format!("docker-archive:{}", tools::text(&compressed));
    let nowhere = folder.path().join("nowhere");
    let ran = carve(&reference, "f").variable("TMPDIR", tools::text(&nowhere)).run().failed(1);
    ran.said(&format!("to a temporary file in {}", tools::text(&nowhere))).said("No such file");
    carve(&reference, "f").args(["--max-unpacked", "1K"]).run().failed(1).said("more than 1024 bytes");
    has_content(carve(&reference, "f").args(["--max-unpacked", "1M"]), "content");
    // A plain archive is read in place.
    let plain = format!("docker-archive:{}", tools::text(&file));
    has_content(carve(&plain, "f").args(["--max-unpacked", "1K"]), "content");
}

#[test]
fn the_path_of_a_layout_or_archive_needs_no_transport() {
    let folder = tools::temporary_folder();
    let layout = Layout::of(&image("content"));
    let (docker, oci) = (folder.path().join("docker.tar"), folder.path().join("oci.tar"));
    transport::save_docker_archive(&layout, "latest", &docker, "example/one:1");
    transport::save_oci_archive(&layout, "latest", &oci);
    let (docker, oci, path) = (tools::text(&docker), tools::text(&oci), tools::text(layout.path()));
    for (typed, read_as) in [
        (path.to_owned(), format!("oci:{path}")),
        (format!("{path}/"), format!("oci:{path}/")),
        (format!("{path}:latest"), format!("oci:{path}:latest")),
        (docker.to_owned(), format!("docker-archive:{docker}")),
        (oci.to_owned(), format!("oci-archive:{oci}")),
    ] {
        let ran = carve(&typed, "f").run().done().said(&format!("{typed} is read as {read_as}"));
        assert_eq!(ran.stdout, b"content", "{typed}");
    }
    let missing = format!("{path}/missing");
    carve(&missing, "f").run().failed(2).said("a path needs a transport: oci:DIRECTORY");
    carve(tools::text(folder.path()), "f").run().failed(2).said("a path needs a transport");
}

#[test]
fn the_wrong_transport_is_answered_with_the_right_one() {
    let folder = tools::temporary_folder();
    let layout = Layout::of(&image("content"));
    let (docker, oci) = (folder.path().join("docker.tar"), folder.path().join("oci.tar"));
    transport::save_docker_archive(&layout, "latest", &docker, "example/one:1");
    transport::save_oci_archive(&layout, "latest", &oci);
    let path = tools::text;
    for (reference, code, words) in [
        (format!("docker-archive:{}", path(&oci)), 9, "written oci-archive:FILE"),
        (format!("oci-archive:{}", path(&docker)), 9, "written docker-archive:FILE"),
        (format!("oci:{}", path(&docker)), 9, "written oci-archive:FILE or docker-archive:FILE"),
        (format!("docker-archive:{}", path(layout.path())), 1, "is written oci:DIRECTORY"),
        ("docker-daemon:nginx:latest".to_owned(), 2, "docker save"),
        ("containers-storage:nginx".to_owned(), 2, "podman save"),
    ] {
        carve(&reference, "f").run().failed(code).said(words);
    }
}

#[test]
fn an_oci_url_is_a_reference_to_a_registry() {
    let ran = carve("oci://127.0.0.1:1/charts/podinfo", "f").run().failed(7);
    ran.said("oci://127.0.0.1:1/charts/podinfo is read as 127.0.0.1:1/charts/podinfo:latest in a registry");
}

#[test]
fn a_password_in_a_malformed_reference_is_not_shown() {
    for reference in ["https://me:canary@ghcr.io/x", "oci://me:canary@ghcr.io/x", "me:canary@ghcr.io/x"] {
        for command in ["carve", "peek"] {
            let mut program = Program::new([command, reference]);
            if command == "carve" {
                program = program.arg("f");
            }
            let ran = program.run().failed(2).said("***@ghcr.io/x");
            assert!(!ran.everything().contains("canary"), "{}", ran.everything());
        }
    }
}

#[test]
fn a_layout_with_a_device_for_a_document_is_refused_at_once() {
    let layout = Layout::of(&image("content"));
    let index = layout.path().join("index.json");
    fs::remove_file(&index).unwrap();
    symlink(Path::new("/dev/zero"), &index).unwrap();
    carve(&format!("oci:{}", tools::text(layout.path())), "f").run().failed(1).said("not a regular file");
}

/// Stores an artifact whose layers are a WebAssembly module and a tar, and returns its reference.
fn wasm(layout: &mut Layout) -> (String, Vec<u8>) {
    let module = [&b"\0asm\x01\0\0\0"[..], &[7; 2_000]].concat();
    let layer = Layer::new(&Tar::new().file("f", "content").finish(), Compression::Gzip);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.blob(b"{}", "application/vnd.wasm.config.v1+json"),
        "layers": [layout.blob(&module, "application/wasm"), layout.blob(&layer.blob, &layer.media_type)],
    });
    let descriptor = layout.blob(manifest.to_string().as_bytes(), MANIFEST);
    layout.tag("wasm", descriptor);
    (layout.reference("wasm"), module)
}

#[test]
fn the_merged_view_leaves_out_layers_of_other_formats_with_a_note() {
    let mut layout = Layout::new();
    let (reference, _) = wasm(&mut layout);
    let ran = Program::new(["peek", &reference, "--rootfs", "--json"]).run().done();
    let ran = ran.said("layer 0 of").said("is not a tar archive (application/wasm) and is left out");
    let entries: Vec<_> = ran.lines().into_iter().filter(|line| line["type"] == "entry").collect();
    assert_eq!((entries.len(), &entries[0]["path"]), (1, &"f".into()));
    // The file could be in any layer, so the one that cannot be read is an error that names its media type.
    carve(&reference, "missing").run().failed(1).said("application/wasm").said("not a tar archive");
}

#[test]
fn the_blob_of_a_layer_is_carved_as_stored_and_verified() {
    let mut layout = Layout::new();
    let (reference, module) = wasm(&mut layout);
    for verify in [None, Some("--verify"), Some("--verify=blob")] {
        let ran = Program::new(["carve", &reference, "--layer", "0"]).args(verify).run().done();
        assert_eq!((ran.stdout, &ran.report["verified"]), (module.clone(), &"blob".into()));
    }
    let folder = tools::temporary_folder();
    let output = folder.path().join("module");
    let to_file = || Program::new(["carve", &reference, "--layer", "0", "-o"]).arg(&output);
    to_file().run().done();
    assert_eq!(fs::read(&output).unwrap(), module);
    for flag in ["--tar", "--json", "--dry-run"] {
        to_file().arg(flag).run().failed(2).said(&format!("{flag} requires a PATH"));
    }
    Program::new(["carve", &reference, "--layer", "0", "-o"])
        .arg(folder.path())
        .run()
        .failed(2)
        .said("-o FILE");
    // A blob that does not match its digest leaves the old file, and with --verify prints nothing.
    let digest = layerslayer::Digest::sha256(&module).to_string();
    let mut tampered = module.clone();
    tampered[100] ^= 1;
    fs::write(layout.blob_file(&digest), tampered).unwrap();
    to_file().run().failed(8).said("the blob hashes to");
    assert_eq!(fs::read(&output).unwrap(), module);
    let ran = Program::new(["carve", &reference, "--layer", "0", "--verify"]).run().failed(8);
    assert_eq!(ran.stdout, b"");
}
