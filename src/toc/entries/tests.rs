use super::{
    sample::{dir, entry, file, hard, incomplete, layer, opaque, soft, whiteout},
    warnings::WarningKind,
    *,
};

mod order;

/// Paths of the layer in listing order, with a mark of what is special about each.
fn listing(table: &EntryTree) -> Vec<String> {
    fn list(table: &EntryTree, directory: u32, lines: &mut Vec<String>) {
        for record in table.children(directory) {
            let path = String::from_utf8_lossy(&table.path(*record)).into_owned();
            let opaque = if table.is_opaque(*record) { "!" } else { "" };
            let mark = match table.kind(*record) {
                EntryKind::Directory if table.is_implied(*record) => "/?",
                EntryKind::Directory => "/",
                EntryKind::Hardlink => "=",
                EntryKind::Symlink => "@",
                EntryKind::Whiteout => "-",
                _ => "",
            };
            lines.push(format!("{path}{mark}{opaque}"));
            if table.kind(*record) == EntryKind::Directory {
                list(table, *record, lines);
            }
        }
    }
    let mut lines = Vec::new();
    list(table, ROOT, &mut lines);
    lines
}

fn offset_at(table: &EntryTree, path: &str) -> u64 {
    table.header_offset(table.lookup(path.as_bytes()).unwrap()).0
}

#[test]
fn an_entry_comes_out_as_it_went_in() {
    let plain = Entry {
        size: 5,
        stored_size: 5,
        mode: 0o4755,
        uid: 7,
        gid: 8,
        uname: b"user".to_vec(),
        gname: b"group".to_vec(),
        mtime: Timestamp { seconds: -1, nanoseconds: 999_999_999 },
        header_offset: Uncompressed(1536),
        data_offset: Uncompressed(1 << 20),
        ..file("usr/bin/env")
    };
    let rare = Entry {
        size: u64::MAX,
        stored_size: 3,
        uid: u64::MAX,
        gid: u64::from(u32::MAX) + 1,
        mtime: Timestamp { seconds: i64::MIN, nanoseconds: 0 },
        header_offset: Uncompressed(1 << 40),
        data_offset: Uncompressed((1 << 40) + (1 << 33)),
        xattrs: [(b"user.x".to_vec(), vec![0, 255])].into(),
        ..file("sparse")
    };
    let device = Entry { device: Some((1, 3)), ..entry("dev/null", EntryKind::Char, "") };
    let link = soft("bin", "usr/bin");
    let name = file([b'n', 0xff, b'\n', 0x1b, b' ']);
    let removed = whiteout("usr/gone");
    let entries = [plain, rare, device, link, name, removed];
    let mut table = EntryTree::new();
    let records: Vec<u32> = entries.iter().map(|entry| table.insert(entry).unwrap().record).collect();
    for complete in [false, true] {
        if complete {
            table.complete();
        }
        for (record, entry) in records.iter().zip(&entries) {
            assert_eq!(&table.entry(*record), entry);
            assert_eq!(table.stored_size(*record), entry.stored_size);
        }
    }
}

#[test]
fn children_are_sorted_by_bytes_and_parents_are_implied() {
    let table = layer([file("b/z"), file("b/a"), dir("b.d"), file("a"), file([0xff])]);
    assert_eq!(listing(&table), ["a", "b/?", "b/a", "b/z", "b.d/", "\u{fffd}"]);
}

#[test]
fn a_later_entry_describes_an_implied_directory() {
    let table = layer([file("d/x"), Entry { mode: 0o700, ..dir("d") }]);
    assert_eq!(listing(&table), ["d/", "d/x"]);
    assert_eq!(table.mode(table.lookup(b"d").unwrap()), 0o700);
    assert_eq!(table.warnings().count(), 0);
}

#[test]
fn the_last_of_two_entries_counts() {
    let table = layer([file("x"), file("x"), soft("x", "y"), file("x")]);
    assert_eq!(listing(&table), ["x"]);
    assert_eq!(offset_at(&table, "x"), 3 * 1024);
    assert_eq!(table.warnings().count(), 3);
    assert_eq!(table.warnings().first()[0].kind, WarningKind::Duplicate);
}

#[test]
fn a_second_directory_entry_keeps_what_is_below() {
    let table = layer([dir("d"), file("d/x"), Entry { mode: 0o711, ..dir("d") }]);
    assert_eq!(listing(&table), ["d/", "d/x"]);
    assert_eq!(table.mode(table.lookup(b"d").unwrap()), 0o711);
}

#[test]
fn a_file_in_the_place_of_a_directory_drops_what_is_below() {
    let table = layer([file("d/e/x"), whiteout("d/w"), file("d"), file("d/y")]);
    assert_eq!(listing(&table), ["d/?", "d/y"]);
    assert_eq!(table.warnings().first()[0].to_string(), r#""d" occurs twice, the last entry counts"#);
    assert_eq!(table.warnings().first()[1].kind, WarningKind::ReplacedByDirectory);
}

#[test]
fn entries_side_by_side_go_where_their_directory_is_by_then() {
    let replaced = layer([file("d/x"), file("d"), file("d/y")]);
    assert_eq!(listing(&replaced), ["d/?", "d/y"]);
    let through_a_link = layer([soft("l", "a"), file("a/d/x"), file("l/d"), file("a/d/y")]);
    assert_eq!(listing(&through_a_link), ["a/?", "a/d/?", "a/d/y", "l@"]);
}

#[test]
fn a_whiteout_and_an_entry_of_the_same_name_stand_side_by_side() {
    for entries in [[whiteout("d/x"), file("d/x")], [file("d/x"), whiteout("d/x")]] {
        let table = layer(entries);
        assert_eq!(listing(&table), ["d/?", "d/x", "d/x-"]);
        let d = table.lookup(b"d").unwrap();
        assert!(table.whiteout(d, b"x") && table.child(d, b"x").is_some());
        assert_eq!(table.warnings().count(), 0);
    }
}

#[test]
fn an_opaque_marker_outlives_the_entry_of_its_directory() {
    for entries in [[opaque("d"), dir("d"), file("d/x")], [dir("d"), file("d/x"), opaque("d")]] {
        assert_eq!(listing(&layer(entries)), ["d/!", "d/x"]);
    }
    assert_eq!(listing(&layer([opaque("d"), file("d"), dir("d")])), ["d/"]);
    assert!(layer([opaque("")]).is_opaque(ROOT));
}

#[test]
fn the_root_takes_a_directory_entry_only() {
    let table = layer([Entry { mode: 0o700, ..dir("") }]);
    assert!(!table.is_implied(ROOT));
    assert_eq!((table.mode(ROOT), table.path(ROOT)), (0o700, Vec::new()));
    for odd in [file(""), soft("", "x"), whiteout("")] {
        let table = layer([odd, file("x")]);
        assert_eq!(listing(&table), ["x"]);
        assert!(table.is_implied(ROOT));
        assert_eq!(table.warnings().first()[0].kind, WarningKind::RootIgnored);
    }
}

#[test]
fn a_link_in_the_way_is_followed_within_its_layer() {
    let table = layer([soft("bin", "usr/bin"), file("bin/b"), whiteout("bin/w"), opaque("bin")]);
    assert_eq!(listing(&table), ["bin@", "usr/?", "usr/bin/?!", "usr/bin/b", "usr/bin/w-"]);
    assert_eq!(table.warnings().first()[0].kind, WarningKind::FollowedLink);
    let inserted = incomplete([soft("bin", "/usr")]).insert(&file("bin/b")).unwrap();
    assert!(inserted.moved);
}

#[test]
fn followed_links_stay_below_the_root() {
    let table =
        layer([soft("a/up", "../../../../x"), file("a/up/b"), soft("abs", "/y/../z/."), file("abs/c")]);
    assert_eq!(listing(&table), ["a/?", "a/up@", "abs@", "x/?", "x/b", "z/?", "z/c"]);
}

#[test]
fn links_that_lead_nowhere_are_replaced_by_directories() {
    let table = layer([soft("a", "b"), soft("b", "a"), file("a/x")]);
    assert_eq!(listing(&table), ["a/?", "a/x", "b@"]);
    let table = layer([soft("self", "self/self"), file("self/x")]);
    assert_eq!(listing(&table), ["self/?", "self/x"]);
    let table = layer([soft("d/up", ".."), soft("l", "d/up/l"), file("d/up/d/l"), file("d/up/l/x")]);
    assert_eq!(listing(&table), ["d/?", "d/l", "d/up@", "l/?", "l/x"]);
    let table = layer([soft("f", "g"), file("g"), file("f/x")]);
    assert_eq!(listing(&table), ["f@", "g/?", "g/x"]);
}

#[test]
fn a_hard_link_keeps_its_target_when_the_name_is_taken_by_another() {
    let table = layer([file("a"), hard("b", "a"), file("a"), hard("c", "b")]);
    let [b, c] = [b"b", b"c"].map(|name| table.lookup(name).unwrap());
    let Some(Hardlink::Record(target)) = table.hardlink(b) else { panic!("no target") };
    assert_eq!(table.header_offset(target).0, 0);
    assert_eq!(table.hardlink(c), Some(Hardlink::Record(target)), "chains collapse");
    assert_eq!(table.link(c), b"b", "the text stays");
}

#[test]
fn a_hard_link_to_what_is_not_there_stays_open() {
    let table = layer([dir("d"), hard("x", "later"), file("later"), hard("y", "d"), hard("z", "x")]);
    let record = |path: &[u8]| table.lookup(path).unwrap();
    assert_eq!(table.hardlink(record(b"x")), Some(Hardlink::Unresolved(b"later")));
    assert_eq!(table.hardlink(record(b"y")), Some(Hardlink::Unresolved(b"d")), "no links to directories");
    assert_eq!(table.hardlink(record(b"z")), Some(Hardlink::Record(record(b"x"))));
    assert_eq!(table.hardlink(record(b"later")), None);
}

#[test]
fn a_hard_link_finds_its_target_through_links_but_does_not_follow_the_last() {
    let table = layer([soft("bin", "usr/bin"), soft("bin/sh", "dash"), hard("s", "bin/sh")]);
    let target = table.lookup(b"usr/bin/sh").unwrap();
    assert_eq!(table.hardlink(table.lookup(b"s").unwrap()), Some(Hardlink::Record(target)));
}

#[test]
fn paths_too_long_or_too_deep_are_refused_with_their_place() {
    let at = Uncompressed(7 * 512);
    let refused = |path: Vec<u8>, link: Vec<u8>| {
        EntryTree::new().insert(&Entry { header_offset: at, ..soft(path, link) }).unwrap_err()
    };
    assert_eq!(refused(vec![b'n'; limits::PATH_BYTES as usize + 1], Vec::new()), Error::Path(at));
    assert_eq!(refused(Vec::new(), vec![b'n'; limits::PATH_BYTES as usize + 1]), Error::Path(at));
    assert_eq!(refused(b"d/".repeat(limits::PATH_COMPONENTS + 1), Vec::new()), Error::Path(at));
    assert!(Error::Path(at).to_string().ends_with("at byte 3584 of the unpacked layer"));
    let mut table = EntryTree::new();
    assert!(table.insert(&file(vec![b'n'; limits::PATH_BYTES as usize])).is_ok());
    assert!(table.insert(&file(b"d/".repeat(limits::PATH_COMPONENTS))).is_ok());
}

#[test]
fn more_entries_or_names_than_the_caps_are_refused() {
    let mut table = EntryTree::limited(4, 1 << 20);
    table.insert(&file("d/a")).unwrap();
    table.insert(&file("d/b")).unwrap();
    assert_eq!(table.insert(&file("d/a")), Err(Error::TooMany(Uncompressed(0))), "replaced entries count");
    assert!(table.insert(&dir("d")).is_ok(), "this one needs no place");
    let refused = |entry: &Entry| EntryTree::limited(99, 100).insert(entry);
    let long = "n".repeat(101);
    let no = Err(Error::NameBytes(Uncompressed(0)));
    assert_eq!(refused(&file(&long)), no);
    assert_eq!(refused(&soft("l", &long)), no);
    assert_eq!(refused(&Entry { uname: long.clone().into(), ..file("x") }), no);
    assert_eq!(refused(&Entry { xattrs: [(b"x".to_vec(), long.into())].into(), ..file("x") }), no);
    assert!(refused(&file("x")).is_ok());
}

#[test]
fn forty_links_lead_to_a_parent_and_no_more() {
    let mut entries = vec![dir("l0")];
    entries.extend((1..=41).map(|number| soft(format!("l{number}"), format!("l{}", number - 1))));
    let table = layer(entries.into_iter().chain([file("l40/x"), file("l41/y")]));
    assert!(table.lookup(b"l0/x").is_some() && table.lookup(b"l0/y").is_none());
    assert_eq!(table.kind(table.lookup(b"l41").unwrap()), EntryKind::Directory);
}

#[test]
fn links_do_not_multiply_the_length_of_a_path() {
    let mut table = incomplete([soft("a", "d/".repeat(3_000)), file("a/x"), soft("a/b", "e/".repeat(3_000))]);
    assert!(table.insert(&file("a/y")).unwrap().moved);
    assert!(table.insert(&file("a/b/x")).is_err_and(|error| matches!(error, Error::Path(_))));
}

#[test]
fn nothing_is_added_to_a_complete_layer() {
    let mut table = layer([file("x")]);
    assert_eq!(table.insert(&file("y")), Err(Error::Complete(Uncompressed(0))));
    assert!(table.is_complete());
}

#[test]
fn warnings_are_counted_and_the_first_kept_and_escaped() {
    let table = layer((0..100).map(|_| file([0x1b, b'['])));
    assert_eq!(table.warnings().count(), 99);
    assert_eq!(table.warnings().first().len(), 16);
    assert!(table.warnings().first()[0].to_string().starts_with(r#""\x1b[" occurs"#));
}

#[test]
fn many_owners_are_told_apart() {
    let entries: Vec<Entry> = (0..500)
        .map(|uid| Entry { uid, uname: vec![b'u'; uid as usize % 3], ..file(format!("f{uid}")) })
        .collect();
    let table = layer(entries.iter().chain(&entries).cloned());
    for entry in &entries {
        let record = table.lookup(&entry.path).unwrap();
        assert_eq!((table.uid(record), table.entry(record).uname), (entry.uid, entry.uname.clone()));
    }
}

#[test]
fn a_record_of_another_table_does_no_harm() {
    let table = layer([file("x")]);
    assert_eq!(table.kind(99), EntryKind::Other);
    assert_eq!(table.path(99), b"");
    assert!(table.children(99).is_empty());
}
