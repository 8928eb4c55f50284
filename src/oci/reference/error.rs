//! Errors in references, with their position.

use std::fmt;

use crate::oci::digest::DigestError;

/// A string is not a reference.
///
/// The error never contains the string itself: a pasted URL can contain a password.
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

    /// The same error in a string that has `offset` more bytes in front.
    pub(super) fn shifted(self, offset: usize) -> Self {
        Self { at: self.at.saturating_add(offset), ..self }
    }

    /// Whether the text is a path without a transport.
    pub(crate) fn is_path(&self) -> bool {
        self.kind == ReferenceErrorKind::Path
    }

    /// The kind of error.
    ///
    /// ```
    /// let error = "UPPER".parse::<layerslayer::Reference>().unwrap_err();
    /// assert_eq!(error.kind().to_string(), "a repository name is lower case, 'U' is not");
    /// ```
    #[must_use]
    pub fn kind(&self) -> &ReferenceErrorKind {
        &self.kind
    }

    /// Position of the error: byte offset from the start of the string, or its length if the end is missing.
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

/// Kinds of errors in a reference.
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
    /// A character that is not allowed.
    #[error("{found:?} is not allowed in {part}")]
    Character {
        /// The character.
        found: char,
        /// The part of the reference that contains it.
        part: Part,
    },
    /// The part after the `@` is not a digest.
    #[error("the part after the @ is not a digest: {0}")]
    Digest(DigestError),
    /// 64 hexadecimal digits, which docker treats as the identifier of a local image.
    #[error("64 hexadecimal digits name a local image, not a repository (a digest is written name@sha256:…)")]
    Identifier,
    /// The position of an image in an archive is not a number.
    #[error("the part after the @ is not a position in the archive (0 is the first image)")]
    Index,
    /// Brackets around something other than an IPv6 address, or an IPv6 address without brackets.
    #[error("an IPv6 address needs square brackets and no zone, like [::1]:5000/repository")]
    Ipv6,
    /// A missing part.
    #[error("{0} is missing")]
    Missing(Part),
    /// A path without a transport.
    #[error("a path needs a transport: oci:DIRECTORY, oci-archive:FILE or docker-archive:FILE")]
    Path,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// A URL instead of a reference.
    #[error("a reference does not start with a scheme like https://{}", advice(.suggestion.as_deref()))]
    Scheme {
        /// The reference that was probably meant.
        suggestion: Option<String>,
    },
    /// A dot, dash or underscore where only a letter or digit is allowed.
    #[error("in {0}, letters or digits are separated by one dot, one or two underscores, or dashes")]
    Separator(Part),
    /// More characters than allowed.
    #[error("{part} is longer than {limit} characters")]
    TooLong {
        /// The part that is too long.
        part: Part,
        /// Most characters that it may have.
        limit: usize,
    },
    /// A transport of skopeo that is not supported.
    #[error(
        "{0} is not supported (registries, oci:, oci-archive: and docker-archive: are){alternative}",
        alternative = alternative(.0)
    )]
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

/// How to read an image of an unsupported transport.
fn alternative(transport: &str) -> &'static str {
    match transport {
        "containers-storage:" => ": save the image with `podman save` and read the file with docker-archive:",
        "docker-daemon:" => ": save the image with `docker save` and read the file with docker-archive:",
        "dir:" => ": copy the image to a layout with `skopeo copy` and read it with oci:",
        _ => "",
    }
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
