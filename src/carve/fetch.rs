//! Reads a layer again for content that streamed past before it was known to be wanted.

use std::collections::HashMap;

use super::{hunt::Extent, sink::Sink};
use crate::{
    error::{Error, Kind},
    image::rootfs::Content,
    layer::scan::{Piece, Visitor, Want},
    offset::Uncompressed,
    tar::entry::Entry,
};

/// The visitor that fetches entries by where they lie.
pub(super) struct Fetch {
    wanted: HashMap<Uncompressed, Content>,
    extent: Extent,
    sink: Sink,
}

impl Fetch {
    pub(super) fn new(wanted: HashMap<Uncompressed, Content>, extent: Extent, sink: Sink) -> Self {
        Self { wanted, extent, sink }
    }

    /// The sink, once all was found.
    pub(super) fn finish(self) -> Result<Sink, Error> {
        if self.wanted.is_empty() {
            return Ok(self.sink);
        }
        Err(Error::new(Kind::Corrupt, "the layer changed between two reads"))
    }

    fn want(&self) -> Want {
        let done = self.wanted.is_empty() && self.extent == Extent::Answered;
        if done { Want::Nothing } else { Want::Entries }
    }
}

impl Visitor for Fetch {
    fn entry(&mut self, entry: Entry) -> Result<Want, Error> {
        let Some(content) = self.wanted.remove(&entry.header_offset) else { return Ok(self.want()) };
        self.sink.begin(content, None);
        Ok(Want::Content)
    }

    fn content(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        self.sink.piece(piece)
    }

    fn content_end(&mut self) -> Result<Want, Error> {
        self.sink.end();
        Ok(self.want())
    }

    fn hops(&self) -> bool {
        self.extent == Extent::Answered
    }

    fn verifies(&self) -> bool {
        self.extent == Extent::Verified
    }
}
