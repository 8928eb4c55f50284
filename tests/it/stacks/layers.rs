//! Layers made of random steps, without those that unpacking programs disagree about.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};

use crate::support::images::{Member, Tar};

/// What a step attempts at a path.
#[derive(Clone, Debug)]
enum Action {
    Directory,
    File(String),
    Hardlink(String),
    Opaque,
    Symlink(String),
    Whiteout,
}

/// One attempt to add something to a layer.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) path: String,
    action: Action,
    /// Whether parents get entries of their own.
    explicit: bool,
    mode: u32,
    owner: u64,
    /// The position of the entry in the tar.
    order: u16,
}

/// What is at a path.
#[derive(Clone, Debug)]
pub(super) struct Node {
    body: Body,
    mode: u32,
    owner: u64,
    order: u16,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Body {
    Directory,
    File(String),
    Hardlink(String),
    /// A directory without an entry.
    Implied,
    Symlink(String),
}

impl Body {
    fn is_directory(&self) -> bool {
        matches!(self, Self::Directory | Self::Implied)
    }
}

/// A file system, by path.
pub(super) type View = BTreeMap<String, Node>;

fn path() -> impl Strategy<Value = String> {
    vec(select(vec!["a", "b", "c", "d e"]), 1..=3).prop_map(|names| names.join("/"))
}

fn target() -> impl Strategy<Value = String> {
    (select(vec!["", "/", "../", "../../", "./"]), path()).prop_map(|(start, path)| format!("{start}{path}"))
}

/// Any step.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let action = prop_oneof![
        3 => "[a-z]{0,8}".prop_map(Action::File),
        2 => Just(Action::Directory),
        2 => target().prop_map(Action::Symlink),
        2 => path().prop_map(Action::Hardlink),
        2 => Just(Action::Whiteout),
        1 => Just(Action::Opaque),
    ];
    let attributes = (any::<bool>(), select(vec![0o755, 0o700, 0o1777, 0o640]), 0..3_u64, any::<u16>());
    (path(), action, attributes).prop_map(|(path, action, (explicit, mode, owner, order))| Step {
        path,
        action,
        explicit,
        mode,
        owner,
        order,
    })
}

fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| root.is_empty() || rest.starts_with('/'))
}

/// A layer above `older`, made of those steps that all programs agree about.
pub(super) struct Builder<'a> {
    older: &'a View,
    entries: View,
    whiteouts: BTreeMap<String, u16>,
    opaque: BTreeMap<String, u16>,
}

impl<'a> Builder<'a> {
    /// The layer of all steps that can be applied.
    pub(super) fn new(older: &'a View, steps: &[Step]) -> Self {
        let mut layer =
            Self { older, entries: View::new(), whiteouts: BTreeMap::new(), opaque: BTreeMap::new() };
        let (links, others): (Vec<_>, Vec<_>) =
            steps.iter().partition(|step| matches!(step.action, Action::Hardlink(_)));
        // Last, because the possible targets of a hard link depend on everything else.
        for step in others.into_iter().chain(links) {
            layer.add(step);
        }
        layer
    }

    fn add(&mut self, step: &Step) {
        let blocked = |path| self.entries.get(path).is_some_and(|node: &Node| !node.body.is_directory());
        if parents(&step.path).any(blocked) {
            return;
        }
        let path = step.path.clone();
        let body = match &step.action {
            Action::Directory => Body::Directory,
            Action::File(content) => Body::File(content.clone()),
            Action::Symlink(target) => Body::Symlink(target.clone()),
            Action::Hardlink(target) => {
                self.hardlink(step, target);
                return;
            }
            Action::Whiteout | Action::Opaque => {
                self.mark(step);
                return;
            }
        };
        match self.entries.get(&path) {
            Some(node) if node.body != Body::Implied || body != Body::Directory => return,
            _ => {}
        }
        self.insert(step, Node { body, mode: step.mode, owner: step.owner, order: step.order });
    }

    fn insert(&mut self, step: &Step, node: Node) {
        for parent in parents(&step.path) {
            let in_the_way = self.older.get(parent).is_some_and(|node| !node.body.is_directory());
            let body = if step.explicit || in_the_way { Body::Directory } else { Body::Implied };
            let node = Node { body, mode: step.mode, owner: step.owner, order: step.order };
            let before = self.entries.entry(parent.to_owned()).or_insert_with(|| node.clone());
            if before.body == Body::Implied && node.body == Body::Directory {
                *before = node;
            }
        }
        self.entries.insert(step.path.clone(), node);
    }

    fn hardlink(&mut self, step: &Step, target: &str) {
        let hides = |path: &str| {
            self.older.get(path).is_some_and(|node| !node.body.is_directory())
                && !self.entries.contains_key(path)
        };
        // A parent created over an older file could hide the target of another hard link.
        if self.entries.contains_key(&step.path) || target == step.path || parents(&step.path).any(hides) {
            return;
        }
        let node = match (self.entries.get(target), self.older.get(target)) {
            (Some(node), _) if !node.body.is_directory() => {
                Node { order: node.order.saturating_add(1), ..node.clone() }
            }
            (None, Some(node)) if !node.body.is_directory() && !self.hides(target) => {
                Node { order: step.order, ..node.clone() }
            }
            _ => return,
        };
        self.insert(step, Node { body: Body::Hardlink(target.to_owned()), ..node });
    }

    /// Whether any entry of this layer hides what older layers have at a path.
    fn hides(&self, path: &str) -> bool {
        let whiteout = parents(path).chain([path]).any(|path| self.whiteouts.contains_key(path));
        let opaque = parents(path).chain([""]).any(|path| self.opaque.contains_key(path));
        let replaced =
            parents(path).any(|path| self.entries.get(path).is_some_and(|node| !node.body.is_directory()));
        whiteout || opaque || replaced
    }

    fn mark(&mut self, step: &Step) {
        let is_opaque = matches!(step.action, Action::Opaque);
        let directory = if is_opaque { step.path.as_str() } else { parent(&step.path) };
        let is_directory =
            |view: &View, path: &str| view.get(path).is_some_and(|node| node.body.is_directory());
        let there = directory.is_empty() || is_directory(self.older, directory);
        let blocked = self.entries.get(directory).is_some_and(|node| !node.body.is_directory());
        let marks = || self.whiteouts.keys().chain(self.opaque.keys());
        // A marker inside what another marker removes would be in a directory that no layer has.
        let nested =
            marks().any(|other| below(other, &step.path) || below(&step.path, other) || *other == step.path);
        if !there || blocked || nested {
            return;
        }
        for path in parents(directory).chain([directory]).filter(|path| !path.is_empty()) {
            let implied = Node { body: Body::Implied, mode: 0, owner: 0, order: 0 };
            self.entries.entry(path.to_owned()).or_insert(implied);
        }
        let marks = if is_opaque { &mut self.opaque } else { &mut self.whiteouts };
        marks.insert(step.path.clone(), step.order);
    }

    /// Its archive.
    pub(super) fn tar(&self) -> Tar {
        let mut members: Vec<((u16, usize), Member)> = Vec::new();
        for (path, node) in &self.entries {
            let member = match &node.body {
                Body::Directory => Member::directory(path),
                Body::File(content) => Member::file(path, content),
                Body::Hardlink(target) => Member::hardlink(path, target),
                Body::Implied => continue,
                Body::Symlink(target) => Member::symlink(path, target),
            };
            let place = match node.body {
                // Before its children.
                Body::Directory => (0, path.matches('/').count()),
                // In the order of creation, after their possible link targets.
                Body::Hardlink(_) => (node.order.max(1), 1 + members.len()),
                _ => (node.order.clamp(1, u16::MAX - 64), 0),
            };
            members.push((place, member.mode(node.mode).owner(node.owner, node.owner)));
        }
        for (path, order) in &self.whiteouts {
            let (parent, name) = path.rsplit_once('/').map_or(("", path.as_str()), |split| split);
            let slash = if parent.is_empty() { "" } else { "/" };
            members.push(((*order, 0), Member::file(format!("{parent}{slash}.wh.{name}"), "")));
        }
        for (path, order) in &self.opaque {
            members.push(((*order, 0), Member::file(format!("{path}/.wh..wh..opq"), "")));
        }
        members.sort_by_key(|(place, _)| *place);
        members.into_iter().fold(Tar::new(), |tar, (_, member)| tar.member(member))
    }

    /// Applies the layer to the older view.
    pub(super) fn view(&self) -> View {
        let hidden = |path: &str| {
            let marked = parents(path).chain([path]).any(|path| self.whiteouts.contains_key(path))
                || parents(path).any(|path| self.opaque.contains_key(path));
            let replaced = parents(path)
                .any(|path| self.entries.get(path).is_some_and(|node| !node.body.is_directory()));
            marked || replaced
        };
        let mut view: View = self
            .older
            .iter()
            .filter(|(path, _)| !hidden(path))
            .map(|(path, node)| (path.clone(), node.clone()))
            .collect();
        for (path, node) in &self.entries {
            match (&node.body, view.get(path)) {
                (Body::Implied, Some(before)) if before.body.is_directory() => {}
                (Body::Hardlink(target), _) => {
                    let mut target = target;
                    while let Some(Node { body: Body::Hardlink(next), .. }) = self.entries.get(target) {
                        target = next;
                    }
                    let node = self.entries.get(target).or_else(|| self.older.get(target)).unwrap();
                    view.insert(path.clone(), node.clone());
                }
                _ => {
                    view.insert(path.clone(), node.clone());
                }
            }
        }
        view
    }
}
