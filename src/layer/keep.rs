//! What is kept of a layer that was streamed: for further questions about the image, and on disk for later runs.

use std::sync::Arc;

use super::{
    Layer, Verification,
    known::{Known, Proved},
    scan::Pass,
};
use crate::{
    cache::Cache,
    toc::{ContentMap, LayerToc, entries::EntryTree, format, spans::Spans},
};

/// What a pass has found.
pub(super) struct Kept {
    toc: Arc<LayerToc>,
    pass: Pass,
}

impl Layer {
    /// Keeps what a pass has found: for further questions about this image, and on disk for later ones.
    pub(crate) fn keep(&self, table: EntryTree, pass: Pass, spans: Option<Spans>) {
        self.keep_stored(&self.keep_for_later(table, pass, spans));
    }

    /// Keeps what a pass has found on disk, where the turn of the layer has not come.
    pub(super) fn keep_for_later(&self, mut table: EntryTree, pass: Pass, spans: Option<Spans>) -> Kept {
        if pass != Pass::Stopped {
            table.complete();
        }
        let content = spans.map_or(ContentMap::Nothing, ContentMap::Spans);
        let toc = Arc::new(LayerToc { entries: table, content });
        self.store(Arc::clone(&toc));
        Kept { toc, pass }
    }

    /// Keeps for further questions about this image what is on disk already.
    pub(super) fn keep_stored(&self, Kept { toc, pass }: &Kept) {
        self.warn_of(&toc.entries);
        if let (Pass::Complete, Some(configuration)) = (pass, self.configuration.now()) {
            let diff_id = configuration.diff_id(self.index).cloned();
            self.knowledge.prove(Proved { diff_id, toc: Arc::clone(toc) });
        }
        self.knowledge.keep(match pass {
            Pass::Complete => Known::Wholly(Arc::clone(toc), Verification::Blob),
            Pass::Hopped => Known::Wholly(Arc::clone(toc), Verification::None),
            Pass::Stopped => Known::Partly(Arc::clone(toc)),
        });
    }

    /// Forgets a table that has led to content that is not right, also on disk.
    pub(crate) fn forget(&self) {
        if matches!(self.known(), Known::Wholly(_, Verification::None)) {
            let name = &self.name;
            let message = format!("nothing vouches for the table of contents by which layer {name} was read");
            self.progress.warning(&format!("{message}; --verify reads the layer itself"));
        }
        self.knowledge.forget();
        if let (Some(cache), Some(digest)) = (&self.knowledge.cache, &self.digest) {
            let digest = digest.clone();
            cache.write_later(move |cache| cache.remove_toc(&digest));
        }
    }

    /// Whether what a listing finds is of use to others: to later runs, or to another layer of the same blob.
    pub(crate) fn is_listed_again(&self) -> bool {
        self.has_cache() || self.knowledge.has_twin()
    }

    /// Whether passes leave something for later runs.
    pub(crate) fn has_cache(&self) -> bool {
        self.knowledge.cache.is_some() && self.digest.is_some()
    }

    fn store(&self, toc: Arc<LayerToc>) {
        let (Some(cache), Some(digest)) = (&self.knowledge.cache, &self.digest) else { return };
        if !matches!(toc.content, ContentMap::Spans(_)) {
            return;
        }
        let Some(configuration) = self.configuration.now() else { return };
        let diff_id = configuration.diff_id(self.index).cloned();
        let header = format::Header::new(digest.clone(), self.size(), diff_id, &toc);
        cache.write_later(move |cache| write(cache, &header, &toc));
    }

    /// Passes on what was odd about the layer.
    pub(super) fn warn_of(&self, table: &EntryTree) {
        let (warnings, layer, image) = (table.warnings(), self.index, &self.image);
        for warning in warnings.first() {
            self.progress.warning(&format!("layer {layer} of {image}: {warning}"));
        }
        let more = warnings.count().saturating_sub(warnings.first().len() as u64);
        if more > 0 {
            self.progress.warning(&format!("layer {layer} of {image}: {more} more like these"));
        }
    }
}

fn write(cache: &Cache, header: &format::Header, toc: &LayerToc) {
    // Another process may have finished what this one has begun.
    let is_less = || {
        let stored = cache.toc(&header.digest).and_then(|bytes| format::read_header(&bytes).ok());
        stored.is_some_and(|stored| stored.complete || stored.unpacked > header.unpacked)
    };
    if header.complete || !is_less() {
        cache.put_toc(&header.digest, |mut out| format::write(header, toc, &mut out));
    }
}
