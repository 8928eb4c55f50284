//! Behaviour on a real terminal, provided by `script`.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use crate::{
    cli_interruption::Stalling,
    support::{
        images::{Image, Layout, Tar},
        tools,
    },
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_layerslayer");

/// Runs `line` in a shell on a terminal of this width; `P` is replaced by the program.
fn terminal(columns: usize, line: &str) -> Command {
    let line = format!("stty cols {columns} rows 24; P() {{ {PROGRAM} \"$@\"; }}; {line}");
    let mut command = tools::command("script");
    command
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .env("SHELL", tools::require("bash"))
        .env("LAYERSLAYER_CACHE_DIR", tools::cache())
        .env("TERM", "xterm");
    command
}

/// The text left on the terminal after the bars are gone, and the exit status.
fn shown(columns: usize, line: &str) -> (String, i32) {
    let output = terminal(columns, line).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
    // The sequences that clear a line.
    let stays = text.rsplit("\x1b[2K").next().unwrap().to_owned();
    (stays, output.status.code().unwrap())
}

fn image() -> Layout {
    let tar = Tar::new()
        .file("binary", b"\x7fELF\0\0")
        .file("text", "gr\u{fc}n\n")
        .file("a\nb\x1b[31m", "")
        .directory("etc");
    Layout::of(&Image::of([tar.finish()]).config("created", "2024-01-01T00:00:00Z".into()))
}

#[test]
fn binary_content_goes_to_a_terminal_only_with_an_explicit_dash() {
    let layout = image();
    let image = layout.reference("latest");
    let escape_layout = Layout::of(&Image::of([Tar::new().file("escape", "plain\x1b]0;title\x07").finish()]));
    let escape = escape_layout.reference("latest");
    for (line, code, content) in [
        (format!("P carve {image} /text"), 0, "gr\u{fc}n\n"),
        (format!("P carve {image} /binary"), 1, ""),
        (format!("P carve {escape} /escape"), 1, ""),
        (format!("P carve {escape} /escape -o -"), 0, "plain\x1b]0;title\x07"),
        (format!("P carve {image} /binary -o -"), 0, "\x7fELF\0\0"),
        (format!("P carve {image} /etc --tar"), 1, ""),
        (format!("P carve {image} /binary | cat"), 0, "\x7fELF\0\0"),
    ] {
        let (text, exit) = shown(80, &line);
        assert_eq!(exit, code, "{line}: {text}");
        match code {
            0 => assert_eq!(text, content, "{line}"),
            _ => assert!(text.starts_with("layerslayer: ") && text.contains("-o FILE"), "{line}: {text}"),
        }
    }
}

#[test]
fn names_are_escaped_and_the_summary_fits_a_narrow_terminal() {
    let layout = image();
    let image = layout.reference("latest");
    for view in ["--all", "--rootfs"] {
        let (text, _) = shown(80, &format!("P peek {image} {view}"));
        assert!(text.contains(r"a\nb\x1b[31m") && !text.contains("\x1b"), "{text:?}");
    }
    let (text, exit) = shown(40, &format!("P peek {image}"));
    assert!(exit == 0 && text.contains("LAYER") && text.contains('…'), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 40, "{line}");
    }
}

#[test]
fn no_color_disables_colours() {
    let (colours, _) = shown(80, "P peak");
    assert!(colours.contains("\x1b["), "{colours:?}");
    let (text, exit) = shown(80, "NO_COLOR=1 P peak");
    assert!(!text.contains('\x1b') && text.contains("'peek'"), "{text:?}");
    assert_eq!(exit, 2);
}

#[test]
fn a_transfer_shows_its_progress_and_ctrl_c_ends_it() {
    let stalling = Stalling::start();
    let image = stalling.image();
    let mut command = terminal(80, &format!("P carve {image} /big > /dev/null"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    // The registry stalls half-way, so the bar stays; the test runner enforces the deadline.
    while !String::from_utf8_lossy(&text).contains("layer 0 ")
        || !String::from_utf8_lossy(&text).contains("MB/s")
    {
        let count = stdout.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..count]);
    }
    // Ctrl-C.
    stdin.write_all(b"\x03").unwrap();
    stdout.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    let stays = text.rsplit("\x1b[2K").next().unwrap();
    assert!(!stays.contains("layer 0 "), "{text:?}");
}

#[test]
fn no_bar_is_left_when_a_program_blocked_on_a_pipe_is_terminated() {
    let (layout, folder) = (Stalling::start().layout, tools::temporary_folder());
    let (image, pipe) = (layout.reference("latest"), folder.path().join("pipe"));
    let pipe = tools::text(&pipe);
    // The process that holds the pipe open reads nothing from it.
    let line = format!(
        "mkfifo {pipe}; exec 3<>{pipe}; {PROGRAM} carve {image} /big >{pipe} & program=$!; read -r _; \
         kill -TERM $program; wait $program"
    );
    let mut child = terminal(80, &line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    // The pipe is full as soon as the layer arrives.
    while !String::from_utf8_lossy(&text).contains("MB/s") {
        let count = stdout.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..count]);
    }
    stdin.write_all(b"\n").unwrap();
    stdout.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{text:?}");
    let stays = text.rsplit("\x1b[2K").next().unwrap();
    assert!(!stays.contains("layer 0 "), "{text:?}");
}

#[test]
fn no_bar_is_left_when_the_reader_closes_the_pipe() {
    let stalling = Stalling::start();
    let image = stalling.image();
    // Bars go to the terminal, content to a pipe that is closed after its first byte; then the registry stalls.
    let (stays, _) = shown(80, &format!("P carve {image} /big | head -c 1 > /dev/null"));
    assert!(!stays.contains("layer 0 "), "{stays:?}");
}

#[test]
fn quiet_draws_no_bars() {
    let layout = image();
    let image = layout.reference("latest");
    let (text, exit) = shown(80, &format!("P carve -q {image} /text > /dev/null"));
    assert_eq!((text.as_str(), exit), ("", 0));
}
