//! What a pass reports, and to whom.

use crate::{
    error::Error,
    tar::{
        Event,
        entry::Entry,
        whiteout::{self, Meaning},
    },
    toc::entries::EntryTree,
};

/// What a visitor wants after an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum VisitAction {
    /// The entry's content.
    Content,
    /// Only the entries that follow.
    Entries,
    /// Nothing more. If the pass continues to verify a short rest, the visitor is asked again.
    Stop,
}

/// A piece of an entry's content.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// That many zero bytes.
    Hole(u64),
}

/// Sees the entries of a layer in the order of the tar. Its methods run on the worker pool and only collect; what they
/// collected is handed on by [`Visitor::flush`], which may wait.
pub(crate) trait Visitor: Send + 'static {
    /// An entry begins.
    fn entry(&mut self, entry: Entry) -> Result<VisitAction, Error>;

    /// A piece of the content that was requested.
    fn content(&mut self, _piece: Piece<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// The content that was requested is complete.
    fn content_end(&mut self) -> Result<VisitAction, Error> {
        Ok(VisitAction::Entries)
    }

    /// Hands on what was collected since the last call: at most what one buffer of unpacked bytes holds.
    fn flush(&mut self) -> impl Future<Output = Result<(), Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// The tree of all entries that it has seen, if it has built one: it becomes the layer's TOC.
    fn take_tree(&mut self) -> Option<EntryTree> {
        None
    }

    /// Whether content that is not wanted may be skipped where the blob is not compressed. Its digest is not proved then.
    fn skips(&self) -> bool {
        false
    }

    /// Whether a blob that turns out not to be a tar is read to its end, to tell whether it is the right blob.
    fn verifies(&self) -> bool {
        false
    }
}

/// What the visitor is interested in, and whether content of the current entry is given to it.
pub(super) struct Interest {
    pub(super) action: VisitAction,
    in_content: bool,
}

impl Interest {
    /// That of a visitor that has seen nothing.
    pub(super) fn new() -> Self {
        Self { action: VisitAction::Entries, in_content: false }
    }

    /// Whether content that is wanted has begun and not ended.
    pub(super) fn is_in_content(&self) -> bool {
        self.in_content
    }

    /// Gives an event to the visitor if it is interested.
    pub(super) fn visit(&mut self, visitor: &mut impl Visitor, event: Event<'_>) -> Result<(), Error> {
        match event {
            Event::Data(data) if self.in_content => visitor.content(Piece::Data(data))?,
            Event::Hole(length) if self.in_content => visitor.content(Piece::Hole(length))?,
            Event::Entry(mut entry) => {
                if whiteout::interpret(&mut entry) == Meaning::Metadata {
                    self.in_content = false;
                    return Ok(());
                }
                self.action = visitor.entry(*entry)?;
                self.in_content = self.action == VisitAction::Content;
            }
            Event::EntryEnd if self.in_content => {
                self.in_content = false;
                self.action = visitor.content_end()?;
            }
            Event::Data(_) | Event::End | Event::EntryEnd | Event::Hole(_) => {}
        }
        Ok(())
    }
}
