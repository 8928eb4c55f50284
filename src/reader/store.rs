//! Stores what a pass over a layer has found: in memory for further questions about the image, and on disk for later runs.

use std::sync::Arc;

use crate::{
    cache::Cache,
    error::Error,
    layer::{
        Layer,
        toc_state::{TocState, VerifiedToc},
    },
    read::{decode::PassEnd, verification::Verification},
    toc::{ContentMap, LayerToc, entries::EntryTree, format, spans::Spans},
};

/// What a pass has found, on its way to the disk.
pub(crate) struct PassToc {
    toc: Arc<LayerToc>,
    end: PassEnd,
}

impl PassToc {
    /// Sends what a pass has found to the cache.
    pub(crate) fn write(layer: &Layer, mut entries: EntryTree, end: PassEnd, spans: Option<Spans>) -> Self {
        if end != PassEnd::Stopped {
            entries.complete();
        }
        let content = spans.map_or(ContentMap::Nothing, ContentMap::Spans);
        let toc = Arc::new(LayerToc { entries, content });
        write_later(layer, &toc);
        Self { toc, end }
    }

    /// Makes it the TOC of the layer.
    pub(crate) fn store(&self, layer: &Layer) {
        let toc = Arc::clone(&self.toc);
        report_warnings(layer, &toc.entries);
        if let (PassEnd::Complete, Some(configuration)) = (self.end, layer.configuration.now()) {
            let diff_id = configuration.diff_id(layer.index).cloned();
            layer.toc.set_verified(VerifiedToc { diff_id, toc: Arc::clone(&toc) });
        }
        layer.toc.store(match self.end {
            PassEnd::Complete => TocState::Complete(toc, Verification::Blob),
            PassEnd::Skipped => TocState::Complete(toc, Verification::None),
            PassEnd::Stopped => TocState::Partial(toc),
        });
    }
}

/// Drops a TOC that has led to wrong content, also on disk.
pub(crate) fn invalidate(layer: &Layer) {
    if matches!(layer.toc.state(), TocState::Complete(_, Verification::None)) {
        let name = &layer.name;
        layer
            .progress
            .warning(&format!("the unsigned TOC of layer {name} is wrong; it is not used any more"));
    }
    layer.toc.invalidate();
    if let (Some(cache), Some(digest)) = (&layer.toc.cache, &layer.digest) {
        let digest = digest.clone();
        cache.write_later(move |cache| cache.remove_toc(&digest));
    }
}

/// Whether passes leave something for later runs.
pub(crate) fn is_recorded(layer: &Layer) -> bool {
    layer.toc.cache.is_some() && layer.digest.is_some()
}

/// Reports what was odd about the layer.
pub(crate) fn report_warnings(layer: &Layer, entries: &EntryTree) {
    if let Some(warning) = entries.warning() {
        layer.progress.warning(&format!("layer {} of {}: {warning}", layer.index, layer.image));
    }
}

/// Warns that a TOC from elsewhere cannot be used.
pub(crate) fn warn_unusable(layer: &Layer, error: &Error) {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let name = &layer.name;
    layer.progress.warning(&format!("layer {name}: {error}{cause}; reading the layer itself"));
}

fn write_later(layer: &Layer, toc: &Arc<LayerToc>) {
    let (Some(cache), Some(digest)) = (&layer.toc.cache, &layer.digest) else { return };
    if !matches!(toc.content, ContentMap::Spans(_)) {
        return;
    }
    let Some(configuration) = layer.configuration.now() else { return };
    let diff_id = configuration.diff_id(layer.index).cloned();
    let header = format::Header::new(digest.clone(), layer.size(), diff_id, toc);
    let toc = Arc::clone(toc);
    cache.write_later(move |cache| write(cache, &header, &toc));
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
