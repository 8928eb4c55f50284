use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, symlink},
};

use super::*;

struct Case {
    directory: tempfile::TempDir,
    tree: Tree,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::open(
            &directory.path().join("out"),
            TreeOptions { copy_bytes: 20, ..TreeOptions::default() },
        )
        .unwrap();
        Self { directory, tree }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("out").join(path)
    }

    fn file(&mut self, path: &str, content: &str) -> io::Result<()> {
        let mut entry = Entry::new(path, EntryKind::File);
        entry.size = content.len() as u64;
        entry.mode = 0o4755;
        entry.mtime = Timestamp { seconds: 1_704_067_200, nanoseconds: 500 };
        self.tree.write(path.as_bytes(), &entry, None, content.as_bytes())
    }

    fn other(&mut self, path: &str, kind: EntryKind, link: &str) -> io::Result<()> {
        let mut entry = Entry::new(path, kind);
        entry.mode = 0o755;
        entry.link = link.into();
        self.tree.write(path.as_bytes(), &entry, None, io::empty())
    }

    fn names(&self, path: &str) -> Vec<String> {
        let names = fs::read_dir(self.path(path)).unwrap();
        let mut names: Vec<_> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn files_get_missing_parents_their_time_and_no_special_bits() {
    let mut case = Case::new();
    case.file("usr/bin/su", "content").unwrap();
    let metadata = fs::metadata(case.path("usr/bin/su")).unwrap();
    assert_eq!(metadata.mode() & 0o7700, 0o700);
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_704_067_200, 500));
    assert_eq!(fs::read(case.path("usr/bin/su")).unwrap(), b"content");
    assert_eq!(case.names("usr/bin"), ["su"]);
}

#[test]
fn directories_keep_their_time_although_files_are_added_later() {
    let mut case = Case::new();
    let mut entry = Entry::new("etc", EntryKind::Directory);
    entry.mtime.seconds = 1000;
    entry.mode = 0o500;
    case.tree.write(b"etc", &entry, None, io::empty()).unwrap();
    case.file("etc/passwd", "x").unwrap();
    case.tree.close().unwrap();
    let metadata = fs::metadata(case.path("etc")).unwrap();
    assert_eq!((metadata.mtime(), metadata.mode() & 0o700), (1000, 0o700));
}

#[test]
fn symlinks_fifos_and_hard_links_are_created() {
    let mut case = Case::new();
    case.file("a", "content").unwrap();
    let mut entry = Entry::new("d/b", EntryKind::File);
    entry.size = 7;
    case.tree.write(b"d/b", &entry, Some(b"a"), &b"content"[..]).unwrap();
    case.other("bin", EntryKind::Symlink, "/usr/bin").unwrap();
    case.other("pipe", EntryKind::Fifo, "").unwrap();
    assert_eq!(fs::metadata(case.path("a")).unwrap().ino(), fs::metadata(case.path("d/b")).unwrap().ino());
    assert_eq!(fs::read_link(case.path("bin")).unwrap(), Path::new("/usr/bin"));
    assert!(fs::metadata(case.path("pipe")).unwrap().file_type().is_fifo());
    assert_eq!(case.names(""), ["a", "bin", "d", "pipe"]);
    // Again over the existing tree: everything is replaced, nothing is left over.
    case.tree.write(b"d/b", &entry, Some(b"a"), &b"content"[..]).unwrap();
    case.other("bin", EntryKind::Symlink, "elsewhere").unwrap();
    assert_eq!(fs::read_link(case.path("bin")).unwrap(), Path::new("elsewhere"));
    assert_eq!(
        (case.names(""), case.names("d")),
        (["a", "bin", "d", "pipe"].map(Into::into).into(), vec!["b".into()])
    );
}

#[test]
fn a_hard_link_to_a_missing_file_becomes_a_file() {
    let mut case = Case::new();
    let mut entry = Entry::new("b", EntryKind::File);
    entry.size = 7;
    case.tree.write(b"b", &entry, Some(b"never"), &b"content"[..]).unwrap();
    assert_eq!(fs::read(case.path("b")).unwrap(), b"content");
}

#[test]
fn nothing_is_written_through_a_link() {
    let mut case = Case::new();
    let outside = case.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, case.path("planted")).unwrap();
    case.other("carved", EntryKind::Symlink, outside.to_str().unwrap()).unwrap();
    for path in ["planted/file", "carved/file", "planted/a/b"] {
        let error = case.file(path, "x").unwrap_err();
        assert!(error.to_string().contains("links are not followed"), "{error}");
    }
    assert!(case.other("carved", EntryKind::Directory, "").is_err());
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn an_existing_link_is_replaced_and_not_followed() {
    let mut case = Case::new();
    let outside = case.directory.path().join("outside");
    fs::write(&outside, "old").unwrap();
    symlink(&outside, case.path("file")).unwrap();
    case.file("file", "new").unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"old");
    assert!(fs::symlink_metadata(case.path("file")).unwrap().is_file());
}

#[test]
fn the_other_hard_links_of_an_existing_file_keep_their_content() {
    let mut case = Case::new();
    let outside = case.directory.path().join("outside");
    fs::write(&outside, "old").unwrap();
    for name in ["file", "link", "hard", "pipe"] {
        fs::hard_link(&outside, case.path(name)).unwrap();
    }
    case.file("file", "new").unwrap();
    case.other("link", EntryKind::Symlink, "file").unwrap();
    let hard = Entry::new("hard", EntryKind::File);
    case.tree.write(b"hard", &hard, Some(b"file"), io::empty()).unwrap();
    case.other("pipe", EntryKind::Fifo, "").unwrap();
    let metadata = fs::metadata(&outside).unwrap();
    assert_eq!((fs::read(&outside).unwrap(), metadata.nlink()), (b"old".to_vec(), 1));
    assert_eq!(fs::read(case.path("hard")).unwrap(), b"new");
}

#[test]
fn copies_in_place_of_hard_links_have_a_budget() {
    let mut case = Case::new();
    let mut entry = Entry::new("b", EntryKind::File);
    entry.size = 9;
    // 20 bytes are enough for two copies.
    for path in ["a", "b"] {
        case.tree.write(path.as_bytes(), &entry, Some(b"never"), &b"nine byte"[..]).unwrap();
    }
    let error = case.tree.write(b"c", &entry, Some(b"never"), &b"nine byte"[..]).unwrap_err();
    assert!(error.to_string().contains("hard link"), "{error}");
    assert_eq!(case.names(""), ["a", "b"]);
}

#[test]
fn a_size_beyond_the_file_system_is_refused_at_once() {
    let mut case = Case::new();
    let mut entry = Entry::new("big", EntryKind::File);
    entry.size = 1 << 62;
    let error = case.tree.write(b"big", &entry, None, io::repeat(0)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    assert!(case.names("").is_empty());
}

#[test]
fn a_path_that_leaves_the_directory_is_refused() {
    let mut case = Case::new();
    for path in ["../file", "a/../../file", "/file", "a//b", "..", "a/.."] {
        assert!(case.file(path, "x").is_err(), "{path}");
    }
    assert!(!case.directory.path().join("file").exists());
}

#[test]
fn short_content_leaves_no_file_behind() {
    let mut case = Case::new();
    let mut entry = Entry::new("file", EntryKind::File);
    entry.size = 100;
    assert!(case.tree.write(b"file", &entry, None, &b"short"[..]).is_err());
    assert!(case.names("").is_empty());
}

#[test]
fn devices_are_skipped_and_reported() {
    let mut case = Case::new();
    case.other("null", EntryKind::Char, "").unwrap();
    case.other("sda", EntryKind::Block, "").unwrap();
    assert!(case.names("").is_empty());
    assert_eq!(case.tree.lost().len(), 1);
    assert!(case.tree.lost().is_empty());
}

#[test]
fn same_permissions_restores_all_mode_bits_of_own_files() {
    let directory = tempfile::tempdir().unwrap();
    let mut tree =
        Tree::open(directory.path(), TreeOptions { same_permissions: true, ..TreeOptions::default() })
            .unwrap();
    let owner = fs::metadata(directory.path()).unwrap();
    let mut entry = Entry::new("su", EntryKind::File);
    (entry.uid, entry.gid) = (owner.uid().into(), owner.gid().into());
    entry.mode = 0o4777;
    tree.write(b"su", &entry, None, io::empty()).unwrap();
    assert_eq!(fs::metadata(directory.path().join("su")).unwrap().mode() & 0o7777, 0o4777);
    assert!(tree.lost().is_empty());
}
