//! The documents of an image in a registry: its manifests and its configuration, from the cache where they are there.
//!
//! ```text
//! by digest               cached ─▶ no request;  else GET by digest
//! by a tag, new to us     GET by tag: one round trip
//! by a tag, seen before   HEAD by tag ─▶ digest ─▶ cached;   else GET by tag: what is sent decides, whatever its head said
//! ```

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::resolve::Start;
use crate::{
    cache::Cache,
    error::{Error, Kind},
    limits,
    oci::{digest::Digest, manifest::Manifest, reference::Reference},
    registry::{Session, session::FetchedManifest},
};

/// The documents of one repository.
#[derive(Clone)]
pub(super) struct Documents {
    session: Arc<Session>,
    cache: Option<Cache>,
    /// Whether nothing is asked for.
    is_offline: bool,
    /// Blobs that are read next.
    leads_on: usize,
}

impl Documents {
    pub(super) fn new(session: Arc<Session>, cache: Option<Cache>) -> Self {
        Self { session, cache, is_offline: false, leads_on: 0 }
    }

    /// Those in the cache alone.
    pub(super) fn offline(self) -> Self {
        Self { is_offline: true, ..self }
    }

    /// The same where so many blobs will be read as soon as it is known what the tag means.
    pub(super) fn leading_on(self, leads_on: usize) -> Self {
        Self { leads_on, ..self }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The manifest that a reference leads to.
    pub(super) async fn start(&self, reference: &Reference) -> Result<Start, Error> {
        if let Some(digest) = reference.digest() {
            return self.start_at(digest).await;
        }
        let (tag, name) = (reference.tag().unwrap_or("latest"), reference.to_string());
        let seen = self.seen(&name).await;
        let told = match seen {
            Some(_) => self.session.head_manifest(tag, self.leads_on).await?,
            None => None,
        };
        if let Some(digest) = &told
            && let Some(start) = self.cached_start(digest).await
        {
            if seen != told {
                let digest = digest.clone();
                self.keep(move |cache| cache.put_tag(&name, &digest));
            }
            return Ok(start);
        }
        let mut fetched = self.session.manifest(tag, None).await?;
        // It may be of another algorithm than ours, under which it is asked for the next time.
        if let Some(told) = told.filter(|told| told.matches(&fetched.bytes)) {
            fetched.digest = told;
        }
        if self.keep_start(&fetched) {
            let digest = fetched.digest.clone();
            self.keep(move |cache| cache.put_tag(&name, &digest));
        }
        Ok(fetched.into())
    }

    /// The manifest that a tag led to when it was last seen.
    pub(super) async fn last(&self, reference: &Reference) -> Option<Start> {
        if reference.digest().is_some() {
            return None;
        }
        let digest = self.seen(&reference.to_string()).await?;
        self.start_at(&digest).await.ok()
    }

    async fn seen(&self, name: &str) -> Option<Digest> {
        let name = name.to_owned();
        self.cached(move |cache| cache.tag(&name)).await
    }

    /// The manifest with this digest, of which nobody has said what it is.
    async fn start_at(&self, digest: &Digest) -> Result<Start, Error> {
        if let Some(start) = self.cached_start(digest).await {
            return Ok(start);
        }
        self.check_online(digest)?;
        let fetched = self.session.manifest(&digest.to_string(), Some(digest)).await?;
        self.keep_start(&fetched);
        Ok(fetched.into())
    }

    async fn cached_start(&self, digest: &Digest) -> Option<Start> {
        let bytes = self.cached_document(digest, limits::MANIFEST_BYTES).await?;
        Manifest::parse(&bytes, None).ok()?;
        Some(Start { bytes, content_type: None, digest: digest.clone() })
    }

    /// A manifest that an index names.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Bytes, Error> {
        if let Some(bytes) = self.cached_document(digest, limits::MANIFEST_BYTES).await {
            return Ok(bytes);
        }
        self.check_online(digest)?;
        let bytes = self.session.manifest(&digest.to_string(), Some(digest)).await?.bytes;
        self.keep_document(digest, &bytes);
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
        self.keep_document(digest, &bytes);
        Ok(bytes)
    }

    fn check_online(&self, digest: &Digest) -> Result<(), Error> {
        match self.is_offline {
            true => Err(Error::new(Kind::Other, format!("{digest} is not in the cache"))),
            false => Ok(()),
        }
    }

    /// Keeps a manifest if it says by itself what it is: the cache does not know what the registry said.
    fn keep_start(&self, fetched: &FetchedManifest) -> bool {
        let alone = Manifest::parse(&fetched.bytes, None);
        let told = Manifest::parse(&fetched.bytes, fetched.content_type.as_deref());
        let is_told_alone = matches!((alone, told), (Ok(alone), Ok(told)) if alone == told);
        if is_told_alone {
            self.keep_document(&fetched.digest, &fetched.bytes);
        }
        is_told_alone
    }

    fn keep_document(&self, digest: &Digest, bytes: &Bytes) {
        let (digest, bytes) = (digest.clone(), bytes.clone());
        self.keep(move |cache| cache.put_document(&digest, &bytes));
    }

    /// Writes to the cache, while the next document is already on its way.
    fn keep(&self, write: impl FnOnce(&Cache) + Send + 'static) {
        if let Some(cache) = &self.cache {
            cache.write_later(write);
        }
    }

    async fn cached_document(&self, digest: &Digest, cap: u64) -> Option<Bytes> {
        let digest = digest.clone();
        self.cached(move |cache| cache.document(&digest, cap)).await
    }

    async fn cached<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Cache) -> Option<T> + Send + 'static,
    ) -> Option<T> {
        let cache = self.cache.clone()?;
        spawn_blocking(move || read(&cache)).await.ok()?
    }
}

impl From<FetchedManifest> for Start {
    fn from(fetched: FetchedManifest) -> Self {
        Self { bytes: fetched.bytes, content_type: fetched.content_type, digest: fetched.digest }
    }
}
