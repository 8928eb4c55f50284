//! Answers that wait until something else has happened.

use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// Longer than anything here takes: what would wait for ever fails then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Holds answers back until all that it waits for has been asked for.
#[derive(Default)]
pub(crate) struct Gate {
    awaited: Mutex<BTreeSet<String>>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn awaiting(digests: impl IntoIterator<Item = String>) -> Arc<Self> {
        Arc::new(Self { awaited: Mutex::new(digests.into_iter().collect()), opened: Condvar::new() })
    }

    /// What is still awaited.
    pub(crate) fn awaited(&self) -> BTreeSet<String> {
        self.awaited.lock().unwrap().clone()
    }

    /// One thing less is awaited.
    pub(crate) fn came(&self, what: &str) {
        self.awaited.lock().unwrap().remove(what);
        self.opened.notify_all();
    }

    /// Whether all was asked for in time.
    pub(crate) fn pass(&self, digest: &str) -> bool {
        self.came(digest);
        let awaited = self.awaited.lock().unwrap();
        let is_shut = |awaited: &mut BTreeSet<String>| !awaited.is_empty();
        !self.opened.wait_timeout_while(awaited, PATIENCE, is_shut).unwrap().1.timed_out()
    }
}
