//! Layers that are read one after the other: the next ones are requested while the link would soon be idle, and read to their end
//! while there are idle cores.
//!
//! ```text
//! current layer  ─────────────────────────────▶│ end
//! next layer         requested │ its bytes wait in the transport │─────────▶│ end
//!  or, where all of it is wanted │ background pass ────────▶│ its TOC waits │▶ its turn
//! ```
//!
//! Small layers cost one round trip together, not one each. Everything here runs in tasks that the [`Prefetcher`] owns: dropping it
//! ends them.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use super::{
    discover::{discover_cached, is_read_from_start},
    store::PassToc,
};
use crate::{
    error::Error,
    layer::Layer,
    read::{config::ConfigFuture, pass::Fetch, task::Task, verification::Verification},
    source::adaptive::{Prefetched, ReadProgress},
};

/// Layers that are requested at a time: with the current one, a connection each.
const LAYERS: usize = 3;

/// After a layer of more than this many bytes no other is requested: it fills the link for longer than a request takes.
const SMALL_BYTES: u64 = 1 << 20;

/// Starts a pass over a whole layer, which uses what was requested of it.
pub(crate) type StartPass = fn(&Layer, Option<PrefetchSlot>) -> BackgroundPass;

/// A response that was requested before its pass begins. Its body waits in the transport.
pub(crate) struct PrefetchSlot {
    opening: Task<Prefetched>,
    is_small: bool,
}

impl PrefetchSlot {
    fn new(prefetched: Prefetched) -> Self {
        let is_small = prefetched.is_whole_within(SMALL_BYTES);
        Self { opening: Task::spawn(async { Ok(prefetched.opened().await) }), is_small }
    }

    /// The response, once its header has arrived.
    pub(crate) async fn opened(self) -> Option<Prefetched> {
        self.opening.await.ok()
    }
}

/// A pass that was started before its turn.
pub(crate) struct BackgroundPass {
    /// How far it has come.
    pub(crate) progress: Arc<ReadProgress>,
    /// The pass.
    pub(crate) pass: BoxFuture<'static, Result<PassToc, Error>>,
}

/// A [`BackgroundPass`] under way.
pub(crate) struct RunningPass {
    pub(crate) progress: Arc<ReadProgress>,
    pub(crate) task: Task<PassToc>,
}

/// Layers in the order in which they will be read, and what was begun for them.
#[derive(Clone)]
pub(crate) struct Prefetcher(Arc<Owner>);

/// Ends all tasks when it is dropped.
struct Owner {
    queue: Arc<Queue>,
    task: Mutex<Option<Task<Infallible>>>,
}

struct Queue {
    layers: Vec<Layer>,
    fetch: Fetch,
    min_verification: Verification,
    start: Option<StartPass>,
    /// Passes at a time, that over the current layer included.
    passes: usize,
    stages: Mutex<Vec<LayerStage>>,
    /// The progress of the current pass.
    current: watch::Sender<Option<Arc<ReadProgress>>>,
    /// Something has ended that others may have waited for.
    changed: Arc<Notify>,
}

/// What was done for a layer so far.
enum LayerStage {
    /// It is the current layer, or was, or need not be read.
    Done,
    /// A pass over it is under way, or has ended.
    Passing(RunningPass),
    /// It was requested.
    Requested(PrefetchSlot),
    /// Nothing.
    Waiting,
}

impl Prefetcher {
    /// For layers that will be read in this order unless their TOC is known and verified to this level. They are requested ahead.
    pub(crate) fn requests(
        layers: impl IntoIterator<Item = Layer>,
        fetch: Fetch,
        min_verification: Verification,
    ) -> Self {
        Self::new(layers, fetch, min_verification, 1, None)
    }

    /// For layers that will be read to their end, up to `passes` at a time.
    pub(crate) fn passes(
        layers: impl IntoIterator<Item = Layer>,
        min_verification: Verification,
        passes: usize,
        start: StartPass,
    ) -> Self {
        Self::new(layers, Fetch::Full, min_verification, passes, Some(start))
    }

    /// For a layer that is read alone.
    pub(crate) fn none() -> Self {
        Self::new([], Fetch::Full, Verification::Blob, 1, None)
    }

    fn new(
        layers: impl IntoIterator<Item = Layer>,
        fetch: Fetch,
        min_verification: Verification,
        passes: usize,
        start: Option<StartPass>,
    ) -> Self {
        let layers: Vec<Layer> = layers.into_iter().collect();
        let stages = Mutex::new(layers.iter().map(|_| LayerStage::Waiting).collect());
        let (current, changed) = (watch::Sender::new(None), Arc::default());
        let queue = Queue { layers, fetch, min_verification, start, passes, stages, current, changed };
        Self(Arc::new(Owner { queue: Arc::new(queue), task: Mutex::default() }))
    }

    /// Whether a pass over a layer was started.
    pub(crate) fn has_pass(&self, layer: usize) -> bool {
        let queue = &self.0.queue;
        let place = queue.place(layer);
        place.is_some_and(|place| matches!(queue.lock().get(place), Some(LayerStage::Passing(_))))
    }

    /// The pass over a layer whose turn has come, if one was started.
    pub(crate) fn take_pass(&self, layer: usize) -> Option<RunningPass> {
        let queue = &self.0.queue;
        let place = queue.place(layer)?;
        let mut stages = queue.lock();
        let stage = stages.get_mut(place)?;
        match std::mem::replace(stage, LayerStage::Done) {
            LayerStage::Passing(pass) => Some(pass),
            other => {
                *stage = other;
                None
            }
        }
    }

    /// Says that this layer is read now, and those before it no more; what was requested of it, once its header has arrived.
    pub(crate) async fn read_now(&self, layer: usize, progress: &Arc<ReadProgress>) {
        let queue = &self.0.queue;
        let slot = queue.advance(layer);
        queue.current.send_replace(Some(Arc::clone(progress)));
        self.0.start();
        if let Some(prefetched) = match slot {
            Some(slot) => slot.opened().await,
            None => None,
        } {
            progress.set_prefetched(prefetched);
        }
    }

    /// Ends all passes that are under way, for one that could not continue beside them; false if there were none. Their layers are
    /// read in their turn.
    pub(crate) fn end_passes(&self) -> bool {
        let mut stages = self.0.queue.lock();
        let is_running = |stage: &&mut LayerStage| stage.is_running();
        stages.iter_mut().filter(is_running).map(|stage| *stage = LayerStage::Waiting).count() > 0
    }
}

impl Owner {
    /// Starts the task, once.
    fn start(&self) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_none() && !self.queue.layers.is_empty() {
            *task = Some(Task::spawn(Arc::clone(&self.queue).run()));
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.queue.lock().clear();
    }
}

impl LayerStage {
    fn is_running(&self) -> bool {
        matches!(self, Self::Passing(pass) if !pass.task.is_finished())
    }
}

impl Queue {
    async fn run(self: Arc<Self>) -> Result<Infallible, Error> {
        let mut current = self.current.subscribe();
        loop {
            let progress = current.borrow_and_update().clone();
            tokio::select! {
                biased;
                changed = current.changed() => drop(changed),
                never = self.begin_all(progress) => match never {},
            }
        }
    }

    fn place(&self, layer: usize) -> Option<usize> {
        self.layers.iter().position(|other| other.index == layer)
    }

    /// Ends what was begun for this layer and those before it; what was requested of this one.
    fn advance(&self, layer: usize) -> Option<PrefetchSlot> {
        let place = self.place(layer)?;
        let mut stages = self.lock();
        let mut slot = None;
        for stage in stages.iter_mut().take(place + 1) {
            slot = match std::mem::replace(stage, LayerStage::Done) {
                LayerStage::Requested(slot) => Some(slot),
                _ => None,
            };
        }
        slot
    }

    /// Begins one layer after the other while the current one is read.
    async fn begin_all(&self, progress: Option<Arc<ReadProgress>>) -> Infallible {
        let Some(progress) = progress else { return std::future::pending().await };
        loop {
            let last = self.last_progress().unwrap_or_else(|| Arc::clone(&progress));
            let is_requested = tokio::select! {
                biased;
                () = last.all_requested() => true,
                () = last.decoder_bound(), if self.passes > 1 => false,
            };
            let has_begun = match (self.has_core(), is_requested && self.has_room()) {
                (true, _) => self.begin_pass().await,
                (false, true) => self.begin_request().await,
                (false, false) => false,
            };
            if !has_begun {
                let configuration = self.pending_configuration();
                tokio::select! {
                    () = self.changed.notified() => {}
                    () = last.all_requested(), if !is_requested => {}
                    // What is wrong with it is reported to the question that needs it.
                    Some(_) = async { Some(configuration?.read().await.map(drop)) } => {}
                }
            }
        }
    }

    /// How far the last of the background passes has come.
    fn last_progress(&self) -> Option<Arc<ReadProgress>> {
        self.lock().iter().rev().find_map(|stage| match stage {
            LayerStage::Passing(pass) => Some(Arc::clone(&pass.progress)),
            _ => None,
        })
    }

    /// Whether another background pass may be started.
    fn has_core(&self) -> bool {
        let (mut running, mut ended) = (1, 0);
        for stage in &*self.lock() {
            match stage {
                LayerStage::Passing(_) if stage.is_running() => running += 1,
                LayerStage::Passing(_) => ended += 1,
                LayerStage::Requested(_) | LayerStage::Done | LayerStage::Waiting => {}
            }
        }
        may_start(self.passes, running, ended)
    }

    /// Whether another layer may be requested.
    fn has_room(&self) -> bool {
        // The configuration takes a connection, too.
        let mut begun = usize::from(self.pending_configuration().is_some());
        let mut is_small = true;
        for stage in &*self.lock() {
            match stage {
                LayerStage::Requested(slot) => {
                    begun += 1;
                    is_small &= slot.is_small;
                }
                stage => begun += usize::from(stage.is_running()),
            }
        }
        begun < LAYERS && is_small
    }

    /// The image's configuration, unless it was read already.
    fn pending_configuration(&self) -> Option<&ConfigFuture> {
        let configuration = self.layers.first().map(|layer| &layer.configuration);
        configuration.filter(|configuration| configuration.is_pending())
    }

    /// Starts a pass over the next layer that has none; false if there is none to start.
    async fn begin_pass(&self) -> bool {
        let Some(start) = self.start else { return false };
        let is_next = |stage: &LayerStage| matches!(stage, LayerStage::Requested(_) | LayerStage::Waiting);
        let begin = |layer: &Layer, slot: Option<PrefetchSlot>| {
            let is_possible = layer.source.allowance() == u64::MAX;
            is_possible.then(|| {
                let BackgroundPass { progress, pass } = start(layer, slot);
                let changed = Arc::clone(&self.changed);
                let task = Task::spawn(async move {
                    let result = pass.await;
                    changed.notify_one();
                    result
                });
                LayerStage::Passing(RunningPass { progress, task })
            })
        };
        self.begin_next(is_next, begin).await
    }

    /// Requests the next layer; false if there is none, or something else has to be requested first.
    async fn begin_request(&self) -> bool {
        let is_next = |stage: &LayerStage| matches!(stage, LayerStage::Waiting);
        let begin = |layer: &Layer, _| {
            let source = Arc::clone(&layer.source);
            let prefetched = match self.fetch {
                Fetch::Adaptive => Prefetched::first(source),
                Fetch::Full => Prefetched::whole(source),
            };
            Some(LayerStage::Requested(PrefetchSlot::new(prefetched?)))
        };
        self.begin_next(is_next, begin).await
    }

    /// Begins with the next layer that has to be read.
    async fn begin_next(
        &self,
        is_next: impl Fn(&LayerStage) -> bool + Send,
        begin: impl Fn(&Layer, Option<PrefetchSlot>) -> Option<LayerStage> + Send,
    ) -> bool {
        loop {
            let Some(place) = self.lock().iter().position(&is_next) else { return false };
            let Some(layer) = self.layers.get(place) else { return false };
            // The TOC of the same blob will be known by then.
            let is_repeated = self.layers.iter().take(place).any(|other| other.name == layer.name);
            if !is_repeated {
                discover_cached(layer, self.min_verification).await;
            }
            let mut stages = self.lock();
            if stages.iter().position(&is_next) != Some(place) {
                continue;
            }
            let Some(stage) = stages.get_mut(place) else { return false };
            if is_repeated || layer.toc.state().satisfies(self.min_verification) {
                *stage = LayerStage::Done;
                continue;
            }
            if !is_read_from_start(layer, self.min_verification) {
                return false;
            }
            let slot = match std::mem::replace(stage, LayerStage::Waiting) {
                LayerStage::Requested(slot) => Some(slot),
                _ => None,
            };
            let Some(begun) = begin(layer, slot) else { return false };
            *stage = begun;
            return true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LayerStage>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is a core for another pass, and not too many wait for their turn already: they would have been read for nothing if
/// the current layer is damaged.
fn may_start(passes: usize, running: usize, ended: usize) -> bool {
    running < passes && running + ended < 2 * passes
}

#[cfg(test)]
mod tests;
