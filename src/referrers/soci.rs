//! The SOCI index of an image: fetched once, by the first layer that needs it.
//!
//! ```text
//! manifest ─ annotation ─▶ index (by digest) ─▶ zTOC of the layer (by digest)        version 2
//! manifest ◀── subject ─── index (by digest) ─▶ zTOC of the layer (by digest)        version 1
//! ```
//! Each document is checked against what names it, so a zTOC of version 2 is as trustworthy as the manifest. An index that only refers
//! to its image (version 1) can come from anyone who may push to the repository: it is unsigned.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::{
    cache::Cache,
    error::{Error, Kind},
    limits,
    oci::{
        digest::Digest,
        manifest::{Descriptor, ImageManifest},
    },
    registry::session::Session,
    threads::run_blocking,
    toc::{
        LayerToc,
        soci::{self, Index, IndexVersion},
    },
};

/// An unsigned zTOC that exceeds the size of its layer by more bytes than this is not fetched.
const SPARE_BYTES: u64 = 1 << 20;

/// The index of an image.
pub(crate) struct SociIndex {
    session: Arc<Session>,
    /// Where documents are kept between runs.
    cache: Option<Cache>,
    named: Named,
    /// `None` once it is known that it cannot be used.
    index: OnceCell<Option<Index>>,
}

/// How the index is found.
enum Named {
    /// The image's manifest names it.
    ByManifest(Digest),
    /// These refer to the image; the first usable one counts.
    Referring { candidates: Vec<Digest>, subject: Digest },
}

impl SociIndex {
    /// The index of the image with this manifest, if it names one. Nothing is requested yet.
    pub(crate) fn of(
        manifest: &ImageManifest,
        session: &Arc<Session>,
        cache: Option<&Cache>,
    ) -> Option<Arc<Self>> {
        let digest = manifest.annotations().get(soci::INDEX_ANNOTATION)?.parse().ok()?;
        Some(Arc::new(Self::new(Named::ByManifest(digest), session, cache)))
    }

    /// The index among these that refer to the image. Nothing is requested yet.
    pub(super) fn referring(
        candidates: Vec<Digest>,
        subject: Digest,
        session: &Arc<Session>,
        cache: Option<&Cache>,
    ) -> Self {
        Self::new(Named::Referring { candidates, subject }, session, cache)
    }

    fn new(named: Named, session: &Arc<Session>, cache: Option<&Cache>) -> Self {
        Self { session: Arc::clone(session), cache: cache.cloned(), named, index: OnceCell::new() }
    }

    /// The TOC of a layer whose blob has `size` bytes; `None` if the index has none.
    ///
    /// # Errors
    ///
    /// If the index or the zTOC cannot be had or used. An error of the index is reported only once.
    pub(crate) async fn toc(&self, layer: &Digest, size: u64) -> Result<Option<LayerToc>, Error> {
        let mut failure = None;
        let fetched = self.index.get_or_init(|| async {
            match self.fetch().await {
                Ok(index) => index,
                Err(error) => {
                    failure = Some(error);
                    None
                }
            }
        });
        let index = fetched.await;
        if let Some(error) = failure {
            return Err(error);
        }
        let ztoc = index.as_ref().and_then(|index| index.layers.iter().find(|(of, _)| of == layer));
        let Some((_, ztoc)) = ztoc else { return Ok(None) };
        // The zTOC of a small layer may well be larger than the layer, but an unsigned one is not fetched at any price.
        if matches!(self.named, Named::Referring { .. }) && ztoc.size() > size.saturating_add(SPARE_BYTES) {
            return Ok(None);
        }
        let bytes = self.ztoc(ztoc).await?;
        match run_blocking(move || soci::ztoc(&bytes, size)).await {
            Ok(toc) => toc.map(Some).map_err(unusable),
            Err(error) => Err(Error::caused(Kind::Other, "reading was interrupted", error)),
        }
    }

    async fn fetch(&self) -> Result<Option<Index>, Error> {
        match &self.named {
            Named::ByManifest(digest) => self.index(digest, IndexVersion::V2, None).await.map(Some),
            Named::Referring { candidates, subject } => {
                let mut result = Ok(None);
                for candidate in candidates {
                    result = self.index(candidate, IndexVersion::V1, Some(subject)).await.map(Some);
                    if result.is_ok() {
                        break;
                    }
                }
                result
            }
        }
    }

    /// One index, which must have this version and, if given, this subject.
    async fn index(
        &self,
        digest: &Digest,
        version: IndexVersion,
        subject: Option<&Digest>,
    ) -> Result<Index, Error> {
        let bytes = match self.cached(digest, limits::MANIFEST_BYTES).await {
            Some(bytes) => bytes,
            None => {
                let fetched = self.session.manifest(&digest.to_string(), Some(digest)).await?;
                self.store(digest, &fetched.bytes);
                fetched.bytes
            }
        };
        let index = soci::index(&bytes).map_err(unusable)?;
        let fits = index.version == version && subject.is_none_or(|_| index.subject.as_ref() == subject);
        if fits { Ok(index) } else { Err(unusable(soci::Error::NotIndex)) }
    }

    async fn ztoc(&self, ztoc: &Descriptor) -> Result<Bytes, Error> {
        let cached = self.cached(ztoc.digest(), limits::ZTOC_BYTES).await;
        if let Some(bytes) = cached.filter(|bytes| bytes.len() as u64 == ztoc.size()) {
            return Ok(bytes);
        }
        let bytes = self.session.blob(ztoc.digest(), ztoc.size(), limits::ZTOC_BYTES).await?;
        self.store(ztoc.digest(), &bytes);
        Ok(bytes)
    }

    async fn cached(&self, digest: &Digest, cap: u64) -> Option<Bytes> {
        let (cache, digest) = (self.cache.clone()?, digest.clone());
        run_blocking(move || cache.document(&digest, cap)).await.ok()?
    }

    /// Stores a verified document in the background.
    fn store(&self, digest: &Digest, bytes: &Bytes) {
        let Some(cache) = &self.cache else { return };
        let (digest, bytes) = (digest.clone(), bytes.clone());
        cache.write_later(move |cache| cache.put_document(&digest, &bytes));
    }
}

fn unusable(error: soci::Error) -> Error {
    Error::caused(Kind::Corrupt, "the SOCI index of the image cannot be used", error)
}
