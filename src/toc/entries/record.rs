//! One entry in memory: a record of fixed size, with rare and repeated fields stored separately.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::tar::entry::{Entry, EntryKind, Timestamp, Xattrs};

/// No record.
pub(super) const NONE: u32 = u32::MAX;

/// The directory has no entry of its own, only entries below it.
pub(super) const IMPLIED: u8 = 1;
/// The directory has an opaque marker.
pub(super) const OPAQUE: u8 = 2;
/// The entry has rare fields.
pub(super) const RARE: u8 = 4;
/// Another record has taken its name.
pub(super) const REPLACED: u8 = 8;

/// Bytes of a tar block.
pub(super) const BLOCK: u64 = 512;

/// One entry. The sorted index takes 4 more bytes, the hash table of a layer that is being read up to 12.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(super) struct Record {
    /// Seconds of the modification time.
    pub(super) seconds: i64,
    /// The content's size; for a link, its target in the arena: start in the low half, length in the high half.
    pub(super) size_or_link: u64,
    pub(super) header_offset: u64,
    pub(super) parent: u32,
    pub(super) name_start: u32,
    pub(super) nanoseconds: u32,
    /// Number of the interned owner.
    pub(super) owner: u32,
    /// The target record of a hard link, or `NONE`.
    pub(super) target: u32,
    /// Blocks from the first header to the content.
    pub(super) header_blocks: u16,
    pub(super) name_length: u16,
    pub(super) mode: u16,
    pub(super) kind: EntryKind,
    pub(super) flags: u8,
}

const _: () = assert!(size_of::<Record>() <= 52, "a record and its place in an index stay below 64 bytes");

impl Record {
    /// A directory without an entry of its own.
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

/// Memory of a place in a hash table and of an allocation, in bytes.
const PLACE_BYTES: usize = 48;

/// Memory of an extended attribute in addition to its name and value, in bytes: its part of a tree node, and two allocations.
const XATTR_BYTES: usize = 128;

/// Fields that few entries have.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Rare {
    /// If it is farther from the header than a `Record` can express.
    pub(super) data_offset: Option<u64>,
    pub(super) device: Option<(u32, u32)>,
    /// If it differs from the size, as in sparse files.
    pub(super) stored_size: Option<u64>,
    pub(super) xattrs: Xattrs,
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

    /// Bytes that count against the budget, without attributes.
    pub(super) fn bytes(&self) -> u64 {
        (size_of::<Self>() + PLACE_BYTES) as u64
    }
}

/// Blocks from an entry's first header to its content, if a `Record` can express it.
pub(super) fn header_blocks(entry: &Entry) -> Option<u16> {
    let bytes = entry.data_offset.0.checked_sub(entry.header_offset.0)?;
    if bytes % BLOCK == 0 { u16::try_from(bytes / BLOCK).ok() } else { None }
}

/// The owner of an entry.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Owner {
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) uname: Box<[u8]>,
    pub(super) gname: Box<[u8]>,
}

impl Owner {
    /// Bytes that count against the budget.
    pub(super) fn bytes(&self) -> u64 {
        (size_of::<Self>() + PLACE_BYTES + self.uname.len() + self.gname.len()) as u64
    }
}

/// The owners of a layer, each stored once. Number 0 is root without a name.
#[derive(Clone, Debug)]
pub(super) struct Owners {
    list: Vec<Owner>,
    index: HashTable<u32>,
    hasher: RandomState,
    /// The owner of the last entry, which most entries share.
    last: u32,
}

impl Owners {
    pub(super) fn new() -> Self {
        let mut owners =
            Self { list: Vec::new(), index: HashTable::new(), hasher: RandomState::new(), last: 0 };
        owners.add(Owner::default());
        owners
    }

    /// All owners by number.
    pub(super) fn all(&self) -> &[Owner] {
        &self.list
    }

    pub(super) fn owner(&self, number: u32) -> Option<&Owner> {
        self.list.get(number as usize)
    }

    /// The number of an entry's owner, and how many bytes storing it has taken.
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
        let bytes = owner.bytes();
        self.last = self.add(owner);
        (self.last, bytes)
    }

    /// Adds a new owner; returns its number.
    pub(super) fn add(&mut self, owner: Owner) -> u32 {
        // There are fewer owners than entries, whose number fits in 32 bits.
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

/// The sets of extended attributes of a layer, each stored once.
#[derive(Clone, Debug, Default)]
pub(super) struct XattrSets {
    sets: HashTable<Xattrs>,
    hasher: RandomState,
    /// The set of the last entry with attributes: a global header gives all entries the same.
    last: Xattrs,
}

impl XattrSets {
    /// Makes equal sets share their memory. Returns how many bytes a new set takes.
    pub(super) fn intern(&mut self, xattrs: &mut Xattrs) -> u64 {
        if xattrs.is_empty() || xattrs.is_shared_with(&self.last) {
            return 0;
        }
        let hash = self.hasher.hash_one(&*xattrs);
        if let Some(known) = self.sets.find(hash, |known| known == xattrs) {
            xattrs.clone_from(known);
            self.last.clone_from(known);
            return 0;
        }
        self.sets.insert_unique(hash, xattrs.clone(), |known| self.hasher.hash_one(known));
        self.last.clone_from(xattrs);
        let values: usize = xattrs.iter().map(|(name, value)| XATTR_BYTES + name.len() + value.len()).sum();
        (PLACE_BYTES + values) as u64
    }
}
