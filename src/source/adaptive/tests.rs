//! The reader against blobs of zeros and a link in virtual time.

use std::{
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture},
};

use super::*;
use crate::{limits, registry::Transfers, source::ByteStream};

mod parallel;
mod registry;

const SIZE: u64 = 300 << 20;
const FIRST_BYTES: u64 = 128 << 10;

/// Bytes after which content repeats: no multiple of any range's length.
const PERIOD: usize = 999_983;

/// Content of two periods.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let byte = |at: usize| (at / 251 + at % 251) as u8;
    (0..2 * PERIOD).map(|at| byte(at % PERIOD)).collect()
});

/// Bytes that tell where they belong: at most a period of them.
fn content(range: Range<u64>) -> &'static [u8] {
    let (start, length) = (range.start as usize % PERIOD, (range.end - range.start) as usize);
    &PATTERN[start..start + length]
}

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
async fn prepared(size: u64, chunks: usize) -> Vec<usize> {
    let source = Arc::new(Zeros { size, prepared: Mutex::default() });
    let read_progress = Arc::new(ReadProgress::default());
    let mut reader = AdaptiveReader::new(source.clone(), Compressed(0), Arc::clone(&read_progress));
    for _ in 0..chunks {
        let Some(chunk) = reader.next().await else { break };
        read_progress.advance(chunk.unwrap().len() as u64);
    }
    source.prepared.lock().unwrap().clone()
}

#[tokio::test]
async fn reading_past_the_first_range_preconnects_exactly_once() {
    assert!(prepared(SIZE, 1).await.is_empty(), "the first range may be enough");
    assert_eq!(prepared(SIZE, 9).await, [RANGES - 2]);
    assert!(prepared(FIRST_BYTES + 1, 9).await.is_empty(), "the second range is the last");
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
        let chunks = range
            .clone()
            .step_by(64 << 10)
            .map(move |start| Ok(Bytes::from(vec![0; ((64 << 10) as u64).min(range.end - start) as usize])));
        let stream = stream::iter(chunks.collect::<Vec<_>>()).boxed();
        Box::pin(async { Ok(stream) })
    }

    fn wants_ranges(&self) -> bool {
        !self.ignores_ranges()
    }

    fn ignores_ranges(&self) -> bool {
        self.ignores.load(Ordering::Relaxed)
    }
}

/// A read to the end of a blob whose first range was prefetched.
fn prefetched(source: &Arc<dyn Source>) -> AdaptiveReader {
    let prefetched = Prefetched::first(Arc::clone(source)).unwrap();
    let read_progress = Arc::new(ReadProgress::default());
    read_progress.set_prefetched(prefetched);
    AdaptiveReader::full(Arc::clone(source), Compressed(0), read_progress)
}

#[tokio::test]
async fn the_remainder_is_requested_while_the_first_range_arrives() {
    let source = Arc::new(IgnoresRangesLater::default());
    let mut reader = prefetched(&(source.clone() as Arc<dyn Source>));
    let mut delivered = reader.next().await.unwrap().unwrap().len() as u64;
    assert!(delivered < FIRST_BYTES);
    assert_eq!(reader.requested, source.size());
    while let Some(chunk) = reader.next().await {
        delivered += chunk.unwrap().len() as u64;
    }
    assert_eq!(delivered, source.size());
    assert_eq!(*source.requests.lock().unwrap(), [0..FIRST_BYTES, FIRST_BYTES..source.size()]);
}

#[tokio::test]
async fn a_prefetched_range_is_given_up_where_it_would_bring_the_whole_blob_twice() {
    let source = Arc::new(IgnoresRangesLater::default());
    let mut reader = prefetched(&(source.clone() as Arc<dyn Source>));
    source.ignores.store(true, Ordering::Relaxed);
    let mut delivered = 0;
    while let Some(chunk) = reader.next().await {
        delivered += chunk.unwrap().len() as u64;
    }
    assert_eq!(delivered, source.size());
    assert_eq!(source.requests.lock().unwrap().last(), Some(&(0..delivered)));
}

#[tokio::test]
async fn later_ranges_are_dropped_once_the_host_ignores_ranges() {
    let source = Arc::new(IgnoresRangesLater::default());
    let read_progress = Arc::new(ReadProgress::default());
    let mut reader = AdaptiveReader::new(source.clone(), Compressed(0), Arc::clone(&read_progress));
    let (mut delivered, mut current) = (0, None);
    while let Some(chunk) = reader.next().await {
        let length = chunk.unwrap().len() as u64;
        delivered += length;
        read_progress.advance(length);
        if reader.parts.len() == 2 && current.is_none() {
            source.ignores.store(true, Ordering::Relaxed);
            current = reader.parts.front().map(|part| part.range.end);
        }
    }
    assert_eq!(delivered, source.size());
    let last = source.requests.lock().unwrap().last().cloned();
    assert_eq!(last, current.map(|end| end..delivered));
}
