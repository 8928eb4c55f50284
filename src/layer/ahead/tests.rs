use std::{
    collections::BTreeMap,
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
    layer::{
        configuration::{Configuration, Pending},
        known::{Knowledge, Known},
    },
    oci::{digest::Digest, manifest::ImageConfig, media_type::MediaType, platform::Platform},
    offset::Compressed,
    progress::Silent,
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
        configuration: Pending::ready(Configuration::new(config, Platform::default(), 2)),
        annotations: Arc::new(BTreeMap::new()),
        soci: None,
        knowledge: Arc::new(Knowledge::new(None, None)),
        begun: Slot::default(),
        source: Arc::new(Arc::clone(blob)),
        progress: Arc::new(Silent),
    }
}

#[tokio::test]
async fn a_pass_beside_that_has_the_window_and_stands_still_ends_for_the_layer_whose_turn_it_is() {
    let (stands, mut other) = (watch::Sender::new(false), archive().to_vec());
    // A skippable frame, so that it is no blob twice.
    other.extend([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
    let first = Blob::new(&archive(), Part::Waits, &stands);
    let second = Blob::new(&other.into(), Part::Stands, &stands);
    let layers = [layer(0, &first), layer(1, &second)];
    let ahead = Ahead::whole(layers.clone(), Verification::None, 2);
    for layer in &layers {
        tokio::time::timeout(PATIENCE, layer.read_whole(&ahead)).await.expect("it stands still").unwrap();
        assert!(
            matches!(layer.known(), Known::Wholly(toc, Verification::Blob) if toc.entries.lookup(b"file").is_some())
        );
    }
    // The one was begun again because it had waited in vain, the other because it was waited for.
    assert_eq!((first.opened(), second.opened()), (2, 2));
}

#[test]
fn four_answers_are_awaited_at_a_time_that_of_the_configuration_among_them() {
    let (stands, _) = watch::channel(false);
    let blobs: Vec<_> =
        (0..6).map(|_| Blob::new(&Bytes::from_static(b"small"), Part::Waits, &stands)).collect();
    for (is_to_come, expected) in [(true, 2), (false, 3)] {
        let layers = blobs.iter().enumerate().map(|(index, blob)| {
            let configuration = is_to_come.then(|| Pending::new(pending()));
            let layer = layer(index, blob);
            Layer { configuration: configuration.unwrap_or_else(|| layer.configuration.clone()), ..layer }
        });
        let ahead = Ahead::new(layers, Reading::Growing, Verification::None);
        let mut begun = 0;
        for layer in ahead.0.layers.iter().skip(1).take_while(|_| ahead.0.has_room()) {
            *layer.begun.lock() = Begun::first(Arc::clone(&layer.source));
            begun += 1;
        }
        assert_eq!(begun, expected, "besides the layer that is read");
    }
}

#[test]
fn passes_go_by_the_cores_and_do_not_run_away() {
    assert!(!may_begin(1, 1, 0), "the only core reads the layer whose turn it is");
    assert!(may_begin(2, 1, 0));
    assert!(!may_begin(2, 2, 0));
    assert!(may_begin(2, 1, 2));
    assert!(!may_begin(2, 1, 3), "three wait for their turn");
}
