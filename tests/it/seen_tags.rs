//! A file of an image whose tag was seen before is asked for while the registry is asked what the tag means now.

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

/// Two images with a file of their own each, and which of them the tag means.
struct Images {
    layouts: [Layout; 2],
    meant: AtomicUsize,
}

/// Comes before the answer to a request; gives another one if it does.
type Script = Arc<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

/// A registry of them, whose answers can be changed, and the cache of those who ask it.
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
    fn warning(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

impl Images {
    fn new() -> Self {
        let layouts = ["old", "new"].map(|content| {
            let tar = Tar::new().file("f", content).file("noise", noise(2 << 20)).file("late", content);
            let image = Image::of([tar.finish()]);
            let digest = Digest::sha256(b"").to_string();
            let rootfs = json!({ "type": "layers", "diff_ids": [&digest, &digest] });
            // Of the old one everybody is warned, and who does not ask for its platform of that, too.
            let old = || image.clone().platform("linux", "mips", "").config("rootfs", rootfs);
            Layout::of(&if content == "old" { old() } else { image.clone() })
        });
        Self { layouts, meant: AtomicUsize::new(0) }
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
            if name == "latest" { self.digest(self.meant.load(Ordering::SeqCst)) } else { name.to_owned() };
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

    /// From now on.
    fn script(&self, script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// From now on, answers for what the gate awaits wait for it.
    fn gate(&self, gate: &Arc<Gate>) {
        let (gate, awaited) = (Arc::clone(gate), gate.awaited());
        self.script(move |request| {
            let (_, name) = request.path().rsplit_once('/').unwrap();
            let is_passed = !awaited.contains(name) || gate.pass(name);
            (!is_passed).then(|| Reply::status(404))
        });
    }

    /// A new run; the content, and what the registry was asked.
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
            let carved = tokio::time::timeout(PATIENCE, carving).await.expect("it stands still");
            cache.finish_writes();
            carved
        });
        let short = |request: Request| {
            let kind = request.path().rsplit('/').nth(1).unwrap_or_default().to_owned();
            format!("{} {kind}", request.method)
        };
        let mut asked: Vec<_> = self.server.requests().into_iter().skip(before).map(short).collect();
        asked.sort();
        (content.map(|content| String::from_utf8(content).unwrap()), asked)
    }

    #[track_caller]
    fn content(&self, path: &str) -> (String, Vec<String>) {
        let (content, asked) = self.carve(path);
        (content.unwrap(), asked)
    }
}

/// The answer to who shows no token, and that of the token server.
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

/// What a run asks for where everything is known.
const ONE_ROUND_TRIP: [&str; 2] = ["GET blobs", "HEAD manifests"];

#[test]
fn a_file_is_asked_for_while_the_tag_is() {
    let fixture = Fixture::new();
    for path in ["/f", "/late"] {
        assert_eq!(fixture.content(path).0, "old");
    }
    for path in ["/f", "/late"] {
        // Neither is answered before both have been asked for.
        fixture.gate(&Gate::awaiting(["latest".to_owned(), fixture.images.layer(0)]));
        let (content, asked) = fixture.content(path);
        assert_eq!((content.as_str(), asked), ("old", ONE_ROUND_TRIP.map(str::to_owned).to_vec()));
    }
}

#[test]
fn what_came_for_an_old_meaning_of_the_tag_is_thrown_away() {
    // The tag's answer comes after the old image's bytes were asked for, or these come after that.
    for last in ["latest", "layer"] {
        let fixture = Fixture::new();
        for path in ["/f", "/late"] {
            assert_eq!(fixture.content(path).0, "old");
        }
        fixture.images.meant.store(1, Ordering::SeqCst);
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
fn what_there_is_to_warn_of_is_told_once_and_of_the_image_that_is_meant() {
    let fixture = Fixture::new();
    let warnings = || std::mem::take(&mut *fixture.warnings.0.lock().unwrap());
    for _ in 0..3 {
        assert_eq!(fixture.content("/f").0, "old");
        let told = warnings();
        assert!(told.len() == 2 && told[0].contains("is for linux/mips"), "{told:?}");
        assert!(told[1].contains("2 DiffIDs for 1 layers"), "{told:?}");
    }
    // The old image is read first.
    fixture.images.meant.store(1, Ordering::SeqCst);
    fixture.gate(&Gate::awaiting(["latest".to_owned(), fixture.images.layer(0)]));
    assert_eq!(fixture.content("/f").0, "new");
    assert_eq!(warnings(), [""; 0]);
}

#[test]
fn a_warning_is_told_once_where_opening_the_image_needs_its_configuration_too() {
    let mut fixture = Fixture::new();
    fixture.platform = "linux/mips".parse().unwrap();
    for _ in 0..3 {
        assert_eq!(fixture.content("/f").0, "old");
        let told = std::mem::take(&mut *fixture.warnings.0.lock().unwrap());
        assert!(told.len() == 1 && told[0].contains("2 DiffIDs for 1 layers"), "{told:?}");
    }
    // Nothing is guessed of one that is refused for what it is.
    fixture.platform = "linux/s390x".parse().unwrap();
    assert!(fixture.carve("/f").0.is_err_and(|error| error.is_no_such_image()));
}

#[test]
fn an_index_that_says_something_else_of_the_same_image_is_believed_at_once() {
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
            let told = std::mem::take(&mut *fixture.warnings.0.lock().unwrap());
            let says = format!("is for linux/{architecture}");
            assert!(
                told.iter().filter(|told| told.contains("is for")).all(|told| told.contains(&says)),
                "{told:?}"
            );
            assert_eq!(told.len(), 2, "{told:?}");
        }
    }
}

#[test]
fn what_is_sent_counts_whatever_digest_was_told_before_it() {
    let fixture = Fixture::new();
    let lie = Digest::sha256(b"nothing has it").to_string();
    for image in [0, 1] {
        fixture.images.meant.store(image, Ordering::SeqCst);
        let (images, lie) = (Arc::clone(&fixture.images), lie.clone());
        fixture.script(move |request| {
            let reply = || images.answer(request).header("docker-content-digest", &lie);
            (request.method == "HEAD").then(reply)
        });
        for _ in 0..2 {
            let (content, asked) = fixture.content("/f");
            assert_eq!(content, ["old", "new"][image], "{asked:?}");
        }
    }
}

#[test]
fn a_tag_that_is_gone_is_gone_whatever_it_meant() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/f").0, "old");
    fixture.script(|request| request.path().ends_with("/latest").then(|| Reply::status(404)));
    let (content, _) = fixture.carve("/f");
    assert!(content.is_err_and(|error| error.is_no_such_image()));
}

#[test]
fn what_an_image_seen_before_lacks_is_told_once_it_is_known_to_be_meant() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/late").0, "old");
    assert!(fixture.carve("/not").0.is_err_and(|error| error.is_not_found()));
    fixture.images.meant.store(1, Ordering::SeqCst);
    assert_eq!(fixture.content("/f").0, "new");
}

#[test]
fn nothing_is_asked_for_beside_a_tag_of_which_a_part_is_not_known() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/f").0, "old");
    fs::remove_dir_all(fixture.folder.path().join("cache/blob")).unwrap();
    let (content, asked) = fixture.content("/f");
    let manifests: Vec<_> =
        asked.iter().map(String::as_str).filter(|what| what.ends_with("manifests")).collect();
    assert_eq!((content.as_str(), manifests), ("old", vec!["GET manifests", "HEAD manifests"]));
}

#[test]
fn a_registry_that_asked_for_a_token_is_asked_for_one_thing_until_there_is_one() {
    let fixture = Fixture::new();
    fixture.script(challenged);
    assert_eq!(fixture.content("/f").0, "old");
    // Nobody is answered before all that is known of the image has been read, which is when it could be asked for.
    let documents = fixture.folder.path().join("cache/blob/sha256");
    let documents: Vec<_> = fs::read_dir(documents).unwrap().map(|entry| entry.unwrap().path()).collect();
    for document in &documents {
        File::options().write(true).open(document).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    let is_unread =
        |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap() == SystemTime::UNIX_EPOCH;
    // With the token both are asked for.
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
    let (content, asked) = fixture.content("/f");
    assert_eq!(content, "old");
    assert_eq!(asked, ["GET ", "GET blobs", "HEAD manifests", "HEAD manifests"]);
}

#[test]
fn a_registry_that_asks_for_a_token_all_of_a_sudden_gets_one() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/f").0, "old");
    fixture.script(challenged);
    let (content, asked) = fixture.content("/f");
    let tokens = asked.iter().filter(|what| *what == "GET ").count();
    assert_eq!((content.as_str(), tokens), ("old", 1), "{asked:?}");
}

#[test]
fn under_a_budget_nothing_is_asked_for_that_may_not_be_needed() {
    let fixture = Fixture::new();
    assert_eq!(fixture.content("/f").0, "old");
    fixture.images.meant.store(1, Ordering::SeqCst);
    let before = fixture.server.requests().len();
    let reference = format!("{}/app", fixture.server.host()).parse().unwrap();
    let cache = Cache::open(&CacheOptions::new(fixture.folder.path().join("cache"))).unwrap();
    let client = Client::builder().cache(cache).max_bytes(1 << 20).build().unwrap();
    let carved = block_on(client.carve(&reference, &Platform::default(), "/f", &CarveOptions::default()));
    assert!(carved.unwrap().1.is_ok());
    let old = fixture.images.layer(0);
    let asked = fixture.server.requests();
    assert!(asked.iter().skip(before).all(|request| !request.path().ends_with(&old)));
}

#[test]
fn a_connection_to_where_blobs_lie_is_made_before_the_registry_sends_us_there() {
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
            // The registry answers nothing before somebody has connected to the storage.
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
        assert_eq!(storage.connections(), before + 1, "it is used");
    }
}
