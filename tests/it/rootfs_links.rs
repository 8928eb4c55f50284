//! Symbolic and hard links, as a container would see them.

use crate::support::{
    images::{Tar, oracle::Kind},
    inspect::{Failure, block_on, chain, failure, open},
    subject::Subject,
};

#[test]
fn a_symbolic_link_is_followed_inside_the_root() {
    Subject::new([Tar::new()
        .directory("etc")
        .file("etc/passwd", "root")
        .symlink("etc/relative", "passwd")
        .symlink("etc/dotted", "./../etc//passwd")
        .symlink("absolute", "/etc/passwd")
        .symlink("upwards", "../../../etc/passwd")
        .symlink("etc/upwards", "/../../etc/../etc/passwd")
        .symlink("chain", "absolute")
        .symlink("longer", "/chain")])
    .holds("etc/passwd", 0, "root")
    .holds("/etc/passwd", 0, "root")
    .holds("./etc/../etc//passwd", 0, "root")
    .holds("../etc/passwd", 0, "root")
    .holds("etc/relative", 0, "root")
    .holds("etc/dotted", 0, "root")
    .holds("absolute", 0, "root")
    .holds("upwards", 0, "root")
    .holds("etc/upwards", 0, "root")
    .holds("chain", 0, "root")
    .holds("longer", 0, "root")
    .lists(&[
        "absolute",
        "chain",
        "etc",
        "etc/dotted",
        "etc/passwd",
        "etc/relative",
        "etc/upwards",
        "longer",
        "upwards",
    ]);
}

#[test]
fn a_symbolic_link_in_a_parent_directory_is_followed() {
    Subject::new([Tar::new()
        .symlink("bin", "usr/bin")
        .directory("usr")
        .directory("usr/bin")
        .file("usr/bin/sh", "#!")
        .symlink("usr/bin/up", "../../usr")
        .symlink("usr/local", "/usr")])
    .holds("bin/sh", 0, "#!")
    .holds("usr/local/bin/sh", 0, "#!")
    .holds("usr/local/local/local/bin/sh", 0, "#!")
    .holds("bin/up/bin/sh", 0, "#!")
    // As in the kernel: `..` is relative to where the link led.
    .holds("bin/../bin/sh", 0, "#!")
    .lacks("bin/../sh", Failure::NotFound)
    .lacks("bin", Failure::WrongKind)
    .lacks("bin/", Failure::WrongKind)
    .lists(&["bin", "usr", "usr/bin", "usr/bin/sh", "usr/bin/up", "usr/local"]);
}

#[test]
fn links_lead_across_layers_both_ways() {
    Subject::new([
        Tar::new()
            .directory("usr")
            .file("usr/old", "old")
            .symlink("to-new", "usr/new")
            .symlink("lib", "usr/lib"),
        Tar::new().directory("usr").file("usr/new", "new").symlink("to-old", "/usr/old"),
        Tar::new().directory("usr").directory("usr/lib").file("usr/lib/so", "elf").symlink("lib64", "lib"),
    ])
    .holds("to-new", 1, "new")
    .holds("to-old", 0, "old")
    .holds("lib/so", 2, "elf")
    .holds("lib64/so", 2, "elf")
    .lists(&["lib", "lib64", "to-new", "to-old", "usr", "usr/lib", "usr/lib/so", "usr/new", "usr/old"]);
}

#[test]
fn a_dangling_link_and_a_loop_are_not_found() {
    Subject::new([
        Tar::new()
            .symlink("dangling", "nowhere")
            .symlink("self", "self")
            .symlink("one", "two")
            .symlink("two", "/one")
            .symlink("under", "under/x")
            .file("file", "")
            .symlink("through", "file/x")
            .symlink("slash", "file/"),
        Tar::new().symlink("newer", "dangling"),
    ])
    .lacks("dangling", Failure::NotFound)
    .lacks("newer", Failure::NotFound)
    .lacks("self", Failure::NotFound)
    .lacks("self/x", Failure::NotFound)
    .lacks("one", Failure::NotFound)
    .lacks("under", Failure::NotFound)
    .lacks("through", Failure::NotFound)
    .lacks("slash", Failure::NotFound)
    .lacks("file/", Failure::NotFound)
    .lacks("file/x", Failure::NotFound)
    .lacks("file/../file", Failure::NotFound)
    .lacks("nothing/here", Failure::NotFound);
}

#[test]
fn forty_links_are_followed_and_no_more() {
    let chain = (1..=41)
        .fold(Tar::new().file("0", "end"), |tar, link| tar.symlink(link.to_string(), (link - 1).to_string()));
    Subject::new([chain]).holds("40", 0, "end").lacks("41", Failure::NotFound);
}

#[test]
fn a_hard_link_has_the_content_of_its_target() {
    Subject::new([Tar::new()
        .directory("d")
        .file("d/first", "content")
        .hardlink("second", "d/first")
        .hardlink("third", "/./second")
        .symlink("link", "third")])
    .holds("d/first", 0, "content")
    .holds("second", 0, "content")
    .holds("third", 0, "content")
    .holds("link", 0, "content")
    .lists(&["d", "d/first", "link", "second", "third"]);
}

#[test]
fn a_hard_link_to_a_lower_layer_keeps_what_it_linked_to() {
    let subject = Subject::new([
        Tar::new().file("kept", "kept").file("overwritten", "old").file("deleted", "gone"),
        Tar::new()
            .hardlink("to-kept", "kept")
            .hardlink("to-overwritten", "overwritten")
            .hardlink("to-deleted", "deleted"),
        Tar::new().file("overwritten", "new").whiteout("deleted"),
    ]);
    subject
        .holds("to-kept", 1, "kept")
        .holds("to-overwritten", 1, "old")
        .holds("overwritten", 2, "new")
        .holds("to-deleted", 1, "gone")
        .lacks("deleted", Failure::Deleted)
        .lists(&["kept", "overwritten", "to-deleted", "to-kept", "to-overwritten"]);
}

#[test]
fn a_hard_link_made_before_its_target_is_replaced_keeps_the_old_content() {
    Subject::new([
        Tar::new().file("a", "old").hardlink("b", "a").file("a", "new").hardlink("c", "a"),
        Tar::new().hardlink("d", "b").hardlink("b", "c"),
    ])
    .holds("a", 0, "new")
    .holds("b", 1, "new")
    .holds("c", 0, "new")
    .holds("d", 1, "old")
    .lists(&["a", "b", "c", "d"]);
}

#[test]
fn a_hard_link_to_a_symbolic_link_is_that_link() {
    let subject = Subject::new([
        Tar::new().file("file", "content").symlink("link", "file").hardlink("hard", "link"),
        Tar::new().hardlink("harder", "link").whiteout("link"),
    ]);
    subject.holds("hard", 0, "content").holds("harder", 0, "content").lists(&["file", "hard", "harder"]);
    assert_eq!(subject.unpacked()[b"harder".as_slice()].kind, Kind::Symlink);
}

#[test]
fn a_hard_link_to_nothing_is_not_found_and_says_what_is_missing() {
    let subject = Subject::new([Tar::new().file("there", ""), Tar::new().hardlink("link", "missing/file")]);
    subject.lacks_unlike_umoci("link", Failure::NotFound);
    let reference = subject.references().next().unwrap();
    let error = block_on(async { open(&reference).await.unwrap().carve("link").await }).unwrap_err();
    assert_eq!(failure(&error), Failure::NotFound);
    assert!(chain(&error).contains("missing/file"), "{}", chain(&error));
}
