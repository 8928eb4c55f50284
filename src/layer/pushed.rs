//! Tables of contents that were pushed beside an image: an artifact whose manifest refers to the image's (OCI image specification,
//! manifest.md, "Guidelines for Artifact Usage"), one of its layers for each layer of the image.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::{
    error::{Error, Kind},
    limits,
    oci::{
        digest::Digest,
        manifest::{Descriptor, Manifest},
    },
    registry::session::Session,
};

/// What the artifact is.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.layerslayer.toc.v1+json";
/// What one table is, in the format of the cache.
pub(crate) const TABLE_TYPE: &str = "application/vnd.layerslayer.toc.v1";
/// Digest of the layer that a table is of.
pub(crate) const LAYER_ANNOTATION: &str = "io.layerslayer.toc.layer";
/// The Ed25519 signature of a table, in base64.
pub(crate) const SIGNATURE_ANNOTATION: &str = "io.layerslayer.toc.signature";

/// Artifacts that are looked at for one image.
const ARTIFACTS: usize = 4;
/// A table that is larger than its layer by more bytes is not worth fetching.
const SPARE_BYTES: u64 = 64 << 10;

/// What was pushed for one image, shared by its layers: looked for once.
pub(crate) struct PushedTocs {
    session: Arc<Session>,
    subject: Digest,
    found: OnceCell<BTreeMap<Digest, Descriptor>>,
}

impl PushedTocs {
    /// That of the image whose manifest is `subject`; nothing is asked for yet.
    pub(crate) fn new(session: Arc<Session>, subject: Digest) -> Self {
        Self { session, subject, found: OnceCell::new() }
    }

    /// The table for a layer of so many bytes, with its signature, which is still to be checked.
    pub(crate) async fn table(&self, layer: &Digest, size: u64) -> Result<Option<(Bytes, Vec<u8>)>, Error> {
        let found = self.found.get_or_try_init(|| self.find()).await?;
        let Some(table) = found.get(layer) else { return Ok(None) };
        if table.size() > size.saturating_add(SPARE_BYTES) {
            return Ok(None);
        }
        let signature = table.annotations().get(SIGNATURE_ANNOTATION);
        let signature = signature.and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default();
        let bytes = self.session.blob(table.digest(), table.size(), limits::STORED_TOC_BYTES).await?;
        Ok(Some((bytes, signature)))
    }

    async fn find(&self) -> Result<BTreeMap<Digest, Descriptor>, Error> {
        let mut found = BTreeMap::new();
        let Some(bytes) = self.session.referrers(&self.subject).await? else { return Ok(found) };
        let Manifest::Index(index) = Manifest::parse(&bytes, None).map_err(unreadable)? else {
            return Ok(found);
        };
        let is_ours = |one: &&Descriptor| {
            one.artifact_type().is_some_and(|artifact_type| artifact_type.as_str() == ARTIFACT_TYPE)
        };
        for descriptor in index.manifests().iter().filter(is_ours).take(ARTIFACTS) {
            let digest = descriptor.digest();
            let bytes = self.session.manifest(&digest.to_string(), Some(digest)).await?.bytes;
            let Manifest::Image(artifact) = Manifest::parse(&bytes, None).map_err(unreadable)? else {
                continue;
            };
            for table in artifact.layers() {
                let layer = table.annotations().get(LAYER_ANNOTATION).and_then(|layer| layer.parse().ok());
                if let Some(layer) = layer.filter(|_| table.media_type().as_str() == TABLE_TYPE) {
                    found.entry(layer).or_insert_with(|| table.clone());
                }
            }
        }
        Ok(found)
    }
}

fn unreadable(error: crate::oci::manifest::ManifestError) -> Error {
    Error::caused(Kind::Corrupt, "reading what refers to the image", error)
}
