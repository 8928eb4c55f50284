//! The one error that callers see. What went wrong is told by predicates; the message says what was being done, the sources
//! say why it failed.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use crate::{decompress, registry, source, toc};

/// Why a request could not be answered.
///
/// `Display` gives what was being done; [`source`](StdError::source) leads to the cause.
///
/// ```
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = layerslayer::Client::builder().build()?;
/// let image = client.image(&"oci:no/such/layout".parse()?, &Default::default()).await;
/// assert!(image.is_err_and(|error| error.is_no_such_image()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: Kind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What kind of failure it is; one exit code each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Content is not what its digest, checksum or format says.
    Corrupt,
    /// A newer layer removed it.
    Deleted,
    /// No such image, tag or platform.
    NoSuchImage,
    /// A directory, device or pipe where a file was asked for.
    NotAFile,
    /// The image does not hold it.
    NotFound,
    /// Anything else.
    Other,
    /// More bytes would have been fetched than may be.
    OverBudget,
    /// The registry refused.
    Unauthorized,
    /// The registry or the network did not answer.
    Unavailable,
    /// Asked for something that cannot be asked for.
    Usage,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { inner: Box::new(Inner { kind, message: message.into(), source: None }) }
    }

    pub(crate) fn caused(
        kind: Kind,
        message: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self { inner: Box::new(Inner { kind, message: message.into(), source: Some(Arc::new(source)) }) }
    }

    /// The same failure, said of something larger that was being done.
    pub(crate) fn context(self, message: impl Into<String>) -> Self {
        let kind = self.inner.kind;
        Self::caused(kind, message, self)
    }

    /// Whether it failed only because others had the memory that large zstd windows are decoded with.
    pub(crate) fn is_for_want_of_a_window(&self) -> bool {
        let mut cause = self.source();
        while let Some(error) = cause {
            if matches!(error.downcast_ref(), Some(decompress::Error::Busy { .. })) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// The content is corrupt: a digest, checksum, length or format does not hold.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(0)?.entries().await?;
    /// while let Some(entry) = entries.next().await {
    ///     match entry {
    ///         Err(error) if error.is_corrupt() => println!("not to be trusted: {error}"),
    ///         entry => drop(entry?),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        self.inner.kind == Kind::Corrupt
    }

    /// A whiteout, an opaque marker or a non-directory of a newer layer removed the path.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let secret = image.carve("/app/secret").await;
    /// assert!(secret.is_err_and(|error| error.is_deleted()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.inner.kind == Kind::Deleted
    }

    /// There is no such image, tag or platform.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo:none".parse()?, &Default::default()).await;
    /// assert!(image.is_err_and(|error| error.is_no_such_image()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_no_such_image(&self) -> bool {
        self.inner.kind == Kind::NoSuchImage
    }

    /// The image does not hold the path.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let file = image.carve("/nowhere").await;
    /// assert!(file.is_err_and(|error| error.is_not_found()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.inner.kind == Kind::NotFound
    }

    /// More bytes would have been fetched than [`ClientBuilder::max_bytes`](crate::ClientBuilder::max_bytes) allows.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = layerslayer::Client::builder().max_bytes(1 << 20).build()?;
    /// let image = client.image(&"ubuntu:24.04".parse()?, &Default::default()).await?;
    /// match image.carve("/etc/passwd").await {
    ///     Err(error) if error.is_over_budget() => println!("not within 1 MiB: {error}"),
    ///     file => println!("{} bytes", file?.entry().size),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_over_budget(&self) -> bool {
        self.inner.kind == Kind::OverBudget
    }

    /// Authentication or authorisation was refused.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// match client.image(&"registry.example.com/app".parse()?, &Default::default()).await {
    ///     Err(error) if error.is_unauthorized() => println!("log in first: {error}"),
    ///     image => println!("{} layers", image?.layers().len()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        self.inner.kind == Kind::Unauthorized
    }

    /// The registry or the network was unavailable, after retries.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// match client.image(&"registry.example.com/app".parse()?, &Default::default()).await {
    ///     Err(error) if error.is_unavailable() => println!("try again later: {error}"),
    ///     image => println!("{} layers", image?.layers().len()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.inner.kind == Kind::Unavailable
    }

    /// The request itself makes no sense, such as a layer that the image does not have.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// assert!(image.layer(7).is_err_and(|error| error.is_usage()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_usage(&self) -> bool {
        self.inner.kind == Kind::Usage
    }

    /// There is something at the path, but no file.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let directory = image.carve("/etc").await;
    /// assert!(directory.is_err_and(|error| error.is_wrong_kind()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_wrong_kind(&self) -> bool {
        self.inner.kind == Kind::NotAFile
    }
}

impl From<registry::Error> for Error {
    /// The registry's own message says what was being done, to whom and what to try.
    fn from(error: registry::Error) -> Self {
        let kind = match error.kind() {
            registry::Kind::BlobUnknown | registry::Kind::Corrupt => Kind::Corrupt,
            registry::Kind::ManifestUnknown => Kind::NoSuchImage,
            registry::Kind::Other => Kind::Other,
            registry::Kind::OverBudget => Kind::OverBudget,
            registry::Kind::Unauthorized => Kind::Unauthorized,
            registry::Kind::Unavailable => Kind::Unavailable,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<source::Error> for Error {
    fn from(error: source::Error) -> Self {
        match error {
            source::Error::Io { path, source } => {
                let missing = matches!(source.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound);
                let kind = if missing { Kind::NoSuchImage } else { Kind::Other };
                Self::caused(kind, format!("reading {path}"), source)
            }
            source::Error::Local { .. } => Self::new(Kind::Corrupt, error.to_string()),
            source::Error::Registry(error) => error.into(),
            source::Error::Spool { name, directory, source } => {
                let message = format!("copying {name} to a temporary file in {directory}");
                Self::caused(Kind::Other, message, source)
            }
            source::Error::Unusable { .. } => Self::new(Kind::Other, error.to_string()),
        }
    }
}

impl From<toc::entries::Error> for Error {
    fn from(error: toc::entries::Error) -> Self {
        Self::caused(Kind::Other, "listing the layer", error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Error");
        text.field("kind", &self.inner.kind).field("message", &self.inner.message);
        text.field("source", &self.inner.source).finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::offset::Compressed;

    #[test]
    fn the_want_of_a_window_is_known_however_deep_it_lies() {
        let waited = Duration::from_secs(1);
        let busy = || Error::from(decompress::Error::Busy { at: Compressed(0), window: 1 << 27, waited });
        assert!(busy().is_for_want_of_a_window());
        assert!(busy().context("reading layer 0").is_for_want_of_a_window());
        let cut = decompress::Error::Truncated { at: Compressed(0), within: "a frame" };
        assert!(!Error::from(cut).is_for_want_of_a_window());
        assert!(!Error::new(Kind::Other, "busy").is_for_want_of_a_window());
    }
}
