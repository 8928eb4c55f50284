//! What can go wrong with credentials that are kept somewhere.

use std::fmt;

/// Why credentials could not be read or stored. The message says where, and what mends it; it never holds a secret, and nothing
/// of what a helper or a file said.
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

/// What the failure means to whoever asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Whoever was asked for a passphrase gave none that counts.
    Asked,
    /// It cannot be opened for want of a passphrase, or with the one that was given.
    #[cfg(feature = "stores")]
    Locked,
    /// Anything else: damaged, not to be read, not to be trusted.
    Other,
    /// It cannot be written by its nature.
    ReadOnly,
    /// There is no such place on this machine, or it does not answer.
    Unavailable,
    /// What was asked for, or set in the environment, makes no sense.
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

    /// The same, saying before it what that means.
    #[cfg(feature = "stores")]
    pub(crate) fn about(self, meaning: impl fmt::Display) -> Self {
        Self::new(self.kind, format_args!("{meaning}: {}", self.message))
    }

    pub(crate) fn other(message: impl fmt::Display) -> Self {
        Self::new(Kind::Other, message)
    }

    pub(crate) fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Why whoever was asked for a passphrase gave none.
    ///
    /// ```
    /// let error = layerslayer::CredentialError::from_prompt("interrupted");
    /// assert!(error.is_locked());
    /// ```
    #[must_use]
    pub fn from_prompt(problem: impl fmt::Display) -> Self {
        Self::new(Kind::Asked, problem)
    }

    /// Nobody could be asked for a passphrase, or it was wrong.
    #[cfg(feature = "stores")]
    pub(crate) fn is_without_passphrase(&self) -> bool {
        self.kind == Kind::Locked
    }

    /// A passphrase is missing or wrong.
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
        self.kind == Kind::Asked
    }

    /// The place cannot be written to by its nature, such as the environment.
    ///
    /// ```
    /// assert!(!layerslayer::CredentialError::from_prompt("nothing was typed").is_read_only());
    /// ```
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.kind == Kind::ReadOnly
    }

    /// There is no such place on this machine, or it does not answer.
    ///
    /// ```
    /// assert!(!layerslayer::CredentialError::from_prompt("nothing was typed").is_unavailable());
    /// ```
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// What was asked for, or is set in the environment, makes no sense.
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

// Causes are told in the message; none is exposed as a source.
impl std::error::Error for CredentialError {}
