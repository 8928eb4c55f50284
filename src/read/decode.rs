//! The decoder of a pass: bytes of the blob in, entries out to a visitor.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    hash::{Expected, HashWorker, SnapshotAt},
    method::ReadMethod,
    pool::{Buffer, PassGuard, WorkerPool},
    record::SpanRecorder,
    visit::{Interest, VisitAction, Visitor},
};
use crate::{
    decompress::{self, Checkpoint, Decompressor, Encoding, Restart},
    error::{Error, Kind},
    oci::digest::Digest,
    offset::{Compressed, Position, Uncompressed},
    source::{Source, adaptive::ReadProgress},
    tar::{self, Decoder},
    toc::spans::{Resume, Spans},
};

/// Where at most this much of a blob would stay unread, it is read and verified anyway, in compressed bytes.
pub(super) const TAIL_BYTES: u64 = 1 << 20;

/// Unwanted content of at least this many bytes is skipped: on a usual link that is longer than a round trip.
const SKIP_BYTES: u64 = 4 << 20;

/// What is sent to the decoder.
pub(super) enum PassInput {
    /// The DiffID, where it was not known from the start.
    DiffId(Option<Digest>),
    /// The blob has ended, and the DiffID is known.
    End,
    /// Bytes, and where they are in the blob.
    Piece(Compressed, Bytes),
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PassEnd {
    /// The whole blob was read, and hashed to its digest and DiffID.
    Complete,
    /// The whole blob was seen except content that was not wanted: no digest covers it.
    Skipped,
    /// The visitor wanted nothing more.
    Stopped,
}

/// What a pass leaves.
pub(crate) struct Scanned<V> {
    /// The visitor, which has seen all entries up to where the pass ended.
    pub(crate) visitor: V,
    /// How it ended.
    pub(crate) end: PassEnd,
    /// How the blob was read.
    pub(crate) method: ReadMethod,
    /// Where the blob can be decoded from, if that was recorded.
    pub(crate) spans: Option<Spans>,
}

/// What the decoder starts from.
pub(super) struct DecodeStart {
    /// The blob.
    pub(super) source: Arc<dyn Source>,
    pub(super) pool: Arc<WorkerPool>,
    pub(super) expected: Expected,
    pub(super) record: bool,
    /// What an earlier pass left that stopped.
    pub(super) resume: Option<Spans>,
}

/// The decoder.
pub(super) struct Decode<V> {
    visitor: V,
    decompressor: Decompressor,
    tar: Decoder,
    /// Unpacked bytes that an earlier pass has given to the tar decoder.
    seen: u64,
    /// That the blob is not a tar: kept while the rest of it is hashed, since it may have been tampered with.
    not_tar: Option<tar::Error>,
    interest: Interest,
    source: Arc<dyn Source>,
    pool: Arc<WorkerPool>,
    _pass: PassGuard,
    read: u64,
    /// `None` once content has been skipped.
    hashes: Option<HashWorker>,
    recorder: Option<SpanRecorder>,
}

impl<V: Visitor> Decode<V> {
    pub(super) fn new(start: DecodeStart, visitor: V) -> Result<Self, Error> {
        let DecodeStart { source, pool, expected, record, resume } = start;
        let state = resume.as_ref().and_then(|spans| spans.resume.as_ref());
        let hashes = Some(HashWorker::spawn(expected, state, &pool)?);
        let mut decode = Self {
            visitor,
            decompressor: Decompressor::new(),
            tar: Decoder::new(),
            seen: 0,
            not_tar: None,
            interest: Interest::new(),
            source,
            _pass: pool.begin_pass(),
            pool,
            read: 0,
            hashes,
            recorder: None,
        };
        if let Some(spans) = &resume
            && let (Some(resume), Some(last)) = (&spans.resume, spans.spans.len().checked_sub(1))
        {
            let checkpoint = spans.checkpoint(last).map_err(lost)?;
            decode.decompressor = Decompressor::restart(spans.encoding, &checkpoint)?;
            decode.seen = resume.next_header.0.saturating_sub(checkpoint.at.uncompressed.0);
            decode.tar = Decoder::at(resume.next_header);
            decode.read = checkpoint.at.compressed.0;
        }
        if record {
            decode.decompressor.record();
            decode.recorder = Some(SpanRecorder::spawn(resume, &decode.pool)?);
        }
        Ok(decode)
    }

    pub(super) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<PassInput>,
        read_progress: &ReadProgress,
    ) -> Result<Scanned<V>, Error> {
        while let Some(input) = inputs.recv().await {
            let (at, mut piece) = match input {
                PassInput::DiffId(diff_id) => {
                    if let Some(hashes) = &mut self.hashes {
                        hashes.diff_id(diff_id).await;
                    }
                    continue;
                }
                PassInput::End => return self.end().await,
                PassInput::Piece(at, piece) => (at, piece),
            };
            if at.0 != self.read {
                // It was on its way when it was skipped.
                continue;
            }
            let length = piece.len() as u64;
            self.read += length;
            while self.step(&mut piece).await? {
                if self.is_stopped() {
                    return Ok(self.stop().await);
                }
            }
            read_progress.advance(length);
            if let Some(target) = self.skip()? {
                read_progress.skip_to(target);
            }
        }
        Err(Error::new(Kind::Other, "the reader was dropped"))
    }

    /// Decodes one buffer of a piece and takes the input for it off the front of the piece; false once nothing more comes out.
    async fn step(&mut self, piece: &mut Bytes) -> Result<bool, Error> {
        let mut buffer = self.pool.buffer().await;
        let mut input = &**piece;
        let length = self.decompressor.decompress(&mut input, &mut buffer)?;
        let taken = piece.split_to(piece.len() - input.len());
        let checkpoint = self.decompressor.take_checkpoint();
        let has_more = length > 0 || checkpoint.is_some();
        let at = self.decompressor.position();
        let decoded = self.decode(&buffer, length);
        let snapshot = checkpoint.is_some().then(|| (at, self.tar.next_header()));
        if decoded.is_ok() {
            self.hash(taken.clone(), buffer, length, snapshot).await;
            if let Some(recorder) = &mut self.recorder {
                recorder.step(taken, &mut self.decompressor, checkpoint).await;
            }
        }
        // Also what comes before an error.
        self.visitor.flush().await?;
        decoded.map(|()| has_more)
    }

    /// Gives unpacked bytes to the tar decoder, and what it finds to the visitor.
    fn decode(&mut self, buffer: &[u8], length: usize) -> Result<(), Error> {
        let mut unpacked = buffer.get(..length).unwrap_or_default();
        let seen = usize::try_from(self.seen).unwrap_or(usize::MAX).min(length);
        self.seen -= seen as u64;
        unpacked = unpacked.get(seen..).unwrap_or_default();
        while self.not_tar.is_none() {
            match self.tar.decode(&mut unpacked) {
                Ok(Some(event)) => self.interest.visit(&mut self.visitor, event)?,
                Ok(None) => break,
                Err(error) => self.refuse(error)?,
            }
        }
        Ok(())
    }

    /// Gives what was read and unpacked to the hash.
    async fn hash(&mut self, blob: Bytes, buffer: Buffer, length: usize, snapshot: Option<SnapshotAt>) {
        let is_plain = self.is_plain();
        if let Some(hashes) = &mut self.hashes {
            hashes.step(blob, (buffer, length), is_plain, snapshot).await;
        }
    }

    /// Skips the rest of content that is not wanted, if that is worth it: where to continue.
    fn skip(&mut self) -> Result<Option<Compressed>, Error> {
        let left = self.tar.content_left();
        let is_wanted = self.interest.is_in_content() || !self.visitor.skips();
        let is_costly = self.source.ignores_ranges();
        if left < SKIP_BYTES || is_wanted || is_costly || !self.is_plain() || self.not_tar.is_some() {
            return Ok(None);
        }
        let at = self.decompressor.position();
        let target = at.compressed.0.saturating_add(left);
        if target > self.source.size() {
            // The end of the blob shows what is wrong with it.
            return Ok(None);
        }
        self.tar.skip_content();
        let (compressed, uncompressed) = (Compressed(target), Uncompressed(target));
        let at = Position { compressed, uncompressed };
        self.decompressor =
            Decompressor::restart(Encoding::Plain, &Checkpoint { at, restart: Restart::Plain })?;
        self.read = target;
        (self.hashes, self.recorder) = (None, None);
        Ok(Some(compressed))
    }

    /// The blob has ended.
    async fn end(mut self) -> Result<Scanned<V>, Error> {
        loop {
            let mut buffer = self.pool.buffer().await;
            let length = self.decompressor.finish(&mut buffer)?;
            let decoded = self.decode(&buffer, length);
            if decoded.is_ok() {
                self.hash(Bytes::new(), buffer, length, None).await;
            }
            self.visitor.flush().await?;
            decoded?;
            if length == 0 {
                break;
            }
        }
        if self.not_tar.is_none() {
            self.tar.finish().or_else(|error| self.refuse(error))?;
        }
        let (is_plain, end) = (self.is_plain(), self.decompressor.position());
        let encoding = self.decompressor.encoding().unwrap_or(Encoding::Plain);
        let pass_end = match self.hashes {
            Some(hashes) => hashes.verify(is_plain).await.map(|()| PassEnd::Complete)?,
            None => PassEnd::Skipped,
        };
        if let Some(error) = self.not_tar {
            return Err(error.into());
        }
        // Entries that depend on a global header far before them cannot be read from the middle of the layer.
        let recorder = self.recorder.filter(|_| !self.tar.has_global());
        let spans = match recorder {
            // What could not be recorded (a full disk) costs the next reader time, not this one its answer.
            Some(recorder) => recorder.finish(encoding, end).await.ok(),
            None => None,
        };
        let method = if pass_end == PassEnd::Skipped { ReadMethod::Hop } else { ReadMethod::Scan };
        Ok(Scanned { visitor: self.visitor, end: pass_end, method, spans })
    }

    /// The visitor has all it wants.
    async fn stop(self) -> Scanned<V> {
        let end = self.decompressor.position();
        let method = if self.hashes.is_none() { ReadMethod::Hop } else { ReadMethod::Scan };
        let recorded = (self.recorder).zip(self.decompressor.encoding()).zip(self.tar.next_header());
        let mut spans = None;
        if let Some(((recorder, encoding), next_header)) = recorded
            && let Ok(mut stopped) = recorder.stop(encoding, end, next_header).await
        {
            let saved = match self.hashes {
                Some(hashes) => hashes.resume(&stopped.spans).await,
                None => None,
            };
            stopped.resume = match saved {
                Some((last, resume)) => {
                    stopped.reopen(last);
                    Some(resume)
                }
                // Without the hashes the pass cannot be resumed, but what was seen can be read again.
                None => Some(Resume { next_header, blob: None, unpacked: None }),
            };
            spans = Some(stopped);
        }
        Scanned { visitor: self.visitor, end: PassEnd::Stopped, method, spans }
    }

    /// Fails, unless the rest of the blob is to be hashed first.
    fn refuse(&mut self, error: tar::Error) -> Result<(), Error> {
        if error.is_not_tar() && (self.visitor.verifies() || self.rest() <= TAIL_BYTES) {
            self.not_tar = Some(error);
            return Ok(());
        }
        Err(error.into())
    }

    fn is_stopped(&self) -> bool {
        // A pass that has skipped cannot come to a digest.
        self.interest.action == VisitAction::Stop && (self.rest() > TAIL_BYTES || self.hashes.is_none())
    }

    /// How much of the blob has not been read, in bytes.
    fn rest(&self) -> u64 {
        self.source.size().saturating_sub(self.read)
    }

    fn is_plain(&self) -> bool {
        self.decompressor.encoding() == Some(Encoding::Plain)
    }
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Other, "resuming an earlier pass", error)
}

impl From<decompress::Error> for Error {
    fn from(error: decompress::Error) -> Self {
        let kind = match error {
            decompress::Error::Busy { .. }
            | decompress::Error::Unsupported { .. }
            | decompress::Error::Window { .. } => Kind::Other,
            decompress::Error::Corrupt { .. } | decompress::Error::Truncated { .. } => Kind::Corrupt,
        };
        Self::caused(kind, "decompressing the layer", error)
    }
}

impl From<tar::Error> for Error {
    fn from(error: tar::Error) -> Self {
        // An artifact may have layers of other kinds.
        let kind = if error.is_not_tar() { Kind::Other } else { Kind::Corrupt };
        Self::caused(kind, "reading the layer's tar", error)
    }
}
