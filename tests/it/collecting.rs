//! Collecting several files: directories, patterns, many paths.

use std::io::Read as _;

use layerslayer::{CarveOptions, Collection, EntryKind, Item, Selection, Verification};

use crate::support::{
    images::{Compression, Image, Layer, Layout, Tar, noise},
    inspect::{Failure, block_on, failure, open},
    subject::Subject,
};

fn subject() -> Subject {
    Subject::new([
        Tar::new()
            .directory("usr")
            .directory("usr/lib")
            .file("usr/lib/a.so", "old a")
            .file("usr/lib/b.so", "b")
            .hardlink("usr/lib/b2.so", "usr/lib/b.so")
            .symlink("usr/lib/link.so", "a.so")
            .symlink("lib", "usr/lib")
            .directory("usr/lib/deep")
            .file("usr/lib/deep/c.so", "c")
            .file("gone", "gone"),
        Tar::new()
            .directory("usr")
            .directory("usr/lib")
            .file("usr/lib/a.so", "new a")
            .whiteout("usr/lib/deep")
            .whiteout("gone")
            .hardlink("also-b", "usr/lib/b.so"),
        Tar::new().symlink("to-lib", "/lib").directory("etc").file("etc/conf", "conf"),
    ])
}

/// Collects from every encoding, with a cold and a warm cache, with and without verification.
fn collect(subject: &Subject, selection: &Selection, options: CarveOptions, check: impl Fn(&Collection)) {
    for reference in subject.references() {
        for verify in [false, true] {
            block_on(async {
                let image = open(&reference).await.unwrap();
                for _ in 0..2 {
                    let collection = image.collect(selection, &options.verify(verify)).await.unwrap();
                    assert!(collection.outcome().verification >= Verification::Span, "{reference}");
                    assert!(collection.outcome().is_final, "{reference}");
                    check(&collection);
                }
            });
        }
    }
}

fn content(collection: &Collection, item: &Item) -> String {
    let mut content = String::new();
    collection.open(item).read_to_string(&mut content).unwrap();
    content
}

/// `PATH=CONTENT` for files, `PATH/` for directories, `PATH -> TARGET` for symlinks, `PATH == EARLIER` for hard links.
fn lines(collection: &Collection) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |item: &Item| {
        let path = text(&item.path);
        match (&item.hardlink_to, item.entry.kind) {
            (Some(earlier), _) => {
                assert!(!content(collection, item).is_empty());
                format!("{path} == {}", text(earlier))
            }
            (None, EntryKind::Directory) => format!("{path}/"),
            (None, EntryKind::File) => format!("{path}={}", content(collection, item)),
            (None, EntryKind::Symlink) => format!("{path} -> {}", text(&item.entry.link)),
            (None, kind) => format!("{path} {kind:?}"),
        }
    };
    collection.items().iter().map(line).collect()
}

#[test]
fn a_directory_is_collected_with_everything_below_it() {
    collect(&subject(), &Selection::paths(["/usr/lib"]), CarveOptions::default(), |collection| {
        assert_eq!(
            lines(collection),
            [
                "usr/lib/",
                "usr/lib/a.so=new a",
                "usr/lib/b.so=b",
                "usr/lib/b2.so == usr/lib/b.so",
                "usr/lib/link.so -> a.so"
            ]
        );
        let layers: Vec<usize> = collection.items().iter().map(|item| item.layer).collect();
        assert_eq!(layers, [1, 1, 0, 0, 0]);
    });
}

#[test]
fn a_directory_behind_links_keeps_the_requested_name() {
    for (asked, name) in [("lib", "lib"), ("/to-lib/", "to-lib"), ("usr/../to-lib/.", "to-lib")] {
        collect(&subject(), &Selection::paths([asked]), CarveOptions::default(), |collection| {
            let expected = ["/", "/a.so=new a", "/b.so=b", "/b2.so == N/b.so", "/link.so -> a.so"];
            let expected = expected.map(|line| format!("{name}{}", line.replace('N', name)));
            assert_eq!(lines(collection), expected);
        });
    }
}

#[test]
fn missing_paths_do_not_prevent_collecting_the_others() {
    let paths = ["etc/conf", "gone", "lib/link.so", "nowhere", "etc", "lib/deep/c.so", "etc/conf"];
    collect(&subject(), &Selection::paths(paths), CarveOptions::default(), |collection| {
        assert_eq!(
            lines(collection),
            ["etc/conf=conf", "lib/link.so=new a", "etc/", "etc/conf == etc/conf", "etc/conf == etc/conf"]
        );
        let requested: Vec<usize> = collection.items().iter().map(|item| item.requested).collect();
        assert_eq!(requested, [0, 2, 4, 4, 6]);
        let failures: Vec<_> =
            collection.failures().iter().map(|(path, error)| (path.as_slice(), failure(error))).collect();
        assert_eq!(
            failures,
            [
                (&b"gone"[..], Failure::Deleted),
                (b"nowhere", Failure::NotFound),
                (b"lib/deep/c.so", Failure::Deleted)
            ]
        );
    });
}

#[test]
fn a_hard_link_across_layers_shares_its_content_with_its_target() {
    collect(
        &subject(),
        &Selection::paths(["also-b", "usr/lib/b2.so"]),
        CarveOptions::default(),
        |collection| {
            assert_eq!(lines(collection), ["also-b=b", "usr/lib/b2.so == also-b"]);
            assert_eq!(collection.items()[0].layer, 1);
        },
    );
}

#[test]
fn patterns_select_from_the_merged_view() {
    let cases: [(&[&str], &[&str]); 7] = [
        (
            &["usr/lib/*.so"],
            &[
                "usr/lib/a.so=new a",
                "usr/lib/b.so=b",
                "usr/lib/b2.so == usr/lib/b.so",
                "usr/lib/link.so -> a.so",
            ],
        ),
        (&["/usr/lib/?.so"], &["usr/lib/a.so=new a", "usr/lib/b.so=b"]),
        (&["**/conf", "./lib"], &["etc/conf=conf", "lib -> usr/lib"]),
        (&["et*"], &["etc/", "etc/conf=conf"]),
        (&["*.so"], &[]),
        (&["usr/lib/deep/**"], &[]),
        (&["gone", "**/c.so"], &[]),
    ];
    let subject = subject();
    for (globs, expected) in cases {
        let selection = Selection::globs(globs).unwrap();
        collect(&subject, &selection, CarveOptions::default(), |collection| {
            assert_eq!(lines(collection), expected, "{globs:?}");
            assert!(collection.failures().is_empty());
        });
    }
}

#[test]
fn a_malformed_pattern_is_a_usage_error() {
    assert_eq!(failure(&Selection::globs(["a[b"]).unwrap_err()), Failure::Usage);
}

#[test]
fn a_single_layer_is_collected_without_the_others() {
    let base = CarveOptions::default().layer(0);
    collect(&subject(), &Selection::paths(["lib", "gone"]), base, |collection| {
        assert_eq!(
            lines(collection),
            [
                "lib/",
                "lib/a.so=old a",
                "lib/b.so=b",
                "lib/b2.so == lib/b.so",
                "lib/deep/",
                "lib/deep/c.so=c",
                "lib/link.so -> a.so",
                "gone=gone"
            ]
        );
    });
    let middle = CarveOptions::default().layer(1);
    collect(&subject(), &Selection::paths(["usr"]), middle, |collection| {
        assert_eq!(lines(collection), ["usr/", "usr/lib/", "usr/lib/a.so=new a"]);
        assert!(collection.items().iter().all(|item| item.layer == 1));
    });
    let top = CarveOptions::default().layer(2);
    collect(&subject(), &Selection::globs(["**"]).unwrap(), top, |collection| {
        assert_eq!(lines(collection), ["etc/", "etc/conf=conf", "to-lib -> /lib"]);
    });
}

#[test]
fn paths_answered_by_a_partial_read_are_not_verified() {
    let tar = Tar::new().file("a", "a").file("b", "b").hardlink("c", "a").file("rest", noise(3 << 20));
    let layout = Layout::of(&Image::new().layer(Layer::new(&tar.finish(), Compression::Zstd)));
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let selection = Selection::paths(["c", "b", "a"]);
        for (verify, verification) in [(false, Verification::None), (true, Verification::Blob)] {
            let options = CarveOptions::default().verify(verify);
            let collection = image.collect(&selection, &options).await.unwrap();
            assert_eq!(lines(&collection), ["c=a", "b=b", "a == c"]);
            assert_eq!(collection.outcome().verification, verification);
            assert_eq!(collection.outcome().is_final, verify);
        }
    });
}
