//! Why a text is no reference, and at which character.

use std::fmt;

use crate::oci::digest::DigestError;

/// Why a text is not a reference, and where.
///
/// It never holds the text itself: a pasted address can hold a password.
///
/// ```
/// use layerslayer::Reference;
///
/// let error = "example.com/Nginx".parse::<Reference>().unwrap_err();
/// assert_eq!(error.at(), 12);
/// assert_eq!(error.to_string(), "a repository name is lower case, 'N' is not (character 13)");
/// ```
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{kind} (character {})", .at.saturating_add(1))]
pub struct ReferenceError {
    kind: ReferenceErrorKind,
    at: usize,
}

impl ReferenceError {
    pub(super) fn new(kind: ReferenceErrorKind, at: usize) -> Self {
        Self { kind, at }
    }

    /// The same error in a text of which `offset` bytes were cut off in front.
    pub(super) fn shifted(self, offset: usize) -> Self {
        Self { at: self.at.saturating_add(offset), ..self }
    }

    /// What is wrong.
    ///
    /// ```
    /// let error = "UPPER".parse::<layerslayer::Reference>().unwrap_err();
    /// assert_eq!(error.kind().to_string(), "a repository name is lower case, 'U' is not");
    /// ```
    #[must_use]
    pub fn kind(&self) -> &ReferenceErrorKind {
        &self.kind
    }

    /// Where: byte offset from the start of the text, its length where something is missing at the end.
    ///
    /// Messages count from 1.
    ///
    /// ```
    /// let error = "example.com/Nginx".parse::<layerslayer::Reference>().unwrap_err();
    /// assert_eq!(error.at(), 12);
    /// ```
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }
}

/// What is wrong with a reference.
///
/// ```
/// use layerslayer::Reference;
///
/// let error = "UPPER".parse::<Reference>().unwrap_err();
/// println!("{:?} at byte {}", error.kind(), error.at());
/// ```
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceErrorKind {
    /// A character that cannot stand there.
    #[error("{found:?} cannot stand in {part}")]
    Character {
        /// The character.
        found: char,
        /// The part of the reference that it stands in.
        part: Part,
    },
    /// What follows the `@` is no digest.
    #[error("what follows the @ is no digest: {0}")]
    Digest(DigestError),
    /// 64 hexadecimal digits: docker takes that for the identifier of a local image.
    #[error("64 hexadecimal digits name a local image, not a repository (a digest is written name@sha256:…)")]
    Identifier,
    /// The position of an image in an archive is not a number.
    #[error("what follows the @ is no position in the archive (0 is the first image)")]
    Index,
    /// Brackets around something that is no IPv6 address, or an IPv6 address without them.
    #[error("an IPv6 address stands in square brackets, like [::1]:5000/repository, without a zone")]
    Ipv6,
    /// A part that is not there.
    #[error("{0} is missing")]
    Missing(Part),
    /// The port is no number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A URL in place of a reference.
    #[error("a reference has no scheme like https:// in front{}", advice(.suggestion.as_deref()))]
    Scheme {
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// A dot, dash or underscore where only a letter or digit can stand.
    #[error(
        "'.', '-' and '_' stand between letters or digits in {0}: one dot, one or two underscores, or dashes"
    )]
    Separator(Part),
    /// More characters than allowed.
    #[error("{part} is longer than {limit} characters")]
    TooLong {
        /// The part that is too long.
        part: Part,
        /// Most characters that it may have.
        limit: usize,
    },
    /// One of skopeo's transports that this program does not read.
    #[error("{0} is not supported (registries, oci:, oci-archive: and docker-archive: are)")]
    Transport(&'static str),
    /// A capital letter in a repository name.
    #[error("a repository name is lower case, {found:?} is not")]
    Uppercase {
        /// The letter.
        found: char,
    },
}

fn advice(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(
        || ": write registry/repository:tag".to_owned(),
        |suggestion| format!(": write {suggestion}"),
    )
}

/// A part of a reference.
///
/// ```
/// assert_eq!(layerslayer::Part::Tag.to_string(), "the tag");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Part {
    /// The digest, after `@`.
    Digest,
    /// The name of an image within an archive or layout, after `:`.
    Image,
    /// The path of a layout or archive.
    Path,
    /// The registry's host name, before the first `/`.
    Registry,
    /// The repository.
    Repository,
    /// The tag, after `:`.
    Tag,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Digest => "the digest",
            Self::Image => "the name of the image",
            Self::Path => "the path",
            Self::Registry => "the registry's host name",
            Self::Repository => "the repository name",
            Self::Tag => "the tag",
        })
    }
}
