use std::{
    collections::BTreeMap,
    future::pending,
    io::Write as _,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use tokio::sync::watch;

use super::*;
use crate::{
    layer::toc_state::{TocCell, TocState},
    oci::{digest::Digest, manifest::ImageConfig, media_type::MediaType, platform::Platform},
    offset::Compressed,
    progress::Reporter,
    read::{config::Configuration, pool::WorkerPool},
    reader::driver,
    source::{self, ByteStream, Source},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// More pieces than can wait for a decoder.
const MANY_PIECES: usize = 40;

/// A blob that comes in pieces, the first time as its part says.
#[derive(Debug)]
struct Blob {
    bytes: Bytes,
    part: Part,
    /// The blob that stands still has been decoded in part.
    stands: watch::Sender<bool>,
    opened: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    /// Stands still for ever after many pieces.
    Stands,
    /// Comes once the other stands still.
    Waits,
}

impl Blob {
    fn new(bytes: &Bytes, part: Part, stands: &watch::Sender<bool>) -> Arc<Self> {
        let (bytes, stands) = (bytes.clone(), stands.clone());
        Arc::new(Self { bytes, part, stands, opened: AtomicUsize::new(0) })
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

impl Source for Arc<Blob> {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn wants_ranges(&self) -> bool {
        true
    }

    fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, source::Error>> {
        let is_first = self.opened.fetch_add(1, Ordering::SeqCst) == 0;
        let bytes = self.bytes.slice(range.start.0 as usize..range.end.0 as usize);
        let length = bytes.len().div_ceil(2 * MANY_PIECES);
        let pieces: Vec<Bytes> = bytes.chunks(length).map(Bytes::copy_from_slice).collect();
        let (part, stands) = (self.part, self.stands.clone());
        let pieces = stream::iter(pieces.into_iter().enumerate()).then(move |(index, piece)| {
            let stands = stands.clone();
            async move {
                match part {
                    Part::Stands if is_first && index == MANY_PIECES => {
                        stands.send_replace(true);
                        pending().await
                    }
                    Part::Waits if is_first => drop(stands.subscribe().wait_for(|stands| *stands).await),
                    Part::Stands | Part::Waits => {}
                }
                Ok(piece)
            }
        });
        async { Ok(pieces.boxed()) }.boxed()
    }
}

/// A tar archive of one file, unpacked with a window of 16 MiB.
fn archive() -> Bytes {
    let mut header = tar::Header::new_gnu();
    header.set_path("file").unwrap();
    header.set_size(1 << 20);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    let mut random = 1_u64;
    archive.extend(
        std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        })
        .take(1 << 20),
    );
    archive.extend([0; 1024]);
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&archive).unwrap();
    encoder.finish().unwrap().into()
}

fn layer(index: usize, blob: &Arc<Blob>) -> Layer {
    let (digest, config) = (Digest::sha256(&blob.bytes), ImageConfig::parse(b"{}").unwrap());
    Layer {
        image: "image".into(),
        index,
        digest: Some(digest.clone()),
        name: digest,
        media_type: MediaType::OCI_LAYER,
        configuration: ConfigFuture::ready(Configuration::new(config, Platform::default(), 2)),
        annotations: Arc::new(BTreeMap::new()),
        soci: None,
        referrers: None,
        toc: Arc::new(TocCell::new(None)),
        source: Arc::new(Arc::clone(blob)),
        progress: Arc::new(Reporter::silent()),
        pool: WorkerPool::with_threads(2),
        limits: Default::default(),
    }
}

#[tokio::test]
async fn a_background_pass_that_has_the_window_and_stalls_ends_for_the_current_layer() {
    let (stands, mut other) = (watch::Sender::new(false), archive().to_vec());
    // A skippable frame, so that the blobs differ.
    other.extend([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
    let first = Blob::new(&archive(), Part::Waits, &stands);
    let second = Blob::new(&other.into(), Part::Stands, &stands);
    let layers = [layer(0, &first), layer(1, &second)];
    let prefetcher = driver::prefetch(&layers, Verification::None, 2);
    for layer in &layers {
        let indexed = tokio::time::timeout(PATIENCE, driver::index(layer, &prefetcher)).await;
        indexed.expect("it stalls").unwrap();
        assert!(
            matches!(layer.toc.state(), TocState::Complete(toc, Verification::Blob) if toc.entries.lookup(b"file").is_some())
        );
    }
    // Both were started twice: one lacked the window, the other was ended for it.
    assert_eq!((first.opened(), second.opened()), (2, 2));
}

#[tokio::test]
async fn four_responses_are_awaited_at_a_time_that_of_the_configuration_included() {
    let (stands, _) = watch::channel(false);
    let blobs: Vec<_> = (0..6).map(|index| Blob::new(&vec![index; 5].into(), Part::Waits, &stands)).collect();
    for (is_pending, expected) in [(true, 2), (false, 3)] {
        let layers = blobs.iter().enumerate().map(|(index, blob)| {
            let configuration = is_pending.then(|| ConfigFuture::new(pending()));
            let layer = layer(index, blob);
            Layer { configuration: configuration.unwrap_or_else(|| layer.configuration.clone()), ..layer }
        });
        let prefetcher = Prefetcher::requests(layers, Fetch::Adaptive, Verification::None);
        let queue = &prefetcher.0.queue;
        let mut requested = 0;
        while queue.has_room() && queue.begin_request().await {
            requested += 1;
        }
        assert_eq!(requested, expected, "besides the current layer");
    }
}

#[test]
fn background_passes_are_limited_by_cores_and_by_those_that_wait_for_their_turn() {
    assert!(!may_start(1, 1, 0), "the only core reads the current layer");
    assert!(may_start(2, 1, 0));
    assert!(!may_start(2, 2, 0));
    assert!(may_start(2, 1, 2));
    assert!(!may_start(2, 1, 3), "three wait for their turn");
}
