//! What can go wrong with a cache.

use std::{error::Error as StdError, fmt, io, path::Path};

/// Why a cache cannot be used. Says which directory or setting it is about and what mends it;
/// [`source`](StdError::source) leads to the cause.
///
/// ```
/// use layerslayer::{Cache, CacheOptions};
///
/// let error = Cache::open(&CacheOptions::new("/dev/null/cache")).unwrap_err();
/// assert!(!error.is_setting() && error.to_string().contains("/dev/null/cache"));
/// ```
#[derive(Debug)]
pub struct CacheError {
    kind: Kind,
    message: String,
    source: Option<io::Error>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Io,
    Refused,
    Setting,
}

impl CacheError {
    pub(super) fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        Self { kind: Kind::Io, message: format!("{doing} {}", path.display()), source: Some(source) }
    }

    #[cfg(feature = "object-store")]
    pub(super) fn caused(doing: &str, source: io::Error) -> Self {
        Self { kind: Kind::Io, message: doing.to_owned(), source: Some(source) }
    }

    pub(super) fn refused(message: String) -> Self {
        Self { kind: Kind::Refused, message, source: None }
    }

    pub(super) fn homeless(message: String) -> Self {
        Self { kind: Kind::Io, message, source: None }
    }

    /// The same, of something that was named in the settings.
    pub(super) fn of_setting(self) -> Self {
        Self { kind: Kind::Setting, ..self }
    }

    pub(super) fn setting(message: String) -> Self {
        Self { kind: Kind::Setting, message, source: None }
    }

    /// The directory belongs to somebody else, or others may write to it.
    ///
    /// ```
    /// use layerslayer::{Cache, CacheOptions};
    ///
    /// let error = Cache::open(&CacheOptions::new("/dev/null/cache")).unwrap_err();
    /// assert!(!error.is_refused());
    /// ```
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// A setting is malformed or missing.
    ///
    /// ```
    /// use layerslayer::{Cache, CacheOptions};
    ///
    /// let error = Cache::open(&CacheOptions::new("/dev/null/cache")).unwrap_err();
    /// assert!(!error.is_setting());
    /// ```
    #[must_use]
    pub fn is_setting(&self) -> bool {
        self.kind == Kind::Setting
    }
}

/// The error with its cause, in one line.
pub(super) fn told(error: &CacheError) -> String {
    match &error.source {
        Some(source) => format!("{error}: {source}; going on without the cache"),
        None => format!("{error}; going on without the cache"),
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for CacheError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
