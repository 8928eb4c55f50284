//! Sparse files written by hand.

use super::{
    archive::{END, Header, extended, file},
    decode, decode_in_pieces, only_entry,
};
use crate::tar::{Decoder, Event, entry::EntryKind, error::ErrorKind};

/// Offsets and lengths of what is stored.
pub(super) type Segments = [(u64, u64)];

fn octal(number: u64) -> Vec<u8> {
    format!("{number:011o}\0").into_bytes()
}

fn pairs(segments: &Segments) -> Vec<u8> {
    segments.iter().flat_map(|&(offset, length)| [octal(offset), octal(length)].concat()).collect()
}

/// Type `S`, with as many extension blocks as needed.
pub(super) fn old_gnu(size: u64, segments: &Segments, stored: &[u8]) -> Vec<u8> {
    let (first, rest) = segments.split_at(segments.len().min(4));
    let mut header = Header::gnu(b'S', "sparse");
    header.field(386..482, &pairs(first)).field(482..483, &[u8::from(!rest.is_empty())]);
    header.field(483..495, &octal(size));
    let mut archive = header.size(stored.len() as u64).block();
    for (index, chunk) in rest.chunks(21).enumerate() {
        let mut block = pairs(chunk);
        block.resize(504, 0);
        block.push(u8::from((index + 1) * 21 < rest.len()));
        block.resize(512, 0);
        archive.extend(block);
    }
    archive.extend_from_slice(stored);
    archive.resize(archive.len().next_multiple_of(512), 0);
    archive
}

/// PAX 0.0: a pair of records per segment.
pub(super) fn pax_0_0(size: u64, segments: &Segments, stored: &[u8]) -> Vec<u8> {
    let (size, count) = (size.to_string(), segments.len().to_string());
    let numbers: Vec<_> =
        segments.iter().map(|(offset, length)| (offset.to_string(), length.to_string())).collect();
    let mut records = vec![("GNU.sparse.size", &size[..]), ("GNU.sparse.numblocks", &count)];
    for (offset, length) in &numbers {
        records.extend([("GNU.sparse.offset", &offset[..]), ("GNU.sparse.numbytes", length)]);
    }
    [extended(b'x', &records), file("sparse", stored)].concat()
}

/// PAX 0.1: the map in one record.
pub(super) fn pax_0_1(size: u64, segments: &Segments, stored: &[u8]) -> Vec<u8> {
    let map: Vec<_> = segments.iter().map(|(offset, length)| format!("{offset},{length}")).collect();
    let records = [
        ("GNU.sparse.name", "./sparse"),
        ("GNU.sparse.size", &size.to_string()),
        ("GNU.sparse.numblocks", &segments.len().to_string()),
        ("GNU.sparse.map", &map.join(",")),
        ("GNU.sparse.major", "0"),
        ("GNU.sparse.minor", "1"),
    ];
    [extended(b'x', &records), file("GNUSparseFile.1/sparse", stored)].concat()
}

/// PAX 1.0: the map before the content.
pub(super) fn pax_1_0(size: u64, segments: &Segments, stored: &[u8]) -> Vec<u8> {
    let map: String = segments.iter().map(|(offset, length)| format!("{offset}\n{length}\n")).collect();
    with_map_in_data(&size.to_string(), &format!("{}\n{map}", segments.len()), stored)
}

fn with_map_in_data(size: &str, map: &str, stored: &[u8]) -> Vec<u8> {
    let records = [
        ("path", "decoy"),
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.realsize", size),
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
    ];
    let mut content = map.as_bytes().to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content.extend_from_slice(stored);
    [extended(b'x', &records), file("GNUSparseFile.1/sparse", &content)].concat()
}

pub(super) type Writer = fn(u64, &Segments, &[u8]) -> Vec<u8>;

pub(super) const FORMATS: [(&str, Writer); 4] =
    [("old GNU", old_gnu), ("PAX 0.0", pax_0_0), ("PAX 0.1", pax_0_1), ("PAX 1.0", pax_1_0)];

fn fault(archive: &[u8]) -> ErrorKind {
    let error = decode(archive).unwrap_err();
    assert_eq!(decode_in_pieces(archive, &vec![1; archive.len()]), Err(error));
    error.kind
}

#[test]
fn all_formats_give_the_same_content() {
    // Segments of 1 byte, which no file system makes, are stored without gaps.
    let segments: Vec<_> = (0..95).map(|index| (index * 2 + 1, 1)).collect();
    let stored: Vec<u8> = (1..=95).collect();
    let expected: Vec<u8> = (0..200).map(|at| if at % 2 == 1 && at < 190 { at / 2 + 1 } else { 0 }).collect();
    for (name, writer) in FORMATS {
        let archive = [writer(200, &segments, &stored), file("end", b"end\n"), END.to_vec()].concat();
        let unpacked = decode(&archive).unwrap();
        assert_eq!(unpacked.len(), 2, "{name}");
        assert_eq!(
            (&unpacked[0].0.path[..], unpacked[0].0.kind),
            (&b"sparse"[..], EntryKind::File),
            "{name}"
        );
        assert_eq!(unpacked[0].1, expected, "{name}");
        assert_eq!(unpacked[0].0.stored_size, 95);
        let at = usize::try_from(unpacked[0].0.data_offset.0).unwrap();
        assert_eq!(archive[at..at + 95], stored, "{name}");
        assert_eq!(unpacked[1].1, b"end\n");
    }
}

#[test]
fn maps_may_be_empty_or_end_with_an_empty_segment() {
    for (name, writer) in FORMATS {
        let all_hole: &Segments = &[];
        // Versions 0.0 and 0.1 cannot express an empty map unless they give their version.
        if name != "PAX 0.0" {
            assert_eq!(only_entry(&writer(1000, all_hole, b"")).1, [0; 1000], "{name}");
        }
        assert_eq!(only_entry(&writer(1000, &[(1000, 0)], b"")).1, [0; 1000], "{name}");
        assert_eq!(only_entry(&writer(3, &[(0, 3), (3, 0)], b"abc")).1, b"abc", "{name}");
        assert_eq!(only_entry(&writer(4, &[(0, 0), (1, 3)], b"abc")).1, b"\0abc", "{name}");
        assert!(only_entry(&writer(0, &[(0, 0)], b"")).1.is_empty(), "{name}");
    }
}

#[test]
fn impossible_maps_are_rejected() {
    let huge = 1 << 32;
    let maps: [(&Segments, u64, &str); 6] = [
        (&[(0, 2), (1, 2)], 10, "overlapping"),
        (&[(5, 2), (1, 2)], 10, "going back"),
        (&[(0, 2), (9, 2)], 10, "beyond the end"),
        (&[(0, 2), (5, 3)], 10, "more than is stored"),
        (&[(0, 2), (5, 1)], 10, "less than is stored"),
        (&[(0, 2), (huge, 2)], 10, "far beyond the end"),
    ];
    for (segments, size, fault_name) in maps {
        for (name, writer) in FORMATS {
            assert_eq!(fault(&writer(size, segments, b"1234")), ErrorKind::SparseMap, "{name}: {fault_name}");
        }
    }
    for map in [
        "",
        "x\n",
        "-1\n",
        "1\n",
        "1\n0\n",
        "1\n0\n4",
        "1\n9223372036854775807\n9223372036854775807\n",
        "1 \n0\n4\n",
    ] {
        assert_eq!(fault(&with_map_in_data("10", map, b"1234")), ErrorKind::SparseMap, "{map:?}");
    }
    // A map that is complete before the end of its block, and a number that is too long.
    let records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")];
    assert_eq!(fault(&[extended(b'x', &records), file("a", b"0\n")].concat()), ErrorKind::SparseMap);
    assert_eq!(fault(&with_map_in_data("10", &format!("{:040}\n0\n4\n", 1), b"1234")), ErrorKind::SparseMap);
    let overflow = "2\n9223372036854775807\n9223372036854775807\n18446744073709551615\n1\n";
    assert_eq!(fault(&with_map_in_data("10", overflow, b"1234")), ErrorKind::SparseMap);
    assert_eq!(fault(&with_map_in_data("10", &"0".repeat(5000), b"1234")), ErrorKind::SparseMap);
    assert_eq!(fault(&with_map_in_data("10", "1048577\n", b"1234")), ErrorKind::SparseTooLong);
    assert_eq!(
        fault(&with_map_in_data("x", "1\n0\n4\n", b"1234")),
        ErrorKind::PaxValue { key: "GNU.sparse.realsize" }
    );
}

#[test]
fn a_map_with_the_wrong_number_of_segments_is_rejected() {
    for (map, count) in
        [("0,4", "2"), ("0", "1"), ("0,4,", "1"), ("0,x", "1"), ("0,-4", "1"), ("0,4", ""), ("0,4", "x")]
    {
        let records = [("GNU.sparse.size", "10"), ("GNU.sparse.numblocks", count), ("GNU.sparse.map", map)];
        let archive = [extended(b'x', &records), file("a", b"1234")].concat();
        assert_eq!(fault(&archive), ErrorKind::SparseMap, "{map} {count}");
    }
}

#[test]
fn a_file_with_an_unknown_sparse_version_is_an_ordinary_file() {
    let records = [("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "other")];
    let (entry, content) = only_entry(&[extended(b'x', &records), file("a", b"1234")].concat());
    assert_eq!((&entry.path[..], &content[..]), (&b"a"[..], &b"1234"[..]));
}

#[test]
fn only_files_can_be_sparse_and_only_gnu_has_a_sparse_type() {
    let records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")];
    for type_flag in b'1'..=b'6' {
        let archive = [extended(b'x', &records), Header::new(type_flag, "a").block()].concat();
        assert_eq!(fault(&archive), ErrorKind::SparseMap);
    }
    assert_eq!(fault(&Header::new(b'S', "a").block()), ErrorKind::SparseMap);
}

#[test]
fn sparse_records_are_ignored_for_the_old_gnu_type() {
    let records = [("GNU.sparse.name", "decoy"), ("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")];
    let archive = [extended(b'x', &records), old_gnu(5, &[(1, 4)], b"1234")].concat();
    let (entry, content) = only_entry(&archive);
    assert_eq!((&entry.path[..], &content[..]), (&b"sparse"[..], &b"\x001234"[..]));
}

#[test]
fn the_stored_content_of_a_sparse_file_can_be_skipped_from_anywhere() {
    for (name, writer) in FORMATS {
        let archive = [writer(5000, &[(10, 1000), (2000, 500)], &[1; 1500]), file("next", b"")].concat();
        for events in 1..=5_u64 {
            let mut decoder = Decoder::new();
            let mut input = &archive[..];
            for _ in 0..events {
                assert!(decoder.decode(&mut input).unwrap().is_some());
            }
            // Entry, hole, 1000 bytes, hole, 500 bytes.
            let seen = [0, 0, 0, 1000, 1000, 1500][usize::try_from(events).unwrap()];
            let skipped = decoder.skip_content();
            assert_eq!(skipped, 1536 - seen, "{name}, {events} events");
            input = &input[usize::try_from(skipped).unwrap()..];
            assert_eq!(decoder.decode(&mut input), Ok(Some(Event::EntryEnd)));
            let Ok(Some(Event::Entry(next))) = decoder.decode(&mut input) else { panic!("no entry") };
            assert_eq!(next.path, b"next");
        }
    }
}

#[test]
fn a_truncated_map_is_an_error() {
    let segments: Vec<_> = (0..300).map(|index| (index * 2, 1)).collect();
    let old = old_gnu(600, &segments, &[1; 300]);
    assert_eq!(fault(&old[..1000]), ErrorKind::Truncated);
    assert_eq!(fault(&old[..1024]), ErrorKind::Truncated);
    let new = pax_1_0(600, &segments, &[1; 300]);
    assert_eq!(fault(&new[..1537]), ErrorKind::Truncated);
    assert_eq!(fault(&new[..new.len() - 400]), ErrorKind::Truncated);
}
