//! Reads content that passed by before it was known to be wanted.

use std::collections::HashMap;

use super::{path_search::StopWhen, sink::ContentSink};
use crate::{
    error::{Error, Kind},
    image::rootfs::Content,
    offset::Uncompressed,
    read::visit::{Piece, VisitAction, Visitor},
    tar::entry::Entry,
};

/// The visitor that fetches entries by their offsets.
pub(super) struct ContentFetch {
    wanted: HashMap<Uncompressed, Content>,
    stop_when: StopWhen,
    sink: ContentSink,
}

impl ContentFetch {
    pub(super) fn new(
        wanted: HashMap<Uncompressed, Content>,
        stop_when: StopWhen,
        sink: ContentSink,
    ) -> Self {
        Self { wanted, stop_when, sink }
    }

    /// The sink, if all of it was found.
    pub(super) fn finish(self) -> Result<ContentSink, Error> {
        if self.wanted.is_empty() {
            return Ok(self.sink);
        }
        Err(Error::new(Kind::Corrupt, "the layer changed between two reads"))
    }

    fn action(&self) -> VisitAction {
        let done = self.wanted.is_empty() && self.stop_when == StopWhen::Found;
        if done { VisitAction::Stop } else { VisitAction::Entries }
    }
}

impl Visitor for ContentFetch {
    fn entry(&mut self, entry: Entry) -> Result<VisitAction, Error> {
        let Some(content) = self.wanted.remove(&entry.header_offset) else { return Ok(self.action()) };
        self.sink.begin(content, None);
        Ok(VisitAction::Content)
    }

    fn content(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        self.sink.piece(piece)
    }

    fn content_end(&mut self) -> Result<VisitAction, Error> {
        self.sink.end();
        Ok(self.action())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.sink.flush().await
    }

    fn skips(&self) -> bool {
        self.stop_when == StopWhen::Found
    }

    fn verifies(&self) -> bool {
        self.stop_when == StopWhen::Verified
    }
}
