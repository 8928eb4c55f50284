//! Building the TOCs of layers before questions need them.

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use crate::{
    error::{Error, Kind},
    image::Image,
    layer::{Layer, toc_state::TocState},
    oci::digest::Digest,
    read::verification::Verification,
    reader::{
        discover::{self, StoredToc},
        driver,
        prefetch::Prefetcher,
    },
};

/// The TOC of one layer, as [`Layer::build_toc`] leaves it in the cache.
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
    /// The layer's index in the image, 0 = base.
    pub layer: usize,
    /// Digest of the layer's blob.
    pub digest: Digest,
    /// How many entries it has.
    pub entries: u64,
    /// Its size in the cache, in bytes.
    pub size: u64,
    /// Whether it was built now; `false` if the cache had it.
    pub is_new: bool,
}

impl Layer {
    /// Builds the layer's TOC and stores it in the cache: later questions about the layer cost one ranged request and are verified.
    /// Reads and verifies the whole layer, unless the cache has the TOC of an earlier pass.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] if the client has no cache, or for a layer of a `docker save` archive, which has no digest to store it
    /// under; those of reading the layer: [`Error::is_corrupt`], [`Error::is_unavailable`], [`Error::is_unauthorized`].
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
        build(self, &Prefetcher::none()).await
    }
}

impl Image {
    /// Builds the TOCs of all layers: see [`Image::build_tocs_in_turn`].
    ///
    /// # Errors
    ///
    /// Those of [`Layer::build_toc`]. TOCs that were built before the error stay in the cache.
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
    /// assert_eq!(image.build_tocs().await?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn build_tocs(&self) -> Result<Vec<BuiltToc>, Error> {
        self.build_tocs_in_turn().try_collect().await
    }

    /// Builds the TOCs of all layers, base first, each as [`Layer::build_toc`] does, up to
    /// [`ClientBuilder::parallel_layers`](crate::ClientBuilder::parallel_layers) at a time.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_util::StreamExt as _;
    /// use layerslayer::{Cache, CacheOptions, Client};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// let client = Client::builder().cache(cache).build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut tocs = std::pin::pin!(image.build_tocs_in_turn());
    /// while let Some(toc) = tocs.next().await {
    ///     println!("{} bytes", toc?.size);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn build_tocs_in_turn(&self) -> impl Stream<Item = Result<BuiltToc, Error>> + Send {
        // A publisher's TOC is not stored: such layers are read too.
        let prefetcher = driver::prefetch(self.layers(), Verification::Span, self.inner.parallel_layers);
        stream::iter(self.layers()).then(move |layer| {
            let (layer, prefetcher) = (layer.clone(), prefetcher.clone());
            async move { build(&layer, &prefetcher).await }
        })
    }
}

async fn build(layer: &Layer, prefetcher: &Prefetcher) -> Result<BuiltToc, Error> {
    let refused = |detail| Err(layer.error(Error::new(Kind::Usage, detail)));
    let Some(cache) = layer.toc.cache.clone() else {
        return refused("without a cache its TOC cannot be stored");
    };
    if layer.digest.is_none() {
        return refused("its archive does not give the digest that a TOC is stored under");
    }
    // A pass that was started ahead has not found the cache's TOC, and does not resume an earlier pass.
    if !prefetcher.has_pass(layer.index) {
        if let Some(stored) = discover::stored(layer).await {
            return Ok(built(layer, &stored, false));
        }
        if let Some(partial @ TocState::Partial(_)) = discover::load(layer).await {
            layer.toc.store(partial);
        }
    }
    driver::index(layer, prefetcher).await?;
    // The cache writes on a thread of its own; if that fails, a warning says why.
    let _ = tokio::task::spawn_blocking(move || cache.finish_writes()).await;
    match discover::stored(layer).await {
        Some(stored) => Ok(built(layer, &stored, true)),
        None => Err(layer.error(Error::new(Kind::Other, "its TOC could not be stored"))),
    }
}

fn built(layer: &Layer, stored: &StoredToc, is_new: bool) -> BuiltToc {
    BuiltToc {
        layer: layer.index,
        digest: stored.header.digest.clone(),
        entries: stored.header.entries,
        size: stored.bytes.len() as u64,
        is_new,
    }
}
