//! The one error that callers see. Predicates tell failures apart; the message names the operation, the sources the causes.

use std::{error::Error as StdError, fmt, io, sync::Arc, time::Duration};

use crate::{decompress, hint::Hint, registry, source, tar, toc};

/// Why a question could not be answered.
///
/// `Display` names the operation that failed; [`source`](StdError::source) leads to the cause, which `Display` does not repeat.
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
    hint: Option<Hint>,
    status: Option<u16>,
    retry_after: Option<Duration>,
}

/// What kind of failure it is; each has an exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Content is not what its digest, checksum or format says.
    Corrupt,
    /// A newer layer removed the path.
    Deleted,
    /// No such image, tag or platform.
    NoSuchImage,
    /// A directory, device or pipe where a file was requested.
    NotAFile,
    /// The image does not contain the path.
    NotFound,
    /// Anything else.
    Other,
    /// The limit on transferred bytes was reached.
    OverBudget,
    /// The time limit of the question was reached.
    TimedOut,
    /// The registry refused access.
    Unauthorized,
    /// The registry or the network did not respond.
    Unavailable,
    /// Invalid argument, such as a layer index out of range.
    Usage,
}

impl Error {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        let (source, hint, status, retry_after) = (None, None, None, None);
        Self { inner: Box::new(Inner { kind, message: message.into(), source, hint, status, retry_after }) }
    }

    pub(crate) fn caused(
        kind: Kind,
        message: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        let mut error = Self::new(kind, message);
        error.inner.source = Some(Arc::new(source));
        error
    }

    /// The same failure with what the user can do about it.
    pub(crate) fn with_hint(mut self, hint: Hint) -> Self {
        self.inner.hint = Some(hint);
        self
    }

    /// The same failure as the cause of a larger operation's.
    pub(crate) fn context(self, message: impl Into<String>) -> Self {
        let kind = self.inner.kind;
        Self::caused(kind, message, self)
    }

    /// Whether it failed only because other decoders had the memory for large zstd windows.
    pub(crate) fn is_window_busy(&self) -> bool {
        let is_busy = |error: &(dyn StdError + 'static)| {
            matches!(error.downcast_ref(), Some(decompress::Error::Busy { .. })).then_some(())
        };
        self.first_of(is_busy).is_some()
    }

    /// The first answer along the chain: this error, then its causes.
    fn first_of<'a, T>(&'a self, find: impl Fn(&'a (dyn StdError + 'static)) -> Option<T>) -> Option<T> {
        std::iter::successors(Some(self as &(dyn StdError + 'static)), |&error| error.source()).find_map(find)
    }

    /// The same of this error's own fields.
    fn first_set<'a, T>(&'a self, field: impl Fn(&'a Inner) -> Option<T>) -> Option<T> {
        self.first_of(|error| error.downcast_ref::<Self>().and_then(|error| field(&error.inner)))
    }

    /// What the user can do about the failure, if anything is known.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use layerslayer::Hint;
    /// # let client = layerslayer::Client::builder().build()?;
    /// if let Err(error) = client.image(&"registry.example.com/app".parse()?, &Default::default()).await {
    ///     match error.hint() {
    ///         Some(Hint::LogIn { registry }) => println!("{error}; log in to {registry} first"),
    ///         Some(hint) => println!("{error}; {hint}"),
    ///         None => println!("{error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn hint(&self) -> Option<&Hint> {
        self.first_set(|inner| inner.hint.as_ref())
    }

    /// How long the server asked to wait, if it did and the wait was longer than is waited for.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// if let Err(error) = client.image(&"nginx:alpine".parse()?, &Default::default()).await
    ///     && let Some(wait) = error.retry_after()
    /// {
    ///     println!("come back in {} s", wait.as_secs());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.first_set(|inner| inner.retry_after)
    }

    /// The HTTP status that a server sent, if the failure is about one.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// match client.image(&"nginx:alpine".parse()?, &Default::default()).await {
    ///     Err(error) if error.status() == Some(429) => println!("rate limit: {error}"),
    ///     image => println!("{} layers", image?.layers().len()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.first_set(|inner| inner.status)
    }

    /// Whether a layer failed only because it has another format than tar.
    pub(crate) fn is_not_tar(&self) -> bool {
        let is_not_tar = |error: &(dyn StdError + 'static)| {
            error.downcast_ref().is_some_and(tar::Error::is_not_tar).then_some(())
        };
        self.first_of(is_not_tar).is_some()
    }

    /// The content is corrupt: a digest, checksum, length or format does not hold.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let client = layerslayer::Client::builder().build()?;
    /// let image = client.image(&"oci:fixtures/demo".parse()?, &Default::default()).await?;
    /// let mut entries = image.layer(0)?.entries();
    /// while let Some(entry) = entries.next().await {
    ///     match entry {
    ///         Err(error) if error.is_corrupt() => println!("do not trust it: {error}"),
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

    /// The image does not contain the path.
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

    /// The limit on transferred bytes, [`ClientBuilder::max_bytes`](crate::ClientBuilder::max_bytes), was reached.
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

    /// The time limit, [`ClientBuilder::timeout`](crate::ClientBuilder::timeout), was reached.
    ///
    /// ```no_run
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// let client = layerslayer::Client::builder().timeout(Duration::from_secs(10)).build()?;
    /// match client.image(&"ubuntu:24.04".parse()?, &Default::default()).await {
    ///     Err(error) if error.is_timed_out() => println!("not within 10 s: {error}"),
    ///     image => println!("{} layers", image?.layers().len()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        self.inner.kind == Kind::TimedOut
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

    /// Invalid argument, such as the index of a layer that the image does not have.
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

    /// The path exists, but is not a file.
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
    fn from(error: registry::Error) -> Self {
        let kind = match error.kind() {
            registry::Kind::BlobUnknown | registry::Kind::Corrupt => Kind::Corrupt,
            registry::Kind::ManifestUnknown => Kind::NoSuchImage,
            registry::Kind::Other => Kind::Other,
            registry::Kind::OverBudget => Kind::OverBudget,
            registry::Kind::TimedOut => Kind::TimedOut,
            registry::Kind::Unauthorized => Kind::Unauthorized,
            registry::Kind::Unavailable => Kind::Unavailable,
        };
        Self {
            inner: Box::new(Inner {
                kind,
                message: error.to_string(),
                source: error.cause().map(|cause| Arc::new(cause) as _),
                hint: error.to_hint(),
                status: error.status(),
                retry_after: error.retry_after(),
            }),
        }
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
        let source = self.inner.source.as_deref()?;
        // The message includes a failed transfer's own text already: its cause is next.
        match source.downcast_ref::<registry::TransferError>() {
            Some(transfer) => transfer.source(),
            None => Some(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::offset::Compressed;

    #[test]
    fn a_busy_window_is_recognised_at_any_depth() {
        let waited = Duration::from_secs(1);
        let busy = || Error::from(decompress::Error::Busy { at: Compressed(0), window: 1 << 27, waited });
        assert!(busy().is_window_busy());
        assert!(busy().context("reading layer 0").is_window_busy());
        let cut = decompress::Error::Truncated { at: Compressed(0), within: "a frame" };
        assert!(!Error::from(cut).is_window_busy());
        assert!(!Error::new(Kind::Other, "busy").is_window_busy());
    }

    #[test]
    fn context_keeps_hint_status_and_wait() {
        let mut error = Error::new(Kind::Unavailable, "fetching").with_hint(Hint::RetryLater);
        error.inner.status = Some(429);
        error.inner.retry_after = Some(Duration::from_secs(90));
        let error = error.context("reading layer 0").context("carving");
        assert_eq!(error.hint(), Some(&Hint::RetryLater));
        assert_eq!((error.status(), error.retry_after()), (Some(429), Some(Duration::from_secs(90))));
        assert!(error.is_unavailable());
        assert_eq!(Error::new(Kind::Other, "plain").hint(), None);
    }
}
