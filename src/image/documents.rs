//! The documents of an image in a registry: manifests and configuration, from the cache if possible.
//!
//! ```text
//! by digest            cached ─▶ no request;   else GET by digest
//! by tag, first time   GET by tag: one round trip
//! by tag, seen before  HEAD by tag ─▶ digest ─▶ cached;   else GET by tag: its body decides, whatever the HEAD response said
//! ```

use std::sync::Arc;

use bytes::Bytes;

use super::resolve::RootManifest;
use crate::{
    cache::Cache,
    error::{Error, Kind},
    limits,
    oci::{digest::Digest, manifest::Manifest, reference::Reference},
    registry::{Session, session::FetchedManifest},
    threads::run_blocking,
};

/// Reads the documents of one repository.
#[derive(Clone)]
pub(super) struct Documents {
    session: Arc<Session>,
    cache: Option<Cache>,
    /// Whether only the cache is used.
    is_offline: bool,
    /// Number of blobs that will be read right after the manifest.
    followups: usize,
}

impl Documents {
    pub(super) fn new(session: Arc<Session>, cache: Option<Cache>) -> Self {
        Self { session, cache, is_offline: false, followups: 0 }
    }

    /// Reads from the cache only.
    pub(super) fn offline(self) -> Self {
        Self { is_offline: true, ..self }
    }

    /// Announces that this many blobs will be read as soon as the tag is resolved.
    pub(super) fn with_followups(self, followups: usize) -> Self {
        Self { followups, ..self }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The manifest that a reference points to.
    pub(super) async fn root(&self, reference: &Reference) -> Result<RootManifest, Error> {
        if let Some(digest) = reference.digest() {
            return self.root_by_digest(digest).await;
        }
        let (tag, name) = (reference.tag().unwrap_or("latest"), reference.to_string());
        let last_seen = self.last_digest(&name).await;
        let announced = match last_seen {
            Some(_) => self.session.head_manifest(tag, self.followups).await?,
            None => None,
        };
        if let Some(digest) = &announced
            && let Some(root) = self.cached_root(digest).await
        {
            if last_seen != announced {
                let digest = digest.clone();
                self.write_cache(move |cache| cache.put_tag(&name, &digest));
            }
            return Ok(root);
        }
        let mut fetched = self.session.manifest(tag, None).await?;
        // The registry may use another digest algorithm than ours. The next HEAD response will use it again.
        if let Some(announced) = announced.filter(|announced| announced.matches(&fetched.bytes)) {
            fetched.digest = announced;
        }
        if self.store_root(&fetched) {
            let digest = fetched.digest.clone();
            self.write_cache(move |cache| cache.put_tag(&name, &digest));
        }
        Ok(fetched.into())
    }

    /// The manifest that a tag pointed to when it was last seen.
    pub(super) async fn last_seen(&self, reference: &Reference) -> Option<RootManifest> {
        if reference.digest().is_some() {
            return None;
        }
        let digest = self.last_digest(&reference.to_string()).await?;
        self.root_by_digest(&digest).await.ok()
    }

    async fn last_digest(&self, name: &str) -> Option<Digest> {
        let name = name.to_owned();
        self.read_cache(move |cache| cache.tag(&name)).await
    }

    /// The manifest with this digest, whose media type has not been announced.
    async fn root_by_digest(&self, digest: &Digest) -> Result<RootManifest, Error> {
        if let Some(root) = self.cached_root(digest).await {
            return Ok(root);
        }
        self.check_online(digest)?;
        let fetched = self.session.manifest(&digest.to_string(), Some(digest)).await?;
        self.store_root(&fetched);
        Ok(fetched.into())
    }

    async fn cached_root(&self, digest: &Digest) -> Option<RootManifest> {
        let bytes = self.cached_document(digest, limits::MANIFEST_BYTES).await?;
        Manifest::parse(&bytes, None).ok()?;
        Some(RootManifest { bytes, content_type: None, digest: digest.clone() })
    }

    /// A manifest that an index lists.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Bytes, Error> {
        if let Some(bytes) = self.cached_document(digest, limits::MANIFEST_BYTES).await {
            return Ok(bytes);
        }
        self.check_online(digest)?;
        let bytes = self.session.manifest(&digest.to_string(), Some(digest)).await?.bytes;
        self.store_document(digest, &bytes);
        Ok(bytes)
    }

    /// A configuration of `size` bytes.
    pub(super) async fn config(&self, digest: &Digest, size: u64) -> Result<Bytes, Error> {
        let cached = self.cached_document(digest, limits::CONFIG_BYTES).await;
        if let Some(bytes) = cached.filter(|bytes| bytes.len() as u64 == size) {
            return Ok(bytes);
        }
        self.check_online(digest)?;
        let bytes = self.session.blob(digest, size, limits::CONFIG_BYTES).await?;
        self.store_document(digest, &bytes);
        Ok(bytes)
    }

    fn check_online(&self, digest: &Digest) -> Result<(), Error> {
        match self.is_offline {
            true => Err(Error::new(Kind::Other, format!("{digest} is not in the cache"))),
            false => Ok(()),
        }
    }

    /// Stores a manifest if it parses the same without the registry's header, which the cache does not store.
    fn store_root(&self, fetched: &FetchedManifest) -> bool {
        let without_header = Manifest::parse(&fetched.bytes, None);
        let with_header = Manifest::parse(&fetched.bytes, fetched.content_type.as_deref());
        let is_self_describing =
            matches!((without_header, with_header), (Ok(one), Ok(other)) if one == other);
        if is_self_describing {
            self.store_document(&fetched.digest, &fetched.bytes);
        }
        is_self_describing
    }

    fn store_document(&self, digest: &Digest, bytes: &Bytes) {
        let (digest, bytes) = (digest.clone(), bytes.clone());
        self.write_cache(move |cache| cache.put_document(&digest, &bytes));
    }

    /// Writes to the cache in the background.
    fn write_cache(&self, write: impl FnOnce(&Cache) + Send + 'static) {
        if let Some(cache) = &self.cache {
            cache.write_later(write);
        }
    }

    async fn cached_document(&self, digest: &Digest, cap: u64) -> Option<Bytes> {
        let digest = digest.clone();
        self.read_cache(move |cache| cache.document(&digest, cap)).await
    }

    async fn read_cache<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Cache) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let cache = self.cache.clone()?;
        run_blocking(move || read(&cache)).await.ok()?
    }
}

impl From<FetchedManifest> for RootManifest {
    fn from(fetched: FetchedManifest) -> Self {
        Self { bytes: fetched.bytes, content_type: fetched.content_type, digest: fetched.digest }
    }
}
