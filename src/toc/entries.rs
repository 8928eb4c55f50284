//! The entries of one layer as a tree: what extracting its tar in order would leave in an empty directory,
//! with whiteouts and opaque marks beside it.
//!
//! The table is filled while the layer streams past and can be asked at any time. Names hang on the *record*
//! of their parent, so a directory that is replaced loses all below it at once, and a hard link keeps the
//! record it was made for when the name it was made from is replaced. Such orphaned records stay in memory;
//! the caps count them.

use std::collections::HashMap;

use self::{
    insert::Nearby,
    names::NameIndex,
    pieces::Pieces,
    record::{BLOCK, IMPLIED, NONE, OPAQUE, Owners, RARE, REPLACED, Rare, Record},
};
use crate::{
    limits,
    offset::Uncompressed,
    tar::entry::{Entry, EntryKind, Timestamp},
};

mod insert;
mod names;
mod pieces;
mod record;
#[cfg(test)]
pub(crate) mod sample;
mod stored;
#[cfg(test)]
mod tests;
mod warnings;

pub(crate) use self::{insert::Error, warnings::Warnings};

/// The record of every layer's root directory.
pub(crate) const ROOT: u32 = 0;

/// Records in one piece of the table.
const RECORDS: usize = 2_048;

/// Bytes in one piece of the names: the longest name or link target fits.
const TEXT_BYTES: usize = 64 << 10;
const _: () = assert!(TEXT_BYTES as u64 >= limits::PATH_BYTES, "a text lies in one piece");

/// The components of a path, without the empty ones and `.`.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// What a hard link stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Hardlink<'a> {
    /// An entry of the same layer, as it was when the link was made. It is no directory; it is a hard link
    /// only if that one is unresolved.
    Record(u32),
    /// Nothing that the layer held when the link was made: this path, in the layers below or later in the
    /// same layer.
    Unresolved(&'a [u8]),
}

/// The entries of one layer.
#[derive(Clone, Debug)]
pub(crate) struct EntryTree {
    records: Pieces<Record, RECORDS>,
    /// Names and link targets.
    names: Pieces<u8, TEXT_BYTES>,
    owners: Owners,
    rare: HashMap<u32, Box<Rare>>,
    /// Bytes of `owners` and `rare`: they count against the cap on names.
    side_bytes: u64,
    index: Index,
    nearby: Nearby,
    warnings: Warnings,
    /// Caps: so many records, so many bytes of names, owners and rare data.
    most_records: usize,
    most_bytes: u64,
}

/// From (parent, name, whiteout or not) to the record.
#[derive(Clone, Debug)]
enum Index {
    /// While the layer is being read.
    Hashed(NameIndex),
    /// Of a complete layer: by parent, then by name, a whiteout after the entry beside it.
    Sorted(Box<[u32]>),
}

impl EntryTree {
    /// The table of a layer of which nothing has been read.
    pub(crate) fn new() -> Self {
        Self::limited(limits::ENTRIES, limits::NAME_BYTES)
    }

    fn limited(most_records: usize, most_bytes: u64) -> Self {
        let mut records = Pieces::new();
        records.push(Record::implied(ROOT, (0, 0)));
        Self {
            records,
            names: Pieces::new(),
            owners: Owners::new(),
            rare: HashMap::new(),
            side_bytes: 0,
            index: Index::Hashed(NameIndex::new()),
            nearby: Nearby::default(),
            warnings: Warnings::default(),
            most_records,
            most_bytes,
        }
    }

    /// Says that the layer has been read to its end: no entry follows. Sorts the names.
    pub(crate) fn complete(&mut self) {
        if self.is_complete() {
            return;
        }
        // The hash tables go before the sorted index comes: there is never room for both to pay for.
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

    /// What was odd about the layer.
    pub(crate) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// The entry of that name in a directory; whiteouts are not entries.
    pub(crate) fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        self.find(directory, name, false)
    }

    /// Whether a whiteout of that name lies in a directory.
    pub(crate) fn whiteout(&self, directory: u32, name: &[u8]) -> bool {
        self.find(directory, name, true).is_some()
    }

    /// Whether an opaque marker lies in a directory.
    pub(crate) fn is_opaque(&self, directory: u32) -> bool {
        self.record(directory).has(OPAQUE)
    }

    /// What lies in a directory, sorted by the bytes of the names, whiteouts included (each after the entry
    /// of the same name). Empty until the layer is complete.
    pub(crate) fn children(&self, directory: u32) -> &[u32] {
        let Index::Sorted(order) = &self.index else { return &[] };
        let start = order.partition_point(|record| self.record(*record).parent < directory);
        let Some(tail) = order.get(start..) else { return &[] };
        let length = tail.partition_point(|record| self.record(*record).parent == directory);
        tail.get(..length).unwrap_or_default()
    }

    /// The record at a path of this layer alone, symbolic links in parent directories followed, the last
    /// component not.
    pub(crate) fn lookup(&self, path: &[u8]) -> Option<u32> {
        let (parent, name) = insert::split(path);
        let located = self.locate(parent).ok()?;
        match name {
            _ if !located.missing.is_empty() => None,
            [] => Some(located.directory),
            name => self.child(located.directory, name),
        }
    }

    /// The entries in the order of the tar, markers included (an opaque marker is of kind `Opaque`): what a listing of the layer
    /// gives, unless `warnings` tells of entries that are not there any more or were given another path.
    pub(crate) fn in_tar_order(&self) -> Vec<u32> {
        let mut entries: Vec<u32> = self.entries().collect();
        entries.sort_by_key(|record| (self.record(*record).header_offset, *record));
        entries
    }

    /// The same without entries whose headers begin at a place or behind it: nothing of the table comes from there. Nothing where
    /// entries have replaced others, or were given other paths: what was before is not known any more.
    pub(crate) fn until(&self, place: Uncompressed) -> Option<Self> {
        if self.warnings().count() > 0 {
            return None;
        }
        let mut table = Self::new();
        for record in self.in_tar_order() {
            if self.header_offset(record) >= place {
                break;
            }
            table.insert(&self.entry(record)).ok()?;
        }
        Some(table)
    }

    /// How many entries `in_tar_order` has.
    pub(crate) fn entry_count(&self) -> u64 {
        self.entries().count() as u64
    }

    /// Where the content ends that lies last.
    pub(crate) fn content_end(&self) -> Uncompressed {
        let described = (ROOT..self.records.len() as u32).filter(|record| !self.is_implied(*record));
        let ends = described.map(|record| {
            let begin = self.data_offset(record).max(self.header_offset(record));
            begin.0.saturating_add(self.stored_size(record))
        });
        Uncompressed(ends.max().unwrap_or(0))
    }

    /// The records of entries that are still there.
    fn entries(&self) -> impl Iterator<Item = u32> {
        // Parents come before what lies in them.
        let mut is_gone = vec![false; self.records.len()];
        (ROOT..self.records.len() as u32).filter(move |number| {
            let record = self.record(*number);
            let gone = record.has(REPLACED) || is_gone.get(record.parent as usize) == Some(&true);
            if let Some(place) = is_gone.get_mut(*number as usize) {
                *place = gone;
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

    /// The directory that an entry lies in; the root lies in itself.
    pub(crate) fn parent(&self, record: u32) -> u32 {
        self.record(record).parent
    }

    /// Whether only entries below it imply this directory.
    pub(crate) fn is_implied(&self, record: u32) -> bool {
        self.record(record).has(IMPLIED)
    }

    /// The content's size in bytes; 0 for all but files.
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

    /// The target of a symbolic link, verbatim, or of a hard link, as a path from the root; empty for all
    /// else.
    pub(crate) fn link(&self, record: u32) -> &[u8] {
        let (start, length) = self.record(record).link().unwrap_or_default();
        self.text(start, length)
    }

    /// What a hard link stands for; `None` for all else.
    pub(crate) fn hardlink(&self, record: u32) -> Option<Hardlink<'_>> {
        let link = self.record(record);
        match (link.kind, link.target) {
            (EntryKind::Hardlink, NONE) => Some(Hardlink::Unresolved(self.link(record))),
            (EntryKind::Hardlink, target) => Some(Hardlink::Record(target)),
            _ => None,
        }
    }

    /// Where the entry's first header block lies.
    pub(crate) fn header_offset(&self, record: u32) -> Uncompressed {
        Uncompressed(self.record(record).header_offset)
    }

    /// Where the entry's stored content begins.
    pub(crate) fn data_offset(&self, record: u32) -> Uncompressed {
        let headers = u64::from(self.record(record).header_blocks) * BLOCK;
        let near = self.record(record).header_offset.saturating_add(headers);
        Uncompressed(self.rare(record).and_then(|rare| rare.data_offset).unwrap_or(near))
    }

    /// The path from the root, symbolic links on the way to it resolved; of an opaque marker that of its directory.
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

    /// The entry as it was inserted, its path aside: see `path`. An implied directory has mode 0755 and no
    /// time.
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
        // Record numbers come from this table alone; one of another table must still not panic.
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

    /// Whether the record has a place in the index: nothing has taken its name, and it has one.
    fn is_named(&self, record: u32) -> bool {
        !self.record(record).has(REPLACED) && self.kind(record) != EntryKind::Opaque
    }

    fn rare(&self, record: u32) -> Option<&Rare> {
        if self.record(record).has(RARE) { self.rare.get(&record).map(Box::as_ref) } else { None }
    }

    fn text(&self, start: usize, length: usize) -> &[u8] {
        self.names.together(start, length).unwrap_or_default()
    }

    fn key(&self, record: u32) -> (u32, &[u8], bool) {
        (self.parent(record), self.name(record), self.kind(record) == EntryKind::Whiteout)
    }

    fn find(&self, parent: u32, name: &[u8], whiteout: bool) -> Option<u32> {
        let key = (parent, name, whiteout);
        match &self.index {
            Index::Hashed(names) => names.find(key, |record| self.key(record) == key),
            Index::Sorted(order) => {
                let place = order.binary_search_by(|record| self.key(*record).cmp(&key)).ok()?;
                order.get(place).copied()
            }
        }
    }
}
