//! The cache on disk: TOCs of layers, manifests and configurations, all by digest, and records of the tags and registries seen.
//!
//! Cached content is verified again: documents are hashed when they are read, a TOC carries its own checksum, and tags are always
//! re-resolved. Content that fails verification is removed and counts as absent.

mod directory;
mod error;
#[cfg(feature = "object-store")]
mod objects;
mod options;
mod records;
mod root;
mod signature;
mod store;
mod usage;
mod writes;

use std::{
    fmt,
    io::{self, Write},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;

use self::{
    directory::Directory,
    signature::Keys,
    store::{Key, Store},
    writes::Writes,
};
pub use self::{
    error::CacheError,
    options::{CacheOptions, parse_size},
    signature::SigningKey,
};
pub(crate) use self::{
    records::{RegistryRecord, StorageRecord},
    signature::SharedToc,
};
use crate::{
    limits,
    oci::digest::Digest,
    progress::Reporter,
    toc::format::{self, HEADER_BYTES},
};

/// A cache of TOCs, manifests and configurations in a directory. Cheap to clone; any number of processes may share one
/// directory.
///
/// ```no_run
/// use layerslayer::{Cache, CacheOptions, Client};
///
/// let cache = Cache::open(&CacheOptions::from_environment()?)?;
/// println!("{}", cache.path().display());
/// let client = Client::builder().cache(cache).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Cache {
    directory: Arc<Directory>,
    progress: Arc<Reporter>,
    has_warned: Arc<AtomicBool>,
    writes: Arc<Writes>,
    keys: Arc<Keys>,
    /// The address of the shared TOC store, if one is configured.
    #[cfg_attr(
        not(feature = "object-store"),
        expect(dead_code, reason = "only object stores have an address")
    )]
    address: Option<Arc<str>>,
    shared: Option<Arc<dyn Store>>,
    /// The last untrusted shared TOC that was fetched, so that using it as a hint needs no second fetch.
    last_untrusted: Arc<Mutex<Option<(Digest, Bytes)>>>,
}

/// The cached TOC of one layer, as listed by [`Cache::tocs`].
///
/// ```no_run
/// # let cache = layerslayer::Cache::open(&layerslayer::CacheOptions::from_environment()?)?;
/// for toc in cache.tocs()? {
///     println!("{} {}", toc.digest, toc.size);
/// }
/// # Ok::<(), layerslayer::CacheError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CachedToc {
    /// Digest of the layer's blob.
    pub digest: Digest,
    /// Size of the TOC in bytes.
    pub size: u64,
    /// Number of entries; `None` if the TOC is damaged or has another version.
    pub entries: Option<u64>,
    /// Whether these are all entries of the layer; `None` if the TOC is damaged or has another version.
    pub complete: Option<bool>,
    /// When the TOC was last written or read.
    pub used: SystemTime,
}

/// The result of removing content from a cache.
///
/// ```no_run
/// # let cache = layerslayer::Cache::open(&layerslayer::CacheOptions::from_environment()?)?;
/// let removed = cache.clear()?;
/// println!("{} files, {} bytes", removed.files, removed.bytes);
/// # Ok::<(), layerslayer::CacheError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Removed {
    /// Number of files removed.
    pub files: u64,
    /// Bytes freed, in whole blocks of 4 KiB.
    pub bytes: u64,
}

impl Cache {
    /// Opens the directory and creates it if necessary.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be created. [`CacheError::is_refused`] if it belongs to another user or other users may write
    /// to it, because they could then forge answers. [`CacheError::is_setting`] if a key cannot be read, or if a shared store is
    /// configured in a build without the feature `object-store`.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// # let _ = cache;
    /// // This path cannot be a directory.
    /// assert!(Cache::open(&CacheOptions::new("/dev/null/cache")).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(options: &CacheOptions) -> Result<Self, CacheError> {
        if options.shared_address().is_some() && !cfg!(feature = "object-store") {
            let problem = "a shared TOC store needs a build with the feature object-store";
            return Err(CacheError::setting(problem.to_owned()));
        }
        let directory = Directory::open(options.directory()?, options.capacity())?;
        Ok(Self {
            directory: Arc::new(directory),
            progress: Arc::new(Reporter::silent()),
            has_warned: Arc::default(),
            writes: Arc::default(),
            keys: Arc::new(Keys::load(options.keys())?),
            address: options.shared_address().map(Arc::from),
            shared: None,
            last_untrusted: Arc::default(),
        })
    }

    /// The cache directory.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// assert!(cache.path().ends_with("cache"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The cached TOCs, sorted by the digests of their layers.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be read.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// assert!(cache.tocs()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tocs(&self) -> Result<Vec<CachedToc>, CacheError> {
        let mut tocs = Vec::new();
        for item in self.directory.list()? {
            let Key::Toc(digest) = &item.key else { continue };
            let header = self.directory.head(&item.key, HEADER_BYTES as u64).ok();
            let header = header.and_then(|bytes| format::read_header(&bytes).ok());
            let header = header.filter(|header| header.digest == *digest);
            tocs.push(CachedToc {
                digest: digest.clone(),
                size: item.size,
                entries: header.as_ref().map(|header| header.entries),
                complete: header.map(|header| header.complete),
                used: item.used,
            });
        }
        tocs.sort_by(|one, other| one.digest.cmp(&other.digest));
        Ok(tocs)
    }

    /// Evicts the least recently used entries until at most `bytes` are left, and removes leftovers of interrupted writers.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be read or written.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// assert_eq!(cache.shrink(1 << 20)?.files, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shrink(&self, bytes: u64) -> Result<Removed, CacheError> {
        self.directory.shrink(bytes)
    }

    /// Removes all entries.
    ///
    /// # Errors
    ///
    /// Fails if the directory cannot be read or written.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// cache.clear()?;
    /// assert!(cache.tocs()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&self) -> Result<Removed, CacheError> {
        self.shrink(0)
    }

    /// Blocks until all pending writes of this cache and its clones are done. Writes run in the background, so a program that exits
    /// without waiting may lose some of them.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// cache.finish_writes();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn finish_writes(&self) {
        self.writes.wait();
    }

    /// Most bytes that the cache may use.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// assert_eq!(cache.capacity(), 2 << 30);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.directory.capacity()
    }
}

/// Reading and writing. These methods block and do not fail: a cache that does not work causes one warning and counts as empty.
impl Cache {
    /// Reports warnings to `progress`.
    pub(crate) fn with_progress(self, progress: Arc<Reporter>) -> Self {
        Self { progress, ..self }
    }

    /// Queues a write for the background. Writes start in the order in which they are queued.
    pub(crate) fn write_later(&self, write: impl FnOnce(&Self) + Send + 'static) {
        let cache = self.clone();
        Writes::add(&self.writes, move || write(&cache));
    }

    /// The cached TOC of the layer with this digest. The caller checks it, and calls [`Self::remove_toc`] if it is invalid.
    ///
    /// If there is none, but a shared TOC signed by a trusted key, that one is stored and returned.
    pub(crate) fn toc(&self, layer: &Digest) -> Option<Bytes> {
        let stored = self.read(&Key::Toc(layer.clone()), limits::STORED_TOC_BYTES);
        stored.or_else(|| match self.shared_toc(layer)? {
            SharedToc::Trusted(toc) => Some(toc),
            SharedToc::Untrusted(toc) => {
                *self.last_untrusted() = Some((layer.clone(), toc));
                None
            }
        })
    }

    /// The shared TOC of the layer, regardless of the local one. Without a signature by a trusted key it may be wrong in any way,
    /// and is not stored.
    pub(crate) fn shared_toc(&self, layer: &Digest) -> Option<SharedToc> {
        if let Some((_, toc)) = self.last_untrusted().take_if(|(digest, _)| digest == layer) {
            return Some(SharedToc::Untrusted(toc));
        }
        let key = Key::Toc(layer.clone());
        let object =
            self.warn_on_error(self.shared.as_ref()?.read(&key, limits::STORED_TOC_BYTES)).flatten()?;
        let opened = self.keys.open(layer, object);
        if let SharedToc::Trusted(toc) = &opened {
            self.write(&key, &mut |out| out.write_all(toc));
        }
        Some(opened)
    }

    /// Whether a shared TOC store is configured.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether there is a signing key.
    pub(crate) fn can_sign(&self) -> bool {
        self.keys.can_sign()
    }

    /// Stores the TOC that `write` writes and replaces an existing one; `false` if that failed. A complete TOC, which must come from a
    /// verified pass, is also signed and shared if there is a signing key.
    pub(crate) fn put_toc(
        &self,
        layer: &Digest,
        mut write: impl FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> bool {
        let key = Key::Toc(layer.clone());
        let is_stored = self.write(&key, &mut write);
        if is_stored && self.keys.can_sign() {
            self.share(&key, layer);
        }
        is_stored
    }

    /// Whether there is a key to verify other machines' TOCs with.
    pub(crate) fn can_trust(&self) -> bool {
        self.keys.can_trust()
    }

    /// The name of the signing key: the digest of its public half.
    pub(crate) fn key_name(&self) -> Option<Digest> {
        self.keys.name()
    }

    /// Signs this TOC of the layer; `None` without a signing key.
    pub(crate) fn sign(&self, layer: &Digest, toc: &[u8]) -> Option<Vec<u8>> {
        self.keys.sign(layer, toc)
    }

    /// Stores another machine's TOC of the layer if a trusted key has signed it.
    pub(crate) fn store_signed(&self, layer: &Digest, toc: &[u8], signature: &[u8]) -> bool {
        let is_trusted = self.keys.verify(layer, toc, signature);
        if is_trusted {
            self.write(&Key::Toc(layer.clone()), &mut |out| out.write_all(toc));
        }
        is_trusted
    }

    fn share(&self, key: &Key, layer: &Digest) {
        let Some(shared) = &self.shared else { return };
        let Some(toc) = self.read(key, limits::STORED_TOC_BYTES) else { return };
        let is_complete = format::read_header(&toc).is_ok_and(|header| header.complete);
        let Some(trailer) = self.keys.signature_trailer(layer, &toc).filter(|_| is_complete) else { return };
        let write = &mut |out: &mut dyn Write| out.write_all(&toc).and_then(|()| out.write_all(&trailer));
        self.warn_on_error(shared.write(key, write));
    }

    /// A panic while the lock is held leaves a consistent value.
    fn last_untrusted(&self) -> MutexGuard<'_, Option<(Digest, Bytes)>> {
        self.last_untrusted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the shared TOC store through `connector`.
    ///
    /// # Errors
    ///
    /// Fails if the address or the environment's settings for it are invalid.
    #[cfg(feature = "object-store")]
    pub(crate) fn connect(
        self,
        connector: impl object_store::client::HttpConnector,
    ) -> Result<Self, CacheError> {
        let shared = match &self.address {
            Some(address) => Some(Arc::new(objects::Objects::open(address, connector)?) as Arc<dyn Store>),
            None => None,
        };
        Ok(Self { shared, ..self })
    }

    /// Removes a TOC that turned out to be invalid.
    pub(crate) fn remove_toc(&self, layer: &Digest) {
        self.remove(&Key::Toc(layer.clone()));
    }

    /// The manifest or configuration with this digest, verified and of at most `cap` bytes.
    pub(crate) fn document(&self, digest: &Digest, cap: u64) -> Option<Bytes> {
        let key = Key::Document(digest.clone());
        let bytes = self.read(&key, cap)?;
        if !digest.matches(&bytes) {
            self.remove(&key);
            return None;
        }
        Some(bytes)
    }

    /// Stores a manifest or configuration that has been verified.
    pub(crate) fn put_document(&self, digest: &Digest, bytes: &[u8]) {
        self.write(&Key::Document(digest.clone()), &mut |out| out.write_all(bytes));
    }

    fn read(&self, key: &Key, cap: u64) -> Option<Bytes> {
        self.warn_on_error(self.directory.read(key, cap)).flatten()
    }

    fn write(&self, key: &Key, write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> bool {
        self.warn_on_error(self.directory.write(key, write)).unwrap_or(false)
    }

    fn remove(&self, key: &Key) {
        self.warn_on_error(self.directory.remove(key));
    }

    fn warn_on_error<T>(&self, result: Result<T, CacheError>) -> Option<T> {
        result
            .inspect_err(|error| {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    self.progress.warning(&error::describe(error));
                }
            })
            .ok()
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("path", &self.path()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
