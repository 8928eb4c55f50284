//! Selects the manifest of an image index for a platform.

use bytes::Bytes;

use super::resolve::{ImageRequest, ImageStore};
use crate::{
    error::{Error, Kind},
    limits,
    oci::{
        manifest::{Descriptor, ImageConfig, Manifest},
        platform::Platform,
    },
};

/// The entries of an index that may be for the platform.
pub(super) enum Selected<'a> {
    /// The entry for the platform, or the only one.
    Entry(&'a Descriptor),
    /// Entries that state no platform. Their configurations may.
    Unstated(Vec<&'a Descriptor>),
}

/// Selects by the platforms that the entries state.
pub(super) fn select<'a>(
    request: &ImageRequest,
    manifests: impl IntoIterator<Item = &'a Descriptor> + Clone,
) -> Result<Selected<'a>, Error> {
    let images = || manifests.clone().into_iter().filter(|descriptor| !descriptor.is_attestation());
    if let Some(descriptor) = request.platform.select(stated(images())) {
        return Ok(Selected::Entry(descriptor));
    }
    let mut only = images();
    if let (Some(descriptor), None) = (only.next(), only.next()) {
        // Layouts and nested indexes often state no platform for their only entry; its configuration is checked later.
        let is_unstated = descriptor.platform().is_none();
        if is_unstated || !request.platform.is_required() {
            return Ok(Selected::Entry(descriptor));
        }
    }
    let unstated = images().filter(|descriptor| descriptor.platform().is_none());
    let unstated: Vec<_> = unstated.take(limits::UNSTATED_PLATFORMS).collect();
    if unstated.is_empty() { Err(no_platform(request, images())) } else { Ok(Selected::Unstated(unstated)) }
}

/// Selects among entries that state no platform by the platforms in their configurations. Artifacts have none, so they
/// are never selected.
pub(super) async fn probe<'a>(
    request: &ImageRequest,
    store: &ImageStore,
    manifests: &'a [Descriptor],
    candidates: Vec<&'a Descriptor>,
) -> Result<(&'a Descriptor, Bytes), Error> {
    let mut found = Vec::new();
    for descriptor in candidates {
        let bytes = match store.manifest(descriptor, request).await {
            Err(error) if error.is_no_such_image() => continue,
            bytes => bytes?,
        };
        if let Some(platform) = configured_platform(request, store, descriptor, &bytes).await? {
            found.push((platform, (descriptor, bytes)));
        }
    }
    let selected = request.platform.select(found.iter().map(|(platform, entry)| (platform, entry)));
    let images = manifests.iter().filter(|descriptor| !descriptor.is_attestation());
    selected.cloned().ok_or_else(|| no_platform(request, images))
}

/// The platform of a manifest according to its configuration; of a nested index, the best one that it states.
async fn configured_platform(
    request: &ImageRequest,
    store: &ImageStore,
    descriptor: &Descriptor,
    bytes: &Bytes,
) -> Result<Option<Platform>, Error> {
    match Manifest::parse(bytes, Some(descriptor.media_type().as_str())) {
        Ok(Manifest::Image(manifest)) if !manifest.is_artifact() => {
            let config = ImageConfig::parse(&store.config(manifest.config(), request).await?);
            Ok(config.ok().and_then(|config| config.platform().cloned()))
        }
        Ok(Manifest::Index(index)) => {
            let platforms = stated(index.manifests()).map(|(platform, _)| (platform, platform));
            Ok(request.platform.select(platforms).cloned())
        }
        Ok(_) | Err(_) => Ok(None),
    }
}

fn stated<'a>(
    manifests: impl IntoIterator<Item = &'a Descriptor>,
) -> impl Iterator<Item = (&'a Platform, &'a Descriptor)> {
    manifests.into_iter().filter_map(|descriptor| Some((descriptor.platform()?, descriptor)))
}

fn no_platform<'a>(request: &ImageRequest, images: impl Iterator<Item = &'a Descriptor>) -> Error {
    let (mut platforms, mut unstated) = (Vec::new(), 0_usize);
    for descriptor in images {
        match descriptor.platform() {
            Some(platform) => platforms.push(platform.to_string()),
            None => unstated += 1,
        }
    }
    platforms.sort();
    platforms.dedup();
    match unstated {
        0 => {}
        1 => platforms.push("an entry without a platform".to_owned()),
        _ => platforms.push(format!("{unstated} entries without a platform")),
    }
    let present = if platforms.is_empty() { "no images".to_owned() } else { platforms.join(", ") };
    let message = format!("{} has no image for {}; it has {present}", request.reference, request.platform);
    Error::new(Kind::NoSuchImage, message)
}
