//! `docker save` archives: `manifest.json`, configurations and layers. Old archives link a layer to the same layer of another
//! image; new ones are also OCI layouts, and their layers may be compressed.

use serde::Deserialize;

use crate::{
    error::{Error, Kind},
    limits,
    oci::{
        digest::Digest,
        manifest::ImageConfig,
        media_type::MediaType,
        reference::{ArchiveImage, ImageReference, Reference},
    },
    source::{file::FileBlob, local::Local},
};

/// One image of an archive.
pub(super) struct SavedImage {
    /// Digest of the configuration, which is docker's image ID.
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<SavedLayer>,
}

/// One layer of an archive.
pub(super) struct SavedLayer {
    pub(super) diff_id: Digest,
    pub(super) media_type: MediaType,
    pub(super) blob: FileBlob,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ManifestItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Opens the requested image. Blocks.
pub(super) fn open(local: &Local, reference: &ImageReference) -> Result<SavedImage, Error> {
    let ImageReference::DockerArchive { image, .. } = reference else {
        return Err(Error::new(Kind::Usage, format!("{reference} is not a docker archive")));
    };
    let Some(manifest) = member(local, "manifest.json", reference)? else {
        let hint = match local.open("index.json")? {
            Some(_) => " (it is an OCI image layout in an archive, which is written oci-archive:FILE)",
            None => "",
        };
        let message = format!("{reference} is not a docker archive: it has no manifest.json{hint}");
        return Err(Error::new(Kind::NoSuchImage, message));
    };
    let manifest = read(&manifest, limits::MANIFEST_BYTES, reference)?;
    let items: Vec<ManifestItem> = serde_json::from_slice(&manifest).map_err(|error| {
        Error::caused(Kind::Corrupt, format!("reading manifest.json of {reference}"), error)
    })?;
    let item = choose(&items, image.as_ref(), reference)?;
    let config = read(&required(local, &item.config, reference)?, limits::CONFIG_BYTES, reference)?;
    let digest = Digest::sha256(&config);
    let config = ImageConfig::parse(&config).map_err(|error| {
        Error::caused(
            Kind::Corrupt,
            format!("reading the configuration {} of {reference}", item.config),
            error,
        )
    })?;
    let names = item.layers.as_deref().unwrap_or_default();
    if names.len() != config.diff_ids().len() {
        let (layers, ids) = (names.len(), config.diff_ids().len());
        let message =
            format!("{reference}: manifest.json has {layers} layers, the configuration {ids} DiffIDs");
        return Err(Error::new(Kind::Corrupt, message));
    }
    let layers = names.iter().zip(config.diff_ids()).map(|(name, diff_id)| {
        let blob = required(local, name, reference)?;
        Ok(SavedLayer { diff_id: diff_id.clone(), media_type: MediaType::DOCKER_LAYER, blob })
    });
    let layers = layers.collect::<Result<_, Error>>()?;
    Ok(SavedImage { digest, config, layers })
}

fn choose<'a>(
    items: &'a [ManifestItem],
    image: Option<&ArchiveImage>,
    reference: &ImageReference,
) -> Result<&'a ManifestItem, Error> {
    let tagged = |item: &ManifestItem, wanted: &str| {
        let mut tags = item.repo_tags.iter().flatten();
        tags.any(|tag| tag.parse::<Reference>().is_ok_and(|tag| tag.to_string() == wanted))
    };
    let found = match image {
        Some(ArchiveImage::Index(index)) => items.get(*index),
        Some(ArchiveImage::Reference(wanted)) => items.iter().find(|item| tagged(item, wanted)),
        // The same image may be listed once per name.
        None => items.first().filter(|first| {
            items.iter().all(|item| item.config == first.config && item.layers == first.layers)
        }),
    };
    found.ok_or_else(|| {
        let present: Vec<String> = items
            .iter()
            .enumerate()
            .map(|(index, item)| match item.repo_tags.iter().flatten().next() {
                Some(tag) => format!("{tag} (@{index})"),
                None => format!("@{index}"),
            })
            .collect();
        let problem = if image.is_some() { "has no such image" } else { "does not have exactly one image" };
        let present = if present.is_empty() { "none".to_owned() } else { present.join(", ") };
        Error::new(Kind::NoSuchImage, format!("{reference} {problem}; it has {present}"))
    })
}

fn member(local: &Local, name: &str, reference: &ImageReference) -> Result<Option<FileBlob>, Error> {
    local.open(name).map_err(|error| Error::from(error).context(format!("opening {name} of {reference}")))
}

fn required(local: &Local, name: &str, reference: &ImageReference) -> Result<FileBlob, Error> {
    member(local, name, reference)?.ok_or_else(|| {
        Error::new(Kind::Corrupt, format!("{reference} lacks {name}, which its manifest.json lists"))
    })
}

fn read(blob: &FileBlob, cap: u64, reference: &ImageReference) -> Result<Vec<u8>, Error> {
    let operation = || format!("reading {} for {reference}", blob.name());
    blob.read_all(cap).map_err(|error| Error::caused(Kind::Other, operation(), error))
}
