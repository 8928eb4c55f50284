//! Prefetched layers that turn out not to be needed, at a registry that sends the needed bytes only
//! once the prefetch is cancelled.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::support::{
    event::Event,
    images::{Image, Layout, Tar, layout::MANIFEST, noise},
    noise::Noise,
    program::Program,
    registry::{Reply, Request, ScriptedRegistry},
};

#[test]
fn a_prefetch_is_cancelled_before_content_is_read_again() {
    let newest = Tar::new().file("first", "content").file("noise", noise(20_000)).symlink("away", "first");
    let base = Tar::new().file("base", Noise::new(7).bytes(1_000));
    // The symlink's target has already passed when the symlink is read; the end of the layer is not
    // needed.
    let layout = Layout::of(&Image::of([base.finish(), newest.file("last", "last").finish()]));
    for paths in [&["/away"][..], &["/away", "/last"]] {
        let server = serve(&layout);
        let output = tempfile::tempdir().unwrap();
        let folder = format!("{}/", output.path().display());
        let image = format!("{}/app", server.host());
        let words = [&["carve", &image, "--no-cache", "-o", &folder], paths].concat();
        Program::new(words).run().done();
        assert_eq!(fs::read(output.path().join("away")).unwrap(), b"content");
        // Manifest, configuration, both layers, and the content again.
        assert_eq!(server.requests().len(), 5, "{paths:?}");
    }
}

/// The newest layer's first response waits until the base is requested, its second until the base's
/// request is cancelled.
fn serve(layout: &Layout) -> ScriptedRegistry {
    let blobs = layout.path().join("blobs/sha256");
    let read = move |digest: &str| fs::read(blobs.join(digest.strip_prefix("sha256:").unwrap())).ok();
    let json = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    let index = json(fs::read(layout.path().join("index.json")).unwrap());
    let manifest = read(index["manifests"][0]["digest"].as_str().unwrap()).unwrap();
    let layers = json(manifest.clone())["layers"].clone();
    let [base, newest] = [0, 1].map(|layer| layers[layer]["digest"].as_str().unwrap().to_owned());
    let (requested, left, is_again) =
        (Arc::new(Event::default()), Arc::new(Event::default()), AtomicBool::new(false));
    ScriptedRegistry::start(move |request: &Request| {
        let name = request.path().rsplit_once('/').unwrap().1;
        if request.path().contains("/manifests/") {
            return Reply::ok(manifest.clone()).header("content-type", MANIFEST);
        }
        let reply = Reply::blob(request, &read(name).unwrap());
        if name == base {
            requested.happen();
            let left = Arc::clone(&left);
            return reply.stall_until_left(100, move || left.happen());
        }
        let awaited = if is_again.load(Ordering::SeqCst) { &left } else { &requested };
        if name == newest {
            is_again.store(true, Ordering::SeqCst);
            if !awaited.wait() {
                return Reply::status(404);
            }
        }
        reply
    })
}
