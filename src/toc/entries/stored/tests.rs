//! A stored tree is loaded unchanged; a corrupt one is rejected.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::super::{
    sample::{dir, entry, file, hard, incomplete, layer, opaque, soft, whiteout},
    *,
};
use crate::{
    tar::entry::Xattrs,
    toc::format::{Error, columns::Section},
};

mod forged;

const NAMES: [&str; 6] = ["a", "b", "bin", "bin-2", "c", "\u{e9}"];

fn store(tree: &EntryTree) -> Vec<u8> {
    let mut stored = Vec::new();
    tree.store(&mut stored).unwrap();
    stored
}

fn load(stored: &[u8]) -> Result<EntryTree, Error> {
    let mut section = Section::new(stored, "test");
    let tree = EntryTree::load(&mut section)?;
    section.end()?;
    Ok(tree)
}

/// The answers to all queries, and everything that later entries depend on.
pub(crate) fn answers(tree: &EntryTree) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {} {} {:?} {:?} {:?} {:?}",
        tree.is_complete(),
        tree.extra_bytes,
        tree.names.len(),
        tree.owners.all(),
        tree.warnings(),
        tree.in_tar_order(),
        tree.content_end(),
    )];
    for record in 0..tree.records.len() as u32 {
        let (parent, name) = (tree.parent(record), tree.name(record));
        lines.push(format!(
            "{record}: {:?} {:?} {:?} {:?} {} {} {:?} {:?} {:?}",
            tree.record(record),
            tree.entry(record),
            tree.hardlink(record),
            tree.children(record),
            tree.is_opaque(record),
            tree.is_implied(record),
            tree.child(parent, name),
            tree.whiteout(parent, name),
            tree.lookup(&tree.path(record)),
        ));
    }
    lines
}

fn path() -> impl Strategy<Value = String> {
    vec(select(&NAMES[..]), 1..4).prop_map(|names| names.join("/"))
}

fn any_kind() -> impl Strategy<Value = Entry> {
    prop_oneof![
        3 => path().prop_map(dir),
        6 => path().prop_map(file),
        3 => (path(), path()).prop_map(|(path, target)| soft(path, target)),
        3 => (path(), path()).prop_map(|(path, target)| hard(path, target)),
        2 => path().prop_map(whiteout),
        2 => path().prop_map(opaque),
        1 => path().prop_map(|path| entry(path, EntryKind::Fifo, "")),
        1 => path().prop_map(|path| Entry { device: Some((1, u32::MAX)), ..entry(path, EntryKind::Char, "") }),
        1 => select(vec![dir(""), opaque(""), file("")]),
    ]
}

prop_compose! {
    fn any_entry()(
        entry in any_kind(),
        (mode, uid, gid) in (0_u32..0o10000, select(&[0, 0, 0, 7, u64::MAX][..]), select(&[0, 0, 9][..])),
        uname in select(&["", "", "root"][..]),
        seconds in select(&[0, 0, 1, -1, i64::MIN, i64::MAX, 1_700_000_000][..]),
        nanoseconds in select(&[0, 0, 999_999_999][..]),
        size in prop_oneof![3 => 0..10_000_u64, 1 => any::<u64>()],
        stored_size in option::weighted(0.1, any::<u64>()),
        (gap, headers) in (0..4_u64, select(&[512, 512, 1_536, 513, 1 << 40][..])),
        xattrs in prop::collection::btree_map(vec(any::<u8>(), 0..3), vec(any::<u8>(), 0..9), 0..2),
    ) -> Entry {
        let size = if entry.kind == EntryKind::File { size } else { 0 };
        Entry {
            mode, uid, gid, size,
            xattrs: xattrs.into_iter().collect(),
            uname: uname.into(),
            mtime: Timestamp { seconds, nanoseconds },
            stored_size: stored_size.unwrap_or(size),
            // `entries` sets the final offsets.
            header_offset: Uncompressed(gap * 512),
            data_offset: Uncompressed(headers),
            ..entry
        }
    }
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    vec(any_entry(), 0..24).prop_map(|mut entries| {
        let mut end = 0_u64;
        for entry in &mut entries {
            entry.header_offset.0 += end;
            entry.data_offset.0 += entry.header_offset.0;
            let stored = if entry.stored_size < 1 << 40 { entry.stored_size } else { 0 };
            end = (entry.data_offset.0 + stored).next_multiple_of(512);
        }
        entries
    })
}

fn tree(entries: &[Entry]) -> EntryTree {
    let mut tree = EntryTree::new();
    for entry in entries {
        tree.insert(entry).unwrap();
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_loaded_tree_gives_the_same_answers(entries in entries(), complete: bool) {
        let mut tree = tree(&entries);
        if complete {
            tree.complete();
        }
        let stored = store(&tree);
        let loaded = load(&stored).unwrap();
        prop_assert_eq!(answers(&loaded), answers(&tree));
        prop_assert_eq!(store(&loaded), stored);
    }

    #[test]
    fn inserting_into_a_loaded_tree_has_the_same_result(
        entries in entries(),
        stop in any::<prop::sample::Index>(),
    ) {
        let (before, after) = entries.split_at(stop.index(entries.len() + 1));
        let mut whole = tree(before);
        let mut loaded = load(&store(&whole)).unwrap();
        for entry in after {
            prop_assert_eq!(loaded.insert(entry), whole.insert(entry));
        }
        prop_assert_eq!(answers(&loaded), answers(&whole));
        loaded.complete();
        whole.complete();
        prop_assert_eq!(answers(&loaded), answers(&whole));
    }

    #[test]
    fn a_corrupt_tree_is_rejected_or_harmless(
        entries in entries(),
        complete: bool,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
    ) {
        let mut tree = tree(&entries);
        if complete {
            tree.complete();
        }
        let mut stored = store(&tree);
        for (at, byte) in damage {
            *at.get_mut(&mut stored) = byte;
        }
        stored.truncate(length.index(stored.len() * 4).max(1));
        if let Ok(mut loaded) = load(&stored) {
            let questions = answers(&loaded);
            loaded.complete();
            prop_assert!(!loaded.is_complete() || !questions.is_empty());
            let again = store(&loaded);
            prop_assert_eq!(answers(&load(&again).unwrap()), answers(&loaded));
        }
    }

    #[test]
    fn random_bytes_are_rejected_or_harmless(stored in vec(any::<u8>(), 0..200)) {
        if let Ok(loaded) = load(&stored) {
            answers(&loaded);
        }
    }
}

#[test]
fn the_order_of_a_sorted_layer_is_all_zeros() {
    let entries: Vec<Entry> = (0..2_000).map(|number| file(format!("d/{number:04}"))).collect();
    let sorted = store(&layer(entries.clone()));
    let backwards = store(&layer(entries.into_iter().rev()));
    let zeros = |stored: &[u8]| stored.iter().filter(|byte| **byte == 0).count();
    assert!(zeros(&sorted) > zeros(&backwards) + 1_900);
}

#[test]
fn trees_of_many_groups_round_trip() {
    let entries = (0..40_000).map(|number| {
        let mtime = Timestamp { seconds: number % 500, nanoseconds: 0 };
        Entry { mtime, ..file(format!("{}/{}", number % 7, number)) }
    });
    let tree = layer(entries);
    let loaded = load(&store(&tree)).unwrap();
    assert_eq!(answers(&loaded), answers(&tree));
}

/// The error of a stored tree in which `by` replaces the start of `text`.
fn forged(tree: &EntryTree, text: &[u8], by: &[u8]) -> Error {
    let mut stored = store(tree);
    let at = stored.windows(text.len()).position(|window| window == text).unwrap();
    stored[at..at + by.len()].copy_from_slice(by);
    load(&stored).unwrap_err()
}

#[test]
fn unsafe_names_are_rejected() {
    let tree = layer([file("d/xyz-0"), file("xx")]);
    for by in [&b"xy/"[..], b"/yz"] {
        let error = forged(&tree, b"xyz", by).to_string();
        assert!(error.starts_with("an invalid name at byte"), "{error}");
    }
    for (name, by) in [("..", true), (".", true), ("...", false)] {
        let text = "#".repeat(name.len());
        let mut stored = store(&layer([file(&text)]));
        let at = stored.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        stored[at..at + text.len()].copy_from_slice(name.as_bytes());
        assert_eq!(load(&stored).is_err(), by, "{name}");
    }
}

#[test]
fn unsorted_and_duplicate_names_are_rejected() {
    // The names are adjacent in their column and share no bytes.
    let complete = layer([file("p"), file("q")]);
    assert!(forged(&complete, b"pq", b"qp").to_string().starts_with("names out of order"));
    assert!(forged(&complete, b"pq", b"pp").to_string().starts_with("names out of order"));
    let partial = incomplete([file("p"), file("q")]);
    assert!(forged(&partial, b"pq", b"pp").to_string().starts_with("a duplicate name"));
}

#[test]
fn opaque_markers_keep_their_metadata() {
    let marker =
        Entry { mode: 0o600, uid: 5, mtime: Timestamp { seconds: 9, nanoseconds: 1 }, ..opaque("d") };
    let tree = layer([file("d/x"), marker.clone(), whiteout("d/y"), dir("d")]);
    let loaded = load(&store(&tree)).unwrap();
    for tree in [tree, loaded] {
        let paths: Vec<(Vec<u8>, EntryKind)> =
            tree.in_tar_order().into_iter().map(|record| (tree.path(record), tree.kind(record))).collect();
        let expected = [
            ("d/x", EntryKind::File),
            ("d", EntryKind::Opaque),
            ("d/y", EntryKind::Whiteout),
            ("d", EntryKind::Directory),
        ];
        assert_eq!(paths, expected.map(|(path, kind)| (path.as_bytes().to_vec(), kind)));
        let kept = tree.entry(tree.in_tar_order()[1]);
        assert_eq!((kept.mode, kept.uid, kept.mtime), (marker.mode, marker.uid, marker.mtime));
        assert_eq!(tree.children(tree.lookup(b"d").unwrap()).len(), 2, "a marker is not a child");
    }
}

fn with_attributes(count: usize, value: usize) -> EntryTree {
    let shared = Xattrs::from_iter([(b"user.a".to_vec(), vec![b'v'; value])]);
    layer((0..count).map(|number| Entry { xattrs: shared.clone(), ..file(format!("f{number}")) }))
}

#[test]
fn equal_attributes_are_shared_again_when_they_are_loaded() {
    let loaded = load(&store(&with_attributes(3, 60_000))).unwrap();
    let [one, other] = [b"f0", b"f2"].map(|path| loaded.entry(loaded.lookup(path).unwrap()).xattrs);
    assert!(one.is_shared_with(&other) && one.len() == 1);
}

#[test]
fn attributes_that_take_much_more_space_stored_than_in_memory_are_not_stored() {
    let tree = with_attributes(1_200, 60_000);
    let error = tree.store(&mut std::io::sink()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{error}");
}
