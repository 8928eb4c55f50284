//! Errors about stored credentials.

use std::fmt;

/// Why a credential could not be read or stored. The message names the location and the remedy. It never contains a secret, nor
/// any output of a helper or content of a file.
///
/// ```
/// let error = "no host!".parse::<layerslayer::RegistryKey>().unwrap_err();
/// assert!(!error.is_unavailable());
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CredentialError {
    kind: Kind,
    message: Box<str>,
}

/// What the failure means to the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The store needs a passphrase, or the given one is wrong.
    #[cfg(feature = "stores")]
    Locked,
    /// Anything else: damaged, unreadable, not trustworthy.
    Other,
    /// The prompt for a passphrase failed or was cancelled.
    Prompt,
    /// The location cannot be written by its nature.
    ReadOnly,
    /// The location exists but does not answer in time.
    TimedOut,
    /// The location does not exist on this machine.
    Unavailable,
    /// An argument or an environment variable is invalid.
    Usage,
}

impl CredentialError {
    pub(crate) fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self { kind, message: message.to_string().into() }
    }

    #[cfg(feature = "stores")]
    pub(crate) fn locked(message: impl fmt::Display) -> Self {
        Self::new(Kind::Locked, message)
    }

    /// Prefixes the message.
    #[cfg(feature = "stores")]
    pub(crate) fn with_context(self, context: impl fmt::Display) -> Self {
        Self::new(self.kind, format_args!("{context}: {}", self.message))
    }

    /// An error of a [`CredentialProvider`](crate::CredentialProvider) or a [`CredentialStore`](crate::CredentialStore).
    ///
    /// ```
    /// let error = layerslayer::CredentialError::other("the vault is sealed");
    /// assert_eq!(error.to_string(), "the vault is sealed");
    /// ```
    #[must_use]
    pub fn other(message: impl fmt::Display) -> Self {
        Self::new(Kind::Other, message)
    }

    /// Appends the file that names the helper.
    pub(crate) fn named_in(self, place: &str) -> Self {
        let kind = if self.is_timeout() { Kind::TimedOut } else { Kind::Unavailable };
        Self::new(kind, format_args!("{}, named in {place}", self.message))
    }

    pub(crate) fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The prompt for a passphrase failed or was cancelled.
    ///
    /// ```
    /// let error = layerslayer::CredentialError::from_prompt("interrupted");
    /// assert!(error.is_locked());
    /// ```
    #[must_use]
    pub fn from_prompt(problem: impl fmt::Display) -> Self {
        Self::new(Kind::Prompt, problem)
    }

    /// Whether no passphrase could be obtained, or it was wrong.
    #[cfg(feature = "stores")]
    pub(crate) fn lacks_passphrase(&self) -> bool {
        self.kind == Kind::Locked
    }

    /// Whether the location did not answer in time.
    pub(crate) fn is_timeout(&self) -> bool {
        self.kind == Kind::TimedOut
    }

    /// Whether a passphrase is missing or wrong.
    ///
    /// ```
    /// assert!(layerslayer::CredentialError::from_prompt("nothing was typed").is_locked());
    /// ```
    #[must_use]
    pub fn is_locked(&self) -> bool {
        #[cfg(feature = "stores")]
        if self.kind == Kind::Locked {
            return true;
        }
        self.kind == Kind::Prompt
    }

    /// Whether the location cannot be written by its nature, such as the environment.
    ///
    /// ```
    /// assert!(!layerslayer::CredentialError::from_prompt("nothing was typed").is_read_only());
    /// ```
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.kind == Kind::ReadOnly
    }

    /// Whether the location does not exist on this machine, or does not answer.
    ///
    /// ```
    /// assert!(!layerslayer::CredentialError::from_prompt("nothing was typed").is_unavailable());
    /// ```
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        matches!(self.kind, Kind::TimedOut | Kind::Unavailable)
    }

    /// Whether an argument or an environment variable is invalid.
    ///
    /// ```
    /// assert!("no host!".parse::<layerslayer::RegistryKey>().unwrap_err().is_usage());
    /// ```
    #[must_use]
    pub fn is_usage(&self) -> bool {
        self.kind == Kind::Usage
    }
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// The message includes the cause, so none is exposed as a source.
impl std::error::Error for CredentialError {}
