//! A response that is requested before its blob is read.

use std::sync::Arc;

use super::{full::forecast_full, part::Part, pays, ranges::forecast};
use crate::source::Source;

/// The first range of a blob, or all of it, requested before the blob is read. Until then its bytes wait in the transport.
pub(crate) struct Prefetched {
    size: u64,
    pub(super) part: Part,
}

impl Prefetched {
    /// The first range; `None` if the host ignores ranges or refuses parallel requests, or the transfer is limited.
    pub(crate) fn first(source: Arc<dyn Source>) -> Option<Self> {
        let (range, _) = forecast(0, source.size());
        (!range.is_empty()).then(|| Self::new(&source, range.end))?
    }

    /// The beginning of a read to the end, on the same conditions: the whole blob if it is not large.
    pub(crate) fn whole(source: Arc<dyn Source>) -> Option<Self> {
        let (range, _) = forecast_full(0, source.size(), pays(&*source));
        Self::new(&source, range.end)
    }

    fn new(source: &Arc<dyn Source>, end: u64) -> Option<Self> {
        let is_sequential = source.transfers().is_some_and(|transfers| transfers.is_sequential());
        let is_possible = source.wants_ranges() && source.allowance() == u64::MAX && !is_sequential;
        is_possible.then(|| Self { size: source.size(), part: Part::request(source, 0..end) })
    }

    /// Waits until the response has begun, or has failed.
    pub(crate) async fn opened(mut self) -> Self {
        self.part.opened().await;
        self
    }

    /// Whether it is a whole blob of at most this many bytes.
    pub(crate) fn is_whole_within(&self, bytes: u64) -> bool {
        self.part.range.end == self.size && self.size <= bytes
    }
}
