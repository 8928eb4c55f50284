//! SOCI indexes of version 1, which merely refer to an image: looked for beside the scan of a large layer, against a registry that
//! decides who waits for whom.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use layerslayer::{Client, Digest, Plan, Platform, Progress};
use serde_json::{Value, json};

use crate::support::{
    event::Event,
    images::{
        Compression, Image, Layer, Layout, Tar,
        layout::{INDEX, MANIFEST},
        noise,
    },
    inspect::block_on,
    program::{Program, Ran},
    registry::{Reply, Request, ScriptedRegistry},
    tools,
    ztoc::{self, Stored},
};

const SOCI_V1: &str = "application/vnd.amazon.soci.index.v1+json";

/// Bytes before `near`: nearly as many as a scan has asked for when it is asked beside it what refers to the image.
const NEAR_BYTES: usize = (4 << 20) - (12 << 10);

/// A scan waits here for what is asked beside it; what a table leads to lies farther away.
const HELD_BYTES: Range<usize> = NEAR_BYTES..6 << 20;

/// What the registry says of what refers to the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Referrers {
    /// Nothing refers to it.
    Empty,
    /// The registry knows no such question, and has no tag in its place.
    Unknown,
    /// An index is listed.
    Listed,
    /// An index is listed on the second page.
    Paged,
    /// The answer never comes.
    Silent,
    /// The tag in its place lists an index.
    Tagged,
}

/// An image of a large base under a small layer, with a SOCI index of version 1.
struct Registry {
    server: ScriptedRegistry,
    base: String,
    size: u64,
    /// Lets the scan of the base go on behind its first ranges.
    scan: Arc<Event>,
    /// The zTOC has been asked for.
    table_asked: Arc<Event>,
    /// Changes the first byte of the last file's content.
    is_tampering: Arc<AtomicBool>,
}

impl Registry {
    /// The scan of the base goes on once `scan` has happened. `change` is done to the zTOC.
    fn new(referrers: Referrers, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Self {
        Self::of(20 << 20, referrers, change)
    }

    fn of(large: usize, referrers: Referrers, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Self {
        Self::over(None, large, referrers, change)
    }

    /// One with a layer below the base, which never comes: what the table leads to comes once nobody waits for it any more.
    fn over(
        below: Option<Layer>,
        large: usize,
        referrers: Referrers,
        change: impl Fn(Vec<u8>) -> Vec<u8>,
    ) -> Self {
        let (small, large) = (noise(NEAR_BYTES), noise(large));
        let files: [(&str, &[u8]); 5] = [
            ("first", b"first\n"),
            ("small", &small),
            ("near", b"near\n"),
            ("large", &large),
            ("last", b"last\n"),
        ];
        let tar = files.iter().fold(Tar::new(), |tar, (name, content)| tar.file(name, content));
        let stored = Stored::new(&tar.finish());
        let files = files.map(|(name, content)| (name, content.len() as u64));
        let layout = Layout::new();
        let mut entry = layout.blob(&change(ztoc::of(&stored, &files)), "application/octet-stream");
        let table = entry["digest"].as_str().unwrap().to_owned();
        layout.blob(b"{}", SOCI_V1);
        let base = Layer::new(&stored.tar, Compression::None)
            .media_type(&Compression::Gzip.media_type())
            .blob(stored.blob.clone());
        let (digest, size) = (base.digest(), base.blob.len() as u64);
        let top = Layer::new(&Tar::new().file("top", "top\n").finish(), Compression::Gzip);
        let lowest = below.as_ref().map(Layer::digest);
        let image = below.into_iter().fold(Image::new(), Image::layer);
        let manifest = layout.image(&image.layer(base).layer(top));
        let subject = manifest["digest"].as_str().unwrap().to_owned();
        entry["annotations"] = json!({ "com.amazon.soci.image-layer-digest": &digest });
        let index = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": SOCI_V1, "digest": Digest::sha256(b"{}").to_string(), "size": 2 },
            "layers": [entry], "subject": &manifest,
        });
        let mut index = layout.blob(index.to_string().as_bytes(), MANIFEST);
        index["artifactType"] = SOCI_V1.into();
        let list = |manifests: &[Value]| {
            let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
            Reply::ok(list.to_string()).header("content-type", INDEX)
        };
        let (empty, full) = (list(&[]), list(&[index]));
        let (scan, asked) = (Arc::new(Event::default()), Arc::new(Event::default()));
        let table_asked = Arc::clone(&asked);
        let is_tampering = Arc::new(AtomicBool::new(false));
        let (held, blob, tampered) = (Arc::clone(&scan), digest.clone(), Arc::clone(&is_tampering));
        let left = Arc::new(Event::default());
        let listed = move |request: &Request, tag: bool| match referrers {
            Referrers::Empty if !tag => empty.clone(),
            Referrers::Listed if !tag => full.clone(),
            Referrers::Paged if !tag && request.query().contains("last=1") => full.clone(),
            Referrers::Paged if !tag => {
                let next = format!("<{}?n=1&last=1>; rel=\"next\"", request.path());
                empty.clone().header("link", &next)
            }
            Referrers::Silent if !tag => Reply::silence(),
            Referrers::Tagged if tag => full.clone(),
            _ => Reply::status(404),
        };
        let server = ScriptedRegistry::start(move |request: &Request| {
            let (rest, name) = request.path().rsplit_once('/').unwrap();
            if rest == "/v2/app/referrers" {
                return listed(request, false);
            }
            if name == subject.replace(':', "-") {
                return listed(request, true);
            }
            let name = if name == "1" { &subject } else { name };
            let Ok(mut bytes) = fs::read(layout.blob_file(name)) else { return Reply::status(404) };
            if rest == "/v2/app/manifests" {
                return Reply::ok(bytes)
                    .header("content-type", MANIFEST)
                    .header("docker-content-digest", name);
            }
            if name == table {
                asked.happen();
            }
            if lowest.as_deref() == Some(name) {
                let left = Arc::clone(&left);
                return Reply::blob(request, &bytes).stall_until_left(100, move || left.happen());
            }
            if name == blob {
                // A scan goes on where it was; a table leads far away, or to the beginning.
                let is_held =
                    |(start, end)| (64 << 10..HELD_BYTES.end).contains(&start) && end > HELD_BYTES.start;
                if request.range().is_some_and(is_held) && !held.wait() {
                    return Reply::status(500);
                }
                let is_far = |(start, _)| start >= HELD_BYTES.end;
                if lowest.is_some() && request.range().is_some_and(is_far) && !left.wait() {
                    return Reply::status(404);
                }
                if tampered.load(Ordering::SeqCst) {
                    let at = bytes.windows(5).rposition(|content| content == b"last\n").unwrap();
                    bytes[at] ^= 1;
                }
            }
            Reply::blob(request, &bytes)
        });
        Self { server, base: digest, size, scan, table_asked, is_tampering }
    }

    /// One whose scans wait for nothing.
    fn open(referrers: Referrers) -> Self {
        let registry = Self::new(referrers, |table| table);
        registry.scan.happen();
        registry
    }

    fn program(&self, words: &[&str]) -> Program {
        let reference = format!("{}/app:1", self.server.host());
        Program::new([words[0], &reference, "--no-cache"]).args(&words[1..])
    }

    fn carve(&self, words: &[&str]) -> Ran {
        self.program(&[&["carve"], words].concat()).run()
    }

    /// Where a key is trusted, so that it is asked before the layer is read what refers to the image.
    fn carve_trusting(&self, path: &str) -> Ran {
        let folder = tools::temporary_folder();
        let mut keygen = std::process::Command::new(env!("CARGO_BIN_EXE_layerslayer"));
        let key = tools::run(keygen.args(["toc", "keygen", "-o"]).arg(folder.path().join("private")));
        fs::write(folder.path().join("public"), key).unwrap();
        let program = Program::new(["carve", &format!("{}/app:1", self.server.host()), path]);
        program.variable("LAYERSLAYER_TOC_KEY", tools::text(&folder.path().join("public"))).run()
    }

    /// What was asked of the referrers.
    fn asked(&self) -> usize {
        let is_asked = |request: &&Request| {
            request.path().contains("/referrers/") || request.path().contains("/manifests/sha256-")
        };
        self.server.requests().iter().filter(is_asked).count()
    }
}

/// How it was read, and how far checked.
fn how(ran: &Ran) -> (&str, &str) {
    (ran.report["plan"].as_str().unwrap(), ran.report["verified"].as_str().unwrap())
}

#[test]
fn a_file_far_in_a_large_layer_is_read_by_an_index_that_refers_to_the_image() {
    for (referrers, questions) in [(Referrers::Listed, 1), (Referrers::Paged, 2), (Referrers::Tagged, 2)] {
        // The scan, left alone, would never come to its end.
        let registry = Registry::new(referrers, |table| table);
        let ran = registry.carve(&["/last"]).done().said("not verified");
        assert_eq!((how(&ran), ran.stdout.as_slice()), (("soci", "none"), &b"last\n"[..]), "{referrers:?}");
        assert_eq!(ran.report["final"], false, "nobody knows what the table leaves out");
        let bytes = ran.report["bytes_fetched"].as_u64().unwrap();
        assert!(bytes < registry.size / 2, "{bytes} of {}", registry.size);
        assert_eq!(registry.asked(), questions, "{referrers:?}");
        registry.scan.happen();
        // That there is no such file the layer itself says.
        registry.carve(&["/nowhere"]).failed(3);
        assert!(registry.server.requests_to(&format!("/v2/app/blobs/{}", registry.base)).len() > 4);
    }
}

/// The content of the files in a tar archive, by their names.
fn unpacked(archive: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(archive);
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let (mut content, name) = (String::new(), entry.path().unwrap().display().to_string());
        entry.read_to_string(&mut content).unwrap();
        (name, content)
    });
    files.collect()
}

#[test]
fn several_files_are_read_by_an_index_that_lists_all_of_them() {
    // The scan, left alone, would never come to its end.
    let registry = Registry::new(Referrers::Listed, |table| table);
    let ran = registry.carve(&["/last", "/first", "/top", "--tar"]).done();
    let expected = ["first", "last", "top"].map(|name| (name.to_owned(), format!("{name}\n")));
    assert_eq!((how(&ran), unpacked(&ran.stdout)), (("soci", "none"), expected.clone().into()));
    let bytes = ran.report["bytes_fetched"].as_u64().unwrap();
    assert!(bytes < registry.size / 2, "{bytes} of {}", registry.size);
    assert_eq!((&ran.report["final"], registry.asked()), (&json!(false), 1));
    // What it does not list only the layer itself can tell.
    registry.scan.happen();
    let ran = registry.carve(&["/last", "/first", "/top", "/nowhere", "--tar"]).failed(3);
    assert_eq!((how(&ran), unpacked(&ran.stdout)), (("scan", "blob"), expected.into()));
}

#[test]
fn an_image_to_which_nothing_refers_is_read_as_ever() {
    for (referrers, questions) in [(Referrers::Empty, 1), (Referrers::Unknown, 2)] {
        let registry = Registry::open(referrers);
        let ran = registry.carve(&["/last"]).done();
        assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]));
        assert_eq!((ran.stderr.as_str(), registry.asked()), ("", questions));
        // All of the base, which answers at its end.
        let blob = format!("/v2/app/blobs/{}", registry.base);
        let ranges = registry.server.requests_to(&blob);
        let bytes: usize = ranges.iter().filter_map(Request::range).map(|(start, end)| end - start).sum();
        assert_eq!(bytes as u64, registry.size);
    }
}

#[test]
fn nothing_is_asked_where_the_first_range_answers_or_more_is_wanted_than_a_file() {
    let registry = Registry::open(Referrers::Listed);
    assert_eq!(registry.carve(&["/first"]).done().stdout, b"first\n");
    assert_eq!(registry.carve(&["/top"]).done().stdout, b"top\n");
    assert_eq!(how(&registry.carve(&["/last", "--verify"]).done()), ("scan", "blob"));
    assert_eq!(registry.carve(&["/last", "--max-bytes", "100M"]).done().stdout, b"last\n");
    registry.program(&["peek", "--all"]).run().done();
    registry.carve(&["--glob", "la*", "--tar"]).done();
    assert_eq!(registry.asked(), 0);
}

#[test]
fn an_answer_that_never_comes_is_not_waited_for() {
    let registry = Registry::open(Referrers::Silent);
    let ran = registry.carve(&["/last"]).done();
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]));
    assert_eq!((ran.stderr.as_str(), registry.asked()), ("", 1));
}

/// Lets a scan go on once there is a warning.
struct Warned(Arc<Event>, Mutex<Vec<String>>);

impl Progress for Warned {
    fn warning(&self, message: &str) {
        self.1.lock().unwrap().push(message.to_owned());
        self.0.happen();
    }
}

#[test]
fn a_table_that_cannot_be_is_named_and_the_scan_goes_on() {
    let registry = Registry::new(Referrers::Listed, |mut table| {
        table.truncate(table.len() / 2);
        table
    });
    let warned = Arc::new(Warned(Arc::clone(&registry.scan), Mutex::default()));
    let client = Client::builder().progress(Arc::<Warned>::clone(&warned)).build().unwrap();
    let reference = format!("{}/app:1", registry.server.host()).parse().unwrap();
    block_on(async {
        let image = client.image(&reference, &Platform::default()).await.unwrap();
        let mut file = image.carve("last").await.unwrap();
        assert_eq!(file.read_to_end(1 << 20).await.unwrap(), b"last\n");
        assert_eq!(file.outcome().unwrap().plan, Plan::Scan);
    });
    let warnings = warned.1.lock().unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("SOCI"), "{warnings:?}");
}

#[test]
fn where_table_and_content_disagree_all_of_the_layer_is_read_and_tells() {
    // The table has the digest of other content.
    let wrong = |table: Vec<u8>| {
        let stated = table.windows(7).rposition(|part| part == b"sha256:").unwrap() + 7;
        let mut table = table;
        table[stated] = if table[stated] == b'0' { b'1' } else { b'0' };
        table
    };
    let registry = Registry::new(Referrers::Listed, wrong);
    let ran = registry.carve(&["/last"]).done().said("nothing vouches for the table");
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]));
    assert_eq!(registry.asked(), 1);
    registry.scan.happen();
    let ran = registry.carve(&["/last", "/first", "--tar"]).done().said("nothing vouches for the table");
    let expected = ["first", "last"].map(|name| (name.to_owned(), format!("{name}\n")));
    assert_eq!((how(&ran), unpacked(&ran.stdout)), (("scan", "blob"), expected.into()));
    // The content is not what it was.
    let registry = Registry::new(Referrers::Listed, |table| table);
    registry.is_tampering.store(true, Ordering::SeqCst);
    let ran = registry.carve(&["/last"]).failed(8).said("nothing vouches for the table");
    assert!(!ran.stdout.starts_with(b"last"));
    // The same where it is known what refers to the image before the layer is read.
    let ran = registry.carve_trusting("/last").failed(8).said("nothing vouches for the table");
    assert!(!ran.stdout.starts_with(b"last"));
    registry.scan.happen();
}

#[test]
fn that_a_file_is_not_there_is_said_not_to_be_vouched_for_where_only_a_table_tells() {
    let registry = Registry::open(Referrers::Listed);
    let ran = registry.carve_trusting("/nowhere").failed(3);
    ran.said("the answer rests on a table of contents that nobody vouches for");
    let first = registry.carve_trusting("/last").done();
    assert_eq!((how(&first), &first.report["final"]), (("soci", "none"), &json!(false)));
}

#[test]
fn a_table_that_is_larger_than_its_layer_is_not_fetched() {
    let large = |mut table: Vec<u8>| {
        table.resize(32 << 20, 0);
        table
    };
    let registry = Registry::new(Referrers::Listed, large);
    registry.scan.happen();
    assert_eq!(how(&registry.carve_trusting("/last").done()), ("scan", "blob"));
    assert!(!registry.table_asked.has_happened());
    assert_eq!(registry.asked(), 1);
}

#[test]
fn nothing_is_asked_for_the_sake_of_a_smaller_layer() {
    let registry = Registry::of(5 << 20, Referrers::Listed, |table| table);
    registry.scan.happen();
    assert_eq!(how(&registry.carve(&["/last"]).done()), ("scan", "blob"));
    assert_eq!(registry.asked(), 0);
}

#[test]
fn a_scan_that_has_asked_for_the_file_goes_on() {
    let registry = Registry::new(Referrers::Listed, |table| table);
    let ran = thread::scope(|scope| {
        scope.spawn(|| {
            assert!(registry.table_asked.wait());
            registry.scan.happen();
        });
        registry.carve(&["/near"]).done()
    });
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "none"), &b"near\n"[..]));
}

#[test]
fn what_was_guessed_of_other_layers_is_let_go_before_content_is_read_by_a_table() {
    let below = Layer::new(&Tar::new().file("below", noise(1_000)).finish(), Compression::Gzip);
    let registry = Registry::over(Some(below), 20 << 20, Referrers::Listed, |table| table);
    let ran = registry.carve(&["/last", "--parallel-layers=3"]).done();
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("soci", "none"), &b"last\n"[..]));
    registry.scan.happen();
}

#[test]
fn a_dry_run_says_that_less_may_be_read() {
    let registry = Registry::open(Referrers::Listed);
    let said = "; less if a SOCI index refers to the image";
    let plan = |words: &[&str]| String::from_utf8(registry.carve(words).done().stdout).unwrap();
    let lines = plan(&["/last", "--dry-run"]);
    assert_eq!(lines.matches(said).count(), 1, "{lines}");
    assert!(lines.lines().any(|line| line.contains("layer 0") && line.contains(said)), "{lines}");
    let ran = registry.carve(&["/last", "--dry-run", "--json"]).done();
    let asks: Vec<_> = ran.lines().iter().filter(|line| line["type"] == "plan").cloned().collect();
    assert_eq!(asks.iter().map(|line| line["asks_referrers"] == true).collect::<Vec<_>>(), [false, true]);
    assert_eq!(plan(&["/last", "/first", "--dry-run", "--tar"]).matches(said).count(), 1);
    for words in [&["/last", "--dry-run", "--verify"][..], &["--glob", "la*", "--dry-run", "--tar"]] {
        assert_eq!(plan(words).matches(said).count(), 0, "{words:?}");
    }
    assert_eq!(registry.asked(), 0);
}
