//! TOCs that refer to an image in its registry: artifacts whose manifest has the image's as its `subject` (OCI image specification,
//! manifest.md, "Guidelines for Artifact Usage"). An artifact of ours has one TOC for each layer; SOCI indexes of version 1 refer to
//! their image in the same way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use tokio::sync::OnceCell;

use self::soci::SociIndex;
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

pub(crate) mod soci;

/// Artifact type of our TOCs.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.layerslayer.toc.v1+json";
/// Media type of one TOC, in the format of the cache.
pub(crate) const TOC_TYPE: &str = "application/vnd.layerslayer.toc.v1";
/// Digest of the layer that a TOC belongs to.
pub(crate) const LAYER_ANNOTATION: &str = "io.layerslayer.toc.layer";
/// Names the key that has signed an artifact's TOCs. It is a hint: nothing is believed because of it.
pub(crate) const KEY_ANNOTATION: &str = "io.layerslayer.toc.key";
/// The Ed25519 signature of a TOC, in base64.
pub(crate) const SIGNATURE_ANNOTATION: &str = "io.layerslayer.toc.signature";

/// Most artifacts that are read for one image.
const ARTIFACTS: usize = 4;
/// A TOC that exceeds the size of its layer by more bytes than this is not worth fetching.
const SPARE_BYTES: u64 = 64 << 10;

/// What refers to one image, shared by its layers. It is requested once, or again if the request was dropped.
pub(crate) struct Referrers {
    session: Arc<Session>,
    subject: Digest,
    cache: Option<Cache>,
    lists: OnceCell<Lists>,
}

/// What refers to an image.
struct Lists {
    /// The TOCs of each layer, in the order of the list.
    tocs: BTreeMap<Digest, Vec<Descriptor>>,
    soci: SociIndex,
}

impl Referrers {
    /// The referrers of the image whose manifest is `subject`; nothing is requested yet.
    pub(crate) fn new(session: Arc<Session>, subject: Digest, cache: Option<Cache>) -> Self {
        Self { session, subject, cache, lists: OnceCell::new() }
    }

    async fn lists(&self) -> Result<&Lists, Error> {
        self.lists.get_or_try_init(|| find(&self.session, &self.subject, self.cache.as_ref())).await
    }

    /// The TOCs of a layer whose blob has `size` bytes.
    pub(crate) async fn tocs(&self, layer: &Digest, size: u64) -> Result<Vec<Descriptor>, Error> {
        let lists = self.lists().await?;
        let tocs = lists.tocs.get(layer).into_iter().flatten();
        let most = size.saturating_add(SPARE_BYTES);
        Ok(tocs.filter(|toc| toc.size() <= most).cloned().collect())
    }

    /// One of them with its signature, which the caller has to check.
    pub(crate) async fn fetch(&self, toc: &Descriptor) -> Result<(Bytes, Vec<u8>), Error> {
        let signature = toc.annotations().get(SIGNATURE_ANNOTATION);
        let signature = signature.and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default();
        let bytes = self.session.blob(toc.digest(), toc.size(), limits::STORED_TOC_BYTES).await?;
        Ok((bytes, signature))
    }

    /// The TOC of a layer by an unsigned SOCI index that refers to the image; `None` where the list of referrers cannot be had.
    pub(crate) async fn soci(&self, layer: &Digest, size: u64) -> Result<Option<LayerToc>, Error> {
        match self.lists().await {
            Ok(lists) => lists.soci.toc(layer, size).await,
            Err(_) => Ok(None),
        }
    }
}

async fn find(session: &Arc<Session>, subject: &Digest, cache: Option<&Cache>) -> Result<Lists, Error> {
    let mut listed = Vec::new();
    let pages = session.referrers(subject).await?;
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
    let mut tocs = BTreeMap::<_, Vec<_>>::new();
    for digest in of_type(ARTIFACT_TYPE) {
        let bytes = session.manifest(&digest.to_string(), Some(digest)).await?.bytes;
        let Manifest::Image(artifact) = Manifest::parse(&bytes, None).map_err(unreadable)? else {
            continue;
        };
        let mut seen = BTreeSet::new();
        for toc in artifact.layers() {
            let layer = toc.annotations().get(LAYER_ANNOTATION).and_then(|layer| layer.parse().ok());
            let layer: Option<Digest> = layer.filter(|_| toc.media_type().as_str() == TOC_TYPE);
            // One for each layer and artifact: the number of attempts stays bounded.
            if let Some(layer) = layer.filter(|layer| seen.insert(layer.clone())) {
                tocs.entry(layer).or_default().push(toc.clone());
            }
        }
    }
    let indexes = of_type(INDEX_V1).cloned().collect();
    let soci = SociIndex::referring(indexes, subject.clone(), session, cache);
    Ok(Lists { tocs, soci })
}

fn unreadable(error: crate::oci::manifest::ManifestError) -> Error {
    Error::caused(Kind::Corrupt, "reading what refers to the image", error)
}
