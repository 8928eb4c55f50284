//! Media types of manifests, configurations and layers (OCI image specification, media-types.md; RFC 6838).

use std::{borrow::Cow, fmt, str::FromStr};

use oci_client::manifest::{
    IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE,
    IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE, IMAGE_LAYER_MEDIA_TYPE,
    IMAGE_LAYER_NONDISTRIBUTABLE_MEDIA_TYPE, IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};

const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const DOCKER_SCHEMA1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// The types to request from a registry, in order of preference. Schema 1 comes last, to get a clear error
/// instead of a 404.
pub(crate) const ACCEPTED_MANIFESTS: [&str; 6] = [
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    DOCKER_SCHEMA1_SIGNED,
    DOCKER_SCHEMA1,
];

/// A media type: `type/subtype` in lower case, without parameters.
///
/// ```
/// use layerslayer::MediaType;
///
/// let layer: MediaType = "application/vnd.oci.image.layer.v1.tar+zstd".parse()?;
/// assert!(layer.is_layer());
/// assert_eq!(layer.layer_encoding(), Some("zstd"));
/// assert_eq!("Application/JSON; charset=utf-8".parse::<MediaType>()?.as_str(), "application/json");
/// # Ok::<(), layerslayer::MediaTypeError>(())
/// ```
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// Configuration of an image, with Docker's type.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::DOCKER_CONFIG.is_image_config());
    /// ```
    pub const DOCKER_CONFIG: Self = Self(Cow::Borrowed(IMAGE_DOCKER_CONFIG_MEDIA_TYPE));
    /// Layer with Docker's type: a plain tar archive.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::DOCKER_LAYER.is_layer());
    /// ```
    pub const DOCKER_LAYER: Self = Self(Cow::Borrowed(IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE));
    /// Layer with Docker's type: a gzip-compressed tar archive.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::DOCKER_LAYER_GZIP.is_layer());
    /// ```
    pub const DOCKER_LAYER_GZIP: Self = Self(Cow::Borrowed(IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE));
    /// Manifest of one image: Docker's image manifest version 2, schema 2.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::DOCKER_MANIFEST.is_manifest());
    /// ```
    pub const DOCKER_MANIFEST: Self = Self(Cow::Borrowed(IMAGE_MANIFEST_MEDIA_TYPE));
    /// Docker's manifest list, with one entry per platform.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::DOCKER_MANIFEST_LIST.is_index());
    /// ```
    pub const DOCKER_MANIFEST_LIST: Self = Self(Cow::Borrowed(IMAGE_MANIFEST_LIST_MEDIA_TYPE));
    /// The empty JSON object that artifacts use as configuration (manifest.md, "Guidance for an Empty
    /// Descriptor").
    ///
    /// ```
    /// assert_eq!(layerslayer::MediaType::EMPTY.as_str(), "application/vnd.oci.empty.v1+json");
    /// ```
    pub const EMPTY: Self = Self(Cow::Borrowed("application/vnd.oci.empty.v1+json"));
    /// Configuration of an OCI image.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::OCI_CONFIG.is_image_config());
    /// ```
    pub const OCI_CONFIG: Self = Self(Cow::Borrowed(IMAGE_CONFIG_MEDIA_TYPE));
    /// OCI image index.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::OCI_INDEX.is_index());
    /// ```
    pub const OCI_INDEX: Self = Self(Cow::Borrowed(OCI_IMAGE_INDEX_MEDIA_TYPE));
    /// Layer of an OCI image: a plain tar archive.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::OCI_LAYER.is_layer());
    /// ```
    pub const OCI_LAYER: Self = Self(Cow::Borrowed(IMAGE_LAYER_MEDIA_TYPE));
    /// Layer of an OCI image: a gzip-compressed tar archive.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::OCI_LAYER_GZIP.is_layer());
    /// ```
    pub const OCI_LAYER_GZIP: Self = Self(Cow::Borrowed(IMAGE_LAYER_GZIP_MEDIA_TYPE));
    /// Manifest of one OCI image.
    ///
    /// ```
    /// assert!(layerslayer::MediaType::OCI_MANIFEST.is_manifest());
    /// ```
    pub const OCI_MANIFEST: Self = Self(Cow::Borrowed(OCI_IMAGE_MEDIA_TYPE));

    /// Content of any type. Entries of manifests that state no media type have this one.
    ///
    /// ```
    /// assert_eq!(layerslayer::MediaType::UNSPECIFIED.as_str(), "application/octet-stream");
    /// ```
    pub const UNSPECIFIED: Self = Self(Cow::Borrowed("application/octet-stream"));

    /// The type as a string: lower case, no parameters.
    ///
    /// ```
    /// assert_eq!(layerslayer::MediaType::OCI_LAYER.as_str(), "application/vnd.oci.image.layer.v1.tar");
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a list of manifests: an OCI image index or Docker's manifest list.
    ///
    /// ```
    /// use layerslayer::MediaType;
    ///
    /// assert!(MediaType::OCI_INDEX.is_index());
    /// assert!(!MediaType::OCI_MANIFEST.is_index());
    /// ```
    #[must_use]
    pub fn is_index(&self) -> bool {
        *self == Self::OCI_INDEX || *self == Self::DOCKER_MANIFEST_LIST
    }

    /// Whether this is the manifest of one image, OCI's or Docker's schema 2.
    ///
    /// ```
    /// use layerslayer::MediaType;
    ///
    /// assert!(MediaType::DOCKER_MANIFEST.is_manifest());
    /// assert!(!MediaType::OCI_INDEX.is_manifest());
    /// ```
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        *self == Self::OCI_MANIFEST || *self == Self::DOCKER_MANIFEST
    }

    /// Whether this is Docker's obsolete manifest schema 1.
    ///
    /// ```
    /// let media_type: layerslayer::MediaType = "application/vnd.docker.distribution.manifest.v1+json".parse()?;
    /// assert!(media_type.is_docker_schema1());
    /// # Ok::<(), layerslayer::MediaTypeError>(())
    /// ```
    #[must_use]
    pub fn is_docker_schema1(&self) -> bool {
        matches!(self.as_str(), DOCKER_SCHEMA1 | DOCKER_SCHEMA1_SIGNED)
    }

    /// Whether this is the configuration of an image, OCI's or Docker's.
    ///
    /// ```
    /// use layerslayer::MediaType;
    ///
    /// assert!(MediaType::OCI_CONFIG.is_image_config());
    /// assert!(!MediaType::OCI_LAYER.is_image_config());
    /// ```
    #[must_use]
    pub fn is_image_config(&self) -> bool {
        *self == Self::OCI_CONFIG || *self == Self::DOCKER_CONFIG
    }

    /// Whether this is a file system layer, with any compression or encryption.
    ///
    /// ```
    /// use layerslayer::MediaType;
    ///
    /// assert!(MediaType::OCI_LAYER_GZIP.is_layer());
    /// assert!(!MediaType::OCI_CONFIG.is_layer());
    /// ```
    #[must_use]
    pub fn is_layer(&self) -> bool {
        self.layer_suffix().is_some()
    }

    /// Whether this is a foreign layer: registries may lack it, and the descriptor's `urls` say where it is.
    ///
    /// ```
    /// let media_type: layerslayer::MediaType = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".parse()?;
    /// assert!(media_type.is_foreign_layer());
    /// # Ok::<(), layerslayer::MediaTypeError>(())
    /// ```
    #[must_use]
    pub fn is_foreign_layer(&self) -> bool {
        self.is_layer()
            && [DOCKER_FOREIGN_LAYER, IMAGE_LAYER_NONDISTRIBUTABLE_MEDIA_TYPE]
                .iter()
                .any(|prefix| self.0.starts_with(prefix))
    }

    /// Whether this is an encrypted layer (OCIcrypt's `+encrypted`), which cannot be read without a key.
    ///
    /// ```
    /// let media_type: layerslayer::MediaType = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted".parse()?;
    /// assert!(media_type.is_encrypted_layer());
    /// # Ok::<(), layerslayer::MediaTypeError>(())
    /// ```
    #[must_use]
    pub fn is_encrypted_layer(&self) -> bool {
        self.layer_suffix().is_some_and(|suffix| suffix.ends_with("+encrypted"))
    }

    /// The compression that this layer type states: `"tar"` (none), `"gzip"` or `"zstd"`.
    ///
    /// `None` for other types and for unknown compressions. Readers sniff the bytes instead of relying on this.
    ///
    /// ```
    /// use layerslayer::MediaType;
    ///
    /// assert_eq!(MediaType::OCI_LAYER_GZIP.layer_encoding(), Some("gzip"));
    /// assert_eq!(MediaType::OCI_LAYER.layer_encoding(), Some("tar"));
    /// assert_eq!(MediaType::OCI_CONFIG.layer_encoding(), None);
    /// ```
    #[must_use]
    pub fn layer_encoding(&self) -> Option<&'static str> {
        match self.layer_suffix()? {
            "" => Some("tar"),
            "+gzip" | ".gzip" => Some("gzip"),
            "+zstd" | ".zstd" => Some("zstd"),
            _ => None,
        }
    }

    /// Whether servers send this type for any content, so that only the content decides.
    pub(crate) fn is_generic(&self) -> bool {
        matches!(
            self.as_str(),
            "application/json"
                | "application/octet-stream"
                | "binary/octet-stream"
                | "text/html"
                | "text/json"
                | "text/plain"
        )
    }

    /// Whether the type names a format that is not a file system layer, such as a signature or a WebAssembly module.
    /// Generic types and those of compressed or tar data can be layers.
    pub(crate) fn is_other_format(&self) -> bool {
        let can_be_tar = ["tar", "gzip", "zstd"].iter().any(|word| self.0.contains(word));
        !self.is_layer() && !self.is_generic() && !can_be_tar
    }

    /// The part after `….tar` in a layer type. Docker separates it by a dot and OCI by a plus; each also occurs
    /// with the other's types.
    fn layer_suffix(&self) -> Option<&str> {
        let rest = [
            DOCKER_FOREIGN_LAYER,
            IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE,
            IMAGE_LAYER_MEDIA_TYPE,
            IMAGE_LAYER_NONDISTRIBUTABLE_MEDIA_TYPE,
        ]
        .iter()
        .find_map(|prefix| self.0.strip_prefix(prefix))?;
        (rest.is_empty() || rest.starts_with(['+', '.'])).then_some(rest)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MediaType {
    type Err = MediaTypeError;

    fn from_str(text: &str) -> Result<Self, MediaTypeError> {
        let essence = text.split_once(';').map_or(text, |(essence, _)| essence).trim_matches([' ', '\t']);
        let start = text.find(essence).unwrap_or(0);
        let (kind, subtype) =
            essence.split_once('/').ok_or(MediaTypeError { at: start.saturating_add(essence.len()) })?;
        check_name(kind, start)?;
        check_name(subtype, start.saturating_add(kind.len()).saturating_add(1))?;
        Ok(Self(Cow::Owned(essence.to_ascii_lowercase())))
    }
}

/// RFC 6838, section 4.2: `restricted-name`, at most 127 characters.
fn check_name(name: &str, start: usize) -> Result<(), MediaTypeError> {
    const LONGEST: usize = 127;
    let allowed = |at: usize, byte: u8| {
        byte.is_ascii_alphanumeric()
            || (at > 0 && matches!(byte, b'!' | b'#' | b'$' | b'&' | b'-' | b'^' | b'_' | b'.' | b'+'))
    };
    let wrong = name.bytes().enumerate().position(|(at, byte)| at >= LONGEST || !allowed(at, byte));
    match wrong {
        Some(at) => Err(MediaTypeError { at: start.saturating_add(at) }),
        None if name.is_empty() => Err(MediaTypeError { at: start }),
        None => Ok(()),
    }
}

/// A string is not a media type.
///
/// ```
/// use layerslayer::MediaType;
///
/// assert!("no type".parse::<MediaType>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a media type like type/subtype (byte {at})")]
pub struct MediaTypeError {
    at: usize,
}

impl MediaTypeError {
    /// Position of the error: byte offset from the start of the string.
    ///
    /// ```
    /// let error = "no type".parse::<layerslayer::MediaType>().unwrap_err();
    /// assert_eq!(error.at(), 7);
    /// ```
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(text: &str) -> MediaType {
        text.parse().unwrap()
    }

    #[test]
    fn layer_types_state_their_compression() {
        for (text, encoding, foreign) in [
            ("application/vnd.oci.image.layer.v1.tar", Some("tar"), false),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some("gzip"), false),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some("zstd"), false),
            ("application/vnd.oci.image.layer.v1.tar+xz", None, false),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None, false),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar", Some("tar"), true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Some("gzip"), true),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Some("zstd"), true),
            ("application/vnd.docker.image.rootfs.diff.tar", Some("tar"), false),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some("gzip"), false),
            ("application/vnd.docker.image.rootfs.diff.tar.zstd", Some("zstd"), false),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Some("gzip"), true),
        ] {
            let layer = media_type(text);
            assert!(layer.is_layer(), "{text}");
            assert_eq!(layer.layer_encoding(), encoding, "{text}");
            assert_eq!(layer.is_foreign_layer(), foreign, "{text}");
            assert_eq!(layer.is_encrypted_layer(), text.ends_with("encrypted"), "{text}");
        }
    }

    #[test]
    fn other_types_are_not_layers() {
        for text in [
            "application/vnd.oci.image.layer.v1.tarball",
            "application/vnd.oci.image.config.v1+json",
            "application/octet-stream",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        ] {
            assert!(!media_type(text).is_layer(), "{text}");
            assert_eq!(media_type(text).layer_encoding(), None, "{text}");
        }
    }

    #[test]
    fn types_of_other_formats_are_recognised() {
        for (text, expected) in [
            ("application/vnd.dev.cosign.simplesigning.v1+json", true),
            ("application/vnd.in-toto+json", true),
            ("application/vnd.dsse.envelope.v1+json", true),
            ("application/wasm", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip", false),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", false),
            ("application/x-gzip", false),
            ("application/octet-stream", false),
            ("text/plain", false),
        ] {
            assert_eq!(media_type(text).is_other_format(), expected, "{text}");
        }
    }

    #[test]
    fn every_accepted_manifest_has_exactly_one_kind() {
        for text in ACCEPTED_MANIFESTS {
            let media_type = media_type(text);
            let kinds = [media_type.is_index(), media_type.is_manifest(), media_type.is_docker_schema1()];
            assert_eq!(kinds.iter().filter(|is| **is).count(), 1, "{text}");
        }
    }

    #[test]
    fn parameters_spaces_and_case_are_ignored() {
        for text in [
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.index.v1+json; charset=utf-8",
            " application/vnd.oci.image.index.v1+json ;charset=utf-8",
            "Application/Vnd.OCI.image.index.v1+JSON",
        ] {
            assert_eq!(media_type(text), MediaType::OCI_INDEX, "{text}");
        }
    }

    #[test]
    fn malformed_media_types_are_refused_with_the_position() {
        let long = format!("a/{}", "b".repeat(128));
        for (text, at) in [
            ("", 0),
            ("json", 4),
            ("/json", 0),
            ("application/", 12),
            ("application/a/b", 13),
            ("application/a b", 13),
            ("application/\u{1b}[2J", 12),
            ("application/+json", 12),
            ("; charset=utf-8", 0),
            (&long, 129),
        ] {
            assert_eq!(text.parse::<MediaType>().unwrap_err().at(), at, "{text}");
        }
    }
}
