//! Responses that wait until other requests have arrived.

use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// Longer than any step here takes, so that a deadlock fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Holds responses back until everything it awaits has been requested.
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

    /// Removes one awaited item.
    pub(crate) fn came(&self, what: &str) {
        self.awaited.lock().unwrap().remove(what);
        self.opened.notify_all();
    }

    /// Waits until everything has been requested; returns false on timeout.
    pub(crate) fn pass(&self, digest: &str) -> bool {
        self.came(digest);
        let awaited = self.awaited.lock().unwrap();
        let is_shut = |awaited: &mut BTreeSet<String>| !awaited.is_empty();
        !self.opened.wait_timeout_while(awaited, PATIENCE, is_shut).unwrap().1.timed_out()
    }
}
