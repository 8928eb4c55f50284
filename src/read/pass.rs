//! One pass over a layer: bytes in from a source, entries out to a visitor.
//!
//! ```text
//! source ──▶ pump ──▶ decode: decompress ─▶ tar ─▶ visitor        on the worker pool
//!    ▲                  │   │   └──▶ hash: blob digest, DiffID      on the worker pool
//!    └─ read progress ──┘   └──────▶ record: spans, for a TOC       on the worker pool
//! ```
//!
//! All channels are bounded. Dropping the future ends the transfer and aborts all stages.

use std::{pin::pin, sync::Arc};

use futures_util::TryStreamExt as _;
use tokio::sync::mpsc;

use super::{
    config::{ConfigFuture, Configuration},
    decode::{Decode, DecodeStart, PassInput, Scanned},
    hash::{DiffId, Expected},
    pool::WorkerPool,
    visit::Visitor,
};
use crate::{
    error::Error,
    oci::digest::Digest,
    offset::Compressed,
    progress::Reporter,
    source::{
        Source,
        adaptive::{AdaptiveReader, ReadProgress},
    },
    toc::spans::Spans,
};

/// Pieces of the blob waiting between the network and the decoder.
const PIECES: usize = 16;

/// When at most this much of a blob is still to come, in bytes, the next layer may be requested. At 200 Mbit/s it takes four round
/// trips of 40 ms: as long as an answer by a redirect to another host over TLS.
const NEAR_BYTES: u64 = 4 << 20;

/// When this many compressed bytes in a row had to wait for the decoder, the decoder is the limit. Less may come at once over a
/// link that is no faster for that.
const DECODER_BOUND_BYTES: u64 = 1 << 20;

/// What to read and what it must hash to.
pub(crate) struct PassJob {
    /// The blob.
    pub(crate) source: Arc<dyn Source>,
    /// The blob's digest, where it has one (layers of a `docker save` archive have a DiffID only).
    pub(crate) digest: Option<Digest>,
    /// The configuration, which gives the DiffID.
    pub(crate) configuration: ConfigFuture,
    /// The layer's index, 0 = base.
    pub(crate) layer: usize,
    /// Receives progress.
    pub(crate) progress: Arc<Reporter>,
    /// Where the work is done.
    pub(crate) pool: Arc<WorkerPool>,
    /// How the blob is fetched.
    pub(crate) fetch: Fetch,
    /// Whether spans are recorded.
    pub(crate) record: bool,
    /// How far the pass has come.
    pub(crate) read_progress: Arc<ReadProgress>,
    /// What an earlier pass left that stopped: the visitor gets the entries that come after.
    pub(crate) resume: Option<Spans>,
}

impl PassJob {
    /// This much of the blob's one stream has come: reports if the rest will not keep the link busy for long.
    fn near(&self, at: Compressed) {
        if self.source.size().saturating_sub(at.0) <= NEAR_BYTES {
            self.read_progress.set_all_requested();
        }
    }
}

/// How a pass fetches the blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fetch {
    /// By ranges that grow: it is not known how much is needed.
    Adaptive,
    /// To the blob's end.
    Full,
}

/// Reads the layer until the visitor has all it wants or the blob ends.
///
/// # Errors
///
/// Those of the source, the codecs and the visitor; corrupt if a digest does not match.
pub(crate) async fn scan<V: Visitor>(mut job: PassJob, visitor: V) -> Result<Scanned<V>, Error> {
    let (pieces, received) = mpsc::channel(PIECES);
    let diff_id = diff_id(&job);
    let is_known = diff_id != DiffId::Pending;
    let expected = Expected { digest: job.digest.clone(), diff_id };
    let resume = job.resume.take().filter(|spans| {
        let resume = spans.resume.as_ref();
        resume.is_some_and(|resume| expected.can_resume(resume))
    });
    let from =
        resume.as_ref().and_then(|spans| spans.spans.last()).map_or(Compressed(0), |span| span.at.compressed);
    let (source, pool) = (Arc::clone(&job.source), Arc::clone(&job.pool));
    let start = DecodeStart { source, pool, expected, record: job.record, resume };
    let read_progress = Arc::clone(&job.read_progress);
    let decode = Decode::new(start, visitor)?;
    let mut decoding = job.pool.spawn(async move { decode.run(received, &read_progress).await })?;
    job.progress.layer_started(job.source.size());
    let _finished = Finished(&job);
    let scanned = tokio::select! {
        biased;
        result = &mut decoding => result?,
        // What arrived before a transfer failed may have been all that was wanted.
        pumped = pump(&job, from, pieces, is_known) => match (decoding.await, pumped) {
            (Err(_), Err(error)) => return Err(error),
            (result, _) => result?,
        },
    };
    job.configuration.read().await?;
    Ok(scanned)
}

/// The DiffID, as far as it is known.
fn diff_id(job: &PassJob) -> DiffId {
    let configuration = job.configuration.now();
    let known = |configuration: &Configuration| DiffId::Known(configuration.diff_id(job.layer).cloned());
    configuration.map_or(DiffId::Pending, known)
}

/// Reports that reading has ended, also when the future is dropped.
struct Finished<'a>(&'a PassJob);

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.progress.layer_finished();
    }
}

async fn pump(
    job: &PassJob,
    from: Compressed,
    pieces: mpsc::Sender<PassInput>,
    mut is_known: bool,
) -> Result<(), Error> {
    let source = Arc::clone(&job.source);
    let reader = match job.fetch {
        Fetch::Adaptive => AdaptiveReader::new(source, from, Arc::clone(&job.read_progress)),
        Fetch::Full => AdaptiveReader::full(source, from, Arc::clone(&job.read_progress)),
    };
    let mut stream = pin!(reader.located());
    job.progress.layer_advanced(from.0);
    if job.fetch == Fetch::Full {
        job.near(from);
    }
    let (mut is_read, mut waited) = (false, 0);
    while !(is_read && is_known) {
        let input = tokio::select! {
            // The layer is requested first: it takes longer.
            biased;
            piece = stream.try_next(), if !is_read => match piece? {
                Some((at, piece)) => {
                    let length = piece.len() as u64;
                    job.progress.layer_advanced(length);
                    if job.fetch == Fetch::Full {
                        job.near(Compressed(at.0 + length));
                    }
                    waited = if pieces.capacity() == 0 { waited + length } else { 0 };
                    if waited >= DECODER_BOUND_BYTES {
                        job.read_progress.set_decoder_bound();
                    }
                    PassInput::Piece(at, piece)
                }
                None => {
                    is_read = true;
                    continue;
                }
            },
            configuration = job.configuration.read(), if !is_known => {
                is_known = true;
                PassInput::DiffId(configuration?.diff_id(job.layer).cloned())
            }
        };
        if pieces.send(input).await.is_err() {
            // The decoder has all it wants; its result is on the way.
            return Ok(());
        }
    }
    // Without this message a closed channel means that the reader was dropped.
    let _ = pieces.send(PassInput::End).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        ops::Range,
        sync::{Condvar, Mutex},
    };

    use bytes::Bytes;
    use futures_util::{
        StreamExt as _,
        future::{self, BoxFuture, FutureExt as _},
        stream,
    };
    use tokio::sync::watch;

    use super::*;
    use crate::{
        oci::{manifest::ImageConfig, platform::Platform},
        progress::Reporter,
        read::{
            decode::PassEnd,
            visit::{Piece, VisitAction},
        },
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
        fn entry(&mut self, _: Entry) -> Result<VisitAction, Error> {
            Ok(VisitAction::Content)
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

    fn job(source: Arc<Archive>) -> PassJob {
        let config = ImageConfig::parse(b"{}").unwrap();
        PassJob {
            source: Arc::new(source),
            digest: None,
            configuration: ConfigFuture::ready(Configuration::new(config, Platform::default(), 1)),
            layer: 0,
            progress: Arc::new(Reporter::silent()),
            pool: WorkerPool::with_threads(2),
            fetch: Fetch::Full,
            record: false,
            read_progress: Arc::default(),
            resume: None,
        }
    }

    #[tokio::test]
    async fn the_decoder_is_the_limit_where_much_in_a_row_has_to_wait_for_it() {
        for limit in [Limit::Decoder, Limit::Link] {
            let archive = Archive::new(NEAR_BYTES + 3 * DECODER_BOUND_BYTES, limit);
            let job = job(Arc::clone(&archive));
            let read_progress = Arc::clone(&job.read_progress);
            let (scanned, ()) = future::join(scan(job, Slow(archive)), read_progress.all_requested()).await;
            assert!(scanned.is_ok_and(|scanned| scanned.end == PassEnd::Complete));
            assert_eq!(read_progress.decoder_bound().now_or_never().is_some(), limit == Limit::Decoder);
        }
    }

    /// Waits in its consumer until all passes have come that far.
    struct Meeting(Arc<tokio::sync::Barrier>, bool);

    impl Visitor for Meeting {
        fn entry(&mut self, _: Entry) -> Result<VisitAction, Error> {
            Ok(VisitAction::Entries)
        }

        async fn flush(&mut self) -> Result<(), Error> {
            if !std::mem::replace(&mut self.1, true) {
                self.0.wait().await;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn passes_that_wait_for_their_consumers_hold_no_thread_of_the_pool() {
        for threads in 1..=4 {
            let (pool, passes) = (WorkerPool::with_threads(threads), 5 * threads);
            let barrier = Arc::new(tokio::sync::Barrier::new(passes));
            let scans = (0..passes).map(|_| {
                let archive = Archive::new(NEAR_BYTES, Limit::Link);
                archive.decoded.send_replace(u64::MAX / 2);
                let job = PassJob { pool: Arc::clone(&pool), record: true, ..job(archive) };
                scan(job, Meeting(Arc::clone(&barrier), false))
            });
            let ended = tokio::time::timeout(std::time::Duration::from_secs(60), future::join_all(scans));
            for scanned in ended.await.expect("the passes wait for each other") {
                assert!(scanned.is_ok_and(|scanned| scanned.end == PassEnd::Complete));
            }
        }
    }
}
