//! One layer of an image: data only. The reader reads it, and the questions stand in rooms of their own.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    error::Error,
    limits::Limits,
    oci::{digest::Digest, media_type::MediaType},
    progress::Reporter,
    read::{config::ConfigFuture, pool::WorkerPool},
    referrers::{Referrers, soci::SociIndex},
    source::Source,
};

pub(crate) mod toc_state;

use self::toc_state::TocCell;

/// One layer of an [`Image`](crate::Image): what the manifest and the configuration say about it, and its contents on demand.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// for layer in image.layers() {
///     println!("{} {} {} bytes", layer.index(), layer.digest(), layer.size());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Layer {
    pub(crate) image: Arc<str>,
    pub(crate) index: usize,
    /// The digest of its blob, where it has one.
    pub(crate) digest: Option<Digest>,
    pub(crate) name: Digest,
    pub(crate) media_type: MediaType,
    pub(crate) configuration: ConfigFuture,
    pub(crate) annotations: Arc<BTreeMap<String, String>>,
    /// The SOCI index that the manifest names.
    pub(crate) soci: Option<Arc<SociIndex>>,
    /// What refers to the image, where a key is trusted: requested before a layer is read.
    pub(crate) referrers: Option<Arc<Referrers>>,
    pub(crate) toc: Arc<TocCell>,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) progress: Arc<Reporter>,
    pub(crate) pool: Arc<WorkerPool>,
    pub(crate) limits: Limits,
}

impl Layer {
    /// Its index in the image, 0 = base.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.layers()[2].index(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The digest of its blob. A `docker save` archive names no blobs: there it is the DiffID.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert!(image.layer(0)?.digest().hex().starts_with("12ea404fa348"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.name
    }

    /// The digest of its unpacked tar (OCI image specification, config.md, "Layer DiffID"), if the configuration gives one.
    ///
    /// # Errors
    ///
    /// Those of [`Image::config`](crate::Image::config).
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let layer = image.layer(0)?;
    /// assert_eq!(layer.diff_id().await?, image.config().await?.diff_ids().first());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn diff_id(&self) -> Result<Option<&Digest>, Error> {
        Ok(self.configuration.read().await?.diff_id(self.index))
    }

    /// Its media type according to the manifest.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(*image.layer(0)?.media_type(), layerslayer::MediaType::OCI_LAYER_GZIP);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// Size of its blob in bytes, compressed.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.layer(0)?.size(), 356);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn size(&self) -> u64 {
        self.source.size()
    }

    /// The command that made it, if the configuration's history has it.
    ///
    /// # Errors
    ///
    /// Those of [`Image::config`](crate::Image::config).
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.layer(0)?.created_by().await?, Some("COPY base /"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn created_by(&self) -> Result<Option<&str>, Error> {
        Ok(self.configuration.read().await?.config().created_by(self.index))
    }

    /// Adds to an error which layer it is about.
    pub(crate) fn error(&self, error: Error) -> Error {
        // Layers of artifacts can have any format, which the media type tells.
        let media_type = if error.is_not_tar() { format!(", {}", self.media_type) } else { String::new() };
        error.context(format!("layer {} ({}{media_type}) of {}", self.index, self.name, self.image))
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Layer");
        text.field("index", &self.index).field("digest", &self.name).field("size", &self.size());
        text.finish_non_exhaustive()
    }
}
