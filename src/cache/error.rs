//! Errors of the cache.

use std::{error::Error as StdError, fmt, io, path::Path};

/// A cache cannot be used. The message names the directory or setting and the remedy; [`source`](StdError::source) is the
/// cause.
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
    pub(super) fn io(operation: &str, path: &Path, source: io::Error) -> Self {
        Self { kind: Kind::Io, message: format!("{operation} {}", path.display()), source: Some(source) }
    }

    #[cfg(feature = "object-store")]
    pub(super) fn caused(operation: &str, source: io::Error) -> Self {
        Self { kind: Kind::Io, message: operation.to_owned(), source: Some(source) }
    }

    pub(super) fn refused(message: String) -> Self {
        Self { kind: Kind::Refused, message, source: None }
    }

    pub(super) fn homeless(message: String) -> Self {
        Self { kind: Kind::Io, message, source: None }
    }

    /// The same error, attributed to a setting.
    pub(super) fn of_setting(self) -> Self {
        Self { kind: Kind::Setting, ..self }
    }

    pub(super) fn setting(message: String) -> Self {
        Self { kind: Kind::Setting, message, source: None }
    }

    /// The directory belongs to another user, or other users may write to it.
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

/// Formats the error and its cause in one line.
pub(super) fn describe(error: &CacheError) -> String {
    match &error.source {
        Some(source) => format!("{error}: {source}; continuing without the cache"),
        None => format!("{error}; continuing without the cache"),
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
