//! Layers that are read one after the other: the next ones are asked for while the link would soon have nothing to do.
//!
//! ```text
//! read now    ─────────────────────────────▶│ end
//! the next           asked for │ its bytes wait in the transport │─────────▶│ end
//! ```
//!
//! Small layers cost one round trip together so, not one each.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use super::{Layer, Verification, scan::Reading};
use crate::source::growing::{Begun, Demand};

/// Layers that are begun at a time: with the one that is being read, a connection each.
const LAYERS: usize = 3;

/// Behind a layer of more than these bytes no other is begun: it fills the link for longer than a request takes.
const SMALL_BYTES: u64 = 1 << 20;

/// What was asked for of a layer before its reader is there, shared by all clones of the layer.
#[derive(Clone, Default)]
pub(crate) struct Slot(Arc<Mutex<Option<Begun>>>);

impl Slot {
    /// What was begun, for who reads the layer now.
    pub(super) fn take(&self) -> Option<Begun> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Begun>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

/// Layers in the order in which they will be read. What was begun of them ends with the last clone.
#[derive(Clone)]
pub(crate) struct Ahead(Arc<Line>);

struct Line {
    layers: Vec<Layer>,
    reading: Reading,
    least: Verification,
    /// The layers before this place are read now, or were, or were begun, or need not be read.
    next: Mutex<usize>,
}

impl Ahead {
    /// For layers that will be read in this order, unless a table of contents is known that is vouched for by `least`.
    pub(crate) fn new(
        layers: impl IntoIterator<Item = Layer>,
        reading: Reading,
        least: Verification,
    ) -> Self {
        let layers = layers.into_iter().collect();
        Self(Arc::new(Line { layers, reading, least, next: Mutex::default() }))
    }

    /// For a layer that is read alone.
    pub(crate) fn none() -> Self {
        Self::new([], Reading::Whole, Verification::Blob)
    }

    /// Does `pass`, which reads this layer, and begins the next ones meanwhile.
    pub(crate) async fn beside<T>(
        &self,
        layer: usize,
        demand: &Demand,
        pass: impl Future<Output = T> + Send,
    ) -> T {
        tokio::select! {
            biased;
            done = pass => done,
            never = self.run(layer, demand) => match never {},
        }
    }

    /// Begins the next layers while this one is read. Never ends, and may be dropped and called again.
    pub(crate) async fn run(&self, layer: usize, demand: &Demand) -> Infallible {
        self.0.reads(layer);
        demand.all_requested().await;
        while self.0.has_room() && self.0.begin().await {
            poll_fn(|context| {
                self.0.poll_open(context);
                Poll::Ready(())
            })
            .await;
        }
        poll_fn(|context| {
            self.0.poll_open(context);
            Poll::Pending
        })
        .await
    }
}

impl Line {
    /// This layer is read now, and those before it no more.
    fn reads(&self, layer: usize) {
        let Some(at) = self.layers.iter().position(|other| other.index == layer) else { return };
        let mut next = self.lock();
        *next = (*next).max(at + 1);
        drop(next);
        self.layers.iter().take(at).for_each(|layer| drop(layer.begun.take()));
    }

    fn has_room(&self) -> bool {
        let (mut begun, mut is_small) = (0, true);
        for layer in &self.layers {
            if let Some(found) = &*layer.begun.lock() {
                begun += 1;
                is_small &= found.is_whole_within(SMALL_BYTES);
            }
        }
        begun < LAYERS && is_small
    }

    /// Begins the next layer that has to be read; false if there is none, or something else has to be asked for before.
    async fn begin(&self) -> bool {
        loop {
            let at = *self.lock();
            let Some(layer) = self.layers.get(at) else { return false };
            layer.learn_cached(self.least).await;
            let mut next = self.lock();
            if *next != at {
                continue;
            }
            // The same blob again may be known by then.
            let is_again = self.layers.iter().take(at).any(|other| other.name == layer.name);
            if layer.known().is_known(self.least) || is_again && layer.has_cache() {
                *next += 1;
                continue;
            }
            if is_again || !layer.will_be_read(self.least) {
                return false;
            }
            let source = Arc::clone(&layer.source);
            let begun = match self.reading {
                Reading::Growing => Begun::first(source),
                Reading::Whole => Begun::whole(source),
            };
            let Some(begun) = begun else { return false };
            *layer.begun.lock() = Some(begun);
            *next += 1;
            return true;
        }
    }

    fn poll_open(&self, context: &mut Context<'_>) {
        for layer in &self.layers {
            if let Some(begun) = &mut *layer.begun.lock() {
                begun.poll_open(context);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.layers.iter().for_each(|layer| drop(layer.begun.take()));
    }
}
