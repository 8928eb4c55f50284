//! Properties of all archives.

use proptest::prelude::*;

use super::{
    archive::{END, extended, file},
    decode, decode_in_pieces,
    sparse::FORMATS,
};
use crate::tar::{entry::EntryKind, normalise};

/// A member to write with the `tar` crate.
#[derive(Clone, Debug)]
struct Member {
    path: String,
    kind: EntryKind,
    content: Vec<u8>,
    link: String,
    mode: u32,
    owner: u64,
    mtime: u64,
    attributes: Vec<(String, Vec<u8>)>,
}

fn member() -> impl Strategy<Value = Member> {
    let kind = prop_oneof![
        4 => Just(EntryKind::File),
        1 => Just(EntryKind::Directory),
        1 => Just(EntryKind::Symlink),
        1 => Just(EntryKind::Hardlink),
        1 => Just(EntryKind::Fifo),
    ];
    let path = prop_oneof!["[a-zé ]{1,20}(/[a-z\n]{1,8}){0,3}", "[a-z]{60}(/[a-z]{40,99}){1,4}"];
    let attribute = ("[a-z.]{1,9}", prop::collection::vec(any::<u8>(), 0..60));
    (
        (path.clone(), kind, prop::collection::vec(any::<u8>(), 0..2000), path),
        (0_u32..0o10000, any::<u32>(), 0_u64..(1 << 33), prop::collection::vec(attribute, 0..3)),
    )
        .prop_map(|((path, kind, content, link), (mode, owner, mtime, mut attributes))| {
            attributes.sort();
            attributes.dedup_by(|one, other| one.0 == other.0);
            let content = if kind == EntryKind::File { content } else { Vec::new() };
            Member { path, kind, content, link, mode, owner: owner.into(), mtime, attributes }
        })
}

fn write(members: &[Member]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for member in members {
        let records: Vec<_> =
            (member.attributes.iter()).map(|(name, value)| (format!("SCHILY.xattr.{name}"), value)).collect();
        if !records.is_empty() {
            builder.append_pax_extensions(records.iter().map(|(key, value)| (&key[..], &value[..]))).unwrap();
        }
        let mut header = ::tar::Header::new_gnu();
        header.set_size(member.content.len() as u64);
        header.set_mode(member.mode);
        header.set_uid(member.owner);
        header.set_gid(member.owner);
        header.set_mtime(member.mtime);
        header.set_entry_type(match member.kind {
            EntryKind::Directory => ::tar::EntryType::Directory,
            EntryKind::Fifo => ::tar::EntryType::Fifo,
            EntryKind::Hardlink => ::tar::EntryType::Link,
            EntryKind::Symlink => ::tar::EntryType::Symlink,
            _ => ::tar::EntryType::Regular,
        });
        match member.kind {
            EntryKind::Hardlink | EntryKind::Symlink => {
                builder.append_link(&mut header, &member.path, &member.link).unwrap();
            }
            _ => builder.append_data(&mut header, &member.path, &member.content[..]).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}

/// Segments that may touch, their content, and the size of the file.
fn sparse_file() -> impl Strategy<Value = (Vec<(u64, u64)>, Vec<u8>, u64)> {
    (prop::collection::vec((0_u64..50, 0_u64..50), 1..60), 0_u64..50).prop_map(|(gaps, tail)| {
        let mut end = 0;
        let segments: Vec<_> = (gaps.into_iter())
            .map(|(gap, length)| {
                let offset = end + gap;
                end = offset + length;
                (offset, length)
            })
            .collect();
        let stored: u64 = segments.iter().map(|(_, length)| length).sum();
        let stored = (0..stored).map(|at| u8::try_from(at % 255 + 1).unwrap()).collect();
        (segments, stored, end + tail)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn archives_round_trip_however_the_input_is_split(
        members in prop::collection::vec(member(), 0..8),
        cuts in prop::collection::vec(0_usize..1500, 0..60),
    ) {
        let archive = write(&members);
        let unpacked = decode(&archive).unwrap();
        prop_assert_eq!(unpacked.len(), members.len());
        for (member, (entry, content)) in members.iter().zip(&unpacked) {
            prop_assert_eq!(&entry.path, &normalise(member.path.as_bytes()));
            prop_assert_eq!(entry.kind, member.kind);
            prop_assert_eq!(content, &member.content);
            prop_assert_eq!((entry.mode, entry.uid, entry.gid), (member.mode, member.owner, member.owner));
            prop_assert_eq!((entry.mtime.seconds, entry.mtime.nanoseconds), (member.mtime.cast_signed(), 0));
            match member.kind {
                EntryKind::Hardlink => prop_assert_eq!(&entry.link, &normalise(member.link.as_bytes())),
                EntryKind::Symlink => prop_assert_eq!(&entry.link[..], member.link.as_bytes()),
                _ => prop_assert!(entry.link.is_empty()),
            }
            let attributes: Vec<_> =
                entry.xattrs.iter().map(|(name, value)| (String::from_utf8(name.clone()).unwrap(), value.clone())).collect();
            prop_assert_eq!(&attributes, &member.attributes);
        }
        prop_assert_eq!(decode_in_pieces(&archive, &cuts).unwrap(), unpacked);
    }

    #[test]
    fn a_sparse_file_is_the_same_in_every_format_however_the_input_is_split(
        (segments, stored, size) in sparse_file(),
        cuts in prop::collection::vec(0_usize..700, 0..40),
    ) {
        let mut expected = vec![0; usize::try_from(size).unwrap()];
        let mut rest = &stored[..];
        for &(offset, length) in &segments {
            let (piece, behind) = rest.split_at(usize::try_from(length).unwrap());
            expected[usize::try_from(offset).unwrap()..][..piece.len()].copy_from_slice(piece);
            rest = behind;
        }
        for (name, writer) in FORMATS {
            let archive = [writer(size, &segments, &stored), file("next", b"x"), END.to_vec()].concat();
            let unpacked = decode(&archive).unwrap();
            prop_assert_eq!(&unpacked[0].1, &expected, "{}", name);
            prop_assert_eq!(&unpacked[1].1, b"x");
            prop_assert_eq!(decode_in_pieces(&archive, &cuts).unwrap(), unpacked);
        }
    }

    #[test]
    fn broken_archives_fail_alike_however_the_input_is_split(
        members in prop::collection::vec(member(), 1..4),
        (segments, stored, size) in sparse_file(),
        format in 0..FORMATS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(0_usize..700, 0..40),
    ) {
        let sparse = FORMATS[format].1(size, &segments, &stored);
        let global = extended(b'g', &[("uid", "77"), ("path", "")]);
        let mut archive = [sparse, global, write(&members)].concat();
        for (place, byte) in damage {
            *place.get_mut(&mut archive) = byte;
        }
        fix_checksums(&mut archive);
        archive.truncate(length.index(archive.len() * 2).max(1));
        prop_assert_eq!(decode_in_pieces(&archive, &cuts), decode(&archive));
    }
}

/// Fixes the checksum of every block that looks like a header, so that damage gets past it.
fn fix_checksums(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

proptest! {
    #[test]
    fn a_decoder_started_at_the_next_header_returns_the_same_entries(
        members in prop::collection::vec(member(), 0..6),
        part in 0.0..1.0_f64,
    ) {
        let archive = write(&members);
        let all = decode(&archive).unwrap();
        let cut = (archive.len() as f64 * part) as usize;
        let mut decoder = crate::tar::Decoder::new();
        let (mut head, mut before) = (&archive[..cut], Vec::new());
        while let Some(event) = decoder.decode(&mut head).unwrap() {
            if let crate::tar::Event::Entry(entry) = event {
                before.push(*entry);
            }
        }
        // None after the end of the archive.
        let next = decoder.next_header().unwrap_or(crate::offset::Uncompressed(archive.len() as u64));
        let mut rest = &archive[next.0 as usize..];
        let mut decoder = crate::tar::Decoder::at(next);
        while let Some(event) = decoder.decode(&mut rest).unwrap() {
            if let crate::tar::Event::Entry(entry) = event {
                before.push(*entry);
            }
        }
        let entries: Vec<_> = all.into_iter().map(|(entry, _)| entry).collect();
        prop_assert_eq!(before, entries);
    }
}
