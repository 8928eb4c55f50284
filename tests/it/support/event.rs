//! A one-time event that responses of a registry wait for.

use std::{
    sync::{Condvar, Mutex},
    time::Duration,
};

/// Longer than any step here takes, so that a deadlock fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What has happened, for threads that wait for it.
#[derive(Default)]
pub(crate) struct Event {
    happened: Mutex<bool>,
    changed: Condvar,
}

impl Event {
    pub(crate) fn happen(&self) {
        *self.happened.lock().unwrap() = true;
        self.changed.notify_all();
    }

    pub(crate) fn has_happened(&self) -> bool {
        *self.happened.lock().unwrap()
    }

    /// Whether it happened in time.
    pub(crate) fn wait(&self) -> bool {
        self.wait_for(PATIENCE)
    }

    /// Whether it happened within this time.
    pub(crate) fn wait_for(&self, patience: Duration) -> bool {
        let happened = self.happened.lock().unwrap();
        !self.changed.wait_timeout_while(happened, patience, |happened| !*happened).unwrap().1.timed_out()
    }
}
