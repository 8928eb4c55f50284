//! Object stores: a directory, and a real S3 server on loopback (moto).

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path as FilePath,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::*;
use crate::{
    cache::{Cache, CacheOptions, Opened, SigningKey, directory::Directory},
    oci::digest::Digest,
    progress::Progress,
    registry::Http,
    toc::{
        ContentMap, LayerToc,
        entries::EntryTree,
        format::{self, Header},
    },
};

const ROOM: u64 = 1 << 20;

/// A connector for stores that need none.
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

/// What every store must do.
fn conforms(store: &dyn Store) {
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
fn directories_and_object_stores_keep_things_alike() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    conforms(&Directory::open(folders[0].path().join("cache"), ROOM).unwrap());
    conforms(&shared_directory(folders[1].path()));
}

#[tokio::test]
async fn a_real_s3_server_keeps_things_too_and_may_be_asked_from_anywhere() {
    let server = S3::start();
    conforms(&server.objects());
    // Another part of the bucket holds nothing of this one.
    let mut objects = server.objects();
    objects.prefix = Path::from("team");
    assert!(objects.list().unwrap().is_empty());
}

#[test]
fn an_address_that_makes_no_sense_is_refused() {
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

/// A machine with a cache of its own that shares tables.
struct Machine {
    folder: TempDir,
    cache: Cache,
}

#[derive(Default)]
struct Warnings(std::sync::Mutex<Vec<String>>);

impl Progress for Warnings {
    fn warning(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

impl Machine {
    fn new(shared: &str, keys: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = CacheOptions::new(folder.path().join("cache")).shared(shared);
        for (index, key) in keys.iter().enumerate() {
            let path = folder.path().join(format!("key{index}"));
            fs::write(&path, key).unwrap();
            options = options.key(path);
        }
        let cache = Cache::open(&options).unwrap().connect(Unused).unwrap();
        Self { folder, cache }
    }
}

fn table(layer: &Digest, is_complete: bool) -> Vec<u8> {
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
fn complete_tables_are_shared_signed_and_believed_only_under_a_trusted_key() {
    let store = tempfile::tempdir().unwrap();
    let address = format!("file://{}", store.path().display());
    let (ours, theirs) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let writer = Machine::new(&address, &[ours.private_pem().expose_secret()]);
    let layers = [b"whole", b"parts"].map(|content| Digest::sha256(content));
    let tables = [table(&layers[0], true), table(&layers[1], false)];
    for (layer, table) in layers.iter().zip(&tables) {
        assert!(writer.cache.put_toc(layer, |out| out.write_all(table)));
    }
    let reader = Machine::new(&address, &[&ours.public_pem()]);
    assert_eq!(reader.cache.toc(&layers[0]).unwrap(), tables[0]);
    assert_eq!((reader.cache.toc(&layers[1]), reader.cache.shared_toc(&layers[1])), (None, None));
    // It has its own from then on, and shares nothing: it cannot sign.
    assert_eq!(reader.cache.tables().unwrap().len(), 1);
    assert!(reader.cache.put_toc(&layers[1], |out| out.write_all(&table(&layers[1], true))));
    assert_eq!(shared_directory(store.path()).list().unwrap().len(), 1);
    for keys in [vec![], vec![theirs.public_pem()]] {
        let stranger = Machine::new(&address, &keys.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(stranger.cache.toc(&layers[0]), None);
        // Fetched once, it is at hand once; then it is fetched again.
        for _ in 0..2 {
            assert_eq!(stranger.cache.shared_toc(&layers[0]), Some(Opened::Hint(tables[0].clone().into())));
        }
        assert!(stranger.cache.tables().unwrap().is_empty());
    }
    // What somebody else puts there for another layer is not believed.
    let places = layers.clone().map(|layer| store.path().join(Key::Toc(layer).path()));
    fs::copy(&places[0], &places[1]).unwrap();
    let reader = Machine::new(&address, &[&ours.public_pem()]);
    assert_eq!(reader.cache.toc(&layers[1]), None);
    assert!(matches!(reader.cache.shared_toc(&layers[1]), Some(Opened::Hint(_))));
}

#[test]
fn a_store_that_fails_is_warned_of_once_and_the_cache_serves() {
    let store = tempfile::tempdir().unwrap();
    let key = SigningKey::generate().unwrap();
    let machine =
        Machine::new(&format!("file://{}", store.path().display()), &[key.private_pem().expose_secret()]);
    let layer = Digest::sha256(b"layer");
    // A file where the store wants a directory.
    fs::write(store.path().join("toc"), b"").unwrap();
    let warnings = Arc::new(Warnings::default());
    let cache = machine.cache.clone().with_progress(Arc::<Warnings>::clone(&warnings));
    assert!(cache.put_toc(&layer, |out| out.write_all(&table(&layer, true))));
    assert!(cache.put_toc(&layer, |out| out.write_all(&table(&layer, true))));
    assert!(cache.toc(&layer).is_some());
    assert_eq!(warnings.0.lock().unwrap().len(), 1);
    assert!(machine.folder.path().exists());
}
