//! Generated stacks of layers: what the program lists and carves, compared with what umoci unpacks.
//!
//! Left out, because umoci differs from overlayfs or fails there (`docs/semantics.md`, "Where
//! others differ"): entries and markers below a link or a file of an older layer, unless this layer
//! creates a directory there first; markers in directories that no layer has; two entries of one
//! name in one layer; hard links forward and to targets that their own layer hides.

use std::collections::BTreeSet;

use proptest::{
    collection::vec,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::support::{
    images::{
        Compression, Image, Layer, Layout,
        oracle::{self, Kind},
    },
    inspect::{Failure, block_on, carve, chain, compare, failure, open},
};

mod layers;

use self::layers::{Builder, Step, View, step};

const CASES: u32 = 100;

fn check(stack: &[Vec<Step>]) {
    let (mut view, mut image, mut paths) = (View::new(), Image::new(), BTreeSet::new());
    for steps in stack {
        let layer = Builder::new(&view, steps);
        image = image.layer(Layer::new(&layer.tar().finish(), Compression::None));
        view = layer.view();
        paths.extend(steps.iter().map(|step| step.path.clone()));
        paths.extend(steps.iter().map(|step| format!("{}/../a/b", step.path)));
    }
    let layout = Layout::of(&image);
    let unpacked = oracle::unpack(layout.path(), "latest");
    let names: Vec<&str> = unpacked.keys().map(|path| std::str::from_utf8(path).unwrap()).collect();
    assert!(view.keys().eq(&names), "umoci unpacks {names:?}, the model has {view:#?}");
    block_on(async {
        let image = open(&layout.reference("latest")).await.unwrap();
        for path in paths.iter().chain(view.keys()) {
            let expected = oracle::follow(&unpacked, path.as_bytes());
            match carve(&image, path.as_bytes(), &Default::default()).await {
                Ok(file) => {
                    let digest = Some(layerslayer::Digest::sha256(&file.content));
                    assert_eq!(expected.map(|expected| expected.digest.clone()), Some(digest), "{path}");
                }
                Err(error) if failure(&error) == Failure::WrongKind => {
                    assert_eq!(expected.map(|expected| expected.kind), Some(Kind::Directory), "{path}");
                }
                Err(error) => assert_eq!(expected, None, "{path}: {}", chain(&error)),
            }
        }
        assert_eq!(compare(&image, &unpacked).await, Ok(()));
    });
}

#[test]
fn stacks_of_layers_show_what_umoci_unpacks() {
    let config =
        Config { cases: CASES, failure_persistence: None, max_shrink_iters: 150, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let stacks = vec(vec(step(), 0..8), 1..5);
    runner
        .run(&stacks, |stack| {
            check(&stack);
            Ok(())
        })
        .unwrap();
}
