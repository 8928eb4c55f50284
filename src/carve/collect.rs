//! Several files at once: directories, patterns, many paths.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    ops::Range,
};

use futures_util::FutureExt as _;
use globset::GlobSet;

use super::{
    CarveOptions, File, Hunting, Located, Outcome, candidates,
    candidates::Candidates,
    fetch::Fetch,
    file::Found,
    hunt::{Extent, Query, stack},
    is_unproved, rests_on,
    sink::{Sink, Store},
    spool::Spooled,
};
use crate::{
    error::{Error, Kind},
    image::{
        Image,
        rootfs::{Content, Resolution, Stack},
    },
    layer::{
        Plan, Verification,
        known::{Known, verification},
        scan::Reading,
    },
    tar::entry::{Entry, EntryKind},
};

/// What to collect from an image.
///
/// ```
/// use layerslayer::Selection;
///
/// let paths = Selection::paths(["/etc/passwd", "/usr/share/doc/"]);
/// let globs = Selection::globs(["etc/*.conf", "**/passwd"])?;
/// # let _ = (paths, globs);
/// # Ok::<(), layerslayer::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Selection {
    kind: SelectionKind,
}

#[derive(Clone, Debug)]
enum SelectionKind {
    Globs(GlobSet),
    Paths(Vec<Vec<u8>>),
}

impl Selection {
    /// These paths, taken literally; a directory stands for all that is below it.
    ///
    /// ```
    /// let selection = layerslayer::Selection::paths(["/etc/passwd", "/usr/share/doc"]);
    /// # let _ = selection;
    /// ```
    pub fn paths<P: AsRef<[u8]>>(paths: impl IntoIterator<Item = P>) -> Self {
        let paths = paths.into_iter().map(|path| path.as_ref().to_vec()).collect();
        Self { kind: SelectionKind::Paths(paths) }
    }

    /// All that matches one of these patterns, and all below a directory that does. `*` and `?` do not match `/`, `**` does;
    /// a leading `/` is of no account. Links are not followed.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] for a malformed pattern.
    ///
    /// ```
    /// use layerslayer::Selection;
    ///
    /// assert!(Selection::globs(["etc/*.conf", "**/passwd"]).is_ok());
    /// assert!(Selection::globs(["etc/{"]).is_err_and(|error| error.is_usage()));
    /// ```
    pub fn globs<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        Ok(Self { kind: SelectionKind::Globs(candidates::compile(patterns)?) })
    }

    fn targets(&self) -> &[Vec<u8>] {
        match &self.kind {
            SelectionKind::Globs(_) => &[],
            SelectionKind::Paths(paths) => paths,
        }
    }

    fn candidates(&self) -> Candidates {
        match &self.kind {
            SelectionKind::Globs(globs) => Candidates::Matching(globs.clone()),
            SelectionKind::Paths(paths) => {
                Candidates::Below(paths.iter().map(|path| crate::tar::normalise(path)).collect())
            }
        }
    }

    /// Whether it is a single path.
    pub(super) fn is_one_path(&self) -> bool {
        matches!(&self.kind, SelectionKind::Paths(paths) if paths.len() == 1)
    }
}

/// What was collected: items parents first, and the content of their files in a temporary file.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// use layerslayer::{CarveOptions, Selection};
///
/// let found = image.collect(&Selection::paths(["/etc"]), &CarveOptions::default()).await?;
/// for item in found.items() {
///     let mut content = Vec::new();
///     std::io::Read::read_to_end(&mut found.open(item), &mut content)?;
///     println!("{} {}", item.path.escape_ascii(), content.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Collection {
    items: Vec<Item>,
    failures: Vec<(Vec<u8>, Error)>,
    outcome: Outcome,
    content: Spooled,
    traces: Vec<(usize, Vec<String>)>,
}

/// One entry of a [`Collection`].
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// # let selection = layerslayer::Selection::paths(["/etc"]);
/// let found = image.collect(&selection, &Default::default()).await?;
/// for item in found.items() {
///     println!("{:?} {} from layer {}", item.entry.kind, item.path.escape_ascii(), item.layer);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Item {
    /// Its path in the image as it was asked for: the name of a link that was followed, not what it led to.
    pub path: Vec<u8>,
    /// What it is; of a hard link, what it links to.
    pub entry: Entry,
    /// The layer that holds its name, 0 = base.
    pub layer: usize,
    /// An earlier item with the very same content, because both are names of one file.
    pub hardlink_to: Option<Vec<u8>>,
    /// Which of the paths that were asked for it belongs to; 0 for patterns.
    pub requested: usize,
    range: Range<u64>,
}

impl Collection {
    /// The items, parents before what is below them.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let selection = layerslayer::Selection::paths(["/etc/passwd", "/nowhere"]);
    /// let found = image.collect(&selection, &Default::default()).await?;
    /// assert_eq!(found.items()[0].path, b"etc/passwd");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The paths that could not be collected, and why.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let selection = layerslayer::Selection::paths(["/etc/passwd", "/nowhere"]);
    /// let found = image.collect(&selection, &Default::default()).await?;
    /// let (path, error) = &found.failures()[0];
    /// assert_eq!(path, b"/nowhere");
    /// assert!(error.is_not_found());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn failures(&self) -> &[(Vec<u8>, Error)] {
        &self.failures
    }

    /// How far the whole can be relied on.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let selection = layerslayer::Selection::paths(["/etc/passwd", "/nowhere"]);
    /// let found = image.collect(&selection, &Default::default()).await?;
    /// assert_eq!(found.outcome().verification, layerslayer::Verification::Blob);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What decided the answer for each requested path that was found, in words.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let selection = layerslayer::Selection::paths(["/etc/passwd", "/nowhere"]);
    /// let found = image.collect(&selection, &Default::default()).await?;
    /// for (requested, steps) in found.traces() {
    ///     println!("path {requested}: {}", steps.join(", "));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn traces(&self) -> impl Iterator<Item = (usize, &[String])> {
        self.traces.iter().map(|(requested, trace)| (*requested, trace.as_slice()))
    }

    /// The content of an item; empty for all but files.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let selection = layerslayer::Selection::paths(["/etc/passwd", "/nowhere"]);
    /// let found = image.collect(&selection, &Default::default()).await?;
    /// let mut content = String::new();
    /// std::io::Read::read_to_string(&mut found.open(&found.items()[0]), &mut content)?;
    /// assert!(content.starts_with("root:"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(&self, item: &Item) -> impl io::Read + Send + use<> {
        self.content.reader(item.range.clone())
    }

    /// The file that a single path led to.
    pub(super) fn into_only_file(mut self) -> Result<File, Error> {
        if let Some((_, error)) = self.failures.pop() {
            return Err(error);
        }
        let Some(item) = self.items.first() else {
            return Err(Error::new(Kind::NotFound, "nothing was found"));
        };
        if item.entry.kind != EntryKind::File {
            let what = super::describe(item.entry.kind);
            return Err(Error::new(Kind::NotAFile, format!("/{} is {what}", super::display(&item.path))));
        }
        let trace = self.traces.pop().map(|(_, trace)| trace).unwrap_or_default();
        let found = Found { entry: item.entry.clone(), layer: item.layer, trace };
        Ok(File::spooled(found, self.content.reader(item.range.clone()), self.outcome))
    }
}

impl Image {
    /// Collects several files, directories with all below them, or all that matches patterns. Nothing is given before
    /// everything has been read; what could not be found is told beside what was.
    ///
    /// # Errors
    ///
    /// What reading a layer gives, as for [`Image::carve_with`]. A path that is not there is no error but one of
    /// [`Collection::failures`]; patterns that match nothing give an empty collection.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{CarveOptions, Selection};
    ///
    /// let found = image.collect(&Selection::globs(["etc/*"])?, &CarveOptions::default()).await?;
    /// assert_eq!(found.items().len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn collect(&self, selection: &Selection, options: &CarveOptions) -> Result<Collection, Error> {
        if let Some(layer) = options.layer {
            self.layer(layer)?;
        }
        self.configured(self.collect_all(selection, *options).boxed()).await
    }

    async fn collect_all(&self, selection: &Selection, options: CarveOptions) -> Result<Collection, Error> {
        let (mut store, mut hunted) = (Store::new()?, Vec::new());
        let (ahead, ahead_whole) =
            (self.ahead(Reading::Growing, options), self.ahead(Reading::Whole, options));
        while let Some((layer, whole)) = self.unread(selection, options) {
            let learn = self.layer(layer)?.learn(options.least).boxed();
            if ahead.meanwhile(ahead_whole.meanwhile(learn)).await? {
                continue;
            }
            let again = hunted.contains(&layer);
            hunted.push(layer);
            let extent = match options.extent() {
                Extent::Answered if whole || again => Extent::Whole,
                extent => extent,
            };
            let (known, candidates) = (self.known(), selection.candidates());
            let query =
                Query { paths: selection.targets(), candidates, options: options.resolution(), extent };
            let Hunting { pass, demand, resumed } = self.hunt(known, layer, query, Sink::Spool(store))?;
            // Where one layer is read to its end for what it lists, so are all.
            let ahead = if whole { &ahead_whole } else { &ahead };
            let passed = ahead.beside(layer, &demand, pass).await;
            store = match passed {
                Ok((sink, _)) => spooled(sink)?,
                // Nothing vouches for what an earlier pass has left. All is read once more.
                Err(error) if resumed && error.is_corrupt() => {
                    self.layer(layer)?.forget();
                    Store::new()?
                }
                Err(error) => return Err(error),
            };
        }
        // What was begun of other layers is not polled any more, and must hold nothing that others need.
        drop((ahead, ahead_whole));
        let known = self.known();
        let mut listing = Listing::default();
        self.list(&stack(&known), selection, options, &mut listing)?;
        let (refetched, plan) = self.fetch_missing(&known, &mut store, &listing, options).await?;
        let rest = rests_on(&known, listing.oldest, options);
        let (verification, is_unproved) = (verification(rest).min(refetched), is_unproved(rest));
        if !listing.failures.is_empty() {
            self.warn_of_unproved(rest);
        }
        let outcome = Outcome { verification, is_final: listing.certain && !is_unproved, plan };
        let Store { ranges, spool, .. } = *store;
        let content = spool.finish().map_err(super::sink::spool_error)?;
        let items = listing.items.into_iter().map(|(mut item, content)| {
            if let Some(range) = content.and_then(|content| ranges.get(&content)) {
                item.range = range.clone();
            }
            item
        });
        let items = items.collect();
        Ok(Collection { items, failures: listing.failures, outcome, content, traces: listing.traces })
    }

    /// A layer that has to be read before everything can be listed, and whether it has to be read to its end.
    pub(super) fn unread(&self, selection: &Selection, options: CarveOptions) -> Option<(usize, bool)> {
        let known = self.known();
        let stack = stack(&known);
        let asked = |layer: &usize| options.layer.is_none_or(|only| only == *layer);
        let least = options.least;
        let unproved = |layer: &usize| match known.get(*layer) {
            None | Some(Known::Nothing(_)) => false,
            Some(known) => !known.is_known(least),
        };
        if let Some(layer) = (0..known.len()).filter(asked).find(unproved).filter(|_| options.verifies()) {
            return Some((layer, true));
        }
        let newest_incomplete = || {
            let mut layers = (0..known.len()).rev().filter(asked);
            layers.find(|layer| known.get(*layer).is_some_and(|known| !known.is_known(least)))
        };
        let SelectionKind::Paths(paths) = &selection.kind else {
            return newest_incomplete().map(|layer| (layer, true));
        };
        let mut directory = false;
        for path in paths {
            match stack.resolve(path, options.resolution()).0 {
                Resolution::NeedMore { layer } => return Some((layer, false)),
                Resolution::Found { content, .. } => {
                    directory |= stack.kind(content) == EntryKind::Directory;
                }
                _ => {}
            }
        }
        if directory { newest_incomplete().map(|layer| (layer, true)) } else { None }
    }

    pub(super) fn list(
        &self,
        stack: &Stack<'_>,
        selection: &Selection,
        options: CarveOptions,
        listing: &mut Listing,
    ) -> Result<(), Error> {
        // One layer alone is a stack of one.
        let only = options.layer.and_then(|layer| stack.layer(layer)).map(|table| Stack::new([table]));
        let view = View { stack: only.as_ref().unwrap_or(stack), first: options.layer.unwrap_or(0) };
        match &selection.kind {
            SelectionKind::Globs(globs) => {
                listing.asks(Some(0));
                for node in view.stack.merged() {
                    if candidates::matches_or_below(globs, &node.path) {
                        let path = node.path.clone();
                        view.push(listing, &node, path, 0);
                    }
                }
            }
            SelectionKind::Paths(paths) => {
                for (requested, path) in paths.iter().enumerate() {
                    let (resolution, trace) = stack.resolve(path, options.resolution());
                    listing.asks(trace.oldest);
                    let (Located { found, content }, certain) =
                        match self.located(stack, path, resolution, &trace) {
                            Ok(located) => located,
                            Err(error) => {
                                listing.failures.push((path.clone(), error));
                                continue;
                            }
                        };
                    listing.certain &= certain;
                    let asked = crate::tar::normalise(path);
                    if found.entry.kind == EntryKind::Directory {
                        listing.asks(Some(0));
                        let physical = found.entry.path.clone();
                        for node in view.stack.subtree(&physical) {
                            let below = node.path.get(physical.len()..).unwrap_or_default();
                            let path = [asked.as_slice(), below].concat();
                            let path = path.strip_prefix(b"/").map(<[u8]>::to_vec).unwrap_or(path);
                            view.push(listing, &node, path, requested);
                        }
                    } else {
                        listing.push(found.entry, found.layer, Some(content), asked, requested);
                    }
                    listing.traces.push((requested, found.trace));
                }
            }
        }
        Ok(())
    }

    /// Reads layers again for content that streamed past before it was known to be wanted.
    async fn fetch_missing(
        &self,
        known: &[Known],
        store: &mut Box<Store>,
        listing: &Listing,
        options: CarveOptions,
    ) -> Result<(Verification, Plan), Error> {
        let mut missing: BTreeMap<usize, HashMap<_, _>> = BTreeMap::new();
        for (item, content) in &listing.items {
            let Some(content) = *content else { continue };
            let Some(of) = known.get(content.layer) else { return Err(self.lost(content)) };
            if item.entry.kind == EntryKind::File && !store.ranges.contains_key(&content) {
                let offset = of.table().header_offset(content.record);
                missing.entry(content.layer).or_default().insert(offset, content);
            }
        }
        let (mut weakest, mut plan) = (Verification::Blob, Plan::Scan);
        for (layer, wanted) in missing {
            let Some(of) = known.get(layer) else { continue };
            let records = wanted.values().map(|content| content.record).collect();
            let taken = std::mem::replace(store, Store::new()?);
            let fetch = Fetch::new(wanted, options.extent(), Sink::Spool(taken));
            let (sink, level, how) = self.fetched(layer, of, records, fetch, options)?.await?;
            *store = spooled(sink)?;
            weakest = weakest.min(level);
            plan = how;
        }
        Ok((weakest, plan))
    }
}

fn spooled(sink: Sink) -> Result<Box<Store>, Error> {
    match sink {
        Sink::Spool(store) => Ok(store),
        Sink::Stream(_) => {
            Err(Error::new(Kind::Other, "content went to another place than a temporary file"))
        }
    }
}

/// Items while they are being listed.
pub(super) struct Listing {
    pub(super) items: Vec<(Item, Option<Content>)>,
    pub(super) failures: Vec<(Vec<u8>, Error)>,
    traces: Vec<(usize, Vec<String>)>,
    first_names: HashMap<Content, Vec<u8>>,
    certain: bool,
    /// The oldest layer that was asked for any of them.
    oldest: Option<usize>,
}

impl Default for Listing {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            failures: Vec::new(),
            traces: Vec::new(),
            first_names: HashMap::new(),
            certain: true,
            oldest: None,
        }
    }
}

impl Listing {
    fn asks(&mut self, oldest: Option<usize>) {
        self.oldest = self.oldest.into_iter().chain(oldest).min();
    }

    fn push(
        &mut self,
        entry: Entry,
        layer: usize,
        content: Option<Content>,
        path: Vec<u8>,
        requested: usize,
    ) {
        let mut hardlink_to = None;
        if let (EntryKind::File, Some(content)) = (entry.kind, content) {
            hardlink_to = self.first_names.get(&content).cloned();
            self.first_names.entry(content).or_insert_with(|| path.clone());
        }
        let item = Item { path, entry, layer, hardlink_to, requested, range: 0..0 };
        self.items.push((item, content));
    }
}

/// A stack that may be one layer of a larger one.
struct View<'s, 'a> {
    stack: &'s Stack<'a>,
    first: usize,
}

impl View<'_, '_> {
    fn push(
        &self,
        listing: &mut Listing,
        node: &crate::image::rootfs::Node,
        path: Vec<u8>,
        requested: usize,
    ) {
        let place = node.content.unwrap_or(Content { layer: node.layer, record: node.record });
        let Some(table) = self.stack.layer(place.layer) else { return };
        let entry = Entry { path: node.path.clone(), ..table.entry(place.record) };
        let content = node.content.map(|content| Content { layer: content.layer + self.first, ..content });
        listing.push(entry, node.layer + self.first, content, path, requested);
    }
}
