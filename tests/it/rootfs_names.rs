//! Names of every kind, and layers with few or no entries.

use crate::support::{
    images,
    images::{Layout, Member, Tar, tar::LongNames},
    inspect::{Failure, block_on, carve, compare, failure, open},
    subject::Subject,
};

#[test]
fn odd_names_are_names() {
    let names: [&[u8]; 8] = [
        b"a b",
        b" ",
        b"line\nbreak",
        b"\x1b[31mred",
        b"\xff\xfe",
        "ünï".as_bytes(),
        b"back\\slash",
        b"-rf *",
    ];
    let mut tar = Tar::new().directory("d");
    for name in names {
        let path = [b"d/", name].concat();
        tar = tar.file(&path, name).symlink([b"to-", name].concat(), path);
    }
    let subject = Subject::new([tar]);
    for name in names {
        subject.holds([b"d/", name].concat(), 0, name).holds([b"to-", name].concat(), 0, name);
    }
    assert_eq!(subject.unpacked().len(), 1 + 2 * names.len());
    for reference in subject.references() {
        let differences =
            block_on(async { compare(&open(&reference).await.unwrap(), subject.unpacked()).await });
        assert_eq!(differences, Ok(()), "{reference}");
    }
}

#[test]
fn names_of_three_hundred_bytes_are_whole_in_either_form() {
    // The oracle's file system allows at most 255 bytes per component.
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(99));
    assert_eq!(long.len(), 300);
    for form in [LongNames::Gnu, LongNames::Pax] {
        Subject::new([
            Tar::new()
                .member(Member::file(&long, "deep").long_names(form))
                .member(Member::symlink("link", &long).long_names(form))
                .member(Member::hardlink("hard", &long).long_names(form)),
            Tar::new().member(Member::file(format!("{}/.wh.x", "d".repeat(200)), "").long_names(form)),
        ])
        .holds(&long, 0, "deep")
        .holds("link", 0, "deep")
        .holds("hard", 0, "deep")
        .lists(&[&"d".repeat(200), &long, "hard", "link"]);
    }
}

#[test]
fn a_single_name_may_be_longer_than_file_systems_allow() {
    let name = "n".repeat(300);
    Subject::new([Tar::new().file(&name, "long"), Tar::new().symlink("link", &name)])
        .holds_unlike_umoci(&name, 0, "long")
        .holds_unlike_umoci("link", 0, "long")
        .lists_unlike_umoci(&["link", &name]);
}

#[test]
fn leading_dots_and_slashes_make_no_difference() {
    Subject::new([
        Tar::new().file("./a", "a").file("/b", "b").file("c", "c").directory("./d/").file("./d//e", "e"),
        Tar::new().whiteout("./a").file("/c", "new").file("d/./f", "f"),
    ])
    .lacks("a", Failure::Deleted)
    .lacks("/a", Failure::Deleted)
    .holds("./b", 0, "b")
    .holds("/b", 0, "b")
    .holds("c", 1, "new")
    .holds("d/e", 0, "e")
    .holds("d/f", 1, "f")
    .lists(&["b", "c", "d", "d/e", "d/f"]);
}

#[test]
fn an_empty_file_is_empty() {
    Subject::new([Tar::new().file("empty", "").file("full", "x"), Tar::new().file("full", "")])
        .holds("empty", 0, "")
        .holds("full", 1, "")
        .lists(&["empty", "full"]);
}

#[test]
fn an_image_without_layers_holds_nothing() {
    let layout = Layout::of(&images::Image::new());
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        assert!(image.layers().is_empty());
        assert!(image.rootfs().await.unwrap().entries().is_empty());
        for path in ["f", "d/f"] {
            let error = carve(&image, path.as_bytes(), &Default::default()).await.unwrap_err();
            assert_eq!(failure(&error), Failure::NotFound);
        }
    });
}

#[test]
fn empty_layers_change_nothing() {
    Subject::new([Tar::new(), Tar::new().file("f", "f"), Tar::new(), Tar::new()])
        .holds("f", 1, "f")
        .lacks("g", Failure::NotFound)
        .lists(&["f"]);
}

#[test]
fn the_same_layer_may_occur_twice() {
    let layer = || Tar::new().file("f", "f").whiteout("g");
    Subject::new([layer(), Tar::new().file("f", "other").file("g", "g"), layer()])
        .holds("f", 2, "f")
        .lacks("g", Failure::Deleted)
        .lists(&["f"]);
}
