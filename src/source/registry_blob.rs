//! A blob in a registry.

use std::{ops::Range, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, future::BoxFuture};

use crate::{
    oci::digest::Digest,
    offset::Compressed,
    registry::Session,
    source::{ByteStream, Error, Source},
};

/// A blob of a session's repository.
#[derive(Clone, Debug)]
pub(crate) struct RegistryBlob {
    session: Arc<Session>,
    digest: Digest,
    size: u64,
    /// Whether registries need not hold it.
    is_foreign: bool,
}

impl RegistryBlob {
    /// The blob of this digest, which its descriptor says to be of this size.
    pub(crate) fn new(session: Arc<Session>, digest: Digest, size: u64) -> Self {
        Self { session, digest, size, is_foreign: false }
    }

    /// The same of a foreign layer: one that the registry may lack without anything being wrong. The `urls` of its descriptor
    /// are not asked: anybody may write anything there (CVE-2020-15157).
    pub(crate) fn foreign(self) -> Self {
        Self { is_foreign: true, ..self }
    }
}

impl Source for RegistryBlob {
    fn size(&self) -> u64 {
        self.size
    }

    /// Opens the bytes of `range`; resolves once the registry has begun to answer.
    fn open(&self, range: Range<Compressed>) -> BoxFuture<'_, Result<ByteStream, Error>> {
        let mut reader = self.session.open_blob(self.digest.clone(), range.start.0..range.end.0, self.size);
        Box::pin(async move {
            let started = reader.start().await;
            started.map_err(|error| if self.is_foreign { error.of_foreign_layer() } else { error })?;
            Ok(reader.into_stream().map_err(Error::from).boxed())
        })
    }

    fn wants_ranges(&self) -> bool {
        !self.ignores_ranges()
    }

    fn ignores_ranges(&self) -> bool {
        self.session.ignores_ranges()
    }

    fn prepare(&self, ranges: usize) -> BoxFuture<'static, ()> {
        let (session, digest) = (Arc::clone(&self.session), self.digest.clone());
        Box::pin(async move { session.connect_for(&digest, ranges).await })
    }

    fn allowance(&self) -> u64 {
        self.session.allowance()
    }
}
