//! What is printed about an image: text for people, JSON Lines for programs.

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
    /// The layer that it comes from.
    pub(crate) layer: usize,
    /// The entry.
    pub(crate) entry: &'a Entry,
    /// Whether no layer has an entry for this directory, only for what is below.
    pub(crate) implied: bool,
}

/// What a listing rests on.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// What vouches for it.
    pub(crate) verified: String,
    /// `toc` if a table of contents was listed, `tar` if the layer was.
    pub(crate) source: &'static str,
}

impl Proof {
    /// That of entries of this verification.
    pub(crate) fn new(verification: Verification, is_from_toc: bool) -> Self {
        Self { verified: verification.to_string(), source: if is_from_toc { "toc" } else { "tar" } }
    }
}

/// Something that a listing is written to, from `image` to `end`.
pub(crate) trait Listing: Send {
    /// The image that is listed; first.
    fn image(&mut self, image: &ImageFacts) -> io::Result<()>;
    /// Its configuration.
    fn config(&mut self, config: &ConfigFacts) -> io::Result<()>;
    /// A layer; the entries that follow are its own, unless the merged view is listed.
    fn layer(&mut self, layer: &LayerFacts) -> io::Result<()>;
    /// An entry.
    fn entry(&mut self, row: &Row<'_>) -> io::Result<()>;
    /// All entries of a layer have been listed, `entries` of them.
    fn layer_end(&mut self, layer: usize, entries: u64, proof: &Proof) -> io::Result<()>;
    /// All entries of the merged view have been listed.
    fn rootfs_end(&mut self, entries: u64, proof: &Proof) -> io::Result<()>;
    /// The listing is complete.
    fn end(&mut self) -> io::Result<()>;
}
