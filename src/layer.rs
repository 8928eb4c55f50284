//! One layer of an image.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    error::Error,
    oci::{digest::Digest, media_type::MediaType},
    progress::Progress,
    source::{Source, growing::Demand},
};

pub(crate) mod ahead;
mod build;
pub(crate) mod configuration;
mod decode;
pub(crate) mod entries;
pub(crate) mod extract;
mod hash;
pub(crate) mod in_turn;
mod inside;
mod keep;
pub(crate) mod known;
mod learn;
mod plan;
mod planned;
pub(crate) mod pushed;
pub(crate) mod record;
pub(crate) mod scan;
pub(crate) mod soci;
mod visit;

use self::{
    ahead::{Ahead, Slot},
    configuration::Pending,
    hash::{DiffId, Expected},
    known::Knowledge,
    scan::{Job, Reading},
    soci::SociIndex,
};
pub use self::{build::BuiltToc, entries::Entries, in_turn::LayersInTurn, plan::Plan, planned::PlannedRead};

/// How far content was checked against the digests that the image's manifest vouches for, weakest first.
///
/// ```
/// use layerslayer::Verification;
///
/// assert!(Verification::None < Verification::Blob);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Verification {
    /// Not at all: a part of the blob was read, and nothing vouches for it.
    None,
    /// Against digests of a table that the publisher has put into the blob or beside the image, and that the manifest vouches for
    /// (the annotations of eStargz, zstd:chunked and SOCI's version 2).
    Chunk,
    /// Against digests of parts of the blob that an earlier pass over the whole blob, which hashed to its digest, has left.
    Span,
    /// The whole blob was read and hashed to its digest, and what it unpacks to hashed to its DiffID.
    Blob,
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blob => "blob",
            Self::Chunk => "chunk",
            Self::None => "none",
            Self::Span => "span",
        })
    }
}

/// One layer of an [`Image`](crate::Image): what the manifest and the configuration say of it, and its contents on demand.
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
    pub(crate) digest: Option<Digest>,
    pub(crate) name: Digest,
    pub(crate) media_type: MediaType,
    pub(crate) configuration: Pending,
    pub(crate) annotations: Arc<BTreeMap<String, String>>,
    pub(crate) soci: Option<Arc<SociIndex>>,
    pub(crate) knowledge: Arc<Knowledge>,
    pub(crate) begun: Slot,
    pub(crate) source: Arc<dyn Source>,
    pub(crate) progress: Arc<dyn Progress>,
}

impl Layer {
    /// Its place in the image, 0 = base.
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

    /// The digest of its blob; of a layer in a `docker save` archive, which names no blobs, the DiffID.
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

    /// Its media type, as the manifest says.
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

    /// The command that made it, if the configuration's history tells.
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

    /// Reads the layer and yields its entries in the order of its tar, whiteouts and opaque markers included. At the end of
    /// the stream the blob's digest and the DiffID have been checked.
    ///
    /// # Errors
    ///
    /// None today; errors of the transfer and of the content are items of the stream.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(0)?.entries().await?;
    /// while let Some(entry) = entries.next().await {
    ///     println!("{}", entry?.path.escape_ascii());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn entries(&self) -> Result<Entries, Error> {
        self.entries_with(Verification::None).await
    }

    /// Like [`Layer::entries`], with nothing in it that is vouched for by less than `least`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::Verification;
    ///
    /// let mut entries = image.layer(0)?.entries_with(Verification::Blob).await?;
    /// while entries.next().await.transpose()?.is_some() {}
    /// assert_eq!(entries.verification(), Some(Verification::Blob));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Layer::entries`].
    pub async fn entries_with(&self, least: Verification) -> Result<Entries, Error> {
        Entries::new(self, least, &Ahead::none()).await
    }

    /// A pass over the whole layer, which takes up what was begun of it.
    pub(crate) fn job(&self) -> Job {
        Job {
            source: Arc::clone(&self.source),
            digest: self.digest.clone(),
            configuration: self.configuration.clone(),
            layer: self.index,
            name: self.name.clone(),
            progress: Arc::clone(&self.progress),
            reading: Reading::Whole,
            record: false,
            demand: Arc::new(Demand::after(self.begun.take())),
            resume: None,
        }
    }

    /// What a whole pass must hash to.
    pub(crate) fn expected(&self) -> Expected {
        let told = self.configuration.now().map(|told| DiffId::Told(told.diff_id(self.index).cloned()));
        Expected { digest: self.digest.clone(), diff_id: told.unwrap_or(DiffId::Awaited) }
    }

    /// Says of which layer an error is.
    pub(crate) fn error(&self, error: Error) -> Error {
        error.context(format!("layer {} ({}) of {}", self.index, self.name, self.image))
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Layer");
        text.field("index", &self.index).field("digest", &self.name).field("size", &self.size());
        text.finish_non_exhaustive()
    }
}
