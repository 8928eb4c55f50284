//! An image: documents, layers and the merged root file system.

use std::{fmt, sync::Arc};

use futures_util::future::try_join;

use crate::{
    error::{Error, Kind},
    layer::Layer,
    oci::{
        digest::Digest, manifest::ImageConfig, media_type::MediaType, platform::Platform,
        reference::ImageReference,
    },
    read::{config::ConfigFuture, pool::WorkerPool},
    registry::session::Session,
};

mod detect;
mod docker_archive;
mod documents;
mod oci_layout;
pub(crate) mod resolve;
pub(crate) mod rootfs;
mod select;

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
    /// The type of artifact, if this is not a container image.
    pub(crate) artifact: Option<MediaType>,
    pub(crate) configuration: ConfigFuture,
    pub(crate) layers: Vec<Layer>,
    /// Most layers that are decoded at the same time.
    pub(crate) parallel_layers: usize,
    /// Where passes do their work.
    pub(crate) pool: Arc<WorkerPool>,
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

    /// The platform that the image is for: from the image index, otherwise from the configuration. `None` if neither states
    /// one, as for artifacts.
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
    /// let platform = image.platform().await?;
    /// assert_eq!(platform.map(ToString::to_string).as_deref(), Some("linux/amd64"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn platform(&self) -> Result<Option<&Platform>, Error> {
        Ok(self.inner.configuration.read().await?.platform())
    }

    /// The type of artifact if this is not a container image but a Helm chart, a signature, a WebAssembly module or the like.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.artifact_type(), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn artifact_type(&self) -> Option<&MediaType> {
        self.inner.artifact.as_ref()
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

    /// Starts a new question: its waits and its time limit begin now.
    pub(crate) fn begin_question(&self) {
        if let Some(session) = &self.inner.session {
            session.begin_question();
        }
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
