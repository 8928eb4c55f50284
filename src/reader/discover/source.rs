//! What a TOC source must provide.

use futures_util::future::BoxFuture;

use crate::{
    error::Error,
    layer::{
        Layer,
        toc_state::{TocSourceId, TocState},
    },
    read::verification::Verification,
};

/// A place that may have the TOC of a layer.
pub(super) trait TocSource: Send + Sync {
    /// Its place among the sources that were tried.
    fn id(&self) -> TocSourceId;

    /// The best level that a TOC from here can have.
    fn best_level(&self) -> Verification;

    /// Whether it is tried again each time: it costs nothing.
    fn is_repeatable(&self) -> bool {
        false
    }

    /// The TOC, if it is there and verified to at least this level.
    fn discover<'a>(
        &'a self,
        layer: &'a Layer,
        min_verification: Verification,
    ) -> BoxFuture<'a, Result<Option<TocState>, Error>>;
}
