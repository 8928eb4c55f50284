//! zstd:chunked: a zstd layer with a frame per file and a TOC at its end (containers/storage, pkg/chunked/internal/minimal;
//! stargz-snapshotter, estargz/zstdchunked).
//!
//! ```text
//! │ header │ content │ header │ content │ … │ skippable: zstd(JSON) │ (skippable: tar-split) │ skippable: footer │
//! ```
//! | | annotations | footer | magic |
//! |---|---|---|---|
//! | current | `io.github.containers.zstd-chunked.` | 64 bytes | `GNUlInUx` |
//! | old, and the stargz converter | `io.containers.zstd-chunked.` | 40 bytes | `GnUlInUx` |
//!
//! Invariant: a [`Location`] is inside the blob, if the blob's size was known, and its sizes are capped.

use std::ops::Range;

use crate::{
    decompress::Encoding,
    limits,
    oci::digest::Digest,
    offset::Compressed,
    toc::{
        LayerToc,
        embedded::{self, Error, Unpacker},
        estargz,
    },
};

/// The longest footer with its frame header, in bytes.
#[cfg_attr(not(test), expect(dead_code, reason = "the TOC is only read if the manifest announces it"))]
pub(crate) const FOOTER_BYTES: u64 = 72;

/// Prefixes of the annotations, the current one first.
const PREFIXES: [&str; 2] = ["io.github.containers.zstd-chunked.", "io.containers.zstd-chunked."];

/// Magic number and length of a skippable frame (RFC 8878, 3.1.2).
const FRAME_HEADER_BYTES: u64 = 8;

const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

/// The footers: their length, and the magic at their end.
const FOOTERS: [(u32, &[u8; 8]); 2] = [(64, b"GNUlInUx"), (40, b"GnUlInUx")];

/// The only type of TOC: that of CRFS.
const TYPE: u64 = 1;

/// Where a blob's TOC is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Location {
    /// The TOC's frame, without the header of the skippable frame around it.
    pub(crate) range: Range<Compressed>,
    /// Size of the unpacked TOC in bytes.
    pub(crate) unpacked: u64,
    /// The digest of the frame, if the manifest has it.
    pub(crate) digest: Option<Digest>,
    /// The digest of the unpacked TOC, if the manifest has it.
    pub(crate) unpacked_digest: Option<Digest>,
}

/// The location of the TOC in the manifest; `get` returns an annotation of the layer.
///
/// # Errors
/// If the annotations are invalid, or if both kinds are present: clients would read different TOCs.
pub(crate) fn annotations<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Result<Location, Error>> {
    let positions =
        PREFIXES.map(|prefix| get(&format!("{prefix}manifest-position")).map(|text| (prefix, text)));
    let (prefix, position) = match positions {
        [None, None] => return None,
        [Some(_), Some(_)] => return Some(Err(Error::Position)),
        [Some(one), None] | [None, Some(one)] => one,
    };
    let digest = |key: &str| match get(key) {
        Some(text) => text.parse().map(Some).map_err(|_| Error::Position),
        None => Ok(None),
    };
    let located = || {
        let mut numbers = [0; 4];
        let mut fields = position.split(':');
        for number in &mut numbers {
            *number = fields.next().and_then(decimal).ok_or(Error::Position)?;
        }
        let mut location =
            Location::new(numbers).filter(|_| fields.next().is_none()).ok_or(Error::Position)?;
        location.digest = digest(&format!("{prefix}manifest-checksum"))?;
        location.unpacked_digest = digest(estargz::DIGEST_ANNOTATION)?;
        Ok(location)
    };
    Some(located())
}

/// The location of the TOC in the footer of a blob that ends with `tail`: its last [`FOOTER_BYTES`] at least, or the whole
/// blob. It is not verified.
#[cfg_attr(not(test), expect(dead_code, reason = "the TOC is only read if the manifest announces it"))]
pub(crate) fn footer(tail: &[u8], blob_size: u64) -> Option<Location> {
    for (length, magic) in FOOTERS {
        let Some(fields) = tail.strip_suffix(magic) else { continue };
        let fields = tail_of(fields, length as usize - magic.len())?;
        let header = tail_of(tail, FRAME_HEADER_BYTES as usize + length as usize)?;
        if !header.starts_with(&[SKIPPABLE, length.to_le_bytes()].concat()) {
            return None;
        }
        let mut numbers = [0; 4];
        for (number, field) in numbers.iter_mut().zip(fields.chunks_exact(size_of::<u64>())) {
            *number = u64::from_le_bytes(field.try_into().ok()?);
        }
        let location = Location::new(numbers)?;
        let footer = blob_size.checked_sub(FRAME_HEADER_BYTES + u64::from(length))?;
        return (location.range.end.0 <= footer).then_some(location);
    }
    None
}

/// Parses the TOC; `frame` is the bytes at `location`.
pub(crate) fn toc(frame: &[u8], location: &Location, blob_size: u64) -> Result<LayerToc, Error> {
    let Range { start, end } = location.range;
    let length = end.0.checked_sub(start.0).ok_or(Error::Position)?;
    if end.0 > blob_size || frame.len() as u64 != length {
        return Err(Error::Position);
    }
    embedded::verify(frame, location.digest.as_ref())?;
    let (mut unpacker, mut found) = (Unpacker::new(frame, Encoding::Zstd), 0);
    let mut pieces = |out: &mut Vec<u8>| {
        let piece = unpacker.next()?;
        found += piece.len() as u64;
        if found > location.unpacked || piece.is_empty() && found < location.unpacked {
            return Err(Error::Length { expected: location.unpacked, found });
        }
        out.extend_from_slice(piece);
        Ok(!piece.is_empty())
    };
    // Content ends before the header of the skippable frame.
    let content_end = Compressed(start.0.checked_sub(FRAME_HEADER_BYTES).ok_or(Error::Position)?);
    let expected = location.unpacked_digest.as_ref();
    embedded::read(&mut pieces, expected, Encoding::Zstd, content_end, |_| None)
}

impl Location {
    /// From start, length, unpacked length and type.
    fn new([start, length, unpacked, kind]: [u64; 4]) -> Option<Self> {
        let end = start.checked_add(length)?;
        let is_sound = kind == TYPE && start >= FRAME_HEADER_BYTES && length > 0;
        let is_small = length <= limits::PACKED_TOC_BYTES && unpacked <= limits::TOC_BYTES;
        if !is_sound || !is_small || unpacked > Encoding::Zstd.max_unpacked(length) {
            return None;
        }
        Some(Self {
            range: Compressed(start)..Compressed(end),
            unpacked,
            digest: None,
            unpacked_digest: None,
        })
    }
}

/// Digits only, unlike `parse`.
fn decimal(text: &str) -> Option<u64> {
    if text.bytes().all(|digit| digit.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn tail_of(bytes: &[u8], length: usize) -> Option<&[u8]> {
    bytes.get(bytes.len().checked_sub(length)?..)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        tar::entry::Entry,
        toc::embedded::{
            Fault,
            tests::{annotations as all_annotations, assert_agrees, chunks, fixture},
        },
    };

    const FIXTURES: [&str; 3] = ["zstd-chunked", "zstd-chunked-converted", "zstd-chunked-old"];

    fn located(annotations: &BTreeMap<String, String>) -> Result<Location, Error> {
        super::annotations(|key| annotations.get(key).map(String::as_str)).unwrap()
    }

    fn parts(name: &str) -> (Vec<u8>, Location, Vec<u8>) {
        let (blob, location) = (fixture(name), located(&all_annotations(name)).unwrap());
        let frame = blob[location.range.start.0 as usize..location.range.end.0 as usize].to_vec();
        (blob, location, frame)
    }

    #[test]
    fn the_toc_agrees_with_its_layer() {
        for name in FIXTURES {
            let (blob, location, frame) = parts(name);
            let toc = toc(&frame, &location, blob.len() as u64).unwrap();
            assert_agrees(&toc, &blob, |entry: &mut Entry| match name {
                // The stargz converter rounds to seconds.
                "zstd-chunked-converted" => entry.mtime.nanoseconds = 0,
                // containers/storage omits names, and old versions omit empty attributes.
                _ => {
                    entry.uname.clear();
                    entry.gname.clear();
                    entry.xattrs.retain(|_, value| !value.is_empty());
                }
            });
        }
    }

    #[test]
    fn zeros_are_not_read_from_the_blob() {
        let (blob, location, frame) = parts("zstd-chunked");
        let toc = toc(&frame, &location, blob.len() as u64).unwrap();
        let record = toc.entries.lookup(b"var/mixed").unwrap();
        let chunks = &chunks(&toc).of[&toc.entries.header_offset(record)];
        let read: Vec<bool> = chunks.iter().map(|chunk| !chunk.compressed.is_empty()).collect();
        assert_eq!(read, [true, false, true]);
    }

    #[test]
    fn the_footer_agrees_with_the_annotations() {
        for name in FIXTURES {
            let (blob, location, _) = parts(name);
            let expected = Location { digest: None, unpacked_digest: None, ..location.clone() };
            let tail = &blob[blob.len() - FOOTER_BYTES as usize..];
            assert_eq!(footer(tail, blob.len() as u64), Some(expected));
            assert!(location.digest.is_some());
        }
    }

    #[test]
    fn invalid_footers_are_ignored() {
        for (name, length) in [("zstd-chunked", 72), ("zstd-chunked-old", 48)] {
            let (blob, location, _) = parts(name);
            let tail = &blob[blob.len() - length..];
            let size = blob.len() as u64;
            assert!(footer(tail, size).is_some());
            assert_eq!(footer(&tail[1..], size), None);
            assert_eq!(footer(&blob[..blob.len() - 1], size - 1), None);
            assert_eq!(footer(tail, location.range.end.0 + length as u64 - 1), None);
            assert_eq!(footer(tail, 0), None);
            // Frame header, type and magic; the bytes in between are numbers.
            for at in (0..8).chain(32..40).chain(length - 8..length) {
                let mut mutated = tail.to_vec();
                mutated[at] ^= 0x40;
                assert_eq!(footer(&mutated, size), None, "byte {at}");
            }
        }
    }

    #[test]
    fn invalid_annotations_are_rejected() {
        assert!(super::annotations(|_| None).is_none());
        let good = all_annotations("zstd-chunked-old");
        let position = "io.containers.zstd-chunked.manifest-position";
        for text in [
            "",
            "1",
            "20070:1319:6449",
            "20070:1319:6449:2",
            "20070:1319:6449:1:1",
            "+20070:1319:6449:1",
            "20070:1319:-1:1",
            "7:1319:6449:1",
            "20070:0:6449:1",
            "20070:1319:268435457:1",
            "20070:67108865:6449:1",
            "20070:9:6449000:1",
            "18446744073709551615:1319:6449:1",
            "20070::6449:1",
            " 20070:1319:6449:1",
        ] {
            let mut bad = good.clone();
            bad.insert(position.to_owned(), text.to_owned());
            assert!(matches!(located(&bad), Err(Error::Position)), "{text:?}");
        }
        for key in ["io.containers.zstd-chunked.manifest-checksum", estargz::DIGEST_ANNOTATION] {
            let mut bad = good.clone();
            bad.insert(key.to_owned(), "sha256:12".to_owned());
            assert!(matches!(located(&bad), Err(Error::Position)), "{key}");
        }
        let mut both = good.clone();
        both.extend(all_annotations("zstd-chunked"));
        assert!(matches!(located(&both), Err(Error::Position)));
        assert_eq!(located(&good).unwrap().range, Compressed(20_070)..Compressed(21_389));
    }

    #[test]
    fn a_toc_with_another_digest_than_the_manifest_says_is_rejected() {
        let (blob, location, frame) = parts("zstd-chunked-converted");
        let refused = |location: Location| toc(&frame, &location, blob.len() as u64).unwrap_err();
        let other = Some(Digest::sha256(b"other"));
        assert!(matches!(
            refused(Location { digest: other.clone(), ..location.clone() }),
            Error::Digest { .. }
        ));
        assert!(matches!(
            refused(Location { unpacked_digest: other, ..location.clone() }),
            Error::Digest { .. }
        ));
    }

    #[test]
    fn a_toc_with_another_size_or_position_than_announced_is_rejected() {
        let (blob, location, frame) = parts("zstd-chunked");
        let size = blob.len() as u64;
        for unpacked in [location.unpacked - 1, location.unpacked + 1] {
            let refused = toc(&frame, &Location { unpacked, ..location.clone() }, size);
            assert!(matches!(refused, Err(Error::Length { .. })));
        }
        let Range { start, end } = location.range;
        assert!(matches!(toc(&frame, &location, end.0 - 1), Err(Error::Position)));
        assert!(matches!(toc(&frame[1..], &location, size), Err(Error::Position)));
        let ahead = Location { range: Compressed(8)..Compressed(8 + end.0 - start.0), ..location.clone() };
        let refused = toc(&frame, &ahead, size);
        assert!(matches!(refused, Err(Error::Entry { fault: Fault::ContentOutside, .. })));
        let before = Location { range: Compressed(7)..Compressed(7 + end.0 - start.0), ..location };
        assert!(matches!(toc(&frame, &before, size), Err(Error::Position)));
    }

    #[test]
    fn content_ends_before_the_header_of_the_toc_frame() {
        let parse = |end| {
            let json = format!(
                r#"{{"version":1,"entries":[{{"type":"reg","name":"a","size":1,"offset":20,"endOffset":{end}}}]}}"#
            );
            let frame = zstd::bulk::compress(json.as_bytes(), 1).unwrap();
            let location = Location::new([100, frame.len() as u64, json.len() as u64, 1]).unwrap();
            toc(&frame, &location, 10_000)
        };
        parse(92).unwrap();
        assert!(matches!(parse(93), Err(Error::Entry { fault: Fault::ContentOutside, .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
            prop_assert_eq!(footer(&bytes, 1 << 20), None);
            let location = Location::new([8, bytes.len() as u64, 100, 1]).unwrap();
            prop_assert!(toc(&bytes, &location, 1 << 20).is_err());
        }

        #[test]
        fn a_toc_with_a_changed_byte_is_rejected(at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let (blob, location, mut frame) = parts("zstd-chunked");
            let at = at.index(frame.len());
            frame[at] ^= flip;
            prop_assert!(toc(&frame, &location, blob.len() as u64).is_err());
        }
    }
}
