//! The TOC that a pass over another layer with the same blob has left.

use futures_util::{FutureExt as _, future::BoxFuture};

use super::source::TocSource;
use crate::{
    error::Error,
    layer::{
        Layer,
        toc_state::{TocSourceId, TocState, VerifiedToc},
    },
    read::verification::Verification,
};

/// Another layer of the image with the same blob and DiffID.
pub(super) struct SameBlob;

impl TocSource for SameBlob {
    fn id(&self) -> TocSourceId {
        TocSourceId::SameBlob
    }

    fn best_level(&self) -> Verification {
        Verification::Blob
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn discover<'a>(
        &'a self,
        layer: &'a Layer,
        min_verification: Verification,
    ) -> BoxFuture<'a, Result<Option<TocState>, Error>> {
        async move {
            let Some(VerifiedToc { diff_id, toc }) = layer.toc.verified() else { return Ok(None) };
            let is_same = layer.diff_id().await.is_ok_and(|expected| expected == diff_id.as_ref());
            // Where something is odd about the blob, a pass over each layer reports it.
            let is_new = is_same
                && toc.entries.warnings().count() == 0
                && !layer.toc.state().satisfies(min_verification);
            Ok(is_new.then_some(TocState::Complete(toc, Verification::Blob)))
        }
        .boxed()
    }
}
