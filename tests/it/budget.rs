//! `--max-bytes` and `--dry-run`: which requests a scripted registry receives, and what the answer
//! is.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use layerslayer::Client;

use crate::support::{
    images::{Compression, Image, Layer, Layout, Tar, layout},
    inspect::block_on,
    noise::Noise,
    program::{Program, Ran},
    registry::{Reply, Request, ScriptedRegistry},
    tools,
};

/// A registry with one image: a small file first, much noise, a small file last.
struct Fixture {
    registry: ScriptedRegistry,
    /// Bytes of response bodies sent.
    sent: Arc<AtomicU64>,
    /// Bytes of the manifest and the configuration.
    documents: u64,
    layer: u64,
}

impl Fixture {
    fn new() -> Self {
        Self::that(|_, _, reply| reply)
    }

    /// A registry whose replies pass through `change`.
    fn that(change: impl Fn(&Request, &[u8], Reply) -> Reply + Send + Sync + 'static) -> Self {
        let tar = Tar::new().file("first", "first\n").file("noise", Noise::new(3).bytes(3 << 20));
        let tar = tar.file("last", "last\n").finish();
        let layout = Layout::of(&Image::new().layer(Layer::new(&tar, Compression::None)));
        let index = fs::read(layout.path().join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let read = |digest: &str| fs::read(layout.blob_file(digest)).unwrap();
        let bytes = read(&manifest);
        let config: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let config = read(config["config"]["digest"].as_str().unwrap());
        let (documents, layer) = ((bytes.len() + config.len()) as u64, tar.len() as u64);
        let sent = Arc::<AtomicU64>::default();
        let count = Arc::clone(&sent);
        let registry = ScriptedRegistry::start(move |request| {
            let name = request.path().rsplit_once('/').unwrap().1;
            let (digest, kind) = match request.path().contains("/manifests/") {
                true => (manifest.as_str(), layout::MANIFEST),
                false => (name, "application/octet-stream"),
            };
            let Ok(bytes) = fs::read(layout.blob_file(digest)) else { return Reply::status(404) };
            let length = request.range().map_or(bytes.len(), |(start, end)| end - start);
            if request.method == "GET" {
                count.fetch_add(length as u64, Ordering::SeqCst);
            }
            change(request, &bytes, Reply::blob(request, &bytes).header("content-type", kind))
        });
        Self { registry, sent, documents, layer }
    }

    fn run(&self, words: &[&str], limit: u64) -> Ran {
        let image = format!("{}/one", self.registry.host());
        self.sent.store(0, Ordering::SeqCst);
        let limit = limit.to_string();
        let words = [&[words[0], &image], &words[1..], &["--no-cache", "--max-bytes", &limit]].concat();
        Program::new(words).run()
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

fn refused(ran: Ran) -> Ran {
    ran.failed(1).said("would pass the limit of").said("--max-bytes")
}

#[test]
fn a_request_that_exceeds_the_budget_is_not_made_and_no_file_is_left() {
    let fixture = Fixture::new();
    let folder = tools::temporary_folder();
    let out = folder.path().join("out");
    let below = [0, 1, fixture.documents - 1, fixture.documents, fixture.documents + 1, 300_000, 2 << 20];
    for limit in below {
        let ran = refused(fixture.run(&["carve", "/last", "-o", tools::text(&out)], limit));
        // The manifest's length is unknown until it is requested.
        assert!(limit < 2 || fixture.sent() <= limit, "{} of {limit}", fixture.sent());
        assert!(ran.report["bytes_fetched"].as_u64().unwrap() <= limit);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        refused(fixture.run(&["carve", "/noise", "-o", tools::text(&out)], limit));
        assert!(limit < 2 || fixture.sent() <= limit, "{} of {limit}", fixture.sent());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
    let ran = fixture.run(&["carve", "/last"], fixture.documents + fixture.layer).done();
    assert_eq!(ran.stdout, b"last\n");
}

#[test]
fn content_that_is_complete_within_the_budget_is_printed() {
    let fixture = Fixture::new();
    // Less than a full first range.
    for limit in [fixture.documents + 2_000, fixture.documents + 131_072, 1 << 20] {
        let ran = fixture.run(&["carve", "/first"], limit).done();
        assert_eq!(ran.stdout, b"first\n");
        assert!(fixture.sent() <= limit, "{} of {limit}", fixture.sent());
    }
}

#[test]
fn a_layer_that_exceeds_the_budget_is_not_requested_where_all_of_it_is_needed() {
    let fixture = Fixture::new();
    let limit = fixture.documents + fixture.layer - 1;
    for words in [&["peek", "--all"][..], &["peek", "--rootfs"], &["carve", "/first", "--verify"]] {
        refused(fixture.run(words, limit));
        assert_eq!(fixture.sent(), fixture.documents, "{words:?}");
        fixture.run(words, limit + 1).done();
    }
    fixture.run(&["peek"], fixture.documents).done();
}

#[test]
fn a_server_that_sends_more_than_requested_is_cut_off_at_the_budget() {
    let whole = Fixture::that(|request, blob, reply| match request.range() {
        Some(_) => Reply::ok(blob),
        None => reply,
    });
    let limit = whole.documents + 200_000;
    let ran = refused(whole.run(&["carve", "/last"], limit));
    assert!(ran.report["bytes_fetched"].as_u64().unwrap() <= limit, "{}", ran.report);
}

#[test]
fn documents_of_unknown_length_count_against_the_budget_as_they_arrive() {
    let fixture = Fixture::that(|_, _, reply| reply.chunked());
    let ran = refused(fixture.run(&["peek"], 50));
    assert!(ran.report["bytes_fetched"].as_u64().unwrap() <= 50);
    assert_eq!(ran.report["requests"], 1, "it is not tried again");
    fixture.run(&["peek"], fixture.documents).done();
}

#[test]
fn the_library_distinguishes_an_exceeded_budget_from_other_failures() {
    let fixture = Fixture::new();
    let client = Client::builder().max_bytes(fixture.documents + 10_000).build().unwrap();
    let image = format!("{}/one", fixture.registry.host()).parse().unwrap();
    let image = block_on(client.image(&image, &Default::default())).unwrap();
    let error = block_on(image.carve("/last")).unwrap_err();
    assert!(error.is_over_budget() && !error.is_unavailable(), "{error:?}");
    assert!(client.transferred().bytes <= fixture.documents + 10_000);
}

#[test]
fn local_images_do_not_count_against_the_budget() {
    let demo = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
    Program::new(["carve", demo, "/etc/passwd", "--max-bytes", "0"]).run().done();
}

#[test]
fn a_dry_run_requests_only_documents_and_prints_what_would_be_read() {
    let fixture = Fixture::new();
    let scan = format!(": scan, at most {} bytes: first 0..131072\n", fixture.layer);
    let whole = format!(": scan, 1 request, {} bytes: 0..{}\n", fixture.layer, fixture.layer);
    let cases: [(&[&str], &str); 6] = [
        (&["carve", "/last"], &scan),
        (&["carve", "--glob", "la*"], &whole),
        (&["carve", "/last", "--verify"], &whole),
        (&["peek", "--all"], &whole),
        (&["peek", "--rootfs"], &whole),
        (&["peek"], "at most 0 requests, 0 bytes of layers\n"),
    ];
    for (words, expected) in cases {
        let ran = fixture.run(&[words, &["--dry-run"]].concat(), fixture.documents).done();
        let text = std::str::from_utf8(&ran.stdout).unwrap();
        assert!(text.contains(expected), "{words:?}: {text}");
        assert!(text.lines().last().unwrap().ends_with(" bytes of layers"), "{text}");
        assert_eq!(fixture.sent(), fixture.documents, "{words:?}");
    }
}

#[test]
fn a_dry_run_of_a_cached_layer_predicts_the_requests_exactly() {
    let fixture = Fixture::new();
    let (image, cache) = (format!("{}/one", fixture.registry.host()), tools::temporary_folder());
    let run = |words: &[&str]| Program::new(words).cache(&cache.path().join("cache")).run();
    run(&["carve", &image, "/last"]).done();
    let lines = run(&["carve", &image, "/last", "--dry-run", "--json"]).done().lines();
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["image", "plan", "end"]);
    let plan = &lines[1];
    assert_eq!((&plan["layer"], &plan["plan"], &plan["certain"]), (&0.into(), &"toc".into(), &true.into()));
    let before = fixture.registry.requests().len();
    assert_eq!(run(&["carve", &image, "/last"]).done().stdout, b"last\n");
    let requested: Vec<_> =
        fixture.registry.requests().drain(before..).filter_map(|request| request.range()).collect();
    assert_eq!(serde_json::to_value(&requested).unwrap(), plan["ranges"]);
    assert_eq!(plan["requests"], requested.len());
    assert_eq!(plan["bytes"], requested.iter().map(|(start, end)| end - start).sum::<usize>());
    // The TOC also proves that a file does not exist.
    run(&["peek", &image, "--all"]).done();
    run(&["carve", &image, "/none", "--dry-run"]).failed(3);
    assert_eq!(
        run(&["peek", &image, "--all", "--dry-run"]).done().stdout,
        b"at most 0 requests, 0 bytes of layers\n"
    );
}

#[test]
fn a_plan_includes_layers_that_may_be_read_after_the_first() {
    let demo = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
    let ran = Program::new(["carve", demo, "/etc/passwd", "--dry-run"]).run().done();
    let text = std::str::from_utf8(&ran.stdout).unwrap();
    let starts: Vec<_> = text.lines().map(|line| line.split(" sha256").next().unwrap()).collect();
    let total = "at most 3 requests, 825 bytes of layers";
    assert_eq!(starts, ["layer 2", "then perhaps layer 1", "then perhaps layer 0", total]);
    let ran = Program::new(["carve", demo, "/etc/passwd", "--dry-run", "--layer", "0"]).run().done();
    assert!(ran.stdout.ends_with(b"at most 1 request, 356 bytes of layers\n"));
}
