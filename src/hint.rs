//! What the user can do about a failure, as data: each face puts it into its own words.

use std::fmt;

/// What the user can do about an [`Error`](crate::Error).
///
/// `Display` gives neutral advice that names no command-line flag; a program with flags of its own matches on the variants.
///
/// ```
/// use layerslayer::Hint;
///
/// fn advice(hint: &Hint) -> String {
///     match hint {
///         Hint::LogIn { registry } => format!("open Settings > Registries > {registry}"),
///         other => other.to_string(),
///     }
/// }
///
/// let hint = Hint::LogIn { registry: "ghcr.io".to_owned() };
/// assert_eq!(advice(&hint), "open Settings > Registries > ghcr.io");
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Hint {
    /// A redirect or token server is in a more private network than its registry: allow its host if that is intended.
    AllowHost,
    /// The server does not speak TLS: allow plain HTTP if that is acceptable.
    AllowPlainHttp,
    /// The registry refuses the credential: check it and the name of the image.
    CheckCredential {
        /// The registry.
        registry: String,
        /// Where the credential was found; `None` if the caller supplied it.
        found_in: Option<String>,
    },
    /// Check the name and the tag of the image.
    CheckName,
    /// Check the name of the registry and the network.
    CheckNetwork,
    /// There is no private key to sign TOCs with: create one.
    CreateSigningKey,
    /// A foreign layer, which registries need not have; its other locations are not tried.
    ForeignLayer,
    /// The image is private or does not exist: log in.
    LogIn {
        /// The registry.
        registry: String,
    },
    /// The stored session has expired or no longer fits the registry: log in again.
    LogInAgain {
        /// The registry.
        registry: String,
    },
    /// Anonymous requests have a lower limit: log in, or wait.
    LogInForHigherLimit {
        /// The registry.
        registry: String,
    },
    /// The limit on transferred bytes was reached: raise it.
    RaiseByteLimit,
    /// The time limit was reached: raise it.
    RaiseTimeLimit,
    /// Try again later; [`Error::retry_after`](crate::Error::retry_after) says when, if the server did.
    RetryLater,
    /// The server's certificate is not trusted: add its authority if it should be.
    TrustCertificate,
    /// A partial read was contradicted by what followed: verify the whole layer.
    VerifyWholeLayer,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllowHost => f.write_str("if that is intended, allow the host"),
            Self::AllowPlainHttp => f.write_str("allow plain HTTP for this registry if that is acceptable"),
            Self::CheckCredential { found_in: Some(place), .. } => write!(
                f,
                "the credential from {place} gives no access, or the image does not exist: check the name, or log in again"
            ),
            Self::CheckCredential { found_in: None, .. } => f.write_str(
                "the credential gives no access, or the image does not exist: check the name and the credential",
            ),
            Self::CheckName => f.write_str(
                "check the name and the tag; a private image can look missing to an anonymous user",
            ),
            Self::CheckNetwork => f.write_str("check the name of the registry and the network"),
            Self::CreateSigningKey => f.write_str("create a signing key first"),
            Self::ForeignLayer => f.write_str(
                "this is a foreign layer, which registries need not have; its other locations are not tried",
            ),
            Self::LogIn { registry } => {
                write!(f, "the image is private or does not exist: log in to {registry}")
            }
            Self::LogInAgain { registry } => write!(f, "log in to {registry} again"),
            Self::LogInForHigherLimit { registry } => {
                write!(f, "log in to {registry} for a higher limit, or try again later")
            }
            Self::RaiseByteLimit => f.write_str("raise the limit on transferred bytes"),
            Self::RaiseTimeLimit => f.write_str("raise the time limit"),
            Self::RetryLater => f.write_str("try again later"),
            Self::TrustCertificate => {
                f.write_str("if the certificate should be trusted, add the certificate of its authority")
            }
            Self::VerifyWholeLayer => f.write_str("read and verify the whole layer"),
        }
    }
}
