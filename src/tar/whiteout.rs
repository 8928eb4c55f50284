//! Whiteouts: names by which a layer hides what lies below it (OCI image specification, layer.md, "Whiteouts").

use crate::tar::entry::{Entry, EntryKind};

const PREFIX: &[u8] = b".wh.";
const METADATA_PREFIX: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Whether an entry belongs to the file system that a layer describes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Meaning {
    /// It does: a file, a directory, … or a marker.
    Entry,
    /// It does not: AUFS' own bookkeeping, or a marker that names nothing. Drop it.
    Metadata,
}

/// Turns markers into what they mean: `.wh.NAME` into a [`Whiteout`](EntryKind::Whiteout) of `NAME` beside it,
/// `.wh..wh..opq` into an [`Opaque`](EntryKind::Opaque) of the directory that holds it.
///
/// Only the last component counts, whatever the entry's type: containerd and docker look at nothing else, so that a
/// directory `.wh.x` is a whiteout of `x`, and `.wh.x/y` is a file `y`. What lies in a top-level directory of AUFS
/// (`.wh..wh.plnk/…`, `.wh..wh.orph/…`) they drop.
pub(crate) fn interpret(entry: &mut Entry) -> Meaning {
    let (directory, name) = split(&entry.path);
    if !name.starts_with(PREFIX) {
        return if entry.path.starts_with(METADATA_PREFIX) { Meaning::Metadata } else { Meaning::Entry };
    }
    if name == OPAQUE {
        let path = directory.to_vec();
        return mark(entry, EntryKind::Opaque, path);
    }
    if name.starts_with(METADATA_PREFIX) || entry.path.starts_with(METADATA_PREFIX) {
        return Meaning::Metadata;
    }
    let hidden = name.strip_prefix(PREFIX).unwrap_or_default();
    if matches!(hidden, b"" | b"." | b"..") {
        return Meaning::Metadata;
    }
    let path = if directory.is_empty() { hidden.to_vec() } else { [directory, b"/", hidden].concat() };
    mark(entry, EntryKind::Whiteout, path)
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
