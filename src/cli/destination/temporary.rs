//! Temporary files that are removed even if the program is made to leave.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

static PENDING: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn pending() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a temporary file for as long as it lives. Removing it in the ordinary way is its owner's business.
#[derive(Debug)]
pub(crate) struct Pending(PathBuf);

impl Pending {
    /// Notes the file at `path`.
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

/// Removes every file that is noted, as the last thing that the program does.
pub(crate) fn remove_all() {
    for path in std::mem::take(&mut *pending()) {
        // Whoever owned it may have removed it by now.
        drop(std::fs::remove_file(path));
    }
}
