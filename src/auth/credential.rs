//! Who we say we are to a registry.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::error::CredentialError;

/// A secret for one registry, and where it came from. Cannot be printed: `Debug` shows its origin alone.
///
/// ```
/// use layerslayer::Credential;
///
/// let credential = Credential::basic("me", String::from("secret").into());
/// assert!(!format!("{credential:?}").contains("secret"));
/// ```
#[derive(Clone)]
pub struct Credential {
    pub(crate) secret: Secret,
    origin: Origin,
    token_server: Option<String>,
    expires: Option<Timestamp>,
    keeper: Option<Arc<dyn Keeper>>,
}

/// Where an identity token is kept that a token server may replace at any time.
pub(crate) trait Keeper: Send + Sync {
    /// Waits until no other process renews it; then tells what is kept now. Blocks.
    fn begin(&self) -> Result<Box<dyn Lease>, CredentialError>;
}

/// The right to use and to replace an identity token, until it is dropped.
pub(crate) trait Lease: Send + Sync {
    /// What is kept now; `None` if it has been removed.
    fn credential(&self) -> Option<&Credential>;

    /// Keeps this token from now on. Blocks.
    fn replace(&self, token: &SecretString) -> Result<(), CredentialError>;

    /// Removes it: it is good for nothing any more. Blocks.
    fn remove(&self) -> Result<(), CredentialError>;
}

/// What kind of secret a credential holds.
///
/// ```
/// use layerslayer::{Credential, CredentialKind};
///
/// let credential = Credential::basic("me", String::from("secret").into());
/// assert_eq!(credential.kind(), CredentialKind::Password);
/// assert_eq!(credential.kind().to_string(), "password");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum CredentialKind {
    /// A refresh token for the registry's token server (docker's `identitytoken`).
    IdentityToken,
    /// User name and password, or a personal access token in its place.
    Password,
    /// A ready token for the registry itself (docker's `registrytoken`).
    RegistryToken,
}

impl CredentialKind {
    /// Every kind, in the order in which docker prefers them.
    pub(crate) const ALL: [Self; 3] = [Self::RegistryToken, Self::IdentityToken, Self::Password];

    /// The kind's name in files and in what people see.
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

    /// The kind of this name.
    #[cfg(feature = "stores")]
    pub(crate) fn named(name: &str) -> Option<Self> {
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
    /// User name and password: sent as Basic to the registry, or to its token server.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// A refresh token, for the token server alone (docker's `identitytoken`).
    Identity {
        /// User name that was stored beside it; may be empty.
        username: String,
        /// The refresh token.
        token: SecretString,
    },
    /// A ready token for the registry (docker's `registrytoken`).
    Registry {
        /// The bearer token.
        token: SecretString,
    },
}

#[derive(Clone)]
enum Origin {
    Explicit,
    Stored(String),
}

impl Credential {
    /// A user name and a password given for this very use: unlike one found in a file it is never left out of a request
    /// because the registry refuses it.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// assert!(!format!("{credential:?}").contains("secret"));
    /// ```
    #[must_use]
    pub fn basic(username: impl Into<String>, password: SecretString) -> Self {
        Self::new(Secret::Basic { username: username.into(), password })
    }

    /// A refresh token for the registry's token server, and the user name that goes with it, which may be empty.
    ///
    /// ```
    /// use layerslayer::{Credential, CredentialKind};
    ///
    /// let credential = Credential::identity_token("", String::from("refresh").into());
    /// assert_eq!(credential.kind(), CredentialKind::IdentityToken);
    /// ```
    #[must_use]
    pub fn identity_token(username: impl Into<String>, token: SecretString) -> Self {
        Self::new(Secret::Identity { username: username.into(), token })
    }

    pub(crate) fn new(secret: Secret) -> Self {
        Self { secret, origin: Origin::Explicit, token_server: None, expires: None, keeper: None }
    }

    /// The same, to be shown to this token server alone: an address without its query.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// let pinned = credential.pinned_to(Some("https://auth.example.com/token".into()));
    /// assert_eq!(pinned.token_server(), Some("https://auth.example.com/token"));
    /// ```
    #[must_use]
    pub fn pinned_to(mut self, token_server: Option<String>) -> Self {
        self.token_server = token_server;
        self
    }

    /// The same, known to expire then.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// let credential = credential.expiring(Some(std::time::SystemTime::UNIX_EPOCH));
    /// assert_eq!(credential.expires(), Some(std::time::SystemTime::UNIX_EPOCH));
    /// ```
    #[must_use]
    pub fn expiring(mut self, expires: Option<std::time::SystemTime>) -> Self {
        self.expires = expires.and_then(|time| Timestamp::try_from(time).ok());
        self
    }

    /// The user name; empty where the secret alone says who it is.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// assert_eq!(credential.username(), "me");
    /// ```
    #[must_use]
    pub fn username(&self) -> &str {
        match &self.secret {
            Secret::Basic { username, .. } | Secret::Identity { username, .. } => username,
            Secret::Registry { .. } => "",
        }
    }

    /// The password or token.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// use secrecy::ExposeSecret as _;
    /// assert_eq!(credential.secret().expose_secret(), "secret");
    /// ```
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        match &self.secret {
            Secret::Basic { password, .. } => password,
            Secret::Identity { token, .. } | Secret::Registry { token } => token,
        }
    }

    /// What kind of secret it is.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// assert_eq!(credential.kind(), layerslayer::CredentialKind::Password);
    /// ```
    #[must_use]
    pub fn kind(&self) -> CredentialKind {
        match &self.secret {
            Secret::Basic { .. } => CredentialKind::Password,
            Secret::Identity { .. } => CredentialKind::IdentityToken,
            Secret::Registry { .. } => CredentialKind::RegistryToken,
        }
    }

    /// The only token server that may see it, if it was pinned to one.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// assert_eq!(credential.token_server(), None);
    /// ```
    #[must_use]
    pub fn token_server(&self) -> Option<&str> {
        self.token_server.as_deref()
    }

    /// When it expires, where that is known.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// assert_eq!(credential.expires(), None);
    /// ```
    #[must_use]
    pub fn expires(&self) -> Option<std::time::SystemTime> {
        self.expires.map(Into::into)
    }

    /// Whether both hold the same user name, secret and pin, wherever they come from.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// assert!(credential.is_same(&Credential::basic("me", String::from("secret").into())));
    /// assert!(!credential.is_same(&Credential::basic("you", String::from("secret").into())));
    /// ```
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let secret = |credential: &Self| Zeroizing::new(credential.secret().expose_secret().to_owned());
        self.kind() == other.kind()
            && self.username() == other.username()
            && secret(self) == secret(other)
            && self.token_server == other.token_server
    }

    /// A credential found in `place`, for example `config.json at PATH`.
    pub(crate) fn stored(secret: Secret, place: String) -> Self {
        Self::new(secret).found_in(place)
    }

    /// The same, found in `place`.
    pub(crate) fn found_in(mut self, place: impl Into<String>) -> Self {
        self.origin = Origin::Stored(place.into());
        self
    }

    /// A credential of this kind.
    #[cfg(feature = "stores")]
    pub(crate) fn of_kind(kind: CredentialKind, username: String, text: SecretString) -> Self {
        Self::new(match kind {
            CredentialKind::IdentityToken => Secret::Identity { username, token: text },
            CredentialKind::Password => Secret::Basic { username, password: text },
            CredentialKind::RegistryToken => Secret::Registry { token: text },
        })
    }

    /// The same, kept by `keeper`.
    #[cfg(feature = "stores")]
    pub(crate) fn kept_by(mut self, keeper: Arc<dyn Keeper>) -> Self {
        self.keeper = Some(keeper);
        self
    }

    /// Who keeps it, if it may be replaced.
    pub(crate) fn keeper(&self) -> Option<&Arc<dyn Keeper>> {
        self.keeper.as_ref()
    }

    /// When it expires, as stores write it.
    #[cfg(feature = "stores")]
    pub(crate) fn expiry(&self) -> Option<Timestamp> {
        self.expires
    }

    /// The same with what a store has kept of its expiry.
    #[cfg(feature = "stores")]
    pub(crate) fn with_expiry(mut self, expires: Option<Timestamp>) -> Self {
        self.expires = expires;
        self
    }

    /// Whether it was found rather than given: one that was found may be refused on a public image and left out.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self.origin, Origin::Stored(_))
    }

    /// Where it came from, for messages: `config.json at PATH`, `the keyring`.
    ///
    /// ```
    /// use layerslayer::Credential;
    ///
    /// let credential = Credential::basic("me", String::from("secret").into());
    /// assert_eq!(credential.origin(), "--username");
    /// ```
    #[must_use]
    pub fn origin(&self) -> &str {
        match &self.origin {
            Origin::Explicit => "--username",
            Origin::Stored(place) => place,
        }
    }

    /// The secret texts in it, to keep them out of messages.
    pub(crate) fn texts(&self) -> Vec<SecretString> {
        let mut texts = vec![self.secret().clone()];
        if let Secret::Basic { username, password } = &self.secret {
            texts.push(encoded(username, password));
        }
        texts
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("origin", &self.origin()).finish_non_exhaustive()
    }
}

/// The part of a Basic `Authorization` header after the scheme (RFC 7617).
pub(crate) fn encoded(username: &str, password: &SecretString) -> SecretString {
    STANDARD.encode(format!("{username}:{}", password.expose_secret())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_where_a_credential_comes_from_and_no_secret() {
        let secret = Secret::Identity { username: String::new(), token: String::from("hush").into() };
        let shown = format!("{:?}", Credential::stored(secret, "config.json at /d".into()));
        assert!(shown.contains("config.json at /d") && !shown.contains("hush"), "{shown}");
        let shown = format!("{:?}", Credential::basic("me", String::from("hush").into()));
        assert!(shown.contains("--username") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn user_and_password_are_encoded_as_rfc_7617_shows() {
        let password = String::from("open sesame").into();
        assert_eq!(encoded("Aladdin", &password).expose_secret(), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }
}
