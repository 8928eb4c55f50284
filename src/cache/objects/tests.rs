//! Object stores: a directory, and a real S3 server on loopback (moto).

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path as FilePath,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use super::*;
use crate::{
    cache::{Cache, CacheOptions, SharedToc, SigningKey, directory::Directory},
    oci::digest::Digest,
    registry::Http,
    toc::{
        ContentMap, LayerToc,
        entries::EntryTree,
        format::{self, Header},
    },
};

const ROOM: u64 = 1 << 20;

/// A connector that must not be used.
#[derive(Debug)]
struct Unused;

impl HttpConnector for Unused {
    fn connect(
        &self,
        _: &object_store::ClientOptions,
    ) -> object_store::Result<object_store::client::HttpClient> {
        unreachable!("a directory needs no client")
    }
}

/// A real S3 server with one bucket; ends with the test.
struct S3 {
    process: Child,
    port: u16,
}

impl S3 {
    fn start() -> Self {
        let mut process = Command::new("moto_server")
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("moto_server is not installed (run `make deps`, and `make test` to find it)");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, rest) = line.split_once("http://127.0.0.1:")?;
            rest.trim_end().parse().ok()
        });
        let port = port.expect("the S3 server did not start");
        std::thread::spawn(move || lines.for_each(drop));
        let server = Self { process, port };
        server.create_bucket();
        server
    }

    fn create_bucket(&self) {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head =
            "PUT /tables HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        connection.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    fn objects(&self) -> Objects {
        let builder = AmazonS3Builder::new()
            .with_bucket_name("tables")
            .with_endpoint(format!("http://127.0.0.1:{}", self.port))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("key")
            .with_secret_access_key("secret")
            .with_http_connector(Http::builder().build().unwrap().objects());
        let store = Arc::new(builder.build().unwrap());
        Objects::over(store, Path::from("team/one"), "s3://tables/team/one").unwrap()
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn shared_directory(folder: &FilePath) -> Objects {
    Objects::open(&format!("file://{}", folder.display()), Unused).unwrap()
}

/// Asserts the contract of a store.
fn assert_contract(store: &dyn Store) {
    let (one, other) =
        (Key::Toc(Digest::sha256(b"1")), Key::Toc(format!("sha512:{:0128}", 2).parse().unwrap()));
    let put = |key: &Key, bytes: &[u8]| store.write(key, &mut |out| out.write_all(bytes)).unwrap();
    let keys = || {
        let mut items = store.list().unwrap();
        items.sort_by(|one, other| one.key.cmp(&other.key));
        items.into_iter().map(|item| (item.key, item.size)).collect::<Vec<_>>()
    };
    let began = SystemTime::now() - Duration::from_secs(3_600);
    assert_eq!((store.read(&one, ROOM).unwrap(), keys()), (None, vec![]));
    store.remove(&one).unwrap();
    assert!(put(&one, b"old") && put(&one, b"newer") && put(&other, &[7; 100_000]));
    assert_eq!(store.read(&one, ROOM).unwrap().unwrap(), "newer");
    assert_eq!(store.read(&other, 100_000).unwrap().unwrap(), vec![7; 100_000]);
    assert_eq!(store.read(&other, 99_999).unwrap(), None);
    assert_eq!(keys(), [(one.clone(), 5), (other.clone(), 100_000)]);
    assert!(store.list().unwrap().iter().all(|item| item.used > began));
    assert!(store.write(&one, &mut |_| Err(std::io::ErrorKind::Other.into())).is_err());
    assert_eq!(store.read(&one, ROOM).unwrap().unwrap(), "newer");
    store.remove(&one).unwrap();
    assert_eq!((store.read(&one, ROOM).unwrap(), keys()), (None, vec![(other, 100_000)]));
}

#[test]
fn directories_and_object_stores_fulfil_the_same_contract() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    assert_contract(&Directory::open(folders[0].path().join("cache"), ROOM).unwrap());
    assert_contract(&shared_directory(folders[1].path()));
}

#[tokio::test]
async fn a_real_s3_server_fulfils_the_contract_even_when_called_from_async_code() {
    let server = S3::start();
    assert_contract(&server.objects());
    // Another prefix of the bucket does not list this one's entries.
    let mut objects = server.objects();
    objects.prefix = Path::from("team");
    assert!(objects.list().unwrap().is_empty());
}

#[test]
fn invalid_addresses_are_refused() {
    for address in [
        "",
        "s3",
        "s3://",
        "s3:///x",
        "http://x/y",
        "file://host/x",
        "file:///",
        "s3://b/p?x",
        "s3://u@b/p",
        "s3://b/../p",
    ] {
        let refused = Objects::open(address, Unused);
        assert!(refused.is_err_and(|error| error.is_setting()), "{address}");
    }
}

/// A machine with a cache of its own that shares TOCs.
struct Machine {
    folder: TempDir,
    cache: Cache,
}

#[derive(Default)]
struct Warnings(std::sync::Mutex<Vec<String>>);

impl crate::progress::Progress for Warnings {
    fn event(&self, event: &crate::progress::Event) {
        if let crate::progress::Event::Warning { message, .. } = event {
            self.0.lock().unwrap().push(message.to_owned());
        }
    }
}

impl Machine {
    fn new(shared: &str, keys: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = CacheOptions::new(folder.path().join("cache")).shared(shared);
        for (index, key) in keys.iter().enumerate() {
            let path = folder.path().join(format!("key{index}"));
            fs::write(&path, key).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            options = options.key(path);
        }
        let cache = Cache::open(&options).unwrap().connect(Unused).unwrap();
        Self { folder, cache }
    }
}

fn toc(layer: &Digest, is_complete: bool) -> Vec<u8> {
    let mut entries = EntryTree::new();
    if is_complete {
        entries.complete();
    }
    let toc = LayerToc { entries, content: ContentMap::Nothing };
    let mut bytes = Vec::new();
    format::write(&Header::new(layer.clone(), 0, None, &toc), &toc, &mut bytes).unwrap();
    bytes
}

#[test]
fn complete_tocs_are_signed_and_shared_and_trusted_only_with_the_right_key() {
    let store = tempfile::tempdir().unwrap();
    let address = format!("file://{}", store.path().display());
    let (ours, theirs) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let writer = Machine::new(&address, &[&ours.expose_private_pem()]);
    let layers = [b"whole", b"parts"].map(|content| Digest::sha256(content));
    let tocs = [toc(&layers[0], true), toc(&layers[1], false)];
    for (layer, toc) in layers.iter().zip(&tocs) {
        assert!(writer.cache.put_toc(layer, |out| out.write_all(toc)));
    }
    let reader = Machine::new(&address, &[&ours.public_pem()]);
    assert_eq!(reader.cache.toc(&layers[0]).unwrap(), tocs[0]);
    assert_eq!((reader.cache.toc(&layers[1]), reader.cache.shared_toc(&layers[1])), (None, None));
    // It now has its own copy and shares nothing, because it cannot sign.
    assert_eq!(reader.cache.tocs().unwrap().len(), 1);
    assert!(reader.cache.put_toc(&layers[1], |out| out.write_all(&toc(&layers[1], true))));
    assert_eq!(shared_directory(store.path()).list().unwrap().len(), 1);
    for keys in [vec![], vec![theirs.public_pem()]] {
        let untrusting = Machine::new(&address, &keys.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(untrusting.cache.toc(&layers[0]), None);
        // The first fetch is reused once; then the TOC is fetched again.
        for _ in 0..2 {
            assert_eq!(
                untrusting.cache.shared_toc(&layers[0]),
                Some(SharedToc::Untrusted(tocs[0].clone().into()))
            );
        }
        assert!(untrusting.cache.tocs().unwrap().is_empty());
    }
    // A TOC that was copied to another layer's key is not trusted.
    let paths = layers.clone().map(|layer| store.path().join(Key::Toc(layer).path()));
    fs::copy(&paths[0], &paths[1]).unwrap();
    let reader = Machine::new(&address, &[&ours.public_pem()]);
    assert_eq!(reader.cache.toc(&layers[1]), None);
    assert!(matches!(reader.cache.shared_toc(&layers[1]), Some(SharedToc::Untrusted(_))));
}

#[test]
fn a_failing_store_causes_one_warning_and_the_cache_still_works() {
    let store = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let machine = Machine::new(&format!("file://{}", store.path().display()), &[&key.expose_private_pem()]);
    let layer = Digest::sha256(b"layer");
    // A file blocks the store's directory.
    fs::write(store.path().join("toc"), b"").unwrap();
    let warnings = Arc::new(Warnings::default());
    let reporter = crate::progress::Reporter::new(Arc::<Warnings>::clone(&warnings));
    let cache = machine.cache.clone().with_progress(Arc::new(reporter));
    assert!(cache.put_toc(&layer, |out| out.write_all(&toc(&layer, true))));
    assert!(cache.put_toc(&layer, |out| out.write_all(&toc(&layer, true))));
    assert!(cache.toc(&layer).is_some());
    assert_eq!(warnings.0.lock().unwrap().len(), 1);
    assert!(machine.folder.path().exists());
}
