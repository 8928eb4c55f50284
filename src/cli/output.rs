//! Output about an image: text or JSON Lines.

use std::io;

use facts::{ConfigFacts, ImageFacts, LayerFacts};
use layerslayer::{Entry, Verification};

pub(crate) mod facts;
pub(crate) mod json;
pub(crate) mod sanitize;
pub(crate) mod text;
pub(crate) mod time;

/// One entry of a listing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    /// The layer that it is from.
    pub(crate) layer: usize,
    /// The entry.
    pub(crate) entry: &'a Entry,
    /// Whether this directory has no entry of its own in any layer, only entries below it.
    pub(crate) implied: bool,
}

/// How a listing was verified and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// The verification level.
    pub(crate) verified: String,
    /// What was read, see [`source`].
    pub(crate) source: &'static str,
}

impl Proof {
    /// Creates the proof of a listing.
    pub(crate) fn new(verification: Verification, is_from_toc: bool) -> Self {
        Self { verified: verification.to_string(), source: source(verification, is_from_toc) }
    }
}

/// `publisher-toc` for a TOC that the publisher of the image made, `toc` for another TOC, `tar` for the layer itself.
pub(crate) fn source(verification: Verification, is_from_toc: bool) -> &'static str {
    match (is_from_toc, verification) {
        (true, Verification::Chunk) => "publisher-toc",
        (true, _) => "toc",
        (false, _) => "tar",
    }
}

/// An output format for listings. Calls start with `image` and finish with `end`.
pub(crate) trait Listing: Send {
    /// The image; comes first.
    fn image(&mut self, image: &ImageFacts) -> io::Result<()>;
    /// Its configuration.
    fn config(&mut self, config: &ConfigFacts) -> io::Result<()>;
    /// A layer. The following entries belong to it, except in the merged view.
    fn layer(&mut self, layer: &LayerFacts) -> io::Result<()>;
    /// An entry.
    fn entry(&mut self, row: &Row<'_>) -> io::Result<()>;
    /// The end of a layer with `entries` entries.
    fn layer_end(&mut self, layer: usize, entries: u64, proof: &Proof) -> io::Result<()>;
    /// The end of the merged view.
    fn rootfs_end(&mut self, entries: u64, proof: &Proof) -> io::Result<()>;
    /// The listing is complete.
    fn end(&mut self) -> io::Result<()>;
}
