//! The library without async: [`Client`], [`Image`] and [`File`] for callers without a runtime.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = layerslayer::blocking::Client::new()?;
//! let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
//! let mut content = String::new();
//! std::io::Read::read_to_string(&mut image.carve("/etc/passwd")?, &mut content)?;
//! assert!(content.starts_with("root:"));
//! # Ok(())
//! # }
//! ```
//!
//! These functions block the thread. They must not be called from async code.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::{
    carve::{self, CarveOptions},
    client,
    error::{Error, Kind},
    image,
    oci::{platform::Platform, reference::ImageReference},
    scan::{Found, ScanAction, ScanOptions},
    tar::entry::Entry,
    tree::Tree,
};

/// [`crate::Client`] with a runtime of its own.
///
/// ```
/// let client = layerslayer::blocking::Client::new()?;
/// # let _ = client;
/// # Ok::<(), layerslayer::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    client: client::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// A client with default settings.
    ///
    /// # Errors
    ///
    /// Those of [`ClientBuilder::build`](crate::ClientBuilder::build), and if the system gives no threads.
    ///
    /// ```
    /// # fn main() -> Result<(), layerslayer::Error> {
    /// let client = layerslayer::blocking::Client::new()?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Result<Self, Error> {
        Self::with(client::Client::builder().build()?)
    }

    /// A client with the settings of another.
    ///
    /// # Errors
    ///
    /// If the system gives no threads.
    ///
    /// ```
    /// # fn main() -> Result<(), layerslayer::Error> {
    /// let settings = layerslayer::Client::builder().plain_http(true).build()?;
    /// let client = layerslayer::blocking::Client::with(settings)?;
    /// # let _ = client;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with(client: client::Client) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| Error::caused(Kind::Other, "starting a runtime", error))?;
        Ok(Self { client, runtime: Arc::new(runtime) })
    }

    /// Opens an image: [`crate::Client::image`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Client::image`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = layerslayer::blocking::Client::new()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
    /// assert_eq!(image.get().layers().len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn image(&self, reference: &ImageReference, platform: &Platform) -> Result<Image, Error> {
        let image = self.runtime.block_on(self.client.image(reference, platform))?;
        Ok(Image { image, runtime: Arc::clone(&self.runtime) })
    }
}

/// [`crate::Image`] without async.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::blocking::Client::new()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
/// assert_eq!(image.metadata("/etc/passwd")?.size, 63);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Image {
    image: image::Image,
    runtime: Arc<Runtime>,
}

impl Image {
    /// The image itself, for what needs no waiting.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::blocking::Client::new()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
    /// println!("{}", image.get().digest());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn get(&self) -> &image::Image {
        &self.image
    }

    /// The file at a path: [`crate::Image::carve`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Image::carve`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::blocking::Client::new()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
    /// assert_eq!(image.carve("/etc/app.conf")?.entry().size, 14);
    /// # Ok(())
    /// # }
    /// ```
    pub fn carve(&self, path: impl AsRef<[u8]> + Send) -> Result<File, Error> {
        self.carve_with(path, &CarveOptions::default())
    }

    /// Like [`Image::carve`], with options.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Image::carve_with`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::blocking::Client::new()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
    /// let options = layerslayer::CarveOptions::default().layer(1);
    /// assert!(image.carve_with("/app/secret", &options).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn carve_with(&self, path: impl AsRef<[u8]> + Send, options: &CarveOptions) -> Result<File, Error> {
        let file = self.runtime.block_on(self.image.carve_with(path, options))?;
        Ok(File { file, piece: Bytes::new(), runtime: Arc::clone(&self.runtime) })
    }

    /// The metadata of what is at a path: [`crate::Image::metadata`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Image::metadata`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::blocking::Client::new()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
    /// assert!(image.metadata("/nowhere").is_err_and(|error| error.is_not_found()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn metadata(&self, path: impl AsRef<[u8]> + Send) -> Result<Entry, Error> {
        self.runtime.block_on(self.image.metadata(path))
    }

    /// The merged tree: [`crate::Image::tree`].
    ///
    /// # Errors
    ///
    /// Those of [`crate::Image::tree`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::blocking::Client::new()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
    /// assert!(image.tree()?.get("etc/passwd").is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn tree(&self) -> Result<Tree, Error> {
        self.runtime.block_on(self.image.tree())
    }

    /// Scans the layers: [`crate::Image::scan`]. `visit` gets each entry that `filter` selects, with its content if that was requested.
    ///
    /// # Errors
    ///
    /// The first error of the scan or of `visit`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::blocking::Client::new()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
    /// use layerslayer::{ScanAction, ScanOptions};
    ///
    /// let mut count = 0;
    /// image.scan(ScanOptions::merged(), |_, _| ScanAction::Stat, 0, |_, _| {
    ///     count += 1;
    ///     Ok(())
    /// })?;
    /// assert!(count > 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan(
        &self,
        options: ScanOptions,
        filter: impl Fn(&Entry, usize) -> ScanAction + Send + Sync + 'static,
        content_limit: u64,
        mut visit: impl FnMut(&Found, Option<Vec<u8>>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut scan = self.image.scan(options).filter(filter);
        while let Some(found) = self.runtime.block_on(scan.next()) {
            let mut found = found?;
            let content = match &mut found.content {
                Some(content) => Some(self.runtime.block_on(content.read_to_end(content_limit))?),
                None => None,
            };
            visit(&found, content)?;
        }
        Ok(())
    }
}

/// [`crate::File`] as [`io::Read`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::blocking::Client::new()?;
/// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
/// let mut file = image.carve("/etc/app.conf")?;
/// std::io::copy(&mut file, &mut std::io::sink())?;
/// assert!(file.outcome().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct File {
    file: carve::File,
    piece: Bytes,
    runtime: Arc<Runtime>,
}

impl File {
    /// The file's entry: [`crate::File::entry`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::blocking::Client::new()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
    /// assert_eq!(image.carve("/etc/passwd")?.entry().path, b"etc/passwd");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn entry(&self) -> &Entry {
        self.file.entry()
    }

    /// How far the content can be relied on, once it has been read to its end: [`crate::File::outcome`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::blocking::Client::new()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default())?;
    /// assert!(image.carve("/etc/passwd")?.outcome().is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn outcome(&self) -> Option<carve::Outcome> {
        self.file.outcome()
    }
}

impl io::Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.file.next()) {
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let piece = self.piece.split_to(self.piece.len().min(buffer.len()));
        if let Some(target) = buffer.get_mut(..piece.len()) {
            target.copy_from_slice(&piece);
        }
        Ok(piece.len())
    }
}
