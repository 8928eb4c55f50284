//! The only place that starts passes, retries them and stores their TOCs.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{
    discover::discover,
    prefetch::{BackgroundPass, PrefetchSlot, Prefetcher, RunningPass},
    store::{self, PassToc, invalidate},
};
use crate::{
    decompress::Encoding,
    error::{Error, Kind},
    layer::{Layer, toc_state::TocState},
    read::{
        decode::{PassEnd, Scanned},
        hash::{DiffId, Expected},
        method::ReadMethod,
        pass::{Fetch, PassJob, scan},
        ranged::{Extraction, extract},
        record::WindowSpool,
        verification::Verification,
        visit::{VisitAction, Visitor},
    },
    source::adaptive::ReadProgress,
    tar::entry::Entry,
    toc::{ContentMap, entries::EntryTree, spans::Spans},
};

/// How a question wants a layer to be read.
pub(crate) struct PassRequest<'a> {
    pub(crate) fetch: Fetch,
    /// Whether to record how to read content later.
    pub(crate) record: bool,
    /// Whether to continue where an earlier pass stopped.
    pub(crate) resume: bool,
    /// Begins the layers to come.
    pub(crate) prefetcher: &'a Prefetcher,
}

/// A pass that has ended.
pub(crate) struct Finished<V> {
    pub(crate) visitor: V,
    pub(crate) end: PassEnd,
    pub(crate) method: ReadMethod,
}

/// Reads a layer with the visitor that `start` makes of the entries that earlier passes have left, and stores the TOC that the visitor
/// has built.
///
/// A pass that resumed from unverified state and ends corrupt is restarted once from the beginning; so is one that lacked memory
/// for a window beside background passes. `start` is called again then, and may refuse with `None`.
///
/// # Errors
///
/// Those of [`scan`], with the layer they are about.
pub(crate) async fn run<V: Visitor>(
    layer: &Layer,
    request: PassRequest<'_>,
    mut start: impl FnMut(EntryTree) -> Option<V> + Send,
) -> Result<Finished<V>, Error> {
    let alone = Prefetcher::none();
    let (mut prefetcher, mut failure) = (request.prefetcher, None);
    loop {
        let partial = if request.resume { load_partial(layer) } else { None };
        let resumed = partial.is_some();
        let (tree, resume) = partial.map_or_else(|| (EntryTree::new(), None), |(tree, s)| (tree, Some(s)));
        let tree = tree.capped(layer.limits.layer_entries_bytes);
        let Some(visitor) = start(tree) else {
            let refused = || Error::new(Kind::Other, "the pass cannot be restarted");
            return Err(failure.unwrap_or_else(|| layer.error(refused())));
        };
        let mut job = job(layer, request.fetch);
        (job.record, job.resume) = (request.record, resume);
        prefetcher.read_now(layer.index, &job.read_progress).await;
        match scan(job, visitor).await {
            Ok(Scanned { mut visitor, end, method, spans }) => {
                if let Some(tree) = visitor.take_tree() {
                    PassToc::write(layer, tree, end, spans).store(layer);
                }
                return Ok(Finished { visitor, end, method });
            }
            // What an earlier pass has left is not verified.
            Err(error) if resumed && error.is_corrupt() => {
                invalidate(layer);
                failure = Some(layer.error(error));
            }
            // One of the background passes has the memory. Alone it succeeds, or fails for a reason of its own.
            Err(error) if error.is_window_busy() && prefetcher.end_passes() => {
                prefetcher = &alone;
                failure = Some(layer.error(error));
            }
            Err(error) => return Err(layer.error(error)),
        }
    }
}

/// Obtains the TOC of the whole layer, verified to at least this level, by whatever costs least.
///
/// # Errors
///
/// Those of [`discover`] and [`run`].
pub(crate) async fn complete(
    layer: &Layer,
    min_verification: Verification,
    prefetcher: &Prefetcher,
) -> Result<(), Error> {
    while !layer.toc.state().satisfies(min_verification) {
        if !discover(layer, min_verification).await? {
            index(layer, prefetcher).await?;
        }
    }
    Ok(())
}

/// Reads the whole layer, resuming an earlier pass, or takes the pass that was started ahead.
///
/// # Errors
///
/// Those of [`run`].
pub(crate) async fn index(layer: &Layer, prefetcher: &Prefetcher) -> Result<(), Error> {
    let (mut prefetcher, alone) = (prefetcher, Prefetcher::none());
    if let Some(RunningPass { progress, task }) = prefetcher.take_pass(layer.index) {
        prefetcher.read_now(layer.index, &progress).await;
        match task.await {
            Ok(toc) => {
                toc.store(layer);
                return Ok(());
            }
            Err(error) if !error.is_window_busy() => return Err(layer.error(error)),
            Err(_) => {
                prefetcher.end_passes();
                prefetcher = &alone;
            }
        }
    }
    let request =
        PassRequest { fetch: Fetch::Full, record: store::is_recorded(layer), resume: true, prefetcher };
    run(layer, request, |tree| Some(Listing(tree))).await.map(drop)
}

/// Reads the whole layer and records how to read its content in any order.
///
/// # Errors
///
/// Those of [`run`].
pub(crate) async fn record(layer: &Layer) -> Result<(), Error> {
    let prefetcher = Prefetcher::none();
    let request = PassRequest { fetch: Fetch::Full, record: true, resume: true, prefetcher: &prefetcher };
    run(layer, request, |tree| Some(Listing(tree))).await.map(drop)
}

/// Prefetches layers that will be given to [`index`] in this order, up to `passes` at a time.
pub(crate) fn prefetch(layers: &[Layer], min_verification: Verification, passes: usize) -> Prefetcher {
    Prefetcher::passes(layers.iter().cloned(), min_verification, passes, background_pass)
}

/// A pass that lists a whole layer. Its TOC is on its way to the disk when it ends, whatever becomes of other layers.
fn background_pass(layer: &Layer, slot: Option<PrefetchSlot>) -> BackgroundPass {
    let mut job = job(layer, Fetch::Full);
    job.record = store::is_recorded(layer);
    let (progress, layer) = (Arc::clone(&job.read_progress), layer.clone());
    let tree = EntryTree::limited(layer.limits.layer_entries_bytes);
    let pass = async move {
        if let Some(slot) = slot
            && let Some(prefetched) = slot.opened().await
        {
            job.read_progress.set_prefetched(prefetched);
        }
        let Scanned { visitor, end, spans, .. } = scan(job, Listing(tree)).await?;
        Ok(PassToc::write(&layer, visitor.0, end, spans))
    };
    BackgroundPass { progress, pass: pass.boxed() }
}

/// Content by the TOC where that is verified to at least this level, else by reading the layer again.
///
/// # Errors
///
/// Those of [`extract`] and [`run`]. If the TOC has led to wrong content, it is dropped.
pub(crate) async fn read_content<V: Visitor>(
    layer: &Layer,
    state: &TocState,
    records: Vec<u32>,
    min_verification: Verification,
    visitor: V,
) -> Result<(V, Verification, ReadMethod), Error> {
    let by_toc = extraction(layer, state).filter(|job| job.verification() >= min_verification);
    if let Some(job) = by_toc {
        let (level, method) = (job.verification(), job.method());
        let visitor = extract(job, records, visitor).await.map_err(|error| {
            if error.is_corrupt() {
                invalidate(layer);
            }
            layer.error(error)
        })?;
        return Ok((visitor, level, method));
    }
    let is_verified = min_verification > Verification::None;
    let fetch = if is_verified { Fetch::Full } else { Fetch::Adaptive };
    let (prefetcher, mut visitor) = (Prefetcher::none(), Some(visitor));
    let request = PassRequest { fetch, record: false, resume: false, prefetcher: &prefetcher };
    let Finished { visitor, end, method } = run(layer, request, |_| visitor.take()).await?;
    // Content that is read again is verified by that pass alone.
    let level = if end == PassEnd::Complete { Verification::Blob } else { Verification::None };
    Ok((visitor, level, method))
}

/// How to read content by a TOC of the layer, if it says where content is.
pub(crate) fn extraction(layer: &Layer, state: &TocState) -> Option<Extraction> {
    let level = match state {
        TocState::Absent(_) => return None,
        TocState::Partial(_) => Verification::None,
        TocState::Complete(_, level) => *level,
    };
    let extraction = Extraction {
        source: Arc::clone(&layer.source),
        toc: Arc::clone(state.toc()),
        level,
        progress: Arc::clone(&layer.progress),
        pool: Arc::clone(&layer.pool),
    };
    extraction.is_possible().then_some(extraction)
}

/// What a pass resumes that stopped before: the entries so far, and the spans.
pub(crate) fn load_partial(layer: &Layer) -> Option<(EntryTree, Spans)> {
    let TocState::Partial(toc) = layer.toc.state() else { return None };
    let ContentMap::Spans(spans) = &toc.content else { return None };
    let resume = spans.resume.as_ref()?;
    let known = layer.configuration.now().map(|config| DiffId::Known(config.diff_id(layer.index).cloned()));
    let expected = Expected { digest: layer.digest.clone(), diff_id: known.unwrap_or(DiffId::Pending) };
    // Whether a window is right shows only when what is unpacked with it is hashed.
    let is_provable = spans.encoding != Encoding::Gzip || expected.has_diff_id();
    if !is_provable || !expected.can_resume(resume) {
        return None;
    }
    let tree = toc.entries.until(resume.next_header)?;
    let spans = spans.copied_into(Box::new(WindowSpool::new())).ok()?;
    Some((tree, spans))
}

fn job(layer: &Layer, fetch: Fetch) -> PassJob {
    PassJob {
        source: Arc::clone(&layer.source),
        digest: layer.digest.clone(),
        configuration: layer.configuration.clone(),
        layer: layer.index,
        progress: Arc::clone(&layer.progress),
        pool: Arc::clone(&layer.pool),
        fetch,
        record: false,
        read_progress: Arc::new(ReadProgress::default()),
        resume: None,
    }
}

/// Lists all entries.
struct Listing(EntryTree);

impl Visitor for Listing {
    fn entry(&mut self, entry: Entry) -> Result<VisitAction, Error> {
        self.0.insert(&entry)?;
        Ok(VisitAction::Entries)
    }

    fn take_tree(&mut self) -> Option<EntryTree> {
        Some(std::mem::replace(&mut self.0, EntryTree::new()))
    }
}
