//! Signals while a registry is stalled.

use std::{
    fs,
    io::Read as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    images::{Compression, Image, Layer, Layout, Tar},
    noise::Noise,
    registry::{Reply, ScriptedRegistry},
    tools,
};

/// Longest wait for a condition.
const PATIENCE: Duration = Duration::from_secs(60);

/// An image of one layer with a big file, on a registry.
pub(crate) struct Stalling {
    pub(crate) layout: Layout,
    pub(crate) registry: ScriptedRegistry,
}

impl Stalling {
    /// A registry that sends half of the layer and then nothing.
    pub(crate) fn start() -> Self {
        let tar = Tar::new().file("big", Noise::new(7).bytes(2 << 20)).finish();
        let layer = Layer::new(&tar, Compression::None);
        let (digest, half) = (layer.digest(), tar.len() / 2);
        let layout = Layout::of(&Image::new().layer(layer));
        let index: serde_json::Value =
            serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap();
        let manifest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
        let blobs = layout.path().join("blobs/sha256");
        let registry = ScriptedRegistry::start(move |request| {
            let (path, name) = request.path().rsplit_once('/').unwrap();
            let name = if path.ends_with("/manifests") { &manifest } else { name };
            let Some(hex) = name.strip_prefix("sha256:") else { return Reply::ok("{}") };
            let reply = Reply::blob(request, &fs::read(blobs.join(hex)).unwrap());
            match path.ends_with("/manifests") {
                true => reply.header("content-type", crate::support::images::layout::MANIFEST),
                false if name == digest => match request.range() {
                    Some((_, end)) if end <= half => reply,
                    range => reply.stall_after(half.saturating_sub(range.map_or(0, |(start, _)| start))),
                },
                false => reply,
            }
        });
        Self { layout, registry }
    }

    pub(crate) fn image(&self) -> String {
        format!("{}/one", self.registry.host())
    }
}

pub(crate) fn wait_for(what: &str, is_there: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_there() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(names) = fs::read_dir(folder) else { return Vec::new() };
    names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect()
}

pub(crate) fn program(words: &[&str], home: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
    command.env_clear().env("HOME", home).env("LAYERSLAYER_CACHE_DIR", tools::cache()).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

pub(crate) fn send(signal: &str, child: &Child) {
    tools::run(tools::command("bash").args(["-c", &format!("kill -{signal} {}", child.id())]));
}

#[test]
fn an_interrupted_transfer_leaves_no_file_and_exits_with_the_signal_status() {
    let stalling = Stalling::start();
    let signals = [
        ("INT", 130, "file"),
        ("TERM", 143, "file"),
        ("HUP", 129, "file"),
        ("QUIT", 131, "file"),
        ("INT", 130, ""),
    ];
    for (signal, code, target) in signals {
        let (home, out) = (tools::temporary_folder(), tools::temporary_folder());
        let report = home.path().join("report.json");
        let target = format!("{}/{target}", tools::text(out.path()));
        let words = ["carve", &stalling.image(), "/big", "-o", &target, "--report", tools::text(&report)];
        let child = program(&words, home.path());
        wait_for("a temporary file", || {
            names_in(out.path()).iter().any(|name| name.starts_with(".layerslayer-"))
        });
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{signal} {target}");
        assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &b""[..]));
        assert_eq!(names_in(out.path()), Vec::<String>::new());
        let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
        assert_eq!(report["exit"], code);
    }
}

#[test]
fn a_hangup_that_is_ignored_at_the_start_does_not_end_the_program() {
    let stalling = Stalling::start();
    let (home, out) = (tools::temporary_folder(), tools::temporary_folder());
    let target = out.path().join("file");
    let mut command = tools::command("bash");
    let program = env!("CARGO_BIN_EXE_layerslayer");
    command.args([
        "-c",
        "trap '' HUP; exec \"$0\" \"$@\"",
        program,
        "carve",
        &stalling.image(),
        "/big",
        "-o",
    ]);
    command.arg(&target).env_clear().env("HOME", home.path()).env("LAYERSLAYER_CACHE_DIR", tools::cache());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("a temporary file", || {
        names_in(out.path()).iter().any(|name| name.starts_with(".layerslayer-"))
    });
    send("HUP", &child);
    send("TERM", &child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
}

#[test]
fn an_interrupted_archive_leaves_the_previous_file() {
    let stalling = Stalling::start();
    let out = tools::temporary_folder();
    let target = out.path().join("a.tar");
    fs::write(&target, "old").unwrap();
    let words = ["carve", &stalling.image(), "/big", "/none", "--tar", "-o", tools::text(&target)];
    let child = program(&words, out.path());
    wait_for("a request for the layer", || stalling.registry.requests_to("/v2/one/blobs/").len() > 1);
    send("INT", &child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(
        (names_in(out.path()), fs::read(&target).unwrap()),
        (vec!["a.tar".to_owned()], b"old".to_vec())
    );
}

#[test]
fn a_program_blocked_on_a_full_pipe_can_be_interrupted() {
    let layout = Stalling::start().layout;
    let home = tools::temporary_folder();
    let report = home.path().join("report.json");
    let words = ["carve", &layout.reference("latest"), "/big", "--report", tools::text(&report)];
    let mut child = program(&words, home.path());
    // After the first byte the program handles signals, and soon the pipe is full.
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    send("INT", &child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!((&report["exit"], &report["command"]), (&130.into(), &"carve".into()));
}
