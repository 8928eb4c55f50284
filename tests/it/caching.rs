//! What a second run requests from a registry, and which cached content it does not trust.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use layerslayer::{Cache, CacheOptions, Client, Digest, Error, Image, Platform};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        self, Layout, Tar,
        transport::{Trust, push},
    },
    inspect::{block_on, chain},
    program::Program,
    recorder::Recorder,
    registry::{Reply, Request, ScriptedRegistry},
    tools,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// How the registry answers HEAD requests.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Head {
    /// With the digest.
    #[default]
    Digest,
    /// With this status.
    Status(u16),
    /// Without the digest.
    Silent,
}

/// The content of the registry.
#[derive(Default)]
struct Content {
    /// Media type and content, by the end of the path.
    documents: BTreeMap<String, (String, Vec<u8>)>,
    /// Digests of tags.
    tags: BTreeMap<String, String>,
    head: Head,
    is_locked: bool,
}

/// A registry whose content changes, and the cache of its clients.
struct Fixture {
    server: ScriptedRegistry,
    content: Arc<Mutex<Content>>,
    folder: TempDir,
}

impl Content {
    /// Stores a document below `folder`; returns its descriptor.
    fn put(&mut self, folder: &str, media_type: &str, document: &Value) -> Value {
        let bytes = serde_json::to_vec(document).unwrap();
        let (digest, size) = (Digest::sha256(&bytes), bytes.len());
        self.documents.insert(format!("{folder}/{digest}"), (media_type.to_owned(), bytes));
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size })
    }

    /// Tags an image with this author, alone or in an index; returns its digest.
    fn image(&mut self, tag: &str, author: &str, is_index: bool) -> String {
        let platform = Platform::default();
        let config = json!({
            "os": platform.os(), "architecture": platform.architecture(), "author": author,
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = self.put("blobs", CONFIG, &config);
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] });
        let mut top = self.put("manifests", MANIFEST, &manifest);
        if is_index {
            top["platform"] = json!({ "os": platform.os(), "architecture": platform.architecture() });
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [top] });
            top = self.put("manifests", INDEX, &index);
        }
        let digest = top["digest"].as_str().unwrap().to_owned();
        self.tags.insert(tag.to_owned(), digest.clone());
        digest
    }

    fn answer(&self, request: &Request) -> Reply {
        if self.is_locked {
            return Reply::challenge(r#"Basic realm="locked""#);
        }
        let Some(mut path) = request.path().strip_prefix("/v2/app/").map(str::to_owned) else {
            return Reply::status(404);
        };
        if let Some(digest) = path.strip_prefix("manifests/").and_then(|tag| self.tags.get(tag)) {
            path = format!("manifests/{digest}");
        }
        let Some((media_type, bytes)) = self.documents.get(&path) else { return Reply::status(404) };
        let reply = Reply::ok(bytes.clone()).header("content-type", media_type);
        match self.head {
            Head::Status(status) if request.method == "HEAD" => Reply::status(status),
            Head::Silent => reply,
            _ => reply.header("docker-content-digest", path.rsplit_once('/').unwrap().1),
        }
    }
}

impl Fixture {
    fn new() -> Self {
        let content = Arc::<Mutex<Content>>::default();
        let shared = Arc::clone(&content);
        let server = ScriptedRegistry::start(move |request| shared.lock().unwrap().answer(request));
        Self { server, content, folder: tools::temporary_folder() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.content.lock().unwrap())
    }

    fn cache(&self) -> Cache {
        Cache::open(&CacheOptions::new(self.folder.path().join("cache"))).unwrap()
    }

    /// Opens `app` with this tag or digest, as a new run does. Returns the image and the requests.
    fn open(&self, suffix: &str) -> (Result<Image, Error>, Vec<String>) {
        let before = self.server.requests().len();
        let reference = format!("{}/app{suffix}", self.server.host()).parse().unwrap();
        let cache = self.cache();
        let client = Client::builder().cache(cache.clone()).build().unwrap();
        let image = block_on(async {
            let image = match client.image(&reference, &Platform::default()).await {
                Ok(image) => image.config().await.map(drop).map(|()| image.clone()),
                Err(error) => Err(error),
            };
            cache.finish_writes();
            image
        });
        let requests = self.server.requests().into_iter().skip(before);
        let short = |request: Request| {
            let (_, last) = request.target.rsplit_once('/').unwrap();
            let kind = if request.target.contains("/blobs/") { "blob" } else { "manifest" };
            format!(
                "{} {kind} {}",
                request.method,
                last.split_once(':').map_or(last, |(algorithm, _)| algorithm)
            )
        };
        (image, requests.map(short).collect())
    }

    /// Opens it successfully. Returns the author and the requests.
    #[track_caller]
    fn author(&self, suffix: &str) -> (String, Vec<String>) {
        let (image, requests) = self.open(suffix);
        let image = image.unwrap_or_else(|error| panic!("{suffix}: {}", chain(&error)));
        (block_on(image.config()).unwrap().author().unwrap().to_owned(), requests)
    }
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

#[test]
fn a_tag_seen_before_costs_exactly_one_head_request() {
    let fixture = Fixture::new();
    for is_index in [false, true] {
        let tag = if is_index { "index" } else { "single" };
        fixture.change(|content| content.image(tag, tag, is_index));
        let what = format!(":{tag}");
        let (author, requests) = fixture.author(&what);
        let mut expected = vec![format!("GET manifest {tag}")];
        expected.extend(is_index.then(|| "GET manifest sha256".to_owned()));
        expected.push("GET blob sha256".to_owned());
        assert_eq!((author.as_str(), requests), (tag, expected));
        for _ in 0..2 {
            assert_eq!(fixture.author(&what), (tag.to_owned(), vec![format!("HEAD manifest {tag}")]));
        }
    }
    let heads: Vec<_> =
        fixture.server.requests().into_iter().filter(|request| request.method == "HEAD").collect();
    // Without all of these types, distribution answers 404 or sends another manifest.
    for media_type in [INDEX, MANIFEST, DOCKER_MANIFEST] {
        assert!(heads.iter().all(|head| head.header("accept").unwrap().contains(media_type)));
    }
}

#[test]
fn a_moved_tag_is_never_answered_from_the_cache() {
    let fixture = Fixture::new();
    fixture.change(|content| content.image("1", "old", false));
    assert_eq!(fixture.author(":1").0, "old");
    fixture.change(|content| content.image("1", "new", false));
    let new = ["HEAD manifest 1", "GET manifest 1", "GET blob sha256"].map(str::to_owned).to_vec();
    assert_eq!(fixture.author(":1"), ("new".to_owned(), new));
    assert_eq!(fixture.author(":1"), ("new".to_owned(), vec!["HEAD manifest 1".to_owned()]));
    fixture.change(|content| content.image("1", "old", false));
    assert_eq!(fixture.author(":1"), ("old".to_owned(), vec!["HEAD manifest 1".to_owned()]));
}

#[test]
fn a_cached_digest_costs_no_request() {
    let fixture = Fixture::new();
    let digest = fixture.change(|content| content.image("1", "me", true));
    let what = format!("@{digest}");
    assert_eq!(fixture.author(&what).1.len(), 3);
    for what in [what.clone(), format!(":other{what}")] {
        assert_eq!(fixture.author(&what), ("me".to_owned(), Vec::new()));
    }
    // This tag has not been seen before.
    assert_eq!(fixture.author(":1").1, ["GET manifest 1"]);
}

#[test]
fn the_manifest_is_fetched_if_head_does_not_return_the_digest() {
    for head in [Head::Silent, Head::Status(404), Head::Status(405), Head::Status(501)] {
        let fixture = Fixture::new();
        fixture.change(|content| {
            content.image("1", "old", false);
            content.head = head;
        });
        assert_eq!(fixture.author(":1").0, "old");
        fixture.change(|content| content.image("1", "new", false));
        let (author, requests) = fixture.author(":1");
        assert_eq!(
            (author.as_str(), &requests[..2]),
            ("new", &["HEAD manifest 1", "GET manifest 1"].map(str::to_owned)[..])
        );
        assert_eq!(fixture.author(":1").1, ["HEAD manifest 1", "GET manifest 1"], "{head:?}");
    }
}

#[test]
fn an_image_that_the_registry_no_longer_serves_is_not_opened_by_tag() {
    let fixture = Fixture::new();
    fixture.change(|content| content.image("1", "me", false));
    fixture.author(":1");
    fixture.change(|content| content.is_locked = true);
    let (image, _) = fixture.open(":1");
    assert!(image.unwrap_err().is_unauthorized());
    fixture.change(|content| {
        content.is_locked = false;
        content.tags.clear();
    });
    let (image, requests) = fixture.open(":1");
    assert!(image.unwrap_err().is_no_such_image());
    assert_eq!(requests, ["HEAD manifest 1", "GET manifest 1"]);
}

#[test]
fn a_stopped_registry_is_unavailable_even_if_its_tags_are_cached() {
    let fixture = Fixture::new();
    fixture.change(|content| content.image("1", "me", false));
    let reference = format!("{}/app:1", fixture.server.host());
    let run = |words: &[&str]| Program::new(words).cache(&fixture.folder.path().join("cache")).run();
    run(&["peek", &reference]).done();
    let Fixture { server, folder, .. } = fixture;
    drop(server);
    let ran = Program::new(["peek", &reference]).cache(&folder.path().join("cache")).run().failed(7);
    assert_eq!(ran.stdout, b"");
}

#[test]
fn a_changed_cached_document_is_fetched_again() {
    let fixture = Fixture::new();
    fixture.change(|content| content.image("1", "me", true));
    fixture.author(":1");
    let blobs = files(&fixture.folder.path().join("cache/blob"));
    assert_eq!(blobs.len(), 3);
    for blob in blobs {
        let content = fs::read(&blob).unwrap();
        for damaged in [&content[..content.len() - 1], &[], &content.to_ascii_uppercase()] {
            fs::write(&blob, damaged).unwrap();
            let (author, requests) = fixture.author(":1");
            assert_eq!((author.as_str(), requests.len()), ("me", 2), "{requests:?}");
            assert_eq!(fs::read(&blob).unwrap(), content);
        }
    }
    assert_eq!(fixture.author(":1").1.len(), 1);
}

#[test]
fn a_manifest_that_needs_its_content_type_is_not_cached() {
    let fixture = Fixture::new();
    let digest = fixture.change(|content| {
        let config = content.put("blobs", CONFIG, &json!({ "author": "me" }));
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [] });
        let manifest = content.put("manifests", DOCKER_MANIFEST, &manifest);
        let digest = manifest["digest"].as_str().unwrap().to_owned();
        content.tags.insert("1".to_owned(), digest.clone());
        digest
    });
    assert_eq!(fixture.author(":1").1, ["GET manifest 1", "GET blob sha256"]);
    assert_eq!(fixture.author(":1").1, ["GET manifest 1"]);
    assert_eq!(fixture.author(&format!("@{digest}")).1, ["GET manifest sha256"]);
}

#[test]
fn without_a_cache_nothing_is_read_or_written() {
    let fixture = Fixture::new();
    fixture.change(|content| content.image("1", "me", false));
    let cache = fixture.folder.path().join("cache");
    let reference = format!("{}/app:1", fixture.server.host());
    let peek = || Program::new(["peek", &reference]).cache(&cache);
    peek().arg("--no-cache").run().done();
    assert!(!cache.exists());
    peek().run().done();
    let files_before = files(&cache);
    let times = || {
        files(&cache).iter().map(|file| fs::metadata(file).unwrap().modified().unwrap()).collect::<Vec<_>>()
    };
    let before = times();
    let ran = peek().arg("--no-cache").run().done();
    assert_eq!((files(&cache), times(), &ran.report["requests"]), (files_before, before, &2.into()));
    assert_eq!(peek().run().done().report["requests"], 1);
}

#[test]
fn a_cache_writable_by_others_causes_a_warning_and_is_not_used() {
    let fixture = Fixture::new();
    fixture.change(|content| content.image("1", "me", false));
    let cache = fixture.folder.path().join("cache");
    let reference = format!("{}/app:1", fixture.server.host());
    let peek = || Program::new(["peek", &reference]).cache(&cache).run().done();
    assert_eq!(peek().stderr, "");
    fs::set_permissions(&cache, Permissions::from_mode(0o777)).unwrap();
    let ran = peek().said(&format!("chmod go-w '{}'", cache.display()));
    assert_eq!((ran.stderr.lines().count(), &ran.report["requests"]), (1, &2.into()), "{}", ran.stderr);
    fs::set_permissions(&cache, Permissions::from_mode(0o700)).unwrap();
    let ran = peek();
    assert_eq!((ran.stderr.as_str(), &ran.report["requests"]), ("", &1.into()));
    Program::new(["peek", &reference])
        .variable("LAYERSLAYER_CACHE_SIZE", "lots")
        .run()
        .failed(2)
        .said("lots");
}

#[test]
fn a_second_peek_at_a_real_registry_is_one_head_request() {
    let registry = DockerRegistry::open();
    let layout = Layout::of(&images::Image::of([Tar::new().file("a", "b").finish()]));
    push(&layout, "latest", &format!("{}/one:1", registry.host()), Trust::Plain);
    let cache = tools::temporary_folder();
    let mut printed = Vec::new();
    for expected in
        [&["GET /v2/one/manifests/1", "GET /v2/one/blobs/sha256"][..], &["HEAD /v2/one/manifests/1"]]
    {
        let recorder = Recorder::before(&registry.host());
        // All recorders lead to the same registry; only the record of the tag is specific to the recorder.
        let reference = format!("{}/one:1", recorder.host());
        if expected.len() == 1 {
            Program::new(["peek", &reference]).cache(cache.path()).run().done();
        }
        let before = recorder.settled().len();
        let ran = Program::new(["peek", &reference, "--json"]).cache(cache.path()).run().done();
        let requests: Vec<_> = recorder.settled().split_off(before);
        let requests: Vec<_> = requests
            .iter()
            .map(|one| {
                format!(
                    "{} {}",
                    one.method,
                    one.target.split_once(':').map_or(&*one.target, |(start, _)| start)
                )
            })
            .collect();
        assert_eq!(requests, expected);
        assert_eq!(ran.report["requests"], expected.len());
        printed.push(ran.lines().split_off(1));
    }
    assert_eq!(printed[0], printed[1]);
}
