//! A registry that answers every range with the whole blob: answers are the same, and no blob is
//! sent repeatedly.

use std::fs;

use crate::{
    publisher_tocs::with_toc,
    support::{
        images::{Compression, Image, Layer, Layout, Tar, layout},
        noise::Noise,
        program::{Program, Ran},
        registry::{Reply, Request, ScriptedRegistry},
        tools,
    },
};

/// An image in such a registry, and the cache of the runs that read it.
struct Served {
    server: ScriptedRegistry,
    /// The digest of its base.
    base: String,
    folder: tempfile::TempDir,
}

impl Served {
    /// With one layer.
    fn new(tar: &[u8], compression: Compression) -> Self {
        Self::of(&Image::new().layer(Layer::new(tar, compression)))
    }

    fn of(image: &Image) -> Self {
        let layout = Layout::of(image);
        let index = fs::read(layout.path().join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let manifest = fs::read(layout.blob_file(index["manifests"][0]["digest"].as_str().unwrap())).unwrap();
        let described: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        let base = described["layers"][0]["digest"].as_str().unwrap().to_owned();
        let server = ScriptedRegistry::start(move |request: &Request| {
            let (path, name) = request.path().rsplit_once('/').unwrap();
            if path.ends_with("/manifests") {
                return Reply::ok(manifest.clone()).header("content-type", layout::MANIFEST);
            }
            fs::read(layout.blob_file(name)).map_or(Reply::status(404), Reply::ok)
        });
        Self { server, base, folder: tools::temporary_folder() }
    }

    /// Runs the program and returns how often the base was requested.
    fn counted(&self, words: &[&str]) -> (Ran, usize) {
        let blob = format!("/v2/app/blobs/{}", self.base);
        let before = self.server.requests_to(&blob).len();
        let image = format!("{}/app", self.server.host());
        let words = words.iter().map(|word| word.replace("IMAGE", &image));
        let ran = Program::new(words).cache(&self.folder.path().join("cache")).run().done();
        (ran, self.server.requests_to(&blob).len() - before)
    }
}

fn layer(files: u64, size: usize) -> Vec<u8> {
    let tar = (0..files).fold(Tar::new(), |tar, file| {
        let noise = Noise::new(file + 1).bytes(size);
        tar.file(format!("big{file}"), noise).file(format!("small{file}"), file.to_string())
    });
    tar.finish()
}

#[test]
fn a_plain_layer_is_not_skipped_through() {
    let served = Served::new(&layer(4, 5 << 20), Compression::None);
    let (ran, requests) = served.counted(&["carve", "IMAGE", "/small2", "--no-cache"]);
    assert_eq!((ran.stdout.as_slice(), requests), (&b"2"[..], 2));
}

#[test]
fn files_of_a_layer_with_a_toc_are_not_each_read_from_its_start() {
    for compression in [Compression::Gzip, Compression::None] {
        let served = Served::new(&layer(12, 300 << 10), compression);
        served.counted(&["toc", "build", "IMAGE"]);
        let folder = served.folder.path().join("out");
        let out = format!("{}/", folder.display());
        let (_, requests) = served.counted(&["carve", "IMAGE", "--glob", "small*", "-o", &out]);
        for file in 0..12 {
            let name = format!("small{file}");
            assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), file.to_string());
        }
        // The requests in flight when the first was answered, and one for the rest.
        assert!(requests <= 5, "{requests} {compression:?}");
    }
}

#[test]
fn a_toc_at_the_end_of_a_blob_is_not_read_once_ranges_are_known_to_be_ignored() {
    // That is unknown until the end of the base itself is requested.
    let top = Tar::new().file("opt/app", "").finish();
    let served =
        Served::of(&Image::new().layer(with_toc("estargz")).layer(Layer::new(&top, Compression::Gzip)));
    let (_, requests) =
        served.counted(&["carve", "IMAGE", "/stargz.index.json", "-o", "/dev/null", "--no-cache"]);
    assert_eq!(requests, 2);
    let served = Served::of(&Image::new().layer(with_toc("estargz")).layer(with_toc("zstd-chunked")));
    let (_, requests) =
        served.counted(&["carve", "IMAGE", "/stargz.index.json", "-o", "/dev/null", "--no-cache"]);
    assert_eq!(requests, 1);
}
