//! Errors in manifests, indexes and configurations, with the field they are in.

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
    /// The document could be read both as an index and as an image manifest (CVE-2021-41190).
    #[error("the document is both an index and an image: it has both manifests and config or layers")]
    Ambiguous,
    /// Its `mediaType` is not the type that the server or the descriptor announced.
    #[error("the document's mediaType is {body}, but it was announced as {header}")]
    ContentType {
        /// The type that was announced.
        header: MediaType,
        /// The document's own `mediaType`.
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
    /// The document is not JSON, or has another structure.
    #[error("not a valid JSON document of this kind: {message} (line {line}, column {column})")]
    Json {
        /// Line, counted from 1.
        line: usize,
        /// Column in bytes, counted from 1; 0 at the start of a line.
        column: usize,
        /// The parser's message.
        message: String,
    },
    /// Docker's manifest schema 1, obsolete since 2017. It lists layers in a different way and is not supported.
    #[error("the manifest has Docker's obsolete schema 1 (push the image again with a current tool)")]
    Schema1,
    /// The document is larger than the limit.
    #[error("the document has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// Largest size accepted, in bytes.
        limit: u64,
    },
    /// The document is neither a manifest nor an index.
    #[error("the document is neither an image manifest nor an index{}", stated(.media_type.as_ref()))]
    Unknown {
        /// Its stated media type.
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
    /// The field is missing.
    #[error("the field is missing")]
    Absent,
    /// A list or map has more items than are accepted.
    #[error("more than {limit} items")]
    Count {
        /// Most items accepted.
        limit: usize,
    },
    /// The value is not a digest.
    #[error("{0}")]
    Digest(DigestError),
    /// The value is not a media type.
    #[error("{0}")]
    MediaType(MediaTypeError),
    /// The value is not a platform.
    #[error("{0}")]
    Platform(PlatformError),
    /// The version of the format is not supported.
    #[error("not 2, the supported version")]
    SchemaVersion,
    /// The value is not a size: a whole number of bytes, not negative, below 2⁶³.
    #[error("not a size in bytes")]
    Size,
    /// The value is not a string.
    #[error("not a string")]
    Text,
}

fn stated(media_type: Option<&MediaType>) -> String {
    media_type.map_or_else(String::new, |media_type| format!(" but {media_type}"))
}

/// The error for a `field` with more than `limit` items.
pub(super) fn too_many(field: &'static str, limit: usize) -> ManifestError {
    FieldPath::field(field).problem(FieldProblem::Count { limit })
}

/// A path in a document: `list[index].leaf`. It is formatted only for an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldPath {
    field: &'static str,
    index: Option<usize>,
    leaf: &'static str,
}

impl FieldPath {
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

    /// The error for a missing field.
    pub(super) fn absent(self) -> ManifestError {
        self.problem(FieldProblem::Absent)
    }

    /// The error for a field with this problem.
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

    /// The string at this path.
    pub(super) fn text(self, value: Option<&Scalar>) -> Result<&str, ManifestError> {
        match value {
            Some(Scalar::Text(text)) => Ok(text),
            Some(_) => Err(self.problem(FieldProblem::Text)),
            None => Err(self.absent()),
        }
    }

    /// The media type at this path; `None` if the string is empty.
    pub(super) fn media_type(self, value: &Scalar) -> Result<Option<MediaType>, ManifestError> {
        let text = self.text(Some(value))?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error| self.problem(FieldProblem::MediaType(error)))
    }
}
