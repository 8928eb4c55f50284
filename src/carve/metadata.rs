//! What is at a path, as the functions of a file system answer it.

use super::{
    CarveOptions,
    answer::{describe, display},
    path_search::stack,
    selection::Selection,
};
use crate::{
    error::{Error, Kind},
    image::{Image, rootfs::Last},
    tar::entry::{Entry, EntryKind},
};

/// One entry of a directory, as [`Image::read_dir`] gives it.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// for found in image.read_dir("/etc").await? {
///     println!("{} from layer {}", found.name.escape_ascii(), found.layer);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DirectoryEntry {
    /// Its name, as bytes.
    pub name: Vec<u8>,
    /// Its metadata. Of a hard link, that of the file that it leads to.
    pub entry: Entry,
    /// The layer that holds its name, 0 = base.
    pub layer: usize,
}

impl Image {
    /// The metadata of what is at a path, symbolic links followed. Its path is the one that links led to.
    ///
    /// # Errors
    ///
    /// Those of [`Image::carve_with`], except for the kind: directories have metadata, too.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.metadata("/etc/app.conf").await?.path, b"app/app.conf");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn metadata(&self, path: impl AsRef<[u8]> + Send) -> Result<Entry, Error> {
        Ok(self.locate(path.as_ref(), CarveOptions::default(), Last::Follow).await?.entry)
    }

    /// Like [`Image::metadata`], but a symbolic link at the end of the path is not followed.
    ///
    /// # Errors
    ///
    /// See [`Image::metadata`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let link = image.symlink_metadata("/etc/app.conf").await?;
    /// assert_eq!(link.kind, layerslayer::EntryKind::Symlink);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn symlink_metadata(&self, path: impl AsRef<[u8]> + Send) -> Result<Entry, Error> {
        Ok(self.locate(path.as_ref(), CarveOptions::default(), Last::Keep).await?.entry)
    }

    /// The target of a symbolic link, verbatim.
    ///
    /// # Errors
    ///
    /// Those of [`Image::metadata`]; [`Error::is_wrong_kind`] if it is not a symbolic link.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.read_link("/etc/app.conf").await?, b"/app/app.conf");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_link(&self, path: impl AsRef<[u8]> + Send) -> Result<Vec<u8>, Error> {
        let entry = self.symlink_metadata(path.as_ref()).await?;
        match entry.kind {
            EntryKind::Symlink => Ok(entry.link),
            kind => Err(self.wrong_kind(path.as_ref(), kind, "a symbolic link")),
        }
    }

    /// Whether there is something at a path, symbolic links followed.
    ///
    /// # Errors
    ///
    /// Those of reading the layers: [`Error::is_corrupt`], [`Error::is_unavailable`], [`Error::is_unauthorized`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert!(image.exists("/etc/passwd").await? && !image.exists("/app/secret").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn exists(&self, path: impl AsRef<[u8]> + Send) -> Result<bool, Error> {
        match self.metadata(path).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() || error.is_deleted() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a directory holds, sorted by the bytes of the names.
    ///
    /// # Errors
    ///
    /// Those of [`Image::metadata`]; [`Error::is_wrong_kind`] if it is not a directory.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let names: Vec<_> = image.read_dir("/etc").await?.into_iter().map(|found| found.name).collect();
    /// assert!(names.contains(&b"app.conf".to_vec()) && names.contains(&b"passwd".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_dir(&self, path: impl AsRef<[u8]> + Send) -> Result<Vec<DirectoryEntry>, Error> {
        let (path, options) = (path.as_ref(), CarveOptions::default());
        let selection = Selection::paths([path]);
        let found = self.locate_selection(&selection, path, options, Last::Follow).await?;
        if found.entry.kind != EntryKind::Directory {
            return Err(self.wrong_kind(path, found.entry.kind, "a directory"));
        }
        let stack = stack(&found.states);
        let directory = found.entry.path;
        let below = stack.subtree(&directory).skip(1).filter_map(|node| {
            let name = node.path.get(directory.len()..)?;
            let name = name.strip_prefix(b"/").unwrap_or(name);
            if name.is_empty() || name.contains(&b'/') {
                return None;
            }
            let (layer, record) = node.content.map_or((node.layer, node.record), |c| (c.layer, c.record));
            let entry = Entry { path: node.path.clone(), ..stack.layer(layer)?.entry(record) };
            Some(DirectoryEntry { name: name.to_vec(), entry, layer: node.layer })
        });
        Ok(below.collect())
    }

    fn wrong_kind(&self, path: &[u8], kind: EntryKind, wanted: &str) -> Error {
        let (path, kind, image) = (display(path), describe(kind), self.reference());
        Error::new(Kind::NotAFile, format!("/{path} is {kind} in {image}, not {wanted}"))
    }
}
