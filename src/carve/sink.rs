//! Where content goes while its layer streams past.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{file::Found, spool::Spool};
use crate::{
    error::{Error, Kind},
    image::rootfs::Content,
    layer::scan::Piece,
};

/// Content up to this size is held back until it is known whether a later entry replaces it, in bytes.
pub(super) const HOLD_BYTES: usize = 1 << 20;

/// Pieces of content waiting for the reader; decoding pauses when there are more.
pub(super) const PIECES: usize = 16;

/// Largest piece of a hole.
const ZEROS: &[u8] = &[0; 64 << 10];

/// Takes the content of one entry after the other.
pub(super) enum Sink {
    /// One file's, to a reader that waits for it.
    Stream(Box<Stream>),
    /// Any number of files', to a temporary file.
    Spool(Box<Store>),
}

impl Sink {
    /// Content of this record begins; `found` says what it answers, where that is not yet known to the reader.
    pub(super) fn begin(&mut self, content: Content, found: Option<Found>) {
        match self {
            Self::Spool(store) => store.begin(content),
            Self::Stream(stream) => stream.begin(Started { content, found }),
        }
    }

    /// The next piece.
    pub(super) fn piece(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        match self {
            Self::Spool(store) => store.spool.append(piece).map_err(spool_error),
            Self::Stream(stream) => stream.piece(piece),
        }
    }

    /// The content is complete.
    pub(super) fn end(&mut self) {
        match self {
            Self::Spool(store) => store.end(),
            Self::Stream(stream) => stream.open = false,
        }
    }
}

/// Content that begins.
#[derive(Clone)]
pub(super) struct Started {
    /// The record whose content it is.
    pub(super) content: Content,
    /// What it answers.
    pub(super) found: Option<Found>,
}

/// The reader of [`Stream`].
pub(super) struct Reader {
    /// Tells of which record the content is, once it flows.
    pub(super) started: oneshot::Receiver<Started>,
    /// The content.
    pub(super) pieces: mpsc::Receiver<Bytes>,
}

/// Holds small content back and streams what is larger.
pub(super) struct Stream {
    hold: usize,
    held: Vec<u8>,
    holding: Option<Started>,
    open: bool,
    start: Option<oneshot::Sender<Started>>,
    pieces: mpsc::Sender<Bytes>,
}

impl Stream {
    /// A sink that holds content back up to [`HOLD_BYTES`], and its reader.
    pub(super) fn new() -> (Box<Self>, Reader) {
        Self::holding(HOLD_BYTES)
    }

    /// A sink that holds nothing back, and its reader.
    pub(super) fn direct() -> (Box<Self>, Reader) {
        Self::holding(0)
    }

    fn holding(hold: usize) -> (Box<Self>, Reader) {
        let (start, started) = oneshot::channel();
        let (sender, pieces) = mpsc::channel(PIECES);
        let (held, start) = (Vec::new(), Some(start));
        let (holding, open) = (None, false);
        let stream = Self { hold, held, holding, open, start, pieces: sender };
        (Box::new(stream), Reader { started, pieces })
    }

    /// Content that was complete before it had to be streamed.
    pub(super) fn held(&mut self) -> Option<(Content, Vec<u8>)> {
        Some((self.holding.take()?.content, std::mem::take(&mut self.held)))
    }

    fn begin(&mut self, started: Started) {
        // What was streamed cannot be taken back; the answer is checked at the end of the pass.
        self.open = self.start.is_some();
        if self.open {
            self.held.clear();
            self.holding = Some(started);
        }
    }

    fn piece(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        match piece {
            _ if !self.open => Ok(()),
            Piece::Data(data) => self.data(Bytes::copy_from_slice(data)),
            Piece::Hole(mut left) => {
                while left > 0 {
                    let zeros = Bytes::from_static(ZEROS);
                    let length = left.min(zeros.len() as u64);
                    self.data(zeros.slice(..length as usize))?;
                    left -= length;
                }
                Ok(())
            }
        }
    }

    fn data(&mut self, data: Bytes) -> Result<(), Error> {
        if self.holding.is_some() && self.held.len() + data.len() <= self.hold {
            self.held.extend_from_slice(&data);
            return Ok(());
        }
        if let (Some(started), Some(start)) = (self.holding.take(), self.start.take()) {
            // A reader that is gone shows at the next piece.
            let _ = start.send(started);
            let held = std::mem::take(&mut self.held);
            self.send(held.into())?;
        }
        self.send(data)
    }

    fn send(&self, data: Bytes) -> Result<(), Error> {
        let gone = |_| Error::new(Kind::Other, "the reader was dropped");
        if data.is_empty() { Ok(()) } else { self.pieces.blocking_send(data).map_err(gone) }
    }
}

/// Content of many files in one temporary file.
pub(super) struct Store {
    pub(super) spool: Spool,
    pub(super) ranges: HashMap<Content, Range<u64>>,
    current: Option<(Content, u64)>,
}

impl Store {
    /// An empty store.
    pub(super) fn new() -> Result<Box<Self>, Error> {
        let spool = Spool::new().map_err(spool_error)?;
        Ok(Box::new(Self { spool, ranges: HashMap::new(), current: None }))
    }

    fn begin(&mut self, content: Content) {
        self.current = Some((content, self.spool.length()));
    }

    fn end(&mut self) {
        if let Some((content, start)) = self.current.take() {
            self.ranges.insert(content, start..self.spool.length());
        }
    }
}

pub(super) fn spool_error(error: std::io::Error) -> Error {
    Error::caused(Kind::Other, "writing a temporary file", error)
}
