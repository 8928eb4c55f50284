use std::io::Read as _;

use proptest::prelude::*;

use super::*;
use crate::{
    decompress::{Decompressor, Encoding},
    toc::embedded::tests::{assert_same, fixture, streamed},
};

const LAYER: &str = "layer.tar.gz";

fn unpacked(blob: &[u8]) -> Vec<u8> {
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut tar).unwrap();
    tar
}

fn of(toc: &LayerToc) -> &Ztoc {
    let ContentMap::Ztoc(ztoc) = &toc.content else { panic!("no zTOC") };
    ztoc
}

/// Unpacked bytes, read by their spans.
fn read(ztoc: &Ztoc, blob: &[u8], start: u64, end: u64) -> Vec<u8> {
    let mut found = Vec::new();
    for span in ztoc.covering(Uncompressed(start)..Uncompressed(end)) {
        let packed = ztoc.compressed(span).unwrap();
        let (checkpoint, mut rest) =
            ztoc.open(span, &blob[packed.start.0 as usize..packed.end.0 as usize]).unwrap();
        let range = ztoc.unpacked(span).unwrap();
        let mut decompressor = Decompressor::restart(ztoc.encoding(), &checkpoint).unwrap();
        let mut piece = vec![0; (range.end.0 - range.start.0) as usize];
        let mut filled = 0;
        while filled < piece.len() {
            let length = decompressor.decompress(&mut rest, &mut piece[filled..]).unwrap();
            assert!(length > 0, "the span ends early");
            filled += length;
        }
        let wanted = start.max(range.start.0)..end.min(range.end.0);
        found.extend(&piece[(wanted.start - range.start.0) as usize..(wanted.end - range.start.0) as usize]);
    }
    found
}

fn assert_agrees(toc: &LayerToc, blob: &[u8]) {
    let (tree, contents) = streamed(blob);
    assert_same(&toc.entries, &tree, |_| {});
    for (path, content) in contents {
        let Some(record) = toc.entries.lookup(&path) else { continue };
        let (expected, found) = (tree.lookup(&path).unwrap(), &toc.entries);
        let start = found.data_offset(record);
        assert_eq!(
            (found.header_offset(record), start),
            (tree.header_offset(expected), tree.data_offset(expected)),
        );
        assert!(read(of(toc), blob, start.0, start.0 + content.len() as u64) == content, "{path:?}");
    }
}

#[test]
fn the_ztoc_agrees_with_its_layer() {
    let blob = fixture(LAYER);
    let toc = ztoc(&fixture("soci-ztoc"), blob.len() as u64).unwrap();
    assert_agrees(&toc, &blob);
    assert_eq!(
        (of(&toc).encoding(), of(&toc).covering(Uncompressed(0)..Uncompressed(u64::MAX))),
        (Encoding::Gzip, 0..2)
    );
}

#[test]
fn the_ztoc_of_an_uncompressed_layer_agrees_with_it() {
    let tar = unpacked(&fixture(LAYER));
    let toc = ztoc(&fixture("soci-ztoc-plain"), tar.len() as u64).unwrap();
    assert_agrees(&toc, &tar);
    assert_eq!(of(&toc).encoding(), Encoding::Plain);
}

#[test]
fn spans_are_found_by_their_unpacked_bytes() {
    let blob = fixture(LAYER);
    let toc = ztoc(&fixture("soci-ztoc"), blob.len() as u64).unwrap();
    let ztoc = of(&toc);
    let second = ztoc.unpacked(1).unwrap().start.0;
    let covering = |start, end| ztoc.covering(Uncompressed(start)..Uncompressed(end));
    assert_eq!(covering(0, 1), 0..1);
    assert_eq!(covering(second - 1, second), 0..1);
    assert_eq!(covering(second, second + 1), 1..2);
    assert_eq!(covering(second - 1, second + 1), 0..2);
    assert_eq!(covering(u64::MAX - 1, u64::MAX), 1..2);
    // The two spans share a byte.
    let (first, next) = (ztoc.compressed(0).unwrap(), ztoc.compressed(1).unwrap());
    assert_eq!((first.end.0, next.end.0), (next.start.0 + 1, blob.len() as u64));
    assert_eq!((ztoc.compressed(2), ztoc.unpacked(2)), (None, None));
    assert_eq!(ztoc.end().compressed, next.end);
}

#[test]
fn a_span_with_a_changed_byte_is_rejected() {
    let mut blob = fixture(LAYER);
    let toc = ztoc(&fixture("soci-ztoc"), blob.len() as u64).unwrap();
    let range = of(&toc).compressed(1).unwrap();
    for at in [range.start.0 as usize, blob.len() - 1] {
        blob[at] ^= 1;
        let refused = of(&toc).open(1, &blob[range.start.0 as usize..]);
        assert!(matches!(refused, Err(Error::SpanDigest { number: 1 })), "{at}");
        blob[at] ^= 1;
    }
    of(&toc).open(1, &blob[range.start.0 as usize..]).unwrap();
}

/// The checkpoints, digests and end of a fixture.
fn parts(name: &str, size: u64) -> (Vec<u8>, Vec<Digest>, Position) {
    let bytes = fixture(name);
    let buffer = Buffer::new(&bytes);
    let compression = buffer.root().unwrap().table(field::ztoc::COMPRESSION).unwrap();
    let digests = compression.texts(field::compression::DIGESTS).unwrap();
    let digests = digests.map(|digest| str::from_utf8(digest.unwrap()).unwrap().parse().unwrap()).collect();
    let end = Position { compressed: Compressed(size), uncompressed: Uncompressed(10_637_824) };
    (compression.text(field::compression::CHECKPOINTS).unwrap().to_vec(), digests, end)
}

/// A change of these parts.
type Change<'a> = &'a dyn Fn(&mut Vec<u8>, &mut Vec<Digest>, &mut Position);

const CHECKPOINT: usize = 8 + 8 + 1 + 32_768;

#[test]
fn the_first_checkpoint_of_version_1_is_implied() {
    let blob = fixture(LAYER);
    let (mut checkpoints, digests, end) = parts("soci-ztoc", blob.len() as u64);
    checkpoints.drain(12..12 + CHECKPOINT);
    let ztoc = Ztoc::gzip(&checkpoints, digests, end).unwrap();
    let tar = unpacked(&blob);
    assert!(read(&ztoc, &blob, 0, 9_000_000) == tar[..9_000_000]);
}

#[test]
fn invalid_checkpoints_are_rejected() {
    let size = fixture(LAYER).len() as u64;
    let (checkpoints, digests, end) = parts("soci-ztoc", size);
    let refused = |change: Change<'_>| {
        let (mut checkpoints, mut digests, mut end) = (checkpoints.clone(), digests.clone(), end);
        change(&mut checkpoints, &mut digests, &mut end);
        Ztoc::gzip(&checkpoints, digests, end).map(drop)
    };
    refused(&|_, _, _| {}).unwrap();

    let (first, second) = (12, 12 + CHECKPOINT);
    let set = |at: usize, value: i64| {
        move |checkpoints: &mut Vec<u8>, _: &mut Vec<Digest>, _: &mut Position| {
            checkpoints[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
    };
    for (number, change) in [
        (0, set(first, 9)),
        (0, set(first, -1)),
        (0, set(first + 8, 1)),
        (0, set(first, 9_372)),
        (1, set(second, size as i64)),
        (1, set(second, -1)),
        (1, set(second + 8, -1)),
        (0, set(second, 0)),
        (0, set(second + 8, 0)),
    ] {
        let error = refused(&change).unwrap_err();
        assert!(matches!(error, Error::Span { number: found } if found == number), "{error}");
    }
    for (bits, at) in [(1, first), (8, second)] {
        assert!(matches!(refused(&|checkpoints, _, _| checkpoints[at + 16] = bits), Err(Error::Span { .. })));
    }
    for count in [i32::MIN, -1, 0, 1, 4, i32::MAX] {
        let error = refused(&|checkpoints, _, _| checkpoints[..4].copy_from_slice(&count.to_le_bytes()));
        assert!(matches!(error, Err(Error::Checkpoints)), "{count}");
    }
    assert!(matches!(
        refused(&|checkpoints, _, _| checkpoints.truncate(checkpoints.len() - 1)),
        Err(Error::Checkpoints)
    ));
    assert!(matches!(refused(&|checkpoints, _, _| checkpoints.truncate(11)), Err(Error::Checkpoints)));
    assert!(matches!(refused(&|_, digests, _| digests.truncate(1)), Err(Error::Checkpoints)));
    assert!(matches!(refused(&|_, digests, _| digests.clear()), Err(Error::Checkpoints)));
    // A span that is too long to verify.
    let long = |_: &mut Vec<u8>, _: &mut Vec<Digest>, end: &mut Position| end.compressed.0 = 1 << 30;
    assert!(matches!(refused(&long), Err(Error::Span { number: 1 })));

    let plain = |size, count| {
        let end = Position { compressed: Compressed(1_000), uncompressed: Uncompressed(1_000) };
        Ztoc::plain(size, vec![Digest::sha256(b""); count], end).is_ok()
    };
    assert!(plain(500, 2) && plain(501, 2) && plain(1_000, 1) && plain(1 << 62, 1));
    assert!(!plain(0, 1) && !plain(499, 2) && !plain(1_000, 2) && !plain(500, 0));
}

/// The fixture with a number of the entry at `index`, or of the zTOC itself, set to another value.
fn with(index: Option<usize>, field: u16, value: i64) -> Vec<u8> {
    let mut bytes = fixture("soci-ztoc");
    let at = {
        let buffer = Buffer::new(&bytes);
        let root = buffer.root().unwrap();
        let entries = root.table(field::ztoc::TOC).unwrap().tables(field::toc::ENTRIES).unwrap();
        let table = index.map_or(root, |index| entries.map(Result::unwrap).nth(index).unwrap());
        table.field(field).unwrap().expect("the field is not the default")
    };
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// The index of a file in the fixture's list, and the offset of its content.
fn find(path: &[u8]) -> (usize, i64) {
    let bytes = fixture("soci-ztoc");
    let buffer = Buffer::new(&bytes);
    let toc = buffer.root().unwrap().table(field::ztoc::TOC).unwrap();
    let mut entries = toc.tables(field::toc::ENTRIES).unwrap().map(Result::unwrap).enumerate();
    let (index, entry) = entries.find(|(_, entry)| entry.text(field::entry::NAME).unwrap() == path).unwrap();
    (index, entry.i64(field::entry::OFFSET).unwrap())
}

#[test]
fn entries_at_impossible_offsets_are_rejected() {
    let size = fixture(LAYER).len() as u64;
    let (index, offset) = find(b"var/text");
    let refused = |field, value| match ztoc(&with(Some(index), field, value), size) {
        Err(Error::Entry { number, fault }) => (number as usize, fault),
        other => panic!("{other:?}"),
    };
    for lie in [offset - 512, offset + 1, 0, -512] {
        assert_eq!(refused(field::entry::OFFSET, lie), (index, Fault::Overlap), "{lie}");
    }
    assert_eq!(refused(field::entry::OFFSET, 1 << 40), (index, Fault::ContentOutside));
    assert_eq!(refused(field::entry::OFFSET, i64::MAX & !511), (index, Fault::ContentOutside));
    assert_eq!(refused(field::entry::SIZE, i64::MAX), (index, Fault::ContentOutside));
    assert_eq!(refused(field::entry::SIZE, -1), (index, Fault::ContentOutside));
    // A longer file would overlap the next header.
    assert_eq!(refused(field::entry::SIZE, 100_000 + 512), (index + 1, Fault::Overlap));
    ztoc(&with(Some(index), field::entry::SIZE, 100_000), size).unwrap();
}

#[test]
fn a_ztoc_of_another_blob_or_version_is_rejected() {
    let size = fixture(LAYER).len() as u64;
    assert!(matches!(ztoc(&fixture("soci-ztoc"), size + 1), Err(Error::BlobSize { .. })));
    let refused = ztoc(&with(None, field::ztoc::COMPRESSED_SIZE, -1), size);
    assert!(matches!(refused, Err(Error::BlobSize { found: -1, .. })));
    let refused = ztoc(&with(None, field::ztoc::UNCOMPRESSED_SIZE, -1), size);
    assert!(matches!(refused, Err(Error::Checkpoints)));
    let refused = ztoc(&with(None, field::ztoc::UNCOMPRESSED_SIZE, 1 << 62), size);
    assert!(matches!(refused, Err(Error::UnpackedSize { .. })));
    let mut bytes = fixture("soci-ztoc");
    let at = bytes.windows(3).position(|text| text == b"0.9").unwrap();
    bytes[at] = b'1';
    assert!(matches!(ztoc(&bytes, size), Err(Error::Version)));
}

#[test]
fn unsupported_records_of_an_entry_are_rejected() {
    let size = fixture(LAYER).len() as u64;
    let original = fixture("soci-ztoc");
    let at = original.windows(21).position(|text| text == b"SCHILY.xattr.user.not").unwrap();
    for (key, expected) in [(&b"GNU.sparse.map"[..], Fault::Sparse), (b"LIBARCHIVE.xattr.", Fault::Xattr)] {
        let mut bytes = original.clone();
        bytes[at..at + key.len()].copy_from_slice(key);
        match ztoc(&bytes, size) {
            Err(Error::Entry { fault, .. }) => assert_eq!(fault, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_value_with_many_references_is_not_read_each_time() {
    // A list of a thousand references to the same text.
    let mut bytes = vec![0; 20];
    bytes[..4].copy_from_slice(&12_u32.to_le_bytes());
    bytes[4..10].copy_from_slice(&[6, 0, 8, 0, 4, 0]);
    bytes[12..16].copy_from_slice(&8_i32.to_le_bytes());
    bytes[16..20].copy_from_slice(&4_u32.to_le_bytes());
    bytes.extend(1_000_u32.to_le_bytes());
    for left in (1..=1_000_u32).rev() {
        bytes.extend((left * 4).to_le_bytes());
    }
    bytes.extend(500_u32.to_le_bytes());
    bytes.extend([b'a'; 500]);
    let buffer = Buffer::new(&bytes);
    let mut texts = buffer.root().unwrap().texts(0).unwrap();
    assert_eq!(texts.len(), 1_000);
    assert_eq!(texts.next().unwrap().unwrap(), [b'a'; 500]);
    assert!(texts.any(|text| text.is_err()));
}

#[test]
fn an_index_lists_the_ztocs_of_layers() {
    let blob = fixture(LAYER);
    for (name, version, subject) in [
        ("soci-index-v1", IndexVersion::V1, Some(Digest::sha256(b"image"))),
        ("soci-index-v2", IndexVersion::V2, None),
    ] {
        let index = index(&fixture(name)).unwrap();
        assert_eq!((index.version, &index.subject), (version, &subject));
        let [(layer, ztoc)] = &index.layers[..] else { panic!("{:?}", index.layers) };
        assert!(layer.matches(&blob) && ztoc.digest().matches(&fixture("soci-ztoc")));
        assert_eq!(ztoc.size(), 71_208);
    }
}

#[test]
fn other_manifests_are_not_an_index() {
    let original = String::from_utf8(fixture("soci-index-v2")).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(original.contains(from), "{from}");
        index(original.replace(from, to).as_bytes())
    };
    assert!(matches!(refused("soci.index.v2", "soci.index.v3"), Err(Error::NotIndex)));
    assert!(matches!(refused("image-layer-digest", "image-layer"), Err(Error::NotIndex)));
    assert!(matches!(refused("layer-digest\":\"sha256:", "layer-digest\":\"sha256:x"), Err(Error::NotIndex)));
    assert!(matches!(refused("\"size\":2", "\"size\":-2"), Err(Error::Index(_))));
    assert!(matches!(index(b"{}"), Err(Error::Index(_))));
    let (start, end) = (original.find("[{").unwrap() + 1, original.find("}}]").unwrap() + 2);
    let layer = &original[start..end];
    assert!(matches!(refused(layer, &format!("{layer},{layer}")), Err(Error::NotIndex)));
    assert!(refused("application/octet-stream", "application/x").unwrap().layers.is_empty());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(ztoc(&bytes, 26_371).is_err());
        prop_assert!(index(&bytes).is_err());
    }

    #[test]
    fn a_changed_ztoc_is_rejected_or_stays_inside_the_blob(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        structure in any::<bool>(),
    ) {
        let (mut bytes, size) = (fixture("soci-ztoc"), fixture(LAYER).len() as u64);
        // Most bytes are windows; the first and the last few thousand are not.
        for (at, value) in changes {
            let at = if structure { at.index(400) } else { bytes.len() - 1 - at.index(5_000) };
            bytes[at] = value;
        }
        let Ok(toc) = ztoc(&bytes, size) else { return Ok(()) };
        let ztoc = of(&toc);
        for span in ztoc.covering(Uncompressed(0)..Uncompressed(u64::MAX)) {
            let range = ztoc.compressed(span).unwrap();
            prop_assert!(range.start < range.end && range.end.0 <= size);
        }
    }
}
