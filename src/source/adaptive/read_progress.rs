//! How far a reader has come, shared between the reader and the task that requests its bytes.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::sync::Notify;

use super::Prefetched;
use crate::offset::Compressed;

/// How far a reader has decoded what it received: further ranges are requested as this advances.
pub(crate) struct ReadProgress {
    /// Bytes decoded since the start or the last skip.
    decoded: AtomicU64,
    /// Where to continue after a skip, or [`NO_SKIP`].
    skip: AtomicU64,
    changed: Notify,
    /// The last byte of the blob has been requested.
    all_requested: Flag,
    /// Bytes arrive faster than they are decoded.
    decoder_bound: Flag,
    /// What was requested before the reader started.
    prefetched: Mutex<Option<Prefetched>>,
}

/// No skip is pending.
const NO_SKIP: u64 = u64::MAX;

/// A condition that becomes true once and stays true.
#[derive(Default)]
struct Flag {
    is_set: AtomicBool,
    set: Notify,
}

impl Flag {
    fn set(&self) {
        if !self.is_set.swap(true, Ordering::AcqRel) {
            self.set.notify_waiters();
        }
    }

    async fn wait(&self) {
        let set = self.set.notified();
        if !self.is_set.load(Ordering::Acquire) {
            set.await;
        }
    }
}

impl Default for ReadProgress {
    fn default() -> Self {
        Self {
            decoded: AtomicU64::new(0),
            skip: AtomicU64::new(NO_SKIP),
            changed: Notify::new(),
            all_requested: Flag::default(),
            decoder_bound: Flag::default(),
            prefetched: Mutex::default(),
        }
    }
}

impl ReadProgress {
    /// Bytes decoded since the start or the last skip.
    pub(super) fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Where to continue, once after each skip.
    pub(super) fn take_skip(&self) -> Option<Compressed> {
        let offset = self.skip.swap(NO_SKIP, Ordering::Acquire);
        (offset != NO_SKIP).then_some(Compressed(offset))
    }

    /// Waits until the reader advances, also if it has since the last call.
    pub(super) async fn advanced(&self) {
        self.changed.notified().await;
    }

    /// Sets what was requested before the reader started.
    pub(crate) fn set_prefetched(&self, prefetched: Prefetched) {
        *self.prefetched.lock().unwrap_or_else(PoisonError::into_inner) = Some(prefetched);
    }

    /// What was requested before the reader started, once.
    pub(super) fn take_prefetched(&self) -> Option<Prefetched> {
        self.prefetched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Records that `bytes` more were decoded and that the reader wants more.
    pub(crate) fn advance(&self, bytes: u64) {
        self.decoded.fetch_add(bytes, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Records that the reader continues at `offset` and needs nothing before it.
    pub(crate) fn skip_to(&self, offset: Compressed) {
        self.decoded.store(0, Ordering::Relaxed);
        self.skip.store(offset.0, Ordering::Release);
        self.changed.notify_one();
    }

    /// Waits until the last byte of the blob has been requested.
    pub(crate) async fn all_requested(&self) {
        self.all_requested.wait().await;
    }

    /// Waits until decoding, rather than the source, has been the bottleneck for a while.
    pub(crate) async fn decoder_bound(&self) {
        self.decoder_bound.wait().await;
    }

    /// Records that everything was requested and that the remainder will arrive soon.
    pub(crate) fn set_all_requested(&self) {
        self.all_requested.set();
    }

    /// Records that bytes have arrived faster than they were decoded for a while.
    pub(crate) fn set_decoder_bound(&self) {
        self.decoder_bound.set();
    }
}
