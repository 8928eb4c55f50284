//! How files are carved.

use super::hunt::Extent;
use crate::{image::rootfs::Options, layer::Verification};

/// How to carve.
///
/// ```
/// use layerslayer::CarveOptions;
///
/// let options = CarveOptions::default().layer(0).verify(true);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CarveOptions {
    pub(super) layer: Option<usize>,
    pub(super) least: Verification,
}

impl Default for CarveOptions {
    fn default() -> Self {
        Self { layer: None, least: Verification::None }
    }
}

impl CarveOptions {
    /// Looks in this layer alone, 0 = base, as if the image had no other.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::CarveOptions;
    ///
    /// // A newer layer deletes it.
    /// let options = CarveOptions::default().layer(1);
    /// assert!(image.carve_with("/app/secret", &options).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer(mut self, layer: usize) -> Self {
        self.layer = Some(layer);
        self
    }

    /// Gives nothing that nothing vouches for, and nothing before it has been checked: content by tables of contents that can be
    /// trusted, and layers without one by reading them to their end. This also holds for the answer that there is no such file.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{CarveOptions, Verification};
    ///
    /// let mut file = image.carve_with("/etc/passwd", &CarveOptions::default().verify(true)).await?;
    /// file.read_to_end(1 << 20).await?;
    /// assert_eq!(file.outcome().map(|outcome| outcome.verification), Some(Verification::Blob));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn verify(self, verify: bool) -> Self {
        self.at_least(if verify { Verification::Chunk } else { Verification::None })
    }

    /// Like [`Self::verify`], with nothing given that is vouched for by less than `least`. [`Verification::Blob`] reads every layer
    /// that the answer rests on to its end.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{CarveOptions, Verification};
    ///
    /// let options = CarveOptions::default().at_least(Verification::Blob);
    /// let mut file = image.carve_with("/etc/passwd", &options).await?;
    /// file.read_to_end(1 << 20).await?;
    /// assert_eq!(file.outcome().map(|outcome| outcome.verification), Some(Verification::Blob));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn at_least(mut self, least: Verification) -> Self {
        self.least = least;
        self
    }

    pub(super) fn verifies(self) -> bool {
        self.least > Verification::None
    }

    pub(super) fn resolution(self) -> Options {
        Options { only_layer: self.layer, ..Options::default() }
    }

    pub(super) fn extent(self) -> Extent {
        if self.verifies() { Extent::Verified } else { Extent::Answered }
    }
}
