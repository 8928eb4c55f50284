//! Manifests and image indexes (OCI image specification, manifest.md and image-index.md; Docker's manifest
//! version 2, schema 2).

mod config;
mod descriptor;
mod error;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use config::{HistoryEntry, ImageConfig};
pub use descriptor::Descriptor;
pub use error::{FieldProblem, ManifestError};

use self::{
    descriptor::descriptors,
    error::{FieldPath, too_many},
    wire::{Object, Pairs, Scalar, WireDescriptor, WireManifest},
};
use crate::{limits, oci::media_type::MediaType};

/// The document behind a reference: the manifest of one image, or an index of several.
///
/// ```
/// use layerslayer::Manifest;
///
/// let body = br#"{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}"#;
/// let Manifest::Index(index) = Manifest::parse(body, Some("application/vnd.oci.image.index.v1+json"))? else {
///     unreachable!()
/// };
/// assert!(index.manifests().is_empty());
/// assert!(Manifest::parse(body, Some("application/vnd.oci.image.manifest.v1+json")).is_err());
/// # Ok::<(), layerslayer::ManifestError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Manifest {
    /// One image, or an artifact in the shape of an image.
    Image(ImageManifest),
    /// An image index or manifest list.
    Index(ImageIndex),
}

impl Manifest {
    /// Parses the bytes of a manifest. `content_type` is the type that the registry or the parent descriptor
    /// announced.
    ///
    /// A document without its own `mediaType` has the type `content_type`, unless its fields show that it is the
    /// other kind. Without either, its fields decide. The bytes are not hashed here.
    ///
    /// # Errors
    /// Fails if the document is not a manifest, has schema 1, is too large, contradicts `content_type`, could
    /// be read as both kinds (CVE-2021-41190), or has an absent or malformed field.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, ManifestError> {
        let wire: WireManifest = wire::parse(bytes, limits::MANIFEST_BYTES)?;
        let media_type = media_type(&wire, content_type)?;
        if media_type.is_index() {
            ImageIndex::from_wire(wire, media_type).map(Self::Index)
        } else {
            ImageManifest::from_wire(wire, media_type).map(Self::Image)
        }
    }

    /// The media type of the document.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        match self {
            Self::Image(image) => image.media_type(),
            Self::Index(index) => index.media_type(),
        }
    }
}

/// The manifest of one image: its configuration and its layers, base first.
///
/// ```
/// use layerslayer::{Descriptor, Digest, ImageManifest, MediaType};
///
/// let config = Descriptor::new(MediaType::OCI_CONFIG, Digest::sha256(b"{}"), 2);
/// let manifest = ImageManifest::new(MediaType::OCI_MANIFEST, config, Vec::new());
/// assert!(!manifest.is_artifact());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageManifest {
    media_type: MediaType,
    config: Box<Descriptor>,
    layers: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
    subject: Option<Box<Descriptor>>,
    artifact_type: Option<MediaType>,
}

impl ImageManifest {
    /// Creates a manifest without annotations.
    #[must_use]
    pub fn new(media_type: MediaType, config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let annotations = BTreeMap::new();
        Self { media_type, config: Box::new(config), layers, annotations, subject: None, artifact_type: None }
    }

    /// The media type of the document: OCI's or Docker's manifest.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Descriptor {
        &self.config
    }

    /// The layers, base first; at most 1,024.
    #[must_use]
    pub fn layers(&self) -> &[Descriptor] {
        &self.layers
    }

    /// Annotations of the manifest.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The manifest that this one refers to. Signatures, bills of materials and other attachments have one.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_deref()
    }

    /// The type of artifact.
    #[must_use]
    pub fn artifact_type(&self) -> Option<&MediaType> {
        self.artifact_type.as_ref()
    }

    /// The artifact type if this is not a container image: the stated one, otherwise the type of the configuration or
    /// of the first layer.
    ///
    /// ```
    /// use layerslayer::{Descriptor, Digest, ImageManifest, MediaType};
    ///
    /// let helm: MediaType = "application/vnd.cncf.helm.config.v1+json".parse()?;
    /// let config = Descriptor::new(helm.clone(), Digest::sha256(b"{}"), 2);
    /// let manifest = ImageManifest::new(MediaType::OCI_MANIFEST, config, Vec::new());
    /// assert_eq!(manifest.artifact(), Some(&helm));
    /// # Ok::<(), layerslayer::MediaTypeError>(())
    /// ```
    #[must_use]
    pub fn artifact(&self) -> Option<&MediaType> {
        if !self.is_artifact() {
            return None;
        }
        let config = self.config.media_type();
        let is_telling = !config.is_image_config() && *config != MediaType::EMPTY && !config.is_generic();
        let first_layer = || self.layers.first().map(Descriptor::media_type);
        let inferred = if is_telling { Some(config) } else { first_layer().or(Some(config)) };
        self.artifact_type.as_ref().or(inferred)
    }

    /// Whether this is not a container image. The "layers" of an artifact can have any format.
    ///
    /// The type of the configuration decides. Signatures and attestations of cosign have an image's configuration, so an
    /// image whose layers all have types of other formats is an artifact as well.
    #[must_use]
    pub fn is_artifact(&self) -> bool {
        let config = self.config.media_type();
        // Old registries gave these types to the configurations of images:
        // https://github.com/docker/distribution/issues/1621
        let defaulted =
            matches!(config.as_str(), "application/json" | "application/octet-stream" | "text/html");
        let holds_other_formats =
            !self.layers.is_empty() && self.layers.iter().all(|layer| layer.media_type().is_other_format());
        (!config.is_image_config() && !defaulted) || holds_other_formats
    }

    fn from_wire(wire: WireManifest, media_type: MediaType) -> Result<Self, ManifestError> {
        if wire.manifests.is_some_and(|manifests| manifests.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        let Object(config) = wire.config.flatten().ok_or_else(|| FieldPath::field("config").absent())?;
        Ok(Self {
            media_type,
            config: Box::new(Descriptor::of_config(config)?),
            layers: descriptors("layers", wire.layers.flatten())?,
            annotations: annotations(wire.annotations)?,
            subject: subject(wire.subject)?,
            artifact_type: artifact_type(wire.artifact_type)?,
        })
    }
}

/// An image index: a list of manifests, usually one per platform.
///
/// ```
/// use layerslayer::{ImageIndex, MediaType};
///
/// let index = ImageIndex::new(MediaType::OCI_INDEX, Vec::new());
/// assert_eq!(index.media_type(), &MediaType::OCI_INDEX);
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageIndex {
    media_type: MediaType,
    manifests: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
    subject: Option<Box<Descriptor>>,
    artifact_type: Option<MediaType>,
}

impl ImageIndex {
    /// Creates an index without annotations.
    #[must_use]
    pub fn new(media_type: MediaType, manifests: Vec<Descriptor>) -> Self {
        Self { media_type, manifests, annotations: BTreeMap::new(), subject: None, artifact_type: None }
    }

    /// The media type of the document: OCI's index or Docker's list.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The entries in order, including attestations (see [`Descriptor::is_attestation`]); at most
    /// 16,384.
    #[must_use]
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// Annotations of the index.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The manifest that this index refers to.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_deref()
    }

    /// The type of artifact.
    #[must_use]
    pub fn artifact_type(&self) -> Option<&MediaType> {
        self.artifact_type.as_ref()
    }

    fn from_wire(wire: WireManifest, media_type: MediaType) -> Result<Self, ManifestError> {
        if wire.config.is_some_and(|config| config.is_some())
            || wire.layers.is_some_and(|layers| layers.is_some())
        {
            return Err(ManifestError::Ambiguous);
        }
        let manifests = wire.manifests.ok_or_else(|| FieldPath::field("manifests").absent())?;
        Ok(Self {
            media_type,
            manifests: descriptors("manifests", manifests)?,
            annotations: annotations(wire.annotations)?,
            subject: subject(wire.subject)?,
            artifact_type: artifact_type(wire.artifact_type)?,
        })
    }
}

/// Decides the type of the document from its `mediaType`, the server's header and its fields.
fn media_type(wire: &WireManifest, content_type: Option<&str>) -> Result<MediaType, ManifestError> {
    // A header that is not a media type is ignored.
    let header =
        content_type.and_then(|text| text.parse::<MediaType>().ok()).filter(|header| !header.is_generic());
    let body = wire
        .media_type
        .as_ref()
        .map(|text| FieldPath::field("mediaType").media_type(text))
        .transpose()?
        .flatten();
    if let (Some(header), Some(body)) = (&header, &body)
        && header != body
    {
        return Err(ManifestError::ContentType { header: header.clone(), body: body.clone() });
    }
    let stated = body.or_else(|| header.map(|header| correct_kind(header, wire)));
    let schema1 = stated.as_ref().is_some_and(MediaType::is_docker_schema1);
    match wire.schema_version.as_ref().map(Scalar::number) {
        Some(Some(1)) => return Err(ManifestError::Schema1),
        _ if schema1 || wire.fs_layers.is_some() => return Err(ManifestError::Schema1),
        None | Some(Some(2)) => {}
        Some(_) => return Err(FieldPath::field("schemaVersion").problem(FieldProblem::SchemaVersion)),
    }
    match stated {
        Some(stated) if stated.is_index() || stated.is_manifest() => Ok(stated),
        Some(media_type) => Err(ManifestError::Unknown { media_type: Some(media_type) }),
        None if wire.manifests.is_some() => Ok(MediaType::OCI_INDEX),
        None if wire.config.is_some() => Ok(MediaType::OCI_MANIFEST),
        None if wire.layers.is_some() => Ok(MediaType::OCI_MANIFEST),
        None => Err(ManifestError::Unknown { media_type: None }),
    }
}

/// Registries announce indexes without `mediaType` as manifests, and the other way round. Only unambiguous fields
/// overrule the header.
fn correct_kind(header: MediaType, wire: &WireManifest) -> MediaType {
    let has_manifests = wire.manifests.as_ref().is_some_and(Option::is_some);
    let has_image = wire.config.as_ref().is_some_and(Option::is_some)
        || wire.layers.as_ref().is_some_and(Option::is_some);
    let pairs = [
        (MediaType::OCI_MANIFEST, MediaType::OCI_INDEX),
        (MediaType::DOCKER_MANIFEST, MediaType::DOCKER_MANIFEST_LIST),
    ];
    for (manifest, index) in pairs {
        match (has_image, has_manifests) {
            (false, true) if header == manifest => return index,
            (true, false) if header == index => return manifest,
            _ => {}
        }
    }
    header
}

fn annotations(wire: Option<Pairs>) -> Result<BTreeMap<String, String>, ManifestError> {
    let wire = wire.unwrap_or_default();
    if wire.more { Err(too_many("annotations", limits::DOCUMENT_ITEMS)) } else { Ok(wire.items) }
}

fn subject(wire: Option<Object<WireDescriptor>>) -> Result<Option<Box<Descriptor>>, ManifestError> {
    wire.map(|Object(wire)| Descriptor::from_wire(wire, FieldPath::field("subject")).map(Box::new))
        .transpose()
}

fn artifact_type(wire: Option<Scalar>) -> Result<Option<MediaType>, ManifestError> {
    Ok(wire.map(|text| FieldPath::field("artifactType").media_type(&text)).transpose()?.flatten())
}
