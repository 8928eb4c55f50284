//! Kills the program at random moments: whatever it leaves behind never leads to a wrong answer.

use std::{
    fs::{self, DirBuilder},
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::unix::{fs::DirBuilderExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rustix::{
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde_json::Value;

use crate::support::{
    docker_registry::DockerRegistry,
    http::Listener,
    images::{
        Compression, Image, Layer, Layout, Tar,
        transport::{Trust, push},
    },
    killer::{self, Moment},
    noise::Noise,
    tools,
};

/// Number of kills.
const KILLS: usize = 200;
/// Upper limit of rounds, because in some the program finishes before the kill.
const ROUNDS: usize = 10 * KILLS;
const WORKERS: u64 = 4;
/// More than the distance of two checkpoints.
const BIG: usize = 2_500_000;
/// Number of files in a layer, so that its TOC is long.
const FILES: usize = 400;
/// Everything else in the cache is shorter than this.
const DOCUMENT_BYTES: u64 = 4 << 10;
/// Minimum number of kills during the write of a TOC.
const TORN: usize = 40;

/// The commands; `IMAGE` is replaced by the reference.
const TASKS: [&[&str]; 7] = [
    &["carve", "IMAGE", "/first"],
    &["carve", "IMAGE", "/big"],
    &["carve", "IMAGE", "/last", "--verify"],
    &["carve", "IMAGE", "/newer/last"],
    &["carve", "IMAGE", "/newer/first"],
    &["peek", "IMAGE", "--all", "--json"],
    &["peek", "IMAGE", "--rootfs", "--json"],
];

/// When the program is killed.
#[derive(Clone, Copy, Debug)]
enum End {
    /// After this many changes to files in the cache.
    Events(usize),
    /// After this many bytes from the registry.
    Received(u64),
    /// In the middle of writing a file, at this many bytes.
    Written(u64),
}

/// A proxy in front of the registry that kills the program after a number of bytes.
struct Trap {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    carried: u64,
    limit: Option<u64>,
    victim: Option<OwnedFd>,
}

impl State {
    /// Counts bytes; kills the program beyond the limit.
    fn carry(&mut self, length: usize) {
        self.carried += length as u64;
        if self.limit.is_some_and(|limit| self.carried >= limit) {
            self.kill();
        }
    }

    fn kill(&self) {
        if let Some(victim) = &self.victim {
            // The program may have exited already.
            let _ = pidfd_send_signal(victim, Signal::KILL);
        }
    }
}

impl Trap {
    fn before(upstream: &str) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let (shared, upstream) = (Arc::clone(&state), upstream.to_owned());
        let listener = Listener::start(move |client| {
            // A killed client leaves broken connections behind.
            let _ = relay(&client, &upstream, &shared);
        });
        Self { listener, state }
    }

    /// Runs the program until it is killed or exits. Returns whether it was killed.
    fn kill(&self, command: &mut Command, end: End, cache: &Path) -> bool {
        let bytes = match end {
            End::Events(count) => {
                *self.state.lock().unwrap() = State::default();
                DirBuilder::new().recursive(true).mode(0o700).create(cache).unwrap();
                return killer::kill(command, "", Moment::FileEvent(cache, count));
            }
            End::Written(bytes) => {
                *self.state.lock().unwrap() = State::default();
                return killer::kill(command, "", Moment::Byte(bytes));
            }
            End::Received(bytes) => bytes,
        };
        let mut child = {
            let mut state = self.state.lock().unwrap();
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let victim = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
            *state = State { carried: 0, limit: Some(bytes), victim: victim.ok() };
            state.carry(0);
            child
        };
        child.wait().unwrap().signal() == Some(9)
    }

    /// Runs the program to completion.
    fn spare(&self, command: &mut Command) -> Output {
        *self.state.lock().unwrap() = State::default();
        command.output().unwrap()
    }
}

fn relay(client: &TcpStream, upstream: &str, state: &Mutex<State>) -> io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*client, &mut &server);
            let _ = server.shutdown(Shutdown::Write);
        });
        let result = answers(client, &server, state);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
        result
    })
}

fn answers(mut client: &TcpStream, mut server: &TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let mut buffer = vec![0; 4 << 10];
    loop {
        let length = server.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        client.write_all(&buffer[..length])?;
        state.lock().unwrap().carry(length);
    }
}

fn program(task: &[&str], image: &str, cache: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
    command.env_clear().env("HOME", "/nonexistent").stdin(Stdio::null());
    command.args(task.iter().map(|word| if *word == "IMAGE" { image } else { word }));
    match cache {
        Some(folder) => command.env("LAYERSLAYER_CACHE_DIR", folder),
        None => command.arg("--no-cache"),
    };
    command
}

/// The part of the output that must not depend on the cache.
fn answer(output: &Output) -> (Option<i32>, Vec<u8>) {
    let mut stdout = output.stdout.clone();
    if stdout.starts_with(b"{\"type\"") {
        let lines = std::str::from_utf8(&stdout).unwrap().lines();
        let lines = lines.filter(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            ["entry", "layer", "end"].contains(&line["type"].as_str().unwrap())
        });
        stdout = lines.collect::<Vec<_>>().join("\n").into_bytes();
    }
    (output.status.code(), stdout)
}

/// Text of a few words, in which deflate refers far back.
fn text(noise: &mut Noise, length: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..2_000).map(|_| noise.bytes(9)).collect();
    let mut text = Vec::with_capacity(length);
    while text.len() < length {
        let word = noise.below(words.len() as u64);
        text.extend_from_slice(&words[usize::try_from(word).unwrap()]);
    }
    text
}

/// Small files with names that compress badly.
fn many(tar: Tar, noise: &mut Noise) -> Tar {
    (0..FILES).fold(tar, |tar, number| tar.file(format!("many/{number:04}-{:016x}", noise.number()), "."))
}

/// The size of the largest TOC in a cache.
fn largest(cache: &Path) -> u64 {
    let tocs = fs::read_dir(cache.join("toc/sha256")).into_iter().flatten().flatten();
    tocs.map(|toc| toc.metadata().map_or(0, |metadata| metadata.len())).max().unwrap_or(0)
}

fn images(registry: &DockerRegistry) -> Vec<String> {
    let mut noise = Noise::new(11);
    let base = many(Tar::new().file("first", "first\n"), &mut noise)
        .file("big", text(&mut noise, BIG))
        .file("last", "last\n")
        .finish();
    let newer = many(Tar::new().directory("newer").file("newer/first", "newer first\n"), &mut noise)
        .file("newer/middle", text(&mut noise, BIG))
        .file("newer/last", "newer last\n")
        .finish();
    let mut names = Vec::new();
    for (name, compression) in
        [("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("none", Compression::None)]
    {
        let image = [&base, &newer]
            .into_iter()
            .map(|tar| Layer::new(tar, compression))
            .fold(Image::new(), Image::layer);
        push(&Layout::of(&image), "latest", &format!("{}/{name}:1", registry.host()), Trust::Plain);
        names.push(format!("{name}:1"));
    }
    names
}

#[test]
fn a_killed_run_never_makes_a_later_run_wrong() {
    let registry = DockerRegistry::open();
    let images = images(&registry);
    // The right answers, without a cache.
    let right: Vec<Vec<_>> = images
        .iter()
        .map(|image| {
            let image = format!("{}/{image}", registry.host());
            TASKS.iter().map(|task| answer(&program(task, &image, None).output().unwrap())).collect()
        })
        .collect();
    assert!(right.iter().flatten().all(|(code, stdout)| *code == Some(0) && !stdout.is_empty()));
    let (kills, torn, rounds) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for worker in 1..=WORKERS {
            let (registry, images, right) = (&registry, &images, &right);
            let (kills, torn, rounds) = (&kills, &torn, &rounds);
            scope.spawn(move || {
                let mut noise = Noise::new(worker);
                let trap = Trap::before(&registry.host());
                let folder = tools::temporary_folder();
                let cache = folder.path().join("cache");
                let choose =
                    |noise: &mut Noise, count: usize| usize::try_from(noise.below(count as u64)).unwrap();
                let mut longest = 2 * DOCUMENT_BYTES;
                while kills.load(Ordering::SeqCst) < KILLS || torn.load(Ordering::SeqCst) < TORN {
                    assert!(
                        rounds.fetch_add(1, Ordering::SeqCst) < ROUNDS,
                        "{kills:?} kills, {torn:?} within TOCs"
                    );
                    // With an empty cache, or with what earlier rounds left.
                    if noise.below(2) == 0 {
                        let _ = fs::remove_dir_all(&cache);
                    }
                    let number = choose(&mut noise, images.len());
                    let image = format!("{}/{}", trap.listener.host(), images[number]);
                    let mut victim = program(TASKS[choose(&mut noise, TASKS.len())], &image, Some(&cache));
                    let end = match noise.below(4) {
                        0 => End::Events(1 + choose(&mut noise, 60)),
                        1 => {
                            // Small numbers are as likely as large ones.
                            let most = 1 << (8 + noise.below(15));
                            End::Received(noise.below(most))
                        }
                        _ => End::Written(noise.below(longest)),
                    };
                    if trap.kill(&mut victim, end, &cache) {
                        kills.fetch_add(1, Ordering::SeqCst);
                        let is_torn = matches!(end, End::Written(bytes) if bytes > DOCUMENT_BYTES);
                        torn.fetch_add(usize::from(is_torn), Ordering::SeqCst);
                    }
                    let task = choose(&mut noise, TASKS.len());
                    let output = trap.spare(&mut program(TASKS[task], &image, Some(&cache)));
                    longest = longest.max(largest(&cache));
                    let stderr = String::from_utf8_lossy(&output.stderr);
                    let is_right = answer(&output) == right[number][task];
                    assert!(is_right, "{:?} of {image}: {:?} {stderr}", TASKS[task], output.status);
                    // The cache has no stale state to detect either.
                    assert!(!stderr.contains("cannot be used"), "after {end:?}: {stderr}");
                }
                // No damaged file is left, and no partial file after `cache gc`.
                let run = |action: &str| {
                    let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
                    tools::run(command.args(["cache", action]).env("LAYERSLAYER_CACHE_DIR", &cache))
                };
                assert!(!String::from_utf8(run("ls")).unwrap().contains("not readable"));
                run("gc");
                assert_eq!(fs::read_dir(cache.join("tmp")).map_or(0, Iterator::count), 0);
            });
        }
    });
}
