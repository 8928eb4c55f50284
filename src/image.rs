//! An image: its documents, its layers and what a container of it would see.

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
    /// What an image index says it is for, if one led to it.
    pub(crate) chosen: Option<Platform>,
    pub(crate) configuration: Pending,
    pub(crate) layers: Vec<Layer>,
    /// Layers that are decoded at the same time, at most.
    pub(crate) parallel_layers: usize,
    /// Kept so that the session lives as long as the image.
    pub(crate) session: Option<Arc<Session>>,
}

impl Image {
    /// The reference that it was asked for by.
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

    /// The digest of its manifest; of an image in a `docker save` archive, which has none, the digest of its configuration.
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

    /// The platform that it is for: what the image index says, else the configuration.
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

    /// Its configuration. It is read when this, or a layer, is first asked for.
    ///
    /// # Errors
    ///
    /// [`Error::is_corrupt`] if it is no configuration or not the one that the manifest names; [`Error::is_unavailable`] and
    /// [`Error::is_unauthorized`] of the registry.
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

    /// Does `work` while the configuration is read; gives nothing before it was found to be right.
    pub(crate) async fn configured<T>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let (answer, _) = try_join(work, self.inner.configuration.read()).await?;
        Ok(answer)
    }

    /// Its layers, base first.
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

    /// One of its layers, 0 = base.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] if it has no such layer.
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
                format!("{} has no layer {index}: it has {count}, counted from 0", self.reference());
            Error::new(Kind::Usage, message)
        })
    }

    /// The entries of these layers, one layer after the other, with nothing in them that is vouched for by less than `least`: as
    /// [`Layer::entries_with`] on each of them, but without a pause between.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] if it has no such layer.
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

    /// Makes the tables of contents of all layers: see [`Image::build_tocs_in_turn`].
    ///
    /// # Errors
    ///
    /// Those of [`Layer::build_toc`]; what was made before stays.
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

    /// Makes the tables of contents of all layers, base first, each as [`Layer::build_toc`] does, and as many at a time as
    /// [`ClientBuilder::parallel_layers`](crate::ClientBuilder::parallel_layers) lets.
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
        // What only a publisher vouches for is not kept: such layers are read too.
        let ahead = self.whole_ahead(Verification::Span);
        let build = move |layer: &Layer| {
            let (layer, ahead) = (layer.clone(), ahead.clone());
            async move { layer.build_toc_in_turn(&ahead).await }
        };
        stream::iter(self.layers()).then(build)
    }

    /// For reading all layers to their end, base first, but for those that are known by what is vouched for by `least`.
    pub(crate) fn whole_ahead(&self, least: Verification) -> Ahead {
        Ahead::whole(self.layers().iter().cloned(), least, self.inner.parallel_layers)
    }

    /// Ends the session with the registry: its tokens are forgotten. Dropping the last clone of the image does the same.
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
