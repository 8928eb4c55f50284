//! The entries of one layer, as a stream.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    vec,
};

use futures_util::{FutureExt as _, Stream, StreamExt, future::BoxFuture};
use tokio::sync::mpsc;

use super::{
    Layer, Verification,
    ahead::Ahead,
    known::Known,
    scan::{Job, Visitor, Want, scan},
};
use crate::{
    error::Error,
    tar::entry::Entry,
    toc::{ContentMap, LayerToc, entries::EntryTree},
};

/// Entries that are handed over together, if so many are there: waking the reader costs more than finding one.
const BATCH: usize = 32;

/// Batches waiting to be taken from the stream; decoding pauses when there are more.
const BATCHES: usize = 8;

/// The entries of one layer, in the order of its tar: a [`Stream`] of `Result<Entry, Error>`. Dropping it ends the transfer.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let mut entries = image.layer(0)?.entries().await?;
/// while let Some(entry) = entries.next().await {
///     println!("{}", String::from_utf8_lossy(&entry?.path));
/// }
/// assert_eq!(entries.verification(), Some(layerslayer::Verification::Blob));
/// # Ok(())
/// # }
/// ```
pub struct Entries {
    /// Those that a table of contents has, before those of the pass.
    tabled: Option<Tabled>,
    batch: vec::IntoIter<Entry>,
    batches: mpsc::Receiver<Vec<Entry>>,
    pass: Option<BoxFuture<'static, Result<Verification, Error>>>,
    verification: Option<Verification>,
    error: Option<Error>,
    is_from_toc: bool,
}

/// Entries of a table of contents, in the order of the tar.
struct Tabled {
    toc: Arc<LayerToc>,
    records: vec::IntoIter<u32>,
}

impl Tabled {
    fn new(toc: &Arc<LayerToc>) -> Self {
        Self { toc: Arc::clone(toc), records: toc.entries.in_tar_order().into_iter() }
    }
}

impl Entries {
    /// The entries by the best that is known of the layer, and otherwise by a pass over it, beside which the next layers are begun.
    pub(super) async fn new(layer: &Layer, least: Verification, ahead: &Ahead) -> Result<Self, Error> {
        loop {
            let known = layer.known();
            // A table keeps one entry of a name: where something was odd, the layer is listed as it is.
            let is_exact = known.table().warnings().count() == 0;
            match known {
                Known::Wholly(toc, level) if is_exact && level >= least => {
                    // What a pass of this run has proved is as good as one of its own where nothing less will do.
                    return Ok(Self::table(&toc, level.min(Verification::Span.max(least))));
                }
                Known::Wholly(..) => {}
                _ if ahead.meanwhile(layer.learn(least).boxed()).await? => continue,
                Known::Partly(toc) if is_exact && least == Verification::None => {
                    return Ok(Self::scan(layer, Some(&toc), ahead));
                }
                _ => {}
            }
            return Ok(Self::scan(layer, None, ahead));
        }
    }

    fn table(toc: &Arc<LayerToc>, level: Verification) -> Self {
        let (_, batches) = mpsc::channel(1);
        let pass = futures_util::future::ready(Ok(level)).boxed();
        Self { is_from_toc: true, ..Self::of(Some(Tabled::new(toc)), batches, pass) }
    }

    fn scan(layer: &Layer, begun: Option<&Arc<LayerToc>>, ahead: &Ahead) -> Self {
        let (sender, batches) = mpsc::channel(BATCHES);
        let unfinished = begun.and_then(|_| layer.unfinished());
        // What lies behind the place to go on from comes again.
        let tabled = unfinished.as_ref().map(|(table, _)| {
            Tabled::new(&Arc::new(LayerToc { entries: table.clone(), content: ContentMap::Nothing }))
        });
        let resumed = tabled.is_some();
        let (table, resume) = match unfinished {
            Some((table, spans)) => (Some(table), Some(spans)),
            None => (layer.is_listed_again().then(EntryTree::new), None),
        };
        let job = Job { record: layer.has_cache(), resume, ..layer.job() };
        let (layer, ahead, demand) = (layer.clone(), ahead.clone(), Arc::clone(&job.demand));
        let pass = async move {
            let pass = scan(job, Sender { sender, batch: Vec::new(), table });
            let scanned = ahead.beside(layer.index, &demand, pass).await.map_err(|error| {
                // Nothing vouches for what an earlier pass has left.
                if resumed && error.is_corrupt() {
                    layer.forget();
                }
                layer.error(error)
            })?;
            if let Some(table) = scanned.visitor.table {
                layer.keep(table, scanned.pass, scanned.spans);
            }
            Ok(Verification::Blob)
        };
        Self::of(tabled, batches, pass.boxed())
    }

    fn of(
        tabled: Option<Tabled>,
        batches: mpsc::Receiver<Vec<Entry>>,
        pass: BoxFuture<'static, Result<Verification, Error>>,
    ) -> Self {
        let (batch, pass) = (Vec::new().into_iter(), Some(pass));
        Self { tabled, batch, batches, pass, verification: None, error: None, is_from_toc: false }
    }

    /// The next entry, `None` at the end of the layer.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(2)?.entries().await?;
    /// let first = entries.next().await.ok_or("an empty layer")??;
    /// assert_eq!(first.path, b"app");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Entry, Error>> {
        StreamExt::next(self).await
    }

    /// How far the layer was checked, once the stream has ended without an error.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(0)?.entries().await?;
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

    /// Whether they come from a table of contents, and no byte of the layer itself is read for them.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(0)?.entries().await?;
    /// while entries.next().await.is_some() {}
    /// assert!(!entries.is_from_toc(), "the first time it is read");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_from_toc(&self) -> bool {
        self.is_from_toc
    }
}

impl Stream for Entries {
    type Item = Result<Entry, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(tabled) = &mut self.tabled {
            if let Some(record) = tabled.records.next() {
                return Poll::Ready(Some(Ok(tabled.toc.entries.entry(record))));
            }
            self.tabled = None;
        }
        loop {
            if let Some(entry) = self.batch.next() {
                return Poll::Ready(Some(Ok(entry)));
            }
            let received = self.batches.poll_recv(context);
            if let Poll::Ready(Some(batch)) = received {
                self.batch = batch.into_iter();
                continue;
            }
            let Some(pass) = &mut self.pass else {
                // What was sent just before the end or the error was still in the channel.
                ready!(received);
                return Poll::Ready(self.error.take().map(Err));
            };
            match ready!(pass.poll_unpin(context)) {
                Ok(verification) => self.verification = Some(verification),
                Err(error) => self.error = Some(error),
            }
            self.pass = None;
        }
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("verification", &self.verification).finish_non_exhaustive()
    }
}

struct Sender {
    sender: mpsc::Sender<Vec<Entry>>,
    batch: Vec<Entry>,
    table: Option<EntryTree>,
}

impl Visitor for Sender {
    fn entry(&mut self, entry: Entry) -> Result<Want, Error> {
        if let Some(table) = &mut self.table {
            table.insert(&entry)?;
        }
        self.batch.push(entry);
        if self.batch.len() == BATCH {
            self.pause();
        }
        // A closed channel means that the stream was dropped, and with it this pass.
        Ok(if self.sender.is_closed() { Want::Nothing } else { Want::Entries })
    }

    fn pause(&mut self) {
        if !self.batch.is_empty() {
            let _ = self.sender.blocking_send(mem::take(&mut self.batch));
        }
    }
}
