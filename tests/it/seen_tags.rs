//! For a tag seen before, the file is requested while the tag is re-resolved.

use std::{
    fs::{self, File},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Instant, SystemTime},
};

use layerslayer::{Cache, CacheOptions, CarveOptions, Client, Digest, Error, Platform, Progress};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    gate::{Gate, PATIENCE},
    images::{Image, Layout, Tar, layout, noise},
    inspect::block_on,
    registry::{AUTHORITY, Certificate, OnPlain, Reply, Request, ScriptedRegistry},
    tools,
};

/// Two images with different files, and the one that the tag points to.
struct Images {
    layouts: [Layout; 2],
    current: AtomicUsize,
}

/// Runs before a request is answered, and may return another reply.
type Script = Arc<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

/// A registry of these images, whose replies can be changed, and the cache of its clients.
struct Fixture {
    server: ScriptedRegistry,
    images: Arc<Images>,
    script: Arc<Mutex<Script>>,
    folder: TempDir,
    warnings: Arc<Warnings>,
    platform: Platform,
}

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Progress for Warnings {
    fn event(&self, event: &layerslayer::Event) {
        if let layerslayer::Event::Warning { message, .. } = event {
            self.0.lock().unwrap().push(message.to_owned());
        }
    }
}

impl Images {
    fn new() -> Self {
        let layouts = ["old", "new"].map(|content| {
            let tar = Tar::new().file("f", content).file("noise", noise(2 << 20)).file("late", content);
            let image = Image::of([tar.finish()]);
            let digest = Digest::sha256(b"").to_string();
            let rootfs = json!({ "type": "layers", "diff_ids": [&digest, &digest] });
            // The old image causes a warning, and a second one unless its platform is requested.
            let old = || image.clone().platform("linux", "mips", "").config("rootfs", rootfs);
            Layout::of(&if content == "old" { old() } else { image.clone() })
        });
        Self { layouts, current: AtomicUsize::new(0) }
    }

    fn digest(&self, image: usize) -> String {
        let index = fs::read(self.layouts[image].path().join("index.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        index["manifests"][0]["digest"].as_str().unwrap().to_owned()
    }

    fn layer(&self, image: usize) -> String {
        let manifest = fs::read(self.layouts[image].blob_file(&self.digest(image))).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        manifest["layers"][0]["digest"].as_str().unwrap().to_owned()
    }

    fn answer(&self, request: &Request) -> Reply {
        let (_, name) = request.path().rsplit_once('/').unwrap();
        let digest =
            if name == "latest" { self.digest(self.current.load(Ordering::SeqCst)) } else { name.to_owned() };
        if digest.parse::<Digest>().is_err() {
            return Reply::status(404);
        }
        let found = self.layouts.iter().find_map(|layout| fs::read(layout.blob_file(&digest)).ok());
        match found {
            Some(bytes) if request.path().contains("/manifests/") => Reply::ok(bytes)
                .header("content-type", layout::MANIFEST)
                .header("docker-content-digest", &digest),
            Some(bytes) => Reply::blob(request, &bytes),
            None => Reply::status(404),
        }
    }
}

impl Fixture {
    fn new() -> Self {
        Self::over(ScriptedRegistry::start)
    }

    fn over(start: impl FnOnce(Box<dyn Fn(&Request) -> Reply + Send + Sync>) -> ScriptedRegistry) -> Self {
        let images = Arc::new(Images::new());
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Arc::new(|_: &Request| None)));
        let (answering, scripted) = (Arc::clone(&images), Arc::clone(&script));
        let server = start(Box::new(move |request| {
            let script = Arc::clone(&scripted.lock().unwrap());
            script(request).unwrap_or_else(|| answering.answer(request))
        }));
        Self {
            server,
            images,
            script,
            folder: tools::temporary_folder(),
            warnings: Arc::default(),
            platform: Platform::default(),
        }
    }

    /// Replaces the script.
    fn script(&self, script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// From now on, replies that the gate awaits wait for it.
    fn gate(&self, gate: &Arc<Gate>) {
        let (gate, awaited) = (Arc::clone(gate), gate.awaited());
        self.script(move |request| {
            let (_, name) = request.path().rsplit_once('/').unwrap();
            let is_passed = !awaited.contains(name) || gate.pass(name);
            (!is_passed).then(|| Reply::status(404))
        });
    }

    /// Carves a file as a new run does. Returns the content and the requests.
    fn carve(&self, path: &str) -> (Result<String, Error>, Vec<String>) {
        let before = self.server.requests().len();
        let reference = format!("{}/app", self.server.host()).parse().unwrap();
        let cache = Cache::open(&CacheOptions::new(self.folder.path().join("cache"))).unwrap();
        let mut client =
            Client::builder().cache(cache.clone()).progress(Arc::<Warnings>::clone(&self.warnings));
        if self.server.url().starts_with("https") {
            client = client.ca_file(AUTHORITY);
        }
        let client = client.build().unwrap();
        let content = block_on(async {
            let options = CarveOptions::default();
            let carving = async {
                let (_, file) = client.carve(&reference, &self.platform, path, &options).await?;
                file?.read_to_end(100).await
            };
            let carved = tokio::time::timeout(PATIENCE, carving).await.expect("carving hangs");
            cache.finish_writes();
            carved
        });
        let short = |request: Request| {
            let kind = request.path().rsplit('/').nth(1).unwrap_or_default().to_owned();
            format!("{} {kind}", request.method)
        };
        let mut requests: Vec<_> = self.server.requests().into_iter().skip(before).map(short).collect();
        requests.sort();
        (content.map(|content| String::from_utf8(content).unwrap()), requests)
    }

    #[track_caller]
    fn content(&self, path: &str) -> (String, Vec<String>) {
        let (content, requests) = self.carve(path);
        (content.unwrap(), requests)
    }
}

/// The challenge for requests without a token, and the token server's reply.
fn challenged(request: &Request) -> Option<Reply> {
    match request.authorization() {
        _ if request.path() == "/token" => Some(Reply::token("t")),
        Some("Bearer t") => None,
        _ => {
            let realm = format!("http://{}/token", request.header("host").unwrap());
            Some(Reply::challenge(&format!(
                r#"Bearer realm="{realm}",service="s",scope="repository:app:pull""#
            )))
        }
    }
}

/// The requests of a run if everything is cached.
const ONE_ROUND_TRIP: [&str; 2] = ["GET blobs", "HEAD manifests"];

#[test]
fn the_file_is_requested_while_the_tag_is_resolved() {
    let fixture = Fixture::new();
    for path in ["/f", "/late"] {
        assert_eq!(fixture.content(path).0, "old");
    }
    for path in ["/f", "/late"] {
        // Neither request is answered before both have arrived.
        fixture.gate(&Gate::awaiting(["latest".to_owned(), fixture.images.layer(0)]));
        let (content, requests) = fixture.content(path);
        assert_eq!((content.as_str(), requests), ("old", ONE_ROUND_TRIP.map(str::to_owned).to_vec()));
    }
}

#[test]
fn bytes_of_the_old_image_are_discarded_if_the_tag_has_moved() {
    // The tag's reply arrives after the old image's bytes were requested, or the other way round.
    for last in ["latest", "layer"] {
        let fixture = Fixture::new();
        for path in ["/f", "/late"] {
            assert_eq!(fixture.content(path).0, "old");
        }
        fixture.images.current.store(1, Ordering::SeqCst);
        let (old, gate) = (fixture.images.layer(0), Gate::awaiting(["first".to_owned()]));
        let first = if last == "latest" { old.clone() } else { "latest".to_owned() };
        fixture.script(move |request| {
            let (_, name) = request.path().rsplit_once('/').unwrap();
            if name == first {
                gate.came("first");
            } else if name == old || name == "latest" {
                assert!(gate.pass(""));
            }
            None
        });
        for path in ["/f", "/late"] {
            assert_eq!(fixture.content(path).0, "new", "{last}");
        }
    }
}

#[test]
fn warnings_are_reported_once_and_only_for_the_current_image() {
    let fixture = Fixture::new();
    let warnings = || std::mem::take(&mut *fixture.warnings.0.lock().unwrap());
    for _ in 0..3 {
        assert_eq!(fixture.content("/f").0, "old");
        let warned = warnings();
        assert!(warned.len() == 2 && warned[0].contains("is for linux/mips"), "{warned:?}");
        assert!(warned[1].contains("2 DiffIDs for 1 layers"), "{warned:?}");
    }
    // The old image is read first.
    fixture.images.current.store(1, Ordering::SeqCst);
    fixture.gate(&Gate::awaiting(["latest".to_owned(), fixture.images.layer(0)]));
    assert_eq!(fixture.content("/f").0, "new");
    assert_eq!(warnings(), [""; 0]);
}

#[test]
fn a_warning_is_reported_once_even_if_opening_needs_the_configuration() {
    let mut fixture = Fixture::new();
    fixture.platform = "linux/mips".parse().unwrap();
    for _ in 0..3 {
        assert_eq!(fixture.content("/f").0, "old");
        let warned = std::mem::take(&mut *fixture.warnings.0.lock().unwrap());
        assert!(warned.len() == 1 && warned[0].contains("2 DiffIDs for 1 layers"), "{warned:?}");
    }
    // An image for another platform is refused, not guessed.
    fixture.platform = "linux/s390x".parse().unwrap();
    assert!(fixture.carve("/f").0.is_err_and(|error| error.is_no_such_image()));
}

#[test]
fn a_changed_index_entry_for_the_same_image_takes_effect_at_once() {
    let fixture = Fixture::new();
    let manifest = fs::read(fixture.images.layouts[1].blob_file(&fixture.images.digest(1))).unwrap();
    let manifest = fixture.images.layouts[1].blob(&manifest, layout::MANIFEST);
    for (architecture, runs) in [("riscv64", 2), ("s390x", 2), ("riscv64", 1)] {
        let mut entry = manifest.clone();
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        let index = json!({ "schemaVersion": 2, "mediaType": layout::INDEX, "manifests": [entry] });
        let index = index.to_string().into_bytes();
        let digest = Digest::sha256(&index).to_string();
        fixture.script(move |request| {
            let (_, name) = request.path().rsplit_once('/').unwrap();
            let reply = Reply::ok(index.clone()).header("content-type", layout::INDEX);
            (name == "latest" || name == digest).then(|| reply.header("docker-content-digest", &digest))
        });
        for _ in 0..runs {
            assert_eq!(fixture.content("/f").0, "new");
            let warned = std::mem::take(&mut *fixture.warnings.0.lock().unwrap());
            let expected = format!("is for linux/{architecture}");
            assert!(
                warned.iter().filter(|text| text.contains("is for")).all(|text| text.contains(&expected)),
                "{warned:?}"
            );
            assert_eq!(warned.len(), 2, "{warned:?}");
        }
    }
}

#[test]
fn the_body_of_a_manifest_takes_precedence_over_the_digest_header() {
    let fixture = Fixture::new();
    let wrong = Digest::sha256(b"nothing has it").to_string();
    for image in [0, 1] {
        fixture.images.current.store(image, Ordering::SeqCst);
        let (images, wrong) = (Arc::clone(&fixture.images), wrong.clone());
        fixture.script(move |request| {
            let reply = || images.answer(request).header("docker-content-digest", &wrong);
            (request.method == "HEAD").then(reply)
        });
        for _ in 0..2 {
            let (content, requests) = fixture.content("/f");
            assert_eq!(content, ["old", "new"][image], "{requests:?}");
        }
    }
}

#[test]
fn a_deleted_tag_is_not_answered_from_the_cache() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/f").0, "old");
    fixture.script(|request| request.path().ends_with("/latest").then(|| Reply::status(404)));
    let (content, _) = fixture.carve("/f");
    assert!(content.is_err_and(|error| error.is_no_such_image()));
}

#[test]
fn a_missing_file_is_reported_only_after_the_tag_is_resolved() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/late").0, "old");
    assert!(fixture.carve("/not").0.is_err_and(|error| error.is_not_found()));
    fixture.images.current.store(1, Ordering::SeqCst);
    assert_eq!(fixture.content("/f").0, "new");
}

#[test]
fn nothing_is_requested_early_if_a_document_is_not_cached() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/f").0, "old");
    fs::remove_dir_all(fixture.folder.path().join("cache/blob")).unwrap();
    let (content, requests) = fixture.content("/f");
    let manifests: Vec<_> =
        requests.iter().map(String::as_str).filter(|what| what.ends_with("manifests")).collect();
    assert_eq!((content.as_str(), manifests), ("old", vec!["GET manifests", "HEAD manifests"]));
}

#[test]
fn a_registry_that_needs_a_token_gets_one_request_until_the_token_arrives() {
    let fixture = Fixture::new();
    fixture.script(challenged);
    assert_eq!(fixture.content("/f").0, "old");
    // No request is answered before all cached documents have been read, which is when the file could be requested.
    let documents = fixture.folder.path().join("cache/blob/sha256");
    let documents: Vec<_> = fs::read_dir(documents).unwrap().map(|entry| entry.unwrap().path()).collect();
    for document in &documents {
        File::options().write(true).open(document).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    let is_unread =
        |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap() == SystemTime::UNIX_EPOCH;
    // With the token, both are requested.
    let gate = Gate::awaiting(["latest".to_owned(), fixture.images.layer(0)]);
    fixture.script(move |request| {
        let patience = Instant::now() + PATIENCE;
        while documents.iter().any(is_unread) && Instant::now() < patience {
            thread::yield_now();
        }
        let reply = challenged(request);
        let (_, name) = request.path().rsplit_once('/').unwrap();
        if reply.is_none() && !gate.pass(name) {
            return Some(Reply::status(404));
        }
        reply
    });
    let (content, requests) = fixture.content("/f");
    assert_eq!(content, "old");
    assert_eq!(requests, ["GET ", "GET blobs", "HEAD manifests", "HEAD manifests"]);
}

#[test]
fn a_registry_that_starts_to_require_a_token_gets_one() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/f").0, "old");
    fixture.script(challenged);
    let (content, requests) = fixture.content("/f");
    let tokens = requests.iter().filter(|what| *what == "GET ").count();
    assert_eq!((content.as_str(), tokens), ("old", 1), "{requests:?}");
}

#[test]
fn under_a_budget_nothing_is_requested_early() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/f").0, "old");
    fixture.images.current.store(1, Ordering::SeqCst);
    let before = fixture.server.requests().len();
    let reference = format!("{}/app", fixture.server.host()).parse().unwrap();
    let cache = Cache::open(&CacheOptions::new(fixture.folder.path().join("cache"))).unwrap();
    let client = Client::builder().cache(cache).max_bytes(1 << 20).build().unwrap();
    let carved = block_on(client.carve(&reference, &Platform::default(), "/f", &CarveOptions::default()));
    assert!(carved.unwrap().1.is_ok());
    let old = fixture.images.layer(0);
    let requests = fixture.server.requests();
    assert!(requests.iter().skip(before).all(|request| !request.path().ends_with(&old)));
}

#[test]
fn the_blob_storage_is_connected_before_the_registry_redirects_to_it() {
    for is_secure in [false, true] {
        let start = |script: Box<dyn Fn(&Request) -> Reply + Send + Sync>| match is_secure {
            true => ScriptedRegistry::start_tls("127.0.0.1", Certificate::Signed, OnPlain::Alert, script),
            false => ScriptedRegistry::start(script),
        };
        let fixture = Fixture::over(start);
        let images = Arc::clone(&fixture.images);
        let storage = Arc::new(start(Box::new(move |request| images.answer(request))));
        let redirect = {
            let storage = Arc::clone(&storage);
            move |request: &Request| {
                let is_blob = request.path().contains("/blobs/");
                is_blob.then(|| Reply::redirect(307, &format!("{}{}", storage.url(), request.target)))
            }
        };
        fixture.script(redirect.clone());
        assert_eq!(fixture.content("/f").0, "old");
        let before = storage.connections();
        let watched = Arc::clone(&storage);
        fixture.script(move |request| {
            // The registry does not answer before there is a connection to the storage.
            let patience = Instant::now() + PATIENCE;
            while watched.connections() == before {
                if Instant::now() > patience {
                    return Some(Reply::status(404));
                }
                thread::yield_now();
            }
            redirect(request)
        });
        assert_eq!(fixture.content("/f").0, "old");
        assert_eq!(storage.connections(), before + 1, "the connection is used");
    }
}
