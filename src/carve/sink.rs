//! Where content goes while a pass reads its layer.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{file::FoundFile, spool::Spool};
use crate::{
    error::{Error, Kind},
    image::rootfs::Content,
    read::visit::Piece,
};

/// Content up to this size is held back until it is known whether a later entry replaces it, in bytes.
pub(super) const HOLD_BYTES: usize = 1 << 20;

/// Pieces of content waiting for the consumer; the pass pauses when there are more.
const PIECES: usize = 16;

/// Takes the content of one entry after the other.
pub(super) enum ContentSink {
    /// Content is not wanted: only what is at a path.
    Discard,
    /// The content of many files, in a temporary file.
    Spool(Box<SpoolSink>),
    /// The content of one file, streamed to its consumer.
    Stream(Box<StreamSink>),
}

impl ContentSink {
    /// Content of this record begins; `found` is what it answers, where the consumer does not know that yet.
    pub(super) fn begin(&mut self, content: Content, found: Option<FoundFile>) {
        match self {
            Self::Discard => {}
            Self::Spool(spool) => spool.begin(content),
            Self::Stream(stream) => stream.begin(Started { content, found }),
        }
    }

    /// The next piece.
    pub(super) fn piece(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        match self {
            Self::Discard => Ok(()),
            Self::Spool(sink) => sink.spool.append(piece).map_err(spool_error),
            Self::Stream(stream) => stream.piece(piece),
        }
    }

    /// The content is complete.
    pub(super) fn end(&mut self) {
        match self {
            Self::Discard => {}
            Self::Spool(spool) => spool.end(),
            Self::Stream(stream) => stream.open = false,
        }
    }

    /// Hands on what was collected.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        match self {
            Self::Discard | Self::Spool(_) => Ok(()),
            Self::Stream(stream) => stream.flush().await,
        }
    }
}

/// Content that begins.
#[derive(Clone)]
pub(super) struct Started {
    /// The record whose content it is.
    pub(super) content: Content,
    /// What it answers.
    pub(super) found: Option<FoundFile>,
}

/// A piece of content on its way to the consumer.
#[derive(Debug)]
pub(super) enum ContentPiece {
    Data(Bytes),
    /// That many zero bytes.
    Hole(u64),
}

/// The consumer's end of a [`StreamSink`].
pub(super) struct StreamReader {
    /// Resolves once content flows.
    pub(super) started: oneshot::Receiver<Started>,
    /// The content.
    pub(super) pieces: mpsc::Receiver<ContentPiece>,
}

/// Makes the sinks of a search. A search that restarts needs a new one.
#[derive(Clone)]
pub(super) enum Sinks {
    Discard,
    Spool,
    Stream(StreamSender),
}

impl Sinks {
    /// A new sink; `None` once content has reached the consumer: it cannot be taken back.
    pub(super) fn make(&self) -> Result<Option<ContentSink>, Error> {
        Ok(match self {
            Self::Discard => Some(ContentSink::Discard),
            Self::Spool => Some(ContentSink::Spool(SpoolSink::new()?)),
            Self::Stream(sender) => {
                let is_fresh = lock(&sender.start).is_some();
                is_fresh.then(|| ContentSink::Stream(StreamSink::new(sender.clone(), HOLD_BYTES)))
            }
        })
    }
}

/// The producer's end of the channel to a consumer.
#[derive(Clone)]
pub(super) struct StreamSender {
    start: Arc<Mutex<Option<oneshot::Sender<Started>>>>,
    pieces: mpsc::Sender<ContentPiece>,
}

/// Holds small content back and streams larger content.
pub(super) struct StreamSink {
    hold: usize,
    held: Vec<u8>,
    holding: Option<Started>,
    open: bool,
    /// The record whose content was streamed.
    streamed: Option<Content>,
    /// Pieces that [`StreamSink::flush`] sends.
    queue: Vec<ContentPiece>,
    sender: StreamSender,
}

impl StreamSink {
    /// A channel to a consumer.
    pub(super) fn channel() -> (StreamSender, StreamReader) {
        let (start, started) = oneshot::channel();
        let (pieces, received) = mpsc::channel(PIECES);
        let start = Arc::new(Mutex::new(Some(start)));
        (StreamSender { start, pieces }, StreamReader { started, pieces: received })
    }

    /// A sink that holds nothing back.
    pub(super) fn direct(sender: StreamSender) -> Box<Self> {
        Self::new(sender, 0)
    }

    fn new(sender: StreamSender, hold: usize) -> Box<Self> {
        let (held, queue) = (Vec::new(), Vec::new());
        Box::new(Self { hold, held, holding: None, open: false, streamed: None, queue, sender })
    }

    /// Content that was complete before it had to be streamed.
    pub(super) fn held(&mut self) -> Option<(Content, Vec<u8>)> {
        Some((self.holding.take()?.content, std::mem::take(&mut self.held)))
    }

    /// The record whose content was streamed.
    pub(super) fn streamed(&self) -> Option<Content> {
        self.streamed
    }

    fn begin(&mut self, started: Started) {
        // What was streamed cannot be taken back; the answer is checked at the end of the pass.
        self.open = lock(&self.sender.start).is_some();
        if self.open {
            self.held.clear();
            self.holding = Some(started);
        }
    }

    fn piece(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        if !self.open {
            return Ok(());
        }
        let length = match piece {
            Piece::Data(data) => data.len() as u64,
            Piece::Hole(length) => length,
        };
        if self.holding.is_some() && self.held.len() as u64 + length <= self.hold as u64 {
            match piece {
                Piece::Data(data) => self.held.extend_from_slice(data),
                Piece::Hole(length) => self.held.resize(self.held.len() + length as usize, 0),
            }
            return Ok(());
        }
        self.start();
        self.queue.push(match piece {
            Piece::Data(data) => ContentPiece::Data(Bytes::copy_from_slice(data)),
            Piece::Hole(length) => ContentPiece::Hole(length),
        });
        Ok(())
    }

    /// Stops holding content back.
    fn start(&mut self) {
        let start = lock(&self.sender.start).take();
        if let (Some(started), Some(start)) = (self.holding.take(), start) {
            self.streamed = Some(started.content);
            // A consumer that is gone shows at the next piece.
            let _ = start.send(started);
            if !self.held.is_empty() {
                self.queue.push(ContentPiece::Data(std::mem::take(&mut self.held).into()));
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        for piece in self.queue.drain(..) {
            let sent = self.sender.pieces.send(piece).await;
            sent.map_err(|_| Error::new(Kind::Other, "the reader was dropped"))?;
        }
        Ok(())
    }
}

/// The content of many files in one temporary file.
pub(super) struct SpoolSink {
    pub(super) spool: Spool,
    pub(super) ranges: HashMap<Content, Range<u64>>,
    current: Option<(Content, u64)>,
}

impl SpoolSink {
    /// An empty one.
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

/// A panic elsewhere leaves a whole value.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
