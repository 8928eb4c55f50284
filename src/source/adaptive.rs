//! Reads a blob from an offset on by ranges that grow: stopping early wastes few bytes, and reading on keeps the link saturated.
//!
//! ```text
//! decoded ──────▶│  may be ahead: ¼ of it and 752 KiB          │
//! [ first: 128 KiB ][ range, being read ][ range, requested     ]
//! ```
//!
//! The first range is requested alone: it holds most small system files. Where the latency is longer than a short range takes, the
//! next range is requested as soon as the first bytes of the previous one arrive: a reader that stops there hangs up before the
//! server has sent more than may be ahead. Where ranges are large, the next one is requested shortly before the previous one ends.

mod link_estimate;
mod ranges;
mod read_progress;

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

use self::{
    link_estimate::LinkEstimate,
    ranges::{ReadState, clip, next, remainder},
};
pub(crate) use self::{ranges::forecast, read_progress::ReadProgress};
use super::{ByteStream, Error, Source};
use crate::offset::Compressed;

/// Ranges requested at a time, each on a connection of its own.
const RANGES: usize = 4;

/// The first range of a blob, or all of it, requested before the blob is read. Until then its bytes wait in the transport.
pub(crate) struct Prefetched {
    end: u64,
    size: u64,
    part: Part,
}

impl Prefetched {
    /// The first range; `None` if the server ignores ranges or the transfer is limited.
    pub(crate) fn first(source: Arc<dyn Source>) -> Option<Self> {
        let (range, _) = forecast(0, source.size());
        if range.is_empty() {
            return None;
        }
        Self::new(source, range)
    }

    /// The whole blob, on the same conditions: an interrupted transfer is resumed by a range.
    pub(crate) fn whole(source: Arc<dyn Source>) -> Option<Self> {
        let range = 0..source.size();
        Self::new(source, range)
    }

    fn new(source: Arc<dyn Source>, range: Range<u64>) -> Option<Self> {
        let is_possible = source.wants_ranges() && source.allowance() == u64::MAX;
        let (end, size) = (range.end, source.size());
        is_possible.then(|| Self { end, size, part: Part::opening(source, range) })
    }

    /// Whether it is a whole blob of at most this many bytes.
    pub(crate) fn is_whole_within(&self, bytes: u64) -> bool {
        self.is_whole() && self.size <= bytes
    }

    /// Whether it is the whole blob.
    fn is_whole(&self) -> bool {
        self.end == self.size
    }

    /// Waits until the response has begun, or has failed.
    pub(crate) async fn opened(mut self) -> Self {
        // It was requested long before it is read, so this is no measure of latency.
        poll_fn(|context| {
            let _ = self.part.poll_open(context);
            if matches!(self.part, Part::Opening(..)) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        self
    }
}

/// The bytes of a blob from an offset on, by ranges that grow.
pub(crate) struct AdaptiveReader {
    source: Arc<dyn Source>,
    read_progress: Arc<ReadProgress>,
    start: u64,
    /// End of the last requested range.
    requested: u64,
    /// End of the bytes delivered to the reader.
    delivered: u64,
    parts: VecDeque<RequestedRange>,
    /// Whether the remainder is requested at once.
    is_whole: bool,
    /// Connections being made for later ranges.
    preparing: Option<BoxFuture<'static, ()>>,
    link: LinkEstimate,
}

/// A range that has been requested.
struct RequestedRange {
    range: Range<u64>,
    part: Part,
}

/// The state of a request.
enum Part {
    /// It only matters once everything before it has been read.
    Failed(Error),
    Open(ByteStream),
    Opening(BoxFuture<'static, Result<ByteStream, Error>>, Instant),
}

impl Part {
    fn opening(source: Arc<dyn Source>, range: Range<u64>) -> Self {
        let opening = async move { source.open(Compressed(range.start)..Compressed(range.end)).await };
        Self::Opening(opening.boxed(), Instant::now())
    }

    /// The bytes of the range.
    fn stream(self) -> ByteStream {
        match self {
            Self::Failed(error) => stream::once(future::ready(Err(error))).boxed(),
            Self::Open(stream) => stream,
            Self::Opening(opening, _) => stream::once(opening).try_flatten().boxed(),
        }
    }

    /// Sends the request; returns the latency once, when the response begins.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Option<Duration> {
        if let Self::Opening(opening, requested_at) = self
            && let Poll::Ready(opened) = opening.poll_unpin(context)
        {
            let latency = requested_at.elapsed();
            *self = opened.map_or_else(Self::Failed, Self::Open);
            return Some(latency);
        }
        None
    }
}

impl AdaptiveReader {
    /// Reads `source` from `start` towards its end, as `read_progress` advances.
    pub(crate) fn new(source: Arc<dyn Source>, start: Compressed, read_progress: Arc<ReadProgress>) -> Self {
        let (mut requested, mut parts) = (start.0, VecDeque::new());
        if let Some(prefetched) = read_progress.take_prefetched().filter(|_| start == Compressed(0)) {
            requested = prefetched.end;
            parts.push_back(RequestedRange { range: 0..prefetched.end, part: prefetched.part });
        }
        let link = LinkEstimate::new(Instant::now());
        let (start, is_whole) = (start.0, !source.wants_ranges());
        Self {
            source,
            read_progress,
            start,
            requested,
            delivered: start,
            parts,
            is_whole,
            preparing: None,
            link,
        }
    }

    /// Whether the last byte of the blob has been requested.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested >= self.source.size()
    }

    /// The chunks with their offsets in the blob.
    pub(crate) fn located(self) -> impl Stream<Item = Result<(Compressed, Bytes), Error>> + Send {
        stream::unfold(self, |mut reader| async move {
            let piece = reader.next().await?;
            let located = piece.map(|piece| (Compressed(reader.delivered - piece.len() as u64), piece));
            Some((located, reader))
        })
    }

    /// Follows a reader that skipped content.
    fn skip(&mut self) {
        if let Some(Compressed(offset)) = self.read_progress.take_skip() {
            self.parts.clear();
            (self.start, self.requested, self.delivered) = (offset, offset, offset);
        }
    }

    /// Adapts to a server that turns out to ignore ranges: each later range would cost all of the blob before it.
    fn stop_ranges(&mut self) {
        let is_whole = !self.source.wants_ranges();
        if is_whole && !self.is_whole {
            self.parts.truncate(1);
            self.requested = self.parts.front().map_or(self.delivered, |part| part.range.end);
        }
        self.is_whole = is_whole;
    }

    /// Requests every range that may be requested now.
    fn request(&mut self) {
        self.stop_ranges();
        let mut allowance = self.source.allowance();
        while self.parts.len() < RANGES {
            let size = self.source.size();
            let is_last_arriving = self.parts.back().is_some_and(|part| self.delivered > part.range.start);
            let state = ReadState {
                start: self.start,
                decoded: self.read_progress.decoded(),
                delivered: self.delivered,
                requested: self.requested,
                // Not under a transfer limit: it counts requested bytes.
                is_arriving: is_last_arriving && allowance == u64::MAX && self.link.is_far(),
                size,
            };
            let next = if self.is_whole { remainder(state) } else { next(state, self.link.lead()) };
            let Some(range) = next else { return };
            let range = clip(range, allowance);
            let continues = range.start > self.start && range.end < size;
            if continues && self.preparing.is_none() {
                self.preparing = Some(self.source.prepare(RANGES - 2));
            }
            allowance = allowance.saturating_sub(range.end - range.start);
            self.requested = range.end;
            let part = Part::opening(Arc::clone(&self.source), range.clone());
            self.parts.push_back(RequestedRange { range, part });
        }
    }
}

impl Stream for AdaptiveReader {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            // Before the check, so that progress made after it wakes this task.
            this.read_progress.register(context.waker());
            this.skip();
            this.request();
            if this.is_requested() {
                this.read_progress.set_all_requested();
            }
            if let Some(preparing) = &mut this.preparing
                && preparing.poll_unpin(context).is_ready()
            {
                *preparing = future::pending().boxed();
            }
            // Only the first one is read; the others are only requested.
            for RequestedRange { part, .. } in &mut this.parts {
                if let Some(latency) = part.poll_open(context) {
                    this.link.responded(latency);
                }
            }
            match this.parts.pop_front() {
                None if this.is_requested() => return Poll::Ready(None),
                None => return Poll::Pending,
                Some(RequestedRange { part: Part::Failed(error), .. }) => {
                    return Poll::Ready(Some(Err(error)));
                }
                Some(RequestedRange { range, part: Part::Open(mut stream) }) => {
                    match stream.poll_next_unpin(context) {
                        Poll::Ready(None) => {}
                        other => {
                            this.parts.push_front(RequestedRange { range, part: Part::Open(stream) });
                            if let Poll::Ready(Some(Ok(piece))) = &other {
                                this.delivered += piece.len() as u64;
                                this.link.received(piece.len() as u64, Instant::now());
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

    /// A blob of zeros that records each preparation.
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

    /// The preparations requested by a reader that takes this many chunks.
    async fn prepared(size: u64, pieces: usize) -> Vec<usize> {
        let source = Arc::new(Zeros { size, prepared: Mutex::default() });
        let read_progress = Arc::new(ReadProgress::default());
        let mut reader = AdaptiveReader::new(source.clone(), Compressed(0), Arc::clone(&read_progress));
        for _ in 0..pieces {
            let Some(piece) = reader.next().await else { break };
            read_progress.advance(piece.unwrap().len() as u64);
        }
        source.prepared.lock().unwrap().clone()
    }

    /// A blob of zeros whose host starts to ignore ranges.
    #[derive(Debug, Default)]
    struct IgnoresRangesLater {
        ignores: AtomicBool,
        requests: Mutex<Vec<Range<u64>>>,
    }

    impl Source for IgnoresRangesLater {
        fn size(&self) -> u64 {
            SIZE / 10
        }

        fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>> {
            let range = range.start.0..range.end.0;
            self.requests.lock().unwrap().push(range.clone());
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
    async fn the_remainder_is_requested_while_the_first_range_arrives() {
        let source = Arc::new(IgnoresRangesLater::default());
        let shared: Arc<dyn Source> = source.clone();
        let prefetched = || async {
            let read_progress = ReadProgress::default();
            read_progress.set_prefetched(Prefetched::first(Arc::clone(&shared)).unwrap().opened().await);
            read_progress
        };
        let mut bytes = prefetched().await.prefetched_whole(&shared).unwrap();
        let mut delivered = bytes.next().await.unwrap().unwrap().len() as u64;
        assert!(delivered < FIRST_BYTES);
        assert_eq!(*source.requests.lock().unwrap(), [0..FIRST_BYTES, FIRST_BYTES..source.size()]);
        while let Some(piece) = bytes.next().await {
            delivered += piece.unwrap().len() as u64;
        }
        assert_eq!(delivered, source.size());
        // The response would be the whole blob again.
        let prefetched = prefetched().await;
        source.ignores.store(true, Ordering::Relaxed);
        assert!(prefetched.prefetched_whole(&shared).is_none());
    }

    #[tokio::test]
    async fn later_ranges_are_dropped_once_the_host_ignores_ranges() {
        let source = Arc::new(IgnoresRangesLater::default());
        let read_progress = Arc::new(ReadProgress::default());
        let mut reader = AdaptiveReader::new(source.clone(), Compressed(0), Arc::clone(&read_progress));
        let (mut delivered, mut current) = (0, None);
        while let Some(piece) = reader.next().await {
            let length = piece.unwrap().len() as u64;
            delivered += length;
            read_progress.advance(length);
            if reader.parts.len() == 3 && current.is_none() {
                source.ignores.store(true, Ordering::Relaxed);
                current = reader.parts.front().map(|part| part.range.end);
            }
        }
        assert_eq!(delivered, source.size());
        let last = source.requests.lock().unwrap().last().cloned();
        assert_eq!(last, current.map(|end| end..delivered));
    }

    #[tokio::test]
    async fn reading_past_the_first_range_preconnects_exactly_once() {
        assert!(prepared(SIZE, 1).await.is_empty(), "the first range may be enough");
        assert_eq!(prepared(SIZE, 9).await, [RANGES - 2]);
        assert!(prepared(FIRST_BYTES + 1, 9).await.is_empty(), "the second range is the last");
    }
}
