//! How far content was verified.

use std::fmt;

/// How far content was checked against the digests of the image's manifest, weakest first.
///
/// ```
/// use layerslayer::Verification;
///
/// assert!(Verification::None < Verification::Chunk && Verification::Span < Verification::Blob);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Verification {
    /// Not at all: only a part of the blob was read, and no digest covers it.
    None,
    /// Against a publisher's TOC whose digest is chained to the manifest (the annotations of eStargz, zstd:chunked and SOCI
    /// version 2). It proves what the publisher's TOC says, not what the layer's tar holds.
    Chunk,
    /// Against a TOC that an earlier pass over the whole blob has left, or that a trusted key has signed.
    Span,
    /// The whole blob was read and hashed to its digest, and what it unpacks to hashed to its DiffID.
    Blob,
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Chunk => "chunk",
            Self::None => "none",
            Self::Span => "span",
        })
    }
}
