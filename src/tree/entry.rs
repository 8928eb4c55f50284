//! One entry of a tree.

use std::fmt;

use super::{
    ROOT, Tree,
    change::{self, Change},
};
use crate::{
    image::rootfs::Stack,
    layer::toc_state::TocState,
    tar::entry::{Entry, EntryKind, Timestamp},
    toc::entries::EntryTree,
};

/// One entry of a [`Tree`]. Metadata of a hard link is that of the file that it leads to.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let client = layerslayer::Client::builder().build()?;
/// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let tree = image.tree().await?;
/// let entry = tree.get("etc/passwd").ok_or("no such file")?;
/// assert_eq!((entry.size(), entry.mode(), entry.link_count()), (63, 0o644, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct TreeEntry<'a> {
    tree: &'a Tree,
    index: u32,
}

impl<'a> TreeEntry<'a> {
    pub(super) fn new(tree: &'a Tree, index: u32) -> Self {
        Self { tree, index }
    }

    /// The last component of its path; empty for the root.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("etc/passwd").ok_or("no such file")?.name(), b"passwd");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        let node = self.tree.node(self.index);
        if self.index == ROOT {
            &[]
        } else {
            self.entries_of(node.layer).map_or(&[], |t| t.name(node.record))
        }
    }

    /// The path from the root, without a leading slash.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("/etc//passwd").ok_or("no such file")?.path(), b"etc/passwd");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let (mut names, mut entry) = (Vec::new(), *self);
        while entry.index != ROOT {
            names.push(entry.name());
            entry = Self::new(self.tree, self.tree.node(entry.index).parent);
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The directory that holds it; the root holds itself.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("etc/passwd").ok_or("no such file")?.parent().name(), b"etc");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn parent(&self) -> Self {
        Self::new(self.tree, self.tree.node(self.index).parent)
    }

    /// What a directory holds, sorted by the bytes of the names.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("etc").ok_or("no such directory")?.children().count(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn children(&self) -> impl Iterator<Item = Self> + use<'a> {
        let tree = self.tree;
        tree.children_of(self.index).iter().map(move |index| Self::new(tree, *index))
    }

    /// The entry of this name in a directory.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert!(tree.root().child(b"etc").is_some());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Option<Self> {
        let children = self.tree.children_of(self.index);
        let place = children.binary_search_by(|index| Self::new(self.tree, *index).name().cmp(name)).ok()?;
        Some(Self::new(self.tree, *children.get(place)?))
    }

    /// The kind of the entry, hard links followed.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.root().kind(), layerslayer::EntryKind::Directory);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn kind(&self) -> EntryKind {
        if self.index == ROOT {
            return EntryKind::Directory;
        }
        let (entries, record) = self.content();
        entries.map_or(EntryKind::Other, |entries| entries.kind(record))
    }

    /// Size of the content in bytes; 0 for all but files.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.tree().await?.root().size(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn size(&self) -> u64 {
        let (entries, record) = self.content();
        entries.map_or(0, |entries| entries.size(record))
    }

    /// Permission bits, `0..=0o7777`.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("etc/passwd").ok_or("no such file")?.mode(), 0o644);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn mode(&self) -> u32 {
        let (entries, record) = self.content();
        entries.map_or(0o755, |entries| entries.mode(record))
    }

    /// Time of the last modification.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// println!("{:?}", tree.get("etc/passwd").ok_or("no such file")?.mtime());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn mtime(&self) -> Timestamp {
        let (entries, record) = self.content();
        entries.map_or_else(Timestamp::default, |entries| entries.mtime(record))
    }

    /// The target of a symbolic link, verbatim; empty for all else.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("etc/app.conf").ok_or("no such link")?.link(), b"/app/app.conf");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn link(&self) -> &'a [u8] {
        let (entries, record) = self.content();
        entries.filter(|entries| entries.kind(record) == EntryKind::Symlink).map_or(&[], |e| e.link(record))
    }

    /// All metadata, with the path of this entry.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("etc/passwd").ok_or("no such file")?.entry().uid, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn entry(&self) -> Entry {
        let (entries, record) = self.content();
        match entries {
            Some(entries) => Entry { path: self.path(), ..entries.entry(record) },
            None => Entry::new(self.path(), EntryKind::Directory),
        }
    }

    /// The layer that holds its name, 0 = base.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("etc/app.conf").ok_or("no such link")?.layer(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn layer(&self) -> usize {
        self.tree.node(self.index).layer as usize
    }

    /// The inode number: a function of the image alone. Names of one file share it; the root has 1.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.tree().await?.root().inode(), 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn inode(&self) -> u64 {
        let first = self.tree.links_of(self.index).map_or(self.index, |links| links.first);
        u64::from(first) + 1
    }

    /// How many names a file has; for a directory, 2 and one for each directory in it.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.tree().await?.root().link_count(), 5);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn link_count(&self) -> u32 {
        if self.kind() == EntryKind::Directory {
            return 2 + self.children().filter(|child| child.kind() == EntryKind::Directory).count() as u32;
        }
        self.tree.links_of(self.index).map_or(1, |links| links.count)
    }

    /// What the layer of this entry did to the path.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("etc/passwd").ok_or("no such file")?.change(), layerslayer::Change::Modified);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn change(&self) -> Change {
        let layers = self.tree.layers.get(..self.layer()).unwrap_or_default();
        let stack = Stack::new(layers.iter().map(TocState::tree));
        let Some((old, _)) = change::below(&stack, &self.path()) else { return Change::Added };
        let (Some(new), Some(old_tree)) = (self.content().0, stack.layer(old.layer)) else {
            return Change::Modified;
        };
        change::compare((new, self.content().1), (old_tree, old.record))
    }

    fn content(&self) -> (Option<&'a EntryTree>, u32) {
        let node = self.tree.node(self.index);
        (self.entries_of(node.content_layer), node.content_record)
    }

    fn entries_of(&self, layer: u32) -> Option<&'a EntryTree> {
        self.tree.layers.get(layer as usize).map(TocState::tree)
    }
}

impl fmt::Debug for TreeEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeEntry").field("path", &self.path().escape_ascii().to_string()).finish()
    }
}
