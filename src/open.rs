//! `open`: random access to the content of a file.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    carve::CarveOptions,
    error::{Error, Kind},
    image::{Image, rootfs::Last},
    layer::{Layer, toc_state::TocState},
    read::{random::RandomAccess, verification::Verification},
    reader::{driver, store::invalidate},
    tar::entry::{Entry, EntryKind},
};

/// A file of an image that can be read in any order.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let file = image.open("/etc/passwd").await?;
/// assert_eq!(file.read_at(0, 5).await?, "root:");
/// assert_eq!(file.read_at(file.size(), 5).await?, "");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct OpenFile {
    entry: Entry,
    layer: Layer,
    name_layer: usize,
    verification: Verification,
    content: Arc<OpenContent>,
}

enum OpenContent {
    /// Blocks are read and verified one by one.
    Blocks(RandomAccess),
    /// All of it, for content that cannot be read in blocks: sparse files.
    Whole(Bytes),
}

/// Most bytes of a file that cannot be read in blocks.
const WHOLE_BYTES: u64 = 64 << 20;

impl Image {
    /// Opens the file at a path for reading in any order, links followed. Where the TOC of its layer is not known, the layer is read
    /// once.
    ///
    /// # Errors
    ///
    /// Those of [`Image::carve_with`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let file = image.open("/etc/app.conf").await?;
    /// assert_eq!(file.read_at(9, 4).await?, "8080");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(&self, path: impl AsRef<[u8]> + Send) -> Result<OpenFile, Error> {
        self.open_with(path, &CarveOptions::default()).await
    }

    /// Like [`Image::open`], with options.
    ///
    /// # Errors
    ///
    /// Those of [`Image::carve_with`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{CarveOptions, Verification};
    ///
    /// let options = CarveOptions::default().min_verification(Verification::Span);
    /// let file = image.open_with("/etc/passwd", &options).await?;
    /// assert!(file.verification() >= Verification::Span);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open_with(
        &self,
        path: impl AsRef<[u8]> + Send,
        options: &CarveOptions,
    ) -> Result<OpenFile, Error> {
        self.begin_question();
        let path = path.as_ref();
        let mut found = self.locate(path, *options, Last::Follow).await?;
        if found.entry.kind != EntryKind::File {
            let (path, image) = (path.escape_ascii(), self.reference());
            return Err(Error::new(Kind::NotAFile, format!("/{path} is not a file in {image}")));
        }
        let layer = self.layer(found.content.layer)?.clone();
        if !is_readable(&layer) {
            driver::record(&layer).await?;
            // Records have other numbers in another TOC.
            found = self.locate(path, *options, Last::Follow).await?;
        }
        let (state, record) = (layer.toc.state(), found.content.record);
        let min_verification = options.min_verification.min(Verification::Span);
        let extraction =
            driver::extraction(&layer, &state).filter(|one| one.verification() >= min_verification);
        let blocks = extraction.and_then(|extraction| RandomAccess::new(extraction, record).ok());
        let (content, level) = match blocks {
            Some(blocks) => {
                let level = blocks.verification();
                (OpenContent::Blocks(blocks), level)
            }
            None => {
                let mut file = self.carve_with(&found.entry.path, options).await?;
                let whole = file.read_to_end(WHOLE_BYTES).await?;
                let level = file.outcome().map_or(Verification::None, |outcome| outcome.verification);
                (OpenContent::Whole(whole.into()), level)
            }
        };
        let verification = level.min(found.verification);
        let (entry, name_layer, content) = (found.entry, found.layer, Arc::new(content));
        Ok(OpenFile { entry, layer, name_layer, verification, content })
    }
}

/// Whether content can be read by a TOC of the whole layer.
fn is_readable(layer: &Layer) -> bool {
    let state = layer.toc.state();
    matches!(state, TocState::Complete(..)) && driver::extraction(layer, &state).is_some()
}

impl OpenFile {
    /// The file's entry. Its path is the one that links led to.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.open("/etc/app.conf").await?.entry().path, b"app/app.conf");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The layer that holds its name, 0 = base.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.open("/etc/passwd").await?.layer(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer(&self) -> usize {
        self.name_layer
    }

    /// Its size in bytes.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.open("/etc/passwd").await?.size(), 63);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn size(&self) -> u64 {
        self.entry.size
    }

    /// How far everything that it gives is verified.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::Verification;
    ///
    /// assert!(image.open("/etc/passwd").await?.verification() <= Verification::Blob);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn verification(&self) -> Verification {
        self.verification
    }

    /// Up to `length` bytes at `offset`, verified before they are given; fewer at the end of the file. Calls may be concurrent and in
    /// any order. Blocks that were decoded lately, up to 16 MiB, are not read again.
    ///
    /// # Errors
    ///
    /// [`Error::is_corrupt`], [`Error::is_unavailable`], [`Error::is_unauthorized`] of reading the layer.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.open("/etc/passwd").await?.read_at(5, 3).await?, "x:0");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        match &*self.content {
            OpenContent::Blocks(blocks) => blocks.read_at(offset, length).await.map_err(|error| {
                if error.is_corrupt() {
                    invalidate(&self.layer);
                }
                self.layer.error(error)
            }),
            OpenContent::Whole(whole) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
                Ok(whole.slice(start..start.saturating_add(length).min(whole.len())))
            }
        }
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("OpenFile");
        text.field("entry", &self.entry).field("verification", &self.verification).finish_non_exhaustive()
    }
}
