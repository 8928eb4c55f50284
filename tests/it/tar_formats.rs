//! Archives as GNU tar writes them, in each of its formats, compared with what umoci unpacks.

use std::{fs, os::unix::fs::symlink, path::Path};

use crate::support::{
    images::noise,
    inspect::{block_on, compare, open},
    subject::Subject,
    tools,
};

/// Bytes of a hole.
const HOLE: usize = 128 << 10;

/// Content with data at its start, middle and end, and holes in between.
fn sparse() -> Vec<u8> {
    [noise(5_000), vec![0; HOLE], noise(70_000), vec![0; 2 * HOLE], b"end".to_vec()].concat()
}

/// Writes `content` so that the file system stores zeros as holes.
fn write_sparse(path: &Path, content: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = fs::File::create(path).unwrap();
    file.set_len(content.len() as u64).unwrap();
    for (index, block) in
        content.chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0))
    {
        file.write_all_at(block, index as u64 * 4096).unwrap();
    }
}

/// What GNU tar makes, with these options, of a folder with entries of every kind.
fn archive(options: &[&str], long_names: bool) -> Vec<u8> {
    let folder = tools::temporary_folder();
    let root = folder.path();
    fs::create_dir_all(root.join("d/empty")).unwrap();
    fs::write(root.join("d/file"), "content").unwrap();
    fs::hard_link(root.join("d/file"), root.join("hard")).unwrap();
    symlink("d/file", root.join("link")).unwrap();
    write_sparse(&root.join("sparse"), &sparse());
    write_sparse(&root.join("hole"), &vec![0; HOLE]);
    if long_names {
        let deep = root.join("n".repeat(120)).join("m".repeat(120));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("k".repeat(120)), "deep").unwrap();
        symlink("t".repeat(180), root.join("dangling")).unwrap();
    }
    let mut command = tools::command("tar");
    command.args([
        "-c",
        "--sort=name",
        "--mtime=@1704067200",
        "--owner=0",
        "--group=0",
        "-C",
        tools::text(root),
    ]);
    tools::run(command.args(options).arg("."))
}

fn agrees(options: &[&str], long_names: bool) {
    let subject = Subject::of(&[archive(options, long_names)]);
    // umoci does not know every form of sparse files, so it gets the folder with all holes filled.
    let dense: Vec<&str> = options.iter().copied().filter(|option| !option.contains("sparse")).collect();
    let oracle = Subject::of(&[archive(&dense, long_names)]);
    subject
        .holds_unlike_umoci("d/file", 0, "content")
        .holds_unlike_umoci("hard", 0, "content")
        .holds_unlike_umoci("link", 0, "content")
        .holds_unlike_umoci("sparse", 0, sparse())
        .holds_unlike_umoci("hole", 0, vec![0; HOLE]);
    for reference in subject.references() {
        let same = block_on(async { compare(&open(&reference).await.unwrap(), oracle.unpacked()).await });
        assert_eq!(same, Ok(()), "{options:?}: {reference}");
    }
}

#[test]
fn old_formats_hold_what_umoci_unpacks() {
    for format in ["v7", "ustar"] {
        agrees(&[&format!("--format={format}")], false);
    }
}

#[test]
fn newer_formats_hold_what_umoci_unpacks() {
    for format in ["oldgnu", "gnu", "posix"] {
        agrees(&[&format!("--format={format}")], true);
    }
}

#[test]
fn sparse_files_are_expanded_in_every_form() {
    agrees(&["--format=gnu", "--sparse"], true);
    for version in ["0.0", "0.1", "1.0"] {
        agrees(&["--format=posix", "--sparse", &format!("--sparse-version={version}")], true);
    }
}

#[test]
fn numbers_too_large_for_octal_digits_are_read() {
    for format in ["gnu", "posix"] {
        agrees(&[&format!("--format={format}"), "--owner=big:4000000", "--group=big:5000000"], true);
    }
}
