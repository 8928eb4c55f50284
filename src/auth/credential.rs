//! Who we say we are to a registry.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret as _, SecretString};

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
        Self { secret: Secret::Basic { username: username.into(), password }, origin: Origin::Explicit }
    }

    /// A credential found in `place`, for example `config.json at PATH`.
    pub(crate) fn stored(secret: Secret, place: String) -> Self {
        Self { secret, origin: Origin::Stored(place) }
    }

    /// Whether it was found rather than given: one that was found may be refused on a public image and left out.
    pub(crate) fn is_stored(&self) -> bool {
        matches!(self.origin, Origin::Stored(_))
    }

    /// Where it came from, for messages.
    pub(crate) fn origin(&self) -> &str {
        match &self.origin {
            Origin::Explicit => "--username",
            Origin::Stored(place) => place,
        }
    }

    /// The secret texts in it, to keep them out of messages.
    pub(crate) fn texts(&self) -> Vec<SecretString> {
        let secret = match &self.secret {
            Secret::Basic { password, .. } => password,
            Secret::Identity { token, .. } | Secret::Registry { token } => token,
        };
        let mut texts = vec![secret.clone()];
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
