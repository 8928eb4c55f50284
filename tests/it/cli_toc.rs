//! `layerslayer toc`.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        self, Layout, Tar,
        layout::MANIFEST,
        transport::{Trust, push},
    },
    program::{Program, Ran},
    recorder::Recorder,
    tools,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn keygen(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
    command.current_dir(folder).args(["toc", "keygen"]).args(words).output().unwrap()
}

#[test]
fn keygen_writes_a_key_that_openssl_reads_to_a_new_private_file() {
    let folder = tools::temporary_folder();
    for (words, name) in [(&[][..], "layerslayer-toc.pem"), (&["-o", "own.pem"], "own.pem")] {
        let output = keygen(folder.path(), words);
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
        let path = folder.path().join(name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let private = fs::read(&path).unwrap();
        assert!(private.starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
        let public = folder.path().join("public.pem");
        fs::write(&public, &output.stdout).unwrap();
        let openssl =
            |words: &[&str]| tools::run(tools::command("openssl").current_dir(folder.path()).args(words));
        let text =
            String::from_utf8(openssl(&["pkey", "-pubin", "-in", "public.pem", "-noout", "-text"])).unwrap();
        assert!(text.contains("ED25519"), "{text}");
        // An existing key is not overwritten.
        let output = keygen(folder.path(), words);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
        assert_eq!(fs::read(&path).unwrap(), private);
    }
}

#[test]
fn an_invalid_store_or_key_is_a_usage_error() {
    let folder = tools::temporary_folder();
    let demo = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
    let run = |name: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
        command.env_clear().env("LAYERSLAYER_CACHE_DIR", folder.path()).env(name, value).args(["peek", demo]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let key = folder.path().join("key.pem");
    fs::write(&key, "no key").unwrap();
    for value in ["/no/such/key", tools::text(&key)] {
        let (code, stderr) = run("LAYERSLAYER_TOC_KEY", value);
        assert!(code == Some(2) && stderr.contains(value), "{code:?} {stderr}");
    }
    assert_eq!(run("LAYERSLAYER_TOC_STORE", "nowhere").0, Some(2));
    let (code, stderr) = run("LAYERSLAYER_TOC_STORE", "s3://tables/team");
    match cfg!(feature = "object-store") {
        true => assert_eq!((code, stderr.as_str()), (Some(0), "")),
        false => assert!(code == Some(2) && stderr.contains("object-store"), "{code:?} {stderr}"),
    }
}

#[test]
fn built_tocs_answer_later_commands_without_another_pass() {
    let registry = DockerRegistry::open();
    let recorder = Recorder::before(&registry.host());
    let mut layout = Layout::new();
    let base = Tar::new().file("etc/noise", images::noise(300_000)).file("etc/name", "base");
    let top = Tar::new().file("etc/name", "top");
    let image = layout.image(&images::Image::of([base.finish(), top.finish()]));
    layout.tag("1", image);
    push(&layout, "1", &format!("{}/app:1", registry.host()), Trust::Plain);
    let (cache, reference) = (tools::temporary_folder(), format!("{}/app:1", recorder.host()));
    let run = |words: &[&str]| Program::new(words.iter().copied()).cache(cache.path()).run();
    let blobs = || {
        let exchanges = recorder.settled();
        exchanges.iter().filter(|exchange| exchange.target.contains("/blobs/")).count()
    };

    let made = run(&["toc", "build", &reference, "--json"]).done();
    let lines = made.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!((&lines[0]["type"], &lines[3]["complete"]), (&"image".into(), &true.into()));
    assert_eq!((&lines[1]["entries"], &lines[2]["entries"]), (&2.into(), &1.into()));
    assert!(lines[1..3].iter().all(|line| line["state"] == "made" && line["size"].as_u64() > Some(0)));
    assert_eq!((&made.report["verified"], &made.report["command"]), (&"blob".into(), &"toc build".into()));

    // One request for the configuration, one for each layer.
    assert_eq!(blobs(), 3);
    let kept = run(&["toc", "build", &reference]).done();
    let text = String::from_utf8(kept.stdout.clone()).unwrap();
    assert_eq!(text.matches("  kept  ").count(), 2, "{text}");
    assert_eq!(kept.report["verified"], "span");
    run(&["peek", &reference, "--rootfs"]).done();
    assert_eq!(blobs(), 3);
    let carved = run(&["carve", &reference, "/etc/name"]).done();
    assert_eq!((carved.stdout.as_slice(), &carved.report["verified"]), (&b"top"[..], &"span".into()));
    assert_eq!(blobs(), 4);
}

#[test]
fn toc_build_resumes_where_an_earlier_command_stopped() {
    let (mut layout, cache) = (Layout::new(), tools::temporary_folder());
    let layer = Tar::new().file("first", "1").file("noise", images::noise(9_000_000)).file("last", "2");
    let image = layout.image(&images::Image::of([layer.finish()]));
    layout.tag("1", image);
    let reference = layout.reference("1");
    let run = |words: &[&str]| Program::new(words.iter().copied()).cache(cache.path()).run().done();
    run(&["carve", &reference, "/first"]);
    let built = run(&["toc", "build", &reference]);
    assert!(String::from_utf8(built.stdout).unwrap().contains("  made  "));
    let carved = run(&["carve", &reference, "/last"]);
    assert_eq!((carved.stdout.as_slice(), &carved.report["verified"]), (&b"2"[..], &"span".into()));
}

#[test]
fn a_damaged_toc_is_built_again() {
    let (mut layout, cache) = (Layout::new(), tools::temporary_folder());
    let image = layout.image(&images::Image::of([Tar::new().file("a", "1").finish()]));
    layout.tag("1", image);
    let reference = layout.reference("1");
    let run = || {
        let ran = Program::new(["toc", "build", &reference]).cache(cache.path()).run().done();
        String::from_utf8(ran.stdout).unwrap()
    };
    assert!(run().contains("  made  "));
    let tocs = cache.path().join("toc/sha256");
    let toc = fs::read_dir(tocs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&toc).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&toc, &bytes).unwrap();
    assert!(run().contains("  made  "));
    assert!(run().contains("  kept  "));
}

#[test]
fn toc_build_requires_the_cache() {
    let demo = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
    let refused = Program::new(["toc", "build", demo, "--no-cache"]).run().failed(2);
    assert!(refused.stderr.contains("--no-cache"), "{}", refused.stderr);
    let refused = Program::new(["toc", "build", demo]).cache("/dev/null/cache".as_ref()).run().failed(2);
    assert!(refused.stderr.contains("without a cache"), "{}", refused.stderr);
    let archive = concat!("docker-archive:", env!("CARGO_MANIFEST_DIR"), "/fixtures/none.tar");
    Program::new(["toc", "build", archive]).run().failed(9);
}

/// An image in a registry, and keys that sign its TOCs.
struct Pushing {
    registry: DockerRegistry,
    folder: tempfile::TempDir,
}

impl Pushing {
    fn new(registry: DockerRegistry, trust: Trust<'_>) -> Self {
        let mut layout = Layout::new();
        let base = Tar::new().file("etc/noise", images::noise(3_000_000)).file("etc/name", "base");
        let top = Tar::new().file("etc/more", images::noise(300_000)).file("etc/top", "top");
        let image = layout.image(&images::Image::of([base.finish(), top.finish()]));
        layout.tag("1", image);
        push(&layout, "1", &format!("{}/app:1", registry.host()), trust);
        let pushing = Self { registry, folder: tools::temporary_folder() };
        for name in ["own", "other"] {
            let output = keygen(pushing.folder.path(), &["-o", &format!("{name}.pem")]);
            fs::write(pushing.folder.path().join(format!("{name}.pub")), output.stdout).unwrap();
        }
        pushing
    }

    /// Runs the program with an empty cache and this key, if any.
    fn run(&self, host: &str, key: Option<&str>, words: &[&str]) -> Program {
        let (command, rest) = words.split_at(if words[0] == "toc" { 2 } else { 1 });
        let reference = format!("{host}/app:1");
        let program = Program::new(command.iter().copied()).arg(reference).args(rest.iter().copied());
        match key {
            Some(key) => program.variable("LAYERSLAYER_TOC_KEY", tools::text(&self.folder.path().join(key))),
            None => program,
        }
    }

    /// The requests that it takes to carve a file of the base layer.
    fn carve(&self, key: Option<&str>) -> (Ran, Vec<String>) {
        let recorder = Recorder::before(&self.registry.host());
        let ran = self.run(&recorder.host(), key, &["carve", "/etc/name"]).run().done();
        assert_eq!(ran.stdout, b"base");
        let exchanges = recorder.settled();
        let asked = exchanges.iter().map(|exchange| {
            let range = exchange.field("range").map_or("", |_| " part");
            format!("{} {}{range}", exchange.method, exchange.target.split('/').nth(3).unwrap_or_default())
        });
        (ran, asked.collect())
    }
}

#[test]
fn pushed_tocs_are_found_and_used_with_a_trusted_key() {
    let pushing = Pushing::new(DockerRegistry::open(), Trust::Plain);
    let host = pushing.registry.host();
    pushing.run(&host, Some("own.pem"), &["toc", "push"]).run().done();
    // Pushing again changes nothing.
    let again = pushing.run(&host, Some("own.pem"), &["toc", "push", "--json"]).run().done();
    assert_eq!((&again.lines()[1]["type"], &again.lines()[1]["tocs"]), (&"pushed".into(), &2.into()));

    let (ran, mut asked) = pushing.carve(Some("own.pub"));
    assert_eq!((&ran.report["verified"], ran.stderr.as_str()), (&"span".into(), ""));
    assert_eq!((asked[0].as_str(), asked[asked.len() - 1].as_str()), ("GET manifests", "GET blobs part"));
    // The configuration is fetched in parallel.
    asked.sort_unstable();
    let expected = [
        "GET blobs",
        "GET blobs",
        "GET blobs",
        "GET blobs part",
        "GET manifests",
        "GET manifests",
        "GET manifests",
        "GET referrers",
    ];
    assert_eq!(asked, expected);

    let (ran, asked) = pushing.carve(None);
    assert_ne!(ran.report["verified"], "span");
    assert!(!asked.contains(&"GET referrers".to_owned()), "{asked:?}");

    let (ran, asked) = pushing.carve(Some("other.pub"));
    assert_ne!(ran.report["verified"], "span");
    assert!(asked.contains(&"GET referrers".to_owned()), "{asked:?}");
    assert!(ran.stderr.contains("no trusted key has signed it"), "{}", ran.stderr);
}

#[test]
fn pushing_keeps_other_referrers_and_each_key_finds_its_own_tocs() {
    let pushing = Pushing::new(DockerRegistry::open(), Trust::Plain);
    let host = pushing.registry.host();
    let ran = pushing.run(&host, None, &["peek"]).run().done();
    let subject = ran.report["digest"].as_str().unwrap();
    let tag = subject.replace(':', "-");
    let size = fs::metadata(pushing.registry.blob_file(subject)).unwrap().len();
    let foreign = json!({
        "mediaType": MANIFEST, "digest": subject, "size": size, "artifactType": "application/vnd.example.signature",
    });
    let put = |index: Value| pushing.registry.put_manifest("app", &tag, INDEX, index.to_string().as_bytes());
    put(json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [foreign.clone()], "annotations": { "kept": "too" },
    }));
    let mut digests = Vec::new();
    for key in ["own.pem", "other.pem", "own.pem"] {
        let pushed = pushing.run(&host, Some(key), &["toc", "push", "--json"]).run().done();
        digests.push(pushed.lines()[1]["digest"].clone());
    }
    let index = http_get(&pushing.registry.host(), &format!("/v2/app/manifests/{tag}"));
    let listed: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|one| one["digest"].clone()).collect();
    assert_eq!(
        listed,
        [digests[2].clone(), digests[1].clone(), subject.into()],
        "the last first, one of each key"
    );
    assert_eq!((&index["manifests"][2], &index["annotations"]["kept"]), (&foreign, &"too".into()));
    for key in ["own.pub", "other.pub"] {
        let (ran, _) = pushing.carve(Some(key));
        assert_eq!((&ran.report["verified"], ran.stderr.as_str()), (&"span".into(), ""), "{key}");
    }
}

#[test]
fn a_referrers_tag_that_is_not_an_index_is_left_alone() {
    let pushing = Pushing::new(DockerRegistry::open(), Trust::Plain);
    let host = pushing.registry.host();
    let ran = pushing.run(&host, None, &["peek"]).run().done();
    let subject = ran.report["digest"].as_str().unwrap();
    let manifest = fs::read(pushing.registry.blob_file(subject)).unwrap();
    let tag = subject.replace(':', "-");
    pushing.registry.put_manifest("app", &tag, MANIFEST, &manifest);
    pushing.run(&host, Some("own.pem"), &["toc", "push"]).run().failed(1).said("left as it is");
    let there = http_get(&host, &format!("/v2/app/manifests/{tag}"));
    assert_eq!(there, serde_json::from_slice::<Value>(&manifest).unwrap());
}

/// Fetches a document from a registry.
fn http_get(host: &str, path: &str) -> Value {
    let mut connection = TcpStream::connect(host).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {INDEX}\r\nAccept: {MANIFEST}\r\nConnection: close\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn toc_push_requires_a_private_key_a_registry_and_the_cache() {
    let pushing = Pushing::new(DockerRegistry::open(), Trust::Plain);
    let host = pushing.registry.host();
    for key in [None, Some("own.pub")] {
        pushing.run(&host, key, &["toc", "push"]).run().failed(2).said("toc keygen");
    }
    pushing.run(&host, Some("own.pem"), &["toc", "push", "--no-cache"]).run().failed(2).said("--no-cache");
    let demo = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
    Program::new(["toc", "push", demo]).run().failed(2).said("not in a registry");
}

#[test]
fn toc_push_authenticates_when_required() {
    let registry = DockerRegistry::htpasswd("me", "hush");
    let pushing = Pushing::new(registry, Trust::Credentials("me", "hush"));
    let host = pushing.registry.host();
    pushing.run(&host, Some("own.pem"), &["toc", "push"]).login("me", "hush").run().done();
    pushing.run(&host, Some("own.pem"), &["toc", "push"]).run().failed(6);
}
