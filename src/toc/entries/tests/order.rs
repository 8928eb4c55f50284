//! The listing of a tree compared with that of its tar.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::tar::{
    Decoder, Event,
    whiteout::{self, Meaning},
};

/// A member to write with the `tar` crate.
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

/// Distinct names, because an entry and a marker of the same name would be equal.
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

/// The entries of the stream.
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

fn listed(tree: &EntryTree) -> Vec<Entry> {
    tree.in_tar_order().into_iter().map(|record| tree.entry(record)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_lists_the_entries_of_its_tar(members in vec(member(), 0..24), complete: bool) {
        let mut paths = BTreeSet::new();
        // A second opaque marker is not a second entry of a path.
        let members: Vec<Member> = members
            .into_iter()
            .filter(|member| paths.insert(member.path.clone()) || member.path.ends_with(".opq"))
            .collect();
        let entries = streamed(&write(&members));
        let mut tree = EntryTree::new();
        for entry in &entries {
            tree.insert(entry).unwrap();
        }
        if complete {
            tree.complete();
        }
        // A path may be a file in one entry and a directory in another.
        prop_assume!(tree.warnings().count() == 0);
        prop_assert_eq!(listed(&tree), entries);
        prop_assert_eq!(tree.entry_count(), tree.in_tar_order().len() as u64);
    }
}

#[test]
fn replaced_entries_and_all_below_them_are_not_listed() {
    let entries =
        [file("d/e/x"), opaque("d/e"), whiteout("d/w"), file("d"), file("y"), file("y"), opaque(""), dir("")];
    let tree = layer(entries);
    let listed: Vec<(Vec<u8>, EntryKind, u64)> = listed(&tree)
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
fn a_directory_with_a_late_entry_is_listed_where_the_entry_is() {
    let tree = layer([file("d/x"), file("y"), dir("d")]);
    let paths: Vec<Vec<u8>> = listed(&tree).into_iter().map(|entry| entry.path).collect();
    assert_eq!(paths, [&b"d/x"[..], b"y", b"d"]);
}

#[test]
fn an_opaque_marker_counts_as_a_record() {
    let max = 2 * limits::ENTRY_BYTES;
    let mut tree = EntryTree::limited(max);
    tree.insert(&opaque("")).unwrap();
    assert_eq!(tree.insert(&opaque("")).unwrap_err().kind, ErrorKind::TooLarge { max });
}
