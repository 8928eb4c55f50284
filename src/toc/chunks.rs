//! Chunks: where the content of files is, according to the publisher's TOC.

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
    /// By the entry's `header_offset`, which is only a number in such a TOC. Chunks are in the order of the content and
    /// add up to the file's size. A file without content has none.
    pub(crate) of: HashMap<Uncompressed, Vec<Chunk>>,
}

impl Chunks {
    /// The chunks of the entry with this `header_offset`.
    pub(crate) fn of(&self, entry: Uncompressed) -> &[Chunk] {
        self.of.get(&entry).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether everything that is read by them can be verified. Zeros that are not stored need no digest: the TOC itself
    /// states them.
    pub(crate) fn are_verifiable(&self) -> bool {
        self.of.values().flatten().all(|chunk| chunk.digest.is_some() || chunk.compressed.is_empty())
    }
}

/// A part of a file's content that can be decoded on its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Chunk {
    /// The members or frames that contain it; empty for zeros that are not stored.
    pub(crate) compressed: Range<Compressed>,
    /// Unpacked bytes before it in these members or frames.
    pub(crate) skip: u64,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// The digest of its bytes.
    pub(crate) digest: Option<Digest>,
}
