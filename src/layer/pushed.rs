//! Tables of contents that were pushed beside an image: an artifact whose manifest refers to the image's (OCI image specification,
//! manifest.md, "Guidelines for Artifact Usage"), one of its layers for each layer of the image; and SOCI's of version 1.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::soci::SociIndex;
use crate::{
    cache::Cache,
    error::{Error, Kind},
    limits,
    oci::{
        digest::Digest,
        manifest::{Descriptor, Manifest},
    },
    registry::session::Session,
    toc::{LayerToc, soci::INDEX_V1},
};

/// What the artifact is.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.layerslayer.toc.v1+json";
/// What one table is, in the format of the cache.
pub(crate) const TABLE_TYPE: &str = "application/vnd.layerslayer.toc.v1";
/// Digest of the layer that a table is of.
pub(crate) const LAYER_ANNOTATION: &str = "io.layerslayer.toc.layer";
/// What the key is known by that has signed an artifact's tables: nothing is believed for it.
pub(crate) const KEY_ANNOTATION: &str = "io.layerslayer.toc.key";
/// The Ed25519 signature of a table, in base64.
pub(crate) const SIGNATURE_ANNOTATION: &str = "io.layerslayer.toc.signature";

/// Artifacts that are looked at for one image.
const ARTIFACTS: usize = 4;
/// A table that is larger than its layer by more bytes is not worth fetching.
const SPARE_BYTES: u64 = 64 << 10;

/// What was pushed for one image, shared by its layers: asked for once, or again where the question was dropped. Nothing of one that
/// nobody waits for may stay: it could hold what others need for a token.
pub(crate) struct PushedTocs {
    session: Arc<Session>,
    subject: Digest,
    cache: Option<Cache>,
    found: OnceCell<Found>,
}

/// What refers to an image.
struct Found {
    /// Tables of each layer, those that are listed first first.
    tables: BTreeMap<Digest, Vec<Descriptor>>,
    soci: SociIndex,
}

impl PushedTocs {
    /// That of the image whose manifest is `subject`; nothing is asked for yet.
    pub(crate) fn new(session: Arc<Session>, subject: Digest, cache: Option<Cache>) -> Self {
        Self { session, subject, cache, found: OnceCell::new() }
    }

    async fn found(&self) -> Result<&Found, Error> {
        self.found.get_or_try_init(|| find(&self.session, &self.subject, self.cache.as_ref())).await
    }

    /// The tables that there are for a layer of so many bytes.
    pub(super) async fn tables(&self, layer: &Digest, size: u64) -> Result<Vec<Descriptor>, Error> {
        let found = self.found().await?;
        let tables = found.tables.get(layer).into_iter().flatten();
        let most = size.saturating_add(SPARE_BYTES);
        Ok(tables.filter(|table| table.size() <= most).cloned().collect())
    }

    /// One of them with its signature, which is still to be checked.
    pub(super) async fn fetch(&self, table: &Descriptor) -> Result<(Bytes, Vec<u8>), Error> {
        let signature = table.annotations().get(SIGNATURE_ANNOTATION);
        let signature = signature.and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default();
        let bytes = self.session.blob(table.digest(), table.size(), limits::STORED_TOC_BYTES).await?;
        Ok((bytes, signature))
    }

    /// What a SOCI index that refers to the image says of the layer, which nobody vouches for. Nothing where it cannot be asked what
    /// refers to the image.
    pub(super) async fn soci(&self, layer: &Digest, size: u64) -> Result<Option<LayerToc>, Error> {
        match self.found().await {
            Ok(found) => found.soci.toc(layer, size).await,
            Err(_) => Ok(None),
        }
    }
}

async fn find(session: &Arc<Session>, subject: &Digest, cache: Option<&Cache>) -> Result<Found, Error> {
    // Tables are only for who can tell by a key which are good.
    let is_trusting = cache.is_some_and(Cache::can_trust);
    let mut listed = Vec::new();
    let pages = match is_trusting {
        true => session.referrers(subject).await?,
        false => session.referrers_at_hand(subject, INDEX_V1).await?,
    };
    for page in pages {
        if let Manifest::Index(index) = Manifest::parse(&page, None).map_err(unreadable)? {
            listed.push(index);
        }
    }
    let of_type = |wanted: &'static str| {
        let listed = listed.iter().flat_map(|index| index.manifests());
        let is_wanted = move |one: &&Descriptor| one.artifact_type().is_some_and(|is| is.as_str() == wanted);
        listed.filter(is_wanted).map(Descriptor::digest).take(ARTIFACTS)
    };
    let mut tables = BTreeMap::<_, Vec<_>>::new();
    for digest in of_type(ARTIFACT_TYPE).filter(|_| is_trusting) {
        let bytes = session.manifest(&digest.to_string(), Some(digest)).await?.bytes;
        let Manifest::Image(artifact) = Manifest::parse(&bytes, None).map_err(unreadable)? else {
            continue;
        };
        let mut seen = BTreeSet::new();
        for table in artifact.layers() {
            let layer = table.annotations().get(LAYER_ANNOTATION).and_then(|layer| layer.parse().ok());
            let layer: Option<Digest> = layer.filter(|_| table.media_type().as_str() == TABLE_TYPE);
            // One for each layer and artifact, so that what is to be tried stays bounded.
            if let Some(layer) = layer.filter(|layer| seen.insert(layer.clone())) {
                tables.entry(layer).or_default().push(table.clone());
            }
        }
    }
    let indexes = of_type(INDEX_V1).cloned().collect();
    let soci = SociIndex::referring(indexes, subject.clone(), session, cache);
    Ok(Found { tables, soci })
}

fn unreadable(error: crate::oci::manifest::ManifestError) -> Error {
    Error::caused(Kind::Corrupt, "reading what refers to the image", error)
}
