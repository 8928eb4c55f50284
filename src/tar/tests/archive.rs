//! Archives written by hand, block by block: cases that no ordinary writer produces.

use std::ops::Range;

use super::{Unpacked, decode, decode_in_pieces, only_entry};
use crate::{
    limits,
    tar::{
        Decoder, Error, Event,
        entry::{EntryKind, Timestamp},
        error::ErrorKind,
    },
};

/// Builds a header block. Starts as a ustar file `name` without content.
#[derive(Clone)]
pub(super) struct Header([u8; 512]);

impl Header {
    pub(super) fn new(type_flag: u8, name: &str) -> Self {
        let mut block = Self([0; 512]);
        block.field(0..100, name.as_bytes()).field(100..108, b"0000644").field(257..265, b"ustar\x0000");
        block.0[156] = type_flag;
        block
    }

    pub(super) fn gnu(type_flag: u8, name: &str) -> Self {
        let mut block = Self::new(type_flag, name);
        block.field(257..265, b"ustar  \0");
        block
    }

    pub(super) fn field(&mut self, range: Range<usize>, value: &[u8]) -> &mut Self {
        let field = &mut self.0[range];
        field.fill(0);
        field[..value.len()].copy_from_slice(value);
        self
    }

    pub(super) fn size(&mut self, size: u64) -> &mut Self {
        self.field(124..136, format!("{size:011o}").as_bytes())
    }

    pub(super) fn block(&self) -> Vec<u8> {
        let mut block = self.0;
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.to_vec()
    }

    /// The header followed by its content, padded.
    pub(super) fn with(&self, content: &[u8]) -> Vec<u8> {
        let mut member = self.clone().size(content.len() as u64).block();
        member.extend_from_slice(content);
        member.resize(member.len().next_multiple_of(512), 0);
        member
    }
}

pub(super) const END: [u8; 1024] = [0; 1024];

pub(super) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    Header::new(b'0', name).with(content)
}

pub(super) fn record(key: &str, value: &str) -> String {
    let text = format!(" {key}={value}\n");
    let length = (text.len()..).find(|length| text.len() + length.to_string().len() == *length).unwrap();
    format!("{length}{text}")
}

pub(super) fn extended(type_flag: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let content: String = records.iter().map(|(key, value)| record(key, value)).collect();
    Header::new(type_flag, "PaxHeaders/x").with(content.as_bytes())
}

fn fault(archive: &[u8]) -> (u64, ErrorKind) {
    let error = decode(archive).unwrap_err();
    let pieces = decode_in_pieces(archive, &vec![1; archive.len()]).unwrap_err();
    assert_eq!(error, pieces);
    (error.offset.0, error.kind)
}

fn paths(unpacked: &[Unpacked]) -> Vec<String> {
    unpacked.iter().map(|(entry, _)| String::from_utf8_lossy(&entry.path).into_owned()).collect()
}

#[test]
fn a_stream_without_entries_is_an_empty_archive() {
    for zeros in [0, 100, 512, 600, 1024, 10_240] {
        assert!(decode(&vec![0; zeros]).unwrap().is_empty(), "{zeros}");
    }
}

#[test]
fn the_end_marker_may_be_missing_or_followed_by_anything() {
    let archive = file("a", b"content");
    for end in [&b""[..], &[0; 512], &[0; 700], &END, &[0; 9_000], &[&END[..], b"junk".as_slice()].concat()] {
        assert_eq!(paths(&decode(&[&archive, end].concat()).unwrap()), ["a"]);
    }
    // The last padding may be missing too.
    assert_eq!(decode(&archive[..519]).unwrap()[0].1, b"content");
}

#[test]
fn a_lone_zero_block_must_be_the_last() {
    let archive = [file("a", b""), vec![0; 512], file("b", b"")].concat();
    assert_eq!(fault(&archive), (1024, ErrorKind::LoneZeroBlock));
    assert_eq!(fault(&archive[..1500]), (1500, ErrorKind::Truncated));
}

#[test]
fn a_truncated_header_or_content_is_an_error() {
    let extension = extended(b'x', &[("path", "long")]);
    let archive = [extension.clone(), file("a", &[7; 600])].concat();
    for length in [300, 512, 520, 1024, 1100, 1536, 2000, 2135] {
        assert_eq!(fault(&archive[..length]), (length as u64, ErrorKind::Truncated), "{length}");
    }
    assert!(decode(&archive[..2136]).is_ok());
    let volume = Header::new(b'V', "volume").with(&[1; 20]);
    assert_eq!(fault(&volume[..531]), (531, ErrorKind::Truncated));
    assert!(decode(&volume[..532]).is_ok());
}

#[test]
fn a_stream_that_is_not_tar_is_distinguished_from_a_broken_archive() {
    let json = br#"{"schemaVersion":2}"#.repeat(100);
    assert_eq!(fault(&json), (0, ErrorKind::NotTar));
    assert!(decode(&json).unwrap_err().is_not_tar());
    assert_eq!(fault(b"short").1, ErrorKind::NotTar);
    let mut archive = file("a", b"");
    archive[0] = b'b';
    assert_eq!(fault(&archive), (0, ErrorKind::Checksum));
    let error = decode(&[file("a", b"12"), json].concat()).unwrap_err();
    assert!(!error.is_not_tar());
    assert_eq!(error.to_string(), "header checksum does not match at byte 1024 of the unpacked layer");
}

#[test]
fn an_error_is_returned_again() {
    let archive = [file("a", b""), vec![1; 512], file("b", b"")].concat();
    let mut decoder = Decoder::new();
    let mut input = &archive[..];
    while let Ok(Some(_)) = decoder.decode(&mut input) {}
    let error = decoder.decode(&mut input).unwrap_err();
    assert_eq!(decoder.finish(), Err(error));
    assert_eq!(decoder.decode(&mut &b""[..]), Err(error));
}

#[test]
fn a_checksum_of_signed_bytes_is_valid() {
    let mut block = Header::new(b'0', "\u{fc}ber").block();
    let signed: i32 = block.iter().map(|&byte| i32::from(byte.cast_signed())).sum::<i32>() - 8 * 32 + {
        let field: i32 = block[148..156].iter().map(|&byte| i32::from(byte)).sum();
        8 * 32 * 2 - field
    };
    block[148..156].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
    assert_eq!(only_entry(&block).0.path, "\u{fc}ber".as_bytes());
}

#[test]
fn a_trailing_slash_makes_a_directory_only_in_v7() {
    for (type_flag, kind) in
        [(0, EntryKind::Directory), (b'0', EntryKind::File), (b'5', EntryKind::Directory)]
    {
        let (entry, _) = only_entry(&Header::new(type_flag, "d/").block());
        assert_eq!((&entry.path[..], entry.kind), (&b"d"[..], kind));
    }
}

#[test]
fn the_prefix_is_used_in_formats_that_have_one() {
    let prefixed = |header: &Header| String::from_utf8(only_entry(&header.block()).0.path).unwrap();
    let mut ustar = Header::new(b'0', "name");
    ustar.field(345..500, &[b'p'; 155]);
    assert_eq!(prefixed(&ustar), format!("{}/name", "p".repeat(155)));

    let mut star = ustar.clone();
    star.field(508..512, b"tar\0");
    assert_eq!(prefixed(&star), format!("{}/name", "p".repeat(131)));

    let mut times = Header::gnu(b'0', "name");
    times.field(345..357, b"13674123456").field(357..369, b"13674123456");
    assert_eq!(prefixed(&times), "name");

    let mut old_go = Header::gnu(b'0', "name");
    old_go.field(345..500, b"some/directory");
    assert_eq!(prefixed(&old_go), "some/directory/name");

    let mut junk_behind_nul = times.clone();
    junk_behind_nul.field(357..369, b"\0junk");
    assert_eq!(prefixed(&junk_behind_nul), "name");
    let mut binary = Header::gnu(b'0', "name");
    binary.field(345..500, b"junk\xff");
    assert_eq!(prefixed(&binary), "name");

    let mut v7 = ustar.clone();
    v7.field(257..265, b"");
    assert_eq!(prefixed(&v7), "name");
}

#[test]
fn v7_has_no_owner_names_and_no_device_numbers() {
    let mut header = Header::new(b'3', "device");
    header.field(257..265, b"").field(265..297, b"user").field(329..337, b"0000001");
    let (entry, _) = only_entry(&header.block());
    assert_eq!((entry.uname, entry.device), (Vec::new(), Some((0, 0))));
}

#[test]
fn only_devices_have_device_numbers() {
    for (type_flag, device) in [(b'3', Some((8, 17))), (b'4', Some((8, 17))), (b'0', None), (b'6', None)] {
        let mut header = Header::new(type_flag, "x");
        header.field(329..337, b"0000010").field(337..345, b"0000021");
        assert_eq!(only_entry(&header.block()).0.device, device);
    }
    let mut header = Header::gnu(b'3', "x");
    header.field(337..345, b"\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_eq!(fault(&header.block()), (337, ErrorKind::Number { field: "device number" }));
}

#[test]
fn contiguous_files_are_files_and_unknown_types_are_skipped() {
    let archive =
        [Header::new(b'7', "a").with(b"content"), Header::new(b'D', "dump").with(&[1; 700])].concat();
    let archive = [&archive, &Header::new(b'V', "volume").block(), &file("b", b"x"), &END[..]].concat();
    let unpacked = decode(&archive).unwrap();
    assert_eq!(paths(&unpacked), ["a", "dump", "volume", "b"]);
    let kinds: Vec<_> = unpacked.iter().map(|(entry, _)| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::File, EntryKind::Other, EntryKind::Other, EntryKind::File]);
    assert_eq!((unpacked[1].0.size, unpacked[1].0.stored_size), (0, 700));
    assert_eq!(
        (&unpacked[0].1[..], &unpacked[1].1[..], &unpacked[3].1[..]),
        (&b"content"[..], &[][..], &b"x"[..])
    );
}

#[test]
fn header_only_types_have_no_data_whatever_their_size() {
    for type_flag in b'1'..=b'6' {
        let archive = [Header::new(type_flag, "a").size(5000).block(), file("b", b"x")].concat();
        assert_eq!(paths(&decode(&archive).unwrap()), ["a", "b"]);
        let archive = [extended(b'x', &[("size", "5000")]), archive].concat();
        let unpacked = decode(&archive).unwrap();
        assert_eq!(paths(&unpacked), ["a", "b"]);
        assert_eq!((unpacked[0].0.size, unpacked[0].0.stored_size), (0, 0));
    }
}

#[test]
fn numbers_too_large_for_octal_are_read() {
    let mut header = Header::gnu(b'5', "a");
    header
        .field(100..108, b"7777777")
        .field(108..116, b"\xff\xff\xff\xff\xff\xff\xff\xfe")
        .field(116..124, b"\x80\0\0\0\xff\xff\xff\xff")
        .field(136..148, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    let (entry, _) = only_entry(&header.block());
    assert_eq!((entry.mode, entry.uid, entry.gid), (0o7777, 0xffff_fffe, 0xffff_ffff));
    assert_eq!(entry.mtime, Timestamp { seconds: -1, nanoseconds: 0 });

    let mut header = Header::gnu(b'0', "a");
    header.field(124..136, b"\x80\0\0\0\0\0\0\x10\0\0\0\x01");
    let mut decoder = Decoder::new();
    let Ok(Some(Event::Entry(entry))) = decoder.decode(&mut &header.block()[..]) else { panic!("no entry") };
    assert_eq!(entry.size, (16 << 30 << 2) + 1);
    header.field(124..136, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    assert_eq!(fault(&header.block()), (124, ErrorKind::NegativeSize));
    header.field(124..136, b"12x");
    assert_eq!(fault(&header.block()), (124, ErrorKind::Number { field: "size" }));
}

#[test]
fn blank_numbers_are_zero() {
    let mut header = Header::new(b'0', "a");
    header.field(100..148, &[b' '; 48]);
    let (entry, _) = only_entry(&header.block());
    assert_eq!((entry.mode, entry.uid, entry.size, entry.mtime), (0, 0, 0, Timestamp::default()));
}

#[test]
fn the_last_gnu_long_name_wins_and_ends_at_its_nul() {
    let long = |type_flag, text: &[u8]| Header::gnu(type_flag, "././@LongLink").with(text);
    let archive = [
        long(b'L', b"first\0"),
        long(b'K', b"first target\0"),
        long(b'L', b"long/name\0behind\0"),
        long(b'K', b"long target"),
        extended(b'x', &[("path", "record"), ("linkpath", "record target")]),
        Header::gnu(b'2', "short").block(),
    ]
    .concat();
    let (entry, _) = only_entry(&archive);
    assert_eq!((&entry.path[..], &entry.link[..]), (&b"long/name"[..], &b"long target"[..]));
    assert_eq!(entry.header_offset.0, 0);
    assert_eq!(entry.data_offset.0, archive.len() as u64);

    let mut symbolic = Header::gnu(b'2', "header");
    symbolic.field(157..257, b"header target");
    let (entry, _) = only_entry(&[long(b'L', b"\0"), long(b'K', b""), symbolic.block()].concat());
    assert_eq!((&entry.path[..], &entry.link[..]), (&b"header"[..], &b"header target"[..]));
}

#[test]
fn records_override_the_header_unless_they_are_empty() {
    let mut header = Header::new(b'1', "header");
    header.field(157..257, b"header target").field(108..116, b"0000007").field(136..148, b"00000000011");
    let records = [
        ("path", "./dir//record/"),
        ("linkpath", "/some/../target"),
        ("uid", "4294967296"),
        ("gid", "-2"),
        ("uname", "user"),
        ("gname", "group"),
        ("mtime", "-1.25"),
        ("SCHILY.xattr.security.capability", "\u{1}\n\0"),
    ];
    let (entry, _) = only_entry(&[extended(b'x', &records), header.block()].concat());
    assert_eq!((&entry.path[..], &entry.link[..]), (&b"dir/record"[..], &b"target"[..]));
    assert_eq!((entry.uid, entry.gid), (1 << 32, 0xffff_fffe));
    assert_eq!((&entry.uname[..], &entry.gname[..]), (&b"user"[..], &b"group"[..]));
    assert_eq!(entry.mtime, Timestamp { seconds: -2, nanoseconds: 750_000_000 });
    assert_eq!(entry.xattrs[&b"security.capability"[..]], b"\x01\n\0");

    let records = [("path", "x"), ("path", ""), ("linkpath", ""), ("uid", ""), ("mtime", "")];
    let (entry, _) = only_entry(&[extended(b'x', &records), header.block()].concat());
    assert_eq!((&entry.path[..], &entry.link[..]), (&b"header"[..], &b"header target"[..]));
    assert_eq!((entry.uid, entry.mtime.seconds), (7, 9));
}

#[test]
fn a_second_extended_header_replaces_the_first() {
    let archive = [
        extended(b'x', &[("path", "first"), ("uid", "1")]),
        extended(b'x', &[("gid", "2")]),
        file("header", b""),
        file("next", b""),
    ]
    .concat();
    let unpacked = decode(&archive).unwrap();
    assert_eq!(paths(&unpacked), ["header", "next"]);
    assert_eq!((unpacked[0].0.uid, unpacked[0].0.gid, unpacked[1].0.gid), (0, 2, 0));
}

#[test]
fn global_records_apply_until_they_are_cancelled() {
    let archive = [
        extended(b'g', &[("uid", "1"), ("gid", "1"), ("comment", "0123abcd"), ("SCHILY.xattr.user.a", "v")]),
        file("a", b""),
        extended(b'x', &[("uid", ""), ("gid", "5")]),
        file("b", b""),
        extended(b'g', &[("uid", ""), ("uname", "user")]),
        file("c", b""),
    ]
    .concat();
    let unpacked = decode(&archive).unwrap();
    let owners: Vec<_> = unpacked.iter().map(|(entry, _)| (entry.uid, entry.gid)).collect();
    assert_eq!(owners, [(1, 1), (0, 5), (0, 1)]);
    assert_eq!(unpacked[2].0.uname, b"user");
    assert!(unpacked.iter().all(|(entry, _)| entry.xattrs.len() == 1));
    assert_eq!(unpacked[0].0.header_offset.0, 1024);
}

#[test]
fn attributes_of_a_global_header_are_shared_by_all_entries() {
    let value = "v".repeat(60_000);
    let own = extended(b'x', &[("SCHILY.xattr.user.b", "own")]);
    let archive = [
        extended(b'g', &[("SCHILY.xattr.user.a", &value)]),
        file("a", b""),
        file("b", b""),
        own,
        file("c", b""),
    ];
    let unpacked = decode(&archive.concat()).unwrap();
    let [a, b, c] = [0, 1, 2].map(|index| &unpacked[index].0.xattrs);
    assert!(a.is_shared_with(b) && a.len() == 1);
    assert_eq!((c.len(), &c[&b"user.a"[..]]), (2, &a[&b"user.a"[..]]));
}

#[test]
fn merged_attributes_are_held_to_the_limit_too() {
    let list = |prefix: &str| -> Vec<(String, &str)> {
        (0..1_500).map(|number| (format!("SCHILY.xattr.{prefix}{number:025}"), "")).collect()
    };
    let header = |type_flag, list: &[(String, &'static str)]| {
        let records: Vec<_> = list.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        extended(type_flag, &records)
    };
    let global = header(b'g', &list("a"));
    let archive = [global, file("a", b""), header(b'x', &list("b")), file("b", b"")].concat();
    assert_eq!(fault(&archive).1, ErrorKind::XattrListTooLong);
}

#[test]
fn global_records_may_have_any_key_and_yield_to_records_of_the_entry() {
    let records = [
        ("path", "global"),
        ("linkpath", "global target"),
        ("uid", "1"),
        ("gid", "2"),
        ("uname", "user"),
        ("gname", "group"),
        ("mtime", "3.5"),
        ("size", "0"),
        ("SCHILY.xattr.a", "global"),
    ];
    let global = extended(b'g', &records);
    let (entry, _) = only_entry(&[&global[..], &Header::new(b'2', "x").block()].concat());
    assert_eq!((&entry.path[..], &entry.link[..]), (&b"global"[..], &b"global target"[..]));
    assert_eq!((entry.uid, entry.gid), (1, 2));
    assert_eq!((&entry.uname[..], &entry.gname[..]), (&b"user"[..], &b"group"[..]));
    assert_eq!(entry.mtime, Timestamp { seconds: 3, nanoseconds: 500_000_000 });
    assert_eq!(entry.xattrs[&b"a"[..]], b"global");
    assert_eq!(only_entry(&[&global[..], &Header::new(b'0', "x").size(9).block()].concat()).0.size, 0);

    let local = extended(b'x', &[("path", "local"), ("SCHILY.xattr.a", "local")]);
    let (entry, _) = only_entry(&[global, local, Header::new(b'2', "x").block()].concat());
    assert_eq!((&entry.path[..], &entry.link[..]), (&b"local"[..], &b"global target"[..]));
    assert_eq!(entry.xattrs[&b"a"[..]], b"local");
}

#[test]
fn a_global_header_consumes_the_extended_headers_before_it() {
    let archive = [extended(b'x', &[("path", "lost")]), extended(b'g', &[]), file("a", b"")].concat();
    let (entry, _) = only_entry(&archive);
    assert_eq!((&entry.path[..], entry.header_offset.0), (&b"a"[..], 1536));
}

#[test]
fn global_records_are_capped_in_total() {
    let value = "v".repeat(25_000);
    let global = |name| extended(b'g', &[(name, &value)]);
    let archive = [global("SCHILY.xattr.a"), global("SCHILY.xattr.b"), global("SCHILY.xattr.b")].concat();
    assert!(decode(&[&archive[..], &file("a", b"")].concat()).is_ok());
    let at = archive.len() as u64 + 512;
    assert_eq!(
        decode(&[archive, global("SCHILY.xattr.c")].concat()),
        Err(error(at, ErrorKind::GlobalTooLong))
    );
    let most = usize::try_from(limits::PAX_GLOBAL_BYTES).unwrap();
    let target = |bytes| extended(b'g', &[("linkpath", &"t".repeat(bytes))]);
    assert!(decode(&[target(most), file("a", b"")].concat()).is_ok());
    assert_eq!(decode(&target(most + 1)), Err(error(512, ErrorKind::GlobalTooLong)));
}

fn error(offset: u64, kind: ErrorKind) -> Error {
    Error { offset: crate::offset::Uncompressed(offset), kind }
}

#[test]
fn a_malformed_record_or_value_is_reported_with_its_offset() {
    let archive = [file("a", b"1"), Header::new(b'x', "x").with(b"9 uid=12\n9 uid=12 ")].concat();
    assert_eq!(fault(&archive), (1545, ErrorKind::PaxRecord));
    assert_eq!(fault(&extended(b'x', &[("path", "a\0b")])), (512, ErrorKind::PaxRecord));
    for key in ["uid", "gid", "mtime", "size"] {
        let archive = [extended(b'x', &[(key, "12x")]), file("a", b"")].concat();
        assert_eq!(fault(&archive), (1024, ErrorKind::PaxValue { key }));
    }
    let archive = [extended(b'x', &[("size", "-1")]), file("a", b"")].concat();
    assert_eq!(fault(&archive), (1024, ErrorKind::PaxValue { key: "size" }));
}

#[test]
fn a_size_record_overrides_the_header() {
    let archive = [extended(b'x', &[("size", "3")]), Header::new(b'0', "a").size(600).block()].concat();
    let archive = [&archive[..], b"abc", &[0; 509], &file("b", b"")].concat();
    let unpacked = decode(&archive).unwrap();
    assert_eq!(paths(&unpacked), ["a", "b"]);
    assert_eq!((unpacked[0].0.size, &unpacked[0].1[..]), (3, &b"abc"[..]));
}

#[test]
fn an_oversized_header_is_rejected_before_it_is_read() {
    for type_flag in *b"xgLK" {
        let header = Header::new(type_flag, "x").size(limits::PAX_BYTES + 1).block();
        assert_eq!(fault(&header), (0, ErrorKind::ExtensionTooLong));
    }
    let mut longest = b"name".to_vec();
    longest.resize(usize::try_from(limits::PAX_BYTES).unwrap(), 0);
    let archive = [Header::gnu(b'L', "././@LongLink").with(&longest), file("a", b"")].concat();
    assert_eq!(only_entry(&archive).0.path, b"name");
    let path = "p".repeat(usize::try_from(limits::PATH_BYTES).unwrap());
    let archive = [extended(b'x', &[("path", &path)]), file("a", b"")].concat();
    assert_eq!(only_entry(&archive).0.path, path.as_bytes());
    let archive = [extended(b'x', &[("path", &format!("{path}p"))]), file("a", b"")].concat();
    assert_eq!(fault(&archive).1, ErrorKind::PathTooLong);
    let link =
        [extended(b'x', &[("linkpath", &format!("{path}p"))]), Header::new(b'2', "a").block()].concat();
    assert_eq!(fault(&link).1, ErrorKind::PathTooLong);
}

#[test]
fn paths_and_hard_links_are_normalised_but_symbolic_links_are_not() {
    let mut hard = Header::new(b'1', "/a/./b");
    hard.field(157..257, b"./../x//y");
    let mut symbolic = Header::new(b'2', "../c/");
    symbolic.field(157..257, b"./../x//y");
    let unpacked =
        decode(&[hard.block(), symbolic.block(), Header::new(b'5', "./").block()].concat()).unwrap();
    assert_eq!(paths(&unpacked), ["a/b", "c", ""]);
    assert_eq!((&unpacked[0].0.link[..], &unpacked[1].0.link[..]), (&b"x/y"[..], &b"./../x//y"[..]));
}

#[test]
fn content_can_be_skipped() {
    let archive = [
        file("a", &[1; 700]),
        file("b", b""),
        Header::new(b'V', "c").with(&[3; 20]),
        file("d", b"last"),
        END.to_vec(),
    ]
    .concat();
    let mut decoder = Decoder::new();
    let mut input = &archive[..];
    let mut paths = Vec::new();
    loop {
        match decoder.decode(&mut input).unwrap() {
            Some(Event::Entry(entry)) => {
                paths.push(entry.path[0]);
                let skipped = decoder.skip_content();
                assert_eq!(skipped, entry.stored_size.next_multiple_of(512));
                input = &input[usize::try_from(skipped).unwrap()..];
                assert_eq!(decoder.decode(&mut input), Ok(Some(Event::EntryEnd)));
                assert_eq!(decoder.skip_content(), 0);
            }
            Some(event) => assert_eq!(event, Event::End),
            None => break,
        }
    }
    assert_eq!(paths, b"abcd");
    assert_eq!(decoder.skip_content(), 0);
    assert_eq!(decoder.offset().0, archive.len() as u64);
    decoder.finish().unwrap();
}

#[test]
fn a_stream_may_end_after_skipped_content() {
    for archive in
        [file("a", &[1; 700]), Header::new(b'V', "a").with(&[1; 700]), Header::new(b'V', "a").block()]
    {
        let mut decoder = Decoder::new();
        assert!(matches!(decoder.decode(&mut &archive[..512]), Ok(Some(Event::Entry(_)))));
        assert_eq!(decoder.skip_content(), archive.len() as u64 - 512);
        assert_eq!(decoder.offset().0, archive.len() as u64);
        decoder.finish().unwrap();
    }
}

#[test]
fn a_stream_may_end_with_a_header_whose_entry_has_no_content() {
    let mut decoder = Decoder::new();
    assert!(matches!(decoder.decode(&mut &file("a", b"")[..]), Ok(Some(Event::Entry(_)))));
    decoder.finish().unwrap();
}
