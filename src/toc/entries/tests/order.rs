//! The listing of a table against that of the tar it was made from.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::tar::{
    Decoder, Event,
    whiteout::{self, Meaning},
};

/// A member as the `tar` crate is told to write it.
#[derive(Clone, Debug)]
struct Member {
    path: String,
    kind: ::tar::EntryType,
    link: String,
    content: Vec<u8>,
    mode: u32,
    owner: u64,
    mtime: u64,
    attribute: Option<Vec<u8>>,
}

const DIRECTORIES: [&str; 6] = ["", "d/", "d/e/", "d/e/f/", "usr/", "usr/share/"];

/// Names of their own: entries and markers of the same name would be twice the same.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zé]{2,9}",
        2 => "[a-z]{2,9}".prop_map(|name| format!(".wh.{name}")),
        1 => Just(".wh..wh..opq".to_owned()),
        1 => Just(".wh..wh.plnk/1.2".to_owned()),
        1 => Just(".wh..wh.aufs".to_owned()),
        1 => "[a-z]{60}/[a-z]{90}",
    ]
}

fn member() -> impl Strategy<Value = Member> {
    use ::tar::EntryType;
    let kind = prop_oneof![
        5 => Just(EntryType::Regular),
        2 => Just(EntryType::Directory),
        1 => Just(EntryType::Symlink),
        1 => Just(EntryType::Link),
        1 => Just(EntryType::Char),
        1 => Just(EntryType::Fifo),
    ];
    let path = prop_oneof![
        6 => (select(&DIRECTORIES[..]), name()).prop_map(|(directory, name)| format!("{directory}{name}")),
        1 => select(&["d", "d/e", "usr", "./"][..]).prop_map(str::to_owned),
    ];
    let times = (0_u32..0o10000, 0_u64..3, 0_u64..(1 << 33));
    let attribute = prop::option::weighted(0.2, vec(any::<u8>(), 0..9));
    (path, kind, "[a-z/]{1,120}", vec(any::<u8>(), 0..1500), times, attribute).prop_map(
        |(path, kind, link, content, (mode, owner, mtime), attribute)| {
            let is_directory = DIRECTORIES.contains(&&*format!("{path}/")) || path == "./";
            let kind = if is_directory { EntryType::Directory } else { kind };
            let content = if kind == EntryType::Regular { content } else { Vec::new() };
            Member { path, kind, link, content, mode, owner, mtime, attribute }
        },
    )
}

fn write(members: &[Member]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for member in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(member.content.len() as u64);
        header.set_mode(member.mode);
        header.set_uid(member.owner);
        header.set_gid(member.owner);
        header.set_mtime(member.mtime);
        header.set_entry_type(member.kind);
        if member.kind == ::tar::EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        if let Some(attribute) = &member.attribute {
            builder.append_pax_extensions([("SCHILY.xattr.user.a", &attribute[..])]).unwrap();
        }
        match member.kind {
            ::tar::EntryType::Link | ::tar::EntryType::Symlink => {
                builder.append_link(&mut header, &member.path, &member.link).unwrap();
            }
            _ => builder.append_data(&mut header, &member.path, &member.content[..]).unwrap(),
        }
    }
    builder.into_inner().unwrap()
}

/// What a stream of entries yields.
fn streamed(archive: &[u8]) -> Vec<Entry> {
    let (mut decoder, mut input, mut entries) = (Decoder::new(), archive, Vec::new());
    while let Some(event) = decoder.decode(&mut input).unwrap() {
        let Event::Entry(mut entry) = event else { continue };
        if whiteout::interpret(&mut entry) != Meaning::Metadata {
            entries.push(*entry);
        }
    }
    entries
}

fn listed(table: &EntryTree) -> Vec<Entry> {
    table.in_tar_order().into_iter().map(|record| table.entry(record)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_lists_what_the_tar_held(members in vec(member(), 0..24), complete: bool) {
        let mut paths = BTreeSet::new();
        // A second opaque marker is no second entry of any path.
        let members: Vec<Member> = members
            .into_iter()
            .filter(|member| paths.insert(member.path.clone()) || member.path.ends_with(".opq"))
            .collect();
        let entries = streamed(&write(&members));
        let mut table = EntryTree::new();
        for entry in &entries {
            table.insert(entry).unwrap();
        }
        if complete {
            table.complete();
        }
        // A path of many components may be a file to one and a directory to another.
        prop_assume!(table.warnings().count() == 0);
        prop_assert_eq!(listed(&table), entries);
        prop_assert_eq!(table.entry_count(), table.in_tar_order().len() as u64);
    }
}

#[test]
fn what_was_replaced_is_not_listed_with_all_below_it() {
    let entries =
        [file("d/e/x"), opaque("d/e"), whiteout("d/w"), file("d"), file("y"), file("y"), opaque(""), dir("")];
    let table = layer(entries);
    let listed: Vec<(Vec<u8>, EntryKind, u64)> = listed(&table)
        .into_iter()
        .map(|entry| (entry.path, entry.kind, entry.header_offset.0 / 1024))
        .collect();
    let expected = [
        ("d", EntryKind::File, 3),
        ("y", EntryKind::File, 5),
        ("", EntryKind::Opaque, 6),
        ("", EntryKind::Directory, 7),
    ];
    assert_eq!(listed, expected.map(|(path, kind, at)| (path.as_bytes().to_vec(), kind, at)));
}

#[test]
fn a_directory_that_is_described_late_is_listed_where_its_entry_lies() {
    let table = layer([file("d/x"), file("y"), dir("d")]);
    let paths: Vec<Vec<u8>> = listed(&table).into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, [&b"d/x"[..], b"y", b"d"]);
}

#[test]
fn an_opaque_marker_needs_a_place_in_the_table() {
    let mut table = EntryTree::limited(2, 1 << 20);
    table.insert(&opaque("")).unwrap();
    assert_eq!(table.insert(&opaque("")), Err(Error::TooMany(Uncompressed(0))));
}
