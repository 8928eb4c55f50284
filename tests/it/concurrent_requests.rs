//! Requests sent concurrently with others, at a registry that answers only once it has seen all of
//! them.

use std::{fs, sync::Arc};

use layerslayer::{Client, Platform, Progress, RequestTarget};

use crate::support::{
    gate::Gate,
    images::{Compression, Image, Layer, Layout, Tar, layout, noise},
    inspect::block_on,
    program::Program,
    registry::{Reply, Request, ScriptedRegistry},
};

/// Serves the only image of a layout. Blobs that the gate awaits pass through it.
fn serve(layout: &Layout, gate: &Arc<Gate>) -> ScriptedRegistry {
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let (blobs, gate) = (layout.path().join("blobs/sha256"), Arc::clone(gate));
    let gated = gate.awaited();
    let read = move |digest: &str| fs::read(blobs.join(digest.strip_prefix("sha256:").unwrap())).ok();
    ScriptedRegistry::start(move |request: &Request| {
        let name = request.path().rsplit_once('/').unwrap().1;
        if request.path().contains("/manifests/") {
            return Reply::ok(read(&manifest).unwrap()).header("content-type", layout::MANIFEST);
        }
        let is_passed = !gated.contains(name) || gate.pass(name);
        match read(name).filter(|_| is_passed) {
            Some(blob) => Reply::blob(request, &blob),
            None => Reply::status(404),
        }
    })
}

fn manifest(layout: &Layout) -> serde_json::Value {
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap();
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    serde_json::from_slice(&fs::read(layout.blob_file(digest)).unwrap()).unwrap()
}

fn digest(descriptor: &serde_json::Value) -> String {
    descriptor["digest"].as_str().unwrap().to_owned()
}

fn carve(server: &ScriptedRegistry, path: &str) -> Program {
    Program::new(["carve", &format!("{}/app", server.host()), path, "--no-cache"])
}

fn three_layers() -> Layout {
    Layout::of(&Image::of(["base", "middle", "newest"].map(|name| Tar::new().file(name, name).finish())))
}

#[test]
fn the_configuration_and_the_first_layer_are_requested_together() {
    let layout = Layout::of(&Image::of([Tar::new().file("f", "content").finish()]));
    let manifest = manifest(&layout);
    let gate = Gate::awaiting([digest(&manifest["config"]), digest(&manifest["layers"][0])]);
    let server = serve(&layout, &gate);
    assert_eq!(carve(&server, "/f").run().done().stdout, b"content");
}

#[test]
fn nothing_is_printed_if_the_configuration_is_wrong_or_missing() {
    // The second archive is not read to its end.
    let small = Tar::new().file("f", "content").finish();
    let large = Tar::new().file("f", "content").file("noise", noise(4 << 20)).finish();
    for archive in [small, large] {
        for damage in [Some(r#"{"os":"linux"}"#), None] {
            let layout = Layout::of(&Image::of([archive.clone()]));
            let config = layout.blob_file(&digest(&manifest(&layout)["config"]));
            match damage {
                Some(other) => fs::write(&config, other).unwrap(),
                None => fs::remove_file(&config).unwrap(),
            }
            let server = serve(&layout, &Gate::awaiting([]));
            let ran = carve(&server, "/f").run().failed(8);
            assert_eq!(ran.stdout, b"");
        }
    }
}

/// Opens a gate once a layer has been read.
struct Reading(String, Arc<Gate>);

impl Progress for Reading {
    fn event(&self, event: &layerslayer::Event) {
        if let layerslayer::Event::RequestFinished { request, .. } = event
            && matches!(&request.target, RequestTarget::Blob(digest) if digest.to_string() == self.0)
        {
            self.1.came("the layer's bytes");
        }
    }
}

#[test]
fn decoded_content_is_held_back_until_the_configuration_arrives() {
    let archive = Tar::new().file("f", "content").file("noise", noise(4 << 20)).finish();
    let layout = Layout::of(&Image::of([archive]));
    let manifest = manifest(&layout);
    let config = digest(&manifest["config"]);
    fs::write(layout.blob_file(&config), "{}").unwrap();
    let gate = Gate::awaiting([config, "the layer's bytes".to_owned()]);
    let server = serve(&layout, &gate);
    let progress = Arc::new(Reading(digest(&manifest["layers"][0]), gate));
    let client = Client::builder().progress(progress).build().unwrap();
    let reference = format!("{}/app", server.host()).parse().unwrap();
    block_on(async {
        let image = client.image(&reference, &Platform::default()).await.unwrap();
        let error = image.carve("f").await.unwrap_err();
        assert!(error.is_corrupt(), "{error}");
    });
}

#[test]
fn a_layer_whose_diff_id_arrives_late_is_still_checked_against_it() {
    let other = Layer::new(b"another", Compression::None);
    for compression in Compression::ALL {
        let mut layer = Layer::new(&Tar::new().file("f", "content").finish(), compression);
        layer.diff_id.clone_from(&other.diff_id);
        let layout = Layout::of(&Image::new().layer(layer));
        let manifest = manifest(&layout);
        let gate = Gate::awaiting([digest(&manifest["config"]), digest(&manifest["layers"][0])]);
        let ran = carve(&serve(&layout, &gate), "/nowhere").run().failed(8);
        assert!(ran.stderr.contains("DiffID"), "{}", ran.stderr);
    }
}

#[test]
fn small_layers_are_requested_together() {
    let layout = three_layers();
    let manifest = manifest(&layout);
    let layers = manifest["layers"].as_array().unwrap().iter().map(digest);
    let server = serve(&layout, &Gate::awaiting(layers));
    assert_eq!(carve(&server, "/base").run().done().stdout, b"base");
    // Manifest, configuration, layers: nothing twice.
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_partially_requested_layer_is_read_alone() {
    let large = Tar::new().file("f", "content").file("noise", noise(4 << 20)).finish();
    let layout = Layout::of(&Image::of([Tar::new().file("base", "base").finish(), large]));
    let server = serve(&layout, &Gate::awaiting([]));
    assert_eq!(carve(&server, "/f").run().done().stdout, b"content");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_failed_prefetch_counts_only_when_its_layer_is_needed() {
    let layout = three_layers();
    let base = layout.blob_file(&digest(&manifest(&layout)["layers"][0]));
    fs::write(&base, b"no layer").unwrap();
    let server = serve(&layout, &Gate::awaiting([]));
    assert_eq!(carve(&server, "/newest").run().done().stdout, b"newest");
    carve(&server, "/base").run().failed(8);
}
