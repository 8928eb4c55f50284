//! The SOCI index beside an image: fetched once, whichever layer asks for it first.
//!
//! ```text
//! manifest ─ annotation ─▶ index (by digest) ─▶ zTOC of the layer (by digest)
//! ```
//! Each is checked against what names it, so that what the zTOC says is as true as the manifest. An index that only refers to its
//! image (version 1) can come from anybody who may push to the repository, and looking for one costs a round trip before any layer
//! is read, mostly for nothing: none is looked for.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::{
    error::{Error, Kind},
    limits,
    oci::{digest::Digest, manifest::ImageManifest},
    registry::session::Session,
    toc::{
        LayerToc,
        soci::{self, Index, IndexVersion},
    },
};

/// The index that an image's manifest names.
pub(crate) struct SociIndex {
    session: Arc<Session>,
    digest: Digest,
    /// Nothing once it is known that it cannot be used.
    index: OnceCell<Option<Index>>,
}

impl SociIndex {
    /// The index of the image with this manifest, if it names one. Nothing is asked for yet.
    pub(crate) fn of(manifest: &ImageManifest, session: &Arc<Session>) -> Option<Arc<Self>> {
        let digest = manifest.annotations().get(soci::INDEX_ANNOTATION)?.parse().ok()?;
        Some(Arc::new(Self { session: Arc::clone(session), digest, index: OnceCell::new() }))
    }

    /// The table of a layer whose blob has `size` bytes; nothing if there is none.
    ///
    /// # Errors
    /// If the index or the table cannot be had or used. Of the index, only who asks first is told.
    pub(super) async fn toc(&self, layer: &Digest, size: u64) -> Result<Option<LayerToc>, Error> {
        let mut failure = None;
        let fetched = self.index.get_or_init(|| async {
            match self.fetch().await {
                Ok(index) => Some(index),
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
        let bytes = self.session.blob(ztoc.digest(), ztoc.size(), limits::TOC_BYTES).await?;
        match tokio::task::spawn_blocking(move || soci::ztoc(&bytes, size)).await {
            Ok(toc) => toc.map(Some).map_err(unusable),
            Err(error) => Err(Error::caused(Kind::Other, "reading was interrupted", error)),
        }
    }

    async fn fetch(&self) -> Result<Index, Error> {
        let fetched = self.session.manifest(&self.digest.to_string(), Some(&self.digest)).await?;
        let index = soci::index(&fetched.bytes).map_err(unusable)?;
        if index.version == IndexVersion::V2 { Ok(index) } else { Err(unusable(soci::Error::NotIndex)) }
    }
}

fn unusable(error: soci::Error) -> Error {
    Error::caused(Kind::Corrupt, "the SOCI index beside the image cannot be used", error)
}
