//! What a layer did to a path.

use std::fmt;

use crate::{
    image::rootfs::{Content, Stack},
    tar::entry::EntryKind,
    toc::entries::EntryTree,
};

/// What a layer did to a path, compared with the layers below it.
///
/// ```
/// assert_eq!(layerslayer::Change::Metadata.to_string(), "metadata");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// No layer below has the path.
    Added,
    /// Only mode, owner, extended attributes or, for a directory, time differ.
    Metadata,
    /// Kind, size, time or link target differ: the content may, too.
    Modified,
    /// The layer deletes the path.
    Removed,
    /// The layer has the same entry again.
    Unchanged,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Added => "added",
            Self::Metadata => "metadata",
            Self::Modified => "modified",
            Self::Removed => "removed",
            Self::Unchanged => "unchanged",
        })
    }
}

/// The entry of the layers below at a path, which is taken literally, and what it says with hard links followed.
pub(crate) fn below(stack: &Stack<'_>, path: &[u8]) -> Option<(Content, EntryKind)> {
    let node = stack.subtree(path).next()?;
    (node.path == path).then_some(())?;
    let content = node.content.unwrap_or(Content { layer: node.layer, record: node.record });
    Some((content, node.kind))
}

/// Compares an entry with the one that it replaces.
pub(crate) fn compare((new, new_record): (&EntryTree, u32), (old, old_record): (&EntryTree, u32)) -> Change {
    let kind = new.kind(new_record);
    let is_same_kind = kind == old.kind(old_record);
    let is_directory = kind == EntryKind::Directory;
    let is_same_content = is_same_kind
        && new.size(new_record) == old.size(old_record)
        && (kind != EntryKind::Symlink || new.link(new_record) == old.link(old_record))
        && (is_directory || new.mtime(new_record) == old.mtime(old_record));
    if !is_same_content {
        return Change::Modified;
    }
    let (one, other) = (new.entry(new_record), old.entry(old_record));
    let is_same = (one.mode, one.uid, one.gid, one.mtime, &one.xattrs, one.device)
        == (other.mode, other.uid, other.gid, other.mtime, &other.xattrs, other.device);
    if is_same || new.is_implied(new_record) { Change::Unchanged } else { Change::Metadata }
}
