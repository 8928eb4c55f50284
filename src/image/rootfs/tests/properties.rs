//! Generated stacks of layers: the answers and the listing against the model, and against themselves with
//! layers cut short.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    super::*,
    model::{self, Node as Model, Tree},
};
use crate::{
    tar::entry::Entry,
    toc::entries::{
        EntryTree,
        sample::{dir, file, hard, incomplete, layer, opaque, soft, whiteout},
    },
};

const NAMES: [&str; 3] = ["a", "b", "c"];

fn path() -> impl Strategy<Value = String> {
    vec(select(&NAMES[..]), 1..4).prop_map(|names| names.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    (select(&["", "", "/", "../", "../../", "./"][..]), path(), select(&["", "", "", "/", "/.."][..]))
        .prop_map(|(before, path, after)| format!("{before}{path}{after}"))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        3 => path().prop_map(dir),
        6 => path().prop_map(file),
        4 => (path(), target()).prop_map(|(path, target)| soft(path, target)),
        3 => (path(), path()).prop_map(|(path, target)| hard(path, target)),
        3 => path().prop_map(whiteout),
        2 => path().prop_map(opaque),
        1 => select(vec![dir(""), opaque("")]),
    ]
}

fn layers() -> impl Strategy<Value = Vec<Vec<Entry>>> {
    vec(vec(any_entry(), 0..8), 0..5)
}

/// Every path of names up to three deep, some with `..` or a slash.
fn questions() -> Vec<String> {
    let mut paths = vec![String::new()];
    for depth in 0..3 {
        let longest: Vec<String> =
            paths.iter().filter(|path| model::split(path).len() == depth).cloned().collect();
        for path in longest {
            paths.extend(NAMES.map(|name| format!("{path}/{name}")));
        }
    }
    let more: Vec<String> =
        paths.iter().flat_map(|path| [format!("{path}/"), format!("{path}/../b")]).collect();
    paths.extend(more);
    paths
}

fn ask(layers: &[EntryTree], path: &str) -> Resolution {
    Stack::new(layers).resolve(path.as_bytes(), Options::default()).0
}

fn id(layers: &[EntryTree], layer: usize, record: u32) -> model::Id {
    (layer, (layers[layer].header_offset(record).0 / 1024) as usize)
}

/// What was found, in the model's terms. Of a directory only that it is one: the listing knows who describes
/// it.
fn found(layers: &[EntryTree], content: Content) -> Model {
    let Content { layer, record } = content;
    match layers[layer].kind(record) {
        EntryKind::Directory => Model::Directory(None),
        EntryKind::Symlink => {
            let link = String::from_utf8(layers[layer].link(record).to_vec()).unwrap();
            Model::Symlink(id(layers, layer, record), link)
        }
        _ => Model::File(id(layers, layer, record)),
    }
}

fn check_answers(layers: &[EntryTree], tree: &Tree) {
    let stack = Stack::new(layers);
    for (last, path) in [Last::Follow, Last::Keep]
        .into_iter()
        .flat_map(|last| questions().into_iter().map(move |q| (last, q)))
    {
        let (resolution, trace) = stack.resolve(path.as_bytes(), Options { last, ..Options::default() });
        let expected = model::lookup(tree, &path, last == Last::Follow)
            .filter(|(_, node)| !layers.is_empty() && **node != Model::Dangling);
        let context = format!("{path:?} {last:?}: {resolution:?} {trace:?}");
        match (&resolution, expected) {
            (Resolution::Found { path, content, certain, .. }, Some((physical, node))) => {
                let node = if matches!(node, Model::Directory(_)) { &Model::Directory(None) } else { node };
                assert_eq!(&found(layers, *content), node, "{context}");
                assert_eq!(path, physical.join("/").as_bytes(), "{context}");
                assert!(certain, "{context}");
            }
            (Resolution::Deleted { .. } | Resolution::Loop | Resolution::Missing, None) => {}
            (_, expected) => panic!("{context}, expected {expected:?}"),
        }
    }
}

fn check_listing(layers: &[EntryTree], tree: &Tree) {
    let list = |nodes: Merged<'_, '_>| -> Vec<(String, Model)> {
        nodes
            .map(|node| {
                let described = (!node.implied).then(|| id(layers, node.layer, node.record));
                let model = match (node.kind, node.content) {
                    (EntryKind::Directory, _) => Model::Directory(described),
                    (_, Some(content)) => found(layers, content),
                    (_, None) => Model::Dangling,
                };
                (String::from_utf8(node.path).unwrap(), model)
            })
            .collect()
    };
    let expected = |below: &[String]| -> Vec<(String, Model)> {
        tree.iter()
            .filter(|(path, _)| path.starts_with(below))
            .map(|(path, node)| (path.join("/"), node.clone()))
            .collect()
    };
    let stack = Stack::new(layers);
    let mut all = expected(&[]);
    all.retain(|(path, node)| !path.is_empty() || *node != Model::Directory(None));
    assert_eq!(list(stack.merged()), all);
    for path in tree.keys().filter(|path| !path.is_empty()) {
        assert_eq!(list(stack.subtree(path.join("/").as_bytes())), expected(path), "below {path:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_and_listings_are_those_of_the_model(layers in layers()) {
        let tree = model::rootfs(&layers);
        let tables: Vec<EntryTree> = layers.iter().cloned().map(layer).collect();
        check_answers(&tables, &tree);
        check_listing(&tables, &tree);
    }

    #[test]
    fn what_is_certain_of_layers_cut_short_stays_so(
        layers in layers(),
        mut lengths in vec(proptest::option::of(0..8_usize), 5),
        first in 0..120_usize,
    ) {
        let whole: Vec<EntryTree> = layers.iter().cloned().map(layer).collect();
        let read = |layer: usize, length: Option<usize>| match length {
            Some(length) => incomplete(layers[layer].iter().take(length).cloned()),
            None => self::layer(layers[layer].iter().cloned()),
        };
        let mut parts: Vec<EntryTree> = (0..layers.len()).map(|layer| read(layer, lengths[layer])).collect();
        let questions = questions();
        for path in questions.iter().cycle().skip(first).take(questions.len()) {
            loop {
                match ask(&parts, path) {
                    Resolution::NeedMore { layer } => {
                        // Reading on in the layer it names must lead to an answer.
                        let Some(length) = lengths[layer] else { panic!("{path:?}: {layer} is complete") };
                        lengths[layer] = (length < layers[layer].len()).then_some(length + 1);
                        parts[layer] = read(layer, lengths[layer]);
                    }
                    Resolution::Found { certain: false, .. } => {
                        prop_assert!(lengths.iter().any(Option::is_some));
                        break;
                    }
                    certain => {
                        prop_assert_eq!(certain, ask(&whole, path), "{:?} with {:?}", path, lengths);
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn what_older_layers_hold_matters_unless_it_is_deleted(mut layers in layers()) {
        // With links a path may lead elsewhere in what is put below.
        layers.iter_mut().flatten().filter(|entry| !entry.link.is_empty()).for_each(|entry| {
            entry.kind = EntryKind::File;
        });
        let mut deepest = questions();
        deepest.retain(|path| path.matches('/').count() == 3 && !path.contains("..") && !path.ends_with('/'));
        let everything = layer(deepest.iter().map(|path| file(&path[1..])));
        let tables: Vec<EntryTree> = layers.into_iter().map(layer).collect();
        for path in &deepest {
            // The layers from `from` on, with everything in place of those below, or below the base.
            let below = |from: usize| {
                Stack::new([&everything; 5].into_iter().take(from.max(1)).chain(&tables[from..]))
            };
            let ask = |stack: Stack<'_>| stack.resolve(path.as_bytes(), Options::default()).0;
            match ask(Stack::new(&tables)) {
                Resolution::Deleted { layer } => {
                    prop_assert_eq!(ask(below(layer)), Resolution::Deleted { layer }, "{}", path);
                }
                Resolution::Missing => {
                    let answer = ask(below(0));
                    let expected = Resolution::Deleted { layer: 1 };
                    let found = matches!(answer, Resolution::Found { layer: 0, .. });
                    prop_assert!(found || answer == expected, "{}", path);
                }
                answer => prop_assert!(matches!(answer, Resolution::Found { .. }), "{}", path),
            }
        }
    }
}
