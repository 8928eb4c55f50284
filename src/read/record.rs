//! Recording in parallel to decoding: a task that makes spans of what is read.

use std::{
    fmt, io,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    mem,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use tempfile::SpooledTempFile;
use tokio::sync::mpsc;

use super::{pool::WorkerPool, task::Task};
use crate::{
    decompress::{Checkpoint, Decompressor, Encoding},
    error::Error,
    offset::{Position, Uncompressed},
    toc::{
        span_builder::SpanBuilder,
        spans::{Spans, WindowRange, WindowStore},
    },
};

/// Steps that are sent together: waking a task costs more than most of them do.
const BATCH: usize = 8;

/// Batches that wait for the task; the decoder waits when there are more.
const BATCHES: usize = 4;

/// Windows kept in memory, in bytes; more of them are kept in an unlinked file.
const WINDOW_BYTES: usize = 8 << 20;

/// The recording task, as the decoder sees it.
pub(super) struct SpanRecorder {
    sender: mpsc::Sender<Vec<RecordStep>>,
    batch: Vec<RecordStep>,
    task: Task<SpanBuilder>,
}

/// What one step of the decoder has read, and where it has come to.
struct RecordStep {
    blob: Bytes,
    at: Position,
    /// Samples of how much had been unpacked on the way.
    samples: Vec<Position>,
    checkpoint: Option<Checkpoint>,
}

impl SpanRecorder {
    /// Starts the task, at the beginning of the blob or where an earlier pass stopped.
    pub(super) fn spawn(resume: Option<Spans>, pool: &WorkerPool) -> Result<Self, Error> {
        let recorder = match resume {
            None => SpanBuilder::new(Box::new(WindowSpool::new())),
            Some(spans) => SpanBuilder::resume(spans),
        };
        let (sender, receiver) = mpsc::channel(BATCHES);
        Ok(Self { sender, batch: Vec::new(), task: pool.spawn(record(recorder, receiver))? })
    }

    /// The next bytes of the blob, which `decompressor` has just decoded, with what it has noted of them.
    pub(super) async fn step(
        &mut self,
        blob: Bytes,
        decompressor: &mut Decompressor,
        checkpoint: Option<Checkpoint>,
    ) {
        let (at, samples) = (decompressor.position(), decompressor.take_progress());
        self.batch.push(RecordStep { blob, at, samples, checkpoint });
        if self.batch.len() == BATCH {
            let _ = self.sender.send(mem::take(&mut self.batch)).await;
        }
    }

    /// The spans of the whole blob.
    pub(super) async fn finish(self, encoding: Encoding, end: Position) -> io::Result<Spans> {
        self.join().await?.finish(encoding, end)
    }

    /// The spans of a blob that was read in part, the last of them beginning at or before `next_header`.
    pub(super) async fn stop(
        self,
        encoding: Encoding,
        end: Position,
        next_header: Uncompressed,
    ) -> io::Result<Spans> {
        self.join().await?.stop(encoding, end, next_header)
    }

    async fn join(self) -> io::Result<SpanBuilder> {
        let _ = self.sender.send(self.batch).await;
        drop(self.sender);
        self.task.await.map_err(io::Error::other)
    }
}

async fn record(
    mut recorder: SpanBuilder,
    mut batches: mpsc::Receiver<Vec<RecordStep>>,
) -> Result<SpanBuilder, Error> {
    while let Some(batch) = batches.recv().await {
        for RecordStep { blob, at, samples, checkpoint } in batch {
            recorder.compressed(&blob);
            recorder.progress(at, &samples);
            if let Some(checkpoint) = checkpoint {
                recorder.checkpoint(checkpoint);
            }
        }
    }
    Ok(recorder)
}

/// Windows in memory while they are few, else in an unlinked file.
pub(crate) struct WindowSpool {
    file: Mutex<SpooledTempFile>,
    length: u64,
}

impl WindowSpool {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { file: Mutex::new(SpooledTempFile::new(WINDOW_BYTES)), length: 0 }
    }
}

impl WindowStore for WindowSpool {
    fn push(&mut self, encoded: &[u8]) -> io::Result<WindowRange> {
        let length = u32::try_from(encoded.len()).map_err(io::Error::other)?;
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.length))?;
        file.write_all(encoded)?;
        let window = WindowRange { start: self.length, length };
        self.length += u64::from(length);
        Ok(window)
    }

    fn read(&self, window: WindowRange) -> io::Result<Vec<u8>> {
        let mut encoded = vec![0; window.length as usize];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(window.start))?;
        file.read_exact(&mut encoded)?;
        Ok(encoded)
    }
}

impl fmt::Debug for WindowSpool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowSpool").field("length", &self.length).finish_non_exhaustive()
    }
}
