//! One pass over a layer: bytes in from a source, entries out to a visitor.
//!
//! ```text
//! source ──▶ pump (async) ──▶ decode thread: decompress ─▶ tar ─▶ visitor
//!                                  └──▶ hash thread: blob digest, DiffID
//! ```
//!
//! Both channels are bounded. Dropping the future drops the pump, and with it the transfer and both threads' work.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::sync::{mpsc, oneshot};

use super::hash::{Expected, Hashes};
use crate::{
    decompress::{self, Decompressor, Encoding},
    error::{Error, Kind},
    oci::digest::Digest,
    offset::Compressed,
    progress::Progress,
    source::Source,
    tar::{
        self, Decoder, Event,
        entry::Entry,
        whiteout::{self, Meaning},
    },
};

/// Where at most this much of a blob would stay unread, it is read and verified anyway, in compressed bytes.
const TAIL_BYTES: u64 = 1 << 20;

/// Unpacked bytes decoded at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Pieces of the blob waiting between the network and the decoder.
const PIECES: usize = 16;

/// What to read and what it must turn out to be.
#[derive(Clone)]
pub(crate) struct Job {
    /// The blob.
    pub(crate) source: Arc<dyn Source>,
    /// The blob's digest, where it has one (layers of a `docker save` archive have a DiffID only).
    pub(crate) digest: Option<Digest>,
    /// The digest of the unpacked tar, where the image configuration gives one.
    pub(crate) diff_id: Option<Digest>,
    /// The layer's index, 0 = base.
    pub(crate) layer: usize,
    /// Its name in progress reports.
    pub(crate) name: Digest,
    /// Who is told of progress.
    pub(crate) progress: Arc<dyn Progress>,
}

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

    /// Whether a blob that turns out to be no layer is read to its end, to tell whether it is the right blob.
    fn verifies(&self) -> bool {
        false
    }
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pass {
    /// The whole blob was read, and hashed to its digest and DiffID.
    Complete,
    /// The visitor wanted nothing more.
    Stopped,
}

/// Reads the layer until the visitor has all it wants or the blob ends.
///
/// # Errors
///
/// What the source, the codecs or the visitor say; corrupt if a digest does not match.
pub(crate) async fn scan<V: Visitor>(job: Job, visitor: V) -> Result<(V, Pass), Error> {
    let (pieces, received) = mpsc::channel(PIECES);
    let decoder = Decode::new(&job, visitor);
    let (done, mut decoding) = oneshot::channel();
    // No thread of the runtime's: decoders, which wait for their input, could take all that local sources need to read it.
    let decode = move || {
        // A future that was dropped wants no result.
        let _ = done.send(panic::catch_unwind(AssertUnwindSafe(|| decoder.run(received))));
    };
    let started = thread::Builder::new().name("decode".to_owned()).spawn(decode);
    started.map_err(|error| Error::caused(Kind::Other, "starting the decode thread", error))?;
    job.progress.layer_started(job.layer, &job.name, job.source.size());
    let _finished = Finished(&job);
    let pumped = tokio::select! {
        biased;
        result = &mut decoding => return joined(result),
        pumped = pump(&job, pieces) => pumped,
    };
    // What arrived before a transfer failed may have been all that was wanted.
    match (joined(decoding.await), pumped) {
        (Err(_), Err(error)) => Err(error.into()),
        (result, _) => result,
    }
}

/// Tells the progress that reading has ended, also when the future is dropped.
struct Finished<'a>(&'a Job);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.progress.layer_finished(self.0.layer);
    }
}

enum Message {
    End,
    Piece(Bytes),
}

async fn pump(job: &Job, pieces: mpsc::Sender<Message>) -> Result<(), crate::source::Error> {
    let mut stream = job.source.open(Compressed(0)..Compressed(job.source.size())).await?;
    while let Some(piece) = stream.try_next().await? {
        job.progress.layer_advanced(job.layer, piece.len() as u64);
        if pieces.send(Message::Piece(piece)).await.is_err() {
            // The decoder has all it wants; its result is on the way.
            return Ok(());
        }
    }
    // Without this message a closed channel means that the reader was dropped.
    let _ = pieces.send(Message::End).await;
    Ok(())
}

fn joined<T>(
    result: Result<thread::Result<Result<T, Error>>, oneshot::error::RecvError>,
) -> Result<T, Error> {
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(payload)) => panic::resume_unwind(payload),
        Err(error) => Err(Error::caused(Kind::Other, "decoding was interrupted", error)),
    }
}

/// The decode thread.
struct Decode<V> {
    visitor: V,
    decompressor: Decompressor,
    tar: Decoder,
    /// That it is no archive: kept while the rest of the blob is hashed, since it may have been tampered with.
    not_tar: Option<tar::Error>,
    state: State,
    size: u64,
    read: u64,
    expected: Expected,
    spare: Option<Vec<u8>>,
}

/// What the visitor wants, and whether content of the current entry goes to it.
struct State {
    want: Want,
    content: bool,
}

impl<V: Visitor> Decode<V> {
    fn new(job: &Job, visitor: V) -> Self {
        Self {
            visitor,
            decompressor: Decompressor::new(),
            tar: Decoder::new(),
            not_tar: None,
            state: State { want: Want::Entries, content: false },
            size: job.source.size(),
            read: 0,
            expected: Expected { digest: job.digest.clone(), diff_id: job.diff_id.clone() },
            spare: None,
        }
    }

    fn run(mut self, mut pieces: mpsc::Receiver<Message>) -> Result<(V, Pass), Error> {
        let hashes = Hashes::spawn(self.expected.clone())?;
        while let Some(message) = pieces.blocking_recv() {
            let Message::Piece(piece) = message else {
                self.finish(&hashes)?;
                hashes.verify(self.plain())?;
                return match self.not_tar {
                    Some(error) => Err(error.into()),
                    None => Ok((self.visitor, Pass::Complete)),
                };
            };
            self.read += piece.len() as u64;
            hashes.blob(&piece);
            let mut input = &*piece;
            while self.step(&hashes, |decompressor, buffer| decompressor.decompress(&mut input, buffer))? > 0
            {
                if self.stopped() {
                    return Ok((self.visitor, Pass::Stopped));
                }
            }
        }
        Err(Error::new(Kind::Other, "the reader was dropped"))
    }

    /// Decompresses one buffer and gives it to the tar decoder and the hash thread; returns its length.
    fn step(
        &mut self,
        hashes: &Hashes,
        decompress: impl FnOnce(&mut Decompressor, &mut [u8]) -> Result<usize, decompress::Error>,
    ) -> Result<usize, Error> {
        let free = self.spare.take().or_else(|| hashes.recycled());
        let mut buffer = free.unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        let length = decompress(&mut self.decompressor, &mut buffer)?;
        self.entries(buffer.get(..length).unwrap_or_default())?;
        self.spare = match length {
            0 => Some(buffer),
            _ => hashes.unpacked(buffer, length, self.plain()),
        };
        Ok(length)
    }

    /// Gives unpacked bytes to the tar decoder, and what it finds to the visitor.
    fn entries(&mut self, mut unpacked: &[u8]) -> Result<(), Error> {
        while self.not_tar.is_none() {
            match self.tar.decode(&mut unpacked) {
                Ok(Some(event)) => self.state.visit(&mut self.visitor, event)?,
                Ok(None) => break,
                Err(error) => self.refuse(error)?,
            }
        }
        Ok(())
    }

    fn finish(&mut self, hashes: &Hashes) -> Result<(), Error> {
        while self.step(hashes, Decompressor::finish)? > 0 {}
        if self.not_tar.is_none() { self.tar.finish().or_else(|error| self.refuse(error)) } else { Ok(()) }
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
        self.state.want == Want::Nothing && self.rest() > TAIL_BYTES
    }

    /// How much of the blob has not been read, in bytes.
    fn rest(&self) -> u64 {
        self.size.saturating_sub(self.read)
    }

    fn plain(&self) -> bool {
        self.decompressor.encoding() == Some(Encoding::Plain)
    }
}

impl State {
    fn visit(&mut self, visitor: &mut impl Visitor, event: Event<'_>) -> Result<(), Error> {
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
        if error.is_not_tar() {
            return Self::caused(Kind::Other, "the layer is not a tar archive", error);
        }
        Self::caused(Kind::Corrupt, "reading the layer's tar", error)
    }
}
