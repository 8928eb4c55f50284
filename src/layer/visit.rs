//! What a pass over a layer tells, and whom.

use crate::{
    error::Error,
    tar::{
        Event,
        entry::Entry,
        whiteout::{self, Meaning},
    },
};

/// What a visitor wants after an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Want {
    /// The entry's content.
    Content,
    /// Only the entries that follow.
    Entries,
    /// Nothing more. Should the pass go on all the same, to verify a short rest, the visitor is asked again.
    Nothing,
}

/// A piece of an entry's content.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// Bytes.
    Data(&'a [u8]),
    /// That many zero bytes.
    Hole(u64),
}

/// Sees the entries of a layer in the order of the tar. Runs on the decode thread and may block there.
pub(crate) trait Visitor: Send + 'static {
    /// An entry begins.
    fn entry(&mut self, entry: Entry) -> Result<Want, Error>;

    /// A piece of the content that was asked for.
    fn content(&mut self, _piece: Piece<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// The content that was asked for is complete.
    fn content_end(&mut self) -> Result<Want, Error> {
        Ok(Want::Entries)
    }

    /// All that was unpacked so far has been seen: what follows may be long in coming.
    fn pause(&mut self) {}

    /// Whether content that is not wanted may be left out where the blob is not compressed, and with it the proof of its digest.
    fn hops(&self) -> bool {
        false
    }

    /// Whether a blob that turns out to be no layer is read to its end, to tell whether it is the right blob.
    fn verifies(&self) -> bool {
        false
    }
}

/// What the visitor wants, and whether content of the current entry goes to it.
pub(super) struct Attention {
    pub(super) want: Want,
    content: bool,
}

impl Attention {
    /// That of a visitor who has seen nothing.
    pub(super) fn new() -> Self {
        Self { want: Want::Entries, content: false }
    }

    /// Whether content that is wanted has begun and not ended.
    pub(super) fn is_within(&self) -> bool {
        self.content
    }

    /// Gives an event to the visitor, as far as it is wanted.
    pub(super) fn visit(&mut self, visitor: &mut impl Visitor, event: Event<'_>) -> Result<(), Error> {
        match event {
            Event::Data(data) if self.content => visitor.content(Piece::Data(data))?,
            Event::Hole(length) if self.content => visitor.content(Piece::Hole(length))?,
            Event::Entry(mut entry) => {
                if whiteout::interpret(&mut entry) == Meaning::Metadata {
                    self.content = false;
                    return Ok(());
                }
                self.want = visitor.entry(*entry)?;
                self.content = self.want == Want::Content;
            }
            Event::EntryEnd if self.content => {
                self.content = false;
                self.want = visitor.content_end()?;
            }
            Event::Data(_) | Event::End | Event::EntryEnd | Event::Hole(_) => {}
        }
        Ok(())
    }
}
