//! Reads a blob from a place on by ranges that grow: who stops early has not asked for much more than was needed, and who goes on
//! finds the link full.
//!
//! ```text
//! decoded ──────▶│      allowed ahead: ¼ of it and 752 KiB     │
//! [ first: 128 KiB ][ range, being read ][ range, under way    ]
//! ```
//!
//! The first range is alone: most small system files lie in it.

use std::{
    collections::VecDeque,
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, Stream, StreamExt as _, TryStreamExt as _,
    future::{self, BoxFuture},
    stream,
    task::AtomicWaker,
};
use tokio::sync::{Notify, watch};

use super::{ByteStream, Error, Source};
use crate::offset::Compressed;

/// The first range, in bytes.
const FIRST_BYTES: u64 = 128 << 10;

/// How far requests may be ahead of what was decoded, in bytes; a quarter of what was decoded comes on top.
const AHEAD_BYTES: u64 = 752 << 10;

/// Most that requests are ahead, in bytes.
const MOST_AHEAD_BYTES: u64 = 64 << 20;

/// Shortest range that is worth a request of its own, in bytes.
const SHORTEST_BYTES: u64 = 160 << 10;

/// Up to here ranges are short, in bytes ahead: the first ones cannot fill the link, and what follows them must not be late.
const MANY_BYTES: u64 = 1 << 20;

/// From here on two ranges fill any link there is, in bytes ahead.
const FEWER_BYTES: u64 = 2 << 20;

/// Ranges under way at a time, each on a connection of its own.
const RANGES: usize = 4;

/// How far a reader has come with what it was given: it is what lets further ranges be asked for.
pub(crate) struct Demand {
    /// Since the start or the last hop.
    decoded: AtomicU64,
    /// Where to go on, if not at what follows; [`NO_HOP`] if there.
    hop: AtomicU64,
    waker: AtomicWaker,
    /// The last byte of the blob has been asked for.
    all_requested: Flag,
    /// Bytes come faster than they are decoded.
    outrun: Flag,
    /// Up to where the blob was asked for, once that is more than the first range; 0 before, and where ranges are not to be had.
    grown: watch::Sender<u64>,
    /// What was asked for before the reader was there.
    begun: Mutex<Option<Begun>>,
}

/// No hop is due.
const NO_HOP: u64 = u64::MAX;

/// Something that comes to be so, and stays so.
#[derive(Default)]
struct Flag {
    is_set: AtomicBool,
    set: Notify,
}

impl Flag {
    fn set(&self) {
        if !self.is_set.swap(true, Ordering::AcqRel) {
            self.set.notify_waiters();
        }
    }

    async fn wait(&self) {
        let set = self.set.notified();
        if !self.is_set.load(Ordering::Acquire) {
            set.await;
        }
    }
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            decoded: AtomicU64::new(0),
            hop: AtomicU64::new(NO_HOP),
            waker: AtomicWaker::new(),
            all_requested: Flag::default(),
            outrun: Flag::default(),
            grown: watch::Sender::default(),
            begun: Mutex::default(),
        }
    }
}

impl Demand {
    /// That of a reader from the start, whose first range may have been asked for already.
    pub(crate) fn after(begun: Option<Begun>) -> Self {
        Self { begun: Mutex::new(begun), ..Self::default() }
    }

    /// The stream of the whole blob, if that was asked for before its reader was there.
    pub(crate) fn begun_whole(&self) -> Option<ByteStream> {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        Some(match begun.filter(Begun::is_whole)?.part {
            Part::Failed(error) => stream::once(future::ready(Err(error))).boxed(),
            Part::Open(stream) => stream,
            Part::Opening(opening) => stream::once(opening).try_flatten().boxed(),
        })
    }

    /// `bytes` more of the blob have been decoded, and the reader goes on.
    pub(crate) fn decoded(&self, bytes: u64) {
        self.decoded.fetch_add(bytes, Ordering::Relaxed);
        self.waker.wake();
    }

    /// The reader goes on at `place`, and wants nothing of what lies before.
    pub(crate) fn hop(&self, place: Compressed) {
        self.decoded.store(0, Ordering::Relaxed);
        self.hop.store(place.0, Ordering::Release);
        self.waker.wake();
    }

    /// Waits until the last byte of the blob has been asked for.
    pub(crate) async fn all_requested(&self) {
        self.all_requested.wait().await;
    }

    /// Waits until decoding, and not what brings the bytes, has been the limit for a while.
    pub(crate) async fn outrun(&self) {
        self.outrun.wait().await;
    }

    /// Waits until so many bytes of the blob are asked for, by more than the first range; for ever where ranges are not to be had.
    pub(crate) async fn grown(&self, bytes: u64) {
        let mut grown = self.grown.subscribe();
        if grown.wait_for(|requested| *requested > 0 && *requested >= bytes).await.is_err() {
            future::pending().await
        }
    }

    /// Up to where the blob has been asked for, once it has [`Self::grown`].
    pub(crate) fn requested(&self) -> u64 {
        *self.grown.borrow()
    }

    /// Nothing more of the blob will be asked for, and what is still to come will soon be there.
    pub(crate) fn set_all_requested(&self) {
        self.all_requested.set();
    }

    /// Bytes have come faster than they were decoded for a while.
    pub(crate) fn set_outrun(&self) {
        self.outrun.set();
    }
}

/// The first range of a blob, or all of it, asked for before its reader is there. Until then its bytes wait in the transport.
pub(crate) struct Begun {
    end: u64,
    size: u64,
    part: Part,
}

impl Begun {
    /// Asks for the first range when it is opened; nothing where ranges are not to be had, or what may be fetched is limited.
    pub(crate) fn first(source: Arc<dyn Source>) -> Option<Self> {
        let range = next(0, 0, 0, source.size(), false)?;
        Self::new(source, range)
    }

    /// Asks for all of the blob when it is opened, on the same conditions: what breaks is taken up again by a range.
    pub(crate) fn whole(source: Arc<dyn Source>) -> Option<Self> {
        let range = 0..source.size();
        Self::new(source, range)
    }

    fn new(source: Arc<dyn Source>, range: Range<u64>) -> Option<Self> {
        let is_possible = source.wants_ranges() && source.allowance() == u64::MAX;
        let (end, size) = (range.end, source.size());
        is_possible.then(|| Self { end, size, part: Part::opening(source, range) })
    }

    /// Whether it is a whole blob, of no more than so many bytes.
    pub(crate) fn is_whole_within(&self, bytes: u64) -> bool {
        self.is_whole() && self.size <= bytes
    }

    /// Whether it is all of the blob.
    fn is_whole(&self) -> bool {
        self.end == self.size
    }

    /// Sends the request on its way, and takes what comes of it.
    pub(crate) fn poll_open(&mut self, context: &mut Context<'_>) {
        self.part.poll_open(context);
    }
}

/// The bytes of a blob from a place on, by growing ranges.
pub(crate) struct Growing {
    source: Arc<dyn Source>,
    demand: Arc<Demand>,
    start: u64,
    /// Up to where ranges were asked for.
    requested: u64,
    /// Up to where bytes were given.
    given: u64,
    parts: VecDeque<Part>,
    /// Connections that are being made for ranges to come.
    preparing: Option<BoxFuture<'static, ()>>,
}

/// A range that was asked for.
enum Part {
    /// What lies before it may be all that is needed.
    Failed(Error),
    Open(ByteStream),
    Opening(BoxFuture<'static, Result<ByteStream, Error>>),
}

impl Part {
    fn opening(source: Arc<dyn Source>, range: Range<u64>) -> Self {
        let opening = async move { source.open(Compressed(range.start)..Compressed(range.end)).await };
        Self::Opening(opening.boxed())
    }

    fn poll_open(&mut self, context: &mut Context<'_>) {
        if let Self::Opening(opening) = self
            && let Poll::Ready(opened) = opening.poll_unpin(context)
        {
            *self = opened.map_or_else(Self::Failed, Self::Open);
        }
    }
}

impl Growing {
    /// Reads `source` from `start` to its end as far as `demand` goes on.
    pub(crate) fn new(source: Arc<dyn Source>, start: Compressed, demand: Arc<Demand>) -> Self {
        let begun = demand.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut requested, mut parts) = (start.0, VecDeque::new());
        if let Some(begun) = begun.filter(|_| start == Compressed(0)) {
            requested = begun.end;
            parts.push_back(begun.part);
        }
        Self { source, demand, start: start.0, requested, given: start.0, parts, preparing: None }
    }

    /// Whether the last byte of the blob has been asked for.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested >= self.source.size()
    }

    /// The pieces with their places in the blob.
    pub(crate) fn located(self) -> impl Stream<Item = Result<(Compressed, Bytes), Error>> + Send {
        stream::unfold(self, |mut growing| async move {
            let piece = growing.next().await?;
            let located = piece.map(|piece| (Compressed(growing.given - piece.len() as u64), piece));
            Some((located, growing))
        })
    }

    /// Follows the reader if it has hopped.
    fn hop(&mut self) {
        let place = self.demand.hop.swap(NO_HOP, Ordering::Acquire);
        if place != NO_HOP {
            self.parts.clear();
            (self.start, self.requested, self.given) = (place, place, place);
        }
    }

    /// Asks for what may be asked for.
    fn request(&mut self) {
        let mut allowance = self.source.allowance();
        while self.parts.len() < RANGES {
            let decoded = self.demand.decoded.load(Ordering::Relaxed);
            let size = self.source.size();
            // A server that sends whole blobs whatever it is asked for is asked once more, for all the rest.
            let whole = !self.source.wants_ranges();
            let Some(range) = next(self.start, decoded, self.requested, size, whole) else { return };
            let range = allowed(range, allowance);
            let goes_on = range.start > self.start && range.end < size;
            if goes_on && self.preparing.is_none() {
                self.preparing = Some(self.source.prepare(RANGES - 2));
            }
            allowance = allowance.saturating_sub(range.end - range.start);
            self.requested = range.end;
            if range.start > self.start && !whole {
                self.demand.grown.send_replace(range.end);
            }
            self.parts.push_back(Part::opening(Arc::clone(&self.source), range));
        }
    }
}

impl Stream for Growing {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            // Before the check: what is decoded after it wakes this task.
            this.demand.waker.register(context.waker());
            this.hop();
            this.request();
            if this.is_requested() {
                this.demand.set_all_requested();
            }
            if let Some(preparing) = &mut this.preparing
                && preparing.poll_unpin(context).is_ready()
            {
                *preparing = future::pending().boxed();
            }
            // Those behind the first one are only sent on their way.
            for part in &mut this.parts {
                part.poll_open(context);
            }
            match this.parts.pop_front() {
                None if this.is_requested() => return Poll::Ready(None),
                None => return Poll::Pending,
                Some(Part::Failed(error)) => return Poll::Ready(Some(Err(error))),
                Some(Part::Open(mut stream)) => match stream.poll_next_unpin(context) {
                    Poll::Ready(None) => {}
                    other => {
                        this.parts.push_front(Part::Open(stream));
                        if let Poll::Ready(Some(Ok(piece))) = &other {
                            this.given += piece.len() as u64;
                        }
                        return other;
                    }
                },
                Some(opening) => {
                    this.parts.push_front(opening);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// The first range from `start` on, and how many ranges it takes at most to the end of a blob of `size` bytes.
pub(crate) fn forecast(start: u64, size: u64) -> (Range<u64>, u64) {
    let first = next(start, 0, start, size, false).unwrap_or(start..start);
    let (mut requested, mut ranges) = (first.end, u64::from(!first.is_empty()));
    // From here on ranges no longer grow; before, a reader that comes by the byte asks most often.
    let steady = 4 * MOST_AHEAD_BYTES;
    for decoded in (0..steady).step_by(16 << 10) {
        while let Some(range) = next(start, decoded, requested, size, false) {
            requested = range.end;
            ranges += 1;
        }
        if requested >= size {
            return (first, ranges);
        }
    }
    (first, ranges + (size - requested).div_ceil(MOST_AHEAD_BYTES / 2))
}

/// As much of a range as may be asked for: what lies there may be all that is needed. Where nothing may be, asking gives the error.
fn allowed(range: Range<u64>, allowance: u64) -> Range<u64> {
    match allowance {
        0 => range,
        _ => range.start..range.end.min(range.start.saturating_add(allowance)),
    }
}

/// The next range to ask for, if one may be. All are places in the blob but `decoded`, which counts from `start`; `whole` asks for
/// all the rest.
fn next(start: u64, decoded: u64, requested: u64, size: u64, whole: bool) -> Option<Range<u64>> {
    if requested >= size {
        return None;
    }
    let first = FIRST_BYTES.min(size - start);
    if requested == start {
        return Some(start..if whole { size } else { start + first });
    }
    // Less than the first range was asked for where no more may be fetched.
    if decoded < first.min(requested - start) {
        return None;
    }
    if whole {
        return Some(requested..size);
    }
    let ahead = (decoded / 4 + AHEAD_BYTES).min(MOST_AHEAD_BYTES);
    let end = start.saturating_add(decoded).saturating_add(ahead).min(size);
    // Parts of what may be ahead, so that the link stays full while one of them is awaited; few, since each may need a connection.
    let parts = match ahead {
        ..MANY_BYTES => 6,
        MANY_BYTES..FEWER_BYTES => 3,
        _ => 2,
    };
    let worth = SHORTEST_BYTES.max(ahead / parts);
    (end.saturating_sub(requested) >= worth || end == size && end > requested).then_some(requested..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 300 << 20;

    #[test]
    fn the_first_range_is_alone_until_all_of_it_is_decoded() {
        assert_eq!(next(0, 0, 0, SIZE, false), Some(0..FIRST_BYTES));
        assert_eq!(next(0, FIRST_BYTES - 1, FIRST_BYTES, SIZE, false), None);
        assert!(next(0, FIRST_BYTES, FIRST_BYTES, SIZE, false).is_some());
        assert_eq!(next(7, 0, 7, SIZE, false), Some(7..7 + FIRST_BYTES));
    }

    #[test]
    fn a_reader_that_stops_anywhere_has_asked_for_a_quarter_and_752_kib_too_much_at_most() {
        let (mut requested, mut requests) = (0, 0);
        for decoded in (0..=SIZE).step_by(16 << 10) {
            while let Some(range) = next(0, decoded, requested, SIZE, false) {
                assert_eq!(range.start, requested);
                requested = range.end;
                requests += 1;
            }
            assert!(requested <= decoded + decoded / 4 + AHEAD_BYTES, "{decoded} {requested}");
            assert!(requested > decoded || requested == SIZE, "the reader never starves");
        }
        assert_eq!(requested, SIZE);
        assert!(requests < 80, "{requests}");
    }

    #[test]
    fn a_forecast_counts_ranges_as_they_are_asked_for() {
        assert_eq!(forecast(0, 0), (0..0, 0));
        assert_eq!(forecast(7, 1_000), (7..1_000, 1));
        assert_eq!(forecast(0, FIRST_BYTES + 1), (0..FIRST_BYTES, 2));
        let (_, ranges) = forecast(0, SIZE);
        assert!((20..80).contains(&ranges), "{ranges}");
        // What a lying manifest says costs no time.
        assert!(forecast(0, u64::MAX).1 > 1 << 30);
    }

    #[test]
    fn a_range_is_cut_to_what_may_be_asked_for() {
        assert_eq!(allowed(10..100, u64::MAX), 10..100);
        assert_eq!(allowed(10..100, 30), 10..40);
        assert_eq!(allowed(10..100, 0), 10..100, "asking for it gives the error");
        assert_eq!(next(0, 9, 10, SIZE, false), None);
        assert!(next(0, 10, 10, SIZE, false).is_some(), "a first range that was cut is no end");
    }

    #[test]
    fn the_last_range_ends_with_the_blob_and_a_small_blob_is_one_range() {
        assert_eq!(next(0, 0, 0, 1_000, false), Some(0..1_000));
        assert_eq!(next(0, 1_000, 1_000, 1_000, false), None);
        let size = FIRST_BYTES + 1;
        assert_eq!(next(0, FIRST_BYTES, FIRST_BYTES, size, false), Some(FIRST_BYTES..size));
    }

    #[test]
    fn where_ranges_are_ignored_all_the_rest_is_asked_for_at_once() {
        assert_eq!(next(0, FIRST_BYTES, FIRST_BYTES, SIZE, true), Some(FIRST_BYTES..SIZE));
        assert_eq!(next(0, 0, FIRST_BYTES, SIZE, true), None);
        assert_eq!(next(9, 0, 9, SIZE, true), Some(9..SIZE));
    }

    /// A blob of zeros, and how many ranges it was to get ready for.
    #[derive(Debug)]
    struct Zeros {
        size: u64,
        prepared: Mutex<Vec<usize>>,
    }

    impl Source for Zeros {
        fn size(&self) -> u64 {
            self.size
        }

        fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>> {
            let bytes = Bytes::from(vec![0; (range.end.0 - range.start.0) as usize]);
            Box::pin(async { Ok(stream::once(async { Ok(bytes) }).boxed()) })
        }

        fn wants_ranges(&self) -> bool {
            true
        }

        fn prepare(&self, ranges: usize) -> BoxFuture<'static, ()> {
            self.prepared.lock().unwrap().push(ranges);
            future::ready(()).boxed()
        }
    }

    /// What a source was to get ready for by a reader that takes so many pieces of it.
    async fn prepared(size: u64, pieces: usize) -> Vec<usize> {
        let source = Arc::new(Zeros { size, prepared: Mutex::default() });
        let demand = Arc::new(Demand::default());
        let mut growing = Growing::new(source.clone(), Compressed(0), Arc::clone(&demand));
        for _ in 0..pieces {
            let Some(piece) = growing.next().await else { break };
            demand.decoded(piece.unwrap().len() as u64);
        }
        source.prepared.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn who_goes_on_behind_the_first_range_gets_ready_for_more_once() {
        assert!(prepared(SIZE, 1).await.is_empty(), "all may be in the first one");
        assert_eq!(prepared(SIZE, 9).await, [RANGES - 2]);
        assert!(prepared(FIRST_BYTES + 1, 9).await.is_empty(), "the second one is the last");
    }
}
