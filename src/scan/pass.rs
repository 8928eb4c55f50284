//! The pass of a scan over one layer.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Filter, Found, ScanAction,
    content::{ScanContent, ScanPiece},
};
use crate::{
    error::Error,
    layer::{Layer, toc_state::TocState},
    oci::digest::Digest,
    read::{
        pass::Fetch,
        visit::{Piece, VisitAction, Visitor},
    },
    reader::{
        driver::{self, PassRequest},
        prefetch::Prefetcher,
        store,
    },
    tar::entry::{Entry, EntryKind},
    toc::entries::{EntryTree, ROOT, components},
};

/// The layers above the current one, newest first: what they hold, delete and hide.
#[derive(Clone, Default)]
pub(super) struct Visibility {
    above: Vec<TocState>,
}

impl Visibility {
    /// Adds the layer that was scanned last.
    pub(super) fn add(&mut self, pass: ScanPass) {
        self.above.extend(pass.state);
    }

    /// Whether a container sees an entry of the layer below these.
    fn shows(&self, path: &[u8], kind: EntryKind) -> bool {
        self.above.iter().all(|state| !hides(state.tree(), path, kind))
    }
}

/// A pass of a scan.
pub(super) struct ScanPass {
    layer: Layer,
    filter: Filter,
    sender: mpsc::Sender<Found>,
    visibility: Option<Visibility>,
    /// The TOC of the layer, once it was read for a merged scan.
    state: Option<TocState>,
}

impl ScanPass {
    pub(super) fn new(
        layer: Layer,
        filter: Filter,
        sender: mpsc::Sender<Found>,
        visibility: Option<Visibility>,
    ) -> Self {
        Self { layer, filter, sender, visibility, state: None }
    }

    /// Reads the layer. Whatever stops early, the layer's digest is verified unless the caller is gone.
    pub(super) async fn run(mut self) -> Result<Self, Error> {
        let (prefetcher, mut parts) = (Prefetcher::none(), Some(self.visitor()));
        let record = store::is_recorded(&self.layer);
        let request = PassRequest { fetch: Fetch::Full, record, resume: false, prefetcher: &prefetcher };
        // Entries that were given cannot be taken back.
        let finished = driver::run(&self.layer, request, |tree| {
            parts.take().map(|visitor| ScanVisitor { tree, ..visitor })
        })
        .await?;
        if finished.visitor.visibility.is_some() {
            self.state = Some(self.layer.toc.state());
        }
        Ok(self)
    }

    fn visitor(&self) -> ScanVisitor {
        ScanVisitor {
            filter: Filter::clone(&self.filter),
            sender: self.sender.clone(),
            visibility: self.visibility.clone(),
            layer: self.layer.index,
            digest: self.layer.name.clone(),
            tree: EntryTree::new(),
            queue: Vec::new(),
            content: None,
        }
    }
}

struct ScanVisitor {
    filter: Filter,
    sender: mpsc::Sender<Found>,
    visibility: Option<Visibility>,
    layer: usize,
    digest: Digest,
    tree: EntryTree,
    /// What [`Visitor::flush`] sends, in order.
    queue: Vec<Outgoing>,
    /// Where content of the current file goes.
    content: Option<mpsc::Sender<ScanPiece>>,
}

enum Outgoing {
    Found(Box<Found>),
    Piece(mpsc::Sender<ScanPiece>, ScanPiece),
}

impl ScanVisitor {
    fn is_visible(&self, entry: &Entry, record: u32) -> bool {
        let Some(visibility) = &self.visibility else { return true };
        let is_marker = matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque);
        // Links in the directories of the path lead elsewhere in this layer.
        !is_marker && visibility.shows(&self.tree.path(record), entry.kind)
    }
}

impl Visitor for ScanVisitor {
    fn entry(&mut self, entry: Entry) -> Result<VisitAction, Error> {
        let inserted = self.tree.insert(&entry)?;
        if self.sender.is_closed() {
            return Ok(VisitAction::Stop);
        }
        if !self.is_visible(&entry, inserted.record) {
            return Ok(VisitAction::Entries);
        }
        let action = (self.filter)(&entry, self.layer);
        if action == ScanAction::Skip {
            return Ok(VisitAction::Entries);
        }
        let is_read = action == ScanAction::Read && entry.kind == EntryKind::File;
        let mut content = None;
        if is_read {
            let (sender, receiver) = ScanContent::channel();
            self.content = Some(sender);
            content = Some(receiver);
        }
        let (layer, layer_digest) = (self.layer, self.digest.clone());
        self.queue.push(Outgoing::Found(Box::new(Found { entry, layer, layer_digest, content })));
        Ok(if is_read { VisitAction::Content } else { VisitAction::Entries })
    }

    fn content(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        if let Some(sender) = self.content.as_ref().filter(|sender| !sender.is_closed()) {
            let piece = match piece {
                Piece::Data(data) => ScanPiece::Data(Bytes::copy_from_slice(data)),
                Piece::Hole(length) => ScanPiece::Hole(length),
            };
            self.queue.push(Outgoing::Piece(sender.clone(), piece));
        }
        Ok(())
    }

    fn content_end(&mut self) -> Result<VisitAction, Error> {
        if let Some(sender) = self.content.take() {
            self.queue.push(Outgoing::Piece(sender, ScanPiece::End));
        }
        Ok(VisitAction::Entries)
    }

    async fn flush(&mut self) -> Result<(), Error> {
        for outgoing in self.queue.drain(..) {
            match outgoing {
                // A caller that is gone shows at the next entry, and content that it dropped is skipped.
                Outgoing::Found(found) => drop(self.sender.send(*found).await),
                Outgoing::Piece(sender, piece) => drop(sender.send(piece).await),
            }
        }
        Ok(())
    }

    fn take_tree(&mut self) -> Option<EntryTree> {
        Some(std::mem::replace(&mut self.tree, EntryTree::new()))
    }
}

/// Whether a layer hides an entry of a lower layer at this path: it replaces or deletes it, or something above it.
fn hides(tree: &EntryTree, path: &[u8], kind: EntryKind) -> bool {
    let mut directory = ROOT;
    let mut names = components(path).peekable();
    while let Some(name) = names.next() {
        if tree.is_opaque(directory) || tree.whiteout(directory, name) {
            return true;
        }
        let Some(record) = tree.child(directory, name) else { return false };
        let is_directory = tree.kind(record) == EntryKind::Directory;
        if names.peek().is_none() {
            // A directory without an entry of its own shows the metadata of the one below.
            return !(is_directory && kind == EntryKind::Directory && tree.is_implied(record));
        }
        if !is_directory {
            return true;
        }
        directory = record;
    }
    false
}
