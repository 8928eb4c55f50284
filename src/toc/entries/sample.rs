//! Entries for tests, one function per kind.

use super::EntryTree;
use crate::{
    offset::Uncompressed,
    tar::entry::{Entry, EntryKind, Timestamp},
};

pub(crate) fn entry(path: impl AsRef<[u8]>, kind: EntryKind, link: impl AsRef<[u8]>) -> Entry {
    Entry {
        path: path.as_ref().to_vec(),
        kind,
        size: 0,
        mode: 0o644,
        uid: 0,
        gid: 0,
        uname: Vec::new(),
        gname: Vec::new(),
        mtime: Timestamp::default(),
        link: link.as_ref().to_vec(),
        device: None,
        xattrs: Default::default(),
        header_offset: Uncompressed(0),
        data_offset: Uncompressed(512),
        stored_size: 0,
    }
}

pub(crate) fn dir(path: impl AsRef<[u8]>) -> Entry {
    entry(path, EntryKind::Directory, "")
}

pub(crate) fn file(path: impl AsRef<[u8]>) -> Entry {
    entry(path, EntryKind::File, "")
}

pub(crate) fn hard(path: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Entry {
    entry(path, EntryKind::Hardlink, link)
}

pub(crate) fn opaque(path: impl AsRef<[u8]>) -> Entry {
    entry(path, EntryKind::Opaque, "")
}

pub(crate) fn soft(path: impl AsRef<[u8]>, link: impl AsRef<[u8]>) -> Entry {
    entry(path, EntryKind::Symlink, link)
}

pub(crate) fn whiteout(path: impl AsRef<[u8]>) -> Entry {
    entry(path, EntryKind::Whiteout, "")
}

/// A partly read layer with these entries. Number n (from 0) has its header at n × 1024.
pub(crate) fn incomplete(entries: impl IntoIterator<Item = Entry>) -> EntryTree {
    let mut tree = EntryTree::new();
    for (number, mut entry) in entries.into_iter().enumerate() {
        entry.header_offset = Uncompressed(number as u64 * 1024);
        entry.data_offset = Uncompressed(number as u64 * 1024 + 512);
        tree.insert(&entry).unwrap();
    }
    tree
}

/// A complete layer with these entries.
pub(crate) fn layer(entries: impl IntoIterator<Item = Entry>) -> EntryTree {
    let mut tree = incomplete(entries);
    tree.complete();
    tree
}
