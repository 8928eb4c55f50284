//! What newer layers remove from older ones.

use crate::support::{
    images::{Member, Tar},
    inspect::{Failure, block_on, open},
    subject::Subject,
};

fn base() -> Tar {
    Tar::new()
        .directory("d")
        .file("d/a", "a")
        .file("d/b", "b")
        .directory("d/e")
        .file("d/e/f", "f")
        .file("x", "x")
}

#[test]
fn a_whiteout_removes_a_file() {
    Subject::new([base(), Tar::new().whiteout("d/a").whiteout("x").whiteout("never-there")])
        .lacks("d/a", Failure::Deleted)
        .lacks("x", Failure::Deleted)
        .lacks("never-there", Failure::Deleted)
        .holds("d/b", 0, "b")
        .lists(&["d", "d/b", "d/e", "d/e/f"]);
}

#[test]
fn a_whiteout_of_a_directory_removes_all_below_it() {
    Subject::new([base(), Tar::new().whiteout("d")])
        .lacks("d", Failure::Deleted)
        .lacks("d/a", Failure::Deleted)
        .lacks("d/e/f", Failure::Deleted)
        .holds("x", 0, "x")
        .lists(&["x"]);
}

#[test]
fn a_file_added_above_a_whiteout_exists() {
    Subject::new([
        base(),
        Tar::new().whiteout("d").whiteout("x"),
        Tar::new().directory("d").file("d/b", "again").file("x", "again"),
    ])
    .holds("d/b", 2, "again")
    .holds("x", 2, "again")
    .lacks("d/a", Failure::Deleted)
    .lists(&["d", "d/b", "x"]);
}

#[test]
fn a_whiteout_hides_lower_layers_only_in_either_order() {
    Subject::new([
        base(),
        Tar::new().whiteout("x").file("x", "after").directory("d").file("d/a", "before").whiteout("d/a"),
    ])
    .holds("x", 1, "after")
    .holds("d/a", 1, "before")
    .holds("d/b", 0, "b")
    .lists(&["d", "d/a", "d/b", "d/e", "d/e/f", "x"]);
}

#[test]
fn a_directory_recreated_in_the_layer_of_its_whiteout_holds_nothing_old() {
    for order in [["whiteout", "directory"], ["directory", "whiteout"]] {
        let newer = order.into_iter().fold(Tar::new(), |tar, part| match part {
            "whiteout" => tar.whiteout("d"),
            _ => tar.directory("d").file("d/new", "new"),
        });
        Subject::new([base(), newer])
            .holds("d/new", 1, "new")
            .lacks("d/a", Failure::Deleted)
            .lacks("d/e/f", Failure::Deleted)
            .lists(&["d", "d/new", "x"]);
    }
}

#[test]
fn an_opaque_directory_hides_lower_layers_only_wherever_its_marker_is_in_the_tar() {
    let with_marker_at = |place: usize| {
        let members = [Member::directory("d"), Member::file("d/b", "new"), Member::file("d/c", "c")];
        let mut tar = Tar::new();
        for (index, member) in members.into_iter().enumerate() {
            if index == place {
                tar = tar.opaque("d");
            }
            tar = tar.member(member);
        }
        if place == 3 { tar.opaque("d") } else { tar }
    };
    for place in 0..=3 {
        Subject::new([base(), with_marker_at(place), Tar::new().directory("d").file("d/z", "z")])
            .holds("d/b", 1, "new")
            .holds("d/c", 1, "c")
            .holds("d/z", 2, "z")
            .lacks("d/a", Failure::Deleted)
            .lacks("d/e", Failure::Deleted)
            .lacks("d/e/f", Failure::Deleted)
            .lists(&["d", "d/b", "d/c", "d/z", "x"]);
    }
}

#[test]
fn an_opaque_root_hides_everything_below() {
    Subject::new([base(), Tar::new().opaque("").file("y", "y")])
        .holds("y", 1, "y")
        .lacks("x", Failure::Deleted)
        .lacks("d/a", Failure::Deleted)
        .lists(&["y"]);
}

#[test]
fn an_opaque_marker_alone_empties_a_directory() {
    Subject::new([base(), Tar::new().opaque("d/e")])
        .lacks("d/e", Failure::WrongKind)
        .lacks("d/e/f", Failure::Deleted)
        .holds("d/a", 0, "a")
        .lists(&["d", "d/a", "d/b", "d/e", "x"]);
}

#[test]
fn an_opaque_marker_leaves_the_directory_itself_as_it_was() {
    let base = || Tar::new().member(Member::directory("d").mode(0o700).owner(7, 8)).file("d/a", "a");
    for above in [Tar::new(), Tar::new().file("d/b", "b")] {
        let subject = Subject::new([base(), Tar::new().opaque("d"), above]);
        for reference in subject.references() {
            let entries =
                block_on(async { open(&reference).await.unwrap().rootfs().await.unwrap().entries() });
            let found = entries.iter().find(|found| found.entry.path == b"d").unwrap();
            assert_eq!((found.layer, found.implied), (0, false), "{reference}");
            assert_eq!((found.entry.mode, found.entry.uid, found.entry.gid), (0o700, 7, 8), "{reference}");
        }
        let their = &subject.unpacked()[b"d".as_slice()];
        assert_eq!(their.mode, 0o700);
    }
}

#[test]
fn a_directory_recreated_by_its_children_holds_nothing_old() {
    let subject = Subject::new([
        Tar::new().member(Member::directory("d").mode(0o700)).file("d/a", "a"),
        Tar::new().whiteout("d").file("d/b", "b"),
    ]);
    for reference in subject.references() {
        let entries = block_on(async { open(&reference).await.unwrap().rootfs().await.unwrap().entries() });
        let found = entries.iter().find(|found| found.entry.path == b"d").unwrap();
        assert_eq!((found.layer, found.implied, found.entry.mode), (1, true, 0o755), "{reference}");
    }
}

#[test]
fn a_marker_creates_an_empty_directory_where_none_is_left() {
    // As the kernel's overlay shows it, which needs a directory for the marker; umoci creates none.
    for newer in [Tar::new().whiteout("d").whiteout("d/a"), Tar::new().whiteout("d").opaque("d")] {
        for reference in Subject::new([base(), newer]).references() {
            let entries =
                block_on(async { open(&reference).await.unwrap().rootfs().await.unwrap().entries() });
            let paths: Vec<_> = entries.iter().map(|found| found.entry.path.as_slice()).collect();
            assert_eq!(paths, [b"d", b"x"], "{reference}");
            assert!(entries[0].implied && entries[0].layer == 1, "{reference}");
        }
    }
}

#[test]
fn markers_in_the_base_layer_hide_nothing() {
    Subject::new([base().whiteout("x").opaque("d").whiteout("d/a").whiteout("nothing")])
        .holds("x", 0, "x")
        .holds("d/a", 0, "a")
        .lacks("nothing", Failure::NotFound)
        .lists(&["d", "d/a", "d/b", "d/e", "d/e/f", "x"]);
}

#[test]
fn a_whiteout_of_a_link_leaves_what_it_led_to() {
    Subject::new([
        Tar::new().directory("usr").file("usr/f", "f").symlink("l", "usr").symlink("m", "usr/f"),
        Tar::new().whiteout("l").whiteout("m"),
    ])
    .holds("usr/f", 0, "f")
    .lacks("m", Failure::Deleted)
    .lacks("l/f", Failure::Deleted)
    .lists(&["usr", "usr/f"]);
}

#[test]
fn a_link_into_deleted_content_is_deleted() {
    Subject::new([base().symlink("link", "d/a"), Tar::new().whiteout("d/a")])
        .lacks("link", Failure::Deleted)
        .lists(&["d", "d/b", "d/e", "d/e/f", "link", "x"]);
}
