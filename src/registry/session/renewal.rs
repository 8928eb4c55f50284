//! Identity tokens that a token server may replace when they are used.

use std::sync::Arc;

use crate::{
    auth::credential::{Credential, CredentialKind, RefreshLease},
    hint::Hint,
    progress::Reporter,
    registry::{error::Error, token::FetchedToken},
};

/// Takes the lease on a stored identity token. If that fails, the known token is used: most servers never replace it.
pub(super) async fn begin(credential: &Credential) -> Option<Box<dyn RefreshLease>> {
    if credential.kind() != CredentialKind::IdentityToken {
        return None;
    }
    let store = Arc::clone(credential.token_store()?);
    tokio::task::spawn_blocking(move || store.lease().ok()).await.ok().flatten()
}

/// Stores the token that replaces the one sent, or removes the one that was refused.
pub(super) async fn end(
    lease: Box<dyn RefreshLease>,
    fetched: Result<FetchedToken, Error>,
    host: &str,
    progress: &Arc<Reporter>,
) -> Result<FetchedToken, Error> {
    let (identity, is_refused) = match &fetched {
        Ok(token) => (token.identity.clone(), false),
        // Only a refusal of the token itself: a proxy, a captive portal or a broken server may answer 400, 403 or a redirect.
        Err(error) => (None, error.is_invalid_grant()),
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
            .warning(&format!("the identity token for {host} has changed, and could not be stored: {error}"));
    }
    fetched.map_err(|error| {
        let hint = Hint::LogInAgain { registry: host.to_owned() };
        if is_refused { error.because("session expired").hint(hint) } else { error }
    })
}
