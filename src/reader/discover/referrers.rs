//! What refers to the image: signed TOCs, and SOCI indexes of version 1.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{cached, source::TocSource};
use crate::{
    error::Error,
    layer::{
        Layer,
        toc_state::{TocSourceId, TocState},
    },
    read::verification::Verification,
    reader::store::warn_unusable,
    threads::run_blocking,
};

/// TOCs that refer to the image and that a trusted key has signed.
pub(super) struct SignedReferrers;

impl TocSource for SignedReferrers {
    fn id(&self) -> TocSourceId {
        TocSourceId::Referrers
    }

    fn best_level(&self) -> Verification {
        Verification::Span
    }

    fn discover<'a>(
        &'a self,
        layer: &'a Layer,
        _min_verification: Verification,
    ) -> BoxFuture<'a, Result<Option<TocState>, Error>> {
        async move {
            match signed(layer).await {
                Ok(state) => Ok(state),
                Err(problem) => {
                    let name = &layer.name;
                    let message = format!("the TOC that was pushed for layer {name} is not used: {problem}");
                    layer.progress.warning(&message);
                    Ok(None)
                }
            }
        }
        .boxed()
    }
}

/// Fetches one TOC after the other until a trusted key has signed it.
async fn signed(layer: &Layer) -> Result<Option<TocState>, String> {
    let (Some(referrers), Some(cache)) = (&layer.referrers, layer.toc.cache.as_ref()) else {
        return Ok(None);
    };
    let Some(digest) = &layer.digest else { return Ok(None) };
    let tocs = referrers.tocs(digest, layer.size()).await.map_err(|error| error.to_string())?;
    if tocs.is_empty() {
        return Ok(None);
    }
    for toc in tocs {
        let (toc, signature) = referrers.fetch(&toc).await.map_err(|error| error.to_string())?;
        let (cache, digest) = (cache.clone(), digest.clone());
        let accept = move || cache.store_signed(&digest, &toc, &signature);
        if run_blocking(accept).await.unwrap_or(false) {
            return Ok(cached::load(layer).await);
        }
    }
    Err("no trusted key has signed it".to_owned())
}

/// A SOCI index that merely refers to the image: anyone who may push can have put it there. It is used where referrers are
/// requested anyway and unverified answers are accepted.
pub(super) struct UnsignedSoci;

impl TocSource for UnsignedSoci {
    fn id(&self) -> TocSourceId {
        TocSourceId::UnsignedSoci
    }

    fn best_level(&self) -> Verification {
        Verification::None
    }

    fn discover<'a>(
        &'a self,
        layer: &'a Layer,
        _min_verification: Verification,
    ) -> BoxFuture<'a, Result<Option<TocState>, Error>> {
        async move {
            let (Some(referrers), Some(digest)) = (&layer.referrers, &layer.digest) else { return Ok(None) };
            Ok(match referrers.soci(digest, layer.size()).await {
                Ok(toc) => toc.map(|toc| TocState::Complete(Arc::new(toc), Verification::None)),
                Err(error) => {
                    if error.is_corrupt() {
                        warn_unusable(layer, &error);
                    }
                    None
                }
            })
        }
        .boxed()
    }
}
