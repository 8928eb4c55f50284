//! Where a layer's TOC may come from without reading the layer: an ordered list of sources.

use futures_util::{FutureExt as _, future::BoxFuture};

use super::store::report_warnings;
use crate::{
    cache::Cache,
    error::Error,
    layer::{Layer, toc_state::TocState},
    read::verification::Verification,
};

mod cached;
pub(crate) mod embedded;
mod referrers;
mod same_blob;
mod shared;
mod soci;
mod source;
mod stored;

use self::source::TocSource;
pub(crate) use self::{
    cached::load,
    stored::{StoredToc, stored},
};

/// All sources, in the order in which they are tried.
const SOURCES: [&dyn TocSource; 7] = [
    &same_blob::SameBlob,
    &cached::Cached,
    &embedded::Embedded,
    &soci::NamedSoci,
    &referrers::SignedReferrers,
    &shared::SharedStore,
    &referrers::UnsignedSoci,
];

/// Tries the sources that were not tried yet and can give a TOC of at least this level. Reports whether more is known now.
///
/// # Errors
///
/// Those of requests for a TOC embedded in the blob. A source that cannot be used is skipped with a warning.
pub(crate) fn discover(layer: &Layer, min_verification: Verification) -> BoxFuture<'_, Result<bool, Error>> {
    async move {
        for source in SOURCES {
            if try_source(source, layer, min_verification).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
    .boxed()
}

/// Tries the cache only.
pub(crate) async fn discover_cached(layer: &Layer, min_verification: Verification) -> bool {
    try_source(&cached::Cached, layer, min_verification).await.unwrap_or(false)
}

async fn try_source(
    source: &dyn TocSource,
    layer: &Layer,
    min_verification: Verification,
) -> Result<bool, Error> {
    let is_tried = !source.is_repeatable() && layer.toc.was_tried(source.id());
    if is_tried || source.best_level() < min_verification {
        return Ok(false);
    }
    let found = source.discover(layer, min_verification).await;
    // Another question may have tried it at the same time.
    let is_first = source.is_repeatable() || !layer.toc.was_tried(source.id());
    layer.toc.set_tried(source.id());
    let Some(state) = found? else { return Ok(false) };
    if is_first {
        report_warnings(layer, state.tree());
        layer.toc.store(state);
    }
    Ok(true)
}

/// Whether a pass would read the layer from its start, given what the cache has.
pub(crate) fn is_read_from_start(layer: &Layer, min_verification: Verification) -> bool {
    let has_own = embedded::location(layer, min_verification).is_some()
        || layer.soci.is_some() && min_verification <= Verification::Chunk;
    // A verified TOC of the shared store is in the cache by now.
    let is_shared = layer.toc.cache.as_ref().is_some_and(Cache::is_shared);
    let is_elsewhere = is_shared && min_verification == Verification::None
        || layer.referrers.is_some() && min_verification <= Verification::Span;
    matches!(layer.toc.state(), TocState::Absent(_)) && !has_own && !is_elsewhere
}
