//! Paths that change their kind from layer to layer, and entries that are not files.

use crate::support::{
    images::{Member, Tar},
    inspect::Failure,
    subject::Subject,
};

fn directory() -> Tar {
    Tar::new().directory("p").file("p/x", "x").directory("q").file("q/y", "y")
}

#[test]
fn a_file_replaces_a_directory() {
    Subject::new([directory(), Tar::new().file("p", "file")])
        .holds("p", 1, "file")
        .lacks("p/x", Failure::Deleted)
        .holds("q/y", 0, "y")
        .lists(&["p", "q", "q/y"]);
}

#[test]
fn a_directory_replaces_a_file() {
    Subject::new([Tar::new().file("p", "file"), directory()])
        .lacks("p", Failure::WrongKind)
        .holds("p/x", 1, "x")
        .lists(&["p", "p/x", "q", "q/y"]);
}

#[test]
fn a_symbolic_link_replaces_a_directory() {
    Subject::new([directory(), Tar::new().symlink("p", "q")])
        .lacks("p/x", Failure::NotFound)
        .holds("p/y", 0, "y")
        .lists(&["p", "q", "q/y"]);
}

#[test]
fn a_directory_replaces_a_symbolic_link() {
    Subject::new([
        Tar::new().directory("q").file("q/y", "y").symlink("p", "q"),
        Tar::new().directory("p").file("p/x", "x"),
    ])
    .holds("p/x", 1, "x")
    .lacks("p/y", Failure::NotFound)
    .lists(&["p", "p/x", "q", "q/y"]);
}

#[test]
fn a_directory_comes_back_empty_above_a_file_that_replaced_it() {
    Subject::new([directory(), Tar::new().file("p", ""), Tar::new().directory("p").file("p/z", "z")])
        .holds("p/z", 2, "z")
        .lacks("p/x", Failure::Deleted)
        .lists(&["p", "p/z", "q", "q/y"]);
}

#[test]
fn an_implicit_parent_hides_a_lower_link() {
    let subject = Subject::new([
        Tar::new().symlink("bin", "usr/bin").directory("usr").directory("usr/bin").file("usr/bin/a", "a"),
        Tar::new().file("bin/b", "b"),
    ]);
    // umoci follows the link while unpacking; in an overlay the layer's own directory hides it.
    subject
        .holds_unlike_umoci("bin/b", 1, "b")
        .lacks_unlike_umoci("bin/a", Failure::NotFound)
        .lacks_unlike_umoci("usr/bin/b", Failure::NotFound)
        .lists_unlike_umoci(&["bin", "bin/b", "usr", "usr/bin", "usr/bin/a"]);
}

#[test]
fn a_link_is_followed_within_one_layer() {
    Subject::new([Tar::new()
        .symlink("bin", "usr/bin")
        .directory("usr")
        .directory("usr/bin")
        .file("usr/bin/a", "a")
        .file("bin/b", "b")
        .whiteout("bin/c")])
    .holds("bin/b", 0, "b")
    .holds("usr/bin/b", 0, "b")
    .lists(&["bin", "usr", "usr/bin", "usr/bin/a", "usr/bin/b"]);
}

#[test]
fn implicit_parents_are_directories() {
    Subject::new([Tar::new().file("a/b/c", "c"), Tar::new().file("a/b/d/e", "e")])
        .holds("a/b/c", 0, "c")
        .holds("a/b/d/e", 1, "e")
        .lacks("a/b", Failure::WrongKind)
        .lacks("a/b/d", Failure::WrongKind)
        .lists(&["a", "a/b", "a/b/c", "a/b/d", "a/b/d/e"]);
}

#[test]
fn a_directory_has_the_attributes_of_its_newest_entry() {
    Subject::new([
        Tar::new().member(Member::directory("d").mode(0o700).owner(1, 2)).file("d/x", ""),
        Tar::new().file("d/y", ""),
        Tar::new().member(Member::directory("d").mode(0o1777).owner(3, 4).modified(1_000_000_000)),
        Tar::new().file("d/z", "z"),
    ])
    .holds("d/z", 3, "z")
    .lists(&["d", "d/x", "d/y", "d/z"]);
}

#[test]
fn the_last_of_several_entries_of_one_name_wins() {
    Subject::new([Tar::new()
        .file("f", "first")
        .file("./f", "second, longer")
        .directory("d")
        .file("d/x", "x")
        .member(Member::directory("d").mode(0o700))
        .file("g", "file")
        .symlink("g", "f")])
    .holds("f", 0, "second, longer")
    .holds("d/x", 0, "x")
    .holds("g", 0, "second, longer")
    .lists(&["d", "d/x", "f", "g"]);
}

#[test]
fn devices_and_pipes_exist_but_are_not_files() {
    Subject::new([Tar::new()
        .member(Member::character_device("null", 1, 3))
        .member(Member::block_device("loop", 7, 300))
        .member(Member::fifo("pipe"))
        .symlink("link", "null")])
    .lacks("null", Failure::WrongKind)
    .lacks("loop", Failure::WrongKind)
    .lacks("pipe", Failure::WrongKind)
    .lacks("link", Failure::WrongKind)
    .lists(&["link", "loop", "null", "pipe"]);
}

#[test]
fn the_root_is_a_directory() {
    // The oracle omits the root.
    Subject::new([Tar::new().directory("./").file("f", "")])
        .lacks_unlike_umoci("/", Failure::WrongKind)
        .lacks_unlike_umoci("", Failure::WrongKind)
        .lacks_unlike_umoci("..", Failure::WrongKind)
        .lists(&["f"]);
}
