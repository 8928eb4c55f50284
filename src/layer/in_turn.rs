//! Listings of several layers, one after the other.

use std::{collections::VecDeque, fmt};

use super::{Entries, Layer, Verification, ahead::Ahead, scan::Reading};
use crate::error::Error;

/// The entries of several layers, one layer after the other, as [`Image::layers_in_turn`](crate::Image::layers_in_turn) gives them.
/// While the end of one layer is still on its way, the next one is asked for. Dropping this and the entries that it gave ends all
/// transfers.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let mut layers = image.layers_in_turn([0, 1, 2], layerslayer::Verification::None)?;
/// while let Some(entries) = layers.next().await {
///     let mut entries = entries?;
///     while let Some(entry) = entries.next().await {
///         println!("{}", entry?.path.escape_ascii());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct LayersInTurn {
    layers: VecDeque<Layer>,
    least: Verification,
    ahead: Ahead,
}

impl LayersInTurn {
    pub(crate) fn new(layers: Vec<Layer>, least: Verification) -> Self {
        let ahead = Ahead::new(layers.iter().cloned(), Reading::Whole, least);
        Self { layers: layers.into(), least, ahead }
    }

    /// The entries of the next layer, `None` after the last. Those of the layer before are best read to their end by then.
    ///
    /// # Errors
    ///
    /// None today; errors of the transfer and of the content are items of the stream of entries.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut layers = image.layers_in_turn([2], layerslayer::Verification::Blob)?;
    /// let mut entries = layers.next().await.ok_or("no layer")??;
    /// assert_eq!(entries.next().await.ok_or("an empty layer")??.path, b"app");
    /// assert!(layers.next().await.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Entries, Error>> {
        let layer = self.layers.pop_front()?;
        Some(Entries::new(&layer, self.least, &self.ahead).await)
    }
}

impl fmt::Debug for LayersInTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayersInTurn").field("layers", &self.layers).finish_non_exhaustive()
    }
}
