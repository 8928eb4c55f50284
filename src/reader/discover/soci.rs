//! The SOCI index that the manifest names (version 2).

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use super::source::TocSource;
use crate::{
    error::Error,
    layer::{
        Layer,
        toc_state::{TocSourceId, TocState},
    },
    read::verification::Verification,
    reader::store::warn_unusable,
};

/// A SOCI index of version 2. Copies of images often lack the index that their manifest names: the layer is read then.
pub(super) struct NamedSoci;

impl TocSource for NamedSoci {
    fn id(&self) -> TocSourceId {
        TocSourceId::Soci
    }

    fn best_level(&self) -> Verification {
        Verification::Chunk
    }

    fn discover<'a>(
        &'a self,
        layer: &'a Layer,
        _min_verification: Verification,
    ) -> BoxFuture<'a, Result<Option<TocState>, Error>> {
        async move {
            let (Some(soci), Some(digest)) = (&layer.soci, &layer.digest) else { return Ok(None) };
            Ok(match soci.toc(digest, layer.size()).await {
                Ok(toc) => toc.map(|toc| TocState::Complete(Arc::new(toc), Verification::Chunk)),
                Err(error) if error.is_corrupt() => {
                    warn_unusable(layer, &error);
                    None
                }
                Err(_) => None,
            })
        }
        .boxed()
    }
}
