//! How content leaves the engine: streamed, held back, verified, read again.

use layerslayer::{CarveOptions, Selection, Verification};

use crate::support::{
    images::{self, Compression, Layer, Layout, Tar, noise},
    inspect::{Failure, block_on, carve, chain, failure, open},
};

const ENCODINGS: [Compression; 3] = [Compression::Gzip, Compression::None, Compression::Zstd];

/// More than is held back before a file streams.
const LARGE: usize = 3 << 20;

fn layout(compression: Compression, archives: impl IntoIterator<Item = Tar>) -> Layout {
    let layers = archives.into_iter().map(|tar| Layer::new(&tar.finish(), compression));
    Layout::of(&layers.fold(images::Image::new(), images::Image::layer))
}

fn plain() -> CarveOptions {
    CarveOptions::default()
}

#[test]
fn a_large_file_streams_completely() {
    let content = noise(LARGE);
    for compression in ENCODINGS {
        let layout = layout(
            compression,
            [
                Tar::new()
                    .file("before", "x")
                    .file("large", &content)
                    .symlink("link", "large")
                    .hardlink("hard", "large"),
                Tar::new().file("other", ""),
            ],
        );
        block_on(async {
            for path in ["large", "link", "hard"] {
                for options in [plain(), plain().verify(true), plain().layer(0)] {
                    let image = open(&layout.reference("latest")).await.unwrap();
                    // The first time the layer is streamed, the second time it is read by the TOC
                    // of the first.
                    for _ in 0..2 {
                        let file = carve(&image, path.as_bytes(), &options).await.unwrap();
                        assert!(file.content == content, "{path}, {compression:?}, {options:?}");
                        assert_eq!((file.layer, file.entry.size), (0, content.len() as u64));
                        assert!(file.outcome.verification >= Verification::Span, "{:?}", file.outcome);
                        assert!(file.outcome.is_final);
                    }
                }
            }
        });
    }
}

#[test]
fn a_file_far_from_the_end_is_returned_early_and_unverified() {
    for compression in ENCODINGS {
        let layout = layout(compression, [Tar::new().file("early", "here").file("rest", noise(LARGE))]);
        block_on(async {
            let image = open(&layout.reference("latest")).await.unwrap();
            let file = carve(&image, b"early", &plain()).await.unwrap();
            assert_eq!(file.content, b"here");
            assert_eq!(file.outcome.verification, Verification::None);
            assert!(!file.outcome.is_final);
            let file = carve(&image, b"early", &plain().verify(true)).await.unwrap();
            assert_eq!(file.content, b"here");
            assert_eq!(file.outcome.verification, Verification::Blob);
            assert!(file.outcome.is_final);
        });
    }
}

#[test]
fn the_last_entry_of_a_name_wins_where_the_layer_is_read_to_its_end() {
    for compression in ENCODINGS {
        let tar = || Tar::new().file("f", "first").file("rest", noise(LARGE)).file("f", "second");
        let layout = layout(compression, [tar()]);
        block_on(async {
            let image = open(&layout.reference("latest")).await.unwrap();
            let file = carve(&image, b"f", &plain()).await.unwrap();
            // The image specification forbids such layers. The outcome reports that the answer may
            // change.
            assert_eq!((file.content.as_slice(), file.outcome.is_final), (&b"first"[..], false));
            image.rootfs().await.unwrap();
            let file = carve(&image, b"f", &plain()).await.unwrap();
            assert_eq!((file.content.as_slice(), file.outcome.is_final), (&b"second"[..], true));
            let image = open(&layout.reference("latest")).await.unwrap();
            let file = carve(&image, b"f", &plain().verify(true)).await.unwrap();
            assert_eq!((file.content.as_slice(), file.outcome.is_final), (&b"second"[..], true));
        });
    }
}

#[test]
fn a_large_file_that_is_replaced_later_in_its_layer_ends_in_an_error() {
    let (first, second) = (noise(LARGE), vec![b's'; LARGE]);
    for compression in ENCODINGS {
        let layout = layout(compression, [Tar::new().file("f", &first).file("f", &second)]);
        block_on(async {
            let image = open(&layout.reference("latest")).await.unwrap();
            match carve(&image, b"f", &plain()).await {
                Err(error) => {
                    assert_eq!(failure(&error), Failure::Corrupt, "{}", chain(&error));
                    assert_eq!(error.hint(), Some(&layerslayer::Hint::VerifyWholeLayer));
                }
                // Stopped before the second entry arrived.
                Ok(file) => assert!(file.content == first && !file.outcome.is_final),
            }
            let image = open(&layout.reference("latest")).await.unwrap();
            let file = carve(&image, b"f", &plain().verify(true)).await.unwrap();
            assert!(file.content == second && file.outcome.is_final);
        });
    }
}

#[test]
fn a_hard_link_to_an_earlier_entry_reads_its_content_again() {
    let large = noise(LARGE);
    for compression in ENCODINGS {
        let layout = layout(
            compression,
            [Tar::new()
                .file("small", "small")
                .file("large", &large)
                .hardlink("to-small", "small")
                .hardlink("to-large", "large")
                .symlink("link", "to-small")
                .file("rest", noise(LARGE))],
        );
        block_on(async {
            for (path, content) in
                [("to-small", &b"small"[..]), ("to-large", &large), ("link", b"small"), ("large", &large)]
            {
                let image = open(&layout.reference("latest")).await.unwrap();
                let file = carve(&image, path.as_bytes(), &plain()).await.unwrap();
                assert!(file.content == content, "{path} {compression:?}");
                assert_eq!(file.outcome.verification, Verification::None, "{path} {compression:?}");
                assert!(!file.outcome.is_final, "{path} {compression:?}");
                let file = carve(&image, path.as_bytes(), &plain().verify(true)).await.unwrap();
                assert!(file.content == content, "{path} {compression:?}");
                assert!(file.outcome.verification >= Verification::Span, "{path} {compression:?}");
                let file = carve(&image, path.as_bytes(), &plain().min_verification(Verification::Blob))
                    .await
                    .unwrap();
                assert!(file.content == content, "{path} {compression:?}");
                assert_eq!(file.outcome.verification, Verification::Blob, "{path} {compression:?}");
            }
        });
    }
}

#[test]
fn a_single_layer_behaves_like_an_image_of_its_own() {
    for compression in ENCODINGS {
        let layout = layout(
            compression,
            [
                Tar::new().directory("d").file("d/f", "old").file("gone", "gone").symlink("link", "d/f"),
                Tar::new().whiteout("gone").directory("d").file("d/f", "new").hardlink("hard", "gone"),
                Tar::new().opaque("d").symlink("to-f", "d/f"),
            ],
        );
        let ask = |path: &'static str, layer| {
            block_on(async {
                let image = open(&layout.reference("latest")).await.unwrap();
                match carve(&image, path.as_bytes(), &plain().layer(layer)).await {
                    Ok(file) => {
                        assert_eq!(file.layer, layer);
                        Ok(String::from_utf8(file.content).unwrap())
                    }
                    Err(error) => Err(failure(&error)),
                }
            })
        };
        assert_eq!(ask("d/f", 0), Ok("old".to_owned()));
        assert_eq!(ask("link", 0), Ok("old".to_owned()));
        assert_eq!(ask("gone", 0), Ok("gone".to_owned()));
        assert_eq!(ask("d/f", 1), Ok("new".to_owned()));
        assert_eq!(ask("link", 1), Err(Failure::NotFound));
        assert_eq!(ask("gone", 1), Err(Failure::Deleted));
        assert_eq!(ask("hard", 1), Err(Failure::NotFound));
        assert_eq!(ask("to-f", 2), Err(Failure::Deleted));
        assert_eq!(ask("d/f", 3), Err(Failure::Usage));
    }
}

#[test]
fn no_more_is_read_than_the_answer_needs() {
    let layout = layout(
        Compression::Gzip,
        [
            Tar::new().file("old", "old"),
            Tar::new().file("new", "new").whiteout("gone").opaque("hidden").symlink("link", "new"),
        ],
    );
    block_on(async {
        // The base is not even readable, and need not be.
        let image = open(&layout.reference("latest")).await.unwrap();
        let base = layout.blob_file(&image.layer(0).unwrap().digest().to_string());
        let length = std::fs::metadata(&base).unwrap().len();
        std::fs::write(&base, vec![b'!'; usize::try_from(length).unwrap()]).unwrap();
        for (path, proof) in [("new", Verification::Blob), ("link", Verification::Span)] {
            let file = carve(&image, path.as_bytes(), &plain()).await.unwrap();
            assert_eq!((file.content.as_slice(), file.outcome.verification), (&b"new"[..], proof));
        }
        for path in ["gone", "hidden/x", "gone/x"] {
            assert_eq!(failure(&image.carve(path).await.unwrap_err()), Failure::Deleted);
        }
        assert_ne!(failure(&image.carve("old").await.unwrap_err()), Failure::NotFound);
    });
}

#[test]
fn entries_beyond_an_early_answer_are_found_later() {
    for compression in ENCODINGS {
        let layout = layout(
            compression,
            [
                Tar::new().file("base", "base").file("noise", noise(LARGE)).file("base-end", "end"),
                Tar::new()
                    .file("first", "first")
                    .file("large", noise(LARGE))
                    .file("last", "last")
                    .whiteout("base-end")
                    .symlink("link", "base"),
            ],
        );
        block_on(async {
            let image = open(&layout.reference("latest")).await.unwrap();
            let mut answers = Vec::new();
            for path in ["first", "last", "link", "base", "base-end", "first", "nothing", "last"] {
                answers.push(match carve(&image, path.as_bytes(), &plain()).await {
                    Ok(file) => Ok((String::from_utf8(file.content).unwrap(), file.outcome.is_final)),
                    Err(error) => Err(failure(&error)),
                });
            }
            let found = |content: &str, is_final| Ok((content.to_owned(), is_final));
            assert_eq!(
                answers,
                [
                    found("first", false),
                    found("last", true),
                    found("base", false),
                    found("base", false),
                    Err(Failure::Deleted),
                    found("first", true),
                    Err(Failure::NotFound),
                    found("last", true),
                ]
            );
        });
    }
}

#[test]
fn a_file_that_is_dropped_in_mid_stream_leaves_the_image_usable() {
    let content = noise(LARGE);
    let layout = layout(Compression::Gzip, [Tar::new().file("large", &content).file("small", "small")]);
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let mut file = image.carve("large").await.unwrap();
        assert!(!file.next().await.unwrap().unwrap().is_empty());
        assert_eq!(file.outcome(), None);
        drop(file);
        drop(image.layer(0).unwrap().entries().next().await);
        assert_eq!(carve(&image, b"small", &plain()).await.unwrap().content, b"small");
        assert!(carve(&image, b"large", &plain()).await.unwrap().content == content);
    });
}

#[test]
fn one_image_answers_many_questions_at_once() {
    let large = noise(LARGE);
    let layout = layout(
        Compression::Zstd,
        [
            Tar::new().file("a", "a").file("large", &large).file("b", "b"),
            Tar::new().file("c", "c").whiteout("gone").hardlink("to-large", "large"),
        ],
    );
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let ask = |path: &'static str| {
            let image = image.clone();
            async move { carve(&image, path.as_bytes(), &plain()).await.map(|file| file.content) }
        };
        let answers = tokio::join!(ask("a"), ask("b"), ask("c"), ask("large"), ask("to-large"), ask("gone"));
        assert_eq!(
            (answers.0.unwrap(), answers.1.unwrap(), answers.2.unwrap()),
            (b"a".to_vec(), b"b".to_vec(), b"c".to_vec())
        );
        assert!(answers.3.unwrap() == large && answers.4.unwrap() == large);
        assert_eq!(failure(&answers.5.unwrap_err()), Failure::Deleted);
    });
}

#[test]
fn layers_below_the_answer_do_not_affect_its_verification() {
    let base = Tar::new().file("early", "early").file("noise", noise(LARGE)).file("late", "late");
    let layout = layout(Compression::Gzip, [base, Tar::new().file("top", "top")]);
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        let ask = async |path: &str, options: CarveOptions| {
            let mut file = image.carve_with(path, &options).await.unwrap();
            file.read_to_end(100).await.unwrap();
            file.outcome().unwrap().verification
        };
        assert_eq!(ask("early", CarveOptions::default().layer(0)).await, Verification::None);
        assert_eq!(ask("top", CarveOptions::default()).await, Verification::Blob);
        // The newest layer is read to its end by the first question, so the second knows what it
        // lacks.
        assert_eq!(ask("early", CarveOptions::default()).await, Verification::None);
        let found = image.collect(&Selection::paths(["top"]), &CarveOptions::default()).await.unwrap();
        assert_ne!(found.outcome().verification, Verification::None);
        let found =
            image.collect(&Selection::paths(["top", "early"]), &CarveOptions::default()).await.unwrap();
        assert_eq!(found.outcome().verification, Verification::None);
    });
}
