//! The engine's use of the heap: flat in bytes of content, and at most 64 bytes plus its name for
//! every entry kept.
//!
//! Bounds, not timings: whatever the scheduling, the channels and buffers between the threads
//! cannot hold more.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stderr, reason = "the figures help where a bound does not hold")]
#![expect(unsafe_code, reason = "a global allocator is unsafe by its trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use flate2::{Compression, write::GzEncoder};
use layerslayer::{Cache, CacheOptions, Client, Image};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Bytes that a kept entry may take besides its name.
const ENTRY_BYTES: usize = 64;

/// Bytes that an entry tree may take however few entries it has: its last, half-empty blocks.
const TREE_BYTES: usize = 320 << 10;

/// Bytes that a pass may take however large the layer is: pieces of the blob, unpacked buffers and
/// entries in flight between threads, and the decoder.
const PASS_BYTES: usize = 10 << 20;

/// Bytes of a large file that a reader may leave waiting, and of its start that are held back, in
/// addition to [`PASS_BYTES`].
const FILE_BYTES: usize = 6 << 20;

/// Bytes that recording a pass takes in addition to [`PASS_BYTES`]: pieces in flight to the
/// recording thread, pieces held until the start of a span is decided, the windows kept in memory,
/// and the TOC while it is written.
const RECORDING_BYTES: usize = 10 << 20;

/// Bytes kept for each unpacked MiB: a span, digests of its leaves, and where reads may end.
const SPAN_BYTES: usize = 4 << 10;

/// Layers that are read at the same time.
const PARALLEL_LAYERS: usize = 4;

/// Bytes that reading by a TOC takes in addition to its entries: the stored TOC while it is read,
/// with its windows.
const STORED_BYTES: usize = 2 << 20;

#[global_allocator]
static METER: Meter = Meter;
static CURRENT: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// One measurement at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Counts what is requested of the system's allocator. Growing counts as in place: large blocks are
/// remapped, not copied.
struct Meter;

fn grown(bytes: usize) {
    let now = CURRENT.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(now, Relaxed);
}

fn shrunk(bytes: usize) {
    CURRENT.fetch_sub(bytes, Relaxed);
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrunk(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() {
            grown(size - layout.size());
        } else {
            shrunk(layout.size() - size);
        }
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// The heap that a measured run used.
#[derive(Clone, Copy, Debug)]
struct Taken {
    peak: usize,
    /// After the run, while its result is still held.
    kept: usize,
}

/// Runs a question about the image in `folder` and drops its answer.
fn measured<T>(folder: &Path, question: impl AsyncFnOnce(&Image) -> T) -> Taken {
    measured_by(&Client::builder().build().unwrap(), folder, question)
}

/// The same with a client of its own.
fn measured_by<T>(client: &Client, folder: &Path, question: impl AsyncFnOnce(&Image) -> T) -> Taken {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let reference = format!("oci:{}", folder.display()).parse().unwrap();
        let image = client.image(&reference, &"linux/amd64".parse().unwrap()).await.unwrap();
        let before = CURRENT.load(Relaxed);
        PEAK.store(before, Relaxed);
        let answer = question(&image).await;
        let taken = Taken {
            peak: PEAK.load(Relaxed).saturating_sub(before),
            kept: CURRENT.load(Relaxed).saturating_sub(before),
        };
        drop(answer);
        eprintln!("{taken:?}");
        taken
    })
}

async fn drain(image: &Image) -> usize {
    let mut entries = image.layer(0).unwrap().entries();
    let mut count = 0;
    while let Some(entry) = entries.next().await {
        entry.unwrap();
        count += 1;
    }
    assert!(entries.verification().is_some());
    count
}

/// Reads a file to its end and drops the pieces; returns its size.
async fn carve(image: &Image, path: &str) -> u64 {
    let mut file = image.carve(path).await.unwrap();
    let mut size = 0;
    while let Some(piece) = file.next().await {
        size += piece.unwrap().len() as u64;
    }
    size
}

/// A layer under construction, piece by piece.
struct Layer<'a> {
    folder: &'a Path,
    file: File,
    size: usize,
    digest: Sha256,
    diff_id: Sha256,
}

impl<'a> Layer<'a> {
    fn new(folder: &'a Path) -> Self {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        let file = File::create(folder.join("layer")).unwrap();
        Self { folder, file, size: 0, digest: Sha256::new(), diff_id: Sha256::new() }
    }

    /// Adds part of the tar and how it is stored.
    fn add(&mut self, tar: &[u8], stored: &[u8]) {
        self.file.write_all(stored).unwrap();
        self.size += stored.len();
        self.digest.update(stored);
        self.diff_id.update(tar);
    }

    /// Adds part of the tar as a separate gzip member.
    fn add_gzip(&mut self, tar: &[u8]) {
        self.add(tar, &gzip(tar));
    }

    /// Ends the tar and makes an image of it.
    fn finish(self, compressed: bool) {
        let folder = self.folder;
        image(folder, &[self.end(compressed)]);
    }

    /// Ends the tar: its descriptor and its DiffID.
    fn end(mut self, compressed: bool) -> (Value, String) {
        let end = [0; 1024];
        if compressed {
            self.add_gzip(&end)
        } else {
            self.add(&end, &end)
        }
        let Self { folder, size, digest, diff_id, .. } = self;
        let layer = hex(digest);
        fs::rename(folder.join("layer"), folder.join("blobs/sha256").join(&layer)).unwrap();
        let descriptor = json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{layer}"), "size": size });
        (descriptor, format!("sha256:{}", hex(diff_id)))
    }
}

/// Makes an image of these layers, base first.
fn image(folder: &Path, layers: &[(Value, String)]) {
    let store = |bytes: String, media_type: &str| {
        let digest = hex(Sha256::new().chain_update(&bytes));
        fs::write(folder.join("blobs/sha256").join(&digest), &bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    };
    let (layers, diff_ids): (Vec<_>, Vec<_>) = layers.iter().cloned().unzip();
    let config = json!({ "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let manifest = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": store(config.to_string(), "application/vnd.oci.image.config.v1+json"), "layers": layers });
    let manifest = store(manifest.to_string(), "application/vnd.oci.image.manifest.v1+json");
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(1));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn header(path: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

/// Entries in one directory of an image of [`entries`].
const FOLDER: usize = 500;

/// An image of `count` files without content; returns how many entries an entry tree keeps of it,
/// and the bytes of their names.
fn entries(folder: &Path, count: usize) -> (usize, usize) {
    let mut layer = Layer::new(folder);
    let (mut tar, mut kept, mut names) = (Vec::new(), count, 0);
    for number in 0..count {
        let (directory, name) = (format!("{:04}", number / FOLDER), format!("file-{number:07}.txt"));
        if number % FOLDER == 0 {
            kept += 1;
            names += directory.len();
            layer.add_gzip(&tar);
            tar.clear();
        }
        names += name.len();
        tar.extend_from_slice(header(&format!("{directory}/{name}"), 0).as_bytes());
    }
    layer.add_gzip(&tar);
    layer.finish(true);
    (kept, names)
}

/// Bytes of content that compress to almost nothing.
const CONTENT: usize = 64 << 20;

/// An image of one file, `content`, of `times` 64 MiB, before a small one.
fn content(folder: &Path, times: u64, compressed: bool) {
    image(folder, &[content_layer(folder, 1, times, compressed)]);
}

/// A layer of such files, made from `seed`.
fn content_layer(folder: &Path, seed: u64, times: u64, compressed: bool) -> (Value, String) {
    let mut random = seed;
    let mut content: Vec<u8> = Vec::with_capacity(CONTENT);
    for _ in 0..4096 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        content.push((random >> 56) as u8);
    }
    while content.len() < CONTENT {
        content.extend_from_within(..content.len().min(CONTENT - content.len()));
    }
    let stored = if compressed { gzip(&content) } else { content.clone() };
    let mut layer = Layer::new(folder);
    let small = |header: tar::Header, layer: &mut Layer<'_>| {
        if compressed {
            layer.add_gzip(header.as_bytes())
        } else {
            layer.add(header.as_bytes(), header.as_bytes())
        }
    };
    small(header("content", CONTENT as u64 * times), &mut layer);
    for _ in 0..times {
        layer.add(&content, &stored);
    }
    small(header("small", 0), &mut layer);
    layer.end(compressed)
}

#[test]
fn an_entry_tree_takes_at_most_64_bytes_and_the_name_for_an_entry() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (folder, count) = (tempfile::tempdir().unwrap(), 100_000);
    let (kept, names) = entries(folder.path(), count);
    let tree = kept * ENTRY_BYTES + names + TREE_BYTES;

    let rootfs = measured(folder.path(), async |image| image.rootfs().await.unwrap());
    let absent = measured(folder.path(), async |image| image.carve("not/there").await.unwrap_err());
    let listing = measured(folder.path(), async |image| assert_eq!(drain(image).await, count));

    assert!(rootfs.kept <= tree, "rootfs keeps {rootfs:?}, more than {tree}");
    assert!(rootfs.peak <= tree + PASS_BYTES, "rootfs took {rootfs:?}, more than {tree} and {PASS_BYTES}");
    assert!(absent.peak <= tree + PASS_BYTES, "carve took {absent:?}, more than {tree} and {PASS_BYTES}");
    assert!(listing.peak <= PASS_BYTES, "entries took {listing:?}, more than {PASS_BYTES}");
}

#[test]
fn an_entry_tree_that_has_just_grown_takes_no_more_for_an_entry() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // One more than a power of two: whatever doubles has just doubled. Enough entries to outweigh
    // the allowance of a pass.
    let (folder, count) = (tempfile::tempdir().unwrap(), (1 << 18) + 1);
    let (kept, names) = entries(folder.path(), count);
    let bound = kept * ENTRY_BYTES + names + TREE_BYTES + PASS_BYTES;

    let rootfs = measured(folder.path(), async |image| image.rootfs().await.unwrap());
    assert!(rootfs.peak <= bound, "rootfs took {rootfs:?}, more than {bound}");
}

#[test]
fn memory_does_not_grow_with_content() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (times, compressed) in [(1, true), (16, true), (2, false)] {
        let folder = tempfile::tempdir().unwrap();
        content(folder.path(), times, compressed);
        let size = CONTENT as u64 * times;

        let file = measured(folder.path(), async |image| assert_eq!(carve(image, "content").await, size));
        let rootfs = measured(folder.path(), async |image| image.rootfs().await.unwrap());
        let listing = measured(folder.path(), async |image| assert_eq!(drain(image).await, 2));
        assert!(file.peak <= PASS_BYTES + FILE_BYTES, "carve took {file:?} of {size} bytes");
        assert!(rootfs.peak <= PASS_BYTES + TREE_BYTES, "rootfs took {rootfs:?} of {size} bytes");
        assert!(listing.peak <= PASS_BYTES, "entries took {listing:?} of {size} bytes");
    }
}

#[test]
fn recording_and_reading_by_a_toc_take_no_more_for_larger_layers() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (times, compressed) in [(1, true), (8, true), (2, false)] {
        let folder = tempfile::tempdir().unwrap();
        content(folder.path(), times, compressed);
        let cache = Cache::open(&CacheOptions::new(folder.path().join("cache"))).unwrap();
        let client = Client::builder().cache(cache.clone()).build().unwrap();
        let spans = usize::try_from(times).unwrap() * (CONTENT >> 20) * SPAN_BYTES;
        let recorded = measured_by(&client, folder.path(), async |image| {
            assert!(image.layer(0).unwrap().build_toc().await.unwrap().is_new);
        });
        cache.finish_writes();
        let bound = PASS_BYTES + TREE_BYTES + RECORDING_BYTES + spans;
        assert!(
            recorded.peak <= bound,
            "recording took {recorded:?} of {times} times 64 MiB, more than {bound}"
        );

        let size = CONTENT as u64 * times;
        let small =
            measured_by(&client, folder.path(), async |image| assert_eq!(carve(image, "small").await, 0));
        let file = measured_by(&client, folder.path(), async |image| {
            assert_eq!(carve(image, "content").await, size)
        });
        let bound = PASS_BYTES + TREE_BYTES + STORED_BYTES + spans;
        assert!(small.peak <= bound, "an empty file took {small:?} of {size} bytes, more than {bound}");
        assert!(file.peak <= bound + FILE_BYTES, "a file took {file:?} of {size} bytes, more than {bound}");
    }
}

#[test]
fn parallel_layers_each_take_what_a_pass_takes_however_large_and_many_they_are() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (count, times) in [(5, 1), (5, 3), (13, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let layers: Vec<_> =
            (0..count).map(|layer| content_layer(folder.path(), layer + 1, times, true)).collect();
        image(folder.path(), &layers);
        let trees = layers.len() * TREE_BYTES;
        let spans = layers.len() * usize::try_from(times).unwrap() * (CONTENT >> 20) * SPAN_BYTES;

        let client = Client::builder().parallel_layers(PARALLEL_LAYERS).build().unwrap();
        let rootfs = measured_by(&client, folder.path(), async |image| image.rootfs().await.unwrap());
        let bound = PARALLEL_LAYERS * PASS_BYTES + trees;
        assert!(rootfs.peak <= bound, "rootfs took {rootfs:?} of {count} layers, more than {bound}");

        let cache = Cache::open(&CacheOptions::new(folder.path().join("cache"))).unwrap();
        let client = Client::builder().parallel_layers(PARALLEL_LAYERS).cache(cache.clone()).build().unwrap();
        let built = measured_by(&client, folder.path(), async |image| {
            assert_eq!(image.build_tocs().await.unwrap().len(), layers.len());
        });
        cache.finish_writes();
        let bound = PARALLEL_LAYERS * (PASS_BYTES + RECORDING_BYTES) + trees + spans;
        assert!(built.peak <= bound, "TOCs took {built:?} of {count} layers, more than {bound}");
    }
}
