//! The decode thread of a pass.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Plan,
    hash::{Expected, Hashes, Mark},
    record::Recording,
    visit::{Attention, Visitor, Want},
};
use crate::{
    decompress::{self, Checkpoint, Decompressor, Encoding, Restart},
    error::{Error, Kind},
    oci::digest::Digest,
    offset::{Compressed, Position, Uncompressed},
    source::{Source, growing::Demand},
    tar::{self, Decoder},
    toc::spans::{Resume, Spans},
};

/// Where at most this much of a blob would stay unread, it is read and verified anyway, in compressed bytes.
pub(super) const TAIL_BYTES: u64 = 1 << 20;

/// Unpacked bytes decoded at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Content of at least so many bytes that nobody wants is hopped over: on a usual link that is longer than the way to the registry
/// and back.
const HOP_BYTES: u64 = 4 << 20;

/// What comes to the thread.
pub(super) enum Message {
    /// The DiffID, where it was not known from the start.
    DiffId(Option<Digest>),
    /// The blob has ended, and the DiffID is known.
    End,
    /// Bytes, and where in the blob they lie.
    Piece(Compressed, Bytes),
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pass {
    /// The whole blob was read, and hashed to its digest and DiffID.
    Complete,
    /// The whole blob was seen but for content that nobody wanted: nothing vouches for it.
    Hopped,
    /// The visitor wanted nothing more.
    Stopped,
}

/// What a pass leaves.
pub(crate) struct Scanned<V> {
    /// The visitor, who has seen all entries up to where the pass ended.
    pub(crate) visitor: V,
    /// How it ended.
    pub(crate) pass: Pass,
    /// How it was read.
    pub(crate) plan: Plan,
    /// Where the blob can be decoded from, if that was recorded.
    pub(crate) spans: Option<Spans>,
}

/// What the thread starts from.
pub(super) struct Start {
    /// The blob.
    pub(super) source: Arc<dyn Source>,
    pub(super) expected: Expected,
    pub(super) record: bool,
    /// What an earlier pass left that stopped.
    pub(super) resume: Option<Spans>,
}

/// The decode thread.
pub(super) struct Decode<V> {
    visitor: V,
    decompressor: Decompressor,
    tar: Decoder,
    /// Unpacked bytes that an earlier pass has given to the tar decoder.
    seen: u64,
    /// That it is no archive: kept while the rest of the blob is hashed, since it may have been tampered with.
    not_tar: Option<tar::Error>,
    attention: Attention,
    source: Arc<dyn Source>,
    read: u64,
    /// `None` once content has been left out.
    hashes: Option<Hashes>,
    recording: Option<Recording>,
    spare: Option<Vec<u8>>,
}

impl<V: Visitor> Decode<V> {
    pub(super) fn new(start: Start, visitor: V) -> Result<Self, Error> {
        let Start { source, expected, record, resume } = start;
        let mut decode = Self {
            visitor,
            decompressor: Decompressor::new(),
            tar: Decoder::new(),
            seen: 0,
            not_tar: None,
            attention: Attention::new(),
            source,
            read: 0,
            hashes: Some(Hashes::spawn(expected, resume.as_ref().and_then(|spans| spans.resume.as_ref()))?),
            recording: None,
            spare: None,
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
            decode.recording = Some(Recording::spawn(resume).map_err(lost)?);
        }
        Ok(decode)
    }

    pub(super) fn run(
        mut self,
        mut pieces: mpsc::Receiver<Message>,
        demand: &Demand,
    ) -> Result<Scanned<V>, Error> {
        while let Some(message) = pieces.blocking_recv() {
            let (at, mut piece) = match message {
                Message::DiffId(diff_id) => {
                    if let Some(hashes) = &mut self.hashes {
                        hashes.diff_id(diff_id);
                    }
                    continue;
                }
                Message::End => return self.end(),
                Message::Piece(at, piece) => (at, piece),
            };
            if at.0 != self.read {
                // It was on its way when it was hopped over.
                continue;
            }
            let length = piece.len() as u64;
            self.read += length;
            while self.piece(&mut piece)? {
                if self.stopped() {
                    return Ok(self.stop());
                }
            }
            demand.advance(length);
            if let Some(target) = self.hop()? {
                demand.hop(target);
            }
        }
        Err(Error::new(Kind::Other, "the reader was dropped"))
    }

    /// Decodes a buffer's worth of a piece and takes what went into it off its front; false once nothing more comes out.
    fn piece(&mut self, piece: &mut Bytes) -> Result<bool, Error> {
        let mut input = &**piece;
        let mut buffer = self.buffer();
        let length = self.decompressor.decompress(&mut input, &mut buffer)?;
        let taken = piece.split_to(piece.len() - input.len());
        let checkpoint = self.decompressor.take_checkpoint();
        let goes_on = length > 0 || checkpoint.is_some();
        let at = self.decompressor.position();
        self.decode(&buffer, length)?;
        let mark = checkpoint.is_some().then(|| (at, self.tar.next_header()));
        if let Some(recording) = &mut self.recording {
            recording.step(taken.clone(), &mut self.decompressor, checkpoint);
        }
        self.hash(taken, buffer, length, mark);
        Ok(goes_on)
    }

    fn buffer(&mut self) -> Vec<u8> {
        let recycled = || self.hashes.as_ref().and_then(Hashes::recycled);
        self.spare.take().or_else(recycled).unwrap_or_else(|| vec![0; BUFFER_BYTES])
    }

    /// Gives unpacked bytes to the tar decoder, and what it finds to the visitor.
    fn decode(&mut self, buffer: &[u8], length: usize) -> Result<(), Error> {
        let mut unpacked = buffer.get(..length).unwrap_or_default();
        let seen = usize::try_from(self.seen).unwrap_or(usize::MAX).min(length);
        self.seen -= seen as u64;
        unpacked = unpacked.get(seen..).unwrap_or_default();
        let decoded = self.visit(unpacked);
        // Also what comes before an error.
        self.visitor.pause();
        decoded
    }

    fn visit(&mut self, mut unpacked: &[u8]) -> Result<(), Error> {
        while self.not_tar.is_none() {
            match self.tar.decode(&mut unpacked) {
                Ok(Some(event)) => self.attention.visit(&mut self.visitor, event)?,
                Ok(None) => break,
                Err(error) => self.refuse(error)?,
            }
        }
        Ok(())
    }

    /// Gives what was read and what came of it to the hash thread.
    fn hash(&mut self, blob: Bytes, buffer: Vec<u8>, length: usize, mark: Option<Mark>) {
        let plain = self.plain();
        self.spare = match &self.hashes {
            Some(hashes) => hashes.step(blob, (buffer, length), plain, mark),
            None => Some(buffer),
        };
    }

    /// Leaves out what is left of content that nobody wants, if that is worth it: the place to go on at.
    fn hop(&mut self) -> Result<Option<Compressed>, Error> {
        let left = self.tar.content_left();
        let is_wanted = self.attention.is_within() || !self.visitor.hops();
        let is_dear = self.source.ignores_ranges();
        if left < HOP_BYTES || is_wanted || is_dear || !self.plain() || self.not_tar.is_some() {
            return Ok(None);
        }
        let at = self.decompressor.position();
        let target = at.compressed.0.saturating_add(left);
        if target > self.source.size() {
            // The end of the blob tells what is wrong with it.
            return Ok(None);
        }
        self.tar.skip_content();
        let (compressed, uncompressed) = (Compressed(target), Uncompressed(target));
        let at = Position { compressed, uncompressed };
        self.decompressor =
            Decompressor::restart(Encoding::Plain, &Checkpoint { at, restart: Restart::Plain })?;
        self.read = target;
        (self.hashes, self.recording) = (None, None);
        Ok(Some(compressed))
    }

    /// The blob has ended.
    fn end(mut self) -> Result<Scanned<V>, Error> {
        loop {
            let mut buffer = self.buffer();
            let length = self.decompressor.finish(&mut buffer)?;
            self.decode(&buffer, length)?;
            self.hash(Bytes::new(), buffer, length, None);
            if length == 0 {
                break;
            }
        }
        if self.not_tar.is_none() {
            self.tar.finish().or_else(|error| self.refuse(error))?;
        }
        let (plain, end) = (self.plain(), self.decompressor.position());
        let encoding = self.decompressor.encoding().unwrap_or(Encoding::Plain);
        let pass = match self.hashes {
            Some(hashes) => hashes.verify(plain).map(|()| Pass::Complete)?,
            None => Pass::Hopped,
        };
        if let Some(error) = self.not_tar {
            return Err(error.into());
        }
        // What could not be recorded (a full disk) costs the next reader time, not this one the answer.
        // Nor is there reading from the middle where entries depend on headers far before them.
        let recording = self.recording.filter(|_| !self.tar.has_global());
        let spans = recording.and_then(|recording| recording.finish(encoding, end).ok());
        let plan = if pass == Pass::Hopped { Plan::Hop } else { Plan::Scan };
        Ok(Scanned { visitor: self.visitor, pass, plan, spans })
    }

    /// The visitor has all it wants.
    fn stop(self) -> Scanned<V> {
        let end = self.decompressor.position();
        let plan = if self.hashes.is_none() { Plan::Hop } else { Plan::Scan };
        let recorded = (self.recording).zip(self.decompressor.encoding()).zip(self.tar.next_header());
        let spans = recorded.and_then(|((recording, encoding), next_header)| {
            let mut spans = recording.stop(encoding, end, next_header).ok()?;
            spans.resume = match self.hashes.and_then(|hashes| hashes.resume(&spans.spans)) {
                Some((last, resume)) => {
                    spans.reopen(last);
                    Some(resume)
                }
                // Without the hashes there is no going on, but what was seen can be read again.
                None => Some(Resume { next_header, blob: None, unpacked: None }),
            };
            Some(spans)
        });
        Scanned { visitor: self.visitor, pass: Pass::Stopped, plan, spans }
    }

    /// Fails, unless the rest of the blob is to be hashed before.
    fn refuse(&mut self, error: tar::Error) -> Result<(), Error> {
        if error.is_not_tar() && (self.visitor.verifies() || self.rest() <= TAIL_BYTES) {
            self.not_tar = Some(error);
            return Ok(());
        }
        Err(error.into())
    }

    fn stopped(&self) -> bool {
        // What has hopped has no digest to come to.
        self.attention.want == Want::Nothing && (self.rest() > TAIL_BYTES || self.hashes.is_none())
    }

    /// How much of the blob has not been read, in bytes.
    fn rest(&self) -> u64 {
        self.source.size().saturating_sub(self.read)
    }

    fn plain(&self) -> bool {
        self.decompressor.encoding() == Some(Encoding::Plain)
    }
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::caused(Kind::Other, "going on where an earlier pass stopped", error)
}

impl From<decompress::Error> for Error {
    fn from(error: decompress::Error) -> Self {
        let kind = match error {
            decompress::Error::Busy { .. } | decompress::Error::Unsupported { .. } => Kind::Other,
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
