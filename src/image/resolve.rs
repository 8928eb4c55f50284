//! From a reference to an image: manifest, or image index ▸ platform ▸ manifest, then the configuration and the layers.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;

use super::{Image, Inner, docker_archive, documents::Documents, oci_layout};
use crate::{
    cache::Cache,
    error::{Error, Kind},
    layer::{
        Layer,
        ahead::Slot,
        configuration::{Configuration, Pending},
        known::Knowledge,
        pushed::PushedTocs,
        soci::SociIndex,
    },
    limits,
    oci::{
        digest::Digest,
        manifest::{Descriptor, ImageConfig, ImageManifest, Manifest, ManifestError},
        platform::Platform,
        reference::{ImageReference, Reference},
    },
    progress::Progress,
    registry::session::Session,
    source::{Source, local::Local, registry_blob::RegistryBlob, told::Told},
};

#[cfg(test)]
mod tests;

/// Where the documents and blobs of an image come from.
#[derive(Clone)]
pub(super) enum Origin {
    /// An OCI image layout, in a directory or an archive.
    Layout(Arc<Local>),
    /// A repository of a registry.
    Registry(Documents),
}

/// The manifest to begin with.
pub(super) struct Start {
    /// Its bytes.
    pub(super) bytes: Bytes,
    /// Its media type as the transport gave it.
    pub(super) content_type: Option<String>,
    /// The digest that its bytes hash to.
    pub(super) digest: Digest,
}

/// What an image is asked for with.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) reference: ImageReference,
    pub(crate) platform: Platform,
    pub(crate) progress: Arc<dyn Progress>,
    /// What outlives the run, if anything does.
    pub(crate) cache: Option<Cache>,
    /// Layers that are decoded at the same time, at most.
    pub(crate) parallel_layers: usize,
}

impl Request {
    fn knowledge(&self, referring: Option<&Arc<PushedTocs>>) -> Arc<Knowledge> {
        Arc::new(Knowledge::new(self.cache.clone(), referring.cloned()))
    }
}

/// Resolves an image in a registry; so many blobs will be read at once then, if the tag has been seen before.
pub(crate) async fn registry(
    request: Request,
    reference: &Reference,
    session: Arc<Session>,
    leads_on: usize,
) -> Result<Image, Error> {
    let documents = Documents::new(session, request.cache.clone()).leading_on(leads_on);
    let start = documents.start(reference).await?;
    descend(request, Origin::Registry(documents), start).await
}

/// The image that a tag meant when it was last seen, if all of its documents are in the cache. Asks nobody.
pub(crate) async fn last_seen(
    request: Request,
    reference: &Reference,
    session: Arc<Session>,
) -> Option<Image> {
    let documents = Documents::new(session, request.cache.clone()).offline();
    let start = documents.last(reference).await?;
    let image = descend(request, Origin::Registry(documents), start).await.ok()?;
    image.inner.configuration.read().await.ok()?;
    Some(image)
}

/// Resolves an image in an OCI image layout.
pub(crate) async fn layout(request: Request, path: &Path, archive: bool) -> Result<Image, Error> {
    let (local, wanted) = (open_local(path, archive).await?, request.clone());
    let local = Arc::new(local);
    let start = {
        let local = Arc::clone(&local);
        blocking(move || oci_layout::start(&local, &wanted)).await?
    };
    descend(request, Origin::Layout(local), start).await
}

/// Resolves an image in a `docker save` archive.
pub(crate) async fn docker_archive(request: Request, path: &Path) -> Result<Image, Error> {
    let local = open_local(path, true).await?;
    let wanted = request.reference.clone();
    let saved = blocking(move || docker_archive::open(&local, &wanted)).await?;
    let platform = saved.config.platform().cloned();
    check_platform(&request, platform.as_ref())?;
    let platform = platform.unwrap_or_else(|| request.platform.clone());
    let configuration = Pending::ready(Configuration::new(saved.config, platform, saved.layers.len()));
    let image: Arc<str> = request.reference.to_string().into();
    let layers = saved.layers.into_iter().enumerate().map(|(index, layer)| Layer {
        image: Arc::clone(&image),
        index,
        digest: None,
        name: layer.diff_id.clone(),
        media_type: layer.media_type,
        configuration: configuration.clone(),
        annotations: Arc::default(),
        soci: None,
        knowledge: request.knowledge(None),
        begun: Slot::default(),
        source: Arc::new(Told::new(layer.blob, layer.diff_id, Arc::clone(&request.progress))),
        progress: Arc::clone(&request.progress),
    });
    let layers = layers.collect();
    Ok(finish(request, (saved.digest, None), configuration, layers, None))
}

async fn open_local(path: &Path, archive: bool) -> Result<Local, Error> {
    let path = path.to_owned();
    blocking(move || {
        let opened = if archive { Local::archive(&path) } else { Local::directory(&path) };
        Ok(opened?)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::caused(Kind::Other, "reading was interrupted", error)),
    }
}

/// Goes from the first manifest down to the one of the platform.
async fn descend(request: Request, origin: Origin, start: Start) -> Result<Image, Error> {
    let Start { mut bytes, mut content_type, mut digest } = start;
    let mut chosen = None;
    for _ in 0..=limits::INDEX_DEPTH {
        let manifest = Manifest::parse(&bytes, content_type.as_deref()).map_err(|error| {
            let message = format!("reading the manifest {digest} of {}", request.reference);
            // Whole, but nothing that can be read as an image.
            let is_foreign = matches!(error, ManifestError::Schema1 | ManifestError::Unknown { .. });
            Error::caused(if is_foreign { Kind::Other } else { Kind::Corrupt }, message, error)
        })?;
        let index = match manifest {
            Manifest::Image(manifest) => return image(request, &origin, digest, &manifest, chosen).await,
            Manifest::Index(index) => index,
        };
        let descriptor = select(&request, index.manifests())?;
        bytes = origin.manifest(descriptor, &request).await?;
        content_type = Some(descriptor.media_type().to_string());
        digest = descriptor.digest().clone();
        chosen = descriptor.platform().cloned().or(chosen);
    }
    let message =
        format!("{}: more than {} image indexes inside each other", request.reference, limits::INDEX_DEPTH);
    Err(Error::new(Kind::Other, message))
}

/// The manifest of an index that suits the platform.
pub(super) fn select<'a>(
    request: &Request,
    manifests: impl IntoIterator<Item = &'a Descriptor> + Clone,
) -> Result<&'a Descriptor, Error> {
    let images = || manifests.clone().into_iter().filter(|descriptor| !descriptor.is_attestation());
    let with_platform = images().filter_map(|descriptor| Some((descriptor.platform()?, descriptor)));
    if let Some(descriptor) = request.platform.select(with_platform) {
        return Ok(descriptor);
    }
    // Layouts and nested indexes often do not say what their only entry is for; its configuration will.
    let mut untold = images().filter(|descriptor| descriptor.platform().is_none());
    if let (Some(descriptor), None) = (untold.next(), untold.next()) {
        return Ok(descriptor);
    }
    let mut only = images();
    if let (Some(descriptor), None, false) = (only.next(), only.next(), request.platform.is_required()) {
        return Ok(descriptor);
    }
    let mut there: Vec<String> =
        images().filter_map(|descriptor| descriptor.platform().map(ToString::to_string)).collect();
    there.sort();
    there.dedup();
    let there = if there.is_empty() { "no platform at all".to_owned() } else { there.join(", ") };
    let message = format!("{} has no image for {}; it has {there}", request.reference, request.platform);
    Err(Error::new(Kind::NoSuchImage, message))
}

async fn image(
    request: Request,
    origin: &Origin,
    digest: Digest,
    manifest: &ImageManifest,
    chosen: Option<Platform>,
) -> Result<Image, Error> {
    let (layers, is_untold) = (manifest.layers().len(), chosen.is_none());
    // An artifact's configuration says nothing of an image: none is as good.
    let descriptor = (!manifest.is_artifact()).then(|| manifest.config().clone());
    let configuration =
        Pending::new(configuration(request.clone(), origin.clone(), descriptor, chosen.clone(), layers));
    let session = match origin {
        Origin::Layout(_) => None,
        Origin::Registry(documents) => Some(Arc::clone(documents.session())),
    };
    let may_be_other = is_untold && request.platform.is_required();
    // Under a budget requests do not compete for what is left.
    let is_budgeted = session.as_ref().is_some_and(|session| session.allowance() < u64::MAX);
    if may_be_other || is_budgeted {
        configuration.read().await?;
    }
    let name: Arc<str> = request.reference.to_string().into();
    let soci = session.as_ref().and_then(|session| SociIndex::of(manifest, session, request.cache.as_ref()));
    let referring = session
        .as_ref()
        .map(|session| Arc::new(PushedTocs::new(Arc::clone(session), digest.clone(), request.cache.clone())));
    let (mut layers, mut known) = (Vec::with_capacity(manifest.layers().len()), HashMap::new());
    for (index, descriptor) in manifest.layers().iter().enumerate() {
        let knowledge = match known.entry((descriptor.digest(), descriptor.size())) {
            Entry::Occupied(other) => Arc::new(Arc::<Knowledge>::as_ref(other.get()).twin()),
            Entry::Vacant(place) => Arc::clone(place.insert(request.knowledge(referring.as_ref()))),
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
            knowledge,
            begun: Slot::default(),
            source: origin.blob(descriptor, &request.progress),
            progress: Arc::clone(&request.progress),
        });
    }
    Ok(finish(request, (digest, chosen), configuration, layers, session))
}

/// Reads the configuration of an image with so many layers, and checks what it says.
async fn configuration(
    request: Request,
    origin: Origin,
    descriptor: Option<Descriptor>,
    chosen: Option<Platform>,
    layers: usize,
) -> Result<Configuration, Error> {
    let config = match &descriptor {
        None => ImageConfig::parse(b"{}"),
        Some(descriptor) => ImageConfig::parse(&origin.config(descriptor, &request).await?),
    };
    let config = config.map_err(|error| {
        let digest = descriptor.as_ref().map(|descriptor| format!(" {}", descriptor.digest()));
        let digest = digest.unwrap_or_default();
        let message = format!("reading the configuration{digest} of {}", request.reference);
        Error::caused(Kind::Corrupt, message, error)
    })?;
    // The index decided; configurations often leave out the variant, or keep what their base image said.
    if let (Some(chosen), Some(stated)) = (&chosen, config.platform())
        && (chosen.os(), chosen.architecture()) != (stated.os(), stated.architecture())
    {
        let message =
            format!("{}: the index says {chosen}, the image's configuration {stated}", request.reference);
        request.progress.warning(&message);
    }
    let platform = chosen.or_else(|| config.platform().cloned());
    check_platform(&request, platform.as_ref())?;
    let ids = config.diff_ids().len();
    if ids != 0 && ids != layers {
        request.progress.warning(&format!(
            "{}: the configuration has {ids} DiffIDs for {layers} layers; they are not checked",
            request.reference
        ));
    }
    let platform = platform.unwrap_or_else(|| request.platform.clone());
    Ok(Configuration::new(config, platform, layers))
}

fn finish(
    request: Request,
    (digest, chosen): (Digest, Option<Platform>),
    configuration: Pending,
    layers: Vec<Layer>,
    session: Option<Arc<Session>>,
) -> Image {
    let Request { reference, parallel_layers, .. } = request;
    let inner = Inner { reference, digest, chosen, configuration, layers, parallel_layers, session };
    Image { inner: Arc::new(inner) }
}

/// A single image for another platform: an error if the platform was asked for, a warning if it was only preferred.
fn check_platform(request: &Request, found: Option<&Platform>) -> Result<(), Error> {
    let Some(found) = found else { return Ok(()) };
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

impl Origin {
    /// An entry of an index, checked against its descriptor. A registry keeps it with the manifests, whatever its media type.
    async fn manifest(&self, descriptor: &Descriptor, request: &Request) -> Result<Bytes, Error> {
        match self {
            Self::Layout(local) => document(local, descriptor, limits::MANIFEST_BYTES, request).await,
            Self::Registry(documents) => documents.manifest(descriptor.digest()).await,
        }
    }

    /// A configuration, checked against its descriptor.
    async fn config(&self, descriptor: &Descriptor, request: &Request) -> Result<Bytes, Error> {
        let (digest, size) = (descriptor.digest(), descriptor.size());
        match self {
            Self::Layout(local) => document(local, descriptor, limits::CONFIG_BYTES, request).await,
            Self::Registry(documents) => documents.config(digest, size).await,
        }
    }

    fn blob(&self, descriptor: &Descriptor, progress: &Arc<dyn Progress>) -> Arc<dyn Source> {
        let (digest, size) = (descriptor.digest(), descriptor.size());
        match self {
            Self::Layout(local) => {
                let blob = oci_layout::blob(local, digest, size);
                Arc::new(Told::new(blob, digest.clone(), Arc::clone(progress)))
            }
            Self::Registry(documents) => {
                let blob = RegistryBlob::new(Arc::clone(documents.session()), digest.clone(), size);
                let is_foreign = descriptor.media_type().is_foreign_layer();
                Arc::new(if is_foreign { blob.foreign() } else { blob })
            }
        }
    }
}

/// A small blob of a layout.
async fn document(
    local: &Arc<Local>,
    descriptor: &Descriptor,
    cap: u64,
    request: &Request,
) -> Result<Bytes, Error> {
    let (local, digest, size) = (Arc::clone(local), descriptor.digest().clone(), descriptor.size());
    let doing = format!("reading {digest} of {}", request.reference);
    blocking(move || oci_layout::document(&local, &digest, size, cap).map_err(|e| e.context(doing))).await
}
