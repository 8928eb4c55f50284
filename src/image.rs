//! An image: documents, layers and the merged root file system.

use std::{fmt, sync::Arc};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future::try_join, stream};

use crate::{
    error::{Error, Kind},
    layer::{BuiltToc, Layer, LayersInTurn, Verification, ahead::Ahead, configuration::Pending},
    oci::{digest::Digest, manifest::ImageConfig, platform::Platform, reference::ImageReference},
    registry::session::Session,
};

mod docker_archive;
mod documents;
mod oci_layout;
pub(crate) mod resolve;
pub(crate) mod rootfs;

/// One image, for one platform. Cheap to clone.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// for layer in image.layers() {
///     println!("{} {}", layer.index(), layer.digest());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Image {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) reference: ImageReference,
    pub(crate) digest: Digest,
    /// The platform that the image index states, if there is an index.
    pub(crate) index_platform: Option<Platform>,
    pub(crate) configuration: Pending,
    pub(crate) layers: Vec<Layer>,
    /// Most layers that are decoded at the same time.
    pub(crate) parallel_layers: usize,
    /// The session lives as long as the image.
    pub(crate) session: Option<Arc<Session>>,
}

impl Image {
    /// The reference that the image was opened with.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.reference().to_string(), "oci:fixtures/demo");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn reference(&self) -> &ImageReference {
        &self.inner.reference
    }

    /// The digest of the manifest. Images in `docker save` archives have no manifest; theirs is the digest of the configuration.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert!(image.digest().to_string().starts_with("sha256:3c308f32"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.inner.digest
    }

    /// The platform that the image is for: from the image index, otherwise from the configuration.
    ///
    /// # Errors
    ///
    /// Those of [`Image::config`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.platform().await?.to_string(), "linux/amd64");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn platform(&self) -> Result<&Platform, Error> {
        Ok(self.inner.configuration.read().await?.platform())
    }

    /// The configuration. It is fetched when it or a layer is first needed.
    ///
    /// # Errors
    ///
    /// [`Error::is_corrupt`] if it is malformed or does not match the digest in the manifest; [`Error::is_unavailable`] and
    /// [`Error::is_unauthorized`] if the registry fails.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.config().await?.user(), Some("app"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn config(&self) -> Result<&ImageConfig, Error> {
        Ok(self.inner.configuration.read().await?.config())
    }

    /// Runs `work` while the configuration is fetched. Returns nothing before the configuration is verified.
    pub(crate) async fn configured<T>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let (answer, _) = try_join(work, self.inner.configuration.read()).await?;
        Ok(answer)
    }

    /// The layers, base first.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.layers().iter().map(|layer| layer.size()).sum::<u64>(), 825);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.inner.layers
    }

    /// One layer, 0 = base.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] if the image has no such layer.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.layer(0)?.index(), 0);
    /// assert!(image.layer(3).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer(&self, index: usize) -> Result<&Layer, Error> {
        self.inner.layers.get(index).ok_or_else(|| {
            let count = self.inner.layers.len();
            let message =
                format!("{} has no layer {index}: it has {count} layers, counted from 0", self.reference());
            Error::new(Kind::Usage, message)
        })
    }

    /// The entries of these layers, one layer after the other, with at least this verification level: like [`Layer::entries_with`] on
    /// each layer, but without a pause between layers.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] if the image has no such layer.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::Verification;
    ///
    /// let mut layers = image.layers_in_turn(0..image.layers().len(), Verification::None)?;
    /// let mut count = 0;
    /// while let Some(mut entries) = layers.next().await.transpose()? {
    ///     while entries.next().await.transpose()?.is_some() {
    ///         count += 1;
    ///     }
    /// }
    /// assert_eq!(count, 15);
    /// # Ok(())
    /// # }
    /// ```
    pub fn layers_in_turn(
        &self,
        layers: impl IntoIterator<Item = usize>,
        least: Verification,
    ) -> Result<LayersInTurn, Error> {
        let layers = layers.into_iter().map(|index| self.layer(index).cloned());
        Ok(LayersInTurn::new(layers.collect::<Result<_, _>>()?, least))
    }

    /// Builds the TOCs of all layers: see [`Image::build_tocs_in_turn`].
    ///
    /// # Errors
    ///
    /// Those of [`Layer::build_toc`]. TOCs that were built before the error remain.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use layerslayer::{Cache, CacheOptions, Client};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// let client = Client::builder().cache(cache).build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.build_tocs().await?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn build_tocs(&self) -> Result<Vec<BuiltToc>, Error> {
        self.build_tocs_in_turn().try_collect().await
    }

    /// Builds the TOCs of all layers, base first, each like [`Layer::build_toc`]. At most
    /// [`ClientBuilder::parallel_layers`](crate::ClientBuilder::parallel_layers) layers are read at a time.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_util::StreamExt as _;
    /// use layerslayer::{Cache, CacheOptions, Client};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// let client = Client::builder().cache(cache).build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut tocs = std::pin::pin!(image.build_tocs_in_turn());
    /// while let Some(toc) = tocs.next().await {
    ///     println!("{} bytes", toc?.size);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn build_tocs_in_turn(&self) -> impl Stream<Item = Result<BuiltToc, Error>> + Send {
        // A publisher's TOC is not enough: such layers are read as well.
        let ahead = self.whole_ahead(Verification::Span);
        let build = move |layer: &Layer| {
            let (layer, ahead) = (layer.clone(), ahead.clone());
            async move { layer.build_toc_in_turn(&ahead).await }
        };
        stream::iter(self.layers()).then(build)
    }

    /// Prefetches all layers that are read to their end, base first, except those with a TOC of at least level `least`.
    pub(crate) fn whole_ahead(&self, least: Verification) -> Ahead {
        Ahead::whole(self.layers().iter().cloned(), least, self.inner.parallel_layers)
    }

    /// Ends the session with the registry and discards its tokens. Dropping the last clone of the image does the same.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// image.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self) {
        if let Some(session) = &self.inner.session {
            session.close().await;
        }
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Image");
        text.field("reference", &self.inner.reference.to_string()).field("digest", &self.inner.digest);
        text.field("layers", &self.inner.layers).finish_non_exhaustive()
    }
}
