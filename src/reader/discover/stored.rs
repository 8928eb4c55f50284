//! TOCs in the format of the cache.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    layer::Layer,
    threads::run_blocking,
    toc::{ContentMap, LayerToc, format},
};

/// A stored TOC of a whole layer, which has been checked.
pub(crate) struct StoredToc {
    pub(crate) bytes: Bytes,
    pub(crate) header: format::Header,
}

/// Reads a stored TOC, if there is one and it belongs to this layer.
pub(super) async fn read(
    layer: &Layer,
    bytes: impl FnOnce() -> Option<Bytes> + Send + 'static,
) -> Option<Result<(format::Header, Arc<LayerToc>), format::Error>> {
    let read = move || bytes().map(format::read);
    let (header, toc) = match run_blocking(read).await.ok()?? {
        Ok(stored) => stored,
        Err(error) => return Some(Err(error)),
    };
    let is_of_blob = layer.digest.as_ref() == Some(&header.digest) && header.size == layer.size();
    // The same blob in another configuration must hash to another DiffID: a pass finds out.
    let fits = is_of_blob && header.diff_id.as_ref() == layer.diff_id().await.ok()?;
    fits.then(|| Ok((header, Arc::new(toc))))
}

/// The TOC of the whole layer that the cache has.
pub(crate) async fn stored(layer: &Layer) -> Option<StoredToc> {
    let (cache, digest) = (layer.toc.cache.clone()?, layer.digest.clone()?);
    let (size, diff_id) = (layer.size(), layer.diff_id().await.ok()?.cloned());
    let read = move || {
        let bytes = cache.toc(&digest)?;
        let (header, toc) = format::read(bytes.clone()).ok()?;
        let fits = header.digest == digest && header.size == size && header.diff_id == diff_id;
        let is_whole = header.complete && matches!(toc.content, ContentMap::Spans(_));
        (fits && is_whole).then_some(StoredToc { bytes, header })
    };
    run_blocking(read).await.ok()?
}
