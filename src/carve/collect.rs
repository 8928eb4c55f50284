//! Several files at once: directories, patterns, many paths.

use std::collections::{BTreeMap, HashMap};

use futures_util::FutureExt as _;

use super::{
    CarveOptions, Outcome,
    answer::{is_unproved, rests_on},
    collection::Collection,
    fetch::Fetch,
    hunt::{Extent, Query, stack},
    listing::Listing,
    pass::Hunting,
    selection::{Selection, SelectionKind},
    sink::{Sink, Store, spool_error},
};
use crate::{
    error::{Error, Kind},
    image::{Image, rootfs::Resolution},
    layer::{
        Plan, Verification,
        known::{Known, verification},
        scan::Reading,
    },
    tar::entry::EntryKind,
};

impl Image {
    /// Collects several files, directories with all below them, or all that matches patterns. Nothing is given before
    /// everything has been read; what could not be found is told beside what was.
    ///
    /// # Errors
    ///
    /// What reading a layer gives, as for [`Image::carve_with`]. A path that is not there is no error but one of
    /// [`Collection::failures`]; patterns that match nothing give an empty collection.
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
        let (mut store, mut hunted) = (Store::new()?, Vec::new());
        loop {
            store = self.hunt_all(selection, options, store, &mut hunted).await?;
            let known = self.known();
            let mut listing = Listing::default();
            self.list(&stack(&known), selection, options, &mut listing)?;
            let fetched = self.fetch_missing(&known, &mut store, &listing, options).await;
            if let Err(error) = &fetched
                && error.is_corrupt()
                && let lost = self.forgotten(&known)
                && !lost.is_empty()
            {
                // Which of them is wrong, table or layer, the layer tells once all of it is hashed.
                hunted.extend(lost);
                continue;
            }
            let (refetched, plan) = fetched?;
            let rest = rests_on(&known, listing.oldest, options);
            let (verification, is_unproved) = (verification(rest).min(refetched), is_unproved(rest));
            if !listing.failures.is_empty() {
                self.warn_of_unproved(rest);
            }
            let outcome = Outcome { verification, is_final: listing.certain && !is_unproved, plan };
            let Store { ranges, spool, .. } = *store;
            let content = spool.finish().map_err(spool_error)?;
            let items = listing.items.into_iter().map(|(mut item, content)| {
                if let Some(range) = content.and_then(|content| ranges.get(&content)) {
                    item.range = range.clone();
                }
                item
            });
            let items = items.collect();
            return Ok(Collection {
                items,
                failures: listing.failures,
                outcome,
                content,
                traces: listing.traces,
            });
        }
    }

    /// Reads layers until everything can be listed, and keeps content that comes by.
    async fn hunt_all(
        &self,
        selection: &Selection,
        options: CarveOptions,
        mut store: Box<Store>,
        hunted: &mut Vec<usize>,
    ) -> Result<Box<Store>, Error> {
        // What was begun of other layers is not polled any more at the end, and must hold nothing that others need.
        let (ahead, ahead_whole) =
            (self.ahead(Reading::Growing, options), self.ahead(Reading::Whole, options));
        while let Some((layer, whole)) = self.unread(selection, options) {
            let learn = self.layer(layer)?.learn(options.least).boxed();
            if ahead.meanwhile(ahead_whole.meanwhile(learn)).await? {
                continue;
            }
            let again = hunted.contains(&layer);
            hunted.push(layer);
            let extent = match options.extent() {
                Extent::Answered if whole || again => Extent::Whole,
                extent => extent,
            };
            let (known, candidates) = (self.known(), selection.candidates());
            let query =
                Query { paths: selection.targets(), candidates, options: options.resolution(), extent };
            let Hunting { pass, demand, resumed } = self.hunt(known, layer, query, Sink::Spool(store))?;
            // Where one layer is read to its end for what it lists, so are all.
            let ahead = if whole { &ahead_whole } else { &ahead };
            store = match ahead.beside(layer, &demand, pass).await {
                Ok((sink, _)) => spooled(sink)?,
                // Nothing vouches for what an earlier pass has left. All is read once more.
                Err(error) if resumed && error.is_corrupt() => {
                    self.layer(layer)?.forget();
                    Store::new()?
                }
                Err(error) => return Err(error),
            };
        }
        Ok(store)
    }

    /// Those of the layers whose tables nobody vouched for, and which have been forgotten since.
    fn forgotten(&self, known: &[Known]) -> Vec<usize> {
        let layers = self.layers().iter().zip(known);
        let layers =
            layers.filter(|(layer, known)| known.is_unproved_ztoc() && !layer.known().is_unproved_ztoc());
        layers.map(|(layer, _)| layer.index()).collect()
    }

    /// A layer that has to be read before everything can be listed, and whether it has to be read to its end.
    pub(super) fn unread(&self, selection: &Selection, options: CarveOptions) -> Option<(usize, bool)> {
        let known = self.known();
        let stack = stack(&known);
        let asked = |layer: &usize| options.layer.is_none_or(|only| only == *layer);
        let least = options.least;
        let unproved = |layer: &usize| match known.get(*layer) {
            None | Some(Known::Nothing(_)) => false,
            Some(known) => !known.is_known(least),
        };
        if let Some(layer) = (0..known.len()).filter(asked).find(unproved).filter(|_| options.verifies()) {
            return Some((layer, true));
        }
        let newest_incomplete = || {
            let mut layers = (0..known.len()).rev().filter(asked);
            layers.find(|layer| known.get(*layer).is_some_and(|known| !known.is_known(least)))
        };
        let SelectionKind::Paths(paths) = &selection.kind else {
            return newest_incomplete().map(|layer| (layer, true));
        };
        let mut directory = false;
        for path in paths {
            match stack.resolve(path, options.resolution()).0 {
                Resolution::NeedMore { layer } => return Some((layer, false)),
                Resolution::Found { content, .. } => {
                    directory |= stack.kind(content) == EntryKind::Directory;
                }
                _ => {}
            }
        }
        if directory { newest_incomplete().map(|layer| (layer, true)) } else { None }
    }

    /// Reads layers again for content that streamed past before it was known to be wanted.
    async fn fetch_missing(
        &self,
        known: &[Known],
        store: &mut Box<Store>,
        listing: &Listing,
        options: CarveOptions,
    ) -> Result<(Verification, Plan), Error> {
        let mut missing: BTreeMap<usize, HashMap<_, _>> = BTreeMap::new();
        for (item, content) in &listing.items {
            let Some(content) = *content else { continue };
            let Some(of) = known.get(content.layer) else { return Err(self.lost(content)) };
            if item.entry.kind == EntryKind::File && !store.ranges.contains_key(&content) {
                let offset = of.table().header_offset(content.record);
                missing.entry(content.layer).or_default().insert(offset, content);
            }
        }
        let (mut weakest, mut plan) = (Verification::Blob, Plan::Scan);
        for (layer, wanted) in missing {
            let Some(of) = known.get(layer) else { continue };
            let records = wanted.values().map(|content| content.record).collect();
            let taken = std::mem::replace(store, Store::new()?);
            let fetch = Fetch::new(wanted, options.extent(), Sink::Spool(taken));
            let (sink, level, how) = self.fetched(layer, of, records, fetch, options)?.await?;
            *store = spooled(sink)?;
            // What vouches least tells best how it was read.
            if level < weakest {
                (weakest, plan) = (level, how);
            }
        }
        Ok((weakest, plan))
    }
}

fn spooled(sink: Sink) -> Result<Box<Store>, Error> {
    match sink {
        Sink::Spool(store) => Ok(store),
        Sink::Stream(_) => {
            Err(Error::new(Kind::Other, "content went to another place than a temporary file"))
        }
    }
}
