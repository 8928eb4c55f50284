//! The shared store.

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{source::TocSource, stored};
use crate::{
    cache::SharedToc,
    error::Error,
    layer::{
        Layer,
        toc_state::{TocSourceId, TocState},
    },
    read::verification::Verification,
    threads::run_blocking,
};

/// The object store that several machines share. A TOC there that no trusted key has signed is only a hint.
pub(super) struct SharedStore;

impl TocSource for SharedStore {
    fn id(&self) -> TocSourceId {
        TocSourceId::Shared
    }

    fn best_level(&self) -> Verification {
        Verification::Span
    }

    fn discover<'a>(
        &'a self,
        layer: &'a Layer,
        min_verification: Verification,
    ) -> BoxFuture<'a, Result<Option<TocState>, Error>> {
        async move {
            let (Some(cache), Some(digest)) = (layer.toc.cache.clone(), layer.digest.clone()) else {
                return Ok(None);
            };
            let read = move || cache.shared_toc(&digest);
            let (bytes, level) = match run_blocking(read).await.unwrap_or_default() {
                None => return Ok(None),
                Some(SharedToc::Untrusted(bytes)) => (bytes, Verification::None),
                Some(SharedToc::Trusted(bytes)) => (bytes, Verification::Span),
            };
            if level < min_verification {
                return Ok(None);
            }
            Ok(match stored::read(layer, move || Some(bytes)).await {
                Some(Ok((header, toc))) if header.complete => Some(TocState::Complete(toc, level)),
                Some(Err(error)) => {
                    let name = &layer.name;
                    layer.progress.warning(&format!("the shared TOC of {name} is not used: {error}"));
                    None
                }
                _ => None,
            })
        }
        .boxed()
    }
}
