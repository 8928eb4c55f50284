//! What a caller has found in layers, by their digests.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;

use crate::{error::Error, layer::Layer, oci::digest::Digest};

/// Results of scanning layers, by the digests of their blobs: a layer that several images share is scanned once.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let cache = layerslayer::ScanCache::new();
/// for _ in 0..2 {
///     for layer in image.layers() {
///         let count = cache.get_or_scan(layer, || async {
///             let (mut entries, mut count) = (layer.entries(), 0);
///             while entries.next().await.transpose()?.is_some() {
///                 count += 1;
///             }
///             Ok(count)
///         });
///         println!("{} entries", count.await?);
///     }
/// }
/// assert_eq!(cache.len(), 3);
/// # Ok(())
/// # }
/// ```
pub struct ScanCache<T>(Mutex<HashMap<Digest, Arc<OnceCell<Arc<T>>>>>);

impl<T: Send + Sync> ScanCache<T> {
    /// An empty cache.
    ///
    /// ```
    /// assert!(layerslayer::ScanCache::<u32>::new().is_empty());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::default())
    }

    /// The result for a layer; `scan` makes it if it is not known. Callers that ask for the same layer at the same time share one scan.
    /// An error is not kept.
    ///
    /// # Errors
    ///
    /// Those of `scan`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let cache = layerslayer::ScanCache::new();
    /// let layer = image.layer(0)?;
    /// assert_eq!(*cache.get_or_scan(layer, || async { Ok(1) }).await?, 1);
    /// assert_eq!(*cache.get_or_scan(layer, || async { Ok(2) }).await?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn get_or_scan<F, W>(&self, layer: &Layer, scan: F) -> Result<Arc<T>, Error>
    where
        F: FnOnce() -> W + Send,
        W: Future<Output = Result<T, Error>> + Send,
    {
        let cell = {
            let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(layer.digest().clone()).or_default())
        };
        cell.get_or_try_init(|| async { scan().await.map(Arc::new) }).await.cloned()
    }

    /// How many layers it knows or scans now.
    ///
    /// ```
    /// assert_eq!(layerslayer::ScanCache::<u32>::new().len(), 0);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether it knows no layer.
    ///
    /// ```
    /// assert!(layerslayer::ScanCache::<u32>::new().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Send + Sync> Default for ScanCache<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for ScanCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanCache").finish_non_exhaustive()
    }
}
