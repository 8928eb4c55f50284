//! Listings of several layers, one after the other.

use std::{collections::VecDeque, fmt};

use super::{Entries, PeekOptions};
use crate::{layer::Layer, read::pass::Fetch, reader::prefetch::Prefetcher};

/// The entries of several layers, one layer after the other, as [`Image::layers_in_turn`](crate::Image::layers_in_turn) gives them.
/// While the end of one layer is on its way, the next one is requested. Dropping this and its entries ends all transfers. Read the
/// entries of one layer to their end before the next.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// for mut entries in image.layers_in_turn([0, 1, 2], &Default::default())? {
///     while let Some(entry) = entries.next().await {
///         println!("{}", entry?.path.escape_ascii());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct LayersInTurn {
    layers: VecDeque<Layer>,
    options: PeekOptions,
    prefetcher: Prefetcher,
}

impl LayersInTurn {
    pub(super) fn new(layers: Vec<Layer>, options: PeekOptions) -> Self {
        let prefetcher = Prefetcher::requests(layers.iter().cloned(), Fetch::Full, options.min_verification);
        Self { layers: layers.into(), options, prefetcher }
    }
}

impl Iterator for LayersInTurn {
    type Item = Entries;

    fn next(&mut self) -> Option<Entries> {
        let layer = self.layers.pop_front()?;
        Some(Entries::new(&layer, self.options, &self.prefetcher))
    }
}

impl fmt::Debug for LayersInTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayersInTurn").field("layers", &self.layers).finish_non_exhaustive()
    }
}
