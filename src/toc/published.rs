//! Tables of contents that a blob's publisher wrote into it: what eStargz and zstd:chunked have in common.
//!
//! A table is JSON: files, directories, links … in the order of the tar, each file with its first chunk, further chunks behind
//! it. It is believed only as a whole: whatever does not fit together makes an error, and the layer is read as if it had no table.
//!
//! ```text
//! bytes ─ unpack ─▶ JSON ─ json ─▶ Statement ─ builder ─▶ EntryTree + pieces ─ finish ─▶ LayerToc
//! ```
//! Deviation: both producers write names that are not UTF-8 with U+FFFD in place of what is not. Such a name may stand for any
//! other, so a table with one is refused.

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
    builder::admit,
    json::{read, time},
};

/// Why a table is not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It cannot be decompressed.
    #[error("unpacking the table of contents: {0}")]
    Decompress(decompress::Error),
    /// It is not what the manifest vouches for.
    #[error("the table of contents has digest {found} instead of {expected}")]
    Digest {
        /// What the manifest says.
        expected: Box<Digest>,
        /// What it is.
        found: Box<Digest>,
    },
    /// It is compressed in another way than its format says.
    #[error("the table of contents is not compressed with {expected}")]
    Encoding {
        /// What it should be.
        expected: Encoding,
    },
    /// One of its entries cannot be true.
    #[error("entry {number} of the table of contents: {fault}")]
    Entry {
        /// Which one, chunks not counted, from 0.
        number: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// It is not JSON of the form it should have; the text has line and column.
    #[error("malformed table of contents: {0}")]
    Json(serde_json::Error),
    /// It has another size than announced.
    #[error("the table of contents has {found} bytes instead of {expected}")]
    Length {
        /// Bytes announced.
        expected: u64,
        /// Bytes found; of more than announced, not all may have been counted.
        found: u64,
    },
    /// The annotation or footer that says where it lies makes no sense.
    #[error("the position of the table of contents is malformed or outside of the blob")]
    Position,
    /// The archive around it is broken, or holds something else.
    #[error("reading the archive around the table of contents: {0}")]
    Tar(tar::Error),
    /// The archive around it does not hold it.
    #[error("there is no table of contents where the blob's footer says")]
    TarMember,
    /// It has more than [`limits::TOC_BYTES`](crate::limits::TOC_BYTES).
    #[error("the table of contents has more than {max} bytes", max = crate::limits::TOC_BYTES)]
    TooLong,
    /// It is of a version that did not exist when this was written.
    #[error("the table of contents is of an unknown version")]
    Version,
}

/// What cannot be true of an entry.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("a chunk that follows no file")]
    ChunkWithoutFile,
    #[error("chunks that are not in order or do not add up to the file")]
    Chunks,
    #[error("content outside of the blob's data")]
    ContentOutside,
    #[error("device number out of range")]
    Device,
    #[error("malformed digest")]
    Digest,
    #[error("two digests of the same bytes differ")]
    Digests,
    #[error("a second entry of the same name")]
    Duplicate,
    #[error("hard link to something that the table does not list before it")]
    Hardlink,
    #[error("unknown type")]
    Kind,
    #[error("a name with \"..\", a null byte or a replacement character")]
    Name,
    #[error("content that overlaps that of another file")]
    Overlap,
    #[error("a sparse file, whose holes the table does not say")]
    Sparse,
    #[error("{0}")]
    Table(entries::Error),
    #[error("malformed time")]
    Time,
    #[error("more than {} chunks in all", crate::limits::TOC_CHUNKS)]
    TooManyChunks,
    #[error("malformed extended attribute")]
    Xattr,
}

/// Bytes that are unpacked at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Unpacks the bytes around a table, and gives the pieces to `sink`.
pub(super) fn unpack(
    mut packed: &[u8],
    expected: Encoding,
    mut sink: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut decompressor = Decompressor::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let mut length = decompressor.decompress(&mut packed, &mut buffer).map_err(Error::Decompress)?;
        if length == 0 {
            length = decompressor.finish(&mut buffer).map_err(Error::Decompress)?;
        }
        if decompressor.encoding().is_some_and(|encoding| encoding != expected) {
            return Err(Error::Encoding { expected });
        }
        if length == 0 {
            return Ok(());
        }
        sink(buffer.get(..length).unwrap_or_default())?;
    }
}

/// Checks bytes that the manifest vouches for.
pub(super) fn verify(content: &[u8], expected: Option<&Digest>) -> Result<(), Error> {
    let Some(expected) = expected else { return Ok(()) };
    let found = Digest::of(expected.algorithm(), content);
    if found == *expected {
        return Ok(());
    }
    Err(Error::Digest { expected: Box::new(expected.clone()), found: Box::new(found) })
}
