//! Identity tokens that a token server may replace while they are used.

use std::sync::Arc;

use secrecy::ExposeSecret as _;

use crate::{
    auth::credential::{Credential, CredentialKind, Lease},
    progress::Progress,
    registry::{error::Error, token::Token},
};

/// Takes the right to use a kept identity token. Where that fails the token that is known already will do: most servers never
/// replace it.
pub(super) async fn begin(credential: &Credential) -> Option<Box<dyn Lease>> {
    if credential.kind() != CredentialKind::IdentityToken {
        return None;
    }
    let keeper = Arc::clone(credential.keeper()?);
    tokio::task::spawn_blocking(move || keeper.begin().ok()).await.ok().flatten()
}

/// Keeps the token that came in place of the one that was sent, or removes the one that was refused.
pub(super) async fn end(
    lease: Box<dyn Lease>,
    fetched: Result<Token, Error>,
    host: &str,
    progress: &Arc<dyn Progress>,
) -> Result<Token, Error> {
    let (identity, is_refused) = match &fetched {
        Ok(token) => (token.identity.clone(), false),
        Err(error) => (None, error.is_unauthorized()),
    };
    if identity.is_none() && !is_refused {
        return fetched;
    }
    let written = tokio::task::spawn_blocking(move || match &identity {
        Some(token) => lease.replace(token),
        None => lease.remove(),
    });
    if let Ok(Err(error)) = written.await {
        progress
            .warning(&format!("the identity token for {host} has changed, and could not be kept: {error}"));
    }
    fetched.map_err(|error| {
        let advice = format!("log in again: layerslayer login {host}");
        if is_refused { error.because("session expired").advise(advice) } else { error }
    })
}

/// The secret texts of a credential, to keep them out of messages.
pub(super) fn texts(credential: Option<&Credential>) -> Vec<String> {
    let texts = credential.map(Credential::texts).unwrap_or_default();
    texts.iter().map(|text| text.expose_secret().to_owned()).collect()
}
