//! The entries of one layer, as a stream.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    vec,
};

use futures_util::{FutureExt as _, Stream, StreamExt, future::BoxFuture};
use tokio::sync::mpsc;

use super::PeekOptions;
use crate::{
    error::Error,
    layer::{Layer, toc_state::TocState},
    read::{
        pass::Fetch,
        task::Task,
        verification::Verification,
        visit::{VisitAction, Visitor},
    },
    reader::{
        discover::discover,
        driver::{self, PassRequest},
        prefetch::Prefetcher,
        store,
    },
    tar::entry::Entry,
    toc::entries::EntryTree,
};

/// Entries that are sent together, at least: waking the consumer costs more than finding one.
const BATCH: usize = 32;

/// Batches waiting for the consumer; the pass pauses when there are more.
const BATCHES: usize = 8;

/// The entries of one layer, in the order of its tar: a [`Stream`] of `Result<Entry, Error>`. Dropping it ends the transfer.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let mut entries = image.layer(0)?.entries();
/// while let Some(entry) = entries.next().await {
///     println!("{}", String::from_utf8_lossy(&entry?.path));
/// }
/// assert_eq!(entries.verification(), Some(layerslayer::Verification::Blob));
/// # Ok(())
/// # }
/// ```
pub struct Entries {
    batch: vec::IntoIter<Entry>,
    batches: mpsc::Receiver<Vec<Entry>>,
    producer: Producer,
    verification: Option<Verification>,
    error: Option<Error>,
    is_from_toc: Arc<AtomicBool>,
}

enum Producer {
    Ended,
    Running(Task<Verification>),
    /// It starts when the stream is first polled.
    Waiting(BoxFuture<'static, Result<Verification, Error>>),
}

impl Entries {
    /// The entries by the TOC if one is known or can be discovered, else by a pass over the layer.
    pub(super) fn new(layer: &Layer, options: PeekOptions, prefetcher: &Prefetcher) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES);
        let is_from_toc = Arc::<AtomicBool>::default();
        let (layer, prefetcher, from_toc) = (layer.clone(), prefetcher.clone(), Arc::clone(&is_from_toc));
        let min_verification = options.min_verification;
        let produce = async move { produce(&layer, min_verification, &prefetcher, sender, &from_toc).await };
        let (batch, producer) = (Vec::new().into_iter(), Producer::Waiting(produce.boxed()));
        Self { batch, batches, producer, verification: None, error: None, is_from_toc }
    }

    /// The next entry, `None` at the end of the layer.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(2)?.entries();
    /// let first = entries.next().await.ok_or("an empty layer")??;
    /// assert_eq!(first.path, b"app");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Entry, Error>> {
        StreamExt::next(self).await
    }

    /// How far the layer was verified, once the stream has ended without an error.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(0)?.entries();
    /// assert_eq!(entries.verification(), None);
    /// while let Some(entry) = entries.next().await {
    ///     entry?;
    /// }
    /// assert_eq!(entries.verification(), Some(layerslayer::Verification::Blob));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn verification(&self) -> Option<Verification> {
        self.verification
    }

    /// Whether they came from a TOC: no byte of the layer itself was read for them. Known once the stream has ended.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(0)?.entries();
    /// while entries.next().await.is_some() {}
    /// assert!(!entries.is_from_toc(), "the first time it is read");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_from_toc(&self) -> bool {
        self.is_from_toc.load(Ordering::Relaxed)
    }
}

impl Stream for Entries {
    type Item = Result<Entry, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Producer::Waiting(_) = self.producer
            && let Producer::Waiting(produce) = mem::replace(&mut self.producer, Producer::Ended)
        {
            self.producer = Producer::Running(Task::spawn(produce));
        }
        loop {
            if let Some(entry) = self.batch.next() {
                return Poll::Ready(Some(Ok(entry)));
            }
            // The channel closes when the producer has ended.
            if let Some(batch) = ready!(self.batches.poll_recv(context)) {
                self.batch = batch.into_iter();
                continue;
            }
            if let Producer::Running(task) = &mut self.producer {
                match ready!(task.poll_unpin(context)) {
                    Ok(verification) => self.verification = Some(verification),
                    Err(error) => self.error = Some(error),
                }
                self.producer = Producer::Ended;
            }
            return Poll::Ready(self.error.take().map(Err));
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("verification", &self.verification).finish_non_exhaustive()
    }
}

async fn produce(
    layer: &Layer,
    min_verification: Verification,
    prefetcher: &Prefetcher,
    sender: mpsc::Sender<Vec<Entry>>,
    is_from_toc: &AtomicBool,
) -> Result<Verification, Error> {
    let can_resume = loop {
        let state = layer.toc.state();
        // A tree keeps one entry of a name: where something was odd, the layer itself is listed.
        let is_exact = state.tree().warnings().count() == 0;
        match state {
            TocState::Complete(toc, level) if is_exact && level >= min_verification => {
                is_from_toc.store(true, Ordering::Relaxed);
                let mut entries = EntrySender::new(sender, None);
                entries.backlog = toc.entries.in_tar_order().into_iter();
                entries.send_backlog(&toc.entries).await;
                // A pass of this run counts as one of its own only where nothing less is accepted.
                return Ok(level.min(Verification::Span.max(min_verification)));
            }
            TocState::Complete(..) => break false,
            _ if discover(layer, min_verification).await? => {}
            TocState::Partial(_) => break is_exact && min_verification == Verification::None,
            TocState::Absent(_) => break false,
        }
    };
    let is_stored = store::is_recorded(layer) || layer.toc.has_same_blob();
    let request =
        PassRequest { fetch: Fetch::Full, record: store::is_recorded(layer), resume: can_resume, prefetcher };
    // Entries that were given cannot be taken back: there is no second attempt.
    let mut sender = Some(sender);
    let start = |tree: EntryTree| {
        let is_resumed = tree.entry_count() > 0;
        let backlog = tree.in_tar_order().into_iter();
        let tree = (is_stored || is_resumed).then_some(tree);
        Some(EntrySender { backlog, ..EntrySender::new(sender.take()?, tree) })
    };
    driver::run(layer, request, start).await?;
    Ok(Verification::Blob)
}

/// Sends entries to the stream.
struct EntrySender {
    sender: mpsc::Sender<Vec<Entry>>,
    batch: Vec<Entry>,
    tree: Option<EntryTree>,
    /// Entries of the tree that were not sent yet.
    backlog: vec::IntoIter<u32>,
}

impl EntrySender {
    fn new(sender: mpsc::Sender<Vec<Entry>>, tree: Option<EntryTree>) -> Self {
        Self { sender, batch: Vec::new(), tree, backlog: Vec::new().into_iter() }
    }

    async fn send_backlog(&mut self, tree: &EntryTree) {
        while self.backlog.len() > 0 {
            let batch = self.backlog.by_ref().take(BATCH).map(|record| tree.entry(record)).collect();
            if self.sender.send(batch).await.is_err() {
                return;
            }
        }
    }
}

impl Visitor for EntrySender {
    fn entry(&mut self, entry: Entry) -> Result<VisitAction, Error> {
        if let Some(tree) = &mut self.tree {
            tree.insert(&entry)?;
        }
        self.batch.push(entry);
        // A closed channel means that the stream was dropped, and with it this pass.
        Ok(if self.sender.is_closed() { VisitAction::Stop } else { VisitAction::Entries })
    }

    async fn flush(&mut self) -> Result<(), Error> {
        if self.backlog.len() > 0
            && let Some(tree) = self.tree.take()
        {
            self.send_backlog(&tree).await;
            self.tree = Some(tree);
        }
        if !self.batch.is_empty() {
            let _ = self.sender.send(mem::take(&mut self.batch)).await;
        }
        Ok(())
    }

    fn take_tree(&mut self) -> Option<EntryTree> {
        self.tree.take()
    }
}
