//! Recording beside decoding: a thread that makes spans of what flows past.

use std::{
    fmt, io,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    mem,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use tempfile::SpooledTempFile;

use crate::{
    decompress::{Checkpoint, Decompressor, Encoding},
    offset::{Position, Uncompressed},
    toc::{
        span_builder::SpanBuilder,
        spans::{Spans, WindowRange, WindowStore},
    },
};

/// Steps that are handed over together: waking a thread costs more than most of them do.
const BATCH: usize = 8;

/// Batches that wait for the thread; the decoder waits when there are more.
const BATCHES: usize = 4;

/// Windows kept in memory, in bytes; more of them lie in an unlinked file.
const WINDOW_BYTES: usize = 8 << 20;

/// The recording thread, as the decoder sees it.
pub(super) struct Recording {
    sender: SyncSender<Vec<Step>>,
    batch: Vec<Step>,
    thread: JoinHandle<SpanBuilder>,
}

/// What one step of the decoder has read, and where it has come to.
struct Step {
    blob: Bytes,
    at: Position,
    /// Where on the way it was noted how much came out.
    noted: Vec<Position>,
    checkpoint: Option<Checkpoint>,
}

impl Recording {
    /// Starts the thread, at the beginning of the blob or where an earlier pass stopped.
    pub(super) fn spawn(resume: Option<Spans>) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(BATCHES);
        let recorder = match resume {
            None => SpanBuilder::new(Box::new(WindowSpool::new())),
            Some(spans) => SpanBuilder::resume(spans),
        };
        let thread = std::thread::Builder::new()
            .name("record".to_owned())
            .spawn(move || record(recorder, &receiver))?;
        Ok(Self { sender, batch: Vec::new(), thread })
    }

    /// The next bytes of the blob, which `decompressor` has just decoded, and what it has to tell of them.
    pub(super) fn step(
        &mut self,
        blob: Bytes,
        decompressor: &mut Decompressor,
        checkpoint: Option<Checkpoint>,
    ) {
        let (at, noted) = (decompressor.position(), decompressor.take_progress());
        self.batch.push(Step { blob, at, noted, checkpoint });
        if self.batch.len() == BATCH {
            let _ = self.sender.send(mem::take(&mut self.batch));
        }
    }

    /// The spans of the whole blob.
    pub(super) fn finish(self, encoding: Encoding, end: Position) -> io::Result<Spans> {
        self.join()?.finish(encoding, end)
    }

    /// The spans of a blob that was read in part, the last of them beginning at or before `next_header`.
    pub(super) fn stop(
        self,
        encoding: Encoding,
        end: Position,
        next_header: Uncompressed,
    ) -> io::Result<Spans> {
        self.join()?.stop(encoding, end, next_header)
    }

    fn join(self) -> io::Result<SpanBuilder> {
        let _ = self.sender.send(self.batch);
        drop(self.sender);
        self.thread.join().map_err(|_| io::Error::other("recording was interrupted"))
    }
}

fn record(mut recorder: SpanBuilder, batches: &Receiver<Vec<Step>>) -> SpanBuilder {
    for Step { blob, at, noted, checkpoint } in batches.iter().flatten() {
        recorder.compressed(&blob);
        recorder.progress(at, &noted);
        if let Some(checkpoint) = checkpoint {
            recorder.checkpoint(checkpoint);
        }
    }
    recorder
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
