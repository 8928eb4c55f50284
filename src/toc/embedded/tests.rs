use std::{collections::BTreeMap, fs, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::{
    offset::{Compressed, Uncompressed},
    tar::{
        Decoder, Event,
        entry::{Entry, EntryKind},
        whiteout::{self, Meaning},
    },
    toc::{
        ContentMap, LayerToc,
        chunks::{Chunk, Chunks},
        entries::{EntryTree, Hardlink, ROOT},
    },
};

/// A file of `fixtures/toc`.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/toc").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The annotations of a fixture in its manifest.
pub(crate) fn annotations(name: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_slice(&fixture("annotations.json")).unwrap();
    all.remove(name).unwrap()
}

/// The result of reading the whole blob: its tree, and the content of every file by path.
pub(crate) fn streamed(blob: &[u8]) -> (EntryTree, BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut decompressor = Decompressor::new();
    let mut tar = Vec::new();
    let (mut input, mut buffer) = (blob, vec![0; 1 << 20]);
    loop {
        let mut length = decompressor.decompress(&mut input, &mut buffer).unwrap();
        if length == 0 {
            length = decompressor.finish(&mut buffer).unwrap();
        }
        if length == 0 {
            break;
        }
        tar.extend_from_slice(&buffer[..length]);
    }
    let (mut tree, mut contents) = (EntryTree::new(), BTreeMap::new());
    let (mut decoder, mut rest, mut current) = (Decoder::new(), &tar[..], Vec::new());
    while let Some(event) = decoder.decode(&mut rest).unwrap() {
        match event {
            Event::Data(data) => {
                contents.get_mut(&current).map_or((), |content: &mut Vec<u8>| content.extend(data))
            }
            Event::Entry(mut entry) => {
                current = entry.path.clone();
                if whiteout::interpret(&mut entry) == Meaning::Metadata {
                    continue;
                }
                if entry.kind == EntryKind::File {
                    contents.insert(current.clone(), Vec::new());
                }
                tree.insert(&entry).unwrap();
            }
            _ => {}
        }
    }
    tree.complete();
    (tree, contents)
}

/// An entry, its target if it is a hard link, and whether it is opaque as a directory.
type Listed = (Entry, Option<Vec<u8>>, bool);

/// All entries, by path and whether they are whiteouts, without their offsets in the archive.
pub(crate) fn listed(tree: &EntryTree) -> BTreeMap<(Vec<u8>, bool), Listed> {
    let mut found = BTreeMap::new();
    let mut directories = vec![ROOT];
    while let Some(directory) = directories.pop() {
        for &record in tree.children(directory) {
            let mut entry = tree.entry(record);
            if entry.kind == EntryKind::Directory {
                directories.push(record);
            }
            (entry.header_offset, entry.data_offset) = (Uncompressed(0), Uncompressed(0));
            let target = match tree.hardlink(record) {
                Some(Hardlink::Record(target)) => Some(tree.path(target)),
                Some(Hardlink::Unresolved(path)) => panic!("{path:?} is not there"),
                None => None,
            };
            let key = (entry.path.clone(), entry.kind == EntryKind::Whiteout);
            found.insert(key, (entry, target, tree.is_opaque(record)));
        }
    }
    found
}

/// Reads a file by its chunks and verifies each.
fn read_chunks(blob: &[u8], chunks: &[Chunk]) -> Vec<u8> {
    let mut content = Vec::new();
    for chunk in chunks {
        let range = chunk.compressed.start.0 as usize..chunk.compressed.end.0 as usize;
        let mut piece = vec![0; chunk.size as usize];
        if !range.is_empty() {
            let mut input = &blob[range];
            let mut decompressor = Decompressor::new();
            let mut skipped = vec![0; chunk.skip as usize];
            for target in [&mut skipped, &mut piece] {
                let mut filled = 0;
                while filled < target.len() {
                    let length = decompressor.decompress(&mut input, &mut target[filled..]).unwrap();
                    let length = if length == 0 {
                        decompressor.finish(&mut target[filled..]).unwrap()
                    } else {
                        length
                    };
                    assert!(length > 0, "the chunk's members end too early");
                    filled += length;
                }
            }
        }
        assert!(chunk.digest.as_ref().unwrap().matches(&piece));
        content.extend(piece);
    }
    content
}

pub(crate) fn chunks(toc: &LayerToc) -> &Chunks {
    let ContentMap::Chunks(chunks) = &toc.content else { panic!("no chunks") };
    chunks
}

/// Compares the entries of two trees after `alike` has removed allowed differences.
pub(crate) fn assert_same(found: &EntryTree, expected: &EntryTree, alike: impl Fn(&mut Entry)) {
    let (mut found, mut expected) = (listed(found), listed(expected));
    for (entry, ..) in expected.values_mut().chain(found.values_mut()) {
        alike(entry);
    }
    assert_eq!(found, expected);
    assert!(expected.len() > 20);
}

/// Compares a TOC with its blob.
pub(crate) fn assert_agrees(toc: &LayerToc, blob: &[u8], alike: impl Fn(&mut Entry)) {
    let (tree, contents) = streamed(blob);
    assert_same(&toc.entries, &tree, alike);
    let mut read = 0;
    for (path, content) in contents {
        let Some(record) = toc.entries.lookup(&path) else { continue };
        let chunks = chunks(toc).of.get(&toc.entries.header_offset(record)).cloned().unwrap_or_default();
        assert_eq!(chunks.iter().map(|chunk| chunk.size).sum::<u64>(), content.len() as u64);
        assert!(read_chunks(blob, &chunks) == content, "{path:?} differs");
        read += 1;
    }
    assert!(read > 10);
}

const END: Compressed = Compressed(1_000);

fn parse(entries: &str) -> Result<LayerToc, Error> {
    read_json(format!(r#"{{"version":1,"entries":[{entries}]}}"#).as_bytes(), None, END)
}

/// Parses JSON that comes in two pieces.
fn read_json(json: &[u8], expected: Option<&Digest>, end: Compressed) -> Result<LayerToc, Error> {
    let (first, second) = json.split_at(json.len() * 2 / 3);
    let mut pieces = [first, second].into_iter();
    let mut source = |out: &mut Vec<u8>| {
        let piece = pieces.next();
        out.extend_from_slice(piece.unwrap_or_default());
        Ok(piece.is_some())
    };
    read(&mut source, expected, Encoding::Gzip, end, |_| None)
}

fn fault(entries: &str) -> Fault {
    match parse(entries) {
        Err(Error::Entry { fault, .. }) => fault,
        other => panic!("{entries}: {other:?}"),
    }
}

fn ranges(entries: &str) -> Vec<Vec<(u64, u64, u64, u64)>> {
    let toc = parse(entries).unwrap();
    let mut files: Vec<_> = chunks(&toc).of.iter().collect();
    files.sort_by_key(|(number, _)| **number);
    let shown = |chunk: &Chunk| (chunk.compressed.start.0, chunk.compressed.end.0, chunk.skip, chunk.size);
    files.into_iter().map(|(_, chunks)| chunks.iter().map(shown).collect()).collect()
}

#[test]
fn content_ends_at_the_stated_end_or_where_the_next_member_with_content_starts() {
    let found = ranges(
        r#"{"type":"reg","name":"a","size":5,"offset":10},
           {"type":"reg","name":"b","size":5,"offset":20},
           {"type":"reg","name":"c","size":5,"offset":20,"innerOffset":512},
           {"type":"reg","name":"d","size":9,"offset":40,"chunkSize":4},
           {"type":"chunk","name":"d","offset":50,"chunkOffset":4,"chunkSize":4},
           {"type":"chunk","name":"d","offset":60,"chunkOffset":8},
           {"type":"reg","name":"e","size":9,"offset":70,"endOffset":80},
           {"type":"reg","name":"f","size":9,"offset":90,"endOffset":120,"chunkSize":2},
           {"type":"chunk","name":"f","offset":100,"chunkOffset":2,"chunkSize":6,"chunkType":"zeros"},
           {"type":"chunk","name":"f","offset":110,"chunkOffset":8,"chunkSize":1},
           {"type":"reg","name":"g","size":9,"offset":130}"#,
    );
    let expected = [
        vec![(10, 20, 0, 5)],
        vec![(20, 40, 0, 5)],
        vec![(20, 40, 512, 5)],
        vec![(40, 50, 0, 4), (50, 60, 0, 4), (60, 70, 0, 1)],
        vec![(70, 80, 0, 9)],
        vec![(90, 100, 0, 2), (100, 100, 0, 6), (110, 120, 0, 1)],
        vec![(130, 1_000, 0, 9)],
    ];
    assert_eq!(found, expected);
}

#[test]
fn content_outside_the_blob_or_of_two_files_is_rejected() {
    let outside = [
        r#"{"type":"reg","name":"a","size":5}"#,
        r#"{"type":"reg","name":"a","size":5,"offset":1000}"#,
        r#"{"type":"reg","name":"a","size":5,"offset":1,"endOffset":1001}"#,
        r#"{"type":"reg","name":"a","size":5,"offset":7,"endOffset":7}"#,
        r#"{"type":"reg","name":"a","size":5,"offset":7,"endOffset":6}"#,
        r#"{"type":"reg","name":"a","size":5,"offset":18446744073709551615}"#,
        r#"{"type":"reg","name":"a","size":5,"offset":7,"innerOffset":18446744073709551612}"#,
    ];
    for entries in outside {
        assert_eq!(fault(entries), Fault::ContentOutside, "{entries}");
    }
    let overlapping = [
        r#"{"type":"reg","name":"a","size":5,"offset":1},{"type":"reg","name":"b","size":5,"offset":1}"#,
        r#"{"type":"reg","name":"a","size":5,"offset":1},{"type":"reg","name":"b","size":5,"offset":1,"innerOffset":4}"#,
        r#"{"type":"reg","name":"a","size":5,"offset":1,"endOffset":9},{"type":"reg","name":"b","size":5,"offset":8}"#,
        r#"{"type":"reg","name":"a","size":8,"offset":1,"chunkSize":4},{"type":"chunk","offset":1,"chunkOffset":4,"name":"a"}"#,
    ];
    for entries in overlapping {
        assert_eq!(fault(entries), Fault::Overlap, "{entries}");
    }
}

#[test]
fn chunks_that_do_not_add_up_to_their_file_are_rejected() {
    let file = r#"{"type":"reg","name":"a","size":8,"offset":10,"chunkSize":4}"#;
    for chunks in [
        "",
        r#",{"type":"dir","name":"d"}"#,
        r#",{"type":"chunk","name":"a","offset":20,"chunkOffset":4,"chunkSize":3}"#,
        r#",{"type":"chunk","name":"a","offset":20,"chunkOffset":4,"chunkSize":5}"#,
        r#",{"type":"chunk","name":"a","offset":20,"chunkOffset":3,"chunkSize":4}"#,
        r#",{"type":"chunk","name":"a","offset":20,"chunkOffset":5,"chunkSize":3}"#,
        r#",{"type":"chunk","name":"a","offset":20,"chunkSize":4}"#,
        r#",{"type":"chunk","name":"a","offset":20,"chunkOffset":4},{"type":"chunk","name":"a","offset":30,"chunkOffset":8}"#,
    ] {
        assert_eq!(fault(&format!("{file}{chunks}")), Fault::Chunks, "{chunks}");
    }
    assert_eq!(fault(r#"{"type":"reg","name":"a","size":8,"offset":10,"chunkOffset":1}"#), Fault::Chunks);
    assert_eq!(fault(r#"{"type":"reg","name":"a","size":8,"offset":10,"chunkSize":9}"#), Fault::Chunks);
    let chunk = r#"{"type":"chunk","name":"a","offset":20,"chunkOffset":4}"#;
    for before in [
        "",
        r#"{"type":"dir","name":"a"},"#,
        r#"{"type":"reg","name":"b","size":8,"offset":10,"chunkSize":4},"#,
    ] {
        assert_eq!(fault(&format!("{before}{chunk}")), Fault::ChunkWithoutFile, "{before}");
    }
    parse(&format!("{file},{chunk}")).unwrap();
}

#[test]
fn unsafe_and_duplicate_names_are_rejected() {
    for name in ["..", "../a", "a/../b", "/..", r"a\u0000", r"a\ufffd"] {
        assert_eq!(fault(&format!(r#"{{"type":"dir","name":"{name}"}}"#)), Fault::Name, "{name}");
        let link =
            format!(r#"{{"type":"dir","name":"b"}},{{"type":"hardlink","name":"l","linkName":"{name}"}}"#);
        assert_eq!(fault(&link), Fault::Name, "{name}");
    }
    assert_eq!(fault(r#"{"type":"symlink","name":"l","linkName":"\ufffd"}"#), Fault::Name);
    parse(r#"{"type":"symlink","name":"l","linkName":"../x"}"#).unwrap();
    for (one, other) in [
        (r#"{"type":"reg","name":"a"}"#, r#"{"type":"reg","name":"a"}"#),
        (r#"{"type":"reg","name":"a"}"#, r#"{"type":"dir","name":"./a/"}"#),
        (r#"{"type":"dir","name":"a"}"#, r#"{"type":"dir","name":"/a"}"#),
        (r#"{"type":"dir","name":"./"}"#, r#"{"type":"dir","name":"/"}"#),
        (r#"{"type":"reg","name":".wh.a"}"#, r#"{"type":"reg","name":".wh.a"}"#),
        (
            r#"{"type":"symlink","name":"a","linkName":"b"},{"type":"reg","name":"b/c"}"#,
            r#"{"type":"reg","name":"a/c"}"#,
        ),
    ] {
        parse(one).unwrap();
        assert_eq!(fault(&format!("{one},{other}")), Fault::Duplicate, "{one} {other}");
    }
    parse(r#"{"type":"reg","name":"a"},{"type":"reg","name":".wh.a"}"#).unwrap();
}

#[test]
fn a_hard_link_must_name_an_earlier_entry_that_is_not_a_directory() {
    for entries in [
        r#"{"type":"hardlink","name":"a","linkName":"b"}"#,
        r#"{"type":"hardlink","name":"a","linkName":"a"}"#,
        r#"{"type":"hardlink","name":"a","linkName":"b"},{"type":"hardlink","name":"b","linkName":"a"}"#,
        r#"{"type":"hardlink","name":"a","linkName":"b"},{"type":"reg","name":"b"}"#,
        r#"{"type":"dir","name":"b"},{"type":"hardlink","name":"a","linkName":"b"}"#,
    ] {
        assert_eq!(fault(entries), Fault::Hardlink, "{entries}");
    }
    let toc = parse(
        r#"{"type":"reg","name":"a"},{"type":"hardlink","name":"b","linkName":"./a"},{"type":"hardlink","name":"c","linkName":"b"}"#,
    )
    .unwrap();
    let (a, c) = (toc.entries.lookup(b"a").unwrap(), toc.entries.lookup(b"c").unwrap());
    assert_eq!(toc.entries.hardlink(c), Some(Hardlink::Record(a)));
}

#[test]
fn invalid_fields_are_rejected() {
    for (field, expected) in [
        (r#""type":"socket""#, Fault::Kind),
        (r#""type":"reg","chunkType":"random""#, Fault::Kind),
        (r#""type":"char","devMajor":-1"#, Fault::Device),
        (r#""type":"block","devMinor":4294967296"#, Fault::Device),
        (r#""type":"reg","digest":"sha256:12""#, Fault::Digest),
        (r#""type":"reg","chunkDigest":"md5:12""#, Fault::Digest),
        (r#""type":"reg","modtime":"yesterday""#, Fault::Time),
        (r#""type":"reg","xattrs":{"user.a":"*"}"#, Fault::Xattr),
        (r#""type":"reg","xattrs":{"user.\ufffd":""}"#, Fault::Xattr),
    ] {
        assert_eq!(fault(&format!(r#"{{"name":"a",{field}}}"#)), expected, "{field}");
    }
    let (one, other) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
    let two = |other: &Digest| {
        format!(r#"{{"name":"a","type":"reg","size":1,"offset":5,"digest":"{one}","chunkDigest":"{other}"}}"#)
    };
    assert_eq!(fault(&two(&other)), Fault::Digests);
    parse(&two(&one)).unwrap();
    for json in [
        &b""[..],
        b"[]",
        b"{}",
        b"{\"version\":1}",
        b"{\"entries\":[]}",
        b"{\"version\":1,\"entries\":[]} x",
        b"{\"version\":1,\"version\":1,\"entries\":[]}",
        b"{\"version\":1,\"entries\":[],\"entries\":[]}",
        b"{\"version\":1,\"entries\":[{\"name\":\"a\"}]}",
        b"{\"version\":1,\"entries\":[{\"name\":\"a\",\"name\":\"b\",\"type\":\"dir\"}]}",
        b"{\"version\":1,\"entries\":[{\"name\":\"a\",\"type\":\"reg\",\"size\":-1}]}",
        b"{\"version\":1,\"entries\":[{\"name\":\"\xff\",\"type\":\"dir\"}]}",
    ] {
        let refused = read_json(json, None, END);
        assert!(matches!(refused, Err(Error::Json(_))), "{:?}: {refused:?}", json.escape_ascii().to_string());
    }
    let next = read_json(b"{\"version\":2,\"entries\":[]}", None, END);
    assert!(matches!(next, Err(Error::Version)));
}

#[test]
fn sizes_that_the_blob_cannot_hold_are_rejected() {
    // 990 bytes of gzip unpack to about a million at most.
    for (size, is_possible) in [(1_000_000_u64, true), (1_100_000, false), (1 << 62, false)] {
        for kind in ["", r#","chunkType":"zeros""#] {
            let entry = format!(r#"{{"type":"reg","name":"a","size":{size},"offset":10{kind}}}"#);
            assert_eq!(parse(&entry).is_ok(), is_possible, "{entry}");
        }
    }
    let first = r#"{"type":"reg","name":"a","size":4611686018427387905,"offset":10,"chunkSize":1}"#;
    let zeros = r#"{"type":"chunk","name":"a","offset":20,"chunkOffset":1,"chunkType":"zeros"}"#;
    assert_eq!(fault(&format!("{first},{zeros}")), Fault::ContentOutside);
}

#[test]
fn owner_names_and_attributes_are_held_to_the_limits_of_linux() {
    let name = |length: usize| format!(r#"{{"type":"reg","name":"a","userName":"{}"}}"#, "n".repeat(length));
    assert_eq!(fault(&name(257)), Fault::OwnerName);
    parse(&name(256)).unwrap();
    let names: Vec<String> = (0..9_000).map(|number| format!(r#""u{number:06}":"""#)).collect();
    let listed =
        |count: usize| format!(r#"{{"type":"reg","name":"a","xattrs":{{{}}}}}"#, names[..count].join(","));
    assert_eq!(fault(&listed(8_193)), Fault::Xattr);
    parse(&listed(8_192)).unwrap();
}

#[test]
fn large_documents_are_parsed_while_they_are_unpacked() {
    let entries: Vec<String> =
        (0..2_000).map(|number| format!(r#"{{"type":"dir","name":"d{number}\"]{{"}}"#)).collect();
    let json = format!(r#"{{"version":1,"unknown":[{{"a":[[]]}}],"entries":[{}]}}"#, entries.join(", "));
    assert!(json.len() > 60_000);
    let digest = Digest::sha256(json.as_bytes());
    let toc = read_json(json.as_bytes(), Some(&digest), END).unwrap();
    assert_eq!(toc.entries.entry_count(), 2_000);

    let other = Digest::sha256(b"other");
    assert!(matches!(read_json(json.as_bytes(), Some(&other), END), Err(Error::Digest { .. })));
    let cut = read_json(&json.as_bytes()[..json.len() - 1], Some(&digest), END);
    assert!(matches!(cut, Err(Error::Json(_))));
    let twice = json.replace("d7\\", "d8\\");
    let refused = read_json(twice.as_bytes(), None, END);
    assert!(matches!(refused, Err(Error::Entry { number: 8, fault: Fault::Duplicate })), "{refused:?}");
}

#[test]
fn an_entry_that_is_too_long_is_rejected_before_it_is_collected() {
    let long = "n".repeat(5 << 20);
    let document = |key: &str, entry: &str| {
        let json = format!(r#"{{"version":1,{key}"entries":[{{"type":"dir","name":"d"}},{entry}]}}"#);
        read_json(json.as_bytes(), None, END)
    };
    let refused = |key: &str, entry: &str| match document(key, entry) {
        Err(Error::LongEntry { at }) => at,
        other => panic!("{other:?}"),
    };
    let fine = r#"{"type":"dir","name":"e"}"#;
    assert_eq!(refused("", &format!(r#"{{"type":"dir","name":"{long}"}}"#)), 50);
    assert_eq!(refused("", &format!(r#"{{"unknown":[{}0]}}"#, "0,".repeat(3 << 20))), 50);
    assert_eq!(refused(&format!(r#""{long}":0,"#), fine), 13);
    document(&format!(r#""{}":0,"#, &long[..4 << 20 >> 1]), fine).unwrap();
}

#[test]
fn absent_fields_have_defaults() {
    let toc = parse(
        r#"{"type":"reg","name":"/etc/a","uid":1,"gid":2,"userName":"one","groupName":"two","mode":35309,"modtime":"1969-12-31T23:59:59.5Z"},
           {"type":"reg","name":"./b","uid":1,"gid":2,"modtime":"0001-01-01T00:00:00Z","xattrs":{"user.x":"AAE="}},
           {"type":"reg","name":"c","uid":-2,"gid":1,"modtime":"2026-01-01T01:00:00+01:00"},
           {"type":"reg","name":".no.prefetch.landmark","size":1,"offset":30,"uid":5,"userName":"five"},
           {"type":"hardlink","name":"d","linkName":"b","size":7},
           {"type":"reg","name":"e/.wh..wh..opq","size":1,"offset":40,"uid":5},
           {"type":"reg","name":".wh..wh.aufs"}"#,
    )
    .unwrap();
    let entry = |path: &[u8]| toc.entries.entry(toc.entries.lookup(path).unwrap());
    let time = |path| (entry(path).mtime.seconds, entry(path).mtime.nanoseconds);
    assert_eq!((entry(b"etc/a").mode, time(b"etc/a")), (0o4755, (-1, 500_000_000)));
    let names = |path| (entry(path).uname, entry(path).gname);
    assert_eq!(names(b"b"), (b"one".to_vec(), b"two".to_vec()));
    assert_eq!((entry(b"b").xattrs[&b"user.x"[..]].as_slice(), time(b"b")), (&[0, 1][..], (0, 0)));
    assert_eq!(
        (entry(b"c").uid, names(b"c"), time(b"c").0),
        (0xffff_fffe, Default::default(), 1_767_225_600)
    );
    assert_eq!((entry(b"d").size, entry(b"d").link), (0, b"b".to_vec()));
    assert!(toc.entries.is_opaque(toc.entries.lookup(b"e").unwrap()));
    assert_eq!(
        (entry(b".no.prefetch.landmark").size, names(b".no.prefetch.landmark").0),
        (1, b"five".to_vec())
    );
    assert!(toc.entries.is_complete() && chunks(&toc).of.len() == 1);
    assert_eq!(toc.entries.children(ROOT).len(), 6);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(json in any::<Vec<u8>>()) {
        prop_assert!(read_json(&json, None, END).is_err());
    }

    #[test]
    fn accepted_content_is_inside_the_blob_and_does_not_overlap(
        files in proptest::collection::vec((0_u64..60, 0_u64..60, 0_u64..8, 0_u64..6), 0..8)
    ) {
        let entries: Vec<String> = files.iter().enumerate().map(|(number, (offset, end, inner, size))| format!(
            r#"{{"type":"reg","name":"{number}","offset":{offset},"endOffset":{end},"innerOffset":{inner},"size":{size}}}"#
        )).collect();
        let json = format!(r#"{{"version":1,"entries":[{}]}}"#, entries.join(","));
        let Ok(toc) = read_json(json.as_bytes(), None, Compressed(50)) else { return Ok(()) };
        let mut claimed: Vec<_> = chunks(&toc).of.values().flatten().collect();
        claimed.sort_by_key(|chunk| (chunk.compressed.start, chunk.skip));
        for chunk in &claimed {
            prop_assert!(chunk.compressed.start < chunk.compressed.end && chunk.compressed.end.0 <= 50);
        }
        for two in claimed.windows(2) {
            let apart = two[0].compressed.end <= two[1].compressed.start;
            let shared = two[0].compressed.start == two[1].compressed.start && two[0].skip + two[0].size <= two[1].skip;
            prop_assert!(apart || shared);
        }
    }
}
