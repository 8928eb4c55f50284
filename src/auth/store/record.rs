//! A credential as JSON, for stores that hold one secret text per entry.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::super::credential::{Credential, CredentialKind};

#[derive(Deserialize, Serialize)]
struct Record {
    username: String,
    secret: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_server: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

impl Drop for Record {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

/// The text to store.
pub(super) fn write(credential: &Credential) -> Zeroizing<String> {
    let record = Record {
        username: credential.username().to_owned(),
        secret: credential.expose_secret().to_owned(),
        token_server: credential.token_server().map(str::to_owned),
        expires: credential.expiry().map(|time| time.to_string()),
    };
    // A struct of strings: serialising cannot fail.
    Zeroizing::new(serde_json::to_string(&record).unwrap_or_default())
}

/// The credential in a stored text; `None` if it is malformed.
pub(super) fn read(text: &[u8], kind: CredentialKind) -> Option<Credential> {
    let record: Record = serde_json::from_slice(text).ok()?;
    let secret = SecretString::from(record.secret.as_str());
    let expires = record.expires.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    Some(
        Credential::of_kind(kind, record.username.clone(), secret)
            .pinned_to(record.token_server.clone())
            .with_expiry(expires),
    )
}
