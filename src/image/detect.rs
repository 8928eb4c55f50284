//! Image references that are only a path.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    limits::Limits,
    oci::reference::{ImageReference, ReferenceError},
    source::archive::Archive,
};

/// Endings of archives. No repository has such a name in practice.
const ARCHIVE_ENDINGS: [&str; 5] = [".tar", ".tar.gz", ".tar.zst", ".tgz", ".tzst"];

/// What is at a path.
enum Found {
    DockerArchive,
    OciArchive,
    OciLayout,
}

impl ImageReference {
    /// Parses a reference that was typed without a transport. The path of an existing layout or archive, such as `./layout`,
    /// `layout/` or `image.tar`, is recognised; anything else is parsed as by `FromStr`. Blocks, and reads the archive.
    ///
    /// # Errors
    ///
    /// Those of `FromStr`; also for a path at which there is no image.
    ///
    /// ```
    /// use layerslayer::ImageReference;
    ///
    /// let reference = ImageReference::detect("./fixtures/demo")?;
    /// assert_eq!(reference.to_string(), "oci:./fixtures/demo");
    /// assert_eq!(ImageReference::detect("nginx")?.to_string(), "docker.io/library/nginx:latest");
    /// # Ok::<(), layerslayer::ReferenceError>(())
    /// ```
    pub fn detect(text: &str) -> Result<Self, ReferenceError> {
        let parsed = text.parse::<Self>();
        let (path, image) = match text.split_once(':') {
            _ if Path::new(text).exists() => (text, None),
            Some((path, image)) => (path, Some(image)),
            None => (text, None),
        };
        let is_path = parsed.as_ref().is_err_and(ReferenceError::is_path);
        let is_archive =
            ARCHIVE_ENDINGS.iter().any(|ending| path.ends_with(ending)) && Path::new(path).exists();
        let found = if is_path || is_archive { find(Path::new(path)) } else { None };
        let Some(found) = found else { return parsed };
        if let Some(image) = image {
            let transport = match found {
                Found::DockerArchive => "docker-archive",
                Found::OciArchive => "oci-archive",
                Found::OciLayout => "oci",
            };
            return format!("{transport}:{path}:{image}").parse();
        }
        let path = PathBuf::from(path);
        Ok(match found {
            Found::DockerArchive => Self::DockerArchive { path, image: None },
            Found::OciArchive => Self::OciArchive { path, image: None },
            Found::OciLayout => Self::OciLayout { path, image: None },
        })
    }
}

fn find(path: &Path) -> Option<Found> {
    let metadata = fs::metadata(path).ok()?;
    if metadata.is_dir() {
        return path.join("index.json").exists().then_some(Found::OciLayout);
    }
    if !metadata.is_file() {
        // A pipe can be read only once.
        return Some(Found::DockerArchive);
    }
    match Archive::open(path, Limits::default().unpacked_archive_bytes) {
        Ok(archive) if archive.file("manifest.json").is_none() && archive.file("index.json").is_some() => {
            Some(Found::OciArchive)
        }
        // Opening it will report why it is not an archive.
        Ok(_) | Err(_) => Some(Found::DockerArchive),
    }
}
