//! Temporary files that are removed even if a signal ends the program.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

static PENDING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn pending() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a temporary file until dropped. The owner removes the file itself in the normal course.
#[derive(Debug)]
pub(crate) struct Pending(PathBuf);

impl Pending {
    /// Registers the file at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        pending().insert(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        pending().remove(&self.0);
    }
}

/// Removes all registered files, just before the program exits.
pub(crate) fn remove_all() {
    for path in std::mem::take(&mut *pending()) {
        // The owner may have removed it already.
        drop(std::fs::remove_file(path));
    }
}
