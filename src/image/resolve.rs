//! Resolves a reference to an image: manifest, or image index ▸ platform ▸ manifest, then configuration and layers.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    Image, Inner, docker_archive,
    documents::Documents,
    oci_layout,
    select::{Selected, probe, select},
};
use crate::{
    cache::Cache,
    error::{Error, Kind},
    layer::{Layer, toc_state::TocCell},
    limits::{self, Limits},
    oci::{
        digest::Digest,
        manifest::{Descriptor, ImageConfig, ImageManifest, Manifest, ManifestError},
        media_type::MediaType,
        platform::Platform,
        reference::{ImageReference, Reference},
    },
    progress::Reporter,
    read::{
        config::{ConfigFuture, Configuration},
        pool::WorkerPool,
    },
    referrers::{Referrers, soci::SociIndex},
    registry::session::Session,
    source::{Source, local::Local, registry_blob::RegistryBlob, traced::TracedSource},
    threads::run_blocking,
};

#[cfg(test)]
mod tests;

/// Holds the documents and blobs of an image.
#[derive(Clone)]
pub(super) enum ImageStore {
    /// An OCI image layout, in a directory or an archive.
    Layout(Arc<Local>),
    /// A repository of a registry.
    Registry(Documents),
}

/// The manifest or index that a reference points to.
pub(super) struct RootManifest {
    /// The bytes of the document.
    pub(super) bytes: Bytes,
    /// The media type that the transport announced.
    pub(super) content_type: Option<String>,
    /// The verified digest of the bytes.
    pub(super) digest: Digest,
}

/// A request to open an image.
#[derive(Clone)]
pub(crate) struct ImageRequest {
    pub(crate) reference: ImageReference,
    pub(crate) platform: Platform,
    pub(crate) progress: Arc<Reporter>,
    /// The cache on disk, if one is used.
    pub(crate) cache: Option<Cache>,
    /// Most layers that are decoded at the same time.
    pub(crate) parallel_layers: usize,
    /// Where passes do their work.
    pub(crate) pool: Arc<WorkerPool>,
    /// Limits that the caller may have changed.
    pub(crate) limits: Limits,
}

/// Resolves an image in a registry. If the tag has been seen before, `followups` blobs will be read at once.
pub(crate) async fn registry(
    request: ImageRequest,
    reference: &Reference,
    session: Arc<Session>,
    followups: usize,
) -> Result<Image, Error> {
    let documents = Documents::new(session, request.cache.clone()).with_followups(followups);
    let root = documents.root(reference).await?;
    descend(request, ImageStore::Registry(documents), root).await
}

/// The image that a tag pointed to when it was last seen, if all of its documents are in the cache. Sends no request.
pub(crate) async fn last_seen(
    request: ImageRequest,
    reference: &Reference,
    session: Arc<Session>,
) -> Option<Image> {
    let documents = Documents::new(session, request.cache.clone()).offline();
    let root = documents.last_seen(reference).await?;
    let image = descend(request, ImageStore::Registry(documents), root).await.ok()?;
    image.inner.configuration.read().await.ok()?;
    Some(image)
}

/// Resolves an image in an OCI image layout.
pub(crate) async fn layout(request: ImageRequest, path: &Path, archive: bool) -> Result<Image, Error> {
    let (local, wanted) =
        (open_local(path, archive, request.limits.unpacked_archive_bytes).await?, request.clone());
    let local = Arc::new(local);
    let root = {
        let local = Arc::clone(&local);
        blocking(move || oci_layout::root(&local, &wanted)).await?
    };
    descend(request, ImageStore::Layout(local), root).await
}

/// Resolves an image in a `docker save` archive.
pub(crate) async fn docker_archive(request: ImageRequest, path: &Path) -> Result<Image, Error> {
    let local = open_local(path, true, request.limits.unpacked_archive_bytes).await?;
    let wanted = request.reference.clone();
    let saved = blocking(move || docker_archive::open(&local, &wanted)).await?;
    let platform = saved.config.platform().cloned();
    check_platform(&request, platform.as_ref())?;
    let configuration = ConfigFuture::ready(Configuration::new(saved.config, platform, saved.layers.len()));
    let image: Arc<str> = request.reference.to_string().into();
    request.progress.resolved(&saved.digest, saved.layers.iter().map(|layer| layer.diff_id.clone()));
    let layers = saved.layers.into_iter().enumerate().map(|(index, layer)| Layer {
        image: Arc::clone(&image),
        index,
        digest: None,
        name: layer.diff_id.clone(),
        media_type: layer.media_type,
        configuration: configuration.clone(),
        annotations: Arc::default(),
        soci: None,
        referrers: None,
        toc: Arc::new(TocCell::new(request.cache.clone())),
        progress: Arc::new(request.progress.for_layer(index, &layer.diff_id)),
        source: Arc::new(TracedSource::new(layer.blob, layer.diff_id, Arc::clone(&request.progress))),
        pool: Arc::clone(&request.pool),
        limits: request.limits,
    });
    let layers = layers.collect();
    Ok(finish(request, (saved.digest, None, None), configuration, layers, None))
}

async fn open_local(path: &Path, archive: bool, max_unpacked: u64) -> Result<Local, Error> {
    let path = path.to_owned();
    blocking(move || {
        let opened = if archive { Local::archive(&path, max_unpacked) } else { Local::directory(&path) };
        Ok(opened?)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match run_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::caused(Kind::Other, "reading was interrupted", error)),
    }
}

/// Follows image indexes down to the manifest for the platform.
async fn descend(request: ImageRequest, store: ImageStore, root: RootManifest) -> Result<Image, Error> {
    let RootManifest { mut bytes, mut content_type, mut digest } = root;
    let mut index_platform = None;
    for _ in 0..=limits::INDEX_DEPTH {
        let manifest = Manifest::parse(&bytes, content_type.as_deref()).map_err(|error| {
            let message = format!("reading the manifest {digest} of {}", request.reference);
            // The document is intact, but not an image.
            let is_foreign = matches!(error, ManifestError::Schema1 | ManifestError::Unknown { .. });
            Error::caused(if is_foreign { Kind::Other } else { Kind::Corrupt }, message, error)
        })?;
        let index = match manifest {
            Manifest::Image(manifest) => {
                return image(request, &store, digest, &manifest, index_platform).await;
            }
            Manifest::Index(index) => index,
        };
        let descriptor = match select(&request, index.manifests())? {
            Selected::Entry(descriptor) => {
                bytes = store.manifest(descriptor, &request).await?;
                descriptor
            }
            Selected::Unstated(candidates) => {
                let (descriptor, document) = probe(&request, &store, index.manifests(), candidates).await?;
                bytes = document;
                descriptor
            }
        };
        content_type = Some(descriptor.media_type().to_string());
        digest = descriptor.digest().clone();
        index_platform = descriptor.platform().cloned().or(index_platform);
    }
    let message = format!("{}: more than {} nested image indexes", request.reference, limits::INDEX_DEPTH);
    Err(Error::new(Kind::Other, message))
}

async fn image(
    request: ImageRequest,
    store: &ImageStore,
    digest: Digest,
    manifest: &ImageManifest,
    index_platform: Option<Platform>,
) -> Result<Image, Error> {
    let (layers, is_unstated) = (manifest.layers().len(), index_platform.is_none());
    // The configuration of an artifact does not describe an image.
    let descriptor = (!manifest.is_artifact()).then(|| manifest.config().clone());
    let configuration = ConfigFuture::new(configuration(
        request.clone(),
        store.clone(),
        descriptor,
        index_platform.clone(),
        layers,
    ));
    let session = match store {
        ImageStore::Layout(_) => None,
        ImageStore::Registry(documents) => Some(Arc::clone(documents.session())),
    };
    let may_be_other = is_unstated && request.platform.is_required();
    // Under a budget, concurrent requests would compete for the remaining bytes.
    let is_budgeted = session.as_ref().is_some_and(|session| session.allowance() < u64::MAX);
    if may_be_other || is_budgeted {
        configuration.read().await?;
    }
    let blobs = manifest.layers().iter().map(|descriptor| descriptor.digest().clone());
    request.progress.resolved(&digest, blobs);
    let name: Arc<str> = request.reference.to_string().into();
    let soci = session.as_ref().and_then(|session| SociIndex::of(manifest, session, request.cache.as_ref()));
    // Referrers are requested only where a key tells which of them to trust.
    let trusting = session.as_ref().filter(|_| request.cache.as_ref().is_some_and(Cache::can_trust));
    let referrers = trusting
        .map(|session| Arc::new(Referrers::new(Arc::clone(session), digest.clone(), request.cache.clone())));
    let (mut layers, mut tocs) = (Vec::with_capacity(manifest.layers().len()), HashMap::new());
    for (index, descriptor) in manifest.layers().iter().enumerate() {
        let toc = match tocs.entry((descriptor.digest(), descriptor.size())) {
            Entry::Occupied(other) => Arc::new(Arc::<TocCell>::as_ref(other.get()).same_blob()),
            Entry::Vacant(place) => Arc::clone(place.insert(Arc::new(TocCell::new(request.cache.clone())))),
        };
        layers.push(Layer {
            image: Arc::clone(&name),
            index,
            digest: Some(descriptor.digest().clone()),
            name: descriptor.digest().clone(),
            media_type: descriptor.media_type().clone(),
            configuration: configuration.clone(),
            annotations: Arc::new(descriptor.annotations().clone()),
            soci: soci.clone(),
            referrers: referrers.clone(),
            toc,
            source: store.blob(descriptor, &request.progress),
            progress: Arc::new(request.progress.for_layer(index, descriptor.digest())),
            pool: Arc::clone(&request.pool),
            limits: request.limits,
        });
    }
    let artifact = manifest.artifact().cloned();
    Ok(finish(request, (digest, index_platform, artifact), configuration, layers, session))
}

/// Reads and checks the configuration of an image with `layers` layers.
async fn configuration(
    request: ImageRequest,
    store: ImageStore,
    descriptor: Option<Descriptor>,
    index_platform: Option<Platform>,
    layers: usize,
) -> Result<Configuration, Error> {
    let config = match &descriptor {
        None => ImageConfig::parse(b"{}"),
        Some(descriptor) => ImageConfig::parse(&store.config(descriptor, &request).await?),
    };
    let config = config.map_err(|error| {
        let digest = descriptor.as_ref().map(|descriptor| format!(" {}", descriptor.digest()));
        let digest = digest.unwrap_or_default();
        let message = format!("reading the configuration{digest} of {}", request.reference);
        Error::caused(Kind::Corrupt, message, error)
    })?;
    // The index takes precedence: configurations often omit the variant or copy the base image's platform.
    if let (Some(indexed), Some(configured)) = (&index_platform, config.platform())
        && (indexed.os(), indexed.architecture()) != (configured.os(), configured.architecture())
    {
        let message = format!(
            "{}: the index states {indexed}, but the image's configuration states {configured}",
            request.reference
        );
        request.progress.warning(&message);
    }
    let platform = index_platform.or_else(|| config.platform().cloned());
    check_platform(&request, platform.as_ref())?;
    let ids = config.diff_ids().len();
    if ids != 0 && ids != layers {
        request.progress.warning(&format!(
            "{}: the configuration has {ids} DiffIDs for {layers} layers; DiffIDs are not checked",
            request.reference
        ));
    }
    Ok(Configuration::new(config, platform, layers))
}

fn finish(
    request: ImageRequest,
    (digest, index_platform, artifact): (Digest, Option<Platform>, Option<MediaType>),
    configuration: ConfigFuture,
    layers: Vec<Layer>,
    session: Option<Arc<Session>>,
) -> Image {
    let ImageRequest { reference, parallel_layers, pool, .. } = request;
    let inner = Inner {
        reference,
        digest,
        index_platform,
        artifact,
        configuration,
        layers,
        parallel_layers,
        pool,
        session,
    };
    Image { inner: Arc::new(inner) }
}

/// Reports an image for another platform: an error if the platform was required, a warning if it was only preferred.
fn check_platform(request: &ImageRequest, found: Option<&Platform>) -> Result<(), Error> {
    let Some(found) = found else {
        if !request.platform.is_required() {
            return Ok(());
        }
        let message =
            format!("{} states no platform, and {} is required", request.reference, request.platform);
        return Err(Error::new(Kind::NoSuchImage, message));
    };
    if request.platform.matches(found) {
        return Ok(());
    }
    let message = format!("{} is for {found}, not for {}", request.reference, request.platform);
    if request.platform.is_required() {
        return Err(Error::new(Kind::NoSuchImage, message));
    }
    request.progress.warning(&message);
    Ok(())
}

impl ImageStore {
    /// An index entry, checked against its descriptor. A registry serves it as a manifest, whatever its media type.
    pub(super) async fn manifest(
        &self,
        descriptor: &Descriptor,
        request: &ImageRequest,
    ) -> Result<Bytes, Error> {
        match self {
            Self::Layout(local) => document(local, descriptor, limits::MANIFEST_BYTES, request).await,
            Self::Registry(documents) => documents.manifest(descriptor.digest()).await,
        }
    }

    /// A configuration, checked against its descriptor.
    pub(super) async fn config(
        &self,
        descriptor: &Descriptor,
        request: &ImageRequest,
    ) -> Result<Bytes, Error> {
        let (digest, size) = (descriptor.digest(), descriptor.size());
        match self {
            Self::Layout(local) => document(local, descriptor, limits::CONFIG_BYTES, request).await,
            Self::Registry(documents) => documents.config(digest, size).await,
        }
    }

    fn blob(&self, descriptor: &Descriptor, progress: &Arc<Reporter>) -> Arc<dyn Source> {
        let (digest, size) = (descriptor.digest(), descriptor.size());
        match self {
            Self::Layout(local) => {
                let blob = oci_layout::blob(local, digest, size);
                Arc::new(TracedSource::new(blob, digest.clone(), Arc::clone(progress)))
            }
            Self::Registry(documents) => {
                let blob = RegistryBlob::new(Arc::clone(documents.session()), digest.clone(), size);
                let is_foreign = descriptor.media_type().is_foreign_layer();
                Arc::new(if is_foreign { blob.foreign() } else { blob })
            }
        }
    }
}

/// Reads a small blob of a layout.
async fn document(
    local: &Arc<Local>,
    descriptor: &Descriptor,
    cap: u64,
    request: &ImageRequest,
) -> Result<Bytes, Error> {
    let (local, digest, size) = (Arc::clone(local), descriptor.digest().clone(), descriptor.size());
    let operation = format!("reading {digest} of {}", request.reference);
    blocking(move || oci_layout::document(&local, &digest, size, cap).map_err(|e| e.context(operation))).await
}
