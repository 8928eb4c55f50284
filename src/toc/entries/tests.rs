use super::insert::ErrorKind;
use super::{
    sample::{dir, entry, file, hard, incomplete, layer, opaque, soft, whiteout},
    warnings::WarningKind,
    *,
};
use crate::tar::entry::Xattrs;

mod cost;
mod order;

/// The layer's paths in listing order, with a suffix for their kind.
fn listing(tree: &EntryTree) -> Vec<String> {
    fn list(tree: &EntryTree, directory: u32, lines: &mut Vec<String>) {
        for record in tree.children(directory) {
            let path = String::from_utf8_lossy(&tree.path(*record)).into_owned();
            let opaque = if tree.is_opaque(*record) { "!" } else { "" };
            let mark = match tree.kind(*record) {
                EntryKind::Directory if tree.is_implied(*record) => "/?",
                EntryKind::Directory => "/",
                EntryKind::Hardlink => "=",
                EntryKind::Symlink => "@",
                EntryKind::Whiteout => "-",
                _ => "",
            };
            lines.push(format!("{path}{mark}{opaque}"));
            if tree.kind(*record) == EntryKind::Directory {
                list(tree, *record, lines);
            }
        }
    }
    let mut lines = Vec::new();
    list(tree, ROOT, &mut lines);
    lines
}

fn offset_at(tree: &EntryTree, path: &str) -> u64 {
    tree.header_offset(tree.lookup(path.as_bytes()).unwrap()).0
}

#[test]
fn an_entry_is_returned_as_it_was_inserted() {
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
        xattrs: Xattrs::from_iter([(b"user.x".to_vec(), vec![0, 255])]),
        ..file("sparse")
    };
    let device = Entry { device: Some((1, 3)), ..entry("dev/null", EntryKind::Char, "") };
    let link = soft("bin", "usr/bin");
    let name = file([b'n', 0xff, b'\n', 0x1b, b' ']);
    let removed = whiteout("usr/gone");
    let entries = [plain, rare, device, link, name, removed];
    let mut tree = EntryTree::new();
    let records: Vec<u32> = entries.iter().map(|entry| tree.insert(entry).unwrap().record).collect();
    for complete in [false, true] {
        if complete {
            tree.complete();
        }
        for (record, entry) in records.iter().zip(&entries) {
            assert_eq!(&tree.entry(*record), entry);
            assert_eq!(tree.stored_size(*record), entry.stored_size);
        }
    }
}

#[test]
fn children_are_sorted_by_bytes_and_parents_are_implied() {
    let tree = layer([file("b/z"), file("b/a"), dir("b.d"), file("a"), file([0xff])]);
    assert_eq!(listing(&tree), ["a", "b/?", "b/a", "b/z", "b.d/", "\u{fffd}"]);
}

#[test]
fn a_later_entry_describes_an_implied_directory() {
    let tree = layer([file("d/x"), Entry { mode: 0o700, ..dir("d") }]);
    assert_eq!(listing(&tree), ["d/", "d/x"]);
    assert_eq!(tree.mode(tree.lookup(b"d").unwrap()), 0o700);
    assert_eq!(tree.warnings().count(), 0);
}

#[test]
fn the_last_of_two_entries_wins() {
    let tree = layer([file("x"), file("x"), soft("x", "y"), file("x")]);
    assert_eq!(listing(&tree), ["x"]);
    assert_eq!(offset_at(&tree, "x"), 3 * 1024);
    assert_eq!(tree.warnings().count(), 3);
    assert_eq!(tree.warnings().first()[0].kind, WarningKind::Duplicate);
}

#[test]
fn a_second_directory_entry_keeps_the_entries_below() {
    let tree = layer([dir("d"), file("d/x"), Entry { mode: 0o711, ..dir("d") }]);
    assert_eq!(listing(&tree), ["d/", "d/x"]);
    assert_eq!(tree.mode(tree.lookup(b"d").unwrap()), 0o711);
}

#[test]
fn a_file_that_replaces_a_directory_drops_the_entries_below() {
    let tree = layer([file("d/e/x"), whiteout("d/w"), file("d"), file("d/y")]);
    assert_eq!(listing(&tree), ["d/?", "d/y"]);
    assert_eq!(tree.warnings().first()[0].to_string(), r#""d" occurs twice; the last entry wins"#);
    assert_eq!(tree.warnings().first()[1].kind, WarningKind::ReplacedByDirectory);
}

#[test]
fn entries_go_to_the_current_directory_of_their_path() {
    let replaced = layer([file("d/x"), file("d"), file("d/y")]);
    assert_eq!(listing(&replaced), ["d/?", "d/y"]);
    let through_a_link = layer([soft("l", "a"), file("a/d/x"), file("l/d"), file("a/d/y")]);
    assert_eq!(listing(&through_a_link), ["a/?", "a/d/?", "a/d/y", "l@"]);
}

#[test]
fn a_whiteout_and_an_entry_may_have_the_same_name() {
    for entries in [[whiteout("d/x"), file("d/x")], [file("d/x"), whiteout("d/x")]] {
        let tree = layer(entries);
        assert_eq!(listing(&tree), ["d/?", "d/x", "d/x-"]);
        let d = tree.lookup(b"d").unwrap();
        assert!(tree.whiteout(d, b"x") && tree.child(d, b"x").is_some());
        assert_eq!(tree.warnings().count(), 0);
    }
}

#[test]
fn an_opaque_marker_stays_when_its_directory_gets_an_entry() {
    for entries in [[opaque("d"), dir("d"), file("d/x")], [dir("d"), file("d/x"), opaque("d")]] {
        assert_eq!(listing(&layer(entries)), ["d/!", "d/x"]);
    }
    assert_eq!(listing(&layer([opaque("d"), file("d"), dir("d")])), ["d/"]);
    assert!(layer([opaque("")]).is_opaque(ROOT));
}

#[test]
fn the_root_accepts_only_a_directory_entry() {
    let tree = layer([Entry { mode: 0o700, ..dir("") }]);
    assert!(!tree.is_implied(ROOT));
    assert_eq!((tree.mode(ROOT), tree.path(ROOT)), (0o700, Vec::new()));
    for odd in [file(""), soft("", "x"), whiteout("")] {
        let tree = layer([odd, file("x")]);
        assert_eq!(listing(&tree), ["x"]);
        assert!(tree.is_implied(ROOT));
        assert_eq!(tree.warnings().first()[0].kind, WarningKind::RootIgnored);
    }
}

#[test]
fn a_symbolic_link_in_a_path_is_followed_within_its_layer() {
    let tree = layer([soft("bin", "usr/bin"), file("bin/b"), whiteout("bin/w"), opaque("bin")]);
    assert_eq!(listing(&tree), ["bin@", "usr/?", "usr/bin/?!", "usr/bin/b", "usr/bin/w-"]);
    assert_eq!(tree.warnings().first()[0].kind, WarningKind::FollowedLink);
    let inserted = incomplete([soft("bin", "/usr")]).insert(&file("bin/b")).unwrap();
    assert!(inserted.moved);
}

#[test]
fn followed_links_stay_inside_the_root() {
    let tree =
        layer([soft("a/up", "../../../../x"), file("a/up/b"), soft("abs", "/y/../z/."), file("abs/c")]);
    assert_eq!(listing(&tree), ["a/?", "a/up@", "abs@", "x/?", "x/b", "z/?", "z/c"]);
}

#[test]
fn dangling_links_and_loops_are_replaced_by_directories() {
    let tree = layer([soft("a", "b"), soft("b", "a"), file("a/x")]);
    assert_eq!(listing(&tree), ["a/?", "a/x", "b@"]);
    let tree = layer([soft("self", "self/self"), file("self/x")]);
    assert_eq!(listing(&tree), ["self/?", "self/x"]);
    let tree = layer([soft("d/up", ".."), soft("l", "d/up/l"), file("d/up/d/l"), file("d/up/l/x")]);
    assert_eq!(listing(&tree), ["d/?", "d/l", "d/up@", "l/?", "l/x"]);
    let tree = layer([soft("f", "g"), file("g"), file("f/x")]);
    assert_eq!(listing(&tree), ["f@", "g/?", "g/x"]);
}

#[test]
fn a_hard_link_keeps_its_target_when_the_name_is_replaced() {
    let tree = layer([file("a"), hard("b", "a"), file("a"), hard("c", "b")]);
    let [b, c] = [b"b", b"c"].map(|name| tree.lookup(name).unwrap());
    let Some(Hardlink::Record(target)) = tree.hardlink(b) else { panic!("no target") };
    assert_eq!(tree.header_offset(target).0, 0);
    assert_eq!(tree.hardlink(c), Some(Hardlink::Record(target)), "chains collapse");
    assert_eq!(tree.link(c), b"b", "the text stays");
}

#[test]
fn a_hard_link_to_a_missing_path_stays_unresolved() {
    let tree = layer([dir("d"), hard("x", "later"), file("later"), hard("y", "d"), hard("z", "x")]);
    let record = |path: &[u8]| tree.lookup(path).unwrap();
    assert_eq!(tree.hardlink(record(b"x")), Some(Hardlink::Unresolved(b"later")));
    assert_eq!(tree.hardlink(record(b"y")), Some(Hardlink::Unresolved(b"d")), "no links to directories");
    assert_eq!(tree.hardlink(record(b"z")), Some(Hardlink::Record(record(b"x"))));
    assert_eq!(tree.hardlink(record(b"later")), None);
}

#[test]
fn a_hard_link_follows_links_in_its_target_except_the_last_component() {
    let tree = layer([soft("bin", "usr/bin"), soft("bin/sh", "dash"), hard("s", "bin/sh")]);
    let target = tree.lookup(b"usr/bin/sh").unwrap();
    assert_eq!(tree.hardlink(tree.lookup(b"s").unwrap()), Some(Hardlink::Record(target)));
}

#[test]
fn paths_that_are_too_long_or_too_deep_are_rejected_with_their_offset() {
    let at = Uncompressed(7 * 512);
    let refused = |path: Vec<u8>, link: Vec<u8>| {
        EntryTree::new().insert(&Entry { header_offset: at, ..soft(path, link) }).unwrap_err()
    };
    let long = vec![b'n'; limits::PATH_BYTES as usize + 1];
    assert_eq!(refused(long.clone(), Vec::new()).kind, ErrorKind::PathTooLong);
    assert_eq!(refused(b"l".to_vec(), long).kind, ErrorKind::PathTooLong);
    let deep = refused(b"d/".repeat(limits::PATH_COMPONENTS + 1), Vec::new());
    assert_eq!((deep.kind, deep.at), (ErrorKind::TooDeep, at));
    let message = deep.to_string();
    assert!(message.starts_with("a path of more than 4096 components: \"d/d/"), "{message}");
    assert!(message.ends_with("\", at byte 3584 of the unpacked layer") && message.len() < 400, "{message}");
    let mut tree = EntryTree::new();
    assert!(tree.insert(&file(vec![b'n'; limits::PATH_BYTES as usize])).is_ok());
    assert!(tree.insert(&file(b"d/".repeat(limits::PATH_COMPONENTS))).is_ok());
}

#[test]
fn entries_beyond_the_budget_are_rejected_with_the_limit_and_their_path() {
    // The root, `d`, `a`, `b` and their names.
    let max = 4 * limits::ENTRY_BYTES + 3;
    let mut tree = EntryTree::limited(max);
    tree.insert(&file("d/a")).unwrap();
    tree.insert(&file("d/b")).unwrap();
    let refused = tree.insert(&file("d/a")).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::TooLarge { max }, "replaced entries count");
    let message = refused.to_string();
    assert!(
        message.starts_with("the entries of the layer take more than 259 bytes of memory: \"d/a\""),
        "{message}"
    );
    assert!(tree.insert(&dir("d")).is_ok(), "this one needs no new record");

    let long = "n".repeat(101);
    let max = 2 * limits::ENTRY_BYTES + 100;
    let refused = |entry: &Entry| {
        let result = EntryTree::limited(max).insert(entry);
        result.is_err_and(|error| error.kind == ErrorKind::TooLarge { max })
    };
    assert!(refused(&file(&long)));
    assert!(refused(&soft("l", &long)));
    assert!(refused(&Entry { uname: long.clone().into(), ..file("x") }));
    assert!(refused(&Entry { xattrs: xattrs("x", &long), ..file("x") }));
    assert!(!refused(&file("x")));
}

fn xattrs(name: &str, value: &str) -> Xattrs {
    Xattrs::from_iter([(name.into(), value.into())])
}

#[test]
fn equal_extended_attributes_are_kept_once() {
    let value = "v".repeat(60_000);
    let shared = xattrs("user.a", &value);
    let mut tree = EntryTree::limited(200_000);
    for number in 0..500 {
        // Half of them are clones, as of a global header, and half are equal by chance.
        let xattrs = if number % 2 == 0 { shared.clone() } else { xattrs("user.a", &value) };
        tree.insert(&Entry { xattrs, ..file(format!("f{number}")) }).unwrap();
    }
    let stored = [0, 1, 499].map(|number| tree.entry(tree.lookup(format!("f{number}").as_bytes()).unwrap()));
    assert!(stored.iter().all(|entry| entry.xattrs.is_shared_with(&stored[0].xattrs)));
    assert_eq!(stored[2].xattrs, shared);
}

#[test]
fn links_that_take_too_many_steps_are_rejected() {
    let target = "d/".repeat(4_000);
    // Two directories in turn, so that neither is the last one.
    let entry = |number: u64| Entry {
        header_offset: Uncompressed(number * 512),
        ..file(format!("{}/{number}", if number.is_multiple_of(2) { "a" } else { "b" }))
    };
    let mut tree = incomplete([soft("a", &target), soft("b", &target)]);
    let refused = (4..30_000).find_map(|number| tree.insert(&entry(number)).err()).unwrap();
    assert_eq!(refused.kind, ErrorKind::LinkSteps);
    assert!(refused.at.0 < 1_000 * 512, "{refused}");

    let mut tree = incomplete([soft("a", &target)]);
    for number in (4..30_000).map(|number| number * 2) {
        assert!(tree.insert(&entry(number)).unwrap().moved);
    }
    let mut hard = incomplete([soft("a", &target), file("a/x")]);
    let link = |number: u64| Entry {
        header_offset: Uncompressed(number * 512),
        ..super::sample::hard(format!("h{number}"), "a/x")
    };
    let refused = (4..30_000).find_map(|number| hard.insert(&link(number)).err()).unwrap();
    assert_eq!(refused.kind, ErrorKind::LinkSteps);
}

#[test]
fn ordinary_links_never_use_up_the_steps() {
    let mut tree = incomplete([dir("usr/lib"), soft("lib", "usr/lib"), soft("usr/lib64", "../lib")]);
    for number in 0..100_000_u64 {
        let path = format!("{}/{number}", ["lib", "usr/lib64", "etc"][number as usize % 3]);
        tree.insert(&Entry { header_offset: Uncompressed(4096 + number * 512), ..file(path) }).unwrap();
    }
}

#[test]
fn a_replaced_link_is_not_followed_any_more() {
    // `l` leads through `d/m`, which an entry below `l` replaces.
    let tree = layer([soft("d/m", "."), soft("l", "d/m"), file("l/a"), file("l/m"), file("l/b")]);
    assert_eq!(listing(&tree), ["d/?", "d/a", "d/m/?", "d/m/b", "l@"]);
}

#[test]
fn at_most_forty_links_are_followed() {
    let mut entries = vec![dir("l0")];
    entries.extend((1..=41).map(|number| soft(format!("l{number}"), format!("l{}", number - 1))));
    let tree = layer(entries.into_iter().chain([file("l40/x"), file("l41/y")]));
    assert!(tree.lookup(b"l0/x").is_some() && tree.lookup(b"l0/y").is_none());
    assert_eq!(tree.kind(tree.lookup(b"l41").unwrap()), EntryKind::Directory);
}

#[test]
fn links_do_not_grow_paths_beyond_the_cap() {
    let mut tree = incomplete([soft("a", "d/".repeat(3_000)), file("a/x"), soft("a/b", "e/".repeat(3_000))]);
    assert!(tree.insert(&file("a/y")).unwrap().moved);
    assert_eq!(tree.insert(&file("a/b/x")).unwrap_err().kind, ErrorKind::TooDeep);
}

#[test]
fn a_complete_layer_accepts_no_entries() {
    let mut tree = layer([file("x")]);
    assert_eq!(tree.insert(&file("y")).unwrap_err().kind, ErrorKind::Complete);
    assert!(tree.is_complete());
}

#[test]
fn warnings_are_counted_and_the_first_ones_kept_and_escaped() {
    let tree = layer((0..100).map(|_| file([0x1b, b'['])));
    assert_eq!(tree.warnings().count(), 99);
    assert_eq!(tree.warnings().first().len(), 16);
    assert!(tree.warnings().first()[0].to_string().starts_with(r#""\x1b[" occurs"#));
}

#[test]
fn repeated_directories_are_no_warning() {
    let repeated = layer((0..20).flat_map(|number| {
        let directory = format!("d{number}");
        [dir(&directory), file(format!("{directory}/x")), dir(&directory)]
    }));
    assert_eq!((repeated.warnings().count(), repeated.warning()), (20, None));
    assert_eq!(layer([whiteout("x"), whiteout("x")]).warning(), None);
}

#[test]
fn a_layer_has_one_warning_with_a_count() {
    let warning = |entries: &[Entry]| layer(entries.iter().cloned()).warning().unwrap();
    let twice = r#""x" occurs twice; the last entry wins"#;
    assert_eq!(warning(&[dir("d"), dir("d"), file("x"), file("x")]), twice);
    let many: Vec<Entry> = (0..5).map(|_| file("x")).collect();
    assert_eq!(warning(&many), format!("{twice} (and 3 more like this)"));
    let many: Vec<Entry> = (0..100).map(|_| file("x")).collect();
    assert_eq!(warning(&many), format!("{twice} (and at least 98 more like this)"));
    let hidden: Vec<Entry> =
        (0..40).map(|number| dir(format!("d{}", number / 2))).chain([file("x"), file("x")]).collect();
    assert_eq!(warning(&hidden), "later entries of the same path replace others (1)");
    let followed = [soft("bin", "usr/bin"), file("bin/a")];
    assert!(warning(&followed).contains("leads through a symbolic link"));
}

#[test]
fn many_owners_are_distinguished() {
    let entries: Vec<Entry> = (0..500)
        .map(|uid| Entry { uid, uname: vec![b'u'; uid as usize % 3], ..file(format!("f{uid}")) })
        .collect();
    let tree = layer(entries.iter().chain(&entries).cloned());
    for entry in &entries {
        let record = tree.lookup(&entry.path).unwrap();
        assert_eq!((tree.uid(record), tree.entry(record).uname), (entry.uid, entry.uname.clone()));
    }
}

#[test]
fn a_record_of_another_tree_is_harmless() {
    let tree = layer([file("x")]);
    assert_eq!(tree.kind(99), EntryKind::Other);
    assert_eq!(tree.path(99), b"");
    assert!(tree.children(99).is_empty());
}
