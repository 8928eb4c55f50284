//! A simple model of what layers make: each is extracted into a map of paths, the maps are laid over each
//! other one by one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::tar::entry::{Entry, EntryKind};

/// Components of a path.
pub(super) type Path = Vec<String>;

/// Layer and number of an entry in it.
pub(super) type Id = (usize, usize);

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Node {
    /// With the entry that describes it, if any.
    Directory(Option<Id>),
    /// A hard link to nothing.
    Dangling,
    File(Id),
    /// A hard link to what was not there when it was made.
    Later(Path),
    Symlink(Id, String),
}

pub(super) type Tree = BTreeMap<Path, Node>;

/// One layer by itself.
#[derive(Default)]
struct Upper {
    tree: Tree,
    whiteouts: BTreeSet<Path>,
    opaque: BTreeSet<Path>,
}

/// The root file system of layers, base first.
pub(super) fn rootfs(layers: &[Vec<Entry>]) -> Tree {
    let mut tree = Tree::from([(Path::new(), Node::Directory(None))]);
    for (layer, entries) in layers.iter().enumerate() {
        tree = lay_over(&tree, extract(layer, entries));
    }
    tree
}

/// Looks a path up as a kernel would: the node and its path.
pub(super) fn lookup<'t>(tree: &'t Tree, path: &str, follow_last: bool) -> Option<(Path, &'t Node)> {
    let mut rest: VecDeque<String> = split(path).into();
    let mut must_be_directory = ends_as_directory(path);
    let (mut here, mut links) = (Path::new(), 0);
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            here.pop();
            continue;
        }
        let next = child(&here, &name);
        match tree.get(&next)? {
            Node::Symlink(_, target) if !rest.is_empty() || follow_last || must_be_directory => {
                links += 1;
                if links > 40 || target.is_empty() {
                    return None;
                }
                must_be_directory |= rest.is_empty() && ends_as_directory(target);
                if target.starts_with('/') {
                    here.clear();
                }
                for name in split(target).into_iter().rev() {
                    rest.push_front(name);
                }
            }
            Node::Directory(_) => here = next,
            node if rest.is_empty() && !must_be_directory => return Some((next, node)),
            _ => return None,
        }
    }
    Some((here.clone(), tree.get(&here)?))
}

fn extract(layer: usize, entries: &[Entry]) -> Upper {
    let mut upper = Upper::default();
    for (number, entry) in entries.iter().enumerate() {
        let (id, path) = ((layer, number), String::from_utf8(entry.path.clone()).unwrap());
        let link = String::from_utf8(entry.link.clone()).unwrap();
        let mut components = split(&path);
        if entry.kind == EntryKind::Opaque {
            let directory = upper.make_directories(&components);
            upper.opaque.insert(directory);
            continue;
        }
        let Some(name) = components.pop() else {
            if entry.kind == EntryKind::Directory {
                upper.tree.insert(Path::new(), Node::Directory(Some(id)));
            }
            continue;
        };
        let node = match entry.kind {
            EntryKind::Directory => Node::Directory(Some(id)),
            EntryKind::Hardlink => upper.target(&split(&link)).unwrap_or(Node::Later(split(&link))),
            EntryKind::Symlink => Node::Symlink(id, link),
            _ => Node::File(id),
        };
        let path = child(&upper.make_directories(&components), &name);
        if entry.kind == EntryKind::Whiteout {
            upper.whiteouts.insert(path);
            continue;
        }
        let merges = matches!((&node, upper.tree.get(&path)), (Node::Directory(_), Some(Node::Directory(_))));
        if !merges {
            upper.remove(&path);
        }
        upper.tree.insert(path, node);
    }
    upper
}

impl Upper {
    /// Where a path of directories leads; what is missing, no directory or a loop is taken by its name.
    fn canonical(&self, path: &[String]) -> Path {
        let (mut here, mut links) = (Path::new(), 0);
        for name in path {
            here = self.step(here.clone(), name, &mut links).unwrap_or_else(|| child(&here, name));
        }
        here
    }

    fn step(&self, mut here: Path, name: &str, links: &mut usize) -> Option<Path> {
        if name == ".." {
            here.pop();
            return Some(here);
        }
        let next = child(&here, name);
        let Some(Node::Symlink(_, target)) = self.tree.get(&next) else { return Some(next) };
        if *links == 40 {
            return None;
        }
        *links += 1;
        if target.starts_with('/') {
            here.clear();
        }
        split(target).iter().try_fold(here, |here, name| self.step(here, name, links))
    }

    fn make_directories(&mut self, path: &[String]) -> Path {
        let path = self.canonical(path);
        for length in 0..=path.len() {
            let prefix = path[..length].to_vec();
            if !matches!(self.tree.get(&prefix), Some(Node::Directory(_))) {
                self.remove(&prefix);
                self.tree.insert(prefix, Node::Directory(None));
            }
        }
        path
    }

    fn remove(&mut self, path: &Path) {
        self.tree.retain(|other, _| !other.starts_with(path));
        self.opaque.retain(|other| !other.starts_with(path));
        self.whiteouts.retain(|other| other == path || !other.starts_with(path));
    }

    /// What a hard link to this path is another name of.
    fn target(&self, path: &[String]) -> Option<Node> {
        let (name, parent) = path.split_last()?;
        let node = self.tree.get(&child(&self.canonical(parent), name))?;
        (!matches!(node, Node::Directory(_))).then(|| node.clone())
    }

    fn hides(&self, path: &Path) -> bool {
        (0..=path.len()).any(|length| {
            let prefix = path[..length].to_vec();
            let above = length < path.len();
            let replaced = self.tree.get(&prefix).is_some_and(|node| !matches!(node, Node::Directory(_)));
            self.whiteouts.contains(&prefix) || above && self.opaque.contains(&prefix) || replaced
        })
    }

    fn settle(&self, lower: &Tree, node: &Node, hops: usize) -> Node {
        let Node::Later(path) = node else { return node.clone() };
        match lookup(lower, &path.join("/"), false) {
            Some((_, found)) if !matches!(found, Node::Directory(_) | Node::Dangling) => {
                return found.clone();
            }
            _ => {}
        }
        match self.target(path) {
            Some(later) if hops < 40 => self.settle(lower, &later, hops + 1),
            _ => Node::Dangling,
        }
    }
}

fn lay_over(lower: &Tree, upper: Upper) -> Tree {
    let mut tree: Tree = lower
        .iter()
        .filter(|(path, _)| !upper.hides(path))
        .map(|(path, node)| (path.clone(), node.clone()))
        .collect();
    for (path, node) in &upper.tree {
        let node = upper.settle(lower, node, 0);
        match (&node, tree.get(path)) {
            (Node::Directory(None), Some(Node::Directory(_))) => continue,
            (Node::Directory(_), Some(Node::Directory(_))) => {}
            _ => tree.retain(|other, _| !other.starts_with(path)),
        }
        tree.insert(path.clone(), node);
    }
    tree
}

pub(super) fn split(path: &str) -> Path {
    path.split('/').filter(|name| !matches!(*name, "" | ".")).map(String::from).collect()
}

fn child(path: &Path, name: &str) -> Path {
    let mut path = path.clone();
    path.push(name.into());
    path
}

fn ends_as_directory(path: &str) -> bool {
    matches!(path.rsplit('/').next(), Some("" | "." | ".."))
}
