//! References to images in a registry, in a layout on disk or in an archive, with skopeo's transport prefixes.

use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use super::{Part, Reference, ReferenceError, ReferenceErrorKind as Kind, parse};
use crate::oci::digest::Digest;

const REGISTRY: &str = "docker://";
/// How Helm and Flux write references to registries.
const HELM: &str = "oci://";
const LAYOUT: &str = "oci:";
const OCI_ARCHIVE: &str = "oci-archive:";
const DOCKER_ARCHIVE: &str = "docker-archive:";
/// Transports of images on this machine.
const LOCAL: [&str; 3] = [LAYOUT, OCI_ARCHIVE, DOCKER_ARCHIVE];
/// Transports of skopeo that are not supported. None of them is a valid repository with a tag.
const UNSUPPORTED: [&str; 4] = ["containers-storage:", "docker-daemon:", "dir:/", "dir:."];

/// A reference to an image in a registry, layout or archive.
///
/// A path ends at the first colon, as in skopeo. A repository on Docker Hub that is named `oci` is written
/// `docker.io/library/oci` or `docker://oci`. `oci://HOST/…`, as Helm and Flux write it, is a reference to a registry.
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
        /// Path of the archive.
        path: PathBuf,
        /// Which of its images; `None` if it has only one.
        image: Option<ArchiveImage>,
    },
    /// `oci-archive:FILE[:TAG|@DIGEST]`: an OCI image layout in a tar archive.
    OciArchive {
        /// Path of the archive.
        path: PathBuf,
        /// Which of its images; `None` if it has only one.
        image: Option<LayoutImage>,
    },
    /// `oci:DIRECTORY[:TAG|@DIGEST]`: an OCI image layout.
    OciLayout {
        /// Path of the directory.
        path: PathBuf,
        /// Which of its images; `None` if it has only one.
        image: Option<LayoutImage>,
    },
    /// An image in a registry.
    Registry(Reference),
}

/// Selects an image of an OCI image layout.
///
/// ```
/// use layerslayer::{ImageReference, LayoutImage};
///
/// let reference: ImageReference = "oci:layout:1.2".parse()?;
/// let ImageReference::OciLayout { image, .. } = reference else { unreachable!() };
/// assert_eq!(image, Some(LayoutImage::Tag("1.2".into())));
/// # Ok::<(), layerslayer::ReferenceError>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum LayoutImage {
    /// The image whose manifest has this digest.
    Digest(Digest),
    /// The image whose annotation `org.opencontainers.image.ref.name` has this value.
    Tag(String),
}

/// Selects an image of a docker archive.
///
/// ```
/// use layerslayer::{ArchiveImage, ImageReference};
///
/// let reference: ImageReference = "docker-archive:saved.tar:@1".parse()?;
/// let ImageReference::DockerArchive { image, .. } = reference else { unreachable!() };
/// assert_eq!(image, Some(ArchiveImage::Index(1)));
/// # Ok::<(), layerslayer::ReferenceError>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum ArchiveImage {
    /// The image at this position, starting at 0.
    Index(usize),
    /// The image with this normalised name: `docker.io/library/nginx:alpine`.
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
        if let Some((rest, at)) = after(HELM).filter(|(rest, _)| !rest.starts_with('/')) {
            return registry(rest, at);
        }
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
        if is_path(text) {
            return Err(ReferenceError::new(Kind::Path, 0));
        }
        let (rest, at) = after(REGISTRY).unwrap_or((text, 0));
        registry(rest, at)
    }
}

impl ImageReference {
    /// Whether a reference is written with `oci://`, as for Helm and Flux, and means a registry although `oci:` is the prefix
    /// of layouts.
    ///
    /// ```
    /// use layerslayer::ImageReference;
    ///
    /// assert!(ImageReference::is_registry_url("oci://ghcr.io/stefanprodan/charts/podinfo"));
    /// assert!(!ImageReference::is_registry_url("oci:///var/images/podinfo"));
    /// ```
    #[must_use]
    pub fn is_registry_url(text: &str) -> bool {
        text.strip_prefix(HELM).is_some_and(|rest| !rest.starts_with('/'))
    }

    /// The text of a reference without user name and password, for messages. A pasted URL can contain them, although a valid
    /// reference cannot.
    ///
    /// ```
    /// use layerslayer::ImageReference;
    ///
    /// assert_eq!(ImageReference::redact("https://me:secret@ghcr.io/x"), "https://***@ghcr.io/x");
    /// assert_eq!(ImageReference::redact("nginx@sha256:0"), "nginx@sha256:0");
    /// ```
    #[must_use]
    pub fn redact(text: &str) -> Cow<'_, str> {
        let Some((before, after)) = text.rsplit_once('@') else { return Cow::Borrowed(text) };
        if after.starts_with("sha256:") || after.starts_with("sha512:") {
            return match Self::redact(before) {
                Cow::Borrowed(_) => Cow::Borrowed(text),
                Cow::Owned(before) => Cow::Owned(format!("{before}@{after}")),
            };
        }
        match before.split_once("://") {
            Some((scheme, _)) => Cow::Owned(format!("{scheme}://***@{after}")),
            None if LOCAL.iter().any(|transport| text.starts_with(transport)) => Cow::Borrowed(text),
            None if before.contains(':') => Cow::Owned(format!("***@{after}")),
            None => Cow::Borrowed(text),
        }
    }
}

fn registry(text: &str, at: usize) -> Result<ImageReference, ReferenceError> {
    text.parse().map(ImageReference::Registry).map_err(|error: ReferenceError| error.shifted(at))
}

/// Whether the text can only be a path: no repository begins or ends like this.
fn is_path(text: &str) -> bool {
    let prefixes = ["/", "./", "../", "~/"];
    prefixes.iter().any(|prefix| text.starts_with(prefix))
        || matches!(text, "." | "..")
        || (text.ends_with('/') && !text.contains("://"))
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

/// Parses `PATH`, `PATH:TAG`, `PATH@DIGEST` or `PATH:[TAG]@DIGEST`. The digest takes precedence over the tag.
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

/// Parses a tag. The annotation may have nearly any value, including whole references.
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

/// Parses `PATH`, `PATH:REFERENCE`, `PATH:@N` or `PATH@N`.
fn archive(text: &str, start: usize) -> Result<(PathBuf, Option<ArchiveImage>), ReferenceError> {
    let (path, Some((image, at))) = split_path(text, start)? else {
        return Ok(archive_by_number(text));
    };
    if let Some(index) = image.strip_prefix('@') {
        let index = number(index).ok_or_else(|| ReferenceError::new(Kind::Index, at.saturating_add(1)))?;
        return Ok((path, Some(ArchiveImage::Index(index))));
    }
    let reference: Reference = image.parse().map_err(|error: ReferenceError| error.shifted(at))?;
    if reference.digest().is_some() {
        // Archives identify their images only by tags.
        let offset = image.find('@').unwrap_or(0);
        let kind = Kind::Character { found: '@', part: Part::Image };
        return Err(ReferenceError::new(kind, at.saturating_add(offset)));
    }
    Ok((path, Some(ArchiveImage::Reference(reference.to_string()))))
}

/// Parses `PATH@N`. A file whose name ends in `@2` is written `FILE@2:@0`.
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

/// The part after the path, with its offset in the whole string.
type Rest<'a> = Option<(&'a str, usize)>;

/// Splits at the first colon, which ends the path.
fn split_path(text: &str, start: usize) -> Result<(PathBuf, Rest<'_>), ReferenceError> {
    let (path, rest) = match text.split_once(':') {
        Some((path, rest)) => (path, Some((rest, start.saturating_add(path.len()).saturating_add(1)))),
        None => (text, None),
    };
    if path.is_empty() {
        return Err(ReferenceError::new(Kind::Missing(Part::Path), start));
    }
    Ok((path.into(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parsed(text: &str) -> ImageReference {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn tag(text: &str) -> Option<LayoutImage> {
        Some(LayoutImage::Tag(text.to_owned()))
    }

    #[test]
    fn a_layout_reference_has_a_path_and_a_tag_or_digest() {
        let digest = Some(LayoutImage::Digest(DIGEST.parse().unwrap()));
        for (rest, path, image) in [
            ("dir".to_owned(), "dir", None),
            ("/var/images/x".to_owned(), "/var/images/x", None),
            ("./x y".to_owned(), "./x y", None),
            ("user@host".to_owned(), "user@host", None),
            ("dir:1.0".to_owned(), "dir", tag("1.0")),
            ("user@host:1.0".to_owned(), "user@host", tag("1.0")),
            // The annotation may be a whole reference; the path ends at the first colon.
            ("dir:docker.io/library/nginx:alpine".to_owned(), "dir", tag("docker.io/library/nginx:alpine")),
            ("dir:a@b".to_owned(), "dir", tag("a@b")),
            (format!("dir@{DIGEST}"), "dir", digest.clone()),
            (format!("dir:@{DIGEST}"), "dir", digest.clone()),
            (format!("dir:1.0@{DIGEST}"), "dir", digest.clone()),
            (format!("user@host@{DIGEST}"), "user@host", digest),
        ] {
            let expected = ImageReference::OciLayout { path: path.into(), image: image.clone() };
            assert_eq!(parsed(&format!("oci:{rest}")), expected, "{rest}");
            let expected = ImageReference::OciArchive { path: path.into(), image };
            assert_eq!(parsed(&format!("oci-archive:{rest}")), expected, "{rest}");
        }
    }

    #[test]
    fn a_docker_archive_reference_has_a_path_and_a_name_or_position() {
        let reference = |text: &str| Some(ArchiveImage::Reference(text.to_owned()));
        for (rest, path, image) in [
            ("image.tar", "image.tar", None),
            ("image.tar:nginx", "image.tar", reference("docker.io/library/nginx:latest")),
            ("image.tar:nginx:alpine", "image.tar", reference("docker.io/library/nginx:alpine")),
            ("image.tar:localhost:5000/x:1", "image.tar", reference("localhost:5000/x:1")),
            ("image.tar:@0", "image.tar", Some(ArchiveImage::Index(0))),
            ("image.tar@12", "image.tar", Some(ArchiveImage::Index(12))),
            ("user@host", "user@host", None),
            ("user@", "user@", None),
            ("@2", "@2", None),
            ("backup@2:@0", "backup@2", Some(ArchiveImage::Index(0))),
        ] {
            let expected = ImageReference::DockerArchive { path: path.into(), image };
            assert_eq!(parsed(&format!("docker-archive:{rest}")), expected, "{rest}");
        }
    }

    #[test]
    fn everything_else_is_in_a_registry() {
        for (text, expected) in [
            ("nginx:alpine", "nginx:alpine"),
            ("docker://nginx:alpine", "nginx:alpine"),
            ("docker://oci:1", "oci:1"),
            ("docker.io/oci:1", "oci:1"),
            ("oci://ghcr.io/owner/chart:1", "ghcr.io/owner/chart:1"),
            ("oci://localhost:5000/chart", "localhost:5000/chart"),
            ("ocilot:1", "ocilot:1"),
            ("dir:latest", "dir:latest"),
            ("localhost:5000/oci:1", "localhost:5000/oci:1"),
        ] {
            let reference: Reference = expected.parse().unwrap();
            assert_eq!(parsed(text), reference.into(), "{text}");
        }
    }

    #[test]
    fn malformed_references_are_refused_with_the_position_in_the_whole_string() {
        let character = |found, part| Kind::Character { found, part };
        let uppercase = Kind::Uppercase { found: 'N' };
        for (text, kind, at) in [
            ("oci:", Kind::Missing(Part::Path), 4),
            ("oci::tag", Kind::Missing(Part::Path), 4),
            ("oci-archive:", Kind::Missing(Part::Path), 12),
            ("docker-archive:", Kind::Missing(Part::Path), 15),
            (&format!("oci:@{DIGEST}"), Kind::Missing(Part::Path), 4),
            ("oci:dir:", Kind::Missing(Part::Tag), 8),
            ("oci:dir:a\nb", character('\n', Part::Tag), 9),
            ("oci:dir:a b", character(' ', Part::Tag), 9),
            ("oci:dir:a\u{1b}b", character('\u{1b}', Part::Tag), 9),
            ("oci:dir:@", Kind::Missing(Part::Digest), 9),
            (&format!("oci:dir@{DIGEST}").replace('e', "E"), character('E', Part::Digest), 15),
            ("docker-archive:a:", Kind::Missing(Part::Repository), 17),
            ("docker-archive:a:@", Kind::Index, 18),
            ("docker-archive:a:@-1", Kind::Index, 18),
            ("docker-archive:a:@99999999999999999999999", Kind::Index, 18),
            ("docker-archive:a:x/Nginx", uppercase.clone(), 19),
            (&format!("docker-archive:a:x@{DIGEST}"), character('@', Part::Image), 18),
            ("docker://Nginx", uppercase, 9),
            ("docker://", Kind::Missing(Part::Repository), 9),
            ("dir:/var/images", Kind::Transport("dir:"), 0),
            ("dir:./images", Kind::Transport("dir:"), 0),
            ("/var/images", Kind::Path, 0),
            ("./images:1", Kind::Path, 0),
            ("../images", Kind::Path, 0),
            ("~/images", Kind::Path, 0),
            ("images/", Kind::Path, 0),
            ("..", Kind::Path, 0),
            ("oci://ghcr.io/X", Kind::Uppercase { found: 'X' }, 14),
            ("docker-daemon:nginx:latest", Kind::Transport("docker-daemon:"), 0),
            ("containers-storage:nginx", Kind::Transport("containers-storage:"), 0),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert_eq!((error.kind(), error.at()), (&kind, at), "{text:?}");
        }
    }

    #[test]
    fn a_layout_may_have_an_absolute_path_after_two_slashes() {
        let expected = ImageReference::OciLayout { path: "///var/x".into(), image: tag("1") };
        assert_eq!(parsed("oci:///var/x:1"), expected);
    }

    #[test]
    fn an_unsupported_transport_is_named_with_an_alternative() {
        for (text, words) in [
            (
                "docker-daemon:nginx:latest",
                "docker-daemon: is not supported (registries, oci:, oci-archive: and docker-archive: are): save the image with `docker save`",
            ),
            ("containers-storage:nginx", "save the image with `podman save`"),
            ("dir:/images", "copy the image to a layout with `skopeo copy`"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn userinfo_is_redacted_from_messages() {
        let pinned = format!("https://me:secret@ghcr.io/x@{DIGEST}");
        for (text, expected) in [
            ("https://me:secret@ghcr.io/x", "https://***@ghcr.io/x"),
            ("oci://me:sec@ret@ghcr.io/x", "oci://***@ghcr.io/x"),
            ("https://token@ghcr.io/x", "https://***@ghcr.io/x"),
            ("docker://me:secret@ghcr.io:5000/x", "docker://***@ghcr.io:5000/x"),
            ("me:secret@ghcr.io:5000/x", "***@ghcr.io:5000/x"),
            (&pinned, &format!("https://***@ghcr.io/x@{DIGEST}")),
            // These have no password.
            ("nginx@latest", "nginx@latest"),
            ("nginx:1@sha256:0", "nginx:1@sha256:0"),
            ("docker-archive:a.tar@2", "docker-archive:a.tar@2"),
            ("oci:user@host:1", "oci:user@host:1"),
            ("nginx:alpine", "nginx:alpine"),
        ] {
            assert_eq!(ImageReference::redact(text), expected, "{text}");
        }
    }

    #[test]
    fn a_url_is_refused_with_a_suggestion() {
        let error = "https://ghcr.io/x".parse::<ImageReference>().unwrap_err();
        assert_eq!(error.kind(), &Kind::Scheme { suggestion: Some("ghcr.io/x".to_owned()) });
    }

    #[test]
    fn a_printed_image_reference_parses_to_the_same_reference() {
        for text in [
            "docker.io/library/nginx:alpine".to_owned(),
            "oci:/var/images".to_owned(),
            "oci:/var/images:1.0".to_owned(),
            format!("oci:/var/images@{DIGEST}"),
            "oci-archive:x.tar:docker.io/library/nginx:alpine".to_owned(),
            "docker-archive:x.tar".to_owned(),
            "docker-archive:x.tar:docker.io/library/nginx:alpine".to_owned(),
            "docker-archive:x.tar:@3".to_owned(),
        ] {
            assert_eq!(parsed(&text).to_string(), text);
        }
    }
}
