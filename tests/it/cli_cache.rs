//! `layerslayer cache`.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::support::tools;

fn run(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
    command.env_clear().env("LAYERSLAYER_CACHE_DIR", folder).arg("cache").args(words);
    command.output().unwrap()
}

#[track_caller]
fn printed(folder: &Path, words: &[&str]) -> String {
    let output = run(folder, words);
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
    String::from_utf8(output.stdout).unwrap()
}

/// A cache with three damaged TOCs, last used one minute apart.
fn cache() -> tempfile::TempDir {
    let folder = tools::temporary_folder();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
    fs::create_dir_all(folder.path().join("toc/sha256")).unwrap();
    for (number, size) in [(1_u64, 10), (2, 5_000), (3, 20)] {
        let path = folder.path().join(format!("toc/sha256/{number:064}"));
        fs::write(&path, vec![0; size]).unwrap();
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1_704_067_200 + 60 * number);
        File::options().write(true).open(&path).unwrap().set_modified(used).unwrap();
    }
    folder
}

#[test]
fn cached_tocs_are_listed_as_text_and_as_json() {
    let folder = cache();
    let expected = [("1", "10 B", 1), ("2", "5.00 kB", 2), ("3", "20 B", 3)]
        .map(|(digit, size, minute)| {
            format!("sha256:{digit:0>64}  {size:>8}  2024-01-01 00:0{minute}  not readable\n")
        })
        .concat();
    assert_eq!(printed(folder.path(), &["ls"]), expected);
    let lines = printed(folder.path(), &["ls", "--json"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let path = tools::text(folder.path());
    let digest = format!("sha256:{:064}", 2);
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0], json!({ "type": "cache", "schema": 1, "path": path, "capacity": 2_u64 << 30 }));
    let used = "2024-01-01T00:02:00.000000000Z";
    assert_eq!(lines[2], json!({ "type": "table", "layer": digest, "size": 5_000, "used": used }));
    assert_eq!(lines[4], json!({ "type": "end", "complete": true }));
    // Listing does not count as use: the eviction order does not change.
    assert_eq!(printed(folder.path(), &["ls"]), expected);
}

#[test]
fn the_least_recently_used_entries_are_evicted_first() {
    let folder = cache();
    assert_eq!(printed(folder.path(), &["gc"]), "removed 0 files, 0 B\n");
    assert_eq!(printed(folder.path(), &["gc", "--size", "13K"]), "removed 1 file, 4.10 kB\n");
    assert!(!printed(folder.path(), &["ls"]).contains("1  "));
    assert_eq!(printed(folder.path(), &["clear"]), "removed 2 files, 12.3 kB\n");
    assert_eq!(printed(folder.path(), &["ls"]), "");
    assert_eq!(run(folder.path(), &["gc", "--size", "lots"]).status.code(), Some(2));
}

#[test]
fn the_path_is_printed_even_if_the_directory_is_refused() {
    let folder = cache();
    let path = tools::text(folder.path());
    for mode in [0o777, 0o700] {
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        assert_eq!(printed(folder.path(), &["path"]), format!("{path}\n"));
        for words in [&["ls"][..], &["gc"], &["clear"]] {
            let output = run(folder.path(), words);
            let told = String::from_utf8(output.stderr).unwrap().contains(&format!("chmod go-w '{path}'"));
            assert_eq!((output.status.code(), told), (Some(i32::from(mode == 0o777)), mode == 0o777));
        }
    }
    let absent = folder.path().join("not there");
    printed(&absent, &["path"]);
    assert!(!absent.exists());
}

#[test]
fn the_default_is_the_cache_directory_of_the_user() {
    for (variable, value, expected) in
        [("XDG_CACHE_HOME", "/x", "/x/layerslayer\n"), ("HOME", "/h", "/h/.cache/layerslayer\n")]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_layerslayer"));
        let command =
            command.env_clear().env("HOME", "/elsewhere").env(variable, value).args(["cache", "path"]);
        assert_eq!(String::from_utf8(tools::run(command)).unwrap(), expected);
    }
}
