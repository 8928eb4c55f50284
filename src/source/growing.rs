//! Reads a blob from a place on by ranges that grow: who stops early has not asked for much more than was needed, and who goes on
//! finds the link full.
//!
//! ```text
//! decoded ──────▶│      allowed ahead: ¼ of it and 752 KiB     │
//! [ first: 128 KiB ][ range, being read ][ range, under way    ]
//! ```
//!
//! The first range is alone: most small system files lie in it. Where an answer takes longer than a short range does, the next one is
//! asked for as soon as the one before has begun to come: a reader that stops there hangs up before more of it is sent than what is
//! allowed ahead. Where ranges are large the next one is under way only when the one before is about to end.

mod demand;
mod pace;
mod ranges;

use std::{
    collections::VecDeque,
    future::poll_fn,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{
    FutureExt as _, Stream, StreamExt as _, TryStreamExt as _,
    future::{self, BoxFuture},
    stream,
};

pub(crate) use self::{demand::Demand, ranges::forecast};
use self::{
    pace::Pace,
    ranges::{Place, allowed, next, rest},
};
use super::{ByteStream, Error, Source};
use crate::offset::Compressed;

/// Ranges under way at a time, each on a connection of its own.
const RANGES: usize = 4;

/// The first range of a blob, or all of it, asked for before its reader is there. Until then its bytes wait in the transport.
pub(crate) struct Begun {
    end: u64,
    size: u64,
    part: Part,
}

impl Begun {
    /// Asks for the first range when it is opened; nothing where ranges are not to be had, or what may be fetched is limited.
    pub(crate) fn first(source: Arc<dyn Source>) -> Option<Self> {
        let (range, _) = forecast(0, source.size());
        if range.is_empty() {
            return None;
        }
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

    /// Waits until the response has begun, or has failed.
    pub(crate) async fn opened(mut self) -> Self {
        // Requested long before it is read, it is no measure of how long an answer takes.
        poll_fn(|context| {
            let _ = self.part.poll_open(context);
            if matches!(self.part, Part::Opening(..)) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        self
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
    parts: VecDeque<Asked>,
    /// Whether all the rest is asked for at once.
    is_whole: bool,
    /// Connections that are being made for ranges to come.
    preparing: Option<BoxFuture<'static, ()>>,
    pace: Pace,
}

/// A range that was asked for.
struct Asked {
    range: Range<u64>,
    part: Part,
}

/// What has come of it.
enum Part {
    /// What lies before it may be all that is needed.
    Failed(Error),
    Open(ByteStream),
    Opening(BoxFuture<'static, Result<ByteStream, Error>>, Instant),
}

impl Part {
    fn opening(source: Arc<dyn Source>, range: Range<u64>) -> Self {
        let opening = async move { source.open(Compressed(range.start)..Compressed(range.end)).await };
        Self::Opening(opening.boxed(), Instant::now())
    }

    /// Its bytes.
    fn stream(self) -> ByteStream {
        match self {
            Self::Failed(error) => stream::once(future::ready(Err(error))).boxed(),
            Self::Open(stream) => stream,
            Self::Opening(opening, _) => stream::once(opening).try_flatten().boxed(),
        }
    }

    /// Sends the request on its way; how long it took to be answered, when it is.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Option<Duration> {
        if let Self::Opening(opening, asked) = self
            && let Poll::Ready(opened) = opening.poll_unpin(context)
        {
            let after = asked.elapsed();
            *self = opened.map_or_else(Self::Failed, Self::Open);
            return Some(after);
        }
        None
    }
}

impl Growing {
    /// Reads `source` from `start` to its end as far as `demand` goes on.
    pub(crate) fn new(source: Arc<dyn Source>, start: Compressed, demand: Arc<Demand>) -> Self {
        let (mut requested, mut parts) = (start.0, VecDeque::new());
        if let Some(begun) = demand.take_begun().filter(|_| start == Compressed(0)) {
            requested = begun.end;
            parts.push_back(Asked { range: 0..begun.end, part: begun.part });
        }
        let pace = Pace::new(Instant::now());
        let (start, is_whole) = (start.0, !source.wants_ranges());
        Self { source, demand, start, requested, given: start, parts, is_whole, preparing: None, pace }
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
        if let Some(Compressed(place)) = self.demand.take_hop() {
            self.parts.clear();
            (self.start, self.requested, self.given) = (place, place, place);
        }
    }

    /// Follows a server that turns out to ignore ranges: each of those under way would cost all of the blob before it.
    fn turn_whole(&mut self) {
        let is_whole = !self.source.wants_ranges();
        if is_whole && !self.is_whole {
            self.parts.truncate(1);
            self.requested = self.parts.front().map_or(self.given, |asked| asked.range.end);
        }
        self.is_whole = is_whole;
    }

    /// Asks for what may be asked for.
    fn request(&mut self) {
        self.turn_whole();
        let mut allowance = self.source.allowance();
        while self.parts.len() < RANGES {
            let size = self.source.size();
            let is_last_flowing = self.parts.back().is_some_and(|asked| self.given > asked.range.start);
            let place = Place {
                start: self.start,
                decoded: self.demand.decoded(),
                given: self.given,
                requested: self.requested,
                // Not where bytes are counted: what is asked for counts.
                is_flowing: is_last_flowing && allowance == u64::MAX && self.pace.is_far(),
                size,
            };
            let next = if self.is_whole { rest(place) } else { next(place, self.pace.lead()) };
            let Some(range) = next else { return };
            let range = allowed(range, allowance);
            let goes_on = range.start > self.start && range.end < size;
            if goes_on && self.preparing.is_none() {
                self.preparing = Some(self.source.prepare(RANGES - 2));
            }
            allowance = allowance.saturating_sub(range.end - range.start);
            self.requested = range.end;
            let part = Part::opening(Arc::clone(&self.source), range.clone());
            self.parts.push_back(Asked { range, part });
        }
    }
}

impl Stream for Growing {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            // Before the check: what is decoded after it wakes this task.
            this.demand.register(context.waker());
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
            for Asked { part, .. } in &mut this.parts {
                if let Some(after) = part.poll_open(context) {
                    this.pace.answered(after);
                }
            }
            match this.parts.pop_front() {
                None if this.is_requested() => return Poll::Ready(None),
                None => return Poll::Pending,
                Some(Asked { part: Part::Failed(error), .. }) => return Poll::Ready(Some(Err(error))),
                Some(Asked { range, part: Part::Open(mut stream) }) => {
                    match stream.poll_next_unpin(context) {
                        Poll::Ready(None) => {}
                        other => {
                            this.parts.push_front(Asked { range, part: Part::Open(stream) });
                            if let Poll::Ready(Some(Ok(piece))) = &other {
                                this.given += piece.len() as u64;
                                this.pace.took(piece.len() as u64, Instant::now());
                            }
                            return other;
                        }
                    }
                }
                Some(opening) => {
                    this.parts.push_front(opening);
                    return Poll::Pending;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    const SIZE: u64 = 300 << 20;
    const FIRST_BYTES: u64 = 128 << 10;

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
            demand.advance(piece.unwrap().len() as u64);
        }
        source.prepared.lock().unwrap().clone()
    }

    /// A blob of zeros whose host stops minding ranges.
    #[derive(Debug, Default)]
    struct Fickle {
        ignores: AtomicBool,
        asked: Mutex<Vec<Range<u64>>>,
    }

    impl Source for Fickle {
        fn size(&self) -> u64 {
            SIZE / 10
        }

        fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>> {
            let range = range.start.0..range.end.0;
            self.asked.lock().unwrap().push(range.clone());
            let pieces = range.clone().step_by(64 << 10).map(move |start| {
                Ok(Bytes::from(vec![0; ((64 << 10) as u64).min(range.end - start) as usize]))
            });
            let stream = stream::iter(pieces.collect::<Vec<_>>()).boxed();
            Box::pin(async { Ok(stream) })
        }

        fn wants_ranges(&self) -> bool {
            !self.ignores_ranges()
        }

        fn ignores_ranges(&self) -> bool {
            self.ignores.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn the_rest_of_a_blob_is_asked_for_while_its_first_range_comes() {
        let source = Arc::new(Fickle::default());
        let shared: Arc<dyn Source> = source.clone();
        let begun = || async {
            let demand = Demand::default();
            demand.set_begun(Begun::first(Arc::clone(&shared)).unwrap().opened().await);
            demand
        };
        let mut bytes = begun().await.begun_whole(&shared).unwrap();
        let mut given = bytes.next().await.unwrap().unwrap().len() as u64;
        assert!(given < FIRST_BYTES);
        assert_eq!(*source.asked.lock().unwrap(), [0..FIRST_BYTES, FIRST_BYTES..source.size()]);
        while let Some(piece) = bytes.next().await {
            given += piece.unwrap().len() as u64;
        }
        assert_eq!(given, source.size());
        // It would come with all of the blob once more.
        let begun = begun().await;
        source.ignores.store(true, Ordering::Relaxed);
        assert!(begun.begun_whole(&shared).is_none());
    }

    #[tokio::test]
    async fn what_is_under_way_is_let_go_of_where_the_host_stops_minding_ranges() {
        let source = Arc::new(Fickle::default());
        let demand = Arc::new(Demand::default());
        let mut growing = Growing::new(source.clone(), Compressed(0), Arc::clone(&demand));
        let (mut given, mut under_way) = (0, None);
        while let Some(piece) = growing.next().await {
            let length = piece.unwrap().len() as u64;
            given += length;
            demand.advance(length);
            if growing.parts.len() == 3 && under_way.is_none() {
                source.ignores.store(true, Ordering::Relaxed);
                under_way = growing.parts.front().map(|asked| asked.range.end);
            }
        }
        assert_eq!(given, source.size());
        let last = source.asked.lock().unwrap().last().cloned();
        assert_eq!(last, under_way.map(|end| end..given));
    }

    #[tokio::test]
    async fn who_goes_on_behind_the_first_range_gets_ready_for_more_once() {
        assert!(prepared(SIZE, 1).await.is_empty(), "all may be in the first one");
        assert_eq!(prepared(SIZE, 9).await, [RANGES - 2]);
        assert!(prepared(FIRST_BYTES + 1, 9).await.is_empty(), "the second one is the last");
    }
}
