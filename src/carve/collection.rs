//! Several files that were found, with their content.

use std::{io, ops::Range};

use super::{
    File, Outcome,
    answer::{describe, display},
    file::FoundFile,
    spool::SpoolReader,
};
use crate::{
    error::{Error, Kind},
    tar::entry::{Entry, EntryKind},
};

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
    pub(super) items: Vec<Item>,
    pub(super) failures: Vec<(Vec<u8>, Error)>,
    pub(super) outcome: Outcome,
    pub(super) content: SpoolReader,
    pub(super) traces: Vec<(usize, Vec<String>)>,
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
    /// Its path in the image as it was requested: the name of a link that was followed, not its target.
    pub path: Vec<u8>,
    /// What it is; of a hard link, what it links to.
    pub entry: Entry,
    /// The layer that holds its name, 0 = base.
    pub layer: usize,
    /// An earlier item with the very same content, because both are names of one file.
    pub hardlink_to: Option<Vec<u8>>,
    /// Which of the requested paths it belongs to; 0 for patterns.
    pub requested: usize,
    /// Its content in the collection's temporary file.
    pub(super) range: Range<u64>,
}

impl Collection {
    /// The items, parents first.
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
            let what = describe(item.entry.kind);
            return Err(Error::new(Kind::NotAFile, format!("/{} is {what}", display(&item.path))));
        }
        let trace = self.traces.pop().map(|(_, trace)| trace).unwrap_or_default();
        let found = FoundFile { entry: item.entry.clone(), layer: item.layer, trace };
        Ok(File::spooled(found, self.content.reader(item.range.clone()), self.outcome))
    }
}
