//! Layers with an embedded TOC, and images with a TOC in a separate artifact.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use layerslayer::Digest;
use serde_json::{Value, json};

use crate::support::{
    images::{
        Compression, Image, Layer, Layout, Tar,
        layout::{CONFIG, MANIFEST},
    },
    program::{Program, Ran},
    registry::{Reply, ScriptedRegistry},
    tools,
};

/// Layers with an embedded TOC whose digest is in the manifest.
const WITH_TOC: [&str; 6] = [
    "estargz",
    "estargz-min-chunk",
    "estargz-prefetch",
    "zstd-chunked",
    "zstd-chunked-converted",
    "zstd-chunked-old",
];

const INTACT: usize = usize::MAX;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(format!("{}/fixtures/toc/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// A fixture as a layer, decompressed by the program of its format.
pub(crate) fn with_toc(name: &str) -> Layer {
    let annotations: Value = serde_json::from_slice(&fixture("annotations.json")).unwrap();
    let (program, compression) = match name.starts_with("zstd") {
        true => ("zstd", Compression::Zstd),
        false => ("gzip", Compression::Gzip),
    };
    let blob = fixture(name);
    let tar = tools::filter(tools::command(program).args(["-d", "-c"]), &blob);
    Layer {
        blob,
        media_type: compression.media_type(),
        diff_id: Digest::sha256(&tar).to_string(),
        created_by: String::new(),
        annotations: annotations[name].clone(),
    }
}

/// An image with this base under a layer of one small file.
fn image(base: Layer) -> Image {
    let top = Tar::new().file("opt/app", "of the newer layer\n").finish();
    Image::new().layer(base).layer(Layer::new(&top, Compression::Gzip))
}

/// A registry with one image. Its base can be served with one byte changed.
struct Shelf {
    server: ScriptedRegistry,
    changed: Arc<AtomicUsize>,
    base: String,
}

impl Shelf {
    fn new(base: Layer) -> Self {
        let digest = base.digest();
        Self::with(&image(base), &digest, Layout::new(), |reply| reply)
    }

    /// `index` changes the reply to requests for other manifests by digest.
    fn with(
        image: &Image,
        base: &str,
        layout: Layout,
        index: impl Fn(Reply) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let manifest = layout.image(image)["digest"].as_str().unwrap().to_owned();
        let (changed, base) = (Arc::new(AtomicUsize::new(INTACT)), base.to_owned());
        let (flipped, tampered) = (Arc::clone(&changed), base.clone());
        let server = ScriptedRegistry::start(move |request| {
            let name = request.path().rsplit_once('/').unwrap().1;
            let digest = if name == "1" { &manifest } else { name };
            let Ok(mut bytes) = fs::read(layout.blob_file(digest)) else { return Reply::status(404) };
            if digest == tampered
                && let Some(byte) = bytes.get_mut(flipped.load(Ordering::Relaxed))
            {
                *byte ^= 0x10;
            }
            match request.path().contains("/manifests/") {
                true if *digest == manifest => Reply::ok(bytes)
                    .header("content-type", MANIFEST)
                    .header("docker-content-digest", &manifest),
                true => index(Reply::ok(bytes).header("content-type", MANIFEST)),
                false => Reply::blob(request, &bytes),
            }
        });
        Self { server, changed, base }
    }

    fn program(&self, words: &[&str]) -> Program {
        let reference = format!("{}/app:1", self.server.host());
        Program::new([words[0], &reference, "--no-cache"]).args(&words[1..])
    }

    fn carve(&self, words: &[&str]) -> Ran {
        self.program(&[&["carve"], words].concat()).run()
    }

    /// The last requested range of the base.
    fn last_range(&self) -> (usize, usize) {
        let requests = self.server.requests_to(&format!("/v2/app/blobs/{}", self.base));
        requests.last().unwrap().range().unwrap()
    }
}

/// How the layer was read, and how far that was verified.
fn how(ran: &Ran) -> (&str, &str) {
    (ran.report["plan"].as_str().unwrap(), ran.report["verified"].as_str().unwrap())
}

#[test]
fn a_file_of_a_layer_with_a_toc_costs_the_toc_and_its_chunks_and_is_verified() {
    for name in WITH_TOC {
        let shelf = Shelf::new(with_toc(name));
        for words in [&["/var/last"][..], &["/var/last", "--verify=chunk"]] {
            let ran = shelf.carve(words).done();
            assert_eq!((how(&ran), ran.stdout.as_slice()), (("chunks", "chunk"), &b"last\n"[..]), "{name}");
            assert!(ran.report["requests"].as_u64().unwrap() <= 7, "{name}: {}", ran.report);
            assert!(ran.report["bytes_fetched"].as_u64().unwrap() <= 20_000, "{name}: {}", ran.report);
        }
        for verify in ["--verify", "--verify=span", "--verify=blob"] {
            let ran = shelf.carve(&["/var/last", verify]).done();
            assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]), "{name}");
        }
    }
}

#[test]
fn every_file_is_the_same_by_its_chunks_as_by_reading_the_layer() {
    for name in WITH_TOC {
        let shelf = Shelf::new(with_toc(name));
        let mut paths = vec!["/usr/bin/tool", "/usr/bin/same", "/etc/empty", "/var/zeros", "/var/mixed"];
        if name.starts_with("estargz") {
            // Files that the format itself adds exist for runtimes that ignore the TOC.
            paths.push("/stargz.index.json");
            paths.push(if name.ends_with("prefetch") {
                "/.prefetch.landmark"
            } else {
                "/.no.prefetch.landmark"
            });
        }
        for path in paths {
            let (by_chunks, whole) =
                (shelf.carve(&[path]).done(), shelf.carve(&[path, "--verify=blob"]).done());
            assert!(by_chunks.stdout == whole.stdout, "{name}: {path}");
            assert_eq!(how(&by_chunks), ("chunks", "chunk"), "{name}: {path}");
        }
        let listing =
            |words: &[&str]| shelf.program(&[&["peek", "--all", "--json"], words].concat()).run().done();
        let paths = |ran: &Ran| -> Vec<Value> {
            let entries = ran.lines().into_iter().filter(|line| line["type"] == "entry");
            let mut paths: Vec<_> = entries.map(|entry| entry["path"].clone()).collect();
            paths.sort_by_key(ToString::to_string);
            paths
        };
        let (by_toc, whole) = (listing(&[]), listing(&["--verify=blob"]));
        assert_eq!(paths(&by_toc), paths(&whole), "{name}");
        let end = |ran: &Ran| ran.lines().into_iter().find(|line| line["type"] == "layer_end").unwrap();
        assert_eq!(
            (end(&by_toc)["source"].clone(), end(&by_toc)["verified"].clone()),
            ("publisher-toc".into(), "chunk".into())
        );
        assert_eq!(end(&whole)["source"], "tar");
    }
}

#[test]
fn a_toc_that_does_not_match_its_digest_in_the_manifest_is_rejected() {
    for (name, key) in [
        ("estargz", "containerd.io/snapshot/stargz/toc.digest"),
        ("zstd-chunked", "io.github.containers.zstd-chunked.manifest-checksum"),
    ] {
        let mut base = with_toc(name);
        base.annotations[key] = json!(Digest::sha256(b"something else").to_string());
        let ran = Shelf::new(base).carve(&["/var/last"]).done().said("reading the layer itself");
        assert_eq!((how(&ran).0, ran.stdout.as_slice()), ("scan", &b"last\n"[..]), "{name}");
    }
    // A TOC beyond the end of the blob is not requested.
    let mut base = with_toc("zstd-chunked");
    base.annotations["io.github.containers.zstd-chunked.manifest-position"] = json!("18917:1336000:4612:1");
    let ran = Shelf::new(base).carve(&["/var/last"]).done().said("outside the blob");
    assert_eq!(how(&ran).0, "scan");
}

#[test]
fn a_toc_without_a_digest_in_the_manifest_is_used_and_reported_as_unverified() {
    let mut base = with_toc("zstd-chunked");
    base.annotations.as_object_mut().unwrap().remove("io.github.containers.zstd-chunked.manifest-checksum");
    let shelf = Shelf::new(base.clone());
    let ran = shelf.carve(&["/var/last"]).done();
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("chunks", "none"), &b"last\n"[..]));
    assert_eq!(how(&shelf.carve(&["/var/last", "--verify"]).done()), ("scan", "blob"));
    // The digest of the uncompressed TOC is accepted, too.
    let mut base = with_toc("zstd-chunked-converted");
    base.annotations.as_object_mut().unwrap().remove("io.containers.zstd-chunked.manifest-checksum");
    assert_eq!(how(&Shelf::new(base).carve(&["/var/last"]).done()), ("chunks", "chunk"));
}

#[test]
fn a_chunk_with_a_changed_byte_is_corrupt() {
    for name in ["estargz", "zstd-chunked"] {
        let shelf = Shelf::new(with_toc(name));
        shelf.carve(&["/usr/bin/tool"]).done();
        let (start, end) = shelf.last_range();
        shelf.changed.store(start + (end - start) / 2, Ordering::Relaxed);
        let folder = tools::temporary_folder();
        let output = folder.path().join("tool");
        shelf.carve(&["/usr/bin/tool", "-o", tools::text(&output)]).failed(8);
        assert!(!output.exists(), "{name}");
    }
}

/// A registry with the image of the SOCI fixtures; `index` is the one its manifest names.
fn soci(index: &str, answer: impl Fn(Reply) -> Reply + Send + Sync + 'static) -> Shelf {
    let (layout, base) = (Layout::new(), with_toc("layer.tar.gz"));
    layout.blob(&fixture("soci-ztoc"), "application/octet-stream");
    layout.blob(b"{}", CONFIG);
    let index = layout.blob(&fixture(index), MANIFEST);
    let digest = base.digest();
    let image =
        image(base).manifest("annotations", json!({ "com.amazon.soci.index-digest": index["digest"] }));
    Shelf::with(&image, &digest, layout, answer)
}

#[test]
fn a_file_is_read_by_the_soci_index_that_the_manifest_names() {
    let shelf = soci("soci-index-v2", |reply| reply);
    for path in ["/var/last", "/etc/passwd", "/usr/bin/same", "/var/mixed", "/var/zeros", "/etc/empty"] {
        let (by_spans, whole) = (shelf.carve(&[path]).done(), shelf.carve(&[path, "--verify=blob"]).done());
        assert!(by_spans.stdout == whole.stdout, "{path}");
        assert_eq!((how(&by_spans), how(&whole)), (("soci", "chunk"), ("scan", "blob")), "{path}");
        assert!(by_spans.report["requests"].as_u64().unwrap() <= 6, "{path}: {}", by_spans.report);
    }
    assert_eq!(how(&shelf.carve(&["/var/last", "--verify=chunk"]).done()), ("soci", "chunk"));
    assert_eq!(how(&shelf.carve(&["/var/last", "--verify"]).done()), ("scan", "blob"));
    shelf.carve(&["/not/there", "--verify"]).failed(3);
    let folder = tools::temporary_folder();
    let both =
        shelf.carve(&["/var/last", "/etc/passwd", "-o", &format!("{}/", tools::text(folder.path()))]).done();
    assert_eq!(how(&both), ("soci", "chunk"));
    assert_eq!(fs::read(folder.path().join("var/last")).unwrap(), b"last\n");
}

#[test]
fn a_span_with_a_changed_byte_is_corrupt() {
    let shelf = soci("soci-index-v2", |reply| reply);
    shelf.carve(&["/var/last"]).done();
    let (start, end) = shelf.last_range();
    for at in [start, end - 1] {
        shelf.changed.store(at, Ordering::Relaxed);
        let ran = shelf.carve(&["/var/last"]).failed(8);
        assert!(ran.stdout.is_empty(), "{at}");
    }
}

#[test]
fn a_missing_or_invalid_soci_index_costs_a_scan() {
    let gone = soci("soci-index-v2", |_| Reply::status(404));
    let ran = gone.carve(&["/var/last"]).done();
    assert_eq!((how(&ran).0, ran.stdout.as_slice()), ("scan", &b"last\n"[..]));
    let other = soci("soci-index-v2", |reply| reply.body("{}"));
    assert_eq!(how(&other.carve(&["/var/last"]).done()).0, "scan");
    // An index of version 1 cannot be named by a manifest.
    let first = soci("soci-index-v1", |reply| reply);
    let ran = first.carve(&["/var/last"]).done().said("SOCI");
    assert_eq!((how(&ran).0, ran.stdout.as_slice()), ("scan", &b"last\n"[..]));
}

/// A registry with the image of the SOCI fixtures, whose manifest names no index: an index of
/// version 1 refers to it, listed by the referrers API (`is_listed`) or by the fallback tag.
struct Referred {
    server: ScriptedRegistry,
    folder: tempfile::TempDir,
}

impl Referred {
    fn new(is_listed: bool, subjects: &[Option<&str>]) -> Self {
        let (layout, image) = (Layout::new(), image(with_toc("layer.tar.gz")));
        layout.blob(&fixture("soci-ztoc"), "application/octet-stream");
        let manifest = layout.image(&image);
        let subject = manifest["digest"].as_str().unwrap().to_owned();
        let indexes = subjects.iter().map(|of| {
            let mut index: Value = serde_json::from_slice(&fixture("soci-index-v1")).unwrap();
            index["subject"]["digest"] = of.unwrap_or(&subject).into();
            let mut descriptor = layout.blob(index.to_string().as_bytes(), MANIFEST);
            descriptor["artifactType"] = "application/vnd.amazon.soci.index.v1+json".into();
            descriptor
        });
        let kind = "application/vnd.oci.image.index.v1+json";
        let list = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": indexes.collect::<Vec<_>>() });
        let server = ScriptedRegistry::start(move |request| {
            let (rest, name) = request.path().rsplit_once('/').unwrap();
            let list = || Reply::ok(list.to_string()).header("content-type", kind);
            if rest.ends_with("/referrers") && is_listed {
                return list();
            }
            if rest.ends_with("/manifests") && !is_listed && name == subject.replace(':', "-") {
                return list();
            }
            let digest = if name == "1" { &subject } else { name };
            let Ok(bytes) = fs::read(layout.blob_file(digest)) else { return Reply::status(404) };
            match rest {
                "/v2/app/blobs" => Reply::blob(request, &bytes),
                "/v2/app/manifests" => {
                    Reply::ok(bytes).header("content-type", MANIFEST).header("docker-content-digest", digest)
                }
                _ => Reply::status(404),
            }
        });
        let folder = tools::temporary_folder();
        let mut keygen = std::process::Command::new(env!("CARGO_BIN_EXE_layerslayer"));
        let key = tools::run(keygen.args(["toc", "keygen", "-o"]).arg(folder.path().join("private")));
        fs::write(folder.path().join("public"), key).unwrap();
        Self { server, folder }
    }

    fn carve(&self, cache: &str, words: &[&str]) -> Program {
        let reference = format!("{}/app:1", self.server.host());
        let program = Program::new(["carve", &reference]).args(words).cache(&self.folder.path().join(cache));
        program.variable("LAYERSLAYER_TOC_KEY", tools::text(&self.folder.path().join("public")))
    }

    /// The requests after the first `since`.
    fn requests_since(&self, since: usize) -> Vec<String> {
        let short = |request: &crate::support::registry::Request| {
            let what = request.path().split('/').nth(3).unwrap();
            format!("{} {what}{}", request.method, request.range().map_or("", |_| " part"))
        };
        self.server.requests().iter().skip(since).map(short).collect()
    }
}

#[test]
fn a_soci_index_that_refers_to_the_image_is_used_unverified() {
    for is_listed in [true, false] {
        let image = Referred::new(is_listed, &[None]);
        let ran = image.carve("one", &["/var/last"]).run().done().said("not verified");
        assert_eq!((how(&ran), ran.stdout.as_slice()), (("soci", "none"), &b"last\n"[..]));
        // The index and its zTOC are cached; the list of referrers may have changed.
        let before = image.server.requests().len();
        let ran = image.carve("one", &["/var/last"]).run().done();
        assert_eq!((how(&ran), ran.stdout.as_slice()), (("soci", "none"), &b"last\n"[..]));
        let expected: &[_] = match is_listed {
            true => &["GET blobs part", "GET referrers", "HEAD manifests"],
            false => &["GET blobs part", "GET manifests", "GET referrers", "HEAD manifests"],
        };
        let mut requests = image.requests_since(before);
        requests.retain(|one| one != "GET blobs");
        requests.sort();
        // The newer layer, which has no zTOC, was read to its end the first time.
        assert_eq!(requests, expected);
        let ran = image.carve("two", &["/var/last", "--verify"]).run().done();
        assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]));
        // Without a trusted key the lookup is skipped.
        let before = image.server.requests().len();
        let ran = image.carve("three", &["/var/last"]).variable("LAYERSLAYER_TOC_KEY", "").run().done();
        assert_eq!(how(&ran).0, "scan");
        assert!(!image.requests_since(before).contains(&"GET referrers".to_owned()));
    }
}

#[test]
fn a_soci_index_of_another_image_is_not_used() {
    let other = "sha256:6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d";
    let image = Referred::new(true, &[Some(other)]);
    let ran = image.carve("one", &["/var/last"]).run().done().said("cannot be used");
    assert_eq!((how(&ran).0, ran.stdout.as_slice()), ("scan", &b"last\n"[..]));
    // It does not hide the right one either.
    let image = Referred::new(true, &[Some(other), None]);
    assert_eq!(how(&image.carve("one", &["/var/last"]).run().done()), ("soci", "none"));
}

#[test]
fn soci_indexes_are_cached_so_that_a_file_costs_two_requests() {
    let shelf = soci("soci-index-v2", |reply| reply);
    let cache = tools::temporary_folder();
    let reference = format!("{}/app:1", shelf.server.host());
    let carve = || Program::new(["carve", &reference, "/var/last"]).cache(cache.path()).run().done();
    carve();
    let ran = carve();
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("soci", "chunk"), &b"last\n"[..]));
    assert_eq!(ran.report["requests"], 2, "{}", ran.report);
    // A damaged cached zTOC is fetched again.
    for place in fs::read_dir(cache.path().join("blob/sha256")).unwrap() {
        let place = place.unwrap().path();
        let damaged: Vec<_> = fs::read(&place).unwrap().iter().map(|byte| byte ^ 1).collect();
        fs::write(&place, damaged).unwrap();
    }
    let ran = carve();
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("soci", "chunk"), &b"last\n"[..]));
    assert!(ran.report["requests"].as_u64() > Some(2));
}
