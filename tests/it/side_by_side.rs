//! What is asked for while other answers are still to come, against a registry that answers only once it has seen all of it.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use layerslayer::{Client, Platform, Progress, RequestTarget};

use crate::support::{
    gate::{Gate, PATIENCE},
    images::{Compression, Image, Layer, Layout, Tar, layout, noise},
    inspect::block_on,
    noise::Noise,
    program::Program,
    registry::{Reply, Request, ScriptedRegistry},
};

/// Serves the only image of a layout; blobs that the gate awaits pass through it.
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
fn the_configuration_and_the_first_layer_are_asked_for_together() {
    let layout = Layout::of(&Image::of([Tar::new().file("f", "content").finish()]));
    let manifest = manifest(&layout);
    let gate = Gate::awaiting([digest(&manifest["config"]), digest(&manifest["layers"][0])]);
    let server = serve(&layout, &gate);
    assert_eq!(carve(&server, "/f").run().done().stdout, b"content");
}

#[test]
fn nothing_is_answered_if_the_configuration_is_wrong_or_missing() {
    // The second does not read the layer to its end.
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

/// Opens a gate once the reading of a layer has ended.
struct Reading(String, Arc<Gate>);

impl Progress for Reading {
    fn request(&self, request: &layerslayer::Request) {
        if matches!(&request.target, RequestTarget::Blob(digest) if digest.to_string() == self.0) {
            self.1.came("the layer's bytes");
        }
    }
}

#[test]
fn what_a_layer_has_given_already_is_kept_back_until_the_configuration_is_there() {
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
fn a_layer_whose_diff_id_is_told_late_is_still_held_against_it() {
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
fn small_layers_are_asked_for_together() {
    let layout = three_layers();
    let manifest = manifest(&layout);
    let layers = manifest["layers"].as_array().unwrap().iter().map(digest);
    let server = serve(&layout, &Gate::awaiting(layers));
    assert_eq!(carve(&server, "/base").run().done().stdout, b"base");
    // Manifest, configuration, layers: nothing twice.
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_layer_of_which_not_all_was_asked_for_is_read_alone() {
    let large = Tar::new().file("f", "content").file("noise", noise(4 << 20)).finish();
    let layout = Layout::of(&Image::of([Tar::new().file("base", "base").finish(), large]));
    let server = serve(&layout, &Gate::awaiting([]));
    assert_eq!(carve(&server, "/f").run().done().stdout, b"content");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn what_was_asked_for_ahead_and_cannot_be_had_counts_only_when_its_turn_comes() {
    let layout = three_layers();
    let base = layout.blob_file(&digest(&manifest(&layout)["layers"][0]));
    fs::write(&base, b"no layer").unwrap();
    let server = serve(&layout, &Gate::awaiting([]));
    assert_eq!(carve(&server, "/newest").run().done().stdout, b"newest");
    carve(&server, "/base").run().failed(8);
}

/// Two layers of which not all is asked for at once, above a small one.
fn large_layers() -> Layout {
    let large = |name: &str, seed: u64| {
        let noise = Noise::new(seed).bytes(6 << 20);
        Tar::new().file(format!("{name}-first"), name).file(format!("{name}-noise"), noise)
    };
    Layout::of(&Image::of([
        Tar::new()
            .directory("d")
            .file("d/target", "target")
            .file("gone", "gone")
            .file("base", "base")
            .finish(),
        large("middle", 1).symlink("link", "d/target").file("big", Noise::new(3).bytes(3 << 20)).finish(),
        large("newest", 2).whiteout("gone").symlink("away", "big").file("base", "newer").finish(),
    ]))
}

#[test]
fn lower_layers_are_read_before_they_are_known_to_be_needed_where_that_is_asked_for() {
    let layout = large_layers();
    let manifest = manifest(&layout);
    for count in [2, 3] {
        // Nothing of these is answered before all of them have been asked for.
        let layers = manifest["layers"].as_array().unwrap().iter().rev().map(digest).take(count);
        let server = serve(&layout, &Gate::awaiting(layers));
        let option = format!("--parallel-layers={count}");
        let ran = carve(&server, "/d/target").args([option.as_str()]).run().done();
        assert_eq!(ran.stdout, b"target");
        let again = server
            .requests()
            .iter()
            .filter(|request| request.range().is_none_or(|range| range.0 == 0))
            .count();
        // Manifest, configuration, and each of the layers from its start.
        assert_eq!(again, 5);
    }
}

#[test]
fn a_file_that_is_too_large_to_wait_is_found_by_a_guess_and_read_on_from_there() {
    let noise = |seed, size| Noise::new(seed).bytes(size);
    let base = Tar::new().file("before", noise(1, 6 << 20)).file("big", noise(2, 3 << 20));
    let base = base.file("behind", noise(3, 6 << 20)).finish();
    let newest = Tar::new().file("newest", noise(4, 6 << 20)).finish();
    let layout = Layout::of(&Image::of([base, newest]));
    let manifest = manifest(&layout);
    let [base, newest] = [0, 1].map(|layer| digest(&manifest["layers"][layer]));
    let server = serve(&layout, &Gate::awaiting([base.clone(), newest]));
    let ran = carve(&server, "/big").args(["--parallel-layers=2"]).run().done();
    assert!(ran.stdout == noise(2, 3 << 20), "{}", ran.stderr);
    let requests = server.requests_to(&format!("/v2/app/blobs/{base}"));
    let ranges: Vec<_> = requests.iter().map(|request| request.range().unwrap()).collect();
    assert_eq!(ranges.iter().filter(|range| range.0 == 0).count(), 1, "{ranges:?}");
    let bytes: usize = ranges.iter().map(|(start, end)| end - start).sum();
    // What was asked for ahead of the guess comes on top, and the content once more.
    assert!(bytes < 18 << 20, "{ranges:?}");
}

#[test]
fn reading_several_layers_at_the_same_time_changes_no_answer() {
    let layout = large_layers();
    let image = layout.reference("latest");
    let paths = [
        "/newest-first",
        "/middle-first",
        "/base",
        "/d/target",
        "/link",
        "/away",
        "/big",
        "/gone",
        "/d",
        "/not",
    ];
    for path in paths {
        let run = |layers: &str| {
            let ran = Program::new(["carve", &image, path, "--no-cache", layers]).run();
            let keys = ["verified", "final", "layer", "exit", "error", "resolved_path", "size"];
            let report = keys.map(|key| ran.report[key].clone());
            (ran.code, ran.stdout, ran.stderr, report)
        };
        let alone = run("--parallel-layers=1");
        for layers in ["--parallel-layers=2", "--parallel-layers=3"] {
            let (ran, alone) = (run(layers), &alone);
            assert_eq!((ran.0, &ran.2, &ran.3), (alone.0, &alone.2, &alone.3), "{path} {layers}");
            assert!(ran.1 == alone.1, "{path} {layers}");
        }
    }
}

#[test]
fn what_was_read_on_a_guess_and_is_wrong_counts_only_when_it_is_needed() {
    let layout = large_layers();
    let manifest = manifest(&layout);
    for layer in [0, 1] {
        fs::write(layout.blob_file(&digest(&manifest["layers"][layer])), b"no layer").unwrap();
    }
    let server = serve(&layout, &Gate::awaiting([]));
    let parallel = |path| carve(&server, path).args(["--parallel-layers=3"]).run();
    assert_eq!(parallel("/base").done().stdout, b"newer");
    parallel("/d/target").failed(8);
}

/// Tells the gate when the newest of three layers has been read.
struct NewestRead(Arc<Gate>);

impl Progress for NewestRead {
    fn layer_finished(&self, layer: usize) {
        if layer == 2 {
            self.0.came("newest");
        }
    }
}

#[test]
fn what_is_learnt_of_a_layer_waits_for_no_guess_that_stands_still() {
    let large = |seed| Tar::new().file("noise", Noise::new(seed).bytes(6 << 20));
    let layer = |tar: Tar| Layer::new(&tar.finish(), Compression::None);
    let mut middle = layer(Tar::new().file("middle", noise(300_000)));
    middle.annotations = serde_json::json!({
        "containerd.io/snapshot/stargz/toc.digest": format!("sha256:{}", "1".repeat(64)),
    });
    let image = Image::new().layer(layer(large(1).file("t", "content"))).layer(middle).layer(layer(large(2)));
    let layout = Layout::of(&image);
    let manifest = manifest(&layout);
    let [base, _, newest] = [0, 1, 2].map(|layer| digest(&manifest["layers"][layer]));
    let (renewal, read) = ["renewal", "newest"].map(|what| Gate::awaiting([what.to_owned()])).into();
    let asked = Gate::awaiting(["the newest layer's end".to_owned()]);
    let tokens = Mutex::new(0);
    let blobs = layout.path().join("blobs/sha256");
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let is_read = Arc::clone(&read);
    let server = ScriptedRegistry::start(move |request: &Request| {
        if request.path() == "/token" {
            let mut tokens = tokens.lock().unwrap();
            *tokens += 1;
            if *tokens == 2 {
                // The base's new token comes once nobody reads the newest layer any more.
                renewal.came("renewal");
                is_read.pass("");
            }
            return Reply::token(&format!("t{tokens}"));
        }
        let realm = format!("http://{}/token", request.header("host").unwrap());
        let challenge = format!(r#"Bearer realm="{realm}",service="s",scope="repository:app:pull""#);
        let Some(authorization) = request.authorization() else { return Reply::challenge(&challenge) };
        let name = request.path().rsplit_once('/').unwrap().1;
        if request.path().contains("/manifests/") {
            return Reply::ok(manifest.clone()).header("content-type", layout::MANIFEST);
        }
        if name == base && authorization == "Bearer t1" && request.range().is_some_and(|range| range.0 > 0) {
            // What the newest layer still needs does not wait for the new token.
            assert!(asked.pass(""));
            return Reply::challenge(&challenge);
        }
        let Ok(blob) = fs::read(blobs.join(name.strip_prefix("sha256:").unwrap())) else {
            return Reply::status(404);
        };
        let is_end = request.range().is_some_and(|range| range.1 == blob.len());
        if name == newest && is_end {
            asked.came("the newest layer's end");
        }
        match Reply::blob(request, &blob) {
            reply if name == newest && is_end => {
                let renewal = Arc::clone(&renewal);
                reply.hold_after(1, move || assert!(renewal.pass("")))
            }
            reply => reply,
        }
    });
    block_on(async {
        let client = Client::builder().progress(Arc::new(NewestRead(read))).build().unwrap();
        let reference = format!("{}/app", server.host()).parse().unwrap();
        let image = client.image(&reference, &Platform::default()).await.unwrap();
        let options = layerslayer::CarveOptions::default().parallel_layers(2);
        let carved = tokio::time::timeout(PATIENCE, image.carve_with("/t", &options));
        let mut file = carved.await.expect("it stands still").unwrap();
        assert_eq!(file.read_to_end(100).await.unwrap(), b"content");
    });
}
