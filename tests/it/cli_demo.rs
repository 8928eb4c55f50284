//! The program on the bundled image.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::support::tools;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/app:/bin/sh\n";

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
    command.stdin(Stdio::null()).env("LAYERSLAYER_CACHE_DIR", tools::cache());
    command
}

/// Runs the program with these arguments; `IMAGE` is replaced by the reference.
fn run_on(image: &str, words: &[&str]) -> Output {
    let words = words.iter().map(|word| if *word == "IMAGE" { image } else { word });
    program().args(words).output().unwrap()
}

fn run(words: &[&str]) -> Output {
    run_on(&format!("oci:{FIXTURE}"), words)
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_lines(output: &Output) -> Vec<serde_json::Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

fn temporary() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn each_failure_has_its_exit_code_and_one_line_on_stderr() {
    let cases: [(&[&str], i32); 12] = [
        (&["carve", "IMAGE", "/etc/passwd"], 0),
        (&["carve", "IMAGE", "/etc/passwd", "/etc/os-release"], 2),
        (&["carve", "library/UPPER", "/etc/passwd"], 2),
        (&["carve", "IMAGE", "/etc/passwd", "--layer", "7"], 2),
        (&["carve", "IMAGE", "/no/such"], 3),
        (&["peek", "IMAGE", "--all", "no/such"], 3),
        (&["carve", "IMAGE", "/app/secret"], 4),
        (&["carve", "IMAGE", "/etc"], 5),
        (&["peek", "IMAGE", "--platform", "windows/amd64"], 9),
        (&["peek", "oci:/no/such/layout"], 9),
        (&["peek", "IMAGE", "etc"], 2),
        (&["carve", "IMAGE", "/no/such", "/app/secret", "--tar"], 1),
    ];
    for (words, expected) in cases {
        let output = run(words);
        assert_eq!(code(&output), expected, "{words:?}: {}", stderr(&output));
        if expected > 1 {
            assert_eq!(stderr(&output).lines().count(), 1, "{words:?}: {}", stderr(&output));
            assert!(output.stdout.is_empty(), "{words:?}");
        }
        assert!(stderr(&output).lines().all(|line| line.starts_with("layerslayer: ")), "{words:?}");
    }
}

#[test]
fn every_destination_gets_the_whole_file() {
    let (directory, path) = temporary();
    assert_eq!(stdout(&run(&["carve", "IMAGE", "/etc/passwd"])), PASSWD);
    let file = format!("{path}/file");
    fs::write(&file, "old").unwrap();
    assert_eq!(code(&run(&["carve", "IMAGE", "etc/passwd", "-o", &file])), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), PASSWD);
    let below = format!("{path}/out/");
    assert_eq!(code(&run(&["carve", "IMAGE", "./etc/app.conf", "-o", &below])), 0);
    assert_eq!(fs::read_to_string(format!("{below}app.conf")).unwrap(), "listen = 8080\n");
    assert_eq!(files_below(directory.path()).len(), 2);
}

#[test]
fn several_paths_go_to_a_directory_and_one_failure_does_not_stop_the_others() {
    let (directory, path) = temporary();
    let output =
        run(&["carve", "IMAGE", "/bin", "/no/such", "etc/passwd", "-o", &format!("{path}/"), "--json"]);
    assert_eq!(code(&output), 3);
    let names: Vec<_> = files_below(directory.path());
    assert_eq!(names, ["bin/hello", "etc/passwd"].map(|name| directory.path().join(name)));
    let lines = json_lines(&output);
    assert_eq!(lines[0]["type"], "image");
    assert_eq!(lines.last().unwrap(), &serde_json::json!({"type": "end", "complete": true}));
    let failures: Vec<_> = lines.iter().filter(|line| line["type"] == "failure").collect();
    assert_eq!(failures.len(), 1);
    assert_eq!((&failures[0]["path"], &failures[0]["exit"]), (&"/no/such".into(), &3.into()));
}

#[test]
fn gnu_tar_reads_the_archive_of_a_pattern() {
    let (directory, path) = temporary();
    let archive = format!("{path}/a.tar");
    assert_eq!(code(&run(&["carve", "IMAGE", "--glob", "etc/*", "--tar", "-o", &archive])), 0);
    let listed = Command::new("tar").args(["-t", "-f", &archive]).output().unwrap();
    assert_eq!(stdout(&listed), "etc/app.conf\netc/os-release\netc/passwd\n");
    drop(directory);
}

#[test]
fn json_listings_are_complete_and_every_line_parses() {
    let lines = json_lines(&run(&["peek", "IMAGE", "--all", "--json"]));
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!((types[0], types[1], types[types.len() - 1]), ("image", "layer", "end"));
    for end in lines.iter().filter(|line| line["type"] == "layer_end") {
        let entries = lines.iter().filter(|line| line["type"] == "entry" && line["layer"] == end["layer"]);
        assert_eq!(
            (end["entries"].as_u64().unwrap(), &end["verified"]),
            (entries.count() as u64, &"blob".into())
        );
    }
    let whiteout = lines.iter().find(|line| line["kind"] == "whiteout").unwrap();
    assert_eq!((&whiteout["path"], &whiteout["layer"]), (&"app/secret".into(), &2.into()));
    let merged = json_lines(&run(&["peek", "IMAGE", "--rootfs", "--json"]));
    assert!(merged.iter().all(|line| line["path"] != "app/secret"));
    let summary = json_lines(&run(&["peek", "IMAGE", "--json"]));
    let types: Vec<_> = summary.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["image", "config", "layer", "layer", "layer", "end"]);
}

#[test]
fn a_glob_lists_its_matches_and_a_plain_path_everything_below_it() {
    let listed = |glob: &str| {
        let text = stdout(&run(&["peek", "IMAGE", "--rootfs", glob]));
        text.lines().map(|line| line.split_whitespace().nth(6).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("usr"), ["usr/", "usr/bin/", "usr/bin/hello"]);
    assert_eq!(listed("/usr/*"), ["usr/bin/"]);
    assert_eq!(listed("**/passwd"), ["etc/passwd"]);
}

#[test]
fn the_program_name_selects_the_subcommand() {
    let (_directory, path) = temporary();
    let link = format!("{path}/carve");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_layerslayer"), &link).unwrap();
    let output = Command::new(link)
        .env("LAYERSLAYER_CACHE_DIR", tools::cache())
        .args([&format!("oci:{FIXTURE}"), "/etc/passwd"])
        .output()
        .unwrap();
    assert_eq!((code(&output), stdout(&output).as_str()), (0, PASSWD));
}

#[test]
fn a_closed_pipe_is_success() {
    for words in [["peek", "--all"], ["carve", "/etc/passwd"]] {
        let mut command = program();
        command.args([words[0], &format!("oci:{FIXTURE}"), words[1]]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((code(&output), stderr(&output).as_str()), (0, ""), "{words:?}");
    }
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let image = format!("oci:{FIXTURE}");
    let output = program().args(["peek", &image]).stdout(full).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("stdout"), "{}", stderr(&output));
}

#[test]
fn the_report_is_written_after_success_and_failure() {
    let (directory, path) = temporary();
    let file = format!("{path}/report.json");
    let report = |words: &[&str]| -> serde_json::Value {
        run(&[words, &["--report", &file]].concat());
        serde_json::from_slice(&fs::read(&file).unwrap()).unwrap()
    };
    let good = report(&["carve", "IMAGE", "/etc/app.conf", "--no-cache"]);
    // The link comes after its target, so the target is read a second time.
    assert_eq!((&good["exit"], &good["verified"], &good["final"]), (&0.into(), &"span".into(), &true.into()));
    assert_eq!((&good["resolved_path"], &good["size"]), (&"app/app.conf".into(), &14.into()));
    assert_eq!(good["layer"]["index"], 1);
    let deleted = report(&["carve", "IMAGE", "/app/secret"]);
    assert_eq!((&deleted["exit"], &deleted["path"]), (&4.into(), &"/app/secret".into()));
    assert!(deleted["error"].as_str().unwrap().contains("/app/secret"));
    let malformed = report(&["carve", "library/UPPER", "/etc/passwd"]);
    assert_eq!((&malformed["exit"], &malformed["reference"]), (&2.into(), &"library/UPPER".into()));
    assert_eq!(files_below(directory.path()).len(), 1);
}

#[test]
fn with_verify_nothing_of_a_tampered_layer_is_printed() {
    let (directory, path) = temporary();
    for blob in files_below(Path::new(FIXTURE)) {
        let copy = directory.path().join("image").join(blob.strip_prefix(FIXTURE).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        let mut content = fs::read(&blob).unwrap();
        // Change the operating system field of the gzip header: only the blob digest can notice.
        if let [0x1f, 0x8b, _, _, _, _, _, _, _, system, ..] = content.as_mut_slice() {
            *system ^= 1;
        }
        fs::write(copy, content).unwrap();
    }
    let image = format!("oci:{path}/image");
    let out = format!("{path}/out");
    let cases: [&[&str]; 5] = [
        &["carve", "IMAGE", "/etc/passwd", "--verify"],
        &["carve", "IMAGE", "/etc/passwd", "--verify=blob", "-o", &out],
        &["carve", "IMAGE", "/etc", "--verify", "--tar"],
        &["peek", "IMAGE", "--all", "--verify"],
        &["peek", "IMAGE", "--rootfs", "--verify", "--json"],
    ];
    for words in cases {
        let output = run_on(&image, words);
        assert_eq!((code(&output), stdout(&output).as_str()), (8, ""), "{words:?}: {}", stderr(&output));
        assert!(!Path::new(&out).exists());
    }
    let left = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), [OsStr::new("image")]);
}
