//! The cache.

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{source::TocSource, stored};
use crate::{
    error::Error,
    layer::{
        Layer,
        toc_state::{TocSourceId, TocState},
    },
    read::verification::Verification,
    threads::run_blocking,
};

/// The cache on disk.
pub(super) struct Cached;

impl TocSource for Cached {
    fn id(&self) -> TocSourceId {
        TocSourceId::Cache
    }

    fn best_level(&self) -> Verification {
        Verification::Span
    }

    fn discover<'a>(
        &'a self,
        layer: &'a Layer,
        _min_verification: Verification,
    ) -> BoxFuture<'a, Result<Option<TocState>, Error>> {
        load(layer).map(Ok).boxed()
    }
}

/// The cached TOC, complete or partial. A pass that resumes from a partial TOC still verifies the whole blob.
pub(crate) async fn load(layer: &Layer) -> Option<TocState> {
    let (cache, digest) = (layer.toc.cache.clone()?, layer.digest.clone()?);
    let bytes = {
        let (cache, digest) = (cache.clone(), digest.clone());
        move || cache.toc(&digest)
    };
    match stored::read(layer, bytes).await? {
        Ok((header, toc)) if header.complete => Some(TocState::Complete(toc, Verification::Span)),
        Ok((_, toc)) => Some(TocState::Partial(toc)),
        Err(error) => {
            let _ = run_blocking(move || cache.remove_toc(&digest)).await;
            let name = &layer.name;
            layer.progress.warning(&format!(
                "the cached TOC of {name} cannot be used ({error}); it will be built again"
            ));
            None
        }
    }
}
