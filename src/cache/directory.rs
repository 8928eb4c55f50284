//! A cache in a directory.
//!
//! ```text
//! toc/sha256/HEX     the table of a layer         blob/sha256/HEX    a manifest or configuration, as it came
//! tag/HEX            what a tag was               registry/HEX       how a registry was found
//! usage              how much it takes together   tmp/HEX            being written, and locked meanwhile
//! ```
//!
//! A file is written under `tmp` and renamed to its place: it is there whole or not at all, however its writer ends. When it was
//! used last is its time of modification.

use std::{
    fs,
    io::{self, BufWriter, Read as _, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;

use super::{
    Removed,
    error::CacheError,
    root::{Root, TEMPORARY},
    store::{Item, Key, Store},
    usage,
};

/// Every place that holds files of ours.
const PLACES: [&str; 6] = ["blob/sha256", "blob/sha512", "registry", "tag", "toc/sha256", "toc/sha512"];
/// The list of changes of size.
const USAGE: &str = "usage";
/// A cache that has become too large is made smaller than it need be by this part, so that this is done rarely.
const SPARE: u64 = 10;
const BUFFER_BYTES: usize = 64 << 10;

/// A cache in a directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    capacity: u64,
}

impl Directory {
    /// A cache of at most `capacity` bytes at `path`, which is created and checked.
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

    /// The first bytes of what is kept under this name; none if it is not there. That is no use of it.
    pub(super) fn head(&self, key: &Key, length: u64) -> io::Result<Vec<u8>> {
        let root = Root::open(&self.path).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        if let Some(file) = root.file(&key.path())? {
            file.take(length).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Removes what was not used for longest until at most `target` bytes are left, and abandoned temporary files.
    pub(super) fn shrink(&self, target: u64) -> Result<Removed, CacheError> {
        let root = Root::open(&self.path)?;
        self.sweep(&root)
            .and_then(|()| self.fit(&root, target, target))
            .map_err(|error| self.failed("shrinking", error))
    }

    /// Lists all files; if they take more than `limit`, removes down to `target`. Begins the list of changes anew.
    fn fit(&self, root: &Root, limit: u64, target: u64) -> io::Result<Removed> {
        let mut items = self.items()?;
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
        let mut list = root.temporary()?;
        list.file.write_all(&i64::try_from(total).unwrap_or(i64::MAX).to_le_bytes())?;
        list.place(USAGE)?;
        Ok(removed)
    }

    fn sweep(&self, root: &Root) -> io::Result<()> {
        for (name, _) in self.files(TEMPORARY)? {
            // One that cannot be swept must not keep the others.
            let _ = root.sweep(&format!("{TEMPORARY}/{name}"));
        }
        Ok(())
    }

    /// Notes a change of size. Returns the sum, if it is to be had without listing the directory.
    fn note(&self, root: &Root, change: i64) -> io::Result<Option<u64>> {
        match root.list(USAGE)? {
            Some(mut list) => usage::note(&mut list, change),
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
        let place = key.path();
        let old = root.file(&place).ok().flatten().and_then(|file| file.metadata().ok());
        let change = usage::change(old.map(|metadata| metadata.len()), Some(size));
        // Before the file is in its place: a writer that is killed between leaves a sum too large, which the next listing mends.
        let total = self.note(root, change)?;
        temporary.place(&place)?;
        if total.is_none_or(|total| total > self.capacity) {
            self.sweep(root)?;
            self.fit(root, self.capacity, self.capacity - self.capacity / SPARE)?;
        }
        Ok(true)
    }

    fn fetch(&self, root: &Root, key: &Key, cap: u64) -> io::Result<Option<Bytes>> {
        let Some(file) = root.file(&key.path())? else { return Ok(None) };
        let size = file.metadata()?.len();
        if size > cap {
            return Ok(None);
        }
        // Whoever may not do this has a cache that forgets in another order.
        let _ = file.set_modified(SystemTime::now());
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(cap).read_to_end(&mut bytes)?;
        Ok(Some(bytes.into()))
    }

    fn items(&self) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        for place in PLACES {
            for (name, metadata) in self.files(place)? {
                // What has no name of ours is not ours to count or to remove.
                if let Some(key) = Key::of_path(&format!("{place}/{name}")) {
                    items.push(Item { key, size: metadata.len(), used: metadata.modified()? });
                }
            }
        }
        Ok(items)
    }

    /// The files of our own in one place.
    fn files(&self, place: &str) -> io::Result<Vec<(String, fs::Metadata)>> {
        let entries = match fs::read_dir(self.path.join(place)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let own = rustix::process::geteuid().as_raw();
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                // Removed or renamed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if let Ok(name) = entry.file_name().into_string()
                && metadata.is_file()
                && metadata.uid() == own
            {
                files.push((name, metadata));
            }
        }
        Ok(files)
    }

    fn failed(&self, doing: &str, error: io::Error) -> CacheError {
        CacheError::io(&format!("{doing} the cache"), &self.path, error)
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
        let (root, place) = (Root::open(&self.path)?, key.path());
        let size =
            root.file(&place).ok().flatten().and_then(|file| file.metadata().ok()).map(|one| one.len());
        let removed = root.remove(&place);
        let noted = self.note(&root, usage::change(size, None));
        removed
            .and(noted.map(drop))
            .map_err(|error| CacheError::io("removing", &self.path.join(place), error))
    }

    fn list(&self) -> Result<Vec<Item>, CacheError> {
        Root::open(&self.path)?;
        self.items().map_err(|error| self.failed("listing", error))
    }
}

/// Writes up to a limit.
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
