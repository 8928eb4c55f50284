//! Archives written by GNU tar.

use std::{
    fs,
    os::unix::fs::{FileExt as _, PermissionsExt as _, symlink},
    path::Path,
    process::Command,
};

use super::{decode, decode_in_pieces, kinds};
use crate::tar::entry::{EntryKind, Timestamp};

/// Runs GNU tar in `directory` and returns the archive.
fn tar(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .current_dir(directory)
        .env("LC_ALL", "C.UTF-8")
        .args(["--create", "--file=-", "--sort=name", "--owner=user:1234", "--group=group:5678"])
        .arg("--mtime=@1600000000")
        .args(arguments)
        .output()
        .expect("GNU tar must be installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_format_of_gnu_tar_gives_the_same_entries() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/e/file"), "content").unwrap();
    fs::set_permissions(root.join("d/e/file"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("d/e"), fs::Permissions::from_mode(0o1775)).unwrap();
    fs::hard_link(root.join("d/e/file"), root.join("d/e/hard")).unwrap();
    symlink("../e/./file", root.join("d/link")).unwrap();
    fs::write(root.join("d/empty"), "").unwrap();

    for format in ["v7", "oldgnu", "gnu", "ustar", "pax"] {
        // v7 has no fifos.
        if format == "oldgnu" {
            assert!(Command::new("mkfifo").arg(root.join("d/pipe")).status().unwrap().success());
        }
        let archive = tar(root, &[&format!("--format={format}"), "./d"]);
        let unpacked = decode(&archive).unwrap();
        let expected = [
            ("d", EntryKind::Directory),
            ("d/e", EntryKind::Directory),
            ("d/e/file", EntryKind::File),
            ("d/e/hard", EntryKind::Hardlink),
            ("d/empty", EntryKind::File),
            ("d/link", EntryKind::Symlink),
            ("d/pipe", EntryKind::Fifo),
        ]
        .map(|(path, kind)| (path.to_owned(), kind));
        let expected = if format == "v7" { &expected[..6] } else { &expected[..] };
        assert_eq!(kinds(&unpacked), expected, "{format}");

        let entry = |path: &str| unpacked.iter().find(|(entry, _)| entry.path == path.as_bytes()).unwrap();
        let (file, content) = entry("d/e/file");
        assert_eq!(content, b"content");
        assert_eq!((file.mode, file.uid, file.gid), (0o4751, 1234, 5678));
        assert_eq!(file.mtime, Timestamp { seconds: 1_600_000_000, nanoseconds: 0 });
        if format != "v7" {
            assert_eq!((&file.uname[..], &file.gname[..]), (&b"user"[..], &b"group"[..]));
        }
        assert_eq!(entry("d/e").0.mode, 0o1775);
        assert_eq!(entry("d/e/hard").0.link, b"d/e/file");
        assert_eq!(entry("d/link").0.link, b"../e/./file");
        let at = usize::try_from(file.data_offset.0).unwrap();
        assert_eq!(&archive[at..at + 7], b"content");
        assert_eq!(decode_in_pieces(&archive, &vec![1; archive.len()]).unwrap(), unpacked, "{format}");
    }
}

#[test]
fn long_names_and_links_are_read_in_every_format_that_has_them() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let long = format!("{0}/{0}", "n".repeat(120));
    let name = format!("{long}/file with\nnewline, \u{1b} and é");
    fs::create_dir_all(root.join(&long)).unwrap();
    fs::write(root.join(&name), "x").unwrap();
    symlink(&name, root.join("link")).unwrap();
    for format in ["oldgnu", "gnu", "pax"] {
        let unpacked = decode(&tar(root, &[&format!("--format={format}"), &name, "link"])).unwrap();
        assert_eq!(unpacked[0].0.path, name.as_bytes(), "{format}");
        assert_eq!(unpacked[1].0.link, name.as_bytes(), "{format}");
        assert_eq!(unpacked[0].0.header_offset.0, 0);
        assert_eq!(unpacked[0].1, b"x");
    }
}

#[test]
fn every_sparse_format_of_gnu_tar_gives_the_same_content() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse");
    // More segments than one header (4) and one extension block (21) hold; the last one is not a whole block.
    let mut expected = vec![0; 40 * 65_536 + 10_000];
    for index in 0..40_usize {
        expected[index * 65_536 + 32_768..][..100].fill(u8::try_from(index + 1).unwrap());
    }
    expected[40 * 65_536 + 9_000..].fill(0xff);
    let file = fs::File::create(&path).unwrap();
    file.set_len(expected.len() as u64).unwrap();
    for index in 0..40_usize {
        file.write_all_at(&expected[index * 65_536 + 32_768..][..100], index as u64 * 65_536 + 32_768)
            .unwrap();
    }
    file.write_all_at(&expected[40 * 65_536 + 9_000..], 40 * 65_536 + 9_000).unwrap();
    fs::write(directory.path().join("zz"), "after").unwrap();

    for arguments in [
        &["--format=gnu"][..],
        &["--format=oldgnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let arguments = [arguments, &["--sparse", "--hole-detection=raw", "sparse", "zz"]].concat();
        let archive = tar(directory.path(), &arguments);
        assert!(archive.len() < expected.len() / 2, "{arguments:?}: not sparse at all");
        let unpacked = decode(&archive).unwrap();
        assert_eq!(unpacked.len(), 2);
        let (entry, content) = &unpacked[0];
        assert_eq!((&entry.path[..], entry.kind), (&b"sparse"[..], EntryKind::File), "{arguments:?}");
        assert_eq!(entry.size, expected.len() as u64, "{arguments:?}");
        assert!(*content == expected, "{arguments:?}");
        assert!(entry.stored_size < entry.size / 2);
        assert_eq!(unpacked[1].1, b"after");
        assert_eq!(decode_in_pieces(&archive, &vec![1; archive.len()]).unwrap(), unpacked, "{arguments:?}");
    }
}

#[test]
fn a_file_that_is_a_single_hole_is_all_zeros() {
    let directory = tempfile::tempdir().unwrap();
    fs::File::create(directory.path().join("hole")).unwrap().set_len(100_000).unwrap();
    for format in ["--format=gnu", "--format=pax"] {
        let unpacked = decode(&tar(directory.path(), &[format, "--sparse", "hole"])).unwrap();
        assert_eq!((unpacked[0].0.size, unpacked[0].0.stored_size), (100_000, 0));
        assert!(unpacked[0].1 == vec![0; 100_000]);
    }
}
