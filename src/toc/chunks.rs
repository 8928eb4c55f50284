//! Where the content of files lies by a table that the blob's publisher wrote.

use std::{collections::HashMap, ops::Range};

use crate::{
    decompress::Encoding,
    oci::digest::Digest,
    offset::{Compressed, Uncompressed},
};

/// The chunks of every file of a layer.
#[derive(Debug)]
pub(crate) struct Chunks {
    /// Gzip members or zstd frames.
    pub(crate) encoding: Encoding,
    /// By the entry's `header_offset`, which in such a table is only a number. Chunks are in the order of the content and add up
    /// to the file's size. A file without content has none.
    pub(crate) of: HashMap<Uncompressed, Vec<Chunk>>,
}

impl Chunks {
    /// Those of the entry with this `header_offset`.
    pub(crate) fn of(&self, entry: Uncompressed) -> &[Chunk] {
        self.of.get(&entry).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether what is read by them can be held against a digest. Zeros that are not stored are as true as the table.
    pub(crate) fn are_vouched_for(&self) -> bool {
        self.of.values().flatten().all(|chunk| chunk.digest.is_some() || chunk.compressed.is_empty())
    }
}

/// Content of one file that can be decoded by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Chunk {
    /// The members or frames that hold it; empty for zeros that are not stored.
    pub(crate) compressed: Range<Compressed>,
    /// Unpacked bytes before it in these members or frames.
    pub(crate) skip: u64,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// What its bytes hash to.
    pub(crate) digest: Option<Digest>,
}
