use super::*;
use crate::{
    limits,
    toc::entries::{
        EntryTree,
        sample::{dir, entry, file, hard, incomplete, layer, opaque, soft, whiteout},
    },
};

mod model;
mod properties;

/// The answer in short: `LAYER:PATH` of the content for what is found.
fn answer_with(layers: &[EntryTree], path: impl AsRef<[u8]>, options: Options) -> String {
    let stack = Stack::new(layers);
    match stack.resolve(path.as_ref(), options).0 {
        Resolution::Deleted { layer } => format!("deleted by {layer}"),
        Resolution::Found { content, .. } => {
            let path = layers[content.layer].path(content.record);
            format!("{}:{}", content.layer, path.escape_ascii())
        }
        Resolution::Loop => "loop".into(),
        Resolution::Missing => "missing".into(),
        Resolution::NeedMore { layer } => format!("need {layer}"),
    }
}

fn answer(layers: &[EntryTree], path: impl AsRef<[u8]>) -> String {
    answer_with(layers, path, Options::default())
}

fn is_certain(layers: &[EntryTree], path: &str) -> bool {
    match Stack::new(layers).resolve(path.as_bytes(), Options::default()).0 {
        Resolution::Found { certain, .. } => certain,
        _ => panic!("not found"),
    }
}

/// The merged listing: path, `/` for directories (`/?` for implied ones), `@` for links, and the layer.
fn listing(layers: &[EntryTree]) -> Vec<String> {
    Stack::new(layers).merged().map(|node| line(&node)).collect()
}

fn line(node: &Node) -> String {
    let mark = match node.kind {
        EntryKind::Directory if node.implied => "/?",
        EntryKind::Directory => "/",
        EntryKind::Hardlink => "=",
        EntryKind::Symlink => "@",
        _ => "",
    };
    let disputed = if node.hides_symlink { " disputed" } else { "" };
    format!("{}{mark} {}{disputed}", node.path.escape_ascii(), node.layer)
}

fn steps(layers: &[EntryTree], path: &str) -> Vec<String> {
    let trace = Stack::new(layers).resolve(path.as_bytes(), Options::default()).1;
    trace.steps.iter().map(ToString::to_string).collect()
}

#[test]
fn the_newest_layer_wins() {
    let layers = [layer([file("a"), file("b")]), layer([file("a")]), layer([])];
    assert_eq!(answer(&layers, "a"), "1:a");
    assert_eq!(answer(&layers, "b"), "0:b");
    assert_eq!(answer(&layers, "c"), "missing");
    assert_eq!(listing(&layers), ["a 1", "b 0"]);
}

#[test]
fn relative_absolute_and_chained_links_are_followed() {
    let layers = [layer([
        file("usr/bin/dash"),
        soft("usr/bin/sh", "dash"),
        soft("sh", "/usr/bin/sh"),
        soft("usr/lib/x", "../bin/./sh"),
        soft("usr/lib/y", "/sh"),
    ])];
    for path in ["usr/bin/sh", "sh", "usr/lib/x", "usr/lib/y"] {
        assert_eq!(answer(&layers, path), "0:usr/bin/dash");
    }
}

#[test]
fn a_link_in_a_parent_directory_is_followed() {
    let layers = [layer([soft("bin", "usr/bin"), file("usr/bin/sh")])];
    assert_eq!(answer(&layers, "bin/sh"), "0:usr/bin/sh");
    assert_eq!(answer(&layers, "bin/../lib"), "missing");
    assert_eq!(answer(&layers, "bin/../bin/sh"), "0:usr/bin/sh", "`..` of what the link leads to");
}

#[test]
fn links_lead_across_layers_both_ways() {
    let layers = [
        layer([soft("to-upper", "upper"), soft("bin", "usr/bin"), file("lower")]),
        layer([file("upper"), soft("to-lower", "lower"), file("usr/bin/sh")]),
    ];
    assert_eq!(answer(&layers, "to-upper"), "1:upper");
    assert_eq!(answer(&layers, "to-lower"), "0:lower");
    assert_eq!(answer(&layers, "bin/sh"), "1:usr/bin/sh");
}

#[test]
fn a_dangling_link_is_missing_and_one_to_a_deleted_file_says_so() {
    let layers = [
        layer([soft("x", "nothing"), soft("y", "gone"), file("gone"), soft("e", "")]),
        layer([whiteout("gone")]),
    ];
    assert_eq!(answer(&layers, "x"), "missing");
    assert_eq!(answer(&layers, "y"), "deleted by 1");
    assert_eq!(answer(&layers, "e"), "missing");
}

#[test]
fn links_that_go_round_are_a_loop() {
    let layers = [layer([soft("a", "b"), soft("b", "a"), soft("c", "c/c"), soft("d/e", "../d/e/f")])];
    for path in ["a", "b/x", "c", "d/e"] {
        assert_eq!(answer(&layers, path), "loop");
    }
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let mut entries = vec![file("l0")];
    entries.extend((1..=41).map(|number| soft(format!("l{number}"), format!("l{}", number - 1))));
    let layers = [layer(entries)];
    assert_eq!(answer(&layers, "l40"), "0:l0");
    assert_eq!(answer(&layers, "l41"), "loop");
}

#[test]
fn links_that_grow_without_end_are_a_loop() {
    let long = "x/".repeat(8_000);
    let layers = [layer([soft("a", format!("/b/{long}")), soft("b", format!("/a/{long}"))])];
    assert_eq!(answer(&layers, "a"), "loop");
}

#[test]
fn so_many_components_are_walked_and_no_more() {
    let path = |components| "x/".repeat(components);
    assert_eq!(answer(&[layer([])], path(limits::PATH_COMPONENTS)), "missing");
    assert_eq!(answer(&[layer([])], path(limits::PATH_COMPONENTS + 2)), "loop");
    // Those of a link count with what is before and behind it.
    let rest = limits::PATH_COMPONENTS - 2;
    let layers = [layer([soft("d/l", "y/z")])];
    assert_eq!(answer(&layers, format!("d/l/{}", path(rest - 1))), "missing");
    assert_eq!(answer(&layers, format!("d/l/{}", path(rest))), "loop");
}

#[test]
fn links_that_go_up_and_down_deep_directories_are_resolved_in_bounded_steps() {
    let deep = "d/".repeat(1_000);
    let up_and_down = format!("/{deep}{}{}", "x/../".repeat(1_000), "../".repeat(1_001));
    let links = (0..39).map(|number| soft(format!("s{number}"), format!("{up_and_down}s{}", number + 1)));
    let entries: Vec<_> = [dir(format!("{deep}x")), file("s39")].into_iter().chain(links).collect();
    let layers: Vec<_> =
        std::iter::once(layer(entries)).chain((0..60).map(|n| layer([file(format!("b{n}"))]))).collect();
    assert_eq!(answer(&layers, "s0"), "0:s39");
    // Each of these directories is another one.
    let names: String = (0..1_200).map(|number| format!("{number:04}/../")).collect();
    let entries = (0..1_200).map(|number| dir(format!("{deep}{number:04}")));
    let links = (0..39).map(|number| {
        soft(format!("s{number}"), format!("/{deep}{names}{}s{}", "../".repeat(1_000), number + 1))
    });
    let entries: Vec<_> = entries.chain(links).chain([file("s39")]).collect();
    assert_eq!(answer(&[layer(entries)], "s0"), "loop");
}

#[test]
fn forty_hard_links_are_followed_across_layers_and_no_more() {
    let links = (1..=41).map(|number| layer([hard(format!("l{number}"), format!("l{}", number - 1))]));
    let layers: Vec<_> = std::iter::once(layer([file("l0")])).chain(links).collect();
    assert_eq!(answer(&layers, "l40"), "0:l0");
    assert_eq!(answer(&layers, "l41"), "loop");
}

#[test]
fn links_stay_below_the_root() {
    let layers = [layer([file("etc/passwd"), soft("a/b/up", "../../../../../etc/passwd")])];
    assert_eq!(answer(&layers, "a/b/up"), "0:etc/passwd");
    assert_eq!(answer(&layers, "../../etc/passwd"), "0:etc/passwd");
    assert_eq!(answer(&layers, "a/../../etc/passwd"), "0:etc/passwd");
}

#[test]
fn a_link_at_the_end_can_be_kept() {
    let keep = Options { last: Last::Keep, ..Options::default() };
    let layers = [layer([soft("l", "d"), file("d/x"), soft("m", "l")])];
    assert_eq!(answer_with(&layers, "l", keep), "0:l");
    assert_eq!(answer_with(&layers, "l/", keep), "0:d");
    assert_eq!(answer_with(&layers, "l/x", keep), "0:d/x");
    assert_eq!(answer_with(&layers, "m/.", keep), "0:d");
}

#[test]
fn a_hard_link_gives_its_targets_content() {
    let layers = [layer([file("a"), hard("b", "a")]), layer([hard("c", "b"), hard("d", "c")])];
    for path in ["b", "c", "d"] {
        assert_eq!(answer(&layers, path), "0:a");
    }
    assert_eq!(listing(&layers), ["a 0", "b 0", "c 1", "d 1"]);
}

#[test]
fn a_hard_link_keeps_its_content_when_the_target_is_replaced_or_deleted_above() {
    let layers = [layer([file("a"), hard("b", "a")]), layer([file("a")]), layer([whiteout("a")])];
    assert_eq!(answer(&layers, "b"), "0:a");
    assert_eq!(answer(&layers[..2], "a"), "1:a");
    assert_eq!(answer(&layers, "a"), "deleted by 2");
}

#[test]
fn a_hard_link_finds_a_lower_file_that_its_own_layer_deletes() {
    let layers = [layer([file("d/a")]), layer([whiteout("d/a"), opaque("d"), hard("b", "d/a")])];
    assert_eq!(answer(&layers, "b"), "0:d/a");
    assert_eq!(answer(&layers, "d/a"), "deleted by 1");
}

#[test]
fn a_hard_link_to_a_link_is_a_link_in_its_own_place() {
    let layers =
        [layer([soft("d/l", "x"), file("d/x"), file("e/x"), hard("e/h", "d/l")]), layer([hard("f", "e/h")])];
    assert_eq!(answer(&layers, "e/h"), "0:e/x");
    assert_eq!(answer(&layers, "d/l"), "0:d/x");
    assert_eq!(answer(&layers, "f"), "missing", "the root has no x");
    let keep = Options { last: Last::Keep, ..Options::default() };
    assert_eq!(answer_with(&layers, "e/h", keep), "0:d/l");
}

#[test]
fn a_hard_link_prefers_older_layers_to_later_entries() {
    let later = || layer([hard("b", "a"), file("a")]);
    assert_eq!(answer(&[later()], "b"), "0:a");
    assert_eq!(answer(&[layer([file("a")]), later()], "b"), "0:a");
    assert_eq!(answer(&[layer([file("c")]), later()], "b"), "1:a");
}

#[test]
fn hard_links_to_nothing_directories_and_each_other_are_missing() {
    let layers = [layer([
        dir("d"),
        hard("none", "nowhere"),
        hard("dir", "d"),
        hard("self", "self"),
        hard("x", "y"),
        hard("y", "z"),
        hard("z", "x"),
    ])];
    for path in ["none", "dir"] {
        assert_eq!(answer(&layers, path), "missing");
    }
    for path in ["self", "x", "y", "z"] {
        assert_eq!(answer(&layers, path), "loop");
    }
    assert_eq!(listing(&layers), ["d/ 0", "dir= 0", "none= 0", "self= 0", "x= 0", "y= 0", "z= 0"]);
    assert!(steps(&layers, "none").last().unwrap().contains("missing file"));
}

#[test]
fn a_hard_link_to_nothing_is_no_directory_and_hides_the_older_one() {
    let layers = [layer([file("d/x")]), layer([hard("d", "nowhere")])];
    assert_eq!(answer(&layers, "d/x"), "deleted by 1");
}

#[test]
fn a_whiteout_hides_older_layers_only() {
    let layers = [layer([file("a"), file("b")]), layer([whiteout("a")]), layer([file("a"), whiteout("b")])];
    assert_eq!(answer(&layers[..2], "a"), "deleted by 1");
    assert_eq!(answer(&layers, "a"), "2:a");
    assert_eq!(answer(&layers, "b"), "deleted by 2");
    assert_eq!(listing(&layers), ["a 2"]);
    assert_eq!(steps(&layers, "b"), ["layer 2: /b is a whiteout: older layers do not have it"]);
}

#[test]
fn what_aufs_keeps_for_itself_serves_hard_links_and_is_not_seen() {
    let layers = [layer([file(".wh..wh.plnk/1.2"), hard("h", ".wh..wh.plnk/1.2"), file("a/.wh..wh.x/y")])];
    assert_eq!(answer(&layers, "h"), "0:.wh..wh.plnk/1.2");
    assert_eq!(answer(&layers, ".wh..wh.plnk/1.2"), "missing");
    assert_eq!(answer(&layers, ".wh..wh.plnk"), "missing");
    assert_eq!(listing(&layers), ["a/? 0", "a/.wh..wh.x/? 0", "a/.wh..wh.x/y 0", "h 0"]);
}

#[test]
fn a_whiteout_in_the_base_is_no_deletion() {
    let layers = [layer([whiteout("a"), opaque("d"), file("f")])];
    assert_eq!(answer(&layers, "a"), "missing");
    assert_eq!(answer(&layers, "d/x"), "missing");
    assert_eq!(answer(&layers, "f/x"), "missing");
    assert_eq!(listing(&layers), ["d/? 0", "f 0"]);
}

#[test]
fn a_whiteout_of_a_parent_directory_hides_all_below() {
    let layers = [layer([file("d/e/x"), file("d/y")]), layer([whiteout("d")])];
    assert_eq!(answer(&layers, "d/e/x"), "deleted by 1");
    assert_eq!(answer(&layers, "d"), "deleted by 1");
    assert_eq!(listing(&layers), [""; 0]);
}

#[test]
fn an_opaque_directory_hides_older_layers_only_wherever_its_marker_lies() {
    let base = || layer([dir("d"), file("d/old"), file("d/e/old")]);
    let uppers = [[opaque("d"), dir("d"), file("d/new")], [dir("d"), file("d/new"), opaque("d")]];
    for upper in uppers {
        let layers = [base(), layer(upper), layer([file("d/newer")])];
        assert_eq!(answer(&layers, "d/new"), "1:d/new");
        assert_eq!(answer(&layers, "d/newer"), "2:d/newer");
        assert_eq!(answer(&layers, "d/old"), "deleted by 1");
        assert_eq!(answer(&layers, "d/e/old"), "deleted by 1");
        assert_eq!(listing(&layers), ["d/ 1", "d/new 1", "d/newer 2"]);
    }
}

#[test]
fn an_opaque_directory_without_an_entry_keeps_the_older_description() {
    let layers = [layer([dir("d"), file("d/old")]), layer([file("d/new"), opaque("d")])];
    assert_eq!(listing(&layers), ["d/ 0", "d/new 1"]);
}

#[test]
fn an_opaque_root_hides_everything_older() {
    let layers = [layer([dir(""), file("a")]), layer([opaque(""), file("b")])];
    assert_eq!(answer(&layers, "a"), "deleted by 1");
    assert_eq!(listing(&layers), ["/ 0", "b 1"]);
}

#[test]
fn a_file_made_anew_in_the_layer_of_its_whiteout_is_there() {
    for upper in [[whiteout("d/x"), file("d/x")], [file("d/x"), whiteout("d/x")]] {
        let layers = [layer([file("d/x"), file("d/y")]), layer(upper)];
        assert_eq!(answer(&layers, "d/x"), "1:d/x");
        assert_eq!(answer(&layers, "d/y"), "0:d/y");
    }
}

#[test]
fn a_directory_made_anew_in_the_layer_of_its_whiteout_shows_nothing_older() {
    for upper in [[whiteout("d"), file("d/new")], [file("d/new"), whiteout("d")]] {
        let layers = [layer([dir("d"), file("d/old")]), layer(upper)];
        assert_eq!(answer(&layers, "d/new"), "1:d/new");
        assert_eq!(answer(&layers, "d/old"), "deleted by 1");
        assert_eq!(listing(&layers), ["d/? 1", "d/new 1"]);
    }
}

#[test]
fn a_directory_replaced_by_a_file_and_back_is_empty() {
    let layers = [layer([file("d/x")]), layer([file("d")]), layer([dir("d"), file("d/y")])];
    assert_eq!(answer(&layers[..2], "d/x"), "deleted by 1");
    assert_eq!(answer(&layers[..2], "d"), "1:d");
    assert_eq!(answer(&layers, "d/x"), "deleted by 1");
    assert_eq!(answer(&layers, "d/y"), "2:d/y");
    assert_eq!(listing(&layers), ["d/ 2", "d/y 2"]);
}

#[test]
fn a_directory_replaced_by_a_link_shows_the_links_target() {
    let layers = [layer([file("d/x"), file("e/y")]), layer([soft("d", "e")])];
    assert_eq!(answer(&layers, "d/y"), "0:e/y");
    assert_eq!(answer(&layers, "d/x"), "missing");
    assert_eq!(listing(&layers), ["d@ 1", "e/? 0", "e/y 0"]);
}

#[test]
fn a_link_replaced_by_a_directory_is_a_directory() {
    let layers = [layer([soft("d", "e"), file("e/x")]), layer([dir("d"), file("d/y")])];
    assert_eq!(answer(&layers, "d/y"), "1:d/y");
    assert_eq!(answer(&layers, "d/x"), "missing");
    let layers = [layer([]), layer([soft("d", "e"), file("e/x")]), layer([dir("d")])];
    assert_eq!(answer(&layers, "d/x"), "deleted by 1");
    let layers =
        [layer([soft("a/d", "e"), file("a/e/x")]), layer([dir("a")]), layer([dir("a/d")]), layer([dir("a")])];
    assert_eq!(answer(&layers, "a/d/x"), "missing");
}

#[test]
fn an_implied_parent_over_an_older_link_is_a_directory() {
    let layers = [layer([soft("bin", "usr/bin"), file("usr/bin/a")]), layer([file("bin/b")])];
    assert_eq!(answer(&layers, "bin/b"), "1:bin/b");
    assert_eq!(answer(&layers, "usr/bin/b"), "missing");
    assert_eq!(answer(&layers, "bin/a"), "missing");
    assert_eq!(listing(&layers), ["bin/? 1 disputed", "bin/b 1", "usr/? 0", "usr/bin/? 0", "usr/bin/a 0"]);
    assert!(steps(&layers, "bin/a")[0].contains("runtimes disagree"));
}

#[test]
fn a_link_is_followed_within_its_layer() {
    let layers = [layer([file("usr/bin/a")]), layer([soft("bin", "usr/bin"), file("bin/b")])];
    assert_eq!(answer(&layers, "bin/b"), "1:usr/bin/b");
    assert_eq!(answer(&layers, "bin/a"), "0:usr/bin/a");
    assert_eq!(listing(&layers), ["bin@ 1", "usr/? 1", "usr/bin/? 1", "usr/bin/a 0", "usr/bin/b 1"]);
}

#[test]
fn the_last_of_two_entries_of_a_layer_counts() {
    let layers = [layer([file("x"), hard("y", "x"), file("x")])];
    let Resolution::Found { record, .. } = Stack::new(&layers).resolve(b"x", Options::default()).0 else {
        panic!("not found")
    };
    assert_eq!(layers[0].header_offset(record).0, 2048);
}

#[test]
fn odd_names_are_names() {
    let names: [&[u8]; 6] = [&[b'n'; 300], b"a b", b"a\nb", b"\x1b[31m", b"\xff\xfe", b".wh"];
    let layers = [layer(names.map(file))];
    for name in names {
        assert_eq!(answer(&layers, name), format!("0:{}", name.escape_ascii()));
    }
}

#[test]
fn a_path_may_begin_with_a_dot_or_a_slash() {
    let layers = [layer([file("d/x")])];
    for path in ["d/x", "/d/x", "./d/x", "//d/./x", "../d//x", "d/../d/x"] {
        assert_eq!(answer(&layers, path), "0:d/x");
    }
}

#[test]
fn a_path_through_or_with_a_slash_after_a_file_is_missing() {
    let layers = [layer([file("d/x")]), layer([file("f")])];
    for path in ["d/x/", "d/x/.", "d/x/..", "d/x/../x", "d/x/y", "f/"] {
        assert_eq!(answer(&layers, path), "missing", "{path}");
    }
    assert_eq!(answer(&layers, "f/y"), "deleted by 1");
    assert_eq!(answer(&layers, "d/"), "0:d");
    let layers = [layer([file("f"), dir("d"), soft("to-f", "f/"), soft("to-d", "d/")])];
    assert_eq!(answer(&layers, "to-f"), "missing");
    assert_eq!(answer(&layers, "to-d"), "0:d");
}

#[test]
fn special_files_and_empty_files_are_found() {
    let kinds = [EntryKind::Block, EntryKind::Char, EntryKind::Fifo, EntryKind::File, EntryKind::Other];
    let layers = [layer(kinds.map(|kind| entry(format!("{kind:?}"), kind, "")))];
    for kind in kinds {
        let stack = Stack::new(&layers);
        let Resolution::Found { content, .. } =
            stack.resolve(format!("{kind:?}").as_bytes(), Options::default()).0
        else {
            panic!("{kind:?} not found")
        };
        assert_eq!(stack.kind(content), kind);
    }
}

#[test]
fn an_image_may_have_no_layers_or_empty_ones() {
    assert_eq!(answer(&[], "x"), "missing");
    assert_eq!(answer(&[], "/"), "missing");
    assert_eq!(listing(&[]), [""; 0]);
    let layers = [layer([]), layer([file("x")]), layer([])];
    assert_eq!(answer(&layers, "x"), "1:x");
    assert_eq!(answer(&layers, ""), "2:");
    assert_eq!(listing(&layers), ["x 1"]);
}

#[test]
fn a_layer_may_lie_in_a_stack_twice() {
    let (base, upper) = (layer([file("a"), file("d/x")]), layer([whiteout("a"), opaque("d"), file("d/y")]));
    let stack = Stack::new([&base, &upper, &base]);
    let lines: Vec<String> = stack.merged().map(|node| line(&node)).collect();
    assert_eq!(lines, ["a 2", "d/? 2", "d/x 2", "d/y 1"]);
}

#[test]
fn one_layer_can_be_asked_alone() {
    let layers = [
        layer([file("a"), soft("l", "b")]),
        layer([whiteout("a"), file("b"), hard("h", "l"), hard("g", "b")]),
        layer([file("c")]),
    ];
    let alone = |layer, path: &str| {
        answer_with(&layers, path, Options { only_layer: Some(layer), ..Options::default() })
    };
    assert_eq!(alone(0, "a"), "0:a");
    assert_eq!(alone(1, "a"), "deleted by 1");
    assert_eq!(alone(2, "a"), "missing");
    assert_eq!(alone(0, "l"), "missing", "the link leads to another layer");
    assert_eq!(alone(1, "g"), "1:b");
    assert_eq!(alone(1, "h"), "missing");
    assert_eq!(alone(7, "a"), "missing");
}

#[test]
fn an_incomplete_layer_is_asked_for_more_only_if_it_matters() {
    let layers =
        [incomplete([file("a")]), layer([file("b"), whiteout("c")]), incomplete([file("d"), soft("l", "b")])];
    assert_eq!(answer(&layers, "d"), "2:d");
    assert!(!is_certain(&layers, "d"));
    assert_eq!(answer(&layers, "b"), "need 2");
    let layers = [&layers[0], &layers[1], &layer([file("d")])];
    let stack = Stack::new(layers);
    let ask = |path: &str| stack.resolve(path.as_bytes(), Options::default()).0;
    assert!(matches!(ask("b"), Resolution::Found { layer: 1, certain: true, .. }));
    assert!(matches!(ask("a"), Resolution::Found { layer: 0, certain: false, .. }));
    assert_eq!(ask("c"), Resolution::Deleted { layer: 1 });
    assert_eq!(ask("e"), Resolution::NeedMore { layer: 0 });
}

#[test]
fn what_an_incomplete_layer_seems_to_end_is_not_certain() {
    // A later entry could replace the file by a directory, the link by a file.
    let upper = [file("f"), soft("l", "nowhere"), soft("o", "o")];
    let layers = [layer([file("f/x"), file("x")]), incomplete(upper.clone())];
    for path in ["f/x", "f/..", "l", "o", "x"] {
        assert_eq!(answer(&layers, path), "need 1", "{path}");
    }
    let layers = [layer([file("f/x")]), layer(upper)];
    assert_eq!(answer(&layers, "f/x"), "deleted by 1");
}

#[test]
fn a_hard_link_waits_for_the_layer_that_can_hold_its_target() {
    let upper = || incomplete([hard("h", "a")]);
    assert_eq!(answer(&[layer([file("a")]), upper()], "h"), "0:a");
    assert_eq!(answer(&[layer([]), upper()], "h"), "need 1");
    assert_eq!(answer(&[incomplete([]), upper()], "h"), "need 0");
    assert_eq!(answer(&[incomplete([]), layer([hard("h", "a")])], "h"), "need 0");
}

#[test]
fn a_subtree_begins_with_its_directory() {
    let layers = [layer([dir("d"), file("d/e/x"), file("dx")]), layer([file("d/e/y"), soft("d/l", "e")])];
    let stack = Stack::new(&layers);
    let subtree =
        |path: &str| -> Vec<String> { stack.subtree(path.as_bytes()).map(|node| line(&node)).collect() };
    assert_eq!(subtree("d"), ["d/ 0", "d/e/? 1", "d/e/x 0", "d/e/y 1", "d/l@ 1"]);
    assert_eq!(subtree("d/e"), ["d/e/? 1", "d/e/x 0", "d/e/y 1"]);
    assert_eq!(subtree("d/e/x"), ["d/e/x 0"]);
    assert_eq!(subtree("d/none"), [""; 0]);
    assert_eq!(subtree("")[..2], ["/? 1", "d/ 0"]);
}

#[test]
fn siblings_come_in_the_order_of_their_bytes() {
    let layers = [layer([file("a/x"), file("a.b"), file("a-b")]), layer([file("a0"), file("A")])];
    assert_eq!(listing(&layers), ["A 1", "a/? 0", "a/x 0", "a-b 0", "a.b 0", "a0 1"]);
}

#[test]
fn the_steps_tell_what_decided() {
    let layers =
        [layer([soft("bin", "usr/bin"), file("usr/bin/dash")]), layer([hard("usr/bin/sh", "usr/bin/dash")])];
    assert_eq!(
        steps(&layers, "bin/sh"),
        [
            "layer 0: /bin is a symbolic link to usr/bin",
            "layer 1: /usr/bin/sh is a hard link to /usr/bin/dash",
            "layer 0: /usr/bin/dash is that file",
            "layer 1: /usr/bin/sh is the entry",
        ]
    );
}

#[test]
fn the_steps_name_the_directory_that_decided() {
    let base = || layer([file("a/d/old"), soft("a/l", "d"), file("a/f/x")]);
    let last = |layers: &[EntryTree], path| steps(layers, path).pop().unwrap();
    for (upper, path, step) in [
        (opaque("a"), "a/d/old", "layer 1: /a is an opaque directory: older layers do not show in it"),
        (opaque("a/d"), "a/d/old", "layer 1: /a/d is an opaque directory: older layers do not show in it"),
        (whiteout("a/d"), "a/d/old", "layer 1: /a/d is a whiteout: older layers do not have it"),
        (file("a/f"), "a/f/x", "layer 1: /a/f is no directory, so nothing is below it"),
        (
            dir("a/l"),
            "a/l/old",
            "layer 0: /a/l is hidden by a directory of a newer layer (runtimes disagree if it is a link)",
        ),
    ] {
        assert_eq!(last(&[base(), layer([upper])], path), step);
    }
}
