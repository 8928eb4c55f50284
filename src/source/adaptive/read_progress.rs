//! How far a reader has come, shared between the reader and the task that requests its bytes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker, ready},
};

use futures_util::{StreamExt as _, stream, task::AtomicWaker};
use tokio::sync::Notify;

use super::{Part, Prefetched};
use crate::{
    offset::Compressed,
    source::{ByteStream, Source},
};

/// How far a reader has decoded what it received: further ranges are requested as this advances.
pub(crate) struct ReadProgress {
    /// Bytes decoded since the start or the last skip.
    decoded: AtomicU64,
    /// Where to continue after a skip, or [`NO_SKIP`].
    skip: AtomicU64,
    waker: AtomicWaker,
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
            waker: AtomicWaker::new(),
            all_requested: Flag::default(),
            decoder_bound: Flag::default(),
            prefetched: Mutex::default(),
        }
    }
}

impl ReadProgress {
    /// The stream of the whole blob, if its first range or all of it was prefetched. The remainder is requested at once, unless the
    /// server ignores ranges and would send the whole blob again.
    pub(crate) fn prefetched_whole(&self, source: &Arc<dyn Source>) -> Option<ByteStream> {
        let prefetched = self.take_prefetched()?;
        if prefetched.is_whole() {
            return Some(prefetched.part.stream());
        }
        if source.ignores_ranges() {
            return None;
        }
        let (mut stream, rest) = (prefetched.part.stream(), prefetched.end..prefetched.size);
        let mut rest = Some(Part::opening(Arc::clone(source), rest));
        let pieces = stream::poll_fn(move |context| {
            loop {
                if let Some(rest) = &mut rest {
                    let _ = rest.poll_open(context);
                }
                match ready!(stream.poll_next_unpin(context)) {
                    None => match rest.take() {
                        Some(rest) => stream = rest.stream(),
                        None => return Poll::Ready(None),
                    },
                    piece => return Poll::Ready(piece),
                }
            }
        });
        Some(pieces.boxed())
    }

    /// Bytes decoded since the start or the last skip.
    pub(super) fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Where to continue, once after each skip.
    pub(super) fn take_skip(&self) -> Option<Compressed> {
        let offset = self.skip.swap(NO_SKIP, Ordering::Acquire);
        (offset != NO_SKIP).then_some(Compressed(offset))
    }

    /// Wakes this task when the reader advances.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
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
        self.waker.wake();
    }

    /// Records that the reader continues at `offset` and needs nothing before it.
    pub(crate) fn skip_to(&self, offset: Compressed) {
        self.decoded.store(0, Ordering::Relaxed);
        self.skip.store(offset.0, Ordering::Release);
        self.waker.wake();
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
