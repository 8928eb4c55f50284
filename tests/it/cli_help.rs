//! The commands in `--help` work, with a local image in place of a registry image.

use std::{env, os::unix::fs::symlink, process::Command};

use crate::support::{
    images::{Image, Layout, Tar},
    tools,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_layerslayer");

/// The images in the examples.
const IMAGES: [&str; 3] = ["nginx:alpine", "ubuntu:24.04", "oci:build/image"];

/// An image with the files of the examples, in two layers.
fn image() -> Layout {
    let base = Tar::new()
        .file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
        .file("etc/hosts", "127.0.0.1 localhost\n")
        .file("etc/apt/sources.list", "# none\n")
        .file("usr/lib/os-release", "NAME=Example\n")
        .file("bin/sh", "#!\n");
    let application = Tar::new().file("app/start", "#!\n").file("etc/app.conf", "listen = 8080\n");
    Layout::of(&Image::of([base.finish(), application.finish()]))
}

/// Runs a line in a shell, in an empty folder with the program in its PATH. Returns its output.
fn run(line: &str, image: &str) -> String {
    let folder = tools::temporary_folder();
    symlink(PROGRAM, folder.path().join("layerslayer")).unwrap();
    let path = format!("{}:{}", tools::text(folder.path()), env::var("PATH").unwrap());
    let line = IMAGES.iter().fold(line.to_owned(), |line, name| line.replace(name, image));
    assert!(line.contains(image), "an image that is not in the list: {line}");
    let mut command = tools::command("bash");
    command.args(["-o", "pipefail", "-c", &line]).current_dir(folder.path()).env("PATH", path);
    command.env("LAYERSLAYER_CACHE_DIR", tools::cache());
    String::from_utf8(tools::run(&mut command)).unwrap()
}

fn help(words: &[&str]) -> String {
    String::from_utf8(Command::new(PROGRAM).args(words).output().unwrap().stdout).unwrap()
}

#[test]
fn every_example_of_the_help_works() {
    let layout = image();
    for words in [&["--help"][..], &["peek", "--help"], &["carve", "--help"]] {
        let help = help(words);
        let examples: Vec<&str> =
            help.lines().filter_map(|line| line.strip_prefix("  layerslayer ")).collect();
        assert!(examples.len() >= 4, "{help}");
        for example in examples {
            // The rest of the line, after two spaces or " to ", is a comment.
            let command = example.split("  ").next().unwrap().split(" to ").next().unwrap();
            run(&format!("layerslayer {command}"), &layout.reference("latest"));
        }
    }
}

#[test]
fn help_fits_in_100_columns_and_lists_every_exit_status() {
    for words in [&["--help"][..], &["peek", "--help"], &["carve", "--help"]] {
        for line in help(words).lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
    let help = help(&["--help"]).replace('\n', " ");
    for code in 0..=9 {
        assert!(help.contains(&format!(" {code} ")), "{code}");
    }
    assert_eq!(self::help(&["--version"]), concat!("layerslayer ", env!("CARGO_PKG_VERSION"), "\n"));
}
