//! How layers are listed.

use crate::read::verification::Verification;

/// How to list.
///
/// ```
/// use layerslayer::{PeekOptions, Verification};
///
/// let options = PeekOptions::default().min_verification(Verification::Span);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PeekOptions {
    pub(crate) min_verification: Verification,
}

impl Default for PeekOptions {
    fn default() -> Self {
        Self { min_verification: Verification::None }
    }
}

impl PeekOptions {
    /// Lists nothing that is verified to less than this level. [`Verification::Blob`] reads every layer to its end.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{PeekOptions, Verification};
    ///
    /// let options = PeekOptions::default().min_verification(Verification::Blob);
    /// assert_eq!(image.rootfs_with(&options).await?.verification(), Verification::Blob);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn min_verification(mut self, level: Verification) -> Self {
        self.min_verification = level;
        self
    }
}
