//! `peek`: what an image holds.

use crate::{
    error::Error,
    image::{Image, rootfs::Stack},
    layer::{
        Layer,
        toc_state::{TocState, verification},
    },
    read::verification::Verification,
    reader::{driver, prefetch::Prefetcher},
    tar::entry::Entry,
};

mod entries;
mod in_turn;
mod options;
pub(crate) mod planned;

pub use self::{entries::Entries, in_turn::LayersInTurn, options::PeekOptions, planned::PlannedRead};

/// The merged view of all layers: what a container would see.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// for found in image.rootfs().await?.entries() {
///     println!("{} from layer {}", String::from_utf8_lossy(&found.entry.path), found.layer);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Rootfs {
    layers: Vec<TocState>,
}

/// One entry of a [`Rootfs`].
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// image.rootfs().await?.visit(|found| {
///     println!("{} {}", found.layer, found.entry.path.escape_ascii());
///     Ok::<(), std::convert::Infallible>(())
/// })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct RootfsEntry {
    /// The entry.
    pub entry: Entry,
    /// The layer that it comes from, 0 = base.
    pub layer: usize,
    /// A directory that no layer has an entry for, but something below it.
    pub implied: bool,
}

impl Rootfs {
    /// Calls `visit` for every entry, parents before what is below them, siblings by the bytes of their names; stops at its
    /// first error. Memory grows with the depth of the tree only.
    ///
    /// # Errors
    ///
    /// What `visit` gives.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut directories = 0;
    /// image.rootfs().await?.visit(|found| {
    ///     directories += usize::from(found.entry.kind == layerslayer::EntryKind::Directory);
    ///     Ok::<(), std::convert::Infallible>(())
    /// })?;
    /// assert_eq!(directories, 4);
    /// # Ok(())
    /// # }
    /// ```
    pub fn visit<E>(&self, mut visit: impl FnMut(RootfsEntry) -> Result<(), E>) -> Result<(), E> {
        let stack = Stack::new(self.layers.iter().map(TocState::tree));
        for node in stack.merged() {
            let Some(tree) = stack.layer(node.layer) else { continue };
            let entry = Entry { path: node.path, ..tree.entry(node.record) };
            visit(RootfsEntry { entry, layer: node.layer, implied: node.implied })?;
        }
        Ok(())
    }

    /// All entries, in the order of [`Rootfs::visit`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let entries = image.rootfs().await?.entries();
    /// assert_eq!(entries[0].entry.path, b"app");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn entries(&self) -> Vec<RootfsEntry> {
        let mut entries = Vec::new();
        let Ok(()) = self.visit(|entry| {
            entries.push(entry);
            Ok::<(), std::convert::Infallible>(())
        });
        entries
    }

    /// Whether all of it comes from tables of contents, and no byte of any layer was read for it.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert!(!image.rootfs().await?.is_from_toc(), "the first time layers are read");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_from_toc(&self) -> bool {
        self.layers.iter().all(|layer| !layer.satisfies(Verification::Blob))
    }

    /// How far the layers were checked.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.rootfs().await?.verification(), layerslayer::Verification::Blob);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn verification(&self) -> Verification {
        verification(&self.layers)
    }
}

impl Image {
    /// Reads all layers and merges them into what a container would see. A layer of another format than tar, as artifacts have, is
    /// left out with a warning.
    ///
    /// # Errors
    ///
    /// What reading a layer gives: [`Error::is_corrupt`], [`Error::is_unavailable`], [`Error::is_unauthorized`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let rootfs = image.rootfs().await?;
    /// // Deleted by the newest layer.
    /// assert!(rootfs.entries().iter().all(|found| found.entry.path != b"app/secret"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn rootfs(&self) -> Result<Rootfs, Error> {
        self.rootfs_with(&PeekOptions::default()).await
    }

    /// Like [`Image::rootfs`], with options.
    ///
    /// # Errors
    ///
    /// See [`Image::rootfs`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{PeekOptions, Verification};
    ///
    /// let options = PeekOptions::default().min_verification(Verification::Blob);
    /// assert_eq!(image.rootfs_with(&options).await?.verification(), Verification::Blob);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn rootfs_with(&self, options: &PeekOptions) -> Result<Rootfs, Error> {
        self.begin_question();
        let min_verification = options.min_verification;
        let prefetcher = driver::prefetch(self.layers(), min_verification, self.inner.parallel_layers);
        let merged = async {
            let mut layers = Vec::with_capacity(self.layers().len());
            for layer in self.layers() {
                match driver::complete(layer, min_verification, &prefetcher).await {
                    // Artifacts have layers of other formats.
                    Err(error) if error.is_not_tar() && !layer.media_type().is_layer() => {
                        let (index, media_type, image) = (layer.index, &layer.media_type, &layer.image);
                        let message = format!(
                            "layer {index} of {image} is not a tar archive ({media_type}) and is left out"
                        );
                        layer.progress.warning(&message);
                        layers.push(TocState::left_out());
                    }
                    completed => {
                        completed?;
                        layers.push(layer.toc.state());
                    }
                }
            }
            Ok(Rootfs { layers })
        };
        self.configured(merged).await
    }

    /// The entries of these layers, one layer after the other. While one layer is read, the next ones are requested.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] for a layer that the image does not have. Other errors are items of the streams.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.layers_in_turn([2, 0], &Default::default())?.count(), 2);
    /// assert!(image.layers_in_turn([3], &Default::default()).is_err_and(|error| error.is_usage()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn layers_in_turn(
        &self,
        layers: impl IntoIterator<Item = usize>,
        options: &PeekOptions,
    ) -> Result<LayersInTurn, Error> {
        let layers = layers.into_iter().map(|index| self.layer(index).cloned());
        Ok(LayersInTurn::new(layers.collect::<Result<_, _>>()?, *options))
    }
}

impl Layer {
    /// The entries of the layer in the order of its tar, whiteouts and opaque markers included. At the end of the stream the
    /// blob's digest and the DiffID have been checked. Errors of the transfer and of the content are items of the stream.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(0)?.entries();
    /// while let Some(entry) = entries.next().await {
    ///     println!("{}", entry?.path.escape_ascii());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn entries(&self) -> Entries {
        self.entries_with(&PeekOptions::default())
    }

    /// Like [`Layer::entries`], with options.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{PeekOptions, Verification};
    ///
    /// let options = PeekOptions::default().min_verification(Verification::Blob);
    /// let mut entries = image.layer(0)?.entries_with(&options);
    /// while entries.next().await.transpose()?.is_some() {}
    /// assert_eq!(entries.verification(), Some(Verification::Blob));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn entries_with(&self, options: &PeekOptions) -> Entries {
        Entries::new(self, *options, &Prefetcher::none())
    }
}

impl Rootfs {
    /// The TOCs of all layers, base first.
    pub(crate) fn into_states(self) -> Vec<TocState> {
        self.layers
    }
}

impl std::fmt::Debug for Rootfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rootfs").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}
