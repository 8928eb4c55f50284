//! What carving would read.

use std::collections::{BTreeMap, HashSet};

use super::{
    CarveOptions, Selection,
    listing::Listing,
    path_search::{StopWhen, stack},
    search::Unread,
};
use crate::{
    error::Error,
    image::Image,
    layer::Layer,
    peek::planned::{PlannedRead, planned},
    reader::{discover::discover_cached, driver},
    tar::entry::EntryKind,
};

impl Image {
    /// What [`Image::collect`] would read of the layers for this selection, and [`Image::carve_with`] for a single path, in this order.
    /// The cache is consulted, no layer is read. Where a layer has to be read first, what comes after it depends on its content: the
    /// plan then has all layers that may be read, without what links in them may add.
    ///
    /// # Errors
    ///
    /// Those of [`Image::carve_with`] where it is known without reading that nothing can be found.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let selection = layerslayer::Selection::paths(["/etc/passwd"]);
    /// let reads = image.plan(&selection, &Default::default()).await?;
    /// // The newest layer is read, the others if it does not answer.
    /// assert_eq!(reads.iter().map(|read| (read.layer, read.is_certain)).collect::<Vec<_>>(), [
    ///     (2, true),
    ///     (1, false),
    ///     (0, false),
    /// ]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn plan(
        &self,
        selection: &Selection,
        options: &CarveOptions,
    ) -> Result<Vec<PlannedRead>, Error> {
        if let Some(layer) = options.layer {
            self.layer(layer)?;
        }
        let is_searched = |layer: &&Layer| options.layer.is_none_or(|only| only == layer.index());
        for layer in self.layers().iter().filter(is_searched) {
            discover_cached(layer, options.min_verification).await;
        }
        let Some(Unread { layer: first, whole }) = self.unread(selection, *options) else {
            return self.planned_content(selection, *options);
        };
        let whole_layers = whole || options.stop_when() != StopWhen::Found;
        let unread = self.layers().iter().rev().filter(is_searched).filter(|layer| {
            (whole || layer.index() <= first) && !layer.toc.state().satisfies(options.min_verification)
        });
        // The TOC of the same blob is known by then.
        let mut seen = HashSet::new();
        let unread = unread.filter(|layer| seen.insert(layer.digest()));
        Ok(unread
            .enumerate()
            .map(|(place, layer)| planned(layer, options.min_verification, whole_layers, whole || place == 0))
            .collect())
    }

    /// What reading the content would take, once all of the selection is known.
    fn planned_content(
        &self,
        selection: &Selection,
        options: CarveOptions,
    ) -> Result<Vec<PlannedRead>, Error> {
        let states = self.toc_states();
        let mut listing = Listing::default();
        self.list(&stack(&states), selection, options, &mut listing)?;
        if listing.items.is_empty()
            && let Some((_, error)) = listing.failures.pop()
        {
            return Err(error);
        }
        let mut wanted: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (item, content) in &listing.items {
            if let (EntryKind::File, Some(content)) = (item.entry.kind, content) {
                wanted.entry(content.layer).or_default().push(content.record);
            }
        }
        let planned = wanted.into_iter().filter_map(|(index, mut records)| {
            records.sort_unstable();
            records.dedup();
            let layer = self.layer(index).ok()?;
            let extraction = driver::extraction(layer, states.get(index)?);
            Some(match extraction.filter(|job| job.verification() >= options.min_verification) {
                Some(job) => PlannedRead::exactly(index, job.method(), job.ranges(&records)),
                None => {
                    planned(layer, options.min_verification, options.stop_when() != StopWhen::Found, true)
                }
            })
        });
        Ok(planned.collect())
    }
}
