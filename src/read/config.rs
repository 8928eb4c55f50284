//! What an image's configuration says of its layers. It is requested together with the first layer and not before it: a pass needs
//! the DiffID only at its end.

use std::{future::Future, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture, Shared},
};

use crate::{
    error::{Error, Kind},
    oci::{digest::Digest, manifest::ImageConfig, platform::Platform},
};

/// The configuration of one image, shared by its layers. It is read once, when it is first needed.
#[derive(Clone)]
pub(crate) struct ConfigFuture(Shared<BoxFuture<'static, Result<Arc<Configuration>, Error>>>);

/// A configuration that has been read and checked.
pub(crate) struct Configuration {
    config: ImageConfig,
    platform: Option<Platform>,
    /// Whether there is a DiffID for each layer.
    has_diff_ids: bool,
}

impl ConfigFuture {
    /// A configuration that `reading` will give.
    pub(crate) fn new(reading: impl Future<Output = Result<Configuration, Error>> + Send + 'static) -> Self {
        Self(reading.map(|read| read.map(Arc::new)).boxed().shared())
    }

    /// A configuration that has been read.
    pub(crate) fn ready(configuration: Configuration) -> Self {
        let pending = Self::new(future::ready(Ok(configuration)));
        let _ = pending.0.clone().now_or_never();
        pending
    }

    /// The configuration, once it has been read.
    pub(crate) async fn read(&self) -> Result<&Configuration, Error> {
        self.0.clone().await?;
        self.now().ok_or_else(|| Error::new(Kind::Other, "reading the configuration was interrupted"))
    }

    /// Whether it has not been read yet.
    pub(crate) fn is_pending(&self) -> bool {
        self.0.peek().is_none()
    }

    /// The configuration, if it has been read.
    pub(crate) fn now(&self) -> Option<&Configuration> {
        self.0.peek()?.as_deref().ok()
    }
}

impl Configuration {
    /// The configuration of an image with `layers` layers for `platform`.
    pub(crate) fn new(config: ImageConfig, platform: impl Into<Option<Platform>>, layers: usize) -> Self {
        let platform = platform.into();
        let has_diff_ids = config.diff_ids().len() == layers;
        Self { config, platform, has_diff_ids }
    }

    pub(crate) fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// The platform that the image is for, if it is stated.
    pub(crate) fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// The DiffID of a layer, 0 = base; none where it is not clear which DiffID is whose.
    pub(crate) fn diff_id(&self, layer: usize) -> Option<&Digest> {
        self.config.diff_ids().get(layer).filter(|_| self.has_diff_ids)
    }
}
