//! What a selection matches, once enough of the layers is known: items, parents first, without their content.

use std::collections::HashMap;

use super::{
    CarveOptions,
    answer::Located,
    candidates,
    collection::Item,
    selection::{Selection, SelectionKind},
};
use crate::{
    error::Error,
    image::{
        Image,
        rootfs::{Content, Node, Stack},
    },
    tar::{
        self,
        entry::{Entry, EntryKind},
    },
};

/// Items while they are being listed.
pub(super) struct Listing {
    pub(super) items: Vec<(Item, Option<Content>)>,
    pub(super) failures: Vec<(Vec<u8>, Error)>,
    pub(super) traces: Vec<(usize, Vec<String>)>,
    first_names: HashMap<Content, Vec<u8>>,
    pub(super) certain: bool,
    /// The oldest layer that any of them depends on.
    pub(super) oldest: Option<usize>,
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            failures: Vec::new(),
            traces: Vec::new(),
            first_names: HashMap::new(),
            certain: true,
            oldest: None,
        }
    }
}

impl Listing {
    fn depends_on(&mut self, oldest: Option<usize>) {
        self.oldest = self.oldest.into_iter().chain(oldest).min();
    }

    fn push(
        &mut self,
        entry: Entry,
        layer: usize,
        content: Option<Content>,
        path: Vec<u8>,
        requested: usize,
    ) {
        let mut hardlink_to = None;
        if let (EntryKind::File, Some(content)) = (entry.kind, content) {
            hardlink_to = self.first_names.get(&content).cloned();
            self.first_names.entry(content).or_insert_with(|| path.clone());
        }
        let item = Item { path, entry, layer, hardlink_to, requested, range: 0..0 };
        self.items.push((item, content));
    }
}

/// A stack that may be one layer of a larger one.
struct View<'s, 'a> {
    stack: &'s Stack<'a>,
    first: usize,
}

impl View<'_, '_> {
    fn push(&self, listing: &mut Listing, node: &Node, path: Vec<u8>, requested: usize) {
        let place = node.content.unwrap_or(Content { layer: node.layer, record: node.record });
        let Some(tree) = self.stack.layer(place.layer) else { return };
        let entry = Entry { path: node.path.clone(), ..tree.entry(place.record) };
        let content = node.content.map(|content| Content { layer: content.layer + self.first, ..content });
        listing.push(entry, node.layer + self.first, content, path, requested);
    }
}

impl Image {
    /// Lists what the selection matches in what is known of all layers.
    pub(super) fn list(
        &self,
        stack: &Stack<'_>,
        selection: &Selection,
        options: CarveOptions,
        listing: &mut Listing,
    ) -> Result<(), Error> {
        // One layer alone is a stack of one.
        let only = options.layer.and_then(|layer| stack.layer(layer)).map(|tree| Stack::new([tree]));
        let view = View { stack: only.as_ref().unwrap_or(stack), first: options.layer.unwrap_or(0) };
        match &selection.kind {
            SelectionKind::Globs(globs) => {
                listing.depends_on(Some(0));
                for node in view.stack.merged() {
                    if candidates::matches_or_below(globs, &node.path) {
                        let path = node.path.clone();
                        view.push(listing, &node, path, 0);
                    }
                }
            }
            SelectionKind::File(paths) | SelectionKind::Paths(paths) => {
                for (requested, path) in paths.iter().enumerate() {
                    let (resolution, trace) = stack.resolve(path, options.resolution());
                    listing.depends_on(trace.oldest);
                    let (Located { found, content }, certain) =
                        match self.located(stack, path, resolution, &trace) {
                            Ok(located) => located,
                            Err(error) => {
                                listing.failures.push((path.clone(), error));
                                continue;
                            }
                        };
                    listing.certain &= certain;
                    let asked = tar::normalise(path);
                    if found.entry.kind == EntryKind::Directory {
                        listing.depends_on(Some(0));
                        let physical = found.entry.path.clone();
                        for node in view.stack.subtree(&physical) {
                            let below = node.path.get(physical.len()..).unwrap_or_default();
                            let path = [asked.as_slice(), below].concat();
                            let path = path.strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(path);
                            view.push(listing, &node, path, requested);
                        }
                    } else {
                        listing.push(found.entry, found.layer, Some(content), asked, requested);
                    }
                    listing.traces.push((requested, found.trace));
                }
            }
        }
        Ok(())
    }
}
