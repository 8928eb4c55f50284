//! SOCI indexes of version 1, which refer to an image: used only with a trusted key.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use layerslayer::Digest;
use serde_json::{Value, json};

use crate::support::{
    images::{
        Compression, Image, Layer, Layout, Tar,
        layout::{INDEX, MANIFEST},
        noise,
    },
    program::{Program, Ran},
    registry::{Reply, Request, ScriptedRegistry},
    tools,
    ztoc::{self, Stored},
};

const SOCI_V1: &str = "application/vnd.amazon.soci.index.v1+json";

/// What the registry answers about referrers of the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Referrers {
    /// An index is listed.
    Listed,
    /// An index is listed on the second page.
    Paged,
    /// The fallback tag lists an index.
    Tagged,
}

/// An image of a large base under a small layer, with a SOCI index of version 1.
struct Registry {
    server: ScriptedRegistry,
    size: u64,
    ztoc: String,
    /// Changes a byte of the last file's content.
    is_tampering: Arc<AtomicBool>,
}

impl Registry {
    /// `change` is applied to the zTOC.
    fn new(referrers: Referrers, change: impl Fn(Vec<u8>) -> Vec<u8>) -> Self {
        let large = noise(20 << 20);
        let files: [(&str, &[u8]); 3] = [("first", b"first\n"), ("large", &large), ("last", b"last\n")];
        let tar = files.iter().fold(Tar::new(), |tar, (name, content)| tar.file(name, content));
        let stored = Stored::new(&tar.finish());
        let files = files.map(|(name, content)| (name, content.len() as u64));
        let layout = Layout::new();
        let mut entry = layout.blob(&change(ztoc::of(&stored, &files)), "application/octet-stream");
        let ztoc = entry["digest"].as_str().unwrap().to_owned();
        layout.blob(b"{}", SOCI_V1);
        let base = Layer::new(&stored.tar, Compression::None)
            .media_type(&Compression::Gzip.media_type())
            .blob(stored.blob.clone());
        let (digest, size) = (base.digest(), base.blob.len() as u64);
        let top = Layer::new(&Tar::new().file("top", "top\n").finish(), Compression::Gzip);
        let manifest = layout.image(&Image::new().layer(base).layer(top));
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
        let is_tampering = Arc::new(AtomicBool::new(false));
        let (blob, tampered) = (digest, Arc::clone(&is_tampering));
        let listed = move |request: &Request, tag: bool| match referrers {
            Referrers::Listed if !tag => full.clone(),
            Referrers::Paged if !tag && request.query().contains("last=1") => full.clone(),
            Referrers::Paged if !tag => {
                let next = format!("<{}?n=1&last=1>; rel=\"next\"", request.path());
                empty.clone().header("link", &next)
            }
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
            if name == blob && tampered.load(Ordering::SeqCst) {
                let at = bytes.windows(5).rposition(|content| content == b"last\n").unwrap();
                bytes[at] ^= 1;
            }
            Reply::blob(request, &bytes)
        });
        Self { server, size, ztoc, is_tampering }
    }

    fn carve(&self, path: &str) -> Program {
        Program::new(["carve", &format!("{}/app:1", self.server.host()), path])
    }

    /// Carves with a trusted key: the client then requests the referrers before it reads a layer.
    fn carve_trusting(&self, path: &str) -> Ran {
        let folder = tools::temporary_folder();
        let mut keygen = std::process::Command::new(env!("CARGO_BIN_EXE_layerslayer"));
        let key = tools::run(keygen.args(["toc", "keygen", "-o"]).arg(folder.path().join("private")));
        fs::write(folder.path().join("public"), key).unwrap();
        self.carve(path).variable("LAYERSLAYER_TOC_KEY", tools::text(&folder.path().join("public"))).run()
    }

    /// The number of requests for referrers.
    fn lookups(&self) -> usize {
        let is_lookup = |request: &&Request| {
            request.path().contains("/referrers/") || request.path().contains("/manifests/sha256-")
        };
        self.server.requests().iter().filter(is_lookup).count()
    }
}

/// How a file was read, and how far it was verified.
fn how(ran: &Ran) -> (&str, &str) {
    (ran.report["plan"].as_str().unwrap(), ran.report["verified"].as_str().unwrap())
}

#[test]
fn a_file_is_read_by_an_index_that_refers_to_the_image() {
    for (referrers, requests) in [(Referrers::Listed, 1), (Referrers::Paged, 2), (Referrers::Tagged, 2)] {
        let registry = Registry::new(referrers, |ztoc| ztoc);
        let ran = registry.carve_trusting("/last").done();
        assert_eq!((how(&ran), ran.stdout.as_slice()), (("soci", "none"), &b"last\n"[..]), "{referrers:?}");
        assert_eq!(ran.report["final"], false, "an unsigned TOC may leave entries out");
        let bytes = ran.report["bytes_fetched"].as_u64().unwrap();
        assert!(bytes < registry.size / 2, "{bytes} of {}", registry.size);
        assert_eq!(registry.lookups(), requests, "{referrers:?}");
    }
}

#[test]
fn referrers_are_not_requested_without_a_trusted_key() {
    let registry = Registry::new(Referrers::Listed, |ztoc| ztoc);
    let ran = registry.carve("/last").run().done();
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]));
    assert_eq!(registry.lookups(), 0);
}

#[test]
fn a_malformed_ztoc_is_reported_and_the_layer_is_read() {
    let registry = Registry::new(Referrers::Listed, |mut ztoc| {
        ztoc.truncate(ztoc.len() / 2);
        ztoc
    });
    let ran = registry.carve_trusting("/last").done();
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]));
    ran.said("SOCI");
}

#[test]
fn where_ztoc_and_content_disagree_the_whole_layer_is_read() {
    // The zTOC has the digest of other content.
    let wrong = |mut ztoc: Vec<u8>| {
        let stated = ztoc.windows(7).rposition(|part| part == b"sha256:").unwrap() + 7;
        ztoc[stated] = if ztoc[stated] == b'0' { b'1' } else { b'0' };
        ztoc
    };
    let registry = Registry::new(Referrers::Listed, wrong);
    let ran = registry.carve_trusting("/last").done();
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]));
    // The blob itself was changed.
    let registry = Registry::new(Referrers::Listed, |ztoc| ztoc);
    registry.is_tampering.store(true, Ordering::SeqCst);
    let ran = registry.carve_trusting("/last").failed(8);
    assert!(!ran.stdout.starts_with(b"last"));
}

#[test]
fn an_answer_of_not_found_by_an_unsigned_ztoc_is_marked_unverified() {
    let registry = Registry::new(Referrers::Listed, |ztoc| ztoc);
    registry.carve_trusting("/nowhere").failed(3).said("not verified");
}

#[test]
fn a_ztoc_that_is_larger_than_its_layer_is_not_fetched() {
    let large = |mut ztoc: Vec<u8>| {
        ztoc.resize(32 << 20, 0);
        ztoc
    };
    let registry = Registry::new(Referrers::Listed, large);
    assert_eq!(how(&registry.carve_trusting("/last").done()), ("scan", "blob"));
    assert!(registry.server.requests_to(&format!("/v2/app/blobs/{}", registry.ztoc)).is_empty());
    assert_eq!(registry.lookups(), 1);
}
