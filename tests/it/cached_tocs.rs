//! TOCs that runs leave in the cache: what they save at a real registry, and that neither a wrong
//! TOC nor wrong bytes from the registry are believed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Compression, Image, Layer, Layout, Tar,
        layout::MANIFEST,
        transport::{Trust, push},
    },
    noise::Noise,
    program::{Program, Ran},
    recorder::{Exchange, Recorder},
    registry::{Reply, ScriptedRegistry},
    tools,
};

/// Larger than the remainder that is read to the end anyway once the answer is known.
const BIG: usize = 3 << 20;

/// An image of one layer, and the cache of the runs that read it.
struct Fixture {
    registry: DockerRegistry,
    recorder: Recorder,
    layer: Layer,
    big: Vec<u8>,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new(compression: Compression) -> Self {
        let registry = DockerRegistry::open();
        let big = Noise::new(3).bytes(BIG);
        let tar = Tar::new().file("first", "first\n").file("big", &big).file("middle", "middle\n");
        let tar = tar.file("rest", Noise::new(4).bytes(BIG)).file("last", "last\n").finish();
        let layer = Layer::new(&tar, compression);
        let layout = Layout::of(&Image::new().layer(layer.clone()));
        push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
        let recorder = Recorder::before(&registry.host());
        Self { registry, recorder, layer, big, folder: tools::temporary_folder() }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn run(&self, words: &[&str]) -> Ran {
        let image = format!("{}/one:1", self.recorder.host());
        let words = words.iter().map(|word| word.replace("IMAGE", &image));
        Program::new(words).cache(&self.cache()).run()
    }

    /// Runs the program and returns the requests that the registry received.
    fn recorded(&self, words: &[&str]) -> (Ran, Vec<Exchange>) {
        let before = self.recorder.settled().len();
        let ran = self.run(words).done();
        (ran, self.recorder.settled().split_off(before))
    }

    /// Flips a bit of the layer in the registry's storage. A second call restores it.
    fn tamper(&self, place: usize) {
        let file = self.registry.blob_file(&self.layer.digest());
        let mut blob = fs::read(&file).unwrap();
        blob[place] ^= 1;
        fs::write(&file, blob).unwrap();
    }

    /// The files in which the cache keeps TOCs.
    fn tocs(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.cache().join("toc")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files
    }

    /// The only cached TOC.
    fn toc(&self) -> PathBuf {
        let mut tocs = self.tocs();
        assert_eq!(tocs.len(), 1, "{tocs:?}");
        tocs.remove(0)
    }

    /// The `complete` field of each TOC in `cache ls`.
    fn complete(&self) -> Vec<Value> {
        let mut command = tools_command(&["cache", "ls", "--json"], &self.cache());
        let lines = String::from_utf8(tools::run(&mut command)).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["type"] == "table").map(|line| line["complete"].clone()).collect()
    }
}

fn tools_command(words: &[&str], cache: &Path) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_layerslayer"));
    command.args(words).env("LAYERSLAYER_CACHE_DIR", cache);
    command
}

/// Requests in short: method, kind of target, and whether a range was requested.
fn short(requests: &[Exchange]) -> Vec<String> {
    let short = |one: &Exchange| {
        let what = if one.target.contains("/blobs/") { "blob" } else { "manifest" };
        let range = if one.field("range").is_some() { " range" } else { "" };
        format!("{} {what}{range} {}", one.method, one.status.unwrap_or_default())
    };
    requests.iter().map(short).collect()
}

#[test]
fn a_second_file_of_a_layer_costs_one_head_and_one_range() {
    // A single zstd frame can only be decoded from its start.
    for compression in [Compression::Gzip, Compression::None, Compression::Pigz] {
        let fixture = Fixture::new(compression);
        let (ran, _) = fixture.recorded(&["carve", "IMAGE", "/big", "--verify"]);
        assert!(ran.stdout == fixture.big);
        for (path, content) in [("/last", &b"last\n"[..]), ("/first", b"first\n"), ("/middle", b"middle\n")] {
            let (ran, requests) = fixture.recorded(&["carve", "IMAGE", path]);
            assert!(ran.stdout == content, "{compression:?} {path}");
            let mut requests = short(&requests);
            // The two requests are sent concurrently.
            requests.sort();
            assert_eq!(requests, ["GET blob range 206", "HEAD manifest 200"], "{compression:?} {path}");
            let facts = (&ran.report["plan"], &ran.report["verified"], &ran.report["final"]);
            assert_eq!(facts, (&"toc".into(), &"span".into(), &true.into()), "{compression:?} {path}");
        }
    }
}

#[test]
fn by_digest_a_second_file_of_a_layer_costs_exactly_one_range() {
    let fixture = Fixture::new(Compression::Gzip);
    let ran = fixture.run(&["peek", "IMAGE", "--all"]).done();
    let image = format!("{}/one@{}", fixture.recorder.host(), ran.report["digest"].as_str().unwrap());
    let (ran, requests) = fixture.recorded(&["carve", &image, "/last"]);
    assert_eq!(ran.stdout, b"last\n");
    assert_eq!(short(&requests), ["GET blob range 206"]);
    assert!(requests[0].target.ends_with(&fixture.layer.digest()), "{}", requests[0].target);
    assert_eq!(&ran.report["requests"], 1);
}

#[test]
fn listing_a_layer_that_was_read_before_reads_none_of_its_bytes() {
    let fixture = Fixture::new(Compression::Gzip);
    for view in ["--all", "--rootfs"] {
        let (first, _) = fixture.recorded(&["peek", "IMAGE", view]);
        let (second, requests) = fixture.recorded(&["peek", "IMAGE", view]);
        assert_eq!(first.stdout, second.stdout, "{view}");
        assert_eq!(short(&requests), ["HEAD manifest 200"], "{view}");
    }
}

#[test]
fn a_run_resumes_where_an_earlier_run_stopped() {
    for compression in [Compression::Gzip, Compression::None, Compression::Pigz] {
        let fixture = Fixture::new(compression);
        let (ran, _) = fixture.recorded(&["carve", "IMAGE", "/middle"]);
        assert_eq!((ran.stdout.as_slice(), &ran.report["verified"]), (&b"middle\n"[..], &"none".into()));
        assert_eq!(fixture.complete(), [false], "{compression:?}");
        let (ran, _) = fixture.recorded(&["carve", "IMAGE", "/last"]);
        assert_eq!((ran.stdout.as_slice(), &ran.report["verified"]), (&b"last\n"[..], &"blob".into()));
        let (fetched, size) =
            (ran.report["bytes_fetched"].as_u64().unwrap(), fixture.layer.blob.len() as u64);
        assert!(fetched < size * 3 / 4, "{compression:?}: {fetched} of {size}");
        assert_eq!(fixture.complete(), [true], "{compression:?}");
    }
}

#[test]
fn a_file_read_by_a_toc_is_correct_however_small_the_pieces_it_arrives_in() {
    let big = Noise::new(5).bytes(600_000);
    let tar = Tar::new().file("first", "first\n").file("big", &big).file("last", "last\n").finish();
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None, Compression::Pigz] {
        let layout = Layout::new();
        let manifest = layout.image(&Image::new().layer(Layer::new(&tar, compression)));
        let manifest = manifest["digest"].as_str().unwrap().to_owned();
        let image = format!("one@{manifest}");
        let server = ScriptedRegistry::start(move |request| {
            let digest = request.path().rsplit_once('/').unwrap().1;
            let reply = Reply::blob(request, &fs::read(layout.blob_file(digest)).unwrap());
            // A thousand bytes at a time, so that each verified unit arrives in many pieces.
            if digest == manifest { reply.header("content-type", MANIFEST) } else { reply.chunked() }
        });
        let folder = tools::temporary_folder();
        let image = format!("{}/{image}", server.host());
        let run = |words: &[&str]| Program::new(words).cache(folder.path()).run().done();
        run(&["toc", "build", &image]);
        for (path, content) in [("/last", &b"last\n"[..]), ("/big", &big), ("/first", b"first\n")] {
            let ran = run(&["carve", &image, path]);
            assert!(ran.stdout == content, "{compression:?} {path}");
            let facts = (&ran.report["plan"], &ran.report["verified"]);
            assert_eq!(facts, (&"toc".into(), &"span".into()), "{compression:?} {path}");
        }
    }
}

#[test]
fn a_changed_byte_in_a_span_prints_nothing_and_invalidates_the_toc() {
    for compression in [Compression::Gzip, Compression::None, Compression::Zstd] {
        let fixture = Fixture::new(compression);
        fixture.run(&["peek", "IMAGE", "--all"]).done();
        let out = fixture.folder.path().join("out");
        for place in [fixture.layer.blob.len() / 4, fixture.layer.blob.len() / 3] {
            assert_eq!(fixture.complete(), [true], "{compression:?}");
            fixture.tamper(place);
            fixture.run(&["carve", "IMAGE", "/big", "-o", tools::text(&out)]).failed(8);
            assert!(!out.exists(), "{compression:?}");
            assert_eq!(fixture.tocs(), [] as [PathBuf; 0], "{compression:?}");
            fixture.tamper(place);
            let ran = fixture.run(&["carve", "IMAGE", "/big", "-o", tools::text(&out)]).done();
            assert_eq!(ran.report["plan"], "scan", "{compression:?}");
            assert!(fs::read(&out).unwrap() == fixture.big, "{compression:?}");
            fs::remove_file(&out).unwrap();
            fixture.run(&["peek", "IMAGE", "--all"]).done();
        }
    }
}

#[test]
fn a_damaged_cached_toc_is_rebuilt_with_a_warning() {
    let fixture = Fixture::new(Compression::Gzip);
    fixture.run(&["peek", "IMAGE", "--all"]).done();
    let good = fs::read(fixture.toc()).unwrap();
    let flipped = [0, 9, 40, good.len() / 3, good.len() / 2, good.len() - 1].map(|place| {
        let mut bytes = good.clone();
        bytes[place] ^= 0x10;
        bytes
    });
    let cut = [0, 5, good.len() / 2, good.len() - 1].map(|length| good[..length].to_vec());
    let longer = [good.as_slice(), b"\0"].concat();
    for damaged in flipped.into_iter().chain(cut).chain([longer]) {
        fs::write(fixture.toc(), &damaged).unwrap();
        let ran = fixture.run(&["carve", "IMAGE", "/last"]).done().said("it will be built again");
        assert_eq!((ran.stdout.as_slice(), &ran.report["plan"]), (&b"last\n"[..], &"scan".into()));
        let ran = fixture.run(&["carve", "IMAGE", "/last"]).done();
        let facts = (ran.stdout.as_slice(), ran.stderr.as_str(), &ran.report["plan"]);
        assert_eq!(facts, (&b"last\n"[..], "", &"toc".into()));
    }
}

#[test]
fn the_toc_of_another_layer_is_rejected() {
    let (fixture, other) = (Fixture::new(Compression::Gzip), Fixture::new(Compression::Pigz));
    for fixture in [&fixture, &other] {
        fixture.run(&["peek", "IMAGE", "--all"]).done();
    }
    fs::copy(other.toc(), fixture.toc()).unwrap();
    let ran = fixture.run(&["carve", "IMAGE", "/last"]).done();
    assert_eq!((ran.stdout.as_slice(), &ran.report["plan"]), (&b"last\n"[..], &"scan".into()));
    let ran = fixture.run(&["carve", "IMAGE", "/big"]).done();
    assert!(ran.stdout == fixture.big && ran.report["plan"] == "toc", "{}", ran.report);
}

#[test]
fn a_pass_that_resumes_after_wrong_bytes_is_restarted_once() {
    for verify in [&["--verify"][..], &[]] {
        let fixture = Fixture::new(Compression::None);
        // In the content of the first file: only the digest of the whole blob detects it.
        fixture.tamper(512);
        let ran = fixture.run(&["carve", "IMAGE", "/first"]).done();
        assert_eq!((ran.stdout.as_slice(), &ran.report["verified"]), (&b"girst\n"[..], &"none".into()));
        fixture.tamper(512);
        let ran = fixture.run(&[&["carve", "IMAGE", "/last"], verify].concat()).done();
        assert_eq!((ran.stdout.as_slice(), &ran.report["verified"]), (&b"last\n"[..], &"blob".into()));
        let ran = fixture.run(&["carve", "IMAGE", "/first"]).done();
        assert_eq!((ran.stdout.as_slice(), &ran.report["verified"]), (&b"first\n"[..], &"span".into()));
    }
}

#[test]
fn entries_decoded_from_wrong_bytes_are_dropped_when_the_rest_fails_verification() {
    let (first, second) = ("first", "ghrst");
    for compression in [Compression::None, Compression::Gzip] {
        let registry = DockerRegistry::open();
        // After a resume point. The name can be changed without breaking its header's checksum.
        let tar = |name: &str| {
            let tar = Tar::new().file("noise", Noise::new(3).bytes(BIG)).file("before", "");
            tar.file(name, "1\n").file("wanted", "2\n").file("rest", Noise::new(4).bytes(BIG)).finish()
        };
        let layers = [first, second].map(|name| Layer::new(&tar(name), compression));
        let layout = Layout::of(&Image::new().layer(layers[0].clone()));
        push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
        let recorder = Recorder::before(&registry.host());
        let (folder, big) = (tools::temporary_folder(), Vec::new());
        let fixture = Fixture { registry, recorder, layer: layers[0].clone(), big, folder };
        let file = fixture.registry.blob_file(&fixture.layer.digest());
        assert_eq!(layers[0].blob.len(), layers[1].blob.len(), "{compression:?}");
        fs::write(&file, &layers[1].blob).unwrap();
        fixture.run(&["carve", "IMAGE", "/wanted"]).done();
        assert_eq!(fixture.complete(), [false]);
        fs::write(&file, &layers[0].blob).unwrap();
        fixture.run(&["carve", "IMAGE", "/not/there"]).failed(3);
        assert_eq!(fixture.complete(), [true]);
        let listed = fixture.run(&["peek", "IMAGE", "--all", "--json"]).done();
        assert_eq!(listed.report["verified"], "span");
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains(first) && !listed.contains(second), "{compression:?}: {listed}");
    }
}

#[test]
fn a_verifying_run_resumes_where_an_earlier_run_stopped() {
    for compression in [Compression::Gzip, Compression::None, Compression::Pigz] {
        let fixture = Fixture::new(compression);
        fixture.run(&["carve", "IMAGE", "/middle"]).done();
        assert_eq!(fixture.complete(), [false], "{compression:?}");
        // After the resume point.
        let ran = fixture.run(&["carve", "IMAGE", "/last", "--verify"]).done();
        assert_eq!((ran.stdout.as_slice(), &ran.report["verified"]), (&b"last\n"[..], &"blob".into()));
        let (fetched, size) =
            (ran.report["bytes_fetched"].as_u64().unwrap(), fixture.layer.blob.len() as u64);
        assert!(fetched < size * 3 / 4, "{compression:?}: {fetched} of {size}");
        assert_eq!(fixture.complete(), [true], "{compression:?}");
        // Before it: the rest is hashed first, then the bytes before it are read by their spans.
        let fixture = Fixture::new(compression);
        fixture.run(&["carve", "IMAGE", "/middle"]).done();
        let ran = fixture.run(&["carve", "IMAGE", "/first", "--verify"]).done();
        assert_eq!((ran.stdout.as_slice(), &ran.report["verified"]), (&b"first\n"[..], &"span".into()));
        let fetched = ran.report["bytes_fetched"].as_u64().unwrap();
        assert!(fetched < size, "{compression:?}: {fetched} of {size}");
        // `--verify=blob` hashes the whole blob at once.
        let fixture = Fixture::new(compression);
        fixture.run(&["carve", "IMAGE", "/middle"]).done();
        let ran = fixture.run(&["carve", "IMAGE", "/first", "--verify=blob"]).done();
        assert_eq!((ran.stdout.as_slice(), &ran.report["verified"]), (&b"first\n"[..], &"blob".into()));
        assert!(ran.report["bytes_fetched"].as_u64() >= Some(size), "{compression:?}");
    }
}
