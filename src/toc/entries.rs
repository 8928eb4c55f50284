//! The entries of one layer as a tree: the result of extracting its tar in order into an empty directory, plus whiteouts
//! and opaque markers.
//!
//! The tree is filled while the layer is read and can be queried at any time. A name belongs to the *record* of its
//! parent, so replacing a directory drops everything below it at once, and a hard link keeps its target's record when the
//! target's name is replaced. Such orphaned records stay in memory; the caps count them.

use std::collections::HashMap;

use self::{
    insert::LastDirectory,
    names::NameIndex,
    record::{BLOCK, IMPLIED, NONE, OPAQUE, Owners, RARE, REPLACED, Rare, Record, XattrSets},
    segmented_vec::SegmentedVec,
};
use crate::{
    limits,
    offset::Uncompressed,
    tar::entry::{Entry, EntryKind, Timestamp},
};

mod insert;
mod names;
mod record;
#[cfg(test)]
pub(crate) mod sample;
mod segmented_vec;
mod stored;
#[cfg(test)]
mod tests;
mod warnings;

pub(crate) use self::{insert::Error, warnings::Warnings};

/// The record of every layer's root directory.
pub(crate) const ROOT: u32 = 0;

/// Records per segment.
const RECORDS: usize = 2_048;

/// Bytes of names per segment.
const TEXT_BYTES: usize = 64 << 10;
const _: () = assert!(TEXT_BYTES as u64 >= limits::PATH_BYTES, "the longest text fits in one segment");

/// The components of a path, without empty ones and `.`.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// The target of a hard link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Hardlink<'a> {
    /// An entry of the same layer, as it was when the link was made. It is not a directory; it is a hard link only if
    /// that one is unresolved.
    Record(u32),
    /// A path that the layer did not have when the link was made: in lower layers, or later in the same layer.
    Unresolved(&'a [u8]),
}

/// The entries of one layer.
#[derive(Clone, Debug)]
pub(crate) struct EntryTree {
    records: SegmentedVec<Record, RECORDS>,
    /// Names and link targets.
    names: SegmentedVec<u8, TEXT_BYTES>,
    owners: Owners,
    rare: HashMap<u32, Box<Rare>>,
    xattrs: XattrSets,
    /// Bytes of `owners`, `rare` and `xattrs`.
    extra_bytes: u64,
    index: Index,
    last_directory: LastDirectory,
    warnings: Warnings,
    /// Cap on the memory of all of it.
    max_bytes: u64,
    /// Components of links' targets walked by insertions so far.
    link_steps: u64,
}

/// From (parent, name, whiteout or not) to the record.
#[derive(Clone, Debug)]
enum Index {
    /// While the layer is read.
    Hashed(NameIndex),
    /// For a complete layer: by parent, then by name, a whiteout after the entry of the same name.
    Sorted(Box<[u32]>),
}

impl EntryTree {
    /// The tree of a layer of which nothing has been read.
    pub(crate) fn new() -> Self {
        Self::limited(limits::LAYER_ENTRIES_BYTES)
    }

    /// The same with another cap on its memory, in bytes.
    pub(crate) fn limited(max_bytes: u64) -> Self {
        let mut records = SegmentedVec::new();
        records.push(Record::implied(ROOT, (0, 0)));
        Self {
            records,
            names: SegmentedVec::new(),
            owners: Owners::new(),
            rare: HashMap::new(),
            xattrs: XattrSets::default(),
            extra_bytes: 0,
            index: Index::Hashed(NameIndex::new()),
            last_directory: LastDirectory::default(),
            warnings: Warnings::default(),
            max_bytes,
            link_steps: 0,
        }
    }

    /// The same tree with another cap on its memory, in bytes.
    pub(crate) fn capped(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Ends the layer: no entry follows. Sorts the names.
    pub(crate) fn complete(&mut self) {
        if self.is_complete() {
            return;
        }
        // The hash tables are dropped before the sorted index is built, so memory never holds both.
        self.index = Index::Sorted(Box::default());
        let live = || {
            let records = ROOT + 1..self.records.len() as u32;
            records.filter(|record| self.is_named(*record))
        };
        let mut order = Vec::with_capacity(live().count());
        order.extend(live());
        order.sort_unstable_by(|one, other| self.key(*one).cmp(&self.key(*other)));
        self.index = Index::Sorted(order.into());
        self.records.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    /// Whether the layer has been read to its end.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.index, Index::Sorted(_))
    }

    /// Oddities of the layer.
    pub(crate) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// The entry of this name in a directory; whiteouts are not entries.
    pub(crate) fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        self.find(directory, name, false)
    }

    /// Whether a directory has a whiteout of this name.
    pub(crate) fn whiteout(&self, directory: u32, name: &[u8]) -> bool {
        self.find(directory, name, true).is_some()
    }

    /// Whether a directory has an opaque marker.
    pub(crate) fn is_opaque(&self, directory: u32) -> bool {
        self.record(directory).has(OPAQUE)
    }

    /// The entries of a directory, sorted by the bytes of their names, whiteouts included (each after the entry of the
    /// same name). Empty until the layer is complete.
    pub(crate) fn children(&self, directory: u32) -> &[u32] {
        let Index::Sorted(order) = &self.index else { return &[] };
        let start = order.partition_point(|record| self.record(*record).parent < directory);
        let Some(tail) = order.get(start..) else { return &[] };
        let length = tail.partition_point(|record| self.record(*record).parent == directory);
        tail.get(..length).unwrap_or_default()
    }

    /// The record at a path within this layer. Symbolic links in parent directories are followed, the last component is
    /// not.
    pub(crate) fn lookup(&self, path: &[u8]) -> Option<u32> {
        let (parent, name) = insert::split(path);
        let resolved = self.resolve_parent(parent).ok()?;
        match name {
            _ if !resolved.missing.is_empty() => None,
            [] => Some(resolved.directory),
            name => self.child(resolved.directory, name),
        }
    }

    /// The entries in the order of the tar, markers included (an opaque marker has kind `Opaque`). A listing of the tar has
    /// the same entries, unless `warnings` reports replaced or moved ones.
    pub(crate) fn in_tar_order(&self) -> Vec<u32> {
        let mut entries: Vec<u32> = self.entries().collect();
        entries.sort_by_key(|record| (self.record(*record).header_offset, *record));
        entries
    }

    /// A tree with only the entries whose headers start before `end`. `None` if entries were replaced or moved, because the
    /// earlier state is lost.
    pub(crate) fn until(&self, end: Uncompressed) -> Option<Self> {
        if self.warnings().count() > 0 {
            return None;
        }
        let mut tree = Self::new();
        for record in self.in_tar_order() {
            if self.header_offset(record) >= end {
                break;
            }
            tree.insert(&self.entry(record)).ok()?;
        }
        Some(tree)
    }

    /// Number of entries in `in_tar_order`.
    pub(crate) fn entry_count(&self) -> u64 {
        self.entries().count() as u64
    }

    /// End of the last content.
    pub(crate) fn content_end(&self) -> Uncompressed {
        let described = (ROOT..self.records.len() as u32).filter(|record| !self.is_implied(*record));
        let ends = described.map(|record| {
            let begin = self.data_offset(record).max(self.header_offset(record));
            begin.0.saturating_add(self.stored_size(record))
        });
        Uncompressed(ends.max().unwrap_or(0))
    }

    /// The records of entries that are not replaced.
    fn entries(&self) -> impl Iterator<Item = u32> {
        // Parents come before their children.
        let mut is_gone = vec![false; self.records.len()];
        (ROOT..self.records.len() as u32).filter(move |number| {
            let record = self.record(*number);
            let gone = record.has(REPLACED) || is_gone.get(record.parent as usize) == Some(&true);
            if let Some(flag) = is_gone.get_mut(*number as usize) {
                *flag = gone;
            }
            !gone && !record.has(IMPLIED)
        })
    }

    /// The entry's kind. `Hardlink` for a hard link, `Whiteout` among `children`, `Opaque` only `in_tar_order`.
    pub(crate) fn kind(&self, record: u32) -> EntryKind {
        self.record(record).kind
    }

    /// The entry's last path component; empty for the root and for opaque markers.
    pub(crate) fn name(&self, record: u32) -> &[u8] {
        let record = self.record(record);
        self.text(record.name_start as usize, record.name_length.into())
    }

    /// The directory of an entry; the root is its own parent.
    pub(crate) fn parent(&self, record: u32) -> u32 {
        self.record(record).parent
    }

    /// Whether the directory has no entry of its own, only entries below it.
    pub(crate) fn is_implied(&self, record: u32) -> bool {
        self.record(record).has(IMPLIED)
    }

    /// The content's size in bytes; 0 for anything but files.
    pub(crate) fn size(&self, record: u32) -> u64 {
        self.record(record).size()
    }

    /// Bytes of content in the archive: less than the size for a sparse file.
    pub(crate) fn stored_size(&self, record: u32) -> u64 {
        self.rare(record).and_then(|rare| rare.stored_size).unwrap_or_else(|| self.size(record))
    }

    /// Permission bits, `0..=0o7777`.
    pub(crate) fn mode(&self, record: u32) -> u32 {
        self.record(record).mode.into()
    }

    /// Numeric owner.
    pub(crate) fn uid(&self, record: u32) -> u64 {
        self.owners.owner(self.record(record).owner).map_or(0, |owner| owner.uid)
    }

    /// Numeric group.
    pub(crate) fn gid(&self, record: u32) -> u64 {
        self.owners.owner(self.record(record).owner).map_or(0, |owner| owner.gid)
    }

    /// Time of last modification.
    pub(crate) fn mtime(&self, record: u32) -> Timestamp {
        self.record(record).mtime()
    }

    /// The target of a symbolic link, verbatim, or of a hard link, as a path from the root; empty for other kinds.
    pub(crate) fn link(&self, record: u32) -> &[u8] {
        let (start, length) = self.record(record).link().unwrap_or_default();
        self.text(start, length)
    }

    /// The target of a hard link; `None` for other kinds.
    pub(crate) fn hardlink(&self, record: u32) -> Option<Hardlink<'_>> {
        let link = self.record(record);
        match (link.kind, link.target) {
            (EntryKind::Hardlink, NONE) => Some(Hardlink::Unresolved(self.link(record))),
            (EntryKind::Hardlink, target) => Some(Hardlink::Record(target)),
            _ => None,
        }
    }

    /// Offset of the entry's first header block.
    pub(crate) fn header_offset(&self, record: u32) -> Uncompressed {
        Uncompressed(self.record(record).header_offset)
    }

    /// Offset of the entry's stored content.
    pub(crate) fn data_offset(&self, record: u32) -> Uncompressed {
        let headers = u64::from(self.record(record).header_blocks) * BLOCK;
        let near = self.record(record).header_offset.saturating_add(headers);
        Uncompressed(self.rare(record).and_then(|rare| rare.data_offset).unwrap_or(near))
    }

    /// The path from the root with symbolic links in parents resolved; for an opaque marker, that of its directory.
    pub(crate) fn path(&self, record: u32) -> Vec<u8> {
        let mut names = Vec::new();
        let mut record = if self.kind(record) == EntryKind::Opaque { self.parent(record) } else { record };
        while record != ROOT {
            names.push(self.name(record));
            record = self.parent(record);
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The entry as it was inserted, except for its path: see `path`. An implied directory has mode 0755 and no time.
    pub(crate) fn entry(&self, record: u32) -> Entry {
        let (owner, rare) = (self.owners.owner(self.record(record).owner), self.rare(record));
        Entry {
            path: self.path(record),
            kind: self.kind(record),
            size: self.size(record),
            mode: self.mode(record),
            uid: self.uid(record),
            gid: self.gid(record),
            uname: owner.map(|owner| owner.uname.to_vec()).unwrap_or_default(),
            gname: owner.map(|owner| owner.gname.to_vec()).unwrap_or_default(),
            mtime: self.mtime(record),
            link: self.link(record).to_vec(),
            device: rare.and_then(|rare| rare.device),
            xattrs: rare.map(|rare| rare.xattrs.clone()).unwrap_or_default(),
            header_offset: self.header_offset(record),
            data_offset: self.data_offset(record),
            stored_size: self.stored_size(record),
        }
    }

    fn record(&self, record: u32) -> &Record {
        // Record numbers come from this tree, but one of another tree must not panic.
        const NOTHING: &Record = &Record {
            seconds: 0,
            size_or_link: 0,
            header_offset: 0,
            parent: ROOT,
            name_start: 0,
            nanoseconds: 0,
            owner: 0,
            header_blocks: 0,
            target: NONE,
            name_length: 0,
            mode: 0,
            kind: EntryKind::Other,
            flags: 0,
        };
        self.records.get(record as usize).unwrap_or(NOTHING)
    }

    /// Whether the record is in the index: it has a name that no other record has taken.
    fn is_named(&self, record: u32) -> bool {
        !self.record(record).has(REPLACED) && self.kind(record) != EntryKind::Opaque
    }

    fn rare(&self, record: u32) -> Option<&Rare> {
        if self.record(record).has(RARE) { self.rare.get(&record).map(Box::as_ref) } else { None }
    }

    fn text(&self, start: usize, length: usize) -> &[u8] {
        self.names.slice(start, length).unwrap_or_default()
    }

    fn key(&self, record: u32) -> (u32, &[u8], bool) {
        (self.parent(record), self.name(record), self.kind(record) == EntryKind::Whiteout)
    }

    fn find(&self, parent: u32, name: &[u8], whiteout: bool) -> Option<u32> {
        let key = (parent, name, whiteout);
        match &self.index {
            Index::Hashed(names) => names.find(key, |record| self.key(record) == key),
            Index::Sorted(order) => {
                let index = order.binary_search_by(|record| self.key(*record).cmp(&key)).ok()?;
                order.get(index).copied()
            }
        }
    }
}
