//! Layers that are read one after the other: the next ones are asked for while the link would soon have nothing to do, and read to
//! their end while there are cores that have nothing to do.
//!
//! ```text
//! read now       ─────────────────────────────▶│ end
//! the next           asked for │ its bytes wait in the transport │─────────▶│ end
//!  or, where all of it is wanted │ pass beside ─────────▶│ what it found waits │▶ its turn
//! ```
//!
//! Small layers cost one round trip together so, not one each. Nothing is spawned: who reads a layer drives what was begun of others,
//! and what was begun of a layer is taken up by who comes to it.

use std::{
    convert::Infallible,
    fmt,
    future::{pending, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::sync::Notify;

use self::pass::Pass;
use super::{Layer, Verification, configuration::Pending, scan::Reading};
use crate::source::growing::{Begun, Demand};

pub(super) mod pass;

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
    /// Passes at a time, that over the layer which is read now included.
    passes: usize,
    /// How far it is with each of the layers.
    steps: Mutex<Vec<Step>>,
    /// Something has ended that others may have waited for.
    room: Notify,
}

/// How far it is with a layer.
enum Step {
    /// It was asked for.
    Asked,
    /// It is read now, or was, or need not be read.
    Done,
    /// It is read beside others.
    Passing(Pass),
    /// Its turn has not come.
    Waiting,
}

impl Ahead {
    /// For layers that will be read in this order, unless a table of contents is known that is vouched for by `least`. They are asked
    /// for ahead of their turn.
    pub(crate) fn new(
        layers: impl IntoIterator<Item = Layer>,
        reading: Reading,
        least: Verification,
    ) -> Self {
        Self::with(layers, reading, least, 1)
    }

    /// The same for layers that will be read to their end: so many at a time.
    pub(crate) fn whole(layers: impl IntoIterator<Item = Layer>, least: Verification, passes: usize) -> Self {
        Self::with(layers, Reading::Whole, least, passes)
    }

    /// For a layer that is read alone.
    pub(crate) fn none() -> Self {
        Self::new([], Reading::Whole, Verification::Blob)
    }

    fn with(
        layers: impl IntoIterator<Item = Layer>,
        reading: Reading,
        least: Verification,
        passes: usize,
    ) -> Self {
        let layers: Vec<Layer> = layers.into_iter().collect();
        let steps = Mutex::new(layers.iter().map(|_| Step::Waiting).collect());
        Self(Arc::new(Line { layers, reading, least, passes, steps, room: Notify::new() }))
    }

    /// Whether a pass over a layer was begun.
    pub(super) fn has_begun(&self, layer: usize) -> bool {
        let at = self.0.place(layer);
        at.is_some_and(|at| matches!(self.0.lock().get(at), Some(Step::Passing(_))))
    }

    /// The pass over a layer whose turn has come, if it was begun.
    pub(super) fn take(&self, layer: usize) -> Option<Pass> {
        let at = self.0.place(layer)?;
        let mut steps = self.0.lock();
        let step = steps.get_mut(at).filter(|step| matches!(step, Step::Passing(_)))?;
        let Step::Passing(pass) = std::mem::replace(step, Step::Done) else { return None };
        Some(pass)
    }

    /// Ends all passes that are under way, for one that could not go on beside them; false if there were none. Their layers are read in
    /// their turn.
    pub(super) fn end_passes(&self) -> bool {
        let mut steps = self.0.lock();
        let is_running = |step: &&mut Step| matches!(step, Step::Passing(pass) if pass.is_running());
        steps.iter_mut().filter(is_running).map(|step| *step = Step::Waiting).count() > 0
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

    /// Does `work`, which reads no layer, and goes on meanwhile with what was begun.
    pub(crate) async fn meanwhile<T>(&self, work: impl Future<Output = T> + Send) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.0.drive(pending()) => match never {},
        }
    }

    /// Begins the next layers while this one is read. Never ends, and may be dropped and called again.
    pub(crate) async fn run(&self, layer: usize, demand: &Demand) -> Infallible {
        self.0.reads(layer);
        self.0.drive(self.0.begin_all(demand)).await
    }
}

impl Line {
    fn place(&self, layer: usize) -> Option<usize> {
        self.layers.iter().position(|other| other.index == layer)
    }

    /// This layer is read now, and those before it no more.
    fn reads(&self, layer: usize) {
        let Some(at) = self.place(layer) else { return };
        self.lock().iter_mut().take(at + 1).for_each(|step| *step = Step::Done);
        self.layers.iter().take(at).for_each(|layer| drop(layer.begun.take()));
    }

    /// Begins layers, and goes on with those that were begun.
    async fn drive(&self, begin: impl Future<Output = Infallible> + Send) -> Infallible {
        let mut begin = pin!(begin);
        poll_fn(|context| {
            loop {
                if let Poll::Ready(never) = begin.as_mut().poll(context) {
                    return Poll::Ready(never);
                }
                // What has ended may let another begin.
                if !self.poll(context) {
                    return Poll::Pending;
                }
                self.room.notify_one();
            }
        })
        .await
    }

    /// Goes on with what was begun; tells whether there is something new to know.
    fn poll(&self, context: &mut Context<'_>) -> bool {
        for layer in &self.layers {
            if let Some(begun) = &mut *layer.begun.lock() {
                begun.poll_open(context);
            }
        }
        let mut is_news = false;
        for step in &mut *self.lock() {
            if let Step::Passing(pass) = step {
                is_news |= pass.poll(context);
            }
        }
        is_news
    }

    /// Begins one layer after the other while this one is read.
    async fn begin_all(&self, demand: &Demand) -> Infallible {
        loop {
            let last = self.last_demand();
            let last = last.as_deref().unwrap_or(demand);
            let is_requested = tokio::select! {
                biased;
                () = last.all_requested() => true,
                () = last.outrun(), if self.passes > 1 => false,
            };
            let has_begun = match (self.has_core(), is_requested && self.has_room()) {
                (true, _) => self.begin_pass().await,
                (false, true) => self.begin().await,
                (false, false) => false,
            };
            if !has_begun {
                let configuration = self.configuration_to_come();
                tokio::select! {
                    () = self.room.notified() => {}
                    () = last.all_requested(), if !is_requested => {}
                    // What is wrong with it is told to who needs it.
                    Some(_) = async { Some(configuration?.read().await.map(drop)) } => {}
                }
            }
        }
    }

    /// How far the last of the passes has come that were begun beside.
    fn last_demand(&self) -> Option<Arc<Demand>> {
        self.lock().iter().rev().find_map(|step| match step {
            Step::Passing(pass) => Some(pass.demand()),
            _ => None,
        })
    }

    /// Whether another pass may be begun beside.
    fn has_core(&self) -> bool {
        let (mut running, mut ended) = (1, 0);
        for step in &*self.lock() {
            match step {
                Step::Passing(pass) if pass.is_running() => running += 1,
                Step::Passing(_) => ended += 1,
                Step::Asked | Step::Done | Step::Waiting => {}
            }
        }
        may_begin(self.passes, running, ended)
    }

    /// Whether another layer may be asked for.
    fn has_room(&self) -> bool {
        let running = |step: &&Step| matches!(step, Step::Passing(pass) if pass.is_running());
        let (mut begun, mut is_small) = (self.lock().iter().filter(running).count(), true);
        // It takes a connection, too.
        begun += usize::from(self.configuration_to_come().is_some());
        for layer in &self.layers {
            if let Some(found) = &*layer.begun.lock() {
                begun += 1;
                is_small &= found.is_whole_within(SMALL_BYTES);
            }
        }
        begun < LAYERS && is_small
    }

    /// The image's configuration, unless it is there already.
    fn configuration_to_come(&self) -> Option<&Pending> {
        let configuration = self.layers.first().map(|layer| &layer.configuration);
        configuration.filter(|configuration| configuration.is_to_come())
    }

    /// Begins a pass over the next layer of which there is none; false if there is none to begin.
    async fn begin_pass(&self) -> bool {
        let is_next = |step: &Step| matches!(step, Step::Asked | Step::Waiting);
        let is_begun = |layer: &Layer| {
            let is_possible = layer.source.allowance() == u64::MAX;
            is_possible.then(|| Step::Passing(Pass::begin(layer)))
        };
        self.begin_next(is_next, is_begun).await
    }

    /// Asks for the next layer; false if there is none, or something else has to be asked for before.
    async fn begin(&self) -> bool {
        let is_next = |step: &Step| matches!(step, Step::Waiting);
        let is_begun = |layer: &Layer| {
            let source = Arc::clone(&layer.source);
            let begun = match self.reading {
                Reading::Growing => Begun::first(source),
                Reading::Whole => Begun::whole(source),
            };
            *layer.begun.lock() = Some(begun?);
            Some(Step::Asked)
        };
        self.begin_next(is_next, is_begun).await
    }

    /// Goes a step on with the next layer that has to be read.
    async fn begin_next(
        &self,
        is_next: impl Fn(&Step) -> bool + Send,
        begin: impl Fn(&Layer) -> Option<Step> + Send,
    ) -> bool {
        loop {
            let Some(at) = self.lock().iter().position(&is_next) else { return false };
            let Some(layer) = self.layers.get(at) else { return false };
            // The same blob again will be known by then.
            let is_again = self.layers.iter().take(at).any(|other| other.name == layer.name);
            if !is_again {
                layer.learn_cached(self.least).await;
            }
            let mut steps = self.lock();
            if steps.iter().position(&is_next) != Some(at) {
                continue;
            }
            let Some(step) = steps.get_mut(at) else { return false };
            if is_again || layer.known().is_known(self.least) {
                *step = Step::Done;
                continue;
            }
            if !layer.will_be_read(self.least) {
                return false;
            }
            let Some(begun) = begin(layer) else { return false };
            *step = begun;
            return true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.layers.iter().for_each(|layer| drop(layer.begun.take()));
    }
}

/// Whether there is a core for another pass, and not too much waits for its turn already: it would have been read for nothing if the
/// layer that is read now is damaged.
fn may_begin(passes: usize, running: usize, ended: usize) -> bool {
    running < passes && running + ended < 2 * passes
}

#[cfg(test)]
mod tests;
