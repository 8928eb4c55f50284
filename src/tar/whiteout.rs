//! Whiteouts: names by which a layer hides entries of lower layers (OCI image specification, layer.md, "Whiteouts").

use crate::tar::entry::{Entry, EntryKind};

const PREFIX: &[u8] = b".wh.";
const METADATA_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

const AUFS_LINKS: &[u8] = b".wh..wh.plnk/";

/// Whether an entry is part of the file system that a layer describes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Meaning {
    /// It is: a file, a directory, … or a marker.
    Entry,
    /// It is not, but hard links of the same layer may name it: a file in AUFS' `.wh..wh.plnk`.
    HardlinkTarget,
    /// It is not: AUFS' own bookkeeping, or a marker that names nothing. Drop it.
    Metadata,
}

/// Interprets markers: `.wh.NAME` becomes a [`Whiteout`](EntryKind::Whiteout) of `NAME` in the same directory,
/// `.wh..wh..opq` an [`Opaque`](EntryKind::Opaque) marker of its directory. The content of a marker is ignored.
///
/// Only the last component decides, whatever the entry's type, as in containerd, docker and umoci: a directory `.wh.x`
/// is a whiteout of `x`, and `.wh.x/y` is a file `y`. Other names that start with `.wh..wh.` belong to AUFS, and so does
/// everything in a top-level directory of such a name. Docker drops them, but still links to files in `.wh..wh.plnk`.
/// containerd rejects a marker without a name or for `.` or `..`; it hides nothing, so it is dropped here.
pub(crate) fn interpret(entry: &mut Entry) -> Meaning {
    let (directory, name) = split(&entry.path);
    if name == OPAQUE {
        let path = directory.to_vec();
        return mark(entry, EntryKind::Opaque, path);
    }
    if entry.path.starts_with(AUFS_LINKS) && entry.kind == EntryKind::File {
        return Meaning::HardlinkTarget;
    }
    if name.starts_with(METADATA_PREFIX) || entry.path.starts_with(METADATA_PREFIX) {
        return Meaning::Metadata;
    }
    let Some(hidden) = name.strip_prefix(PREFIX) else { return Meaning::Entry };
    if matches!(hidden, b"" | b"." | b"..") {
        return Meaning::Metadata;
    }
    let path = if directory.is_empty() { hidden.to_vec() } else { [directory, b"/", hidden].concat() };
    mark(entry, EntryKind::Whiteout, path)
}

/// Whether a top-level name belongs to AUFS: entries below it only serve hard links of their layer.
pub(crate) fn is_metadata(name: &[u8]) -> bool {
    name.starts_with(METADATA_PREFIX)
}

fn mark(entry: &mut Entry, kind: EntryKind, path: Vec<u8>) -> Meaning {
    entry.kind = kind;
    entry.path = path;
    entry.size = 0;
    entry.link.clear();
    entry.device = None;
    Meaning::Entry
}

/// A path's directory and its last component.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|&byte| byte == b'/');
    let Some(at) = at else { return (&[], path) };
    let (directory, rest) = path.split_at_checked(at).unwrap_or_default();
    (directory, rest.strip_prefix(b"/").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{offset::Uncompressed, tar::entry::Timestamp};

    fn entry(path: &str, kind: EntryKind) -> Entry {
        Entry {
            path: path.into(),
            kind,
            size: 3,
            mode: 0o644,
            uid: 0,
            gid: 0,
            uname: Vec::new(),
            gname: Vec::new(),
            mtime: Timestamp::default(),
            link: b"link".to_vec(),
            device: Some((1, 3)),
            xattrs: Default::default(),
            header_offset: Uncompressed(0),
            data_offset: Uncompressed(512),
            stored_size: 3,
        }
    }

    #[test]
    fn a_marker_becomes_what_it_hides() {
        for (path, kind, hidden) in [
            (".wh.x", EntryKind::Whiteout, "x"),
            ("a/b/.wh.x", EntryKind::Whiteout, "a/b/x"),
            ("a/.wh..hidden", EntryKind::Whiteout, "a/.hidden"),
            ("a/.wh.wh.x", EntryKind::Whiteout, "a/wh.x"),
            ("a/.wh....", EntryKind::Whiteout, "a/..."),
            (".wh.x/.wh.y", EntryKind::Whiteout, ".wh.x/y"),
            (".wh..wh..opq", EntryKind::Opaque, ""),
            ("a/b/.wh..wh..opq", EntryKind::Opaque, "a/b"),
        ] {
            for original in [EntryKind::File, EntryKind::Directory, EntryKind::Hardlink, EntryKind::Char] {
                let mut marker = entry(path, original);
                assert_eq!(interpret(&mut marker), Meaning::Entry, "{path}");
                assert_eq!((marker.kind, marker.size), (kind, 0), "{path}");
                assert_eq!(String::from_utf8_lossy(&marker.path), hidden);
                assert_eq!((&marker.link[..], marker.device), (&b""[..], None));
            }
        }
    }

    #[test]
    fn names_that_only_look_like_markers_are_left_alone() {
        for path in
            ["", "x", "wh.x", "a.wh.x", "a/.wh/x", ".wh", ".wh.x/y", "a/.wh..wh.plnk/x", "a/.wh..wh..opq/x"]
        {
            let mut file = entry(path, EntryKind::File);
            assert_eq!(interpret(&mut file), Meaning::Entry, "{path}");
            assert_eq!(file, entry(path, EntryKind::File));
        }
    }

    #[test]
    fn aufs_bookkeeping_and_markers_without_a_name_are_metadata() {
        for path in [
            ".wh..wh.aufs",
            ".wh..wh.plnk",
            ".wh..wh.orph/x/y",
            ".wh..wh.plnk/.wh.x",
            "a/.wh..wh.plnk",
            "a/.wh.",
            ".wh..",
            "a/.wh...",
        ] {
            assert_eq!(interpret(&mut entry(path, EntryKind::Directory)), Meaning::Metadata, "{path}");
        }
        assert_eq!(interpret(&mut entry(".wh..wh.plnk/1.2", EntryKind::File)), Meaning::HardlinkTarget);
        assert_eq!(interpret(&mut entry(".wh..wh.plnk/1.2", EntryKind::Directory)), Meaning::Metadata);
    }
}
