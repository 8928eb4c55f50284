//! How the bytes of an answer were obtained.

use std::fmt;

/// How the bytes of an answer were obtained.
///
/// ```
/// assert_eq!(layerslayer::ReadMethod::Toc.to_string(), "toc");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum ReadMethod {
    /// By a TOC embedded in the blob: eStargz or zstd:chunked.
    Chunks,
    /// A plain tar was read from header to header; content that was not needed was skipped.
    Hop,
    /// The layer was streamed from its start until the answer was known.
    Scan,
    /// By a SOCI index.
    Soci,
    /// By a TOC that an earlier pass has left.
    Toc,
}

impl fmt::Display for ReadMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chunks => "chunks",
            Self::Hop => "hop",
            Self::Scan => "scan",
            Self::Soci => "soci",
            Self::Toc => "toc",
        })
    }
}
