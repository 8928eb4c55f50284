//! TOCs that machines share through a directory or a real S3 server (moto): which ones are trusted,
//! and what untrusted ones are good for.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
};

use crate::support::{
    images::{Compression, Image, Layer, Layout, Tar},
    noise::Noise,
    program::{Program, Ran},
    tools,
};

/// Larger than the remainder that is read to the end anyway once the answer is known.
const BIG: usize = 2 << 20;

/// A real S3 server with one bucket.
struct S3 {
    process: Child,
    port: u16,
}

impl S3 {
    fn start() -> Self {
        let mut command = tools::command("moto_server");
        command.args(["-H", "127.0.0.1", "-p", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| line.split_once("http://127.0.0.1:")?.1.trim_end().parse().ok());
        thread::spawn(move || lines.for_each(drop));
        let server = Self { process, port: port.unwrap() };
        let mut connection = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        let head =
            "PUT /tables HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        connection.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        server
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An image, the machines that read it, and the store they share.
struct Fleet {
    layout: Layout,
    folder: tempfile::TempDir,
    s3: Option<S3>,
}

impl Fleet {
    fn new(s3: Option<S3>) -> Self {
        let mut noise = Noise::new(5);
        let tar =
            Tar::new().file("first", "first\n").file("big", noise.bytes(BIG)).file("last", "last\n").finish();
        let layout = Layout::of(&Image::new().layer(Layer::new(&tar, Compression::Gzip)));
        let fleet = Self { layout, folder: tools::temporary_folder(), s3 };
        for name in ["own", "other"] {
            let (private, public) = (fleet.path(&format!("{name}.pem")), fleet.path(&format!("{name}.pub")));
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_layerslayer"));
            let key = tools::run(command.args(["toc", "keygen", "-o"]).arg(private));
            fs::write(public, key).unwrap();
        }
        fs::create_dir(fleet.path("shared")).unwrap();
        fleet
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A run on this machine without a shared store.
    fn alone(&self, machine: &str, words: &[&str]) -> Program {
        let image = self.layout.reference("latest");
        Program::new(words.iter().map(|word| word.replace("IMAGE", &image))).cache(&self.path(machine))
    }

    /// A run on a machine that shares TOCs and has this key, if any.
    fn run(&self, machine: &str, key: Option<&str>, words: &[&str]) -> Ran {
        let mut program = self.alone(machine, words);
        program = match &self.s3 {
            None => program
                .variable("LAYERSLAYER_TOC_STORE", &format!("file://{}", tools::text(&self.path("shared")))),
            Some(s3) => program
                .variable("LAYERSLAYER_TOC_STORE", "s3://tables/team")
                .variable("AWS_ENDPOINT", &format!("http://127.0.0.1:{}", s3.port))
                .variable("AWS_ALLOW_HTTP", "true")
                .variable("AWS_REGION", "us-east-1")
                .variable("AWS_ACCESS_KEY_ID", "key")
                .variable("AWS_SECRET_ACCESS_KEY", "secret"),
        };
        if let Some(key) = key {
            program = program.variable("LAYERSLAYER_TOC_KEY", tools::text(&self.path(key)));
        }
        program.run()
    }

    /// The number of TOCs in this machine's own cache.
    fn own_tocs(&self, machine: &str) -> usize {
        fs::read_dir(self.path(machine).join("toc/sha256")).map_or(0, Iterator::count)
    }

    /// The only shared TOC in the directory.
    fn shared_toc(&self) -> PathBuf {
        let mut found =
            fs::read_dir(self.path("shared/toc/sha256")).unwrap().map(|entry| entry.unwrap().path());
        let toc = found.next().unwrap();
        assert_eq!(found.next(), None);
        toc
    }
}

/// How the layer was read, and how far that was verified.
fn how(ran: &Ran) -> (&str, &str) {
    (ran.report["plan"].as_str().unwrap(), ran.report["verified"].as_str().unwrap())
}

const LAST: [&str; 3] = ["carve", "IMAGE", "/last"];

#[test]
fn a_shared_toc_is_trusted_under_a_known_key_and_otherwise_a_hint() {
    for s3 in [None, Some(S3::start())] {
        let fleet = Fleet::new(s3);
        fleet.run("maker", Some("own.pem"), &["toc", "build", "IMAGE"]).done();
        let ran = fleet.run("friend", Some("own.pub"), &LAST).done();
        assert_eq!((how(&ran), ran.stderr.as_str(), fleet.own_tocs("friend")), (("toc", "span"), "", 1));
        for (machine, key) in [("stranger", Some("other.pub")), ("keyless", None)] {
            for _ in 0..2 {
                let ran = fleet.run(machine, key, &LAST).done().said("not verified");
                assert_eq!(
                    (how(&ran), ran.stdout.as_slice()),
                    (("toc", "none"), &b"last\n"[..]),
                    "{machine}"
                );
                assert_eq!(fleet.own_tocs(machine), 0, "{machine}");
            }
            let ran = fleet.run(machine, key, &["carve", "IMAGE", "/last", "--verify"]).done();
            assert_eq!((how(&ran), ran.stderr.as_str()), (("scan", "blob"), ""), "{machine}");
            // That run has left a TOC of its own.
            let ran = fleet.run(machine, key, &LAST).done();
            assert_eq!((how(&ran), ran.stderr.as_str()), (("toc", "span"), ""), "{machine}");
        }
    }
}

#[test]
fn a_partial_toc_of_our_own_does_not_hide_a_complete_shared_one() {
    let fleet = Fleet::new(None);
    fleet.run("maker", Some("own.pem"), &["toc", "build", "IMAGE"]).done();
    for (machine, key, expected) in [("friend", "own.pub", "span"), ("stranger", "other.pub", "none")] {
        fleet.alone(machine, &["carve", "IMAGE", "/first"]).run().done();
        assert_eq!(fleet.own_tocs(machine), 1);
        let ran = fleet.run(machine, Some(key), &LAST).done();
        assert_eq!((how(&ran), ran.stdout.as_slice()), (("toc", expected), &b"last\n"[..]), "{machine}");
    }
    // The untrusted TOC has not replaced the one in the cache.
    let ran = fleet.alone("stranger", &LAST).run().done();
    assert_eq!(how(&ran).1, "blob");
    assert_eq!(how(&fleet.alone("friend", &LAST).run().done()), ("toc", "span"));
}

#[test]
fn a_damaged_or_foreign_hint_costs_one_pass_and_no_more() {
    let fleet = Fleet::new(None);
    fleet.run("maker", Some("own.pem"), &["toc", "build", "IMAGE"]).done();
    let place = fleet.shared_toc();
    let good = fs::read(&place).unwrap();
    let middle = good.len() / 3;
    let flipped = good.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == middle)).collect::<Vec<_>>();
    for (damaged, machine) in [(flipped.as_slice(), "one"), (&good[..middle], "two"), (b"", "three")] {
        fs::write(&place, damaged).unwrap();
        let ran = fleet.run(machine, Some("own.pub"), &LAST).done().said("is not used");
        assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]), "{machine}");
    }
    // The TOC of another image.
    let other = Fleet {
        layout: Layout::of(&Image::of([Tar::new().file("last", "other\n").finish()])),
        ..Fleet::new(None)
    };
    other.run("maker", Some("own.pem"), &["toc", "build", "IMAGE"]).done();
    fs::copy(other.shared_toc(), &place).unwrap();
    let ran = fleet.run("four", Some("own.pub"), &LAST).done();
    assert_eq!((how(&ran), ran.stdout.as_slice()), (("scan", "blob"), &b"last\n"[..]));
}
