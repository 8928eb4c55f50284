//! A table that was stored and loaded is the table that it was; what is broken is refused.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::super::{
    sample::{dir, entry, file, hard, incomplete, layer, opaque, soft, whiteout},
    *,
};
use crate::toc::format::{Error, columns::Section};

mod forged;

const NAMES: [&str; 6] = ["a", "b", "bin", "bin-2", "c", "\u{e9}"];

fn store(table: &EntryTree) -> Vec<u8> {
    let mut stored = Vec::new();
    table.store(&mut stored).unwrap();
    stored
}

fn load(stored: &[u8]) -> Result<EntryTree, Error> {
    let mut section = Section::new(stored, "test");
    let table = EntryTree::load(&mut section)?;
    section.end()?;
    Ok(table)
}

/// All that can be asked, and all that later entries depend on.
pub(crate) fn answers(table: &EntryTree) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {} {} {:?} {:?} {:?} {:?}",
        table.is_complete(),
        table.side_bytes,
        table.names.len(),
        table.owners.all(),
        table.warnings(),
        table.in_tar_order(),
        table.content_end(),
    )];
    for record in 0..table.records.len() as u32 {
        let (parent, name) = (table.parent(record), table.name(record));
        lines.push(format!(
            "{record}: {:?} {:?} {:?} {:?} {} {} {:?} {:?} {:?}",
            table.record(record),
            table.entry(record),
            table.hardlink(record),
            table.children(record),
            table.is_opaque(record),
            table.is_implied(record),
            table.child(parent, name),
            table.whiteout(parent, name),
            table.lookup(&table.path(record)),
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
            mode, uid, gid, xattrs, size,
            uname: uname.into(),
            mtime: Timestamp { seconds, nanoseconds },
            stored_size: stored_size.unwrap_or(size),
            // Places of their own come later.
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

fn table(entries: &[Entry]) -> EntryTree {
    let mut table = EntryTree::new();
    for entry in entries {
        table.insert(entry).unwrap();
    }
    table
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_loaded_table_answers_as_the_stored_one_did(entries in entries(), complete: bool) {
        let mut table = table(&entries);
        if complete {
            table.complete();
        }
        let stored = store(&table);
        let loaded = load(&stored).unwrap();
        prop_assert_eq!(answers(&loaded), answers(&table));
        prop_assert_eq!(store(&loaded), stored);
    }

    #[test]
    fn a_pass_goes_on_from_a_loaded_table_as_if_it_had_never_stopped(
        entries in entries(),
        stop in any::<prop::sample::Index>(),
    ) {
        let (before, after) = entries.split_at(stop.index(entries.len() + 1));
        let mut whole = table(before);
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
    fn a_table_that_lies_is_refused_or_does_no_harm(
        entries in entries(),
        complete: bool,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
    ) {
        let mut table = table(&entries);
        if complete {
            table.complete();
        }
        let mut stored = store(&table);
        for (place, byte) in damage {
            *place.get_mut(&mut stored) = byte;
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
    fn random_bytes_are_no_table_and_do_no_harm(stored in vec(any::<u8>(), 0..200)) {
        if let Ok(loaded) = load(&stored) {
            answers(&loaded);
        }
    }
}

#[test]
fn a_sorted_layer_needs_no_order() {
    let entries: Vec<Entry> = (0..2_000).map(|number| file(format!("d/{number:04}"))).collect();
    let sorted = store(&layer(entries.clone()));
    let backwards = store(&layer(entries.into_iter().rev()));
    let zeros = |stored: &[u8]| stored.iter().filter(|byte| **byte == 0).count();
    assert!(zeros(&sorted) > zeros(&backwards) + 1_900);
}

#[test]
fn tables_of_many_groups_come_back() {
    let entries = (0..40_000).map(|number| {
        let mtime = Timestamp { seconds: number % 500, nanoseconds: 0 };
        Entry { mtime, ..file(format!("{}/{}", number % 7, number)) }
    });
    let table = layer(entries);
    let loaded = load(&store(&table)).unwrap();
    assert_eq!(answers(&loaded), answers(&table));
}

/// A stored table with one byte after `text` replaced.
fn forged(table: &EntryTree, text: &[u8], by: &[u8]) -> Error {
    let mut stored = store(table);
    let at = stored.windows(text.len()).position(|window| window == text).unwrap();
    stored[at..at + by.len()].copy_from_slice(by);
    load(&stored).unwrap_err()
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let table = layer([file("d/xyz-0"), file("xx")]);
    for by in [&b"xy/"[..], b"/yz"] {
        let error = forged(&table, b"xyz", by).to_string();
        assert!(error.starts_with("a name that cannot be at byte"), "{error}");
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
fn names_out_of_order_and_names_that_occur_twice_are_refused() {
    // Side by side in the column of names, front-coded against nothing: the second has no byte of the first.
    let complete = layer([file("p"), file("q")]);
    assert!(forged(&complete, b"pq", b"qp").to_string().starts_with("names out of order"));
    assert!(forged(&complete, b"pq", b"pp").to_string().starts_with("names out of order"));
    let partial = incomplete([file("p"), file("q")]);
    assert!(forged(&partial, b"pq", b"pp").to_string().starts_with("a name that occurs twice"));
}

#[test]
fn opaque_markers_are_kept_with_what_they_say() {
    let marker =
        Entry { mode: 0o600, uid: 5, mtime: Timestamp { seconds: 9, nanoseconds: 1 }, ..opaque("d") };
    let table = layer([file("d/x"), marker.clone(), whiteout("d/y"), dir("d")]);
    let loaded = load(&store(&table)).unwrap();
    for table in [table, loaded] {
        let paths: Vec<(Vec<u8>, EntryKind)> =
            table.in_tar_order().into_iter().map(|record| (table.path(record), table.kind(record))).collect();
        let expected = [
            ("d/x", EntryKind::File),
            ("d", EntryKind::Opaque),
            ("d/y", EntryKind::Whiteout),
            ("d", EntryKind::Directory),
        ];
        assert_eq!(paths, expected.map(|(path, kind)| (path.as_bytes().to_vec(), kind)));
        let kept = table.entry(table.in_tar_order()[1]);
        assert_eq!((kept.mode, kept.uid, kept.mtime), (marker.mode, marker.uid, marker.mtime));
        assert_eq!(table.children(table.lookup(b"d").unwrap()).len(), 2, "a marker is no child");
    }
}
