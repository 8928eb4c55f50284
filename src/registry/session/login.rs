//! Whether a registry accepts a credential: what `docker login` does before it stores anything (distribution specification,
//! "Determining Support"; docker/cli `registry/service.go`).

use secrecy::SecretString;

use super::{
    Session, Task,
    authorize::challenges,
    renewal,
    request::{AttemptError, Endpoint},
};
use crate::{
    auth::{Credential, credential::Secret, redact::Redactor},
    hint::Hint,
    progress::RequestTarget,
    registry::{
        authorization::NO_TOKEN_SERVER,
        error::Error,
        http::{
            HeaderMap, HeaderValue, Method, StatusCode, address::AddressClass, header, response::Response,
        },
        message, redirect,
        token::{self, TokenRequest, basic_header},
    },
};

/// A credential that the registry accepts.
pub(crate) struct Verified {
    /// An identity token, to be stored instead of the password.
    pub(crate) identity: Option<SecretString>,
    /// The token server that accepted it, or [`NO_TOKEN_SERVER`].
    pub(crate) token_server: String,
    /// Whether the registry requires a credential at all.
    pub(crate) is_required: bool,
}

impl Session {
    /// Sends a credential to the registry, or to its token server.
    pub(crate) async fn verify(&self, credential: &Credential) -> Result<Verified, Error> {
        let redactor = Redactor::new([credential.secret().clone()]);
        self.try_to_log_in(credential).await.map_err(|error| error.redacted(&redactor))
    }

    async fn try_to_log_in(&self, credential: &Credential) -> Result<Verified, Error> {
        let host = &self.repository.host;
        let task = Task {
            operation: format!("logging in to {host}"),
            path: String::new(),
            method: Method::Get,
            target: RequestTarget::Api,
            accept: None,
            digest: None,
            followups: 0,
        };
        let mut response = self.ping(&task, None).await?;
        if response.status.is_success() {
            let token_server = NO_TOKEN_SERVER.to_owned();
            return Ok(Verified { identity: None, token_server, is_required: false });
        }
        let offered = challenges(&response);
        let offers = |scheme: &str| offered.iter().any(|challenge| challenge.is(scheme));
        let mut refused = None;
        if let Some(bearer) = offered.iter().find(|challenge| challenge.is("bearer")) {
            let named = bearer.parameter("realm").unwrap_or_default();
            let service = bearer.parameter("service");
            match self.send_to_token_server(&task, credential, named, service, response.peer).await {
                Ok(verified) => return Ok(verified),
                Err(error) if error.is_unauthorized() && offers("basic") => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let (true, Secret::Basic { username, password }) = (offers("basic"), &credential.secret) {
            response = self.ping(&task, basic_header(username, password)).await?;
            if response.status.is_success() {
                let token_server = NO_TOKEN_SERVER.to_owned();
                return Ok(Verified { identity: None, token_server, is_required: true });
            }
            return Err(self.invalid(&task, credential));
        }
        Err(refused.unwrap_or_else(|| {
            let status = message::status_text(response.status);
            Error::unauthorized(
                &task.operation,
                format!("the registry answers {status} and offers no way to log in"),
            )
        }))
    }

    async fn send_to_token_server(
        &self,
        task: &Task<'_>,
        credential: &Credential,
        named: &str,
        service: Option<&str>,
        peer: Option<AddressClass>,
    ) -> Result<Verified, Error> {
        let realm = self.realm(named).map_err(|detail| Error::unauthorized(&task.operation, detail))?;
        let token_server = token::pin_of(&realm);
        if let Some(pin) = credential.token_server().filter(|pin| *pin != token_server) {
            let detail = format!("the registry names the token server {token_server}, not {pin}");
            return Err(Error::unauthorized(&task.operation, detail));
        }
        let shown = redirect::shown(&realm);
        let lease = renewal::begin(credential).await;
        let kept = lease.as_ref().and_then(|lease| lease.credential().cloned());
        let credential = kept.as_ref().unwrap_or(credential);
        let min_address_class = self.http.address_policy.target_class(&realm, peer);
        let request = TokenRequest {
            http: &self.http,
            counters: &self.counters,
            operation: task.operation.clone(),
            registry: &self.repository.host,
            realm,
            service,
            scopes: Vec::new(),
            credential: Some(credential),
            wants_identity: true,
            progress: &self.progress,
            budget: &self.budget,
            redactor: Redactor::new([credential.secret().clone()]),
            min_address_class,
        };
        let fetched = request.fetch().await;
        let fetched = match lease {
            Some(lease) => renewal::end(lease, fetched, &self.repository.host, &self.progress).await,
            None => fetched,
        };
        let is_password = matches!(credential.secret, Secret::Basic { .. });
        let token = fetched.map_err(|error| match error {
            error if error.is_unauthorized() && is_password => self.invalid(task, credential),
            error if error.is_invalid_grant() => self.invalid(task, credential),
            error if error.is_unavailable() => {
                error.because(format!("its token server {shown} is temporarily unavailable"))
            }
            error => error,
        })?;
        let response = self.ping(task, Some(token.header)).await?;
        if !response.status.is_success() {
            // Distribution responds 401 to a token without access to anything.
            let is_denied = matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            let status = message::status_text(response.status);
            let detail = format!("the registry does not accept the token of its own token server ({status})");
            return Err(match is_denied {
                true => Error::unauthorized(&task.operation, detail),
                false => Error::other(&task.operation, detail),
            });
        }
        Ok(Verified { identity: token.identity, token_server, is_required: true })
    }

    /// Requests the root of the API.
    async fn ping(&self, task: &Task<'_>, authorization: Option<HeaderValue>) -> Result<Response, Error> {
        let host = &self.repository.host;
        let mut headers = HeaderMap::new();
        headers.extend(authorization.map(|value| (header::AUTHORIZATION, value)));
        let unreachable =
            |error: Error| error.because(format!("cannot reach {host}")).hint(Hint::CheckNetwork);
        let response = match self.ask(task, Endpoint::Api, headers).await {
            Ok(response) => response,
            Err(AttemptError::Transient(error)) => return Err(unreachable(error)),
            Err(AttemptError::Fatal(error)) if error.is_unavailable() => return Err(unreachable(error)),
            Err(AttemptError::Fatal(error)) => return Err(error),
        };
        match response.status.as_u16() {
            401 | 403 => Ok(response),
            429 | 500.. => {
                let status = message::status_text(response.status);
                let detail = format!("{host} is temporarily unavailable (it answers {status})");
                Err(Error::unavailable(&task.operation, detail).with_status(response.status))
            }
            200..300 => Ok(response),
            _ => {
                let status = message::status_text(response.status);
                Err(Error::other(
                    &task.operation,
                    format!("{host} is not a registry: it answers {status} to /v2/"),
                ))
            }
        }
    }

    fn invalid(&self, task: &Task<'_>, credential: &Credential) -> Error {
        let detail = match credential.secret {
            Secret::Basic { .. } => "invalid username or password",
            Secret::Identity { .. } | Secret::Registry { .. } => "session expired, log in again",
        };
        Error::unauthorized(&task.operation, detail)
    }
}
