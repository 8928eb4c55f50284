//! How one entry lies in memory: a record of fixed size, and what is rare or repeated beside it.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;

use crate::tar::entry::{Entry, EntryKind, Timestamp};

/// No record.
pub(super) const NONE: u32 = u32::MAX;

/// The directory has no entry of its own: only entries below it imply it.
pub(super) const IMPLIED: u8 = 1;
/// An opaque marker lies in the directory.
pub(super) const OPAQUE: u8 = 2;
/// More of the record lies in the table of rare data.
pub(super) const RARE: u8 = 4;
/// Another record has taken its name.
pub(super) const REPLACED: u8 = 8;

/// Bytes of a tar block.
pub(super) const BLOCK: u64 = 512;

/// One entry. A place in the sorted index takes 4 bytes more, one in the hash table of a layer being read up to 12.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(super) struct Record {
    /// Seconds of the modification time.
    pub(super) seconds: i64,
    /// The content's size; of a link, where its target lies in the arena: start in the low, length in the
    /// high half.
    pub(super) size_or_link: u64,
    pub(super) header_offset: u64,
    pub(super) parent: u32,
    pub(super) name_start: u32,
    pub(super) nanoseconds: u32,
    /// Which of the interned owners.
    pub(super) owner: u32,
    /// The record that a hard link names, or `NONE`.
    pub(super) target: u32,
    /// From the first header to the content, in blocks.
    pub(super) header_blocks: u16,
    pub(super) name_length: u16,
    pub(super) mode: u16,
    pub(super) kind: EntryKind,
    pub(super) flags: u8,
}

const _: () = assert!(size_of::<Record>() <= 52, "a record and its place in an index stay below 64 bytes");

impl Record {
    /// A directory that has no entry (yet).
    pub(super) fn implied(parent: u32, (name_start, name_length): (u32, u16)) -> Self {
        Self {
            seconds: 0,
            size_or_link: 0,
            header_offset: 0,
            parent,
            name_start,
            nanoseconds: 0,
            owner: 0,
            header_blocks: 0,
            target: NONE,
            name_length,
            mode: 0o755,
            kind: EntryKind::Directory,
            flags: IMPLIED,
        }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn link(&self) -> Option<(usize, usize)> {
        matches!(self.kind, EntryKind::Hardlink | EntryKind::Symlink)
            .then_some(((self.size_or_link & 0xffff_ffff) as usize, (self.size_or_link >> 32) as usize))
    }

    pub(super) fn size(&self) -> u64 {
        if self.link().is_some() { 0 } else { self.size_or_link }
    }

    pub(super) fn mtime(&self) -> Timestamp {
        Timestamp { seconds: self.seconds, nanoseconds: self.nanoseconds }
    }
}

/// What few entries have.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Rare {
    /// Where it is further from the header than a `Record` can say.
    pub(super) data_offset: Option<u64>,
    pub(super) device: Option<(u32, u32)>,
    /// Where it differs from the size: sparse files.
    pub(super) stored_size: Option<u64>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Rare {
    pub(super) fn of(entry: &Entry) -> Option<Box<Self>> {
        let rare = Self {
            data_offset: header_blocks(entry).is_none().then_some(entry.data_offset.0),
            device: entry.device,
            stored_size: (entry.stored_size != entry.size).then_some(entry.stored_size),
            xattrs: entry.xattrs.clone(),
        };
        (rare != Self::default()).then(|| Box::new(rare))
    }

    /// Bytes to count against the cap on names.
    pub(super) fn bytes(&self) -> u64 {
        let xattrs: usize = self.xattrs.iter().map(|(name, value)| 64 + name.len() + value.len()).sum();
        (size_of::<Self>() + xattrs) as u64
    }
}

/// Blocks from an entry's first header to its content, if a `Record` can say it.
pub(super) fn header_blocks(entry: &Entry) -> Option<u16> {
    let bytes = entry.data_offset.0.checked_sub(entry.header_offset.0)?;
    if bytes % BLOCK == 0 { u16::try_from(bytes / BLOCK).ok() } else { None }
}

/// Who owns an entry.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Owner {
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) uname: Box<[u8]>,
    pub(super) gname: Box<[u8]>,
}

/// The owners of a layer, each kept once. Number 0 is root without a name.
#[derive(Clone, Debug)]
pub(super) struct Owners {
    list: Vec<Owner>,
    index: HashTable<u32>,
    hasher: RandomState,
    /// The one asked for last: most entries have their neighbour's owner.
    last: u32,
}

impl Owners {
    pub(super) fn new() -> Self {
        let mut owners =
            Self { list: Vec::new(), index: HashTable::new(), hasher: RandomState::new(), last: 0 };
        owners.add(Owner::default());
        owners
    }

    /// All of them, by number.
    pub(super) fn all(&self) -> &[Owner] {
        &self.list
    }

    pub(super) fn owner(&self, number: u32) -> Option<&Owner> {
        self.list.get(number as usize)
    }

    /// The number of an entry's owner, and how many bytes keeping it has taken.
    pub(super) fn intern(&mut self, entry: &Entry) -> (u32, u64) {
        let same = |owner: &Owner| {
            owner.uid == entry.uid
                && owner.gid == entry.gid
                && *owner.uname == *entry.uname
                && *owner.gname == *entry.gname
        };
        if self.owner(self.last).is_some_and(same) {
            return (self.last, 0);
        }
        let owner = Owner {
            uid: entry.uid,
            gid: entry.gid,
            uname: entry.uname.as_slice().into(),
            gname: entry.gname.as_slice().into(),
        };
        let hash = self.hasher.hash_one(&owner);
        let known = self.index.find(hash, |number| self.list.get(*number as usize) == Some(&owner)).copied();
        if let Some(number) = known {
            self.last = number;
            return (number, 0);
        }
        let bytes = size_of::<Owner>() + 16 + owner.uname.len() + owner.gname.len();
        self.last = self.add(owner);
        (self.last, bytes as u64)
    }

    /// Keeps an owner that is not there yet; returns its number.
    pub(super) fn add(&mut self, owner: Owner) -> u32 {
        // Fewer owners than entries, which are counted in 32 bits.
        let number = self.list.len() as u32;
        let hash = self.hasher.hash_one(&owner);
        let (list, hasher) = (&self.list, &self.hasher);
        self.index.insert_unique(hash, number, |other| {
            list.get(*other as usize).map_or(0, |owner| hasher.hash_one(owner))
        });
        self.list.push(owner);
        number
    }
}
