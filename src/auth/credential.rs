//! A secret for one registry.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::{Zeroize as _, Zeroizing};

use super::error::CredentialError;

/// How messages name a credential without a source.
const NO_SOURCE: &str = "the caller";

/// A secret for one registry and where it came from. Its `Debug` output shows the source only, never the secret.
///
/// ```
/// use layerslayer::Credential;
///
/// let credential = Credential::basic("me", "secret");
/// assert!(!format!("{credential:?}").contains("secret"));
/// ```
#[derive(Clone)]
pub struct Credential {
    pub(crate) secret: Secret,
    source: Option<Arc<str>>,
    /// Found by a provider rather than given for this use.
    is_stored: bool,
    token_server: Option<String>,
    expires: Option<Timestamp>,
    token_store: Option<Arc<dyn TokenStore>>,
}

/// The store of an identity token, which its token server may replace on each use.
pub(crate) trait TokenStore: Send + Sync {
    /// Waits until no other process refreshes the token, then reads it. Blocks.
    fn lease(&self) -> Result<Box<dyn RefreshLease>, CredentialError>;
}

/// The exclusive right to use and replace an identity token, until dropped.
pub(crate) trait RefreshLease: Send + Sync {
    /// The stored token; `None` if it has been removed.
    fn credential(&self) -> Option<&Credential>;

    /// Stores a new token. Blocks.
    fn replace(&self, token: &SecretString) -> Result<(), CredentialError>;

    /// Removes the token, which is no longer valid. Blocks.
    fn remove(&self) -> Result<(), CredentialError>;
}

/// The kind of secret that a credential holds.
///
/// ```
/// use layerslayer::{Credential, CredentialKind};
///
/// let credential = Credential::basic("me", "secret");
/// assert_eq!(credential.kind(), CredentialKind::Password);
/// assert_eq!(credential.kind().to_string(), "password");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum CredentialKind {
    /// A refresh token for the registry's token server (docker's `identitytoken`).
    IdentityToken,
    /// A user name with a password or personal access token.
    Password,
    /// A bearer token for the registry itself (docker's `registrytoken`).
    RegistryToken,
}

impl CredentialKind {
    /// All kinds, in docker's order of preference.
    pub(crate) const ALL: [Self; 3] = [Self::RegistryToken, Self::IdentityToken, Self::Password];

    /// The kind's name in files and output.
    ///
    /// ```
    /// assert_eq!(layerslayer::CredentialKind::IdentityToken.as_str(), "identity-token");
    /// ```
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IdentityToken => "identity-token",
            Self::Password => "password",
            Self::RegistryToken => "registry-token",
        }
    }

    #[cfg(feature = "stores")]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The secret, by how it is used.
#[derive(Clone)]
pub(crate) enum Secret {
    /// Sent as Basic authentication to the registry or its token server.
    Basic { username: String, password: SecretString },
    /// A refresh token, sent to the token server only (docker's `identitytoken`). The user name may be empty.
    Identity { username: String, token: SecretString },
    /// A bearer token for the registry (docker's `registrytoken`).
    Registry { token: SecretString },
}

impl Credential {
    /// A user name and password. A password given with [`ClientBuilder::credential`](crate::ClientBuilder::credential) is never
    /// left out of a request, unlike one that a [`CredentialProvider`](crate::CredentialProvider) finds.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", "secret");
    /// assert_eq!(credential.username(), "me");
    /// ```
    #[must_use]
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::new(Secret::Basic { username: username.into(), password: protect(password.into()) })
    }

    /// A refresh token for the registry's token server, with its user name, which may be empty.
    ///
    /// ```
    /// use layerslayer::{Credential, CredentialKind};
    ///
    /// let credential = Credential::identity_token("", "refresh");
    /// assert_eq!(credential.kind(), CredentialKind::IdentityToken);
    /// ```
    #[must_use]
    pub fn identity_token(username: impl Into<String>, token: impl Into<String>) -> Self {
        Self::new(Secret::Identity { username: username.into(), token: protect(token.into()) })
    }

    /// A bearer token for the registry itself.
    ///
    /// ```
    /// use layerslayer::{Credential, CredentialKind};
    ///
    /// assert_eq!(Credential::registry_token("bearer").kind(), CredentialKind::RegistryToken);
    /// ```
    #[must_use]
    pub fn registry_token(token: impl Into<String>) -> Self {
        Self::new(Secret::Registry { token: protect(token.into()) })
    }

    pub(crate) fn new(secret: Secret) -> Self {
        Self { secret, source: None, is_stored: false, token_server: None, expires: None, token_store: None }
    }

    /// Names where the credential came from, for messages: `the vault`, `config.json at PATH`.
    ///
    /// ```
    /// let credential = layerslayer::Credential::basic("me", "secret").with_source("the vault");
    /// assert_eq!(credential.source(), "the vault");
    /// ```
    #[must_use]
    pub fn with_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// Restricts the credential to one token server, given as a URL without a query.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", "secret");
    /// let pinned = credential.pinned_to(Some("https://auth.example.com/token".into()));
    /// assert_eq!(pinned.token_server(), Some("https://auth.example.com/token"));
    /// ```
    #[must_use]
    pub fn pinned_to(mut self, token_server: Option<String>) -> Self {
        self.token_server = token_server;
        self
    }

    /// Sets when the credential expires.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", "secret").expiring(Some(std::time::SystemTime::UNIX_EPOCH));
    /// assert_eq!(credential.expires(), Some(std::time::SystemTime::UNIX_EPOCH));
    /// ```
    #[must_use]
    pub fn expiring(mut self, expires: Option<std::time::SystemTime>) -> Self {
        self.expires = expires.and_then(|time| Timestamp::try_from(time).ok());
        self
    }

    /// The user name; may be empty.
    ///
    /// ```
    /// assert_eq!(layerslayer::Credential::basic("me", "secret").username(), "me");
    /// ```
    #[must_use]
    pub fn username(&self) -> &str {
        match &self.secret {
            Secret::Basic { username, .. } | Secret::Identity { username, .. } => username,
            Secret::Registry { .. } => "",
        }
    }

    /// The password or token itself.
    ///
    /// ```
    /// assert_eq!(layerslayer::Credential::basic("me", "secret").expose_secret(), "secret");
    /// ```
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        self.secret().expose_secret()
    }

    pub(crate) fn secret(&self) -> &SecretString {
        match &self.secret {
            Secret::Basic { password, .. } => password,
            Secret::Identity { token, .. } | Secret::Registry { token } => token,
        }
    }

    /// The kind of secret.
    ///
    /// ```
    /// use layerslayer::{Credential, CredentialKind};
    ///
    /// assert_eq!(Credential::basic("me", "secret").kind(), CredentialKind::Password);
    /// ```
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        match &self.secret {
            Secret::Basic { .. } => CredentialKind::Password,
            Secret::Identity { .. } => CredentialKind::IdentityToken,
            Secret::Registry { .. } => CredentialKind::RegistryToken,
        }
    }

    /// The only token server that may receive the credential, if it is pinned.
    ///
    /// ```
    /// assert_eq!(layerslayer::Credential::basic("me", "secret").token_server(), None);
    /// ```
    #[must_use]
    pub fn token_server(&self) -> Option<&str> {
        self.token_server.as_deref()
    }

    /// When the credential expires, if known.
    ///
    /// ```
    /// assert_eq!(layerslayer::Credential::basic("me", "secret").expires(), None);
    /// ```
    #[must_use]
    pub fn expires(&self) -> Option<std::time::SystemTime> {
        self.expires.map(Into::into)
    }

    /// Whether both have the same kind, user name, secret and token server, whatever their sources.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", "secret");
    /// assert!(credential.is_same(&Credential::basic("me", "secret")));
    /// assert!(!credential.is_same(&Credential::basic("you", "secret")));
    /// ```
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.kind() == other.kind()
            && self.username() == other.username()
            && self.expose_secret() == other.expose_secret()
            && self.token_server == other.token_server
    }

    /// Where the credential came from, for messages: `config.json at PATH`, `the keyring`.
    ///
    /// ```
    /// assert_eq!(layerslayer::Credential::basic("me", "secret").source(), "the caller");
    /// ```
    #[must_use]
    pub fn source(&self) -> &str {
        self.source.as_deref().unwrap_or(NO_SOURCE)
    }

    /// Marks it as found by a provider: if a public image rejects it, the request is retried anonymously.
    pub(crate) fn stored(mut self) -> Self {
        self.is_stored = true;
        self
    }

    /// Whether it was found by a provider rather than given for this use.
    pub(crate) fn is_stored(&self) -> bool {
        self.is_stored
    }

    #[cfg(feature = "stores")]
    pub(crate) fn of_kind(kind: CredentialKind, username: String, text: SecretString) -> Self {
        Self::new(match kind {
            CredentialKind::IdentityToken => Secret::Identity { username, token: text },
            CredentialKind::Password => Secret::Basic { username, password: text },
            CredentialKind::RegistryToken => Secret::Registry { token: text },
        })
    }

    /// Sets the store to update when the token server replaces the token.
    #[cfg(feature = "stores")]
    pub(crate) fn with_token_store(mut self, store: Arc<dyn TokenStore>) -> Self {
        self.token_store = Some(store);
        self
    }

    pub(crate) fn token_store(&self) -> Option<&Arc<dyn TokenStore>> {
        self.token_store.as_ref()
    }

    /// The expiry, as stores write it.
    #[cfg(feature = "stores")]
    pub(crate) fn expiry(&self) -> Option<Timestamp> {
        self.expires
    }

    #[cfg(feature = "stores")]
    pub(crate) fn with_expiry(mut self, expires: Option<Timestamp>) -> Self {
        self.expires = expires;
        self
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("source", &self.source()).finish_non_exhaustive()
    }
}

/// Moves a text into a type that cannot be printed, and wipes it.
pub(crate) fn protect(mut text: String) -> SecretString {
    let secret = SecretString::from(text.as_str());
    text.zeroize();
    secret
}

/// The part of a Basic `Authorization` header after the scheme (RFC 7617).
pub(crate) fn encoded(username: &str, password: &SecretString) -> SecretString {
    let pair = Zeroizing::new(format!("{username}:{}", password.expose_secret()));
    STANDARD.encode(pair.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_source_of_a_credential_and_no_secret() {
        let credential = Credential::identity_token("", "hush").with_source("config.json at /d");
        let shown = format!("{credential:?}");
        assert!(shown.contains("config.json at /d") && !shown.contains("hush"), "{shown}");
        let shown = format!("{:?}", Credential::basic("me", "hush"));
        assert!(shown.contains("the caller") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn user_and_password_are_encoded_as_in_rfc_7617() {
        let password = String::from("open sesame").into();
        assert_eq!(encoded("Aladdin", &password).expose_secret(), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
