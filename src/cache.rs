//! What earlier runs have learnt, kept on disk: tables of layers by their digest, manifests and configurations by theirs, and
//! which tags and registries have been seen.
//!
//! Nothing in it is believed for being there. Documents are hashed when they are read, a table carries its own checksum, and
//! what a tag means is asked of the registry every time. Content that does not hold is removed and counts as absent.

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
    signature::Opened,
};
use crate::{
    limits,
    oci::digest::Digest,
    progress::{Progress, Silent},
    toc::format::{self, HEADER_BYTES},
};

/// A directory in which tables of layers, manifests and configurations outlive the run. Cheap to clone; any number of processes
/// may share one.
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
    progress: Arc<dyn Progress>,
    has_warned: Arc<AtomicBool>,
    writes: Arc<Writes>,
    keys: Arc<Keys>,
    /// Where the shared tables are, if there are any.
    #[cfg_attr(
        not(feature = "object-store"),
        expect(dead_code, reason = "there are none without object stores")
    )]
    address: Option<Arc<str>>,
    shared: Option<Arc<dyn Store>>,
    /// The last shared table that was found and not believed, so that it need not be fetched again to be used as a hint.
    last_hint: Arc<Mutex<Option<(Digest, Bytes)>>>,
}

/// The table of one layer, as [`Cache::tables`] lists it.
///
/// ```no_run
/// # let cache = layerslayer::Cache::open(&layerslayer::CacheOptions::from_environment()?)?;
/// for table in cache.tables()? {
///     println!("{} {}", table.digest, table.size);
/// }
/// # Ok::<(), layerslayer::CacheError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct CachedToc {
    /// Digest of the layer's blob.
    pub digest: Digest,
    /// Size of the table in bytes.
    pub size: u64,
    /// How many entries it has; `None` if it is damaged or of another version.
    pub entries: Option<u64>,
    /// Whether these are all that the layer has; `None` if it is damaged or of another version.
    pub complete: Option<bool>,
    /// When it was last written or read.
    pub used: SystemTime,
}

/// What was removed from a cache.
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
    /// Files removed.
    pub files: u64,
    /// Bytes that they took, in whole blocks of 4 KiB.
    pub bytes: u64,
}

impl Cache {
    /// Opens the directory, creating it if need be.
    ///
    /// # Errors
    ///
    /// If it cannot be created, or if it is refused because it belongs to somebody else or others may write to it: whoever
    /// can write there could put words into our mouth. [`CacheError::is_setting`] if a key cannot be read, or if shared tables are
    /// asked of a build without the feature `object-store`.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// # let _ = cache;
    /// // A directory that cannot be one.
    /// assert!(Cache::open(&CacheOptions::new("/dev/null/cache")).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(options: &CacheOptions) -> Result<Self, CacheError> {
        if options.shared_address().is_some() && !cfg!(feature = "object-store") {
            let problem = "shared tables need a build with the feature object-store";
            return Err(CacheError::setting(problem.to_owned()));
        }
        let directory = Directory::open(options.directory()?, options.capacity())?;
        Ok(Self {
            directory: Arc::new(directory),
            progress: Arc::new(Silent),
            has_warned: Arc::default(),
            writes: Arc::default(),
            keys: Arc::new(Keys::load(options.keys())?),
            address: options.shared_address().map(Arc::from),
            shared: None,
            last_hint: Arc::default(),
        })
    }

    /// Where it lies.
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

    /// The tables that it holds, in the order of their layers' digests.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// assert!(cache.tables()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tables(&self) -> Result<Vec<CachedToc>, CacheError> {
        let mut tables = Vec::new();
        for item in self.directory.list()? {
            let Key::Toc(digest) = &item.key else { continue };
            let header = self.directory.head(&item.key, HEADER_BYTES as u64).ok();
            let header = header.and_then(|bytes| format::read_header(&bytes).ok());
            let header = header.filter(|header| header.digest == *digest);
            tables.push(CachedToc {
                digest: digest.clone(),
                size: item.size,
                entries: header.as_ref().map(|header| header.entries),
                complete: header.map(|header| header.complete),
                used: item.used,
            });
        }
        tables.sort_by(|one, other| one.digest.cmp(&other.digest));
        Ok(tables)
    }

    /// Removes what was not used for longest until at most `bytes` are left, and what killed writers left behind.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read or written.
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

    /// Removes everything.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read or written.
    ///
    /// ```
    /// # use layerslayer::{Cache, CacheOptions};
    /// # let directory = tempfile::tempdir()?;
    /// let cache = Cache::open(&CacheOptions::new(directory.path().join("cache")))?;
    /// cache.clear()?;
    /// assert!(cache.tables()?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clear(&self) -> Result<Removed, CacheError> {
        self.shrink(0)
    }

    /// Waits, blocking, until all that this cache and its clones were given is written. That happens beside the answers, so a
    /// program that ends without waiting may find less in its cache the next time.
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

    /// How many bytes it may take.
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

/// What reads and writes it. All of this blocks; none of it fails: a cache that does not work is warned of once, and is empty.
impl Cache {
    /// The same with its warnings going to `progress`.
    pub(crate) fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
    }

    /// Has something written beside the answers, what was given earlier first.
    pub(crate) fn write_later(&self, write: impl FnOnce(&Self) + Send + 'static) {
        let cache = self.clone();
        Writes::add(&self.writes, move || write(&cache));
    }

    /// The stored table of the layer with this digest. Its reader checks it, and calls [`Self::remove_toc`] if it does not hold.
    ///
    /// If there is none, but a shared one for which a trusted key vouches, that one is stored and returned.
    pub(crate) fn toc(&self, layer: &Digest) -> Option<Bytes> {
        let stored = self.read(&Key::Toc(layer.clone()), limits::STORED_TOC_BYTES);
        stored.or_else(|| match self.shared_toc(layer)? {
            Opened::Hint(table) => {
                *self.last_hint() = Some((layer.clone(), table));
                None
            }
            Opened::Trusted(table) => Some(table),
        })
    }

    /// The shared table of the layer, whatever is stored here. Where no trusted key vouches for it, it may be wrong in every respect,
    /// and is not stored.
    pub(crate) fn shared_toc(&self, layer: &Digest) -> Option<Opened> {
        if let Some((_, table)) = self.last_hint().take_if(|(of, _)| of == layer) {
            return Some(Opened::Hint(table));
        }
        let key = Key::Toc(layer.clone());
        let object = self.settle(self.shared.as_ref()?.read(&key, limits::STORED_TOC_BYTES)).flatten()?;
        let opened = self.keys.open(layer, object);
        if let Opened::Trusted(table) = &opened {
            self.write(&key, &mut |out| out.write_all(table));
        }
        Some(opened)
    }

    /// Whether tables are shared with others.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Whether there is a key to sign with.
    pub(crate) fn can_sign(&self) -> bool {
        self.keys.can_sign()
    }

    /// Stores the table that `write` writes, in place of the one there is; `false` if that did not come about. A complete one, to
    /// be made only by a pass that was verified, is signed and shared if there is a key for that.
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

    /// Whether there is a key under which tables of others are believed.
    pub(crate) fn can_trust(&self) -> bool {
        self.keys.can_trust()
    }

    /// What the key to sign with is known by: the digest of its public half.
    pub(crate) fn key_name(&self) -> Option<Digest> {
        self.keys.name()
    }

    /// The signature under which others believe this table of the layer; `None` without a key to sign with.
    pub(crate) fn sign(&self, layer: &Digest, table: &[u8]) -> Option<Vec<u8>> {
        self.keys.sign(layer, table)
    }

    /// Stores a table of the layer that others have made, if a trusted key vouches for it.
    pub(crate) fn adopt(&self, layer: &Digest, table: &[u8], signature: &[u8]) -> bool {
        let is_trusted = self.keys.holds(layer, table, signature);
        if is_trusted {
            self.write(&Key::Toc(layer.clone()), &mut |out| out.write_all(table));
        }
        is_trusted
    }

    fn share(&self, key: &Key, layer: &Digest) {
        let Some(shared) = &self.shared else { return };
        let Some(table) = self.read(key, limits::STORED_TOC_BYTES) else { return };
        let is_complete = format::read_header(&table).is_ok_and(|header| header.complete);
        let Some(seal) = self.keys.seal(layer, &table).filter(|_| is_complete) else { return };
        let write = &mut |out: &mut dyn Write| out.write_all(&table).and_then(|()| out.write_all(&seal));
        self.settle(shared.write(key, write));
    }

    /// A panic elsewhere leaves a whole value.
    fn last_hint(&self) -> MutexGuard<'_, Option<(Digest, Bytes)>> {
        self.last_hint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same with its shared tables reached through `connector`.
    ///
    /// # Errors
    ///
    /// If the address or what the environment says of it makes no sense.
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

    /// Removes a table that turned out not to hold.
    pub(crate) fn remove_toc(&self, layer: &Digest) {
        self.remove(&Key::Toc(layer.clone()));
    }

    /// The manifest or configuration with this digest, of at most `cap` bytes. It has been hashed.
    pub(crate) fn document(&self, digest: &Digest, cap: u64) -> Option<Bytes> {
        let key = Key::Document(digest.clone());
        let bytes = self.read(&key, cap)?;
        if !digest.matches(&bytes) {
            self.remove(&key);
            return None;
        }
        Some(bytes)
    }

    /// Stores a manifest or configuration, which must have been hashed.
    pub(crate) fn put_document(&self, digest: &Digest, bytes: &[u8]) {
        self.write(&Key::Document(digest.clone()), &mut |out| out.write_all(bytes));
    }

    fn read(&self, key: &Key, cap: u64) -> Option<Bytes> {
        self.settle(self.directory.read(key, cap)).flatten()
    }

    fn write(&self, key: &Key, write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> bool {
        self.settle(self.directory.write(key, write)).unwrap_or(false)
    }

    fn remove(&self, key: &Key) {
        self.settle(self.directory.remove(key));
    }

    fn settle<T>(&self, result: Result<T, CacheError>) -> Option<T> {
        result
            .inspect_err(|error| {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    self.progress.warning(&error::told(error));
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
