//! One pass over a layer: bytes in from a source, entries out to a visitor.
//!
//! ```text
//! source ──▶ pump (async) ──▶ decode thread: decompress ─▶ tar ─▶ visitor
//!    ▲                          │   │   └──▶ hash thread: blob digest, DiffID
//!    └── demand: decoded so far ┘   └──────▶ record thread: spans, for reading in parts later
//! ```
//!
//! All channels are bounded. Dropping the future drops the pump, and with it the transfer and all threads' work.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{mpsc, oneshot};

use super::{
    configuration::{Configuration, Pending},
    decode::{Decode, Message, Start},
    hash::{DiffId, Expected},
};
pub(crate) use super::{
    decode::{Pass, Scanned},
    visit::{Piece, Visitor, Want},
};
use crate::{
    error::{Error, Kind},
    oci::digest::Digest,
    offset::Compressed,
    progress::Progress,
    source::{
        Source,
        growing::{Demand, Growing},
    },
    toc::spans::Spans,
};

/// Pieces of the blob waiting between the network and the decoder.
const PIECES: usize = 16;

/// Where at most this much of a blob is still to come, in bytes, the next layer may be asked for. At 200 Mbit/s it takes four round
/// trips of 40 ms: as long as an answer by a redirect to another host over TLS.
const NEAR_BYTES: u64 = 4 << 20;

/// What to read and what it must turn out to be.
pub(crate) struct Job {
    /// The blob.
    pub(crate) source: Arc<dyn Source>,
    /// The blob's digest, where it has one (layers of a `docker save` archive have a DiffID only).
    pub(crate) digest: Option<Digest>,
    /// What gives the digest of the unpacked tar.
    pub(crate) configuration: Pending,
    /// The layer's index, 0 = base.
    pub(crate) layer: usize,
    /// Its name in progress reports.
    pub(crate) name: Digest,
    /// Who is told of progress.
    pub(crate) progress: Arc<dyn Progress>,
    /// How far the visitor will want to read.
    pub(crate) reading: Reading,
    /// Whether spans are made of what is read.
    pub(crate) record: bool,
    /// How far the reading has come.
    pub(crate) demand: Arc<Demand>,
    /// What an earlier pass left that stopped: the visitor gets the entries that come after.
    pub(crate) resume: Option<Spans>,
}

impl Job {
    /// So much has come of the one stream of the blob: tells if what is left will not keep the link busy for long.
    fn near(&self, at: Compressed) {
        if self.source.size().saturating_sub(at.0) <= NEAR_BYTES {
            self.demand.set_all_requested();
        }
    }
}

/// How far a pass is going to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reading {
    /// Nobody knows: by ranges that grow.
    Growing,
    /// To the blob's end: in one stream.
    Whole,
}

/// Reads the layer until the visitor has all it wants or the blob ends.
///
/// # Errors
///
/// What the source, the codecs or the visitor say; corrupt if a digest does not match.
pub(crate) async fn scan<V: Visitor>(mut job: Job, visitor: V) -> Result<Scanned<V>, Error> {
    let (pieces, received) = mpsc::channel(PIECES);
    let diff_id = diff_id(&job);
    let is_told = diff_id != DiffId::Awaited;
    let expected = Expected { digest: job.digest.clone(), diff_id };
    let resume = job.resume.take().filter(|spans| {
        let resume = spans.resume.as_ref();
        resume.is_some_and(|resume| expected.can_resume(resume))
    });
    let from =
        resume.as_ref().and_then(|spans| spans.spans.last()).map_or(Compressed(0), |span| span.at.compressed);
    let start = Start { size: job.source.size(), expected, record: job.record, resume };
    let (done, mut decoding) = oneshot::channel();
    let demand = Arc::clone(&job.demand);
    let decode = {
        let demand = Arc::clone(&demand);
        let run = move || Decode::new(start, visitor)?.run(received, &demand);
        // A future that was dropped wants no result.
        move || drop(done.send(panic::catch_unwind(AssertUnwindSafe(run))))
    };
    // No thread of the runtime's: decoders, which wait for their input, could take all that local sources need to read it.
    let started = thread::Builder::new().name("decode".to_owned()).spawn(decode);
    started.map_err(|error| Error::caused(Kind::Other, "starting the decode thread", error))?;
    job.progress.layer_started(job.layer, &job.name, job.source.size());
    let _finished = Finished(&job);
    let scanned = tokio::select! {
        biased;
        result = &mut decoding => joined(result)?,
        // What arrived before a transfer failed may have been all that was wanted.
        pumped = pump(&job, from, pieces, is_told) => match (joined(decoding.await), pumped) {
            (Err(_), Err(error)) => return Err(error),
            (result, _) => result?,
        },
    };
    job.configuration.read().await?;
    Ok(scanned)
}

/// The DiffID, as far as it is known.
fn diff_id(job: &Job) -> DiffId {
    let configuration = job.configuration.now();
    let told = |configuration: &Configuration| DiffId::Told(configuration.diff_id(job.layer).cloned());
    configuration.map_or(DiffId::Awaited, told)
}

/// Tells the progress that reading has ended, also when the future is dropped.
struct Finished<'a>(&'a Job);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.progress.layer_finished(self.0.layer);
    }
}

async fn pump(
    job: &Job,
    from: Compressed,
    pieces: mpsc::Sender<Message>,
    mut is_told: bool,
) -> Result<(), Error> {
    let source = Arc::clone(&job.source);
    let mut stream = match job.reading {
        Reading::Growing => Growing::new(source, from, Arc::clone(&job.demand)).located().boxed(),
        Reading::Whole => {
            let end = Compressed(source.size());
            let begun = job.demand.begun_whole().filter(|_| from == Compressed(0));
            let opening = async move {
                match begun {
                    Some(begun) => Ok(begun),
                    None => source.open(from..end).await,
                }
            };
            located(from, stream::once(opening).try_flatten()).boxed()
        }
    };
    job.progress.layer_advanced(job.layer, from.0);
    if job.reading == Reading::Whole {
        job.near(from);
    }
    let mut is_read = false;
    while !(is_read && is_told) {
        let message = tokio::select! {
            // The layer is asked for first: it has farther to go.
            biased;
            piece = stream.try_next(), if !is_read => match piece? {
                Some((at, piece)) => {
                    let length = piece.len() as u64;
                    job.progress.layer_advanced(job.layer, length);
                    if job.reading == Reading::Whole {
                        job.near(Compressed(at.0 + length));
                    }
                    Message::Piece(at, piece)
                }
                None => {
                    is_read = true;
                    continue;
                }
            },
            configuration = job.configuration.read(), if !is_told => {
                is_told = true;
                Message::DiffId(configuration?.diff_id(job.layer).cloned())
            }
        };
        if pieces.send(message).await.is_err() {
            // The decoder has all it wants; its result is on the way.
            return Ok(());
        }
    }
    // Without this message a closed channel means that the reader was dropped.
    let _ = pieces.send(Message::End).await;
    Ok(())
}

/// A stream's pieces with their places.
fn located(
    mut at: Compressed,
    stream: impl Stream<Item = Result<Bytes, crate::source::Error>> + Send,
) -> impl Stream<Item = Result<(Compressed, Bytes), crate::source::Error>> + Send {
    stream.map_ok(move |piece| {
        let start = at;
        at.0 += piece.len() as u64;
        (start, piece)
    })
}

/// What a thread gave, once it has ended.
pub(super) fn joined<T>(
    result: Result<thread::Result<Result<T, Error>>, oneshot::error::RecvError>,
) -> Result<T, Error> {
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(payload)) => panic::resume_unwind(payload),
        Err(error) => Err(Error::caused(Kind::Other, "decoding was interrupted", error)),
    }
}
