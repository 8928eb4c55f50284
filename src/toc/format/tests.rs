//! Whole stored TOCs.

use std::{fmt::Write as _, io, sync::LazyLock};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    decompress::Encoding,
    image::rootfs::Stack,
    limits,
    oci::digest::Digest,
    offset::{Compressed, Position, Uncompressed},
    tar::entry::Entry,
    toc::{
        chunks::Chunks,
        entries::sample::{dir, file, hard, incomplete, layer, opaque, whiteout},
        spans::{Resume, Span, Spans, Start, WindowStore},
        windows::MemoryWindows,
    },
};

fn at(compressed: u64, uncompressed: u64) -> Position {
    Position { compressed: Compressed(compressed), uncompressed: Uncompressed(uncompressed) }
}

fn entries() -> [Entry; 6] {
    [dir("d"), file("d/x"), opaque("d"), hard("y", "d/x"), whiteout("z"), file("d/w")]
}

fn spans() -> Spans {
    let mut windows = MemoryWindows::default();
    let window = windows.push(b"first window").unwrap();
    let second = windows.push(b"another one").unwrap();
    Spans {
        encoding: Encoding::Gzip,
        spans: vec![
            Span { at: at(0, 0), start: Start::Member },
            Span { at: at(70_000, 3_000), start: Start::Deflate { bits: 3, value: 5, window: second } },
            Span {
                at: at(70_100, 4_000),
                start: Start::Deflate { bits: 0, value: 0, window: Default::default() },
            },
            Span { at: at(70_200, 5_000), start: Start::Deflate { bits: 7, value: 127, window } },
        ],
        end: at(70_300, 7_000),
        leaves: (0..5).map(|leaf| [leaf; 32]).collect(),
        progress: vec![at(10, 100), at(50_000, 2_900), at(50_000, 2_950)],
        windows: Box::new(windows),
        resume: None,
    }
}

fn partial_spans() -> Spans {
    let mut spans = spans();
    spans.leaves.pop();
    let blob = Some(vec![7; 104]);
    spans.resume = Some(Resume { next_header: Uncompressed(9_999), blob, unpacked: None });
    spans
}

fn complete() -> LayerToc {
    LayerToc { entries: layer(entries()), content: ContentMap::Spans(spans()) }
}

fn partial() -> LayerToc {
    LayerToc { entries: incomplete(entries()), content: ContentMap::Spans(partial_spans()) }
}

fn header(toc: &LayerToc) -> Header {
    let diff_id = format!("sha512:{}", "0f".repeat(64)).parse().unwrap();
    let size = if toc.entries.is_complete() { 70_300 } else { 80_000 };
    Header::new(Digest::sha256(b"blob"), size, Some(diff_id), toc)
}

fn stored(toc: &LayerToc) -> Vec<u8> {
    let mut stored = Vec::new();
    write(&header(toc), toc, &mut stored).unwrap();
    stored
}

/// `complete` and `partial` as stored: written once, read often.
fn samples() -> &'static [Vec<u8>; 2] {
    static SAMPLES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| [stored(&complete()), stored(&partial())]);
    &SAMPLES
}

/// Fixes the checksum of a forged file.
fn signed(mut stored: Vec<u8>) -> Bytes {
    let length = stored.len().saturating_sub(HASH);
    let checksum: [u8; HASH] = Sha256::digest(&stored[..length]).into();
    stored.truncate(length);
    stored.extend(checksum);
    stored.into()
}

/// Everything in a TOC.
fn summary(toc: &LayerToc) -> String {
    let mut summary = String::new();
    for record in toc.entries.in_tar_order() {
        writeln!(summary, "{:?} {:?}", toc.entries.entry(record), toc.entries.hardlink(record)).unwrap();
    }
    let ContentMap::Spans(spans) = &toc.content else { return summary };
    let Spans { encoding, spans: list, end, leaves, progress, windows, resume } = spans;
    writeln!(summary, "{encoding} {end:?} {leaves:?} {progress:?} {resume:?}").unwrap();
    for span in list {
        match span.start {
            Start::Deflate { bits, value, window } => {
                writeln!(summary, "{:?} {bits} {value} {:?}", span.at, windows.read(window).unwrap())
                    .unwrap();
            }
            start => writeln!(summary, "{:?} {start:?}", span.at).unwrap(),
        }
    }
    summary
}

#[test]
fn a_toc_round_trips() {
    for toc in [complete(), partial()] {
        let (header_read, read) = read(stored(&toc).into()).unwrap();
        assert_eq!(header_read, header(&toc));
        assert_eq!(read.entries.is_complete(), toc.entries.is_complete());
        assert_eq!(summary(&read), summary(&toc));
        assert_eq!(stored(&read), stored(&toc));
    }
}

#[test]
fn a_toc_without_content_round_trips() {
    let toc = LayerToc { entries: layer(entries()), content: ContentMap::Nothing };
    let (header_read, read) = read(stored(&toc).into()).unwrap();
    assert_eq!((header_read.unpacked, header_read.entries), (0, 6));
    assert!(matches!(read.content, ContentMap::Nothing));
    assert_eq!(summary(&read), summary(&toc));
}

#[test]
fn the_header_is_read_from_the_first_bytes_alone() {
    let toc = complete();
    let stored = stored(&toc);
    assert_eq!(read_header(&stored[..HEADER_BYTES]).unwrap(), header(&toc));
    assert!(read_header(&stored[..100]).is_err());
}

#[test]
fn truncated_files_are_rejected() {
    for stored in samples() {
        for length in 0..stored.len() {
            assert!(read(stored[..length].to_vec().into()).is_err(), "{length}");
            read(signed(stored[..length].to_vec())).unwrap_err();
        }
        assert!(read([&stored[..], b"x"].concat().into()).is_err());
    }
}

#[test]
fn files_with_a_flipped_bit_are_rejected() {
    for stored in samples() {
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(flipped.into()).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn an_unknown_version_is_rejected_with_its_number() {
    let mut stored = stored(&complete());
    stored[8] = 2;
    let error = read(signed(stored)).unwrap_err();
    assert!(matches!(error, Error::Version(2)), "{error}");
    assert!(matches!(read(Bytes::from_static(b"")), Err(Error::Magic)));
}

#[test]
fn invalid_tocs_are_not_written() {
    let refused = |toc: LayerToc| {
        let error = write(&header(&toc), &toc, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        error.to_string()
    };
    let with = |change: fn(&mut Spans)| {
        let mut spans = spans();
        change(&mut spans);
        refused(LayerToc { entries: layer(entries()), content: ContentMap::Spans(spans) })
    };
    let encoding = Encoding::Gzip;
    let chunks = ContentMap::Chunks(Chunks { encoding, of: Default::default() });
    refused(LayerToc { entries: layer(entries()), content: chunks });
    assert_eq!(
        with(|spans| spans.encoding = Encoding::Zstd),
        "a first span that is not at the start of the blob"
    );
    assert_eq!(with(|spans| spans.spans.clear()), "a first span that is not at the start of the blob");
    assert_eq!(with(|spans| spans.spans[1].start = Start::Plain), "an invalid start of a span");
    assert_eq!(with(|spans| spans.spans[1].at.compressed.0 = 1 << 40), "positions that do not ascend");
    assert_eq!(with(|spans| spans.spans[1].at.uncompressed.0 = 4_001), "positions that do not ascend");
    assert_eq!(with(|spans| spans.progress.swap(0, 1)), "positions that do not ascend");
    assert_eq!(with(|spans| spans.leaves.truncate(4)), "a wrong number of leaves");
    assert_eq!(with(|spans| spans.end.uncompressed.0 = 5_631), "content beyond the end of the layer");
    assert_eq!(
        with(|spans| spans.end.compressed.0 -= 1),
        "a TOC that is more or less complete than its header"
    );
    for error in [
        with(|spans| window(spans, |bits, _, _| *bits = 8)),
        with(|spans| window(spans, |_, value, _| *value = 8)),
        with(|spans| window(spans, |_, _, length| *length = limits::WINDOW_BYTES as u32 + 1)),
    ] {
        assert_eq!(error, "an invalid start of a span");
    }
    let mut unfinished = partial_spans();
    unfinished.resume = None;
    refused(LayerToc { entries: incomplete(entries()), content: ContentMap::Spans(unfinished) });
}

fn window(spans: &mut Spans, change: fn(&mut u8, &mut u8, &mut u32)) {
    if let Start::Deflate { bits, value, window } = &mut spans.spans[1].start {
        change(bits, value, &mut window.length);
    }
}

#[test]
fn the_header_of_another_toc_is_rejected() {
    let toc = complete();
    for change in [
        (|header| header.entries += 1) as fn(&mut Header),
        |header| header.complete = false,
        |header| header.unpacked += 1,
        |header| header.size += 1,
    ] {
        let mut other = header(&toc);
        change(&mut other);
        assert!(write(&other, &toc, &mut Vec::new()).is_err());
        let length = header(&toc).encode(true).len();
        let forged = [&other.encode(true)[..], &stored(&toc)[length..]].concat();
        assert!(read(signed(forged)).is_err());
    }
}

#[test]
fn loaded_windows_can_be_copied_to_a_writable_store() {
    let (_, toc) = read(stored(&partial()).into()).unwrap();
    let ContentMap::Spans(read) = toc.content else { panic!("no spans") };
    let before = summary(&LayerToc { entries: incomplete([]), content: ContentMap::Spans(read) });
    let moved = partial_spans().copied_into(Box::<MemoryWindows>::default()).unwrap();
    let mut after = LayerToc { entries: incomplete([]), content: ContentMap::Spans(moved) };
    assert_eq!(summary(&after), before);
    let ContentMap::Spans(moved) = &mut after.content else { panic!("no spans") };
    assert!(moved.windows.push(b"more").is_ok());
}

#[test]
fn loaded_layers_have_the_same_root_file_system() {
    let lower = layer([dir("d"), file("d/a"), file("d/x"), file("z"), hard("l", "d/a")]);
    let stack = [lower, layer(entries())];
    let loaded = stack.iter().map(|tree| {
        let mut out = Vec::new();
        tree.store(&mut out).unwrap();
        EntryTree::load(&mut Section::new(&out[..], "test")).unwrap()
    });
    let loaded: Vec<EntryTree> = loaded.collect();
    let merged = |trees: &[EntryTree]| Stack::new(trees).merged().collect::<Vec<_>>();
    assert_eq!(merged(&loaded), merged(&stack));
    assert_eq!(merged(&loaded).len(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_forged_file_is_rejected_or_harmless(
        is_complete: bool,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut stored = samples()[usize::from(!is_complete)].clone();
        for (at, byte) in damage {
            *at.get_mut(&mut stored) = byte;
        }
        if let Ok((_, toc)) = read(signed(stored)) {
            summary(&toc);
        }
    }

    #[test]
    fn forged_spans_are_rejected_or_harmless(
        is_complete: bool,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let toc = if is_complete { complete() } else { partial() };
        let ContentMap::Spans(spans) = &toc.content else { return Ok(()) };
        let mut list = Vec::new();
        spans::store(spans, &mut list).unwrap();
        for (at, byte) in damage {
            *at.get_mut(&mut list) = byte;
        }
        // Replaces the spans of a valid file and fixes its checksum.
        let whole = &samples()[usize::from(!is_complete)];
        let parts = Parts::new(&whole.clone().into()).unwrap();
        let forged = zstd::bulk::compress(&list, 1).unwrap();
        let entries_end = parts.header + parts.entries.len();
        let mut file = whole[..entries_end].to_vec();
        file.extend(&forged);
        file.extend(&parts.leaves);
        file.extend(&parts.windows);
        for length in [parts.entries.len(), forged.len(), parts.windows.len()] {
            file.extend((length as u64).to_le_bytes());
        }
        file.extend([0; HASH]);
        if let Ok((_, toc)) = read(signed(file)) {
            summary(&toc);
        }
    }

    #[test]
    fn random_bytes_are_rejected(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(read(bytes.clone().into()).is_err());
        prop_assert!(read([&samples()[0][..HEADER_BYTES], &bytes].concat().into()).is_err());
    }
}
