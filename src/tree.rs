//! The merged tree: what a container would see, as an immutable value.
//!
//! ```text
//! TOCs of all layers ─▶ merged listing (depth first, by name) ─▶ Tree ─▶ TreeEntry: children, inode, links, change
//! ```

use std::{collections::HashMap, fmt, ops::Range};

use crate::{
    error::Error,
    image::{
        Image,
        rootfs::{Content, Stack},
    },
    layer::toc_state::{TocState, verification},
    peek::PeekOptions,
    read::verification::Verification,
    tar::entry::EntryKind,
    toc::entries::components,
};

mod change;
mod entry;

pub use self::{change::Change, entry::TreeEntry};

/// The root is the first node.
const ROOT: u32 = 0;

/// What a container would see of an image: immutable, with stable inode numbers. Names are bytes.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
/// let tree = image.tree().await?;
/// let passwd = tree.get("/etc/passwd").ok_or("no such file")?;
/// assert_eq!((passwd.name(), passwd.layer()), (&b"passwd"[..], 1));
/// assert!(tree.get("/app/secret").is_none(), "the newest layer deletes it");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tree {
    layers: Vec<TocState>,
    /// Depth first, siblings sorted by the bytes of their names.
    nodes: Vec<Node>,
    /// The children of each directory, together and sorted by name.
    children: Vec<u32>,
    /// The names of a file with several names: the first of them, and how many there are.
    links: HashMap<Content, Links>,
}

/// One entry of the tree. Its name and metadata are in the TOC of its layer.
#[derive(Clone, Copy)]
struct Node {
    layer: u32,
    record: u32,
    /// What a hard link leads to; the entry itself for all else.
    content_layer: u32,
    content_record: u32,
    parent: u32,
    first_child: u32,
    child_count: u32,
}

#[derive(Clone, Copy)]
struct Links {
    first: u32,
    count: u32,
}

impl Image {
    /// The merged tree of the image, from cached TOCs where there are any. Layers without one are read.
    ///
    /// # Errors
    ///
    /// Those of [`Image::rootfs`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// let names: Vec<_> = tree.root().children().map(|child| child.name().to_vec()).collect();
    /// assert_eq!(names, [&b"app"[..], b"bin", b"etc", b"usr"]);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn tree(&self) -> Result<Tree, Error> {
        self.tree_with(&PeekOptions::default()).await
    }

    /// Like [`Image::tree`], with options.
    ///
    /// # Errors
    ///
    /// Those of [`Image::rootfs`].
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// use layerslayer::{PeekOptions, Verification};
    ///
    /// let options = PeekOptions::default().min_verification(Verification::Blob);
    /// assert_eq!(image.tree_with(&options).await?.verification(), Verification::Blob);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn tree_with(&self, options: &PeekOptions) -> Result<Tree, Error> {
        let layers = self.rootfs_with(options).await?.into_states();
        let pool = std::sync::Arc::clone(&self.inner.pool);
        pool.spawn(async move { Ok(Tree::new(layers)) })?.await
    }
}

impl Tree {
    fn new(layers: Vec<TocState>) -> Self {
        let stack = Stack::new(layers.iter().map(TocState::tree));
        let mut nodes = vec![Node::root()];
        // The open directories: their nodes, and the length of their paths.
        let mut open: Vec<(u32, usize)> = vec![(ROOT, 0)];
        for merged in stack.merged() {
            let index = nodes.len() as u32;
            let content = merged.content.unwrap_or(Content { layer: merged.layer, record: merged.record });
            let mut node = Node {
                layer: merged.layer as u32,
                record: merged.record,
                content_layer: content.layer as u32,
                content_record: content.record,
                parent: ROOT,
                first_child: 0,
                child_count: 0,
            };
            if merged.path.is_empty() {
                if let Some(root) = nodes.first_mut() {
                    *root = node;
                }
                continue;
            }
            let parent_length = merged.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            while open.len() > 1 && open.last().is_some_and(|(_, length)| *length != parent_length) {
                open.pop();
            }
            node.parent = open.last().map_or(ROOT, |(node, _)| *node);
            if let Some(parent) = nodes.get_mut(node.parent as usize) {
                parent.child_count += 1;
            }
            if merged.kind == EntryKind::Directory {
                open.push((index, merged.path.len()));
            }
            nodes.push(node);
        }
        let children = index_children(&mut nodes);
        let links = count_links(&nodes);
        Self { layers, nodes, children, links }
    }

    /// The root directory.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!((tree.root().inode(), tree.root().path()), (1, Vec::new()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn root(&self) -> TreeEntry<'_> {
        TreeEntry::new(self, ROOT)
    }

    /// The entry at a path, taken literally: symbolic links are not followed.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// assert_eq!(tree.get("etc/app.conf").map(|entry| entry.link().to_vec()), Some(b"/app/app.conf".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<TreeEntry<'_>> {
        components(path.as_ref()).try_fold(self.root(), |entry, name| entry.child(name))
    }

    /// The entry with this inode number; for a file with several names, the first of them.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let tree = image.tree().await?;
    /// let inode = tree.get("etc/passwd").ok_or("no such file")?.inode();
    /// assert_eq!(tree.inode(inode).map(|entry| entry.path()), Some(b"etc/passwd".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn inode(&self, inode: u64) -> Option<TreeEntry<'_>> {
        let index = u32::try_from(inode.checked_sub(1)?).ok()?;
        self.nodes.get(index as usize).map(|_| TreeEntry::new(self, index))
    }

    /// All entries but the root, parents first, siblings sorted by the bytes of their names.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// for entry in image.tree().await?.entries() {
    ///     println!("{}", entry.path().escape_ascii());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn entries(&self) -> impl Iterator<Item = TreeEntry<'_>> {
        (ROOT + 1..self.nodes.len() as u32).map(|index| TreeEntry::new(self, index))
    }

    /// How far the tree is verified: the weakest of all layers.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// # let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert_eq!(image.tree().await?.verification(), layerslayer::Verification::Blob);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn verification(&self) -> Verification {
        verification(&self.layers)
    }

    fn node(&self, index: u32) -> Node {
        self.nodes.get(index as usize).copied().unwrap_or(Node::root())
    }

    fn children_of(&self, index: u32) -> &[u32] {
        let node = self.node(index);
        let start = node.first_child as usize;
        let range: Range<usize> = start..start.saturating_add(node.child_count as usize);
        self.children.get(range).unwrap_or_default()
    }

    fn links_of(&self, index: u32) -> Option<Links> {
        self.links.get(&self.node(index).content()).copied()
    }
}

impl Node {
    fn root() -> Self {
        Self {
            layer: 0,
            record: 0,
            content_layer: 0,
            content_record: 0,
            parent: ROOT,
            first_child: 0,
            child_count: 0,
        }
    }

    fn content(self) -> Content {
        Content { layer: self.content_layer as usize, record: self.content_record }
    }

    fn own(self) -> Content {
        Content { layer: self.layer as usize, record: self.record }
    }
}

/// Lists the children of each directory, in the order of the nodes.
fn index_children(nodes: &mut [Node]) -> Vec<u32> {
    let mut next = 0;
    let mut starts = Vec::with_capacity(nodes.len());
    for node in nodes.iter_mut() {
        node.first_child = next;
        starts.push(next);
        next += node.child_count;
    }
    let mut children = vec![0; next as usize];
    for (index, node) in nodes.iter().enumerate().skip(1) {
        if let Some(start) = starts.get_mut(node.parent as usize)
            && let Some(place) = children.get_mut(*start as usize)
        {
            *place = index as u32;
            *start += 1;
        }
    }
    children
}

/// Counts the names of files that have several.
fn count_links(nodes: &[Node]) -> HashMap<Content, Links> {
    let linked = nodes.iter().filter(|node| node.own() != node.content()).map(|node| node.content());
    let mut links: HashMap<Content, Links> =
        linked.map(|content| (content, Links { first: ROOT, count: 0 })).collect();
    if links.is_empty() {
        return links;
    }
    for (index, node) in nodes.iter().enumerate() {
        if let Some(links) = links.get_mut(&node.content()) {
            if links.count == 0 {
                links.first = index as u32;
            }
            links.count += 1;
        }
    }
    links
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("entries", &self.nodes.len()).finish_non_exhaustive()
    }
}
