//! `peek`: what an image holds.

use futures_util::FutureExt as _;

use crate::{
    error::Error,
    image::{Image, rootfs::Stack},
    layer::{
        Layer, Verification,
        known::{Known, verification},
    },
    tar::entry::Entry,
};

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
    layers: Vec<Known>,
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
        let stack = Stack::new(self.layers.iter().map(Known::table));
        for node in stack.merged() {
            let Some(table) = stack.layer(node.layer) else { continue };
            let entry = Entry { path: node.path, ..table.entry(node.record) };
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
        self.layers.iter().all(|layer| !layer.is_known(Verification::Blob))
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
    /// Reads all layers and merges them into what a container would see.
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
        self.rootfs_with(Verification::None).await
    }

    /// Like [`Image::rootfs`], with nothing in it that is vouched for by less than `least`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::Verification;
    ///
    /// let rootfs = image.rootfs_with(Verification::Blob).await?;
    /// assert_eq!(rootfs.verification(), Verification::Blob);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Image::rootfs`].
    pub async fn rootfs_with(&self, least: Verification) -> Result<Rootfs, Error> {
        self.configured(self.merged(least)).await
    }

    async fn merged(&self, least: Verification) -> Result<Rootfs, Error> {
        let ahead = self.whole_ahead(least);
        for layer in self.layers() {
            while !layer.known().is_known(least) {
                if ahead.meanwhile(layer.learn(least).boxed()).await? {
                    continue;
                }
                layer.read_whole(&ahead).await?;
            }
        }
        Ok(Rootfs { layers: self.layers().iter().map(Layer::known).collect() })
    }
}

impl std::fmt::Debug for Rootfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rootfs").field("layers", &self.layers.len()).finish_non_exhaustive()
    }
}
