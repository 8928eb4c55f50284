//! The index from a name in a directory to its record, while a layer is read.

use std::{
    array,
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;

/// Parent, name, and whether it is a whiteout.
pub(super) type Key<'a> = (u32, &'a [u8], bool);

/// Hash tables that grow independently, so that only one of them is copied at a time.
const SHARDS: usize = 16;

/// The bits that select a shard, which hashbrown does not use.
const SHARD_SHIFT: u32 = 48;

/// A hash table of record numbers. The keys are in the records.
#[derive(Clone, Debug)]
pub(super) struct NameIndex {
    shards: Box<[HashTable<u32>; SHARDS]>,
    hasher: RandomState,
}

impl NameIndex {
    /// An empty index.
    pub(super) fn new() -> Self {
        Self { shards: Box::new(array::from_fn(|_| HashTable::new())), hasher: RandomState::new() }
    }

    /// The record with this key; `matches` returns whether a record has it.
    pub(super) fn find(&self, key: Key<'_>, mut matches: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.shards.get(shard(hash))?.find(hash, |record| matches(*record)).copied()
    }

    /// Replaces `before`, which has the same key, by `record`, or adds it. `key_of` returns the keys of existing records.
    pub(super) fn insert<'a>(
        &mut self,
        key: Key<'_>,
        record: u32,
        before: Option<u32>,
        key_of: impl Fn(u32) -> Key<'a>,
    ) {
        let hash = self.hasher.hash_one(key);
        let Some(table) = self.shards.get_mut(shard(hash)) else { return };
        match before.and_then(|before| table.find_mut(hash, |other| *other == before)) {
            Some(slot) => *slot = record,
            None => {
                table.insert_unique(hash, record, |other| self.hasher.hash_one(key_of(*other)));
            }
        }
    }
}

fn shard(hash: u64) -> usize {
    (hash >> SHARD_SHIFT) as usize % SHARDS
}
