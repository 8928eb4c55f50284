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

/// Where so many bytes in a row, compressed, had to wait for the decoder, it is the limit: less may come at once over a link that is
/// none the faster for that.
const OUTRUN_BYTES: u64 = 1 << 20;

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
    let start = Start { source: Arc::clone(&job.source), expected, record: job.record, resume };
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
            let begun = job.demand.begun_whole(&source).filter(|_| from == Compressed(0));
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
    let (mut is_read, mut waited) = (false, 0);
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
                    waited = if pieces.capacity() == 0 { waited + length } else { 0 };
                    if waited >= OUTRUN_BYTES {
                        job.demand.set_outrun();
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

#[cfg(test)]
mod tests {
    use std::{
        ops::Range,
        sync::{Condvar, Mutex},
    };

    use futures_util::future::{self, BoxFuture, FutureExt as _};
    use tokio::sync::watch;

    use super::*;
    use crate::{
        oci::{manifest::ImageConfig, platform::Platform},
        progress::Silent,
        source,
        tar::entry::Entry,
    };

    const PIECE_BYTES: u64 = 64 << 10;

    /// Who waits for whom.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    enum Limit {
        Decoder,
        Link,
    }

    /// A tar archive of one file, and how far it has been given and decoded.
    #[derive(Debug)]
    struct Archive {
        bytes: Bytes,
        limit: Limit,
        given: Mutex<u64>,
        was_given: Condvar,
        decoded: watch::Sender<u64>,
    }

    impl Archive {
        fn new(size: u64, limit: Limit) -> Arc<Self> {
            let mut header = tar::Header::new_gnu();
            header.set_path("file").unwrap();
            header.set_size(size);
            header.set_cksum();
            let mut bytes = header.as_bytes().to_vec();
            bytes.resize(bytes.len() + size.next_multiple_of(512) as usize + 1024, 0);
            let (given, was_given, decoded) = (Mutex::default(), Condvar::new(), watch::Sender::default());
            Arc::new(Self { bytes: bytes.into(), limit, given, was_given, decoded })
        }
    }

    impl Source for Arc<Archive> {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<source::ByteStream, source::Error>> {
            let pieces =
                stream::unfold((Self::clone(self), range.start.0), move |(archive, at)| async move {
                    let end = range.end.0.min(at + PIECE_BYTES);
                    if archive.limit == Limit::Link {
                        let mut decoded = archive.decoded.subscribe();
                        decoded.wait_for(|decoded| *decoded + 3 * 512 >= at).await.unwrap();
                    }
                    *archive.given.lock().unwrap() = end;
                    archive.was_given.notify_all();
                    (at < end).then(|| (Ok(archive.bytes.slice(at as usize..end as usize)), (archive, end)))
                });
            future::ready(Ok(pieces.boxed())).boxed()
        }
    }

    /// Goes on, where the decoder is the limit, once as much has come as can wait.
    struct Slow(Arc<Archive>);

    impl Visitor for Slow {
        fn entry(&mut self, _: Entry) -> Result<Want, Error> {
            Ok(Want::Content)
        }

        fn content(&mut self, piece: Piece<'_>) -> Result<(), Error> {
            let Piece::Data(data) = piece else { panic!("a hole") };
            self.0.decoded.send_modify(|decoded| *decoded += data.len() as u64);
            let enough = *self.0.decoded.borrow() + (PIECES as u64 + 1) * PIECE_BYTES;
            if self.0.limit == Limit::Decoder {
                let enough = enough.min(self.0.bytes.len() as u64);
                let given = self.0.given.lock().unwrap();
                drop(self.0.was_given.wait_while(given, |given| *given < enough).unwrap());
            }
            Ok(())
        }
    }

    fn job(source: Arc<Archive>) -> Job {
        let config = ImageConfig::parse(b"{}").unwrap();
        Job {
            name: Digest::sha256(&source.bytes),
            source: Arc::new(source),
            digest: None,
            configuration: Pending::ready(Configuration::new(config, Platform::default(), 1)),
            layer: 0,
            progress: Arc::new(Silent),
            reading: Reading::Whole,
            record: false,
            demand: Arc::default(),
            resume: None,
        }
    }

    #[tokio::test]
    async fn the_decoder_is_the_limit_where_much_in_a_row_has_to_wait_for_it() {
        for limit in [Limit::Decoder, Limit::Link] {
            let archive = Archive::new(NEAR_BYTES + 3 * OUTRUN_BYTES, limit);
            let job = job(Arc::clone(&archive));
            let demand = Arc::clone(&job.demand);
            let (scanned, ()) = future::join(scan(job, Slow(archive)), demand.all_requested()).await;
            assert!(scanned.is_ok_and(|scanned| scanned.pass == Pass::Complete));
            assert_eq!(demand.outrun().now_or_never().is_some(), limit == Limit::Decoder);
        }
    }
}
