//! TOCs: the entries of a layer, and where in the blob their content is.

pub(crate) mod chunks;
pub(crate) mod embedded;
pub(crate) mod entries;
pub(crate) mod estargz;
pub(crate) mod format;
pub(crate) mod leaves;
pub(crate) mod soci;
pub(crate) mod span_builder;
pub(crate) mod spans;
pub(crate) mod windows;
pub(crate) mod zstd_chunked;

use self::{chunks::Chunks, entries::EntryTree, soci::Ztoc, spans::Spans};

/// A layer's TOC.
#[derive(Debug)]
pub(crate) struct LayerToc {
    /// The entries.
    pub(crate) entries: EntryTree,
    /// Where their content is.
    pub(crate) content: ContentMap,
}

/// How to read the content of entries without reading everything before it.
#[derive(Debug)]
pub(crate) enum ContentMap {
    /// By the chunks of a publisher's TOC.
    Chunks(Chunks),
    /// Unknown.
    Nothing,
    /// By decoding the tar from a checkpoint.
    Spans(Spans),
    /// By decoding the tar from a checkpoint of a SOCI index.
    Ztoc(Ztoc),
}
