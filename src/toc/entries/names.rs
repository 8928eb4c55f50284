//! From a name in a directory to its record, while a layer is being read.

use std::{
    array,
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;

/// Parent, name, and whether it is a whiteout.
pub(super) type Key<'a> = (u32, &'a [u8], bool);

/// Tables that grow on their own: while one is copied into a larger one, the others are not there twice.
const SHARDS: usize = 16;

/// Where the bits that choose a shard lie: away from those that hashbrown takes.
const SHARD_SHIFT: u32 = 48;

/// A hash table of record numbers; the keys lie with the records.
#[derive(Clone, Debug)]
pub(super) struct NameIndex {
    shards: Box<[HashTable<u32>; SHARDS]>,
    hasher: RandomState,
}

impl NameIndex {
    /// An empty one.
    pub(super) fn new() -> Self {
        Self { shards: Box::new(array::from_fn(|_| HashTable::new())), hasher: RandomState::new() }
    }

    /// The record of that key; `is_it` tells whether a record has it.
    pub(super) fn find(&self, key: Key<'_>, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.shards.get(shard(hash))?.find(hash, |record| is_it(*record)).copied()
    }

    /// Puts `record` in the place of `before`, which has the same key, or adds it; `key_of` gives the keys of those there.
    pub(super) fn put<'a>(
        &mut self,
        key: Key<'_>,
        record: u32,
        before: Option<u32>,
        key_of: impl Fn(u32) -> Key<'a>,
    ) {
        let hash = self.hasher.hash_one(key);
        let Some(table) = self.shards.get_mut(shard(hash)) else { return };
        match before.and_then(|before| table.find_mut(hash, |other| *other == before)) {
            Some(place) => *place = record,
            None => {
                table.insert_unique(hash, record, |other| self.hasher.hash_one(key_of(*other)));
            }
        }
    }
}

fn shard(hash: u64) -> usize {
    (hash >> SHARD_SHIFT) as usize % SHARDS
}
