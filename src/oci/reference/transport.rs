//! Where an image lies: in a registry, in a layout on disk or in an archive, written as skopeo's transports are.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{Part, Reference, ReferenceError, ReferenceErrorKind as Kind, parse};
use crate::oci::digest::Digest;

const REGISTRY: &str = "docker://";
const LAYOUT: &str = "oci:";
const OCI_ARCHIVE: &str = "oci-archive:";
const DOCKER_ARCHIVE: &str = "docker-archive:";
/// Transports of skopeo's that are none of ours; none could pass for a repository with a tag.
const UNSUPPORTED: [&str; 4] = ["containers-storage:", "docker-daemon:", "dir:/", "dir:."];

/// An image, wherever it lies.
///
/// A path ends at the first colon, as it does for skopeo. A repository on Docker Hub that is really called `oci` is written
/// `docker.io/library/oci` or `docker://oci`.
///
/// ```
/// use layerslayer::{ImageReference, LayoutImage};
///
/// let image: ImageReference = "oci:/var/images/nginx:alpine".parse()?;
/// let ImageReference::OciLayout { path, image } = image else { unreachable!() };
/// assert_eq!(path.to_str(), Some("/var/images/nginx"));
/// assert_eq!(image, Some(LayoutImage::Tag("alpine".into())));
///
/// assert!(matches!("nginx:alpine".parse()?, ImageReference::Registry(_)));
/// assert!(matches!("docker://nginx:alpine".parse()?, ImageReference::Registry(_)));
/// # Ok::<(), layerslayer::ReferenceError>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ImageReference {
    /// `docker-archive:FILE[:REFERENCE|:@N]`: an archive as `docker save` writes it.
    DockerArchive {
        /// The archive.
        path: PathBuf,
        /// Which of its images; `None` if it holds but one.
        image: Option<ArchiveImage>,
    },
    /// `oci-archive:FILE[:TAG|@DIGEST]`: an OCI image layout in a tar archive.
    OciArchive {
        /// The archive.
        path: PathBuf,
        /// Which of its images; `None` if it holds but one.
        image: Option<LayoutImage>,
    },
    /// `oci:DIRECTORY[:TAG|@DIGEST]`: an OCI image layout.
    OciLayout {
        /// The directory.
        path: PathBuf,
        /// Which of its images; `None` if it holds but one.
        image: Option<LayoutImage>,
    },
    /// An image in a registry.
    Registry(Reference),
}

/// Which image of an OCI image layout.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum LayoutImage {
    /// The one whose manifest has this digest.
    Digest(Digest),
    /// The one whose annotation `org.opencontainers.image.ref.name` is this.
    Tag(String),
}

/// Which image of a docker archive.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ArchiveImage {
    /// The one at this position, 0 being the first.
    Index(usize),
    /// The one of this name, normalised: `docker.io/library/nginx:alpine`.
    Reference(String),
}

impl From<Reference> for ImageReference {
    fn from(reference: Reference) -> Self {
        Self::Registry(reference)
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let after = |prefix: &str| text.strip_prefix(prefix).map(|rest| (rest, prefix.len()));
        if let Some((rest, at)) = after(LAYOUT) {
            let (path, image) = layout(rest, at)?;
            return Ok(Self::OciLayout { path, image });
        }
        if let Some((rest, at)) = after(OCI_ARCHIVE) {
            let (path, image) = layout(rest, at)?;
            return Ok(Self::OciArchive { path, image });
        }
        if let Some((rest, at)) = after(DOCKER_ARCHIVE) {
            let (path, image) = archive(rest, at)?;
            return Ok(Self::DockerArchive { path, image });
        }
        if let Some(transport) = UNSUPPORTED.iter().find(|transport| text.starts_with(**transport)) {
            let name = transport.trim_end_matches(['/', '.']);
            return Err(ReferenceError::new(Kind::Transport(name), 0));
        }
        let (rest, at) = after(REGISTRY).unwrap_or((text, 0));
        rest.parse().map(Self::Registry).map_err(|error: ReferenceError| error.shifted(at))
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DockerArchive { path, image } => {
                write!(f, "{DOCKER_ARCHIVE}{}", path.display())?;
                match image {
                    Some(ArchiveImage::Index(index)) => write!(f, ":@{index}"),
                    Some(ArchiveImage::Reference(reference)) => write!(f, ":{reference}"),
                    None => Ok(()),
                }
            }
            Self::OciArchive { path, image } => write_layout(f, OCI_ARCHIVE, path, image.as_ref()),
            Self::OciLayout { path, image } => write_layout(f, LAYOUT, path, image.as_ref()),
            Self::Registry(reference) => reference.fmt(f),
        }
    }
}

fn write_layout(
    f: &mut fmt::Formatter<'_>,
    transport: &str,
    path: &Path,
    image: Option<&LayoutImage>,
) -> fmt::Result {
    write!(f, "{transport}{}", path.display())?;
    match image {
        Some(LayoutImage::Digest(digest)) => write!(f, "@{digest}"),
        Some(LayoutImage::Tag(tag)) => write!(f, ":{tag}"),
        None => Ok(()),
    }
}

/// `PATH`, `PATH:TAG`, `PATH@DIGEST` or `PATH:[TAG]@DIGEST`, of which the digest decides.
fn layout(text: &str, start: usize) -> Result<(PathBuf, Option<LayoutImage>), ReferenceError> {
    let (before, digest) = match text.rsplit_once('@') {
        Some((before, digest)) if digest.starts_with("sha256:") || digest.starts_with("sha512:") => {
            let at = start.saturating_add(before.len()).saturating_add(1);
            (before, Some(parse::digest_of(digest, at)?))
        }
        _ => (text, None),
    };
    let (path, tag) = split_path(before, start)?;
    let image = match (digest, tag) {
        (Some(digest), _) => Some(LayoutImage::Digest(digest)),
        (None, Some((tag, at))) => Some(LayoutImage::Tag(layout_tag(tag, at)?)),
        (None, None) => None,
    };
    Ok((path, image))
}

/// The annotation may hold nearly anything, whole references included.
fn layout_tag(tag: &str, at: usize) -> Result<String, ReferenceError> {
    if tag.is_empty() {
        return Err(ReferenceError::new(Kind::Missing(Part::Tag), at));
    }
    if let Some(digest) = tag.strip_prefix('@') {
        parse::digest_of(digest, at.saturating_add(1))?;
    }
    match tag.char_indices().find(|(_, char)| char.is_control() || char.is_whitespace()) {
        Some((offset, found)) => {
            let kind = Kind::Character { found, part: Part::Tag };
            Err(ReferenceError::new(kind, at.saturating_add(offset)))
        }
        None => Ok(tag.to_owned()),
    }
}

/// `PATH`, `PATH:REFERENCE`, `PATH:@N` or `PATH@N`.
fn archive(text: &str, start: usize) -> Result<(PathBuf, Option<ArchiveImage>), ReferenceError> {
    let (path, image) = match split_path(text, start)? {
        (_, None) => return Ok(archive_by_number(text)),
        (path, Some(image)) => (path, image),
    };
    let (image, at) = image;
    if let Some(index) = image.strip_prefix('@') {
        let index = number(index).ok_or_else(|| ReferenceError::new(Kind::Index, at.saturating_add(1)))?;
        return Ok((path, Some(ArchiveImage::Index(index))));
    }
    let reference: Reference = image.parse().map_err(|error: ReferenceError| error.shifted(at))?;
    if reference.digest().is_some() {
        // Archives know their images by tags alone.
        let offset = image.find('@').unwrap_or(0);
        let kind = Kind::Character { found: '@', part: Part::Image };
        return Err(ReferenceError::new(kind, at.saturating_add(offset)));
    }
    Ok((path, Some(ArchiveImage::Reference(reference.to_string()))))
}

/// A file whose name ends in `@2` is written `FILE@2:@0`.
fn archive_by_number(text: &str) -> (PathBuf, Option<ArchiveImage>) {
    match text.rsplit_once('@') {
        Some((path, index)) if !path.is_empty() => match number(index) {
            Some(index) => (path.into(), Some(ArchiveImage::Index(index))),
            None => (text.into(), None),
        },
        _ => (text.into(), None),
    }
}

fn number(text: &str) -> Option<usize> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// The path, and what follows the first colon with its offset in the whole text.
fn split_path(text: &str, start: usize) -> Result<(PathBuf, Option<(&str, usize)>), ReferenceError> {
    let (path, rest) = match text.split_once(':') {
        Some((path, rest)) => (path, Some((rest, start.saturating_add(path.len()).saturating_add(1)))),
        None => (text, None),
    };
    if path.is_empty() {
        return Err(ReferenceError::new(Kind::Missing(Part::Path), start));
    }
    Ok((path.into(), rest))
}
