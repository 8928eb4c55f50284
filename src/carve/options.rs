//! How files are carved.

use super::path_search::StopWhen;
use crate::{image::rootfs::Options, read::verification::Verification};

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
    pub(crate) min_verification: Verification,
}

impl Default for CarveOptions {
    fn default() -> Self {
        Self { layer: None, min_verification: Verification::None }
    }
}

impl CarveOptions {
    /// Looks only in this layer, 0 = base, as if the image had no other.
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

    /// Gives only what the layers' own tars are proved to hold ([`Verification::Span`] or better), and nothing before the proof. Layers
    /// without a verified TOC are read to their end. This also applies to the answer that there is no such file.
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
        self.min_verification(if verify { Verification::Span } else { Verification::None })
    }

    /// Gives only what is verified to at least this level, and nothing before the proof. [`Verification::Chunk`] accepts a
    /// publisher's TOC; [`Verification::Blob`] reads every layer that the answer depends on to its end.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{CarveOptions, Verification};
    ///
    /// let options = CarveOptions::default().min_verification(Verification::Blob);
    /// let mut file = image.carve_with("/etc/passwd", &options).await?;
    /// file.read_to_end(1 << 20).await?;
    /// assert_eq!(file.outcome().map(|outcome| outcome.verification), Some(Verification::Blob));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn min_verification(mut self, level: Verification) -> Self {
        self.min_verification = level;
        self
    }

    pub(super) fn verifies(self) -> bool {
        self.min_verification > Verification::None
    }

    pub(super) fn resolution(self) -> Options {
        Options { only_layer: self.layer, ..Options::default() }
    }

    pub(super) fn stop_when(self) -> StopWhen {
        if self.verifies() { StopWhen::Verified } else { StopWhen::Found }
    }
}
