//! Tables of contents made ahead of questions.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    Layer,
    ahead::{Ahead, pass::Found},
    known::Known,
    scan::{Job, Scanned, Visitor, Want, scan},
};
use crate::{
    error::{Error, Kind},
    oci::digest::Digest,
    source::growing::Demand,
    tar::entry::Entry,
    toc::{ContentMap, entries::EntryTree, format, spans::Spans},
};

/// The table of contents of one layer, as [`Layer::build_toc`] leaves it in the cache.
///
/// ```no_run
/// # async fn example(image: layerslayer::Image) -> Result<(), layerslayer::Error> {
/// for toc in image.build_tocs().await? {
///     println!("{}: {} entries in {} bytes", toc.digest, toc.entries, toc.size);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct BuiltToc {
    /// The layer's place in the image, 0 = base.
    pub layer: usize,
    /// Digest of the layer's blob.
    pub digest: Digest,
    /// How many entries it has.
    pub entries: u64,
    /// Its size in the cache, in bytes.
    pub size: u64,
    /// Whether it was made now; `false` if it was there.
    pub is_new: bool,
}

/// A stored table of a whole layer, which has been checked.
pub(crate) struct StoredToc {
    pub(crate) bytes: Bytes,
    pub(crate) header: format::Header,
}

impl Layer {
    /// Makes the layer's table of contents, by which later questions about it cost one ranged request and are verified, and keeps
    /// it in the cache; reads the whole layer, and verifies it, unless the table of an earlier pass is there.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] if the client has no cache, or for a layer of a `docker save` archive, which has no digest to keep it by;
    /// what reading the layer gives: [`Error::is_corrupt`], [`Error::is_unavailable`], [`Error::is_unauthorized`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use layerslayer::{Cache, CacheOptions, Client};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// let client = Client::builder().cache(cache).build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert!(image.layer(0)?.build_toc().await?.is_new);
    /// assert!(!image.layer(0)?.build_toc().await?.is_new);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn build_toc(&self) -> Result<BuiltToc, Error> {
        self.build_toc_in_turn(&Ahead::none()).await
    }

    /// The same, and begins the next layers meanwhile.
    pub(crate) async fn build_toc_in_turn(&self, ahead: &Ahead) -> Result<BuiltToc, Error> {
        let refused = |problem| Err(self.error(Error::new(Kind::Usage, problem)));
        let Some(cache) = self.knowledge.cache.clone() else {
            return refused("without a cache its table of contents cannot be kept");
        };
        if self.digest.is_none() {
            return refused("its archive does not give the digest that a table of contents is kept by");
        }
        // What was begun of it is not there from before, nor will it be gone on with from where an earlier pass stopped.
        if !ahead.has_begun(self.index) {
            if let Some(stored) = ahead.meanwhile(self.stored().boxed()).await {
                return Ok(self.built(&stored, false));
            }
            ahead.meanwhile(self.recall().boxed()).await;
        }
        self.read_whole(ahead).await?;
        let stored = async {
            // It is written beside this thread; should that fail, a warning says why.
            let _ = tokio::task::spawn_blocking(move || cache.finish_writes()).await;
            self.stored().await
        };
        match ahead.meanwhile(stored.boxed()).await {
            Some(stored) => Ok(self.built(&stored, true)),
            None => Err(self.error(Error::new(Kind::Other, "its table of contents could not be kept"))),
        }
    }

    /// The table of the whole layer that the cache has.
    pub(crate) async fn stored(&self) -> Option<StoredToc> {
        let (cache, digest) = (self.knowledge.cache.clone()?, self.digest.clone()?);
        let (size, diff_id) = (self.size(), self.diff_id().await.ok()?.cloned());
        let read = move || {
            let bytes = cache.toc(&digest)?;
            let (header, toc) = format::read(bytes.clone()).ok()?;
            let fits = header.digest == digest && header.size == size && header.diff_id == diff_id;
            let is_whole = header.complete && matches!(toc.content, ContentMap::Spans(_));
            (fits && is_whole).then_some(StoredToc { bytes, header })
        };
        tokio::task::spawn_blocking(read).await.ok()?
    }

    /// Reads the whole layer, going on where an earlier pass stopped, and keeps what it finds; takes up a pass that was begun, and
    /// begins the next ones meanwhile.
    pub(crate) async fn read_whole(&self, ahead: &Ahead) -> Result<(), Error> {
        let (mut ahead, alone) = (ahead, Ahead::none());
        loop {
            if let Some(pass) = ahead.take(self.index) {
                let demand = pass.demand();
                match ahead.beside(self.index, &demand, pass.finish()).await {
                    Ok(kept) => {
                        self.keep_stored(&kept);
                        return Ok(());
                    }
                    Err(error) if !error.is_for_want_of_a_window() => return Err(self.error(error)),
                    Err(_) => {
                        ahead.end_passes();
                        ahead = &alone;
                    }
                }
            }
            let unfinished = self.unfinished();
            let resumed = unfinished.is_some();
            let (demand, pass) = self.listing_from(unfinished);
            match ahead.beside(self.index, &demand, pass).await {
                Ok(kept) => {
                    self.keep_stored(&kept);
                    return Ok(());
                }
                // Nothing vouches for what an earlier pass has left.
                Err(error) if resumed && error.is_corrupt() => self.forget(),
                // One of those beside has it. Alone it goes well, or fails for a reason of its own.
                Err(error) if error.is_for_want_of_a_window() && ahead.end_passes() => ahead = &alone,
                Err(error) => return Err(self.error(error)),
            }
        }
    }

    /// A pass over the whole layer that lists it, and how far it has come. What it finds is on its way to the disk when it ends, whatever
    /// becomes of other layers.
    pub(super) fn listing(&self) -> (Arc<Demand>, BoxFuture<'static, Found>) {
        self.listing_from(None)
    }

    fn listing_from(
        &self,
        unfinished: Option<(EntryTree, Spans)>,
    ) -> (Arc<Demand>, BoxFuture<'static, Found>) {
        let (table, resume) = match unfinished {
            Some((table, spans)) => (table, Some(spans)),
            None => (EntryTree::new(), None),
        };
        let job = Job { record: self.has_cache(), resume, ..self.job() };
        let (demand, layer) = (Arc::clone(&job.demand), self.clone());
        let pass = async move {
            let Scanned { visitor, pass, spans, .. } = scan(job, Listing(table)).await?;
            Ok(layer.keep_for_later(visitor.0, pass, spans))
        };
        (demand, pass.boxed())
    }

    /// Takes up what the cache has of the layer.
    async fn recall(&self) {
        if let Some(known @ Known::Partly(_)) = self.cached().await {
            self.knowledge.keep(known);
        }
    }

    fn built(&self, stored: &StoredToc, is_new: bool) -> BuiltToc {
        BuiltToc {
            layer: self.index,
            digest: stored.header.digest.clone(),
            entries: stored.header.entries,
            size: stored.bytes.len() as u64,
            is_new,
        }
    }
}

/// Keeps a table of all entries.
struct Listing(EntryTree);

impl Visitor for Listing {
    fn entry(&mut self, entry: Entry) -> Result<Want, Error> {
        self.0.insert(&entry)?;
        Ok(Want::Entries)
    }
}
