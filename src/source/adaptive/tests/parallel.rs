//! Parallel ranges over a link with a limit of each connection and of all of them.

use std::sync::atomic::AtomicU64;

use tokio::sync::mpsc;

use super::*;

const MIB: u64 = 1 << 20;
const CHUNK_BYTES: u64 = 16 << 10;
/// Chunks that wait in the transport.
const TRANSPORT_CHUNKS: usize = 16;

const LATENCY: Duration = Duration::from_millis(40);

/// A blob behind a link in virtual time.
#[derive(Debug)]
struct Linked {
    size: u64,
    transfers: Arc<Transfers>,
    /// Bytes a second of one connection, and of all.
    each: f64,
    all: f64,
    /// When the link is free again.
    free: Arc<Mutex<Instant>>,
    requests: Mutex<Vec<Range<u64>>>,
    /// Transfers now, and at most.
    open: Arc<Mutex<(usize, usize)>>,
    sent: Arc<AtomicU64>,
}

/// Counts an open transfer.
struct Open(Arc<Mutex<(usize, usize)>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

impl Linked {
    fn new(size: u64, each: f64, all: f64) -> Arc<Self> {
        let free = Arc::new(Mutex::new(Instant::now()));
        let (transfers, requests) = (Arc::default(), Mutex::default());
        let (open, sent) = (Arc::default(), Arc::default());
        Arc::new(Self { size, transfers, each, all, free, requests, open, sent })
    }

    fn most_open(&self) -> usize {
        self.open.lock().unwrap().1
    }
}

impl Source for Linked {
    fn size(&self) -> u64 {
        self.size
    }

    fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let range = range.start.0..range.end.0;
        self.requests.lock().unwrap().push(range.clone());
        let (each, all, free) = (self.each, self.all, Arc::clone(&self.free));
        let (open, sent) = (Arc::clone(&self.open), Arc::clone(&self.sent));
        let mut counts = self.open.lock().unwrap();
        *counts = (counts.0 + 1, counts.1.max(counts.0 + 1));
        let (guard, request) = (Open(open), self.transfers.request());
        let (sender, mut chunks) = mpsc::channel(TRANSPORT_CHUNKS);
        let transfer = async move {
            let _open = (guard, request);
            let mut arrival = Instant::now();
            for start in range.clone().step_by(CHUNK_BYTES as usize) {
                let end = range.end.min(start + CHUNK_BYTES);
                let seconds = |rate: f64| Duration::from_secs_f64((end - start) as f64 / rate);
                {
                    let mut free = free.lock().unwrap();
                    *free = (*free).max(arrival) + seconds(all);
                    arrival = (*free).max(arrival + seconds(each));
                }
                tokio::time::sleep_until(arrival).await;
                sent.fetch_add(end - start, Ordering::Relaxed);
                if sender.send(Bytes::from_static(content(start..end))).await.is_err() {
                    return;
                }
                // A timer is late by less than this; a reader that does not read stops the transfer.
                arrival = arrival.max(Instant::now() - Duration::from_millis(2));
            }
        };
        async move {
            tokio::time::sleep(LATENCY).await;
            let task = AbortOnDropHandle::new(tokio::spawn(transfer));
            let chunks = stream::poll_fn(move |context| {
                let _owned = &task;
                chunks.poll_recv(context).map(|chunk| chunk.map(Ok))
            });
            Ok(chunks.boxed())
        }
        .boxed()
    }

    fn wants_ranges(&self) -> bool {
        true
    }

    fn transfers(&self) -> Option<&Arc<Transfers>> {
        Some(&self.transfers)
    }
}

/// Reads all of a blob and decodes it at this rate, in bytes a second; checks it, and returns the seconds that it took.
async fn read(source: &Arc<Linked>, is_full: bool, decoded: f64) -> f64 {
    let (start, read_progress) = (Instant::now(), Arc::new(ReadProgress::default()));
    let shared: Arc<dyn Source> = source.clone();
    let mut reader = match is_full {
        true => AdaptiveReader::full(shared, Compressed(0), Arc::clone(&read_progress)),
        false => AdaptiveReader::new(shared, Compressed(0), Arc::clone(&read_progress)),
    };
    let (mut delivered, mut decoding) = (0, Duration::ZERO);
    while let Some(chunk) = reader.next().await {
        let chunk = chunk.unwrap();
        let end = delivered + chunk.len() as u64;
        assert!(chunk == content(delivered..end), "bytes are in order");
        delivered = end;
        // The rest of the blob, as one range, is received only as fast as it is consumed.
        let parallel = reader.parts.iter().skip(1).filter(|part| part.range.end < source.size);
        let buffered: u64 = parallel.map(|part| part.range.end - part.range.start).sum();
        // Requested and not delivered: what the ranges of one reader may be ahead comes on top of what is buffered.
        assert!(source.most_open() <= 2 || buffered <= 2 * limits::READ_AHEAD_BYTES, "{buffered}");
        decoding += Duration::from_secs_f64(chunk.len() as f64 / decoded);
        if decoding >= Duration::from_millis(5) {
            tokio::time::sleep(std::mem::take(&mut decoding)).await;
        }
        read_progress.advance(chunk.len() as u64);
    }
    assert_eq!(delivered, source.size);
    start.elapsed().as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn four_connections_read_more_than_three_times_as_fast_where_each_has_a_limit() {
    for is_full in [true, false] {
        let source = Linked::new(100 * MIB, 6.25e6, 50e6);
        let seconds = read(&source, is_full, 1e9).await;
        let alone = source.size as f64 / 6.25e6;
        assert!(alone / seconds > 3.0, "{is_full}: {seconds} s, {alone} s with one connection");
        assert_eq!(source.most_open(), limits::PARALLEL_RANGES, "{is_full}");
        assert_eq!(source.sent.load(Ordering::Relaxed), source.size);
        // The next blob of the host starts with what was learnt.
        let next = Linked::new(100 * MIB, 6.25e6, 50e6);
        let next =
            Arc::new(Linked { transfers: Arc::clone(&source.transfers), ..Arc::into_inner(next).unwrap() });
        let then = read(&next, is_full, 1e9).await;
        assert!(then < seconds * 1.02, "{is_full}: {then} s after {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_continues_where_a_second_one_is_no_faster() {
    for is_full in [true, false] {
        let source = Linked::new(100 * MIB, 25e6, 25e6);
        let seconds = read(&source, is_full, 1e9).await;
        let ideal = source.size as f64 / 25e6;
        assert!(seconds < ideal * 1.05 + 0.1, "{is_full}: {seconds} s, {ideal} s with one connection");
        assert_eq!(source.sent.load(Ordering::Relaxed), source.size);
        assert_eq!(source.transfers.pays(), Some(false));
        let requests = source.requests.lock().unwrap().len();
        assert!(!is_full || requests <= 5, "{requests}");
        let next = Linked::new(100 * MIB, 25e6, 25e6);
        let next =
            Arc::new(Linked { transfers: Arc::clone(&source.transfers), ..Arc::into_inner(next).unwrap() });
        read(&next, true, 1e9).await;
        let requests = next.requests.lock().unwrap().clone();
        assert!(matches!(requests.as_slice(), [all] if *all == (0..next.size)), "{requests:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_continues_where_the_decoder_is_the_bottleneck() {
    let source = Linked::new(100 * MIB, 25e6, 100e6);
    read(&source, true, 10e6).await;
    assert!(source.most_open() <= 2, "{}", source.most_open());
    assert_eq!(source.requests.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_transfer_continues_after_the_reader_is_dropped() {
    for is_full in [true, false] {
        let source = Linked::new(100 * MIB, 6.25e6, 50e6);
        let shared: Arc<dyn Source> = source.clone();
        let read_progress = Arc::new(ReadProgress::default());
        let mut reader = match is_full {
            true => AdaptiveReader::full(shared, Compressed(0), Arc::clone(&read_progress)),
            false => AdaptiveReader::new(shared, Compressed(0), Arc::clone(&read_progress)),
        };
        while source.most_open() < limits::PARALLEL_RANGES {
            read_progress.advance(reader.next().await.unwrap().unwrap().len() as u64);
        }
        drop(reader);
        tokio::task::yield_now().await;
        let sent = source.sent.load(Ordering::Relaxed);
        tokio::time::sleep(10 * LATENCY).await;
        assert_eq!(source.sent.load(Ordering::Relaxed), sent);
        assert_eq!(source.open.lock().unwrap().0, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn parallel_ranges_are_dropped_once_the_host_refuses_them() {
    let source = Linked::new(100 * MIB, 6.25e6, 50e6);
    let mut reader = AdaptiveReader::full(source.clone(), Compressed(0), Arc::default());
    let mut delivered = 0;
    while let Some(chunk) = reader.next().await {
        delivered += chunk.unwrap().len() as u64;
        if source.most_open() == limits::PARALLEL_RANGES && !source.transfers.is_sequential() {
            source.transfers.note_refusal();
            delivered += reader.next().await.unwrap().unwrap().len() as u64;
            tokio::task::yield_now().await;
            assert_eq!(source.open.lock().unwrap().0, 1);
            *source.open.lock().unwrap() = (1, 1);
        }
    }
    assert_eq!((delivered, source.most_open()), (source.size, 1));
    assert!(source.sent.load(Ordering::Relaxed) <= source.size + limits::READ_AHEAD_BYTES);
}
