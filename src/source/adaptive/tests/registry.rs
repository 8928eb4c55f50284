//! Parallel ranges of a blob in a scripted registry.

use super::*;
use crate::{
    oci::digest::Digest,
    registry::{
        Http, Repository, Session,
        scripted::{Reply, Request, ScriptedRegistry},
    },
    source::registry_blob::RegistryBlob,
};

const BLOB_BYTES: usize = 40 << 20;

/// Longer than any test here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A blob whose bytes tell where they belong.
fn blob() -> Vec<u8> {
    let chunks = (0..BLOB_BYTES as u64).step_by(64 << 10);
    chunks.flat_map(|start| content(start..start + (64 << 10))).copied().collect()
}

/// A registry with one blob, on which parallel transfers are known to pay.
struct Fixture {
    server: ScriptedRegistry,
    session: Arc<Session>,
    blob: Arc<dyn Source>,
    content: Arc<Vec<u8>>,
}

impl Fixture {
    /// `answer` gets the number of each request.
    fn new(answer: impl Fn(usize, &Request, &[u8]) -> Reply + Send + Sync + 'static) -> Self {
        let content = Arc::new(blob());
        let (served, requests) = (Arc::clone(&content), Mutex::new(0));
        let server = ScriptedRegistry::start(move |request| {
            let number = {
                let mut requests = requests.lock().unwrap();
                *requests += 1;
                *requests - 1
            };
            answer(number, request, &served)
        });
        let http = Http::builder().retry_base(Duration::from_millis(1)).build().unwrap();
        let repository = Repository { host: server.host(), name: "library/app".to_owned() };
        let mut session = Session::new(http, repository, None);
        let transfers = Transfers::with_throughputs([10, 20, 30, 40].map(|rate| rate << 20));
        Arc::get_mut(&mut session).unwrap().transfers = transfers;
        let blob = RegistryBlob::new(Arc::clone(&session), Digest::sha256(&content), content.len() as u64);
        Self { server, session, blob: Arc::new(blob), content }
    }

    fn reader(&self) -> AdaptiveReader {
        AdaptiveReader::full(Arc::clone(&self.blob), Compressed(0), Arc::default())
    }

    /// All of the blob.
    async fn read(&self) -> Result<Vec<u8>, Error> {
        let (mut reader, mut read) = (self.reader(), Vec::new());
        while let Some(chunk) = reader.next().await {
            read.extend_from_slice(&chunk?);
        }
        Ok(read)
    }

    fn ranges(&self) -> Vec<(usize, usize)> {
        self.server.requests().iter().filter_map(Request::range).collect()
    }
}

#[tokio::test]
async fn consecutive_ranges_over_several_connections_are_delivered_in_order() {
    let fixture = Fixture::new(|_, request, blob| Reply::blob(request, blob));
    assert!(fixture.read().await.unwrap() == *fixture.content);
    let mut ranges = fixture.ranges();
    ranges.sort_unstable();
    assert!(ranges.len() > 8 && ranges.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ranges:?}");
    assert!((2..=limits::PARALLEL_RANGES + 1).contains(&fixture.server.connections()));
    assert_eq!(fixture.session.bytes_fetched(), BLOB_BYTES as u64);
}

#[tokio::test]
async fn a_host_that_refuses_parallel_requests_gets_one_at_a_time() {
    for refusal in [Some(429), Some(503), None] {
        let fixture = Fixture::new(move |number, request, blob| match (number, refusal) {
            (2, Some(status)) => Reply::status(status),
            (2, None) => Reply::close(),
            _ => Reply::blob(request, blob),
        });
        assert!(fixture.read().await.unwrap() == *fixture.content, "{refusal:?}");
        assert!(fixture.session.transfers.is_sequential(), "{refusal:?}");
        let most = BLOB_BYTES as u64 + limits::READ_AHEAD_BYTES;
        assert!(fixture.session.bytes_fetched() <= most, "{refusal:?}");
        // The remainder is one range.
        assert_eq!(fixture.ranges().last().unwrap().1, BLOB_BYTES, "{refusal:?}");
        let before = fixture.server.requests().len();
        assert!(fixture.read().await.unwrap() == *fixture.content, "{refusal:?}");
        assert_eq!(fixture.server.requests().len(), before + 1, "{refusal:?}");
    }
}

#[tokio::test]
async fn a_host_that_ignores_ranges_sends_the_blob_in_one_stream() {
    let fixture = Fixture::new(|_, _, blob| Reply::ok(blob));
    assert!(fixture.read().await.unwrap() == *fixture.content);
    let requests = fixture.server.requests();
    let whole: Vec<_> = requests.iter().map(|request| request.range().is_none()).collect();
    assert!(
        whole.len() <= 1 + limits::PARALLEL_RANGES && whole.iter().filter(|is_whole| **is_whole).count() == 1,
        "{whole:?}"
    );
    // What the transport had received of the responses that were dropped depends on the machine.
    let most = 2 * BLOB_BYTES as u64;
    assert!(fixture.session.bytes_fetched() <= most, "{}", fixture.session.bytes_fetched());
}

#[tokio::test]
async fn a_range_that_is_cut_is_resumed_where_it_broke() {
    const KEPT: usize = 1 << 20;
    let fixture = Fixture::new(|number, request, blob| {
        let reply = Reply::blob(request, blob);
        if number == 3 { reply.cut_after(KEPT) } else { reply }
    });
    assert!(fixture.read().await.unwrap() == *fixture.content);
    let ranges = fixture.ranges();
    let (start, end) = ranges[3];
    assert!(ranges.contains(&(start + KEPT, end)), "{ranges:?}");
    assert_eq!(fixture.session.bytes_fetched(), BLOB_BYTES as u64);
    assert!(!fixture.session.transfers.is_sequential(), "it had made progress");
}

#[tokio::test]
async fn a_wrong_range_among_parallel_ones_is_an_error() {
    let fixture = Fixture::new(|number, request, blob| {
        let reply = Reply::blob(request, blob);
        match (number, request.range()) {
            (3, Some((start, end))) => {
                let (start, end) = (start - 1, end - 2);
                reply.header("content-range", &format!("bytes {start}-{end}/{}", blob.len()))
            }
            _ => reply,
        }
    });
    let Err(error) = fixture.read().await else { panic!("the wrong range was accepted") };
    assert!(error.to_string().contains("answers with"), "{error}");
}

#[tokio::test]
async fn dropping_the_reader_closes_all_its_connections() {
    let stalled = 64 << 10;
    let fixture = Fixture::new(move |_, request, blob| Reply::blob(request, blob).stall_after(stalled));
    let mut reader = fixture.reader();
    while fixture.server.requests().len() < limits::PARALLEL_RANGES {
        tokio::select! {
            chunk = reader.next() => drop(chunk.unwrap().unwrap()),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    drop(reader);
    let server = fixture.server;
    let closed = tokio::task::spawn_blocking(move || server.wait_for_closed(limits::PARALLEL_RANGES));
    tokio::time::timeout(PATIENCE, closed).await.expect("an end of the transfers").unwrap();
}
