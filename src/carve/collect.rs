//! Several files at once: directories, patterns, many paths.

use std::collections::{BTreeMap, HashMap};

use futures_util::FutureExt as _;

use super::{
    CarveOptions, Outcome,
    answer::{depends_on, is_untrusted},
    collection::Collection,
    content_fetch::ContentFetch,
    listing::Listing,
    path_search::stack,
    selection::Selection,
    sink::{ContentSink, Sinks, SpoolSink, spool_error},
};
use crate::{
    error::{Error, Kind},
    image::Image,
    layer::toc_state::{TocState, verification},
    read::{method::ReadMethod, verification::Verification},
    reader::driver,
    tar::entry::EntryKind,
};

impl Image {
    /// Collects several files, directories with everything below them, or everything that matches patterns. Nothing is given before
    /// all of it has been read. Paths that could not be found are reported with those that were.
    ///
    /// # Errors
    ///
    /// Those of reading a layer, as for [`Image::carve_with`]. A path that does not exist is one of [`Collection::failures`]; patterns
    /// that match nothing give an empty collection.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{CarveOptions, Selection};
    ///
    /// let found = image.collect(&Selection::globs(["etc/*"])?, &CarveOptions::default()).await?;
    /// assert_eq!(found.items().len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn collect(&self, selection: &Selection, options: &CarveOptions) -> Result<Collection, Error> {
        if let Some(layer) = options.layer {
            self.layer(layer)?;
        }
        self.configured(self.collect_all(selection, *options).boxed()).await
    }

    async fn collect_all(&self, selection: &Selection, options: CarveOptions) -> Result<Collection, Error> {
        let mut searched = Vec::new();
        loop {
            let found = self.search(selection, options, &Sinks::Spool, &mut searched).await?;
            let mut spool = spooled(found.sink)?;
            let states = self.toc_states();
            let mut listing = Listing::default();
            self.list(&stack(&states), selection, options, &mut listing)?;
            let fetched = self.fetch_missing(&states, &mut spool, &listing, options).await;
            if let Err(error) = &fetched
                && error.is_corrupt()
                && let dropped = self.dropped(&states)
                && !dropped.is_empty()
            {
                // A pass over the whole layer finds out whether the TOC or the layer is wrong.
                searched.extend(dropped);
                continue;
            }
            let (refetched, method) = fetched?;
            let layers = depends_on(&states, listing.oldest, options);
            let (verification, is_untrusted) = (verification(layers).min(refetched), is_untrusted(layers));
            if !listing.failures.is_empty() {
                self.warn_untrusted(layers);
            }
            let outcome = Outcome { verification, is_final: listing.certain && !is_untrusted, method };
            let SpoolSink { ranges, spool, .. } = *spool;
            let content = spool.finish().map_err(spool_error)?;
            let items = listing.items.into_iter().map(|(mut item, content)| {
                if let Some(range) = content.and_then(|content| ranges.get(&content)) {
                    item.range = range.clone();
                }
                item
            });
            let (items, failures, traces) = (items.collect(), listing.failures, listing.traces);
            return Ok(Collection { items, failures, outcome, content, traces });
        }
    }

    /// The layers whose unsigned TOCs have been dropped since.
    fn dropped(&self, states: &[TocState]) -> Vec<usize> {
        let layers = self.layers().iter().zip(states);
        let layers = layers
            .filter(|(layer, state)| state.is_untrusted_ztoc() && !layer.toc.state().is_untrusted_ztoc());
        layers.map(|(layer, _)| layer.index()).collect()
    }

    /// Reads content that passed by before it was known to be wanted.
    async fn fetch_missing(
        &self,
        states: &[TocState],
        spool: &mut Box<SpoolSink>,
        listing: &Listing,
        options: CarveOptions,
    ) -> Result<(Verification, ReadMethod), Error> {
        let mut missing: BTreeMap<usize, HashMap<_, _>> = BTreeMap::new();
        for (item, content) in &listing.items {
            let Some(content) = *content else { continue };
            let Some(state) = states.get(content.layer) else { return Err(self.lost(content)) };
            if item.entry.kind == EntryKind::File && !spool.ranges.contains_key(&content) {
                let offset = state.tree().header_offset(content.record);
                missing.entry(content.layer).or_default().insert(offset, content);
            }
        }
        let (mut weakest, mut method) = (Verification::Blob, ReadMethod::Scan);
        for (layer, wanted) in missing {
            let Some(state) = states.get(layer) else { continue };
            let records = wanted.values().map(|content| content.record).collect();
            let sink = ContentSink::Spool(std::mem::replace(spool, SpoolSink::new()?));
            let fetch = ContentFetch::new(wanted, options.stop_when(), sink);
            let layer = self.layer(layer)?;
            let read = driver::read_content(layer, state, records, options.min_verification, fetch);
            let (fetch, level, how) = read.await?;
            *spool = spooled(fetch.finish().map_err(|error| layer.error(error))?)?;
            // The least verified layer says best how the answer was obtained.
            if level < weakest {
                (weakest, method) = (level, how);
            }
        }
        Ok((weakest, method))
    }
}

fn spooled(sink: ContentSink) -> Result<Box<SpoolSink>, Error> {
    match sink {
        ContentSink::Spool(spool) => Ok(spool),
        ContentSink::Discard | ContentSink::Stream(_) => {
            Err(Error::new(Kind::Other, "content was not put into a temporary file"))
        }
    }
}
