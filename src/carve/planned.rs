//! What carving would read.

use std::collections::{BTreeMap, HashSet};

use super::{
    CarveOptions, Selection,
    hunt::{Extent, stack},
    listing::Listing,
};
use crate::{
    error::Error,
    image::Image,
    layer::{Layer, PlannedRead},
    tar::entry::EntryKind,
};

impl Image {
    /// What [`Image::collect`] would read of the layers for this selection, and [`Image::carve_with`] for a single path, in this order;
    /// nothing of them is read for it, but the cache is. As far as a layer has to be read first, what comes after it depends on what it
    /// holds: then the plan is of all layers that may be read, without what links in them may add.
    ///
    /// # Errors
    ///
    /// As for [`Image::carve_with`] where it is known without reading that nothing can be found.
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
        let asked = |layer: &&Layer| options.layer.is_none_or(|only| only == layer.index());
        for layer in self.layers().iter().filter(asked) {
            layer.learn_cached(options.least).await;
        }
        let Some((first, whole)) = self.unread(selection, *options) else {
            return self.planned_content(selection, *options);
        };
        let whole_layers = whole || options.extent() != Extent::Answered;
        let unread = self
            .layers()
            .iter()
            .rev()
            .filter(asked)
            .filter(|layer| (whole || layer.index() <= first) && !layer.known().is_known(options.least));
        // The same blob again is known by then.
        let mut seen = HashSet::new();
        let unread = unread.filter(|layer| seen.insert(layer.digest()));
        Ok(unread
            .enumerate()
            .map(|(place, layer)| layer.planned(options.least, whole_layers, whole || place == 0))
            .collect())
    }

    /// All that can be found is known: what its content would take.
    fn planned_content(
        &self,
        selection: &Selection,
        options: CarveOptions,
    ) -> Result<Vec<PlannedRead>, Error> {
        let known = self.known();
        let mut listing = Listing::default();
        self.list(&stack(&known), selection, options, &mut listing)?;
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
            let extraction = layer.extraction(known.get(index)?);
            Some(match extraction.filter(|job| job.verification() >= options.least) {
                Some(job) => PlannedRead::exactly(index, job.plan(), job.ranges(&records)),
                None => layer.planned(options.least, options.extent() != Extent::Answered, true),
            })
        });
        Ok(planned.collect())
    }
}
