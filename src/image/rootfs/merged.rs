//! The merged listing: all layers at once, in one walk down the sorted trees. Memory grows with the depth,
//! not with the entries.

use super::{Content, Stack, resolve};
use crate::{
    tar::{entry::EntryKind, whiteout},
    toc::entries::{EntryTree, ROOT, components},
};

/// One entry of the merged view.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Node {
    /// Path from the root.
    pub(crate) path: Vec<u8>,
    /// The layer that the entry comes from. Of a directory in several layers the newest that has an entry of
    /// its own for it.
    pub(crate) layer: usize,
    /// The record in that layer's table.
    pub(crate) record: u32,
    /// The kind; a hard link counts as what it links to, and stays `Hardlink` if that is nothing.
    pub(crate) kind: EntryKind,
    /// Where the bytes lie; `None` for a hard link to nothing.
    pub(crate) content: Option<Content>,
    /// A directory for which no layer has an entry of its own.
    pub(crate) implied: bool,
    /// A directory, made only by the entries below it, that hides an older layer's symbolic link: runtimes
    /// disagree.
    pub(crate) hides_symlink: bool,
}

/// The directories that make one directory of the merged view, newest layer first.
type Directories = Vec<(usize, u32)>;

/// The merged view, parents before what is below them, siblings by the bytes of their names.
#[derive(Debug)]
pub(crate) struct Merged<'s, 'a> {
    stack: &'s Stack<'a>,
    /// Path of the innermost open directory.
    path: Vec<u8>,
    open: Vec<Open<'a>>,
    /// The entry that the walk begins with.
    first: Option<Node>,
}

/// A directory whose children are being listed.
#[derive(Debug)]
struct Open<'a> {
    lists: Vec<List<'a>>,
    /// How long the path of the directory around it is.
    outer: usize,
}

/// What one layer still has in the directory.
#[derive(Debug)]
struct List<'a> {
    layer: usize,
    table: &'a EntryTree,
    rest: &'a [u32],
}

/// What a name stands for.
struct Decision {
    layer: usize,
    record: u32,
    directories: Directories,
    hides_symlink: bool,
}

impl<'s, 'a> Merged<'s, 'a> {
    /// Everything; the root itself only if it has an entry of its own.
    pub(super) fn new(stack: &'s Stack<'a>) -> Self {
        let mut merged = Self { stack, path: Vec::new(), open: Vec::new(), first: None };
        let Some(root) = decide(stack, stack.roots()) else { return merged };
        merged.first = Some(merged.node(&root)).filter(|node| !node.implied);
        merged.enter(root.directories, 0);
        merged
    }

    /// What lies at a path without symbolic links, and below it.
    pub(super) fn below(stack: &'s Stack<'a>, path: &[u8]) -> Self {
        let mut merged = Self { stack, path: Vec::new(), open: Vec::new(), first: None };
        let Some(mut decision) = decide(stack, stack.roots()) else { return merged };
        for name in components(path) {
            merged.descend(name);
            let named = decision.directories.iter().filter_map(|(layer, directory)| {
                let table = stack.layer(*layer)?;
                Some((*layer, table.child(*directory, name), table.whiteout(*directory, name)))
            });
            let Some(next) = decide(stack, named) else { return merged };
            decision = next;
        }
        merged.first = Some(merged.node(&decision));
        merged.enter(decision.directories, 0);
        merged
    }

    fn descend(&mut self, name: &[u8]) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    fn enter(&mut self, directories: Directories, outer: usize) {
        let lists = directories.into_iter().filter_map(|(layer, record)| {
            let table = self.stack.layer(layer)?;
            Some(List { layer, table, rest: table.children(record) })
        });
        self.open.push(Open { lists: lists.collect(), outer });
    }

    fn node(&self, decision: &Decision) -> Node {
        let content = resolve::content(self.stack, decision.layer, decision.record);
        Node {
            path: self.path.clone(),
            layer: decision.layer,
            record: decision.record,
            kind: content.map_or(EntryKind::Hardlink, |content| self.stack.kind(content)),
            content,
            implied: self.stack.layer(decision.layer).is_some_and(|table| table.is_implied(decision.record)),
            hides_symlink: decision.hides_symlink,
        }
    }
}

impl Iterator for Merged<'_, '_> {
    type Item = Node;

    fn next(&mut self) -> Option<Node> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let open = self.open.last_mut()?;
            let Some(name) = open.lists.iter().filter_map(List::name).min() else {
                self.path.truncate(open.outer);
                self.open.pop();
                continue;
            };
            let named: Vec<_> = open.lists.iter_mut().filter_map(|list| list.take(name)).collect();
            if self.path.is_empty() && whiteout::is_metadata(name) {
                continue;
            }
            let Some(decision) = decide(self.stack, named) else { continue };
            let outer = self.path.len();
            self.descend(name);
            let node = self.node(&decision);
            if decision.directories.is_empty() {
                self.path.truncate(outer);
            } else {
                self.enter(decision.directories, outer);
            }
            return Some(node);
        }
    }
}

impl<'a> List<'a> {
    fn name(&self) -> Option<&'a [u8]> {
        self.rest.first().map(|record| self.table.name(*record))
    }

    /// What the layer has of that name, entry and whiteout.
    fn take(&mut self, name: &[u8]) -> Option<(usize, Option<u32>, bool)> {
        let (mut entry, mut whiteout) = (None, false);
        while self.name() == Some(name) {
            let (record, rest) = self.rest.split_first()?;
            self.rest = rest;
            match self.table.kind(*record) {
                EntryKind::Whiteout => whiteout = true,
                _ => entry = Some(*record),
            }
        }
        (entry.is_some() || whiteout).then_some((self.layer, entry, whiteout))
    }
}

impl Stack<'_> {
    fn roots(&self) -> impl Iterator<Item = (usize, Option<u32>, bool)> {
        (0..self.layers.len()).rev().map(|layer| (layer, Some(ROOT), false))
    }
}

/// What a name stands for, given what each layer has of it, newest first: the entry if any, and whether there
/// is a whiteout.
fn decide(
    stack: &Stack<'_>,
    named: impl IntoIterator<Item = (usize, Option<u32>, bool)>,
) -> Option<Decision> {
    let mut found: Option<Decision> = None;
    // An opaque directory takes no entries from older layers, but its own mode and owner if it has none
    // itself.
    let mut opaque = false;
    for (layer, record, whiteout) in named {
        let Some(table) = stack.layer(layer) else { break };
        if let Some(record) = record {
            let is_directory = table.kind(record) == EntryKind::Directory;
            let decision = found.get_or_insert_with(|| Decision {
                layer,
                record,
                directories: Vec::new(),
                hides_symlink: false,
            });
            let implied = stack.layer(decision.layer).is_some_and(|newer| newer.is_implied(decision.record));
            if !is_directory {
                if implied {
                    let kind = resolve::content(stack, layer, record).map(|content| stack.kind(content));
                    decision.hides_symlink = kind == Some(EntryKind::Symlink);
                }
                break;
            }
            if implied && !table.is_implied(record) {
                (decision.layer, decision.record) = (layer, record);
            }
            if !opaque {
                decision.directories.push((layer, record));
            }
            opaque |= table.is_opaque(record);
        }
        let described = found
            .as_ref()
            .and_then(|decision| Some(!stack.layer(decision.layer)?.is_implied(decision.record)))
            .unwrap_or(false);
        if whiteout || opaque && described {
            break;
        }
    }
    found
}
