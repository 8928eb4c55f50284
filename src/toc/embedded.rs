//! TOCs that the publisher embedded in a blob: the common part of eStargz and zstd:chunked.
//!
//! Such a TOC is JSON: files, directories, links … in the order of the tar, each file with its first chunk and followed by
//! further chunks. It is accepted only as a whole: any inconsistency is an error, and the layer is read as if it had no TOC.
//!
//! ```text
//! bytes ─ unpack ─▶ JSON ─ json ─▶ Entry, StatedContent ─ builder ─▶ EntryTree + pieces ─ finish ─▶ LayerToc
//! ```
//! Deviation: both producers replace bytes of names that are not UTF-8 by U+FFFD. Such a name is ambiguous, so a TOC with
//! one is rejected.

use crate::{
    decompress::{self, Decompressor, Encoding},
    oci::digest::Digest,
    tar,
    toc::entries,
};

mod builder;
mod json;
#[cfg(test)]
pub(super) mod tests;

pub(super) use self::{
    builder::add_entry,
    json::{read, time},
};

/// Why a TOC is rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be decompressed.
    #[error("unpacking the TOC: {0}")]
    Decompress(decompress::Error),
    /// Its digest is not the one in the manifest.
    #[error("the TOC has the digest {found} instead of {expected}")]
    Digest {
        /// The digest in the manifest.
        expected: Box<Digest>,
        /// Its actual digest.
        found: Box<Digest>,
    },
    /// It has another compression than its format requires.
    #[error("the TOC is not compressed with {expected}")]
    Encoding {
        /// The required compression.
        expected: Encoding,
    },
    /// One of its entries is invalid.
    #[error("entry {number} of the TOC: {fault}")]
    Entry {
        /// Number of the entry, from 0 and without chunks.
        number: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// It is not valid JSON of its format; the text has line and column.
    #[error("malformed TOC: {0}")]
    Json(serde_json::Error),
    /// A part of it is too long to be an entry.
    #[error("byte {at} of the TOC: an entry of more than {max} bytes", max = json::ENTRY_BYTES)]
    LongEntry {
        /// Offset in the JSON.
        at: u64,
    },
    /// Its size is not the announced one.
    #[error("the TOC has {found} bytes instead of {expected}")]
    Length {
        /// Bytes announced.
        expected: u64,
        /// Bytes found; counting may stop after the announced size.
        found: u64,
    },
    /// The position in the annotation or footer is invalid.
    #[error("the position of the TOC is malformed or outside the blob")]
    Position,
    /// The archive around it is corrupt.
    #[error("reading the archive around the TOC: {0}")]
    Tar(tar::Error),
    /// The archive around it does not contain it.
    #[error("there is no TOC at the offset in the blob's footer")]
    TarMember,
    /// It is larger than [`limits::TOC_BYTES`](crate::limits::TOC_BYTES).
    #[error("the TOC has more than {max} bytes", max = crate::limits::TOC_BYTES)]
    TooLong,
    /// It has an unknown version.
    #[error("the TOC has an unknown version")]
    Version,
}

/// What is wrong with an entry.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("a chunk without a file before it")]
    ChunkWithoutFile,
    #[error("chunks that are out of order or do not add up to the file")]
    Chunks,
    #[error("content outside the blob's data")]
    ContentOutside,
    #[error("device number out of range")]
    Device,
    #[error("malformed digest")]
    Digest,
    #[error("two different digests of the same bytes")]
    Digests,
    #[error("a second entry with the same name")]
    Duplicate,
    #[error("hard link to an entry that the TOC does not list before it")]
    Hardlink,
    #[error("unknown type")]
    Kind,
    #[error("a name with \"..\", a null byte or a replacement character")]
    Name,
    #[error("content that overlaps another file's content")]
    Overlap,
    #[error("owner name longer than {} bytes", crate::limits::OWNER_NAME_BYTES)]
    OwnerName,
    #[error("a sparse file, whose holes the TOC does not list")]
    Sparse,
    #[error("{0}")]
    Tree(entries::Error),
    #[error("malformed time")]
    Time,
    #[error("more than {} chunks in total", crate::limits::TOC_CHUNKS)]
    TooManyChunks,
    #[error("malformed or oversized extended attribute")]
    Xattr,
}

/// Bytes unpacked at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Unpacks a compressed TOC piece by piece.
pub(super) struct Unpacker<'a> {
    packed: &'a [u8],
    expected: Encoding,
    decompressor: Decompressor,
    buffer: Vec<u8>,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(packed: &'a [u8], expected: Encoding) -> Self {
        Self { packed, expected, decompressor: Decompressor::new(), buffer: vec![0; BUFFER_BYTES] }
    }

    /// The next piece; empty at the end.
    pub(super) fn next(&mut self) -> Result<&[u8], Error> {
        let Self { packed, expected, decompressor, buffer } = self;
        let mut length = decompressor.decompress(packed, buffer).map_err(Error::Decompress)?;
        if length == 0 {
            length = decompressor.finish(buffer).map_err(Error::Decompress)?;
        }
        if decompressor.encoding().is_some_and(|encoding| encoding != *expected) {
            return Err(Error::Encoding { expected: *expected });
        }
        Ok(buffer.get(..length).unwrap_or_default())
    }
}

/// Verifies bytes whose digest is in the manifest.
pub(super) fn verify(content: &[u8], expected: Option<&Digest>) -> Result<(), Error> {
    let Some(expected) = expected else { return Ok(()) };
    let found = Digest::of(expected.algorithm(), content);
    if found == *expected {
        return Ok(());
    }
    Err(Error::Digest { expected: Box::new(expected.clone()), found: Box::new(found) })
}
