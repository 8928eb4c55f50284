//! Why a document is no manifest, and where in it.

use crate::oci::{
    digest::DigestError,
    manifest::wire::Scalar,
    media_type::{MediaType, MediaTypeError},
    platform::PlatformError,
};

/// Why a document is not a manifest, index or configuration.
///
/// ```
/// use layerslayer::ImageConfig;
///
/// let error = ImageConfig::parse(br#"{"rootfs": {"diff_ids": ["garbage"]}}"#).unwrap_err();
/// assert_eq!(error.to_string(), "rootfs.diff_ids[0]: a digest looks like sha256:… (no colon found)");
/// ```
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It could be read as an index and as the manifest of an image (CVE-2021-41190).
    #[error("the document is both an index and an image: it has manifests beside config or layers")]
    Ambiguous,
    /// Its `mediaType` is not what the server or the descriptor says.
    #[error("the document says that it is {body}, but was announced as {header}")]
    ContentType {
        /// What it was announced as.
        header: MediaType,
        /// What it says itself.
        body: MediaType,
    },
    /// A field is absent or malformed.
    #[error("{field}: {problem}")]
    Field {
        /// The field, as `layers[3].size`.
        field: String,
        /// What is wrong with it.
        problem: FieldProblem,
    },
    /// It is no JSON, or of another shape.
    #[error("not a JSON document of this kind: {message} (line {line}, column {column})")]
    Json {
        /// Line, counted from 1.
        line: usize,
        /// Column in bytes, counted from 1; 0 at the start of a line.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// Docker's manifest schema 1, obsolete since 2017: its layers cannot be told from their digests alone.
    #[error("the manifest is of Docker's obsolete schema 1 (push the image again with a current tool)")]
    Schema1,
    /// It has more bytes than are accepted.
    #[error("the document has {size} bytes, more than the {limit} that are accepted")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// Largest size accepted, in bytes.
        limit: u64,
    },
    /// It is neither a manifest nor an index.
    #[error("the document is neither an image manifest nor an index{}", stated(.media_type.as_ref()))]
    Unknown {
        /// What it says it is.
        media_type: Option<MediaType>,
    },
}

/// What is wrong with a field.
///
/// ```
/// use layerslayer::{Manifest, ManifestError};
///
/// let body = br#"{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [{"size": -5}]}"#;
/// if let Err(ManifestError::Field { field, problem, .. }) = Manifest::parse(body, None) {
///     println!("{field}: {problem}");
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldProblem {
    /// It is not there.
    #[error("the field is missing")]
    Absent,
    /// A list or map has more items than are accepted.
    #[error("more than {limit} items")]
    Count {
        /// Most items accepted.
        limit: usize,
    },
    /// It is no digest.
    #[error("{0}")]
    Digest(DigestError),
    /// It is no media type.
    #[error("{0}")]
    MediaType(MediaTypeError),
    /// It is no platform.
    #[error("{0}")]
    Platform(PlatformError),
    /// Not the version of the format that is known here.
    #[error("not 2, the version that is known")]
    SchemaVersion,
    /// It is no size: a whole number of bytes, not negative, below 2⁶³.
    #[error("not a size in bytes")]
    Size,
    /// It is no text.
    #[error("not a text")]
    Text,
}

fn stated(media_type: Option<&MediaType>) -> String {
    media_type.map_or_else(String::new, |media_type| format!(" but {media_type}"))
}

/// More than `limit` items in `field`.
pub(super) fn too_many(field: &'static str, limit: usize) -> ManifestError {
    Place::field(field).problem(FieldProblem::Count { limit })
}

/// Where in a document: `list[index].leaf`, spelled out only for an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    field: &'static str,
    index: Option<usize>,
    leaf: &'static str,
}

impl Place {
    /// A field of the document itself.
    pub(super) fn field(field: &'static str) -> Self {
        Self { field, index: None, leaf: "" }
    }

    /// The item at `index` of this list.
    pub(super) fn item(self, index: usize) -> Self {
        Self { index: Some(index), ..self }
    }

    /// A field within this one.
    pub(super) fn leaf(self, leaf: &'static str) -> Self {
        Self { leaf, ..self }
    }

    /// It is missing.
    pub(super) fn absent(self) -> ManifestError {
        self.problem(FieldProblem::Absent)
    }

    /// It has this problem.
    pub(super) fn problem(self, problem: FieldProblem) -> ManifestError {
        let mut field = self.field.to_owned();
        if let Some(index) = self.index {
            field.push_str(&format!("[{index}]"));
        }
        if !self.leaf.is_empty() {
            field.push('.');
            field.push_str(self.leaf);
        }
        ManifestError::Field { field, problem }
    }

    /// Its text.
    pub(super) fn text(self, value: Option<&Scalar>) -> Result<&str, ManifestError> {
        match value {
            Some(Scalar::Text(text)) => Ok(text),
            Some(_) => Err(self.problem(FieldProblem::Text)),
            None => Err(self.absent()),
        }
    }

    /// Its media type; `None` if it is empty.
    pub(super) fn media_type(self, value: &Scalar) -> Result<Option<MediaType>, ManifestError> {
        let text = self.text(Some(value))?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error| self.problem(FieldProblem::MediaType(error)))
    }
}
