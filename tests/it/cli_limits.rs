//! Limits: time, stalled servers, threads, odd files in place of documents, and images made to exhaust the disk.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use super::cli_interruption::{Stalling, names_in, program, send, wait_for};
use crate::support::{
    images::{Compression, Image, Layer, Layout, Member, Tar, oracle},
    program::{Program, Ran},
    tools,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_layerslayer");

fn run(words: &[&str]) -> Ran {
    Program::new(words).run()
}

#[test]
fn a_timeout_ends_the_command_and_leaves_no_file() {
    let stalling = Stalling::start();
    let folder = tools::temporary_folder();
    for target in ["file", "", "a.tar"] {
        let out = folder.path().join("out");
        fs::create_dir_all(&out).unwrap();
        let output = format!("{}/{target}", tools::text(&out));
        let mut words = vec!["carve", "", "/big", "-o", &output, "--timeout", "300ms", "--no-cache"];
        let image = stalling.image();
        words[1] = &image;
        if target == "a.tar" {
            words.push("--tar");
        }
        let ran = run(&words).failed(1);
        assert_eq!(ran.stderr, "layerslayer: stopped after 300 ms, the limit of --timeout\n");
        assert_eq!(ran.report["error"], "stopped after 300 ms, the limit of --timeout");
        assert_eq!(names_in(&out), Vec::<String>::new(), "{target}");
    }
}

#[test]
fn a_timeout_ends_a_program_that_is_blocked_on_a_full_pipe() {
    let layout = Stalling::start().layout;
    let home = tools::temporary_folder();
    let words = ["carve", &layout.reference("latest"), "/big", "--timeout", "1"];
    let mut child = program(&words, home.path());
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    // The pipe stays open, and nothing is read from it.
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "layerslayer: stopped after 1 s, the limit of --timeout\n");
}

#[test]
fn a_stalled_server_is_named_after_five_seconds() {
    let stalling = Stalling::start();
    let words = ["carve", &stalling.image(), "/big", "-o", "/dev/null", "--timeout", "8s"];
    let ran = run(&words).failed(1);
    let server = format!("layerslayer: waiting for http://{}: no data for ", stalling.registry.host());
    let notices: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with(&server)).collect();
    assert_eq!((notices.len(), ran.stderr.lines().count()), (1, 2), "{}", ran.stderr);
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let stalling = Stalling::start();
    let home = tools::temporary_folder();
    let output = home.path().join("out");
    let mut command = Command::new("bash");
    command.args([
        "-c",
        "trap '' HUP; exec \"$@\"",
        "bash",
        PROGRAM,
        "carve",
        &stalling.image(),
        "/big",
        "-o",
    ]);
    command.arg(&output).arg("--no-cache").env("HOME", home.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("a temporary file", || {
        names_in(home.path()).iter().any(|name| name.starts_with(".layerslayer-"))
    });
    send("HUP", &child);
    send("TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(!output.exists());
}

#[test]
fn too_few_threads_are_an_error_and_not_a_panic() {
    let layout = Layout::of(&Image::of([Tar::new().file("a", "x").finish()]));
    let folder = tools::temporary_folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Root has no such limit, and another user may not be able to run the program where it was built.
    let program = folder.path().join("layerslayer");
    fs::copy(PROGRAM, &program).unwrap();
    let image = layout.reference("latest");
    let line = "ulimit -u 1; exec \"$@\"";
    let mut command = match oracle::is_root() {
        true => {
            let mut command = tools::command("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "bash"]);
            command
        }
        false => tools::command("bash"),
    };
    command.args(["-c", line, "bash"]).arg(&program).args(["peek", &image, "--all", "--no-cache"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("layerslayer: starting the worker threads: "), "{stderr}");
}

#[test]
fn a_closed_standard_output_is_an_error() {
    let demo = concat!("oci:", env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
    let run = |redirection: &str, words: &[&str]| {
        let line = format!("exec \"$@\" {redirection}");
        let mut command = tools::command("bash");
        command.args(["-c", &line, "bash", PROGRAM]).args(words).env("LAYERSLAYER_CACHE_DIR", tools::cache());
        command.output().unwrap()
    };
    for words in [
        &["peek", demo][..],
        &["peek", demo, "--all", "--json"],
        &["carve", demo, "/etc/passwd"],
        &["carve", demo, "/etc/passwd", "-o", "/dev/stdout"],
        &["carve", demo, "/etc", "--tar"],
        &["cache", "path"],
        &["--help"],
    ] {
        let output = run(">&-", words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
        assert!(words == ["--help"] || stderr.contains("it is closed"), "{words:?}: {stderr}");
        // As other programs open it for their children.
        assert_eq!(run("1<>/dev/null", words).status.code(), Some(0), "{words:?}");
    }
    let folder = tools::temporary_folder();
    let output = format!("{}/", tools::text(folder.path()));
    assert_eq!(run(">&-", &["carve", demo, "/etc/passwd", "-o", &output]).status.code(), Some(0));
}

#[test]
fn certificates_are_read_from_regular_files_only() {
    let folder = tools::temporary_folder();
    let fifo = folder.path().join("fifo");
    tools::run(tools::command("mkfifo").arg(&fifo));
    for file in [tools::text(&fifo), "/dev/zero", tools::text(folder.path())] {
        let ran = run(&["peek", "localhost:1/none", "--ca", file]).failed(1);
        assert!(
            ran.stderr.contains(file)
                && ["not a regular file", "is a directory"].iter().any(|why| ran.stderr.contains(why)),
            "{}",
            ran.stderr
        );
    }
    let large = folder.path().join("large.pem");
    fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let ran = run(&["peek", "localhost:1/none", "--ca", tools::text(&large)]).failed(1);
    assert!(ran.stderr.contains("larger than"), "{}", ran.stderr);
}

#[test]
fn a_deep_path_is_extracted_with_few_open_files() {
    const DEPTH: usize = 600;
    let path = format!("{}f", "d/".repeat(DEPTH));
    let layer = Layer::new(&Tar::new().file(&path, "deep").finish(), Compression::Gzip);
    let layout = Layout::of(&Image::new().layer(layer));
    let folder = tools::temporary_folder();
    let output = format!("{}/", tools::text(folder.path()));
    let line = "ulimit -n 128; exec \"$@\"";
    let image = layout.reference("latest");
    let mut command = tools::command("bash");
    command.args(["-c", line, "bash", PROGRAM, "carve", &image, "--glob", "**", "-o", &output]);
    tools::run(command.env("LAYERSLAYER_CACHE_DIR", tools::cache()));
    assert_eq!(fs::read(folder.path().join(path)).unwrap(), b"deep");
}

#[test]
fn a_file_keeps_its_permission_bits_under_the_umask() {
    let script = Member::file("run.sh", "#!/bin/sh\n").mode(0o4755);
    let layout = Layout::of(&Image::of([Tar::new().member(script).finish()]));
    let folder = tools::temporary_folder();
    for (umask, expected) in [("022", 0o755), ("077", 0o700)] {
        let output = folder.path().join(umask);
        let line = format!("umask {umask}; exec \"$@\"");
        let mut command = tools::command("bash");
        let image = layout.reference("latest");
        command.args(["-c", &line, "bash", PROGRAM, "carve", &image, "run.sh", "-o"]).arg(&output);
        tools::run(command.env("LAYERSLAYER_CACHE_DIR", tools::cache()));
        assert_eq!(fs::metadata(output).unwrap().permissions().mode() & 0o7777, expected, "{umask}");
    }
}

#[test]
fn devices_are_created_only_with_an_option_of_their_own() {
    let null = Member::character_device("null", 1, 3);
    let layout = Layout::of(&Image::of([Tar::new().member(null).finish()]));
    let folder = tools::temporary_folder();
    let output = format!("{}/", tools::text(folder.path()));
    let image = layout.reference("latest");
    let ran = run(&["carve", &image, "/null", "-o", &output, "--same-permissions"]).done();
    assert!(ran.stderr.contains("--devices creates them"), "{}", ran.stderr);
    assert_eq!(names_in(folder.path()), Vec::<String>::new());
}
