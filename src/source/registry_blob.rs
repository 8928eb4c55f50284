//! A blob in a registry.

use std::{ops::Range, sync::Arc};

use futures_util::{StreamExt as _, TryStreamExt as _, future::BoxFuture};

use crate::{
    oci::digest::Digest,
    offset::Compressed,
    registry::{Session, Transfers},
    source::{ByteStream, Error, Source},
};

/// A blob of a session's repository.
#[derive(Clone, Debug)]
pub(crate) struct RegistryBlob {
    session: Arc<Session>,
    digest: Digest,
    size: u64,
    /// Whether registries may lack it.
    is_foreign: bool,
}

impl RegistryBlob {
    /// The blob with this digest, of the size in its descriptor.
    pub(crate) fn new(session: Arc<Session>, digest: Digest, size: u64) -> Self {
        Self { session, digest, size, is_foreign: false }
    }

    /// The same blob as a foreign layer, which a registry may legitimately lack. The `urls` of its descriptor are never fetched:
    /// any publisher could direct requests anywhere (CVE-2020-15157).
    pub(crate) fn foreign(self) -> Self {
        Self { is_foreign: true, ..self }
    }
}

impl Source for RegistryBlob {
    fn size(&self) -> u64 {
        self.size
    }

    /// Opens `range`; resolves when the response begins.
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

    fn transfers(&self) -> Option<&Arc<Transfers>> {
        Some(&self.session.transfers)
    }

    fn prepare(&self, ranges: usize) -> BoxFuture<'static, ()> {
        let (session, digest) = (Arc::clone(&self.session), self.digest.clone());
        Box::pin(async move { session.connect_for(&digest, ranges).await })
    }

    fn allowance(&self) -> u64 {
        self.session.allowance()
    }
}
