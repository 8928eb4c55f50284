//! A cache in a directory.
//!
//! ```text
//! toc/sha256/HEX     TOC of a layer               blob/sha256/HEX    manifest or configuration, unchanged
//! tag/HEX            last digest of a tag         registry/HEX       properties of a registry
//! usage              total size                   tmp/HEX            file being written, locked by its writer
//! ```
//!
//! A file is written under `tmp` and then renamed, so it is complete or absent even if the writer is killed. Its modification time
//! is the time of last use.

use std::{
    io::{self, BufWriter, Read as _, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;

use super::{
    Removed,
    error::CacheError,
    root::{Root, StoredFile, TEMPORARY},
    store::{Key, Store, StoredItem},
    usage,
};

/// All folders with entries.
const FOLDERS: [&str; 6] = ["blob/sha256", "blob/sha512", "registry", "tag", "toc/sha256", "toc/sha512"];
/// The log of size changes.
const USAGE: &str = "usage";
/// A full cache is shrunk by this fraction more than necessary, so that eviction is rare.
const EVICTION_FRACTION: u64 = 10;
const BUFFER_BYTES: usize = 64 << 10;

/// A cache in a directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    capacity: u64,
}

impl Directory {
    /// Opens a cache of at most `capacity` bytes at `path`, after creating and checking the directory.
    pub(super) fn open(path: PathBuf, capacity: u64) -> Result<Self, CacheError> {
        let absolute = std::path::absolute(&path);
        let path = absolute.map_err(|error| CacheError::io("finding the cache directory", &path, error))?;
        Root::open(&path)?;
        Ok(Self { path, capacity })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The first bytes of an entry; empty if there is no such entry. Does not count as use.
    pub(super) fn head(&self, key: &Key, length: u64) -> io::Result<Vec<u8>> {
        let root = Root::open(&self.path).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        if let Some(file) = root.file(&key.path())? {
            file.take(length).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Evicts the least recently used entries until at most `target` bytes are left, and removes abandoned temporary files.
    pub(super) fn shrink(&self, target: u64) -> Result<Removed, CacheError> {
        let root = Root::open(&self.path)?;
        self.sweep(&root)
            .and_then(|()| self.evict(&root, target, target))
            .map_err(|error| self.failed("shrinking", error))
    }

    /// Lists all entries. If they use more than `limit`, evicts down to `target`. Restarts the log of size changes.
    fn evict(&self, root: &Root, limit: u64, target: u64) -> io::Result<Removed> {
        let mut items = self.items(root)?;
        items.sort_by(|one, other| (one.used, &one.key).cmp(&(other.used, &other.key)));
        let mut total = items.iter().map(|item| usage::stored(item.size)).fold(0, u64::saturating_add);
        let mut removed = Removed::default();
        if total > limit {
            for item in items {
                if total <= target {
                    break;
                }
                root.remove(&item.key.path())?;
                let bytes = usage::stored(item.size);
                total = total.saturating_sub(bytes);
                removed.files += 1;
                removed.bytes = removed.bytes.saturating_add(bytes);
            }
        }
        let mut log = root.temporary()?;
        log.file.write_all(&i64::try_from(total).unwrap_or(i64::MAX).to_le_bytes())?;
        log.persist(USAGE)?;
        Ok(removed)
    }

    fn sweep(&self, root: &Root) -> io::Result<()> {
        for StoredFile { name, .. } in root.files(TEMPORARY)? {
            // A file that cannot be removed must not prevent removing the others.
            let _ = root.sweep(&format!("{TEMPORARY}/{name}"));
        }
        Ok(())
    }

    /// Logs a size change. Returns the total size if the log has it.
    fn log_change(&self, root: &Root, change: i64) -> io::Result<Option<u64>> {
        match root.open_log(USAGE)? {
            Some(mut log) => usage::append(&mut log, change),
            None => Ok(None),
        }
    }

    fn store(
        &self,
        root: &Root,
        key: &Key,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<bool> {
        let temporary = root.temporary()?;
        let mut out = Capped { out: &temporary.file, left: self.capacity, is_full: false };
        let mut buffer = BufWriter::with_capacity(BUFFER_BYTES, &mut out);
        let written = write(&mut buffer).and_then(|()| buffer.flush());
        drop(buffer.into_parts());
        if out.is_full {
            return Ok(false);
        }
        written?;
        let size = self.capacity - out.left;
        let path = key.path();
        let old = root.file(&path).ok().flatten().and_then(|file| file.metadata().ok());
        let change = usage::change(old.map(|metadata| metadata.len()), Some(size));
        // Logged before the rename: a writer that is killed in between leaves a total that is too large, and the next listing
        // corrects it.
        let total = self.log_change(root, change)?;
        temporary.persist(&path)?;
        if total.is_none_or(|total| total > self.capacity) {
            self.sweep(root)?;
            self.evict(root, self.capacity, self.capacity - self.capacity / EVICTION_FRACTION)?;
        }
        Ok(true)
    }

    fn fetch(&self, root: &Root, key: &Key, cap: u64) -> io::Result<Option<Bytes>> {
        let Some(file) = root.file(&key.path())? else { return Ok(None) };
        let size = file.metadata()?.len();
        if size > cap {
            return Ok(None);
        }
        // Without this permission, entries are evicted in another order.
        let _ = file.set_modified(SystemTime::now());
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(cap).read_to_end(&mut bytes)?;
        Ok(Some(bytes.into()))
    }

    fn items(&self, root: &Root) -> io::Result<Vec<StoredItem>> {
        let mut items = Vec::new();
        for folder in FOLDERS {
            for StoredFile { name, size, modified } in root.files(folder)? {
                // Unknown names are neither counted nor removed.
                if let Some(key) = Key::of_path(&format!("{folder}/{name}")) {
                    items.push(StoredItem { key, size, used: modified });
                }
            }
        }
        Ok(items)
    }

    fn failed(&self, operation: &str, error: io::Error) -> CacheError {
        CacheError::io(&format!("{operation} the cache"), &self.path, error)
    }
}

impl Store for Directory {
    fn read(&self, key: &Key, cap: u64) -> Result<Option<Bytes>, CacheError> {
        let root = Root::open(&self.path)?;
        self.fetch(&root, key, cap)
            .map_err(|error| CacheError::io("reading", &self.path.join(key.path()), error))
    }

    fn write(
        &self,
        key: &Key,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<bool, CacheError> {
        let root = Root::open(&self.path)?;
        self.store(&root, key, write).map_err(|error| self.failed("writing to", error))
    }

    fn remove(&self, key: &Key) -> Result<(), CacheError> {
        let (root, path) = (Root::open(&self.path)?, key.path());
        let size = root.file(&path).ok().flatten().and_then(|file| file.metadata().ok()).map(|one| one.len());
        let removed = root.remove(&path);
        let logged = self.log_change(&root, usage::change(size, None));
        removed
            .and(logged.map(drop))
            .map_err(|error| CacheError::io("removing", &self.path.join(path), error))
    }

    fn list(&self) -> Result<Vec<StoredItem>, CacheError> {
        let root = Root::open(&self.path)?;
        self.items(&root).map_err(|error| self.failed("listing", error))
    }
}

/// Writes at most `left` bytes.
struct Capped<W> {
    out: W,
    left: u64,
    is_full: bool,
}

impl<W: Write> Write for Capped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.out.write(bytes)?;
        self.left = self.left.saturating_sub(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
