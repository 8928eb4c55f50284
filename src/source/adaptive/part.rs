//! One requested range: its request and, where several are received in parallel, its bytes are handled by a task of its own.

use std::{io, ops::Range, panic, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::{sync::mpsc, task::JoinError, time::Instant};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    offset::Compressed,
    registry::RangeTransfer,
    source::{ByteStream, Error, Source},
};

/// Bytes of a chunk of a buffered range. Copying into chunks of our own bounds the memory, however small the chunks of the transport.
const CHUNK_BYTES: usize = 64 << 10;

/// A range that has been requested. Dropping it ends the transfer.
pub(super) struct Part {
    pub(super) range: Range<u64>,
    body: Body,
}

enum Body {
    /// Received by a task, in chunks of [`CHUNK_BYTES`].
    Buffered {
        chunks: mpsc::Receiver<Result<Bytes, Error>>,
        task: AbortOnDropHandle<()>,
    },
    /// The request failed. That only matters once everything before it has been read.
    Failed(Option<Error>),
    Open(ByteStream, Option<RangeTransfer>),
    Opening(AbortOnDropHandle<(Result<ByteStream, Error>, Duration)>, Option<RangeTransfer>),
}

/// What happens next to a range.
pub(super) enum Event {
    Chunk(Bytes),
    End,
    Failed(Error),
    /// The response begins, after this latency.
    Opened(Duration),
}

impl Part {
    /// Requests a range whose bytes wait in the transport until they are read.
    pub(super) fn request(source: &Arc<dyn Source>, range: Range<u64>) -> Self {
        let transfer = source.transfers().map(|transfers| transfers.range());
        let (opening, requested) = (open(Arc::clone(source), range.clone()), Instant::now());
        let task = tokio::spawn(async move { (opening.await, requested.elapsed()) });
        Self { range, body: Body::Opening(AbortOnDropHandle::new(task), transfer) }
    }

    /// Requests a range that is received at once, whether it is read or not: it must be short.
    pub(super) fn buffer(source: &Arc<dyn Source>, range: Range<u64>) -> Self {
        let mut transfer = source.transfers().map(|transfers| transfers.range());
        // All of it, a partial chunk and an error: the task never waits for its reader.
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let (sender, chunks) = mpsc::channel(length / CHUNK_BYTES + 2);
        let opening = open(Arc::clone(source), range.clone());
        let task = tokio::spawn(async move {
            let mut buffer = BytesMut::new();
            let received = match opening.await {
                Ok(mut stream) => loop {
                    match stream.next().await {
                        Some(Ok(mut chunk)) => {
                            if let Some(transfer) = &mut transfer {
                                transfer.received(chunk.len() as u64);
                            }
                            while !chunk.is_empty() {
                                buffer.reserve(CHUNK_BYTES - buffer.len());
                                let room = CHUNK_BYTES - buffer.len();
                                buffer.extend_from_slice(&chunk.split_to(room.min(chunk.len())));
                                if buffer.len() == CHUNK_BYTES {
                                    let _ = sender.send(Ok(buffer.split().freeze())).await;
                                }
                            }
                        }
                        Some(Err(error)) => break Err(error),
                        None => break Ok(()),
                    }
                },
                Err(error) => Err(error),
            };
            if !buffer.is_empty() {
                let _ = sender.send(Ok(buffer.freeze())).await;
            }
            if let Err(error) = received {
                let _ = sender.send(Err(error)).await;
            }
        });
        Self { range, body: Body::Buffered { chunks, task: AbortOnDropHandle::new(task) } }
    }

    /// Whether nothing more will be received.
    pub(super) fn is_received(&self) -> bool {
        match &self.body {
            Body::Buffered { task, .. } => task.is_finished(),
            Body::Failed(_) => true,
            Body::Open(..) | Body::Opening(..) => false,
        }
    }

    /// Whether its bytes may be arriving.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.body, Body::Buffered { .. } | Body::Open(..))
    }

    /// Waits until the response has begun, or has failed.
    pub(super) async fn opened(&mut self) {
        if matches!(self.body, Body::Opening(..)) {
            self.next().await;
        }
    }

    /// What happens next. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Event {
        match &mut self.body {
            Body::Buffered { chunks, task } => match chunks.recv().await {
                Some(Ok(chunk)) => Event::Chunk(chunk),
                Some(Err(error)) => Event::Failed(error),
                None => match task.await {
                    Ok(()) => Event::End,
                    Err(error) => Event::Failed(interrupted(error)),
                },
            },
            Body::Failed(error) => error.take().map_or(Event::End, Event::Failed),
            Body::Open(stream, transfer) => match stream.next().await {
                Some(Ok(chunk)) => {
                    if let Some(transfer) = transfer {
                        transfer.received(chunk.len() as u64);
                    }
                    Event::Chunk(chunk)
                }
                Some(Err(error)) => Event::Failed(error),
                None => Event::End,
            },
            Body::Opening(task, transfer) => match task.await {
                Ok((Ok(stream), latency)) => {
                    self.body = Body::Open(stream, transfer.take());
                    Event::Opened(latency)
                }
                Ok((Err(error), latency)) => {
                    self.body = Body::Failed(Some(error));
                    Event::Opened(latency)
                }
                Err(error) => {
                    self.body = Body::Failed(Some(interrupted(error)));
                    Event::Opened(Duration::MAX)
                }
            },
        }
    }
}

async fn open(source: Arc<dyn Source>, range: Range<u64>) -> Result<ByteStream, Error> {
    source.open(Compressed(range.start)..Compressed(range.end)).await
}

/// A task ends before its work only if the runtime shuts down. A panic continues here.
fn interrupted(error: JoinError) -> Error {
    match error.try_into_panic() {
        Ok(payload) => panic::resume_unwind(payload),
        Err(error) => Error::Io { path: "the blob".to_owned(), source: io::Error::other(error) },
    }
}
