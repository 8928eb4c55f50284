//! Spans compared with the blob and its content.

use flate2::FlushCompress;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    decompress::{
        Decompressor,
        tests::writers::{Bits, Random, content, flushed, gzip, member, writer},
    },
    offset::Compressed,
    toc::{leaves::LeafVerifier, spans::LEAF_BYTES, windows::MemoryWindows},
};

const MIB: usize = 1 << 20;
const ROOM: usize = 256 << 10;

/// A pass over a blob.
struct Pass<'a> {
    decompressor: Decompressor,
    builder: SpanBuilder,
    blob: &'a [u8],
    /// Bytes of the blob that were read.
    given: usize,
    /// Size of the output buffer in bytes.
    room: usize,
    /// Most bytes that the builder held, without the piece that is being decoded.
    held: u64,
    candidates: Vec<Checkpoint>,
}

impl<'a> Pass<'a> {
    fn new(blob: &'a [u8]) -> Self {
        let mut decompressor = Decompressor::new();
        decompressor.record();
        let builder = SpanBuilder::new(Box::new(MemoryWindows::default()));
        Self { decompressor, builder, blob, given: 0, room: ROOM, held: 0, candidates: Vec::new() }
    }

    fn resume(blob: &'a [u8], spans: Spans) -> Self {
        let checkpoint = spans.checkpoint(spans.spans.len() - 1).unwrap();
        let mut decompressor = Decompressor::restart(spans.encoding, &checkpoint).unwrap();
        decompressor.record();
        let given = checkpoint.at.compressed.0 as usize;
        Self { decompressor, builder: SpanBuilder::resume(spans), given, ..Self::new(blob) }
    }

    /// Reads pieces of `step` bytes until `end` bytes are unpacked or the blob ends.
    fn run(&mut self, end: u64, step: usize) {
        while self.given < self.blob.len() {
            self.piece(step, end);
            if self.decompressor.position().uncompressed.0 >= end {
                return;
            }
        }
        let mut output = vec![0; self.room];
        while self.decompressor.finish(&mut output).unwrap() > 0 {
            self.builder.progress(self.decompressor.position(), &[]);
        }
    }

    /// Reads a piece of `step` bytes, but stops when `end` bytes are unpacked.
    fn piece(&mut self, step: usize, end: u64) {
        let rest = &self.blob[self.given..];
        let piece = Bytes::copy_from_slice(&rest[..step.min(rest.len())]);
        self.given += piece.len();
        self.builder.compressed(&piece);
        let mut output = vec![0; self.room];
        let mut input = &*piece;
        loop {
            let produced = self.decompressor.decompress(&mut input, &mut output).unwrap();
            let position = self.decompressor.position();
            self.builder.progress(position, &self.decompressor.take_progress());
            let checkpoint = self.decompressor.take_checkpoint();
            let more = produced > 0 || checkpoint.is_some();
            if let Some(checkpoint) = checkpoint {
                self.candidates.push(checkpoint.clone());
                self.builder.checkpoint(checkpoint);
            }
            let held: usize = self.builder.held.iter().map(Bytes::len).sum();
            self.held = self.held.max(held as u64 - input.len() as u64);
            if position.uncompressed.0 >= end || !more {
                return;
            }
        }
    }

    fn finish(self) -> Spans {
        let encoding = self.decompressor.encoding().unwrap();
        self.builder.finish(encoding, self.decompressor.position()).unwrap()
    }

    fn stop(self, next_header: u64) -> Spans {
        let encoding = self.decompressor.encoding().unwrap();
        self.builder.stop(encoding, self.decompressor.position(), Uncompressed(next_header)).unwrap()
    }
}

fn whole(blob: &[u8], step: usize) -> Spans {
    let mut pass = Pass::new(blob);
    pass.run(u64::MAX, step);
    pass.finish()
}

/// Everything that matters to a reader and in a stored TOC.
fn summary(spans: &Spans) -> impl PartialEq + std::fmt::Debug + use<> {
    let (mut at, mut windows) = (Vec::new(), Vec::new());
    for span in &spans.spans {
        let (kind, window) = match span.start {
            Start::Deflate { bits, value, window } => ((bits, value), window),
            Start::Frame | Start::Member | Start::Plain => ((u8::MAX, 0), WindowRange::default()),
        };
        at.push((span.at, kind, window.length));
        windows.push(spans.windows.read(window).unwrap());
    }
    let windows = Sha256::digest(windows.concat());
    (
        spans.encoding,
        spans.end,
        at,
        spans.progress.clone(),
        Sha256::digest(spans.leaves.as_flattened()),
        windows,
    )
}

/// The output of `blob`, which may be truncated, from a span on.
fn unpack(spans: &Spans, index: usize, blob: &[u8]) -> Vec<u8> {
    let checkpoint = spans.checkpoint(index).unwrap();
    let mut decompressor = Decompressor::restart(spans.encoding, &checkpoint).unwrap();
    let (mut content, mut output) = (Vec::new(), vec![0; 256 << 10]);
    let mut input = &blob[checkpoint.at.compressed.0 as usize..];
    loop {
        match decompressor.decompress(&mut input, &mut output).unwrap() {
            0 => break,
            produced => content.extend_from_slice(&output[..produced]),
        }
    }
    loop {
        match decompressor.finish(&mut output) {
            Ok(0) | Err(_) => return content,
            Ok(produced) => content.extend_from_slice(&output[..produced]),
        }
    }
}

/// Compares everything in `spans` with the blob and its content.
fn check(spans: &Spans, blob: &[u8], content: &[u8]) {
    assert_eq!(spans.end.compressed.0, blob.len() as u64);
    assert_eq!(spans.end.uncompressed.0, content.len() as u64);
    assert_eq!(spans.spans[0].at, Position::default());
    let mut digests = Vec::new();
    for (index, span) in spans.spans.iter().enumerate() {
        let start = span.at.uncompressed.0 as usize;
        assert!(unpack(spans, index, blob) == content[start..], "span {index} at {:?}", span.at);
        let range = spans.compressed_range(index);
        let leaves = blob[range.start.0 as usize..range.end.0 as usize].chunks(LEAF_BYTES as usize);
        let expected: Vec<[u8; 32]> = leaves.map(|leaf| Sha256::digest(leaf).into()).collect();
        assert_eq!(spans.leaf_digests(index), expected, "span {index}");
        digests.extend(expected);
    }
    assert_eq!(spans.leaves, digests);
    for pair in spans.progress.windows(2) {
        assert!(pair[0].compressed < pair[1].compressed && pair[0].uncompressed < pair[1].uncompressed);
    }
}

/// Reads `start..end` from its span to the end of the read, and compares it with the content.
fn check_read(spans: &Spans, blob: &[u8], content: &[u8], start: usize, end: usize) {
    let index = spans.span_at(Uncompressed(start as u64)).unwrap();
    let stop = spans.read_end(Uncompressed(end as u64)).0 as usize;
    let span = &spans.spans[index];
    let unpacked = unpack(spans, index, &blob[..stop]);
    let skip = start - span.at.uncompressed.0 as usize;
    assert!(
        unpacked.len() >= skip + (end - start),
        "{start}..{end} needs more than {stop} bytes of the blob"
    );
    assert!(unpacked[skip..skip + (end - start)] == content[start..end]);
    // The read ends with a leaf.
    let last = spans.spans.partition_point(|span| (span.at.compressed.0 as usize) < stop) - 1;
    let range = spans.compressed_range(last);
    let into = stop as u64 - range.start.0;
    assert!(into.is_multiple_of(LEAF_BYTES) || stop as u64 == range.end.0);
}

#[test]
fn ordinary_gzip_has_about_one_span_per_mib_and_small_windows() {
    let content = content(1, 8 * MIB + 999);
    let blob = gzip(&content, 6);
    let spans = whole(&blob, 30_000);
    check(&spans, &blob, &content);
    assert!((7..=9).contains(&spans.spans.len()), "{}", spans.spans.len());
    assert_eq!(spans.spans[0].start, Start::Member);
    for start in (0..content.len() - 5_000).step_by(777_777) {
        check_read(&spans, &blob, &content, start, start + 5_000);
    }
}

#[test]
fn the_candidate_with_the_smaller_window_becomes_the_span() {
    let content = content(2, 8 * MIB);
    let blob = gzip(&content, 6);
    let mut pass = Pass::new(&blob);
    pass.run(u64::MAX, 64 << 10);
    let mut cheapest = std::collections::BTreeMap::new();
    let mut sparsifier = WindowSparsifier::new();
    for checkpoint in std::mem::take(&mut pass.candidates) {
        let Restart::Deflate { bits, value, mut window } = checkpoint.restart else { panic!() };
        let following = &blob[checkpoint.at.compressed.0 as usize..];
        sparsifier.sparsify(bits, value, &mut window, std::iter::once(following));
        let cost = (WindowSparsifier::new().pack(&window).unwrap().len(), checkpoint.at);
        cheapest.entry(mib(checkpoint.at)).or_insert_with(Vec::new).push(cost);
    }
    let spans = pass.finish();
    let chosen: Vec<Position> = spans.spans.iter().skip(1).map(|span| span.at).collect();
    let best = |costs: &Vec<(usize, Position)>| match costs[0] {
        (..=CHEAP_BYTES, at) => at,
        _ => costs.iter().min().unwrap().1,
    };
    let expected: Vec<Position> = cheapest.values().map(best).collect();
    assert_eq!(chosen, expected);
    // Each of the two has the smaller window in some MiB.
    let second = |costs: &Vec<(usize, Position)>| best(costs) != costs[0].1;
    assert!(cheapest.values().any(second) && !cheapest.values().all(second));
}

#[test]
fn no_window_is_stored_after_a_full_flush() {
    let content = content(3, 3 * MIB);
    let blob = flushed(&content, 6, 128 << 10, FlushCompress::Full);
    let spans = whole(&blob, 64 << 10);
    check(&spans, &blob, &content);
    let windows = spans.spans.iter().filter_map(|span| match span.start {
        Start::Deflate { window, .. } => Some(window.length),
        _ => None,
    });
    // A boundary without a flush may be chosen only if its window is empty too.
    assert!(windows.clone().count() >= 2);
    assert!(windows.into_iter().all(|length| length == 0));
}

#[test]
fn random_content_needs_bounded_memory() {
    let content = Random::new(4).bytes(5 * MIB);
    let blob = gzip(&content, 0);
    let mut pass = Pass::new(&blob);
    pass.run(u64::MAX, 16 << 10);
    assert!(pass.held <= HELD_BYTES + (256 << 10), "{} bytes were held", pass.held);
    check(&pass.finish(), &blob, &content);
}

fn at(compressed: usize, uncompressed: usize) -> Position {
    Position { compressed: Compressed(compressed as u64), uncompressed: Uncompressed(uncompressed as u64) }
}

#[test]
fn waiting_candidates_hold_bounded_memory() {
    let mut builder = SpanBuilder::new(Box::new(MemoryWindows::default()));
    let piece = Bytes::from(Random::new(12).bytes(16 << 10));
    let mut most = 0;
    // Not a deflate stream, so the window stays whole. Two bytes of the blob unpack to one.
    for end in (1..=256).map(|count| count * piece.len()) {
        builder.compressed(&piece);
        builder.progress(at(end, end / 2), &[]);
        if end == 2 * MIB {
            let window = Random::new(13).bytes(WINDOW_BYTES);
            builder.checkpoint(Checkpoint {
                at: at(end, end / 2),
                restart: Restart::Deflate { bits: 0, value: 0, window },
            });
        }
        most = most.max(builder.held.iter().map(Bytes::len).sum());
    }
    assert!(most > 400 << 10, "{most} bytes were held");
    assert!(most <= HELD_BYTES as usize + piece.len(), "{most} bytes were held");
    assert_eq!(builder.finish(Encoding::Gzip, at(4 * MIB, 2 * MIB)).unwrap().spans.len(), 2);
}

#[test]
fn excess_candidates_are_ignored() {
    let mut builder = SpanBuilder::new(Box::new(MemoryWindows::default()));
    builder.compressed(&Bytes::from(vec![7; 4 * MIB]));
    for (place, restart) in [
        (at(MIB, MIB), Restart::Plain),
        // Its MiB is decided.
        (at(MIB + 300_000, MIB + 300_000), Restart::Plain),
        (at(2 * MIB, 2 * MIB), Restart::Plain),
        // Not after the last one.
        (at(2 * MIB, 3 * MIB), Restart::Plain),
        // At the end.
        (at(4 * MIB, 4 * MIB), Restart::Plain),
    ] {
        builder.progress(place, &[]);
        builder.checkpoint(Checkpoint { at: place, restart });
    }
    let spans = builder.finish(Encoding::Plain, at(4 * MIB, 4 * MIB)).unwrap();
    let places: Vec<u64> = spans.spans.iter().map(|span| span.at.uncompressed.0 >> 20).collect();
    assert_eq!(places, [0, 1, 2]);
}

#[test]
fn an_endless_block_is_one_span_and_holds_no_bytes() {
    let mut bits = Bits::default();
    bits.push(0b011, 3);
    let mut random = Random::new(5);
    let content: Vec<u8> = (0..2 * MIB).map(|_| random.below(144) as u8).collect();
    for byte in &content {
        bits.push(u32::from((0x30 + byte).reverse_bits()), 8);
    }
    bits.block_end();
    let blob = member(&bits.finish(), &content);
    let mut pass = Pass::new(&blob);
    pass.run(u64::MAX, 10_000);
    assert_eq!(pass.held, 0);
    let spans = pass.finish();
    check(&spans, &blob, &content);
    assert_eq!(spans.spans.len(), 1);
    assert!(spans.progress.len() > 30);
}

#[test]
fn empty_and_tiny_blobs_have_one_span() {
    for blob in [&b""[..], b"abc", &gzip(b"", 6), &gzip(b"abc", 6), &zstd::encode_all(&b""[..], 3).unwrap()] {
        let spans = whole(blob, 7);
        assert_eq!(spans.spans.len(), 1);
        check(&spans, blob, &unpack(&spans, 0, blob));
    }
}

#[test]
fn members_frames_and_plain_blobs_have_no_windows() {
    let content = content(6, 4 * MIB + 200_000);
    let members: Vec<u8> = content.chunks(70_000).flat_map(|piece| gzip(piece, 6)).collect();
    let frames: Vec<u8> =
        content.chunks(70_000).flat_map(|piece| zstd::encode_all(piece, 1).unwrap()).collect();
    for (blob, start) in [(members, Start::Member), (frames, Start::Frame), (content.clone(), Start::Plain)] {
        let spans = whole(&blob, 50_000);
        check(&spans, &blob, &content);
        assert_eq!(spans.spans.len(), 5);
        assert!(spans.spans.iter().all(|span| span.start == start));
        check_read(&spans, &blob, &content, 3_000_000, 3_000_007);
    }
}

#[test]
fn a_read_of_a_plain_blob_ends_with_the_leaf_of_its_last_byte() {
    let content = content(7, 2 * MIB + 10);
    let spans = whole(&content, 50_000);
    assert!(spans.progress.is_empty());
    assert_eq!(spans.read_end(Uncompressed(10)), Compressed(64 << 10));
    assert_eq!(spans.read_end(Uncompressed(64 << 10)), Compressed(64 << 10));
    assert_eq!(spans.read_end(Uncompressed(2 * MIB as u64 + 1)), Compressed(content.len() as u64));
}

#[test]
fn an_error_of_the_window_store_is_returned() {
    #[derive(Debug)]
    struct Full;
    impl WindowStore for Full {
        fn push(&mut self, _: &[u8]) -> io::Result<WindowRange> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn read(&self, _: WindowRange) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let blob = gzip(&content(8, 4 * MIB), 6);
    let mut pass = Pass { builder: SpanBuilder::new(Box::new(Full)), ..Pass::new(&blob) };
    pass.run(u64::MAX, 64 << 10);
    let end = pass.decompressor.position();
    let error = pass.builder.finish(Encoding::Gzip, end).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn a_flipped_byte_stops_the_verifier_at_its_leaf() {
    let content = Random::new(9).bytes(3 * MIB);
    let blob = gzip(&content, 6);
    let spans = whole(&blob, 64 << 10);
    let start = spans.compressed_range(1).start.0 as usize;
    for (flip, step) in [(start, 1000), (start + 100_000, 200_000), (blob.len() - 1, 30_000)] {
        let mut broken = blob.clone();
        broken[flip] ^= 1;
        let mut verifier = LeafVerifier::new(&spans, 1);
        let mut passed = Vec::new();
        let error = broken[start..]
            .chunks(step)
            .try_for_each(|piece| {
                passed.extend_from_slice(&verifier.push(Bytes::copy_from_slice(piece))?);
                Ok::<_, io::Error>(())
            })
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(passed == blob[start..start + passed.len()]);
        assert!(start + passed.len() <= flip);
        let last = spans.spans.partition_point(|span| span.at.compressed.0 as usize <= flip) - 1;
        let span = spans.compressed_range(last).start.0 as usize;
        let leaf = span + (flip - span) / LEAF_BYTES as usize * LEAF_BYTES as usize;
        assert!(error.to_string().ends_with(&format!("byte {leaf} of the blob")), "{error}");
    }
}

#[test]
fn the_verifier_passes_no_bytes_without_a_digest() {
    let blob = gzip(&content(10, 2 * MIB), 6);
    let spans = whole(&blob, 64 << 10);
    let mut verifier = LeafVerifier::new(&spans, 0);
    verifier.push(Bytes::copy_from_slice(&blob[..100])).unwrap();
    assert!(verifier.finish().is_err(), "half a leaf");
    let mut verifier = LeafVerifier::new(&spans, 0);
    assert_eq!(verifier.push(Bytes::copy_from_slice(&blob)).unwrap(), blob);
    verifier.finish().unwrap();
    assert!(verifier.push(Bytes::from_static(b"more")).is_err());
    assert!(LeafVerifier::new(&spans, 99).push(Bytes::from_static(b"more")).is_err());
}

#[test]
fn the_last_span_of_a_partial_pass_is_open() {
    let content = content(11, 6 * MIB);
    let blob = gzip(&content, 6);
    let mut pass = Pass::new(&blob);
    pass.run(4 * MIB as u64 + 200_000, 20_000);
    let spans = pass.stop(2_500_000);
    let last = spans.spans.len() - 1;
    assert!(spans.spans[last].at.uncompressed.0 <= 2_500_000);
    assert!(spans.spans[last].at.uncompressed.0 > 1_000_000);
    assert!(spans.leaf_digests(last).is_empty());
    assert!(!spans.leaf_digests(last - 1).is_empty());
    assert_eq!(spans.leaves.len(), (0..last).map(|index| spans.leaf_digests(index).len()).sum::<usize>());
    check_read(&spans, &blob, &content, 2_400_000, 2_500_000);
    let from = spans.compressed_range(last).start.0 as usize;
    let start = spans.spans[last].at;
    assert!(spans.progress.last().is_some_and(|place| *place > start));
    assert!(LeafVerifier::new(&spans, last).push(Bytes::copy_from_slice(&blob[from..from + 9])).is_err());
    let resumed = SpanBuilder::resume(spans);
    assert!(resumed.progress.last().is_some_and(|place| *place <= start));
}

/// Gzip members of various writers, zstd frames, or plain content.
fn blob() -> impl Strategy<Value = Blob> {
    let pieces = prop::collection::vec((1_usize..3 * MIB, writer()), 1..4);
    (any::<u64>(), 0..4_u8, pieces).prop_map(|(seed, encoding, pieces)| {
        let content = content(seed, pieces.iter().map(|(length, _)| length).sum());
        let mut left = &content[..];
        let mut encoded = Vec::new();
        for (length, writer) in pieces {
            let (now, later) = left.split_at(length);
            left = later;
            match encoding {
                0 => encoded.extend_from_slice(now),
                1 => encoded.extend(zstd::encode_all(now, 1 + length as i32 % 5).unwrap()),
                _ => encoded.extend(writer.write(now)),
            }
        }
        Blob(encoded)
    })
}

struct Blob(Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn spans_of_random_blobs_yield_their_content(
        seed in any::<u64>(),
        members in prop::collection::vec((1_usize..3 * MIB, writer()), 1..3),
        step in 1_000_usize..200_000,
        reads in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..50_000), 5),
    ) {
        let content = content(seed, members.iter().map(|(length, _)| length).sum());
        let (mut blob, mut left) = (Vec::new(), &content[..]);
        for (length, writer) in members {
            let (now, later) = left.split_at(length);
            blob.extend(writer.write(now));
            left = later;
        }
        let spans = whole(&blob, step);
        check(&spans, &blob, &content);
        for (start, length) in reads {
            let start = start.index(content.len());
            check_read(&spans, &blob, &content, start, (start + length).min(content.len()));
        }
        for index in 0..spans.spans.len() {
            let mut verifier = LeafVerifier::new(&spans, index);
            let from = spans.compressed_range(index).start.0 as usize;
            let mut passed = Vec::new();
            for piece in blob[from..].chunks(step) {
                passed.extend_from_slice(&verifier.push(Bytes::copy_from_slice(piece)).unwrap());
            }
            verifier.finish().unwrap();
            prop_assert!(passed == blob[from..]);
        }
    }

    #[test]
    fn spans_do_not_depend_on_how_the_blob_is_split(
        Blob(blob) in blob(),
        steps in prop::collection::vec(1_usize..400_000, 1..20),
        room in prop_oneof![1_000_usize..20_000, 100_000_usize..600_000],
    ) {
        let expected = summary(&whole(&blob, usize::MAX));
        let mut pass = Pass { room, ..Pass::new(&blob) };
        let mut steps = steps.into_iter().cycle();
        while pass.given < blob.len() {
            pass.piece(steps.next().unwrap(), u64::MAX);
        }
        pass.run(u64::MAX, 1);
        prop_assert_eq!(summary(&pass.finish()), expected);
    }

    #[test]
    fn spans_do_not_depend_on_where_passes_stop(
        Blob(blob) in blob(),
        stops in prop::collection::vec((any::<prop::sample::Index>(), 0_u64..400_000), 1..6),
        step in 1_000_usize..100_000,
    ) {
        let whole = whole(&blob, usize::MAX);
        let mut pass = Pass::new(&blob);
        for (stop, header) in stops {
            let so_far = pass.decompressor.position().uncompressed.0;
            let stop = so_far + stop.index((whole.end.uncompressed.0 - so_far) as usize + 1) as u64;
            pass.run(stop, step);
            let read = pass.decompressor.position().uncompressed.0;
            pass = Pass::resume(&blob, pass.stop(read.saturating_sub(header)));
        }
        pass.run(u64::MAX, step);
        prop_assert_eq!(summary(&pass.finish()), summary(&whole));
    }

    #[test]
    fn a_resumed_pass_yields_the_same_content(
        seed in any::<u64>(),
        length in MIB..5 * MIB,
        writer in writer(),
        stops in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
        step in 1_000_usize..100_000,
    ) {
        let content = content(seed, length);
        let blob = writer.write(&content);
        let mut pass = Pass::new(&blob);
        let mut so_far = 0;
        for (stop, header) in stops {
            let stop = so_far + stop.index(length - so_far) as u64 as usize;
            pass.run(stop as u64, step);
            let read = pass.decompressor.position().uncompressed.0;
            let spans = pass.stop(header.index(read as usize + 1) as u64);
            so_far = spans.spans.last().unwrap().at.uncompressed.0 as usize;
            for index in 0..spans.spans.len() {
                let start = spans.spans[index].at.uncompressed.0 as usize;
                prop_assert!(unpack(&spans, index, &blob) == content[start..]);
            }
            pass = Pass::resume(&blob, spans);
        }
        pass.run(u64::MAX, step);
        check(&pass.finish(), &blob, &content);
    }
}
