//! `scan`: one pass over the layers of an image, with the content of the files that a filter selects.
//!
//! ```text
//! layer ─▶ pass ─▶ filter: Skip | Stat | Read ─▶ Found { entry, layer, content: bounded stream } ─▶ caller
//! ```
//!
//! A scan always reads the layers' own tars, never a publisher's TOC: that may leave out what a runtime unpacks.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, Stream, StreamExt};
use tokio::sync::mpsc;

use crate::{
    error::Error, image::Image, layer::Layer, oci::digest::Digest, read::task::Task, tar::entry::Entry,
};

mod cache;
mod content;
mod pass;

use self::pass::{ScanPass, Visibility};
pub use self::{cache::ScanCache, content::ScanContent};

/// Entries waiting for the caller.
const FOUND: usize = 64;

/// What to do with an entry.
///
/// ```
/// # use layerslayer::{Entry, EntryKind, ScanAction};
/// let only_small_files = |entry: &Entry, _layer: usize| match entry.kind {
///     EntryKind::File if entry.size < 1 << 20 => ScanAction::Read,
///     _ => ScanAction::Skip,
/// };
/// # let _ = only_small_files;
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ScanAction {
    /// The entry is given with its content.
    Read,
    /// The entry is not given.
    Skip,
    /// The entry is given without content.
    Stat,
}

/// What to scan, and how.
///
/// ```
/// let options = layerslayer::ScanOptions::each_layer().parallel(2);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct ScanOptions {
    layers: Option<Vec<usize>>,
    is_merged: bool,
    parallel: usize,
}

impl ScanOptions {
    /// Everything that each layer ships, base first: also what newer layers delete or replace. Whiteouts are entries.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{ScanAction, ScanOptions};
    ///
    /// let mut scan = image.scan(ScanOptions::each_layer()).filter(|_, _| ScanAction::Stat);
    /// let mut paths = Vec::new();
    /// while let Some(found) = scan.next().await {
    ///     paths.push(found?.entry.path);
    /// }
    /// assert!(paths.contains(&b"app/secret".to_vec()), "a newer layer deletes it");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn each_layer() -> Self {
        Self { layers: None, is_merged: false, parallel: 1 }
    }

    /// What a container would see, newest layer first. Every layer is read once.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{ScanAction, ScanOptions};
    ///
    /// let mut scan = image.scan(ScanOptions::merged()).filter(|_, _| ScanAction::Stat);
    /// while let Some(found) = scan.next().await {
    ///     assert_ne!(found?.entry.path, b"app/secret");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn merged() -> Self {
        Self { is_merged: true, ..Self::each_layer() }
    }

    /// Scans only these layers, 0 = base.
    ///
    /// ```
    /// let options = layerslayer::ScanOptions::each_layer().layers([2, 0]);
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn layers(mut self, layers: impl IntoIterator<Item = usize>) -> Self {
        self.layers = Some(layers.into_iter().collect());
        self
    }

    /// Reads up to this many layers at a time, at least one. Entries of different layers then alternate. A merged scan reads one layer
    /// at a time: what is visible in it depends on those above.
    ///
    /// ```
    /// let options = layerslayer::ScanOptions::each_layer().parallel(4);
    /// # let _ = options;
    /// ```
    #[must_use]
    pub fn parallel(mut self, layers: usize) -> Self {
        self.parallel = layers.max(1);
        self
    }
}

/// An entry that a scan has found.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let mut scan = image.scan(layerslayer::ScanOptions::each_layer());
/// let found = scan.next().await.ok_or("an empty image")??;
/// assert_eq!((found.layer, &found.layer_digest), (0, image.layer(0)?.digest()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Found {
    /// The entry, as in the tar of its layer; a whiteout is of kind [`EntryKind::Whiteout`](crate::EntryKind::Whiteout).
    pub entry: Entry,
    /// The layer that holds it, 0 = base.
    pub layer: usize,
    /// The digest of that layer.
    pub layer_digest: Digest,
    /// The content, where the filter has answered [`ScanAction::Read`] for a file.
    pub content: Option<ScanContent>,
}

type Filter = Arc<dyn Fn(&Entry, usize) -> ScanAction + Send + Sync>;

/// A scan: a [`Stream`] of `Result<Found, Error>`. Dropping it ends all transfers. A slow caller slows the scan down; memory does not
/// grow. Content that is not read to its end is skipped.
///
/// At the end of the stream each layer that was read to its end has matched its digest and DiffID.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use layerslayer::{EntryKind, ScanAction, ScanOptions};
///
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let mut scan = image.scan(ScanOptions::each_layer()).filter(|entry, _layer| match entry.kind {
///     EntryKind::File => ScanAction::Read,
///     _ => ScanAction::Skip,
/// });
/// while let Some(found) = scan.next().await {
///     let mut found = found?;
///     if let Some(content) = &mut found.content {
///         println!("{}: {} bytes", found.entry.path.escape_ascii(), content.read_to_end(1 << 20).await?.len());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Scan {
    image: Image,
    options: ScanOptions,
    filter: Filter,
    state: State,
}

enum State {
    Ended,
    Running { found: mpsc::Receiver<Found>, passes: Task<()> },
    Waiting,
}

impl Image {
    /// Scans the layers: see [`Scan`]. Without a [`Scan::filter`] all entries are given without content.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut scan = image.scan(layerslayer::ScanOptions::merged());
    /// while let Some(found) = scan.next().await {
    ///     println!("{}", found?.entry.path.escape_ascii());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn scan(&self, options: ScanOptions) -> Scan {
        self.begin_question();
        let filter: Filter = Arc::new(|_, _| ScanAction::Stat);
        Scan { image: self.clone(), options, filter, state: State::Waiting }
    }
}

impl Scan {
    /// Decides what to do with each entry of a layer, before its content is unpacked. It runs on the worker pool and must not block.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{ScanAction, ScanOptions};
    ///
    /// let base = |_: &_, layer| if layer == 0 { ScanAction::Stat } else { ScanAction::Skip };
    /// let mut scan = image.scan(ScanOptions::each_layer()).filter(base);
    /// while let Some(found) = scan.next().await {
    ///     assert_eq!(found?.layer, 0);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn filter(mut self, filter: impl Fn(&Entry, usize) -> ScanAction + Send + Sync + 'static) -> Self {
        self.filter = Arc::new(filter);
        self
    }

    /// The next entry, `None` at the end.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut scan = image.scan(layerslayer::ScanOptions::each_layer());
    /// assert!(scan.next().await.transpose()?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Option<Result<Found, Error>> {
        StreamExt::next(self).await
    }

    /// Calls `work` with each entry, and waits for it.
    ///
    /// # Errors
    ///
    /// The first error of the scan or of `work`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// image
    ///     .scan(layerslayer::ScanOptions::each_layer())
    ///     .for_each(|found| async move {
    ///         println!("{}", found.entry.path.escape_ascii());
    ///         Ok(())
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn for_each<F, W>(mut self, mut work: F) -> Result<(), Error>
    where
        F: FnMut(Found) -> W + Send,
        W: Future<Output = Result<(), Error>> + Send,
    {
        while let Some(found) = self.next().await {
            work(found?).await?;
        }
        Ok(())
    }

    fn start(&self) -> State {
        let (sender, found) = mpsc::channel(FOUND);
        let (image, options, filter) = (self.image.clone(), self.options.clone(), Arc::clone(&self.filter));
        State::Running { found, passes: Task::spawn(run(image, options, filter, sender)) }
    }
}

/// Reads the layers, up to as many at a time as the options allow.
async fn run(
    image: Image,
    options: ScanOptions,
    filter: Filter,
    sender: mpsc::Sender<Found>,
) -> Result<(), Error> {
    image.config().await?;
    let all = || (0..image.layers().len()).collect();
    let mut indices: Vec<usize> = options.layers.clone().unwrap_or_else(all);
    let mut visibility = options.is_merged.then(Visibility::default);
    if options.is_merged {
        indices.sort_unstable();
        indices.reverse();
    }
    let layers: Vec<Layer> =
        indices.into_iter().map(|index| image.layer(index).cloned()).collect::<Result<_, _>>()?;
    let parallel = if options.is_merged { 1 } else { options.parallel };
    let mut running: VecDeque<Task<ScanPass>> = VecDeque::new();
    for layer in layers {
        if running.len() >= parallel
            && let Some(oldest) = running.pop_front()
        {
            let ended = oldest.await?;
            if let Some(visibility) = &mut visibility {
                visibility.add(ended);
            }
        }
        let pass = ScanPass::new(layer, Arc::clone(&filter), sender.clone(), visibility.clone());
        running.push_back(Task::spawn(pass.run()));
    }
    for pass in running {
        pass.await?;
    }
    Ok(())
}

impl Stream for Scan {
    type Item = Result<Found, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let State::Waiting = self.state {
            self.state = self.start();
        }
        let State::Running { found, passes } = &mut self.state else { return Poll::Ready(None) };
        // The channel closes when all passes have ended.
        if let Some(found) = ready!(found.poll_recv(context)) {
            return Poll::Ready(Some(Ok(found)));
        }
        let ended = ready!(passes.poll_unpin(context));
        self.state = State::Ended;
        Poll::Ready(ended.err().map(Err))
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("options", &self.options).finish_non_exhaustive()
    }
}
