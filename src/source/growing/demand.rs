//! How far a reader has come, told to who asks for its bytes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker, ready},
};

use futures_util::{StreamExt as _, stream, task::AtomicWaker};
use tokio::sync::Notify;

use super::{Begun, Part};
use crate::{
    offset::Compressed,
    source::{ByteStream, Source},
};

/// How far a reader has come with what it was given: it is what lets further ranges be asked for.
pub(crate) struct Demand {
    /// Since the start or the last hop.
    decoded: AtomicU64,
    /// Where to go on, if not at what follows; [`NO_HOP`] if there.
    hop: AtomicU64,
    waker: AtomicWaker,
    /// The last byte of the blob has been asked for.
    all_requested: Flag,
    /// Bytes come faster than they are decoded.
    outrun: Flag,
    /// What was asked for before the reader was there.
    begun: Mutex<Option<Begun>>,
}

/// No hop is due.
const NO_HOP: u64 = u64::MAX;

/// Something that comes to be so, and stays so.
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

impl Default for Demand {
    fn default() -> Self {
        Self {
            decoded: AtomicU64::new(0),
            hop: AtomicU64::new(NO_HOP),
            waker: AtomicWaker::new(),
            all_requested: Flag::default(),
            outrun: Flag::default(),
            begun: Mutex::default(),
        }
    }
}

impl Demand {
    /// The stream of the whole blob, if its first range or all of it was asked for before its reader was there. The rest is asked for
    /// at once then, unless it would bring all of the blob again.
    pub(crate) fn begun_whole(&self, source: &Arc<dyn Source>) -> Option<ByteStream> {
        let begun = self.take_begun()?;
        if begun.is_whole() {
            return Some(begun.part.stream());
        }
        if source.ignores_ranges() {
            return None;
        }
        let (mut stream, rest) = (begun.part.stream(), begun.end..begun.size);
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

    /// Bytes that have been decoded since the start or the last hop.
    pub(super) fn decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Where to go on, once, if not at what follows.
    pub(super) fn take_hop(&self) -> Option<Compressed> {
        let place = self.hop.swap(NO_HOP, Ordering::Acquire);
        (place != NO_HOP).then_some(Compressed(place))
    }

    /// Wakes this task when the reader has come further.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// A response that was requested before the reader begins.
    pub(crate) fn set_begun(&self, begun: Begun) {
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }

    /// What was asked for before the reader was there, once.
    pub(super) fn take_begun(&self) -> Option<Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// `bytes` more of the blob have been decoded, and the reader goes on.
    pub(crate) fn advance(&self, bytes: u64) {
        self.decoded.fetch_add(bytes, Ordering::Relaxed);
        self.waker.wake();
    }

    /// The reader goes on at `place`, and wants nothing of what lies before.
    pub(crate) fn hop(&self, place: Compressed) {
        self.decoded.store(0, Ordering::Relaxed);
        self.hop.store(place.0, Ordering::Release);
        self.waker.wake();
    }

    /// Waits until the last byte of the blob has been asked for.
    pub(crate) async fn all_requested(&self) {
        self.all_requested.wait().await;
    }

    /// Waits until decoding, and not what brings the bytes, has been the limit for a while.
    pub(crate) async fn outrun(&self) {
        self.outrun.wait().await;
    }

    /// Nothing more of the blob will be asked for, and what is still to come will soon be there.
    pub(crate) fn set_all_requested(&self) {
        self.all_requested.set();
    }

    /// Bytes have come faster than they were decoded for a while.
    pub(crate) fn set_outrun(&self) {
        self.outrun.set();
    }
}
