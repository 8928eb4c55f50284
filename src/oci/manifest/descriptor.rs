//! Descriptors (OCI image specification, descriptor.md).

use std::collections::BTreeMap;

use super::{
    error::{FieldPath, FieldProblem, ManifestError, too_many},
    wire::{List, Object, Scalar, WireDescriptor, WirePlatform},
};
use crate::{
    limits,
    oci::{digest::Digest, media_type::MediaType, platform::Platform},
};

/// Marks attestations in an index. <https://docs.docker.com/build/metadata/attestations/attestation-storage/>
const DOCKER_REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Describes some content by media type, digest and size.
///
/// ```
/// use layerslayer::{Descriptor, Digest, MediaType};
///
/// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
/// assert_eq!(descriptor.size(), 2);
/// assert!(descriptor.digest().matches(b"{}"));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Descriptor {
    media_type: MediaType,
    digest: Digest,
    size: u64,
    urls: Vec<String>,
    annotations: BTreeMap<String, String>,
    platform: Option<Platform>,
    artifact_type: Option<MediaType>,
}

impl Descriptor {
    /// Creates a descriptor with only the mandatory fields.
    ///
    /// ```
    /// # use layerslayer::{Descriptor, Digest, MediaType};
    /// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
    /// assert!(descriptor.annotations().is_empty());
    /// ```
    #[must_use]
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// Media type of the content.
    ///
    /// ```
    /// # use layerslayer::{Descriptor, Digest, MediaType};
    /// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
    /// assert_eq!(*descriptor.media_type(), MediaType::EMPTY);
    /// ```
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Digest of the content.
    ///
    /// ```
    /// # use layerslayer::{Descriptor, Digest, MediaType};
    /// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
    /// assert!(descriptor.digest().matches(b"{}"));
    /// ```
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Size of the content in bytes, `0..=i64::MAX`.
    ///
    /// ```
    /// # use layerslayer::{Descriptor, Digest, MediaType};
    /// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
    /// assert_eq!(descriptor.size(), 2);
    /// ```
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Other places to download the content from (foreign layers). Not trusted: the publisher can write any URL.
    ///
    /// ```
    /// # use layerslayer::{Descriptor, Digest, MediaType};
    /// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
    /// assert!(descriptor.urls().is_empty());
    /// ```
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// The annotations.
    ///
    /// ```
    /// # use layerslayer::{Descriptor, Digest, MediaType};
    /// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
    /// assert_eq!(descriptor.annotations().get("org.opencontainers.image.title"), None);
    /// ```
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// The platform of an index entry, if it has one.
    ///
    /// ```
    /// # use layerslayer::{Descriptor, Digest, MediaType};
    /// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
    /// assert_eq!(descriptor.platform(), None);
    /// ```
    #[must_use]
    pub fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// The artifact type of the manifest that the entry describes.
    ///
    /// ```
    /// # use layerslayer::{Descriptor, Digest, MediaType};
    /// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
    /// assert_eq!(descriptor.artifact_type(), None);
    /// ```
    #[must_use]
    pub fn artifact_type(&self) -> Option<&MediaType> {
        self.artifact_type.as_ref()
    }

    /// Whether this index entry is not an image but an attestation of one (provenance, bill of materials).
    ///
    /// ```
    /// # use layerslayer::{Descriptor, Digest, MediaType};
    /// let descriptor = Descriptor::new(MediaType::EMPTY, Digest::sha256(b"{}"), 2);
    /// assert!(!descriptor.is_attestation());
    /// ```
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.annotations.get(DOCKER_REFERENCE_TYPE).is_some_and(|kind| kind == "attestation-manifest")
            || self.platform.as_ref().is_some_and(Platform::is_unknown)
    }

    /// The descriptor of an image's configuration. Old registries omitted its type
    /// (<https://github.com/docker/distribution/issues/1621>).
    pub(super) fn of_config(wire: WireDescriptor) -> Result<Self, ManifestError> {
        Self::with_default_type(wire, &MediaType::DOCKER_CONFIG, FieldPath::field("config"))
    }

    /// An item of a list. Some builders omit its type; the content decides what it is, as for any other type.
    fn of_item(wire: WireDescriptor, place: FieldPath) -> Result<Self, ManifestError> {
        Self::with_default_type(wire, &MediaType::UNSPECIFIED, place)
    }

    fn with_default_type(
        wire: WireDescriptor,
        default: &MediaType,
        place: FieldPath,
    ) -> Result<Self, ManifestError> {
        let is_absent = match &wire.media_type {
            None => true,
            Some(Scalar::Text(text)) => text.is_empty(),
            Some(_) => false,
        };
        let default = || Scalar::Text(default.as_str().to_owned());
        let media_type = if is_absent { Some(default()) } else { wire.media_type };
        Self::from_wire(WireDescriptor { media_type, ..wire }, place)
    }

    pub(super) fn from_wire(wire: WireDescriptor, place: FieldPath) -> Result<Self, ManifestError> {
        let media_type = match &wire.media_type {
            Some(text) => place.leaf("mediaType").media_type(text)?,
            None => None,
        };
        let urls = wire.urls.unwrap_or_default();
        let annotations = wire.annotations.unwrap_or_default();
        for (leaf, more) in [("urls", urls.more), ("annotations", annotations.more)] {
            if more {
                let problem = FieldProblem::Count { limit: limits::DOCUMENT_ITEMS };
                return Err(place.leaf(leaf).problem(problem));
            }
        }
        let artifact_type =
            wire.artifact_type.map(|text| place.leaf("artifactType").media_type(&text)).transpose()?;
        Ok(Self {
            media_type: media_type.ok_or_else(|| place.leaf("mediaType").absent())?,
            digest: digest(wire.digest.as_ref(), place.leaf("digest"))?,
            size: size(wire.size.as_ref(), place.leaf("size"))?,
            urls: urls.items,
            annotations: annotations.items,
            platform: wire
                .platform
                .map_or(Ok(None), |Object(wire)| platform(&wire, place.leaf("platform")))?,
            artifact_type: artifact_type.flatten(),
        })
    }
}

/// The descriptors of a list. An absent list and `null` count as empty, because Go writes empty lists so.
pub(super) fn descriptors<const LIMIT: usize>(
    field: &'static str,
    wire: Option<List<Object<WireDescriptor>, LIMIT>>,
) -> Result<Vec<Descriptor>, ManifestError> {
    let wire = wire.unwrap_or_default();
    if wire.more {
        return Err(too_many(field, LIMIT));
    }
    let place = FieldPath::field(field);
    let items = wire.items.into_iter().enumerate();
    items.map(|(index, Object(wire))| Descriptor::of_item(wire, place.item(index))).collect()
}

pub(super) fn digest(value: Option<&Scalar>, place: FieldPath) -> Result<Digest, ManifestError> {
    let text = place.text(value)?;
    text.parse().map_err(|error| place.problem(FieldProblem::Digest(error)))
}

/// Go tools store sizes as `int64`.
fn size(value: Option<&Scalar>, place: FieldPath) -> Result<u64, ManifestError> {
    let value = value.ok_or_else(|| place.absent())?;
    let size = value.number().filter(|size| i64::try_from(*size).is_ok());
    size.ok_or_else(|| place.problem(FieldProblem::Size))
}

pub(super) fn platform(wire: &WirePlatform, place: FieldPath) -> Result<Option<Platform>, ManifestError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Platform::stated(
        &text(&wire.os),
        &text(&wire.architecture),
        &text(&wire.variant),
        &text(&wire.os_version),
    )
    .map_err(|error| place.problem(FieldProblem::Platform(error)))
}
