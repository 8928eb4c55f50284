//! A local blob that reports its reads as progress, as a registry reports its requests.

use std::{fmt, ops::Range, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture};

use crate::{
    oci::digest::Digest,
    offset::Compressed,
    progress::{Ongoing, Reporter, RequestMethod, RequestTarget},
    source::{ByteStream, Error, Source},
};

/// A blob, reported under a name.
pub(crate) struct TracedSource<S> {
    source: S,
    name: Digest,
    progress: Arc<Reporter>,
}

impl<S> TracedSource<S> {
    /// Reports every read of `source` to `progress`.
    pub(crate) fn new(source: S, name: Digest, progress: Arc<Reporter>) -> Self {
        Self { source, name, progress }
    }
}

impl<S: Source> Source for TracedSource<S> {
    fn size(&self) -> u64 {
        self.source.size()
    }

    fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        async move {
            let target = RequestTarget::Blob(self.name.clone());
            let bytes = Some(range.start.0..range.end.0);
            let progress = Arc::clone(&self.progress);
            let mut ongoing = Ongoing::start(progress, (RequestMethod::Read, target), None, bytes);
            let pieces = self.source.open(range).await?;
            Ok(pieces.inspect_ok(move |piece| ongoing.advanced(piece.len() as u64)).boxed())
        }
        .boxed()
    }
}

impl<S: fmt::Debug> fmt::Debug for TracedSource<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedSource").field("source", &self.source).finish_non_exhaustive()
    }
}
