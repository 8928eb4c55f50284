//! What is known of a layer: its entries, and where in the blob their content lies.

pub(crate) mod chunks;
pub(crate) mod entries;
pub(crate) mod estargz;
pub(crate) mod format;
pub(crate) mod leaves;
pub(crate) mod published;
pub(crate) mod recorder;
pub(crate) mod soci;
pub(crate) mod spans;
pub(crate) mod windows;
pub(crate) mod zstd_chunked;

use self::{chunks::Chunks, entries::EntryTree, soci::Ztoc, spans::Spans};

/// A layer's table of contents.
#[derive(Debug)]
pub(crate) struct LayerToc {
    /// The entries.
    pub(crate) entries: EntryTree,
    /// Where their content lies.
    pub(crate) content: ContentMap,
}

/// How to read the content of entries without all that lies before it.
#[derive(Debug)]
pub(crate) enum ContentMap {
    /// By a publisher's table of files.
    Chunks(Chunks),
    /// It is not known.
    Nothing,
    /// By decoding the tar from a checkpoint on.
    Spans(Spans),
    /// The same by the checkpoints of a SOCI index.
    Ztoc(Ztoc),
}
