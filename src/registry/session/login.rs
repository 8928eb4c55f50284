//! Whether a registry takes a credential: what `docker login` does before it stores anything (distribution specification,
//! "Determining Support"; docker/cli `registry/service.go`).

use secrecy::SecretString;

use super::{
    Session, Task,
    authorize::challenges,
    renewal,
    request::{Asked, Trouble},
};
use crate::{
    auth::{Credential, credential::Secret},
    progress::RequestTarget,
    registry::{
        authorization::NO_TOKEN_SERVER,
        error::Error,
        http::{HeaderMap, HeaderValue, Method, StatusCode, address::AddressClass, answer::Answer, header},
        redirect, response,
        token::{self, TokenRequest, basic_header},
    },
};

/// What came of it.
pub(crate) struct Verified {
    /// An identity token, to be kept in place of the password.
    pub(crate) identity: Option<SecretString>,
    /// The token server that vouched for it, or [`NO_TOKEN_SERVER`].
    pub(crate) token_server: String,
    /// Whether the registry asked for a credential at all.
    pub(crate) is_asked_for: bool,
}

impl Session {
    /// Shows a credential to the registry, or to its token server.
    pub(crate) async fn verify(&self, credential: &Credential) -> Result<Verified, Error> {
        let host = &self.repository.host;
        let task = Task {
            doing: format!("logging in to {host}"),
            path: String::new(),
            method: Method::Get,
            target: RequestTarget::Api,
            accept: None,
            digest: None,
            leads_on: 0,
        };
        let mut answer = self.knock(&task, None).await?;
        if answer.status.is_success() {
            let token_server = NO_TOKEN_SERVER.to_owned();
            return Ok(Verified { identity: None, token_server, is_asked_for: false });
        }
        let offered = challenges(&answer);
        let offers = |scheme: &str| offered.iter().any(|challenge| challenge.is(scheme));
        let mut refused = None;
        if let Some(bearer) = offered.iter().find(|challenge| challenge.is("bearer")) {
            let named = bearer.parameter("realm").unwrap_or_default();
            let service = bearer.parameter("service");
            match self.show_to_token_server(&task, credential, named, service, answer.peer).await {
                Ok(verified) => return Ok(verified),
                Err(error) if error.is_unauthorized() && offers("basic") => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        if let (true, Secret::Basic { username, password }) = (offers("basic"), &credential.secret) {
            answer = self.knock(&task, basic_header(username, password)).await?;
            if answer.status.is_success() {
                let token_server = NO_TOKEN_SERVER.to_owned();
                return Ok(Verified { identity: None, token_server, is_asked_for: true });
            }
            return Err(self.invalid(&task, credential));
        }
        Err(refused.unwrap_or_else(|| {
            let status = response::status_text(answer.status);
            Error::unauthorized(
                &task.doing,
                format!("the registry answers {status} and offers no way to log in"),
            )
        }))
    }

    async fn show_to_token_server(
        &self,
        task: &Task<'_>,
        credential: &Credential,
        named: &str,
        service: Option<&str>,
        peer: Option<AddressClass>,
    ) -> Result<Verified, Error> {
        let is_plain = super::lock(&self.origin).is_plain;
        let realm =
            token::realm(named, is_plain).map_err(|problem| Error::unauthorized(&task.doing, problem))?;
        let token_server = token::pin_of(&realm);
        if let Some(pin) = credential.token_server().filter(|pin| *pin != token_server) {
            let problem = format!("the registry sends to the token server {token_server}, not to {pin}");
            return Err(Error::unauthorized(&task.doing, problem));
        }
        let shown = redirect::shown(&realm);
        let lease = renewal::begin(credential).await;
        let kept = lease.as_ref().and_then(|lease| lease.credential().cloned());
        let credential = kept.as_ref().unwrap_or(credential);
        let request = TokenRequest {
            http: &self.http,
            counters: &self.counters,
            doing: task.doing.clone(),
            realm,
            service,
            scopes: Vec::new(),
            credential: Some(credential),
            wants_identity: true,
            progress: &self.progress,
            hidden: renewal::texts(Some(credential)),
            floor: peer.unwrap_or(AddressClass::Public),
        };
        let fetched = request.fetch().await;
        let fetched = match lease {
            Some(lease) => renewal::end(lease, fetched, &self.repository.host, &self.progress).await,
            None => fetched,
        };
        let token = fetched.map_err(|error| match error {
            error if error.is_unauthorized() => self.invalid(task, credential),
            error if error.is_unavailable() => {
                error.because(format!("its token server {shown} is temporarily unavailable"))
            }
            error => error,
        })?;
        let answer = self.knock(task, Some(token.header)).await?;
        if !answer.status.is_success() {
            // Distribution answers 401 to a token without access to anything: a denied login it is not.
            let is_denied = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
            let status = response::status_text(answer.status);
            let problem = format!("the registry does not take the token of its own token server ({status})");
            return Err(match is_denied {
                true => Error::unauthorized(&task.doing, problem),
                false => Error::other(&task.doing, problem),
            });
        }
        Ok(Verified { identity: token.identity, token_server, is_asked_for: true })
    }

    /// Asks for the API's root; gives every answer that says something.
    async fn knock(&self, task: &Task<'_>, authorization: Option<HeaderValue>) -> Result<Answer, Error> {
        let host = &self.repository.host;
        let mut headers = HeaderMap::new();
        headers.extend(authorization.map(|value| (header::AUTHORIZATION, value)));
        let unreachable = |error: Error| {
            error
                .because(format!("cannot reach {host}"))
                .advise("check the name and the network, then try again")
        };
        let answer = match self.ask(task, Asked::Api, headers).await {
            Ok(answer) => answer,
            Err(Trouble::Passing(error)) => return Err(unreachable(error)),
            Err(Trouble::Final(error)) if error.is_unavailable() => return Err(unreachable(error)),
            Err(Trouble::Final(error)) => return Err(error),
        };
        match answer.status.as_u16() {
            401 | 403 => Ok(answer),
            429 | 500.. => {
                let status = response::status_text(answer.status);
                let problem = format!("{host} is temporarily unavailable (it answers {status})");
                Err(Error::unavailable(&task.doing, problem).advise("try again later"))
            }
            200..300 => Ok(answer),
            _ => {
                let status = response::status_text(answer.status);
                Err(Error::other(&task.doing, format!("{host} is no registry: it answers {status} to /v2/")))
            }
        }
    }

    fn invalid(&self, task: &Task<'_>, credential: &Credential) -> Error {
        let problem = match credential.secret {
            Secret::Basic { .. } => "invalid username or password",
            Secret::Identity { .. } | Secret::Registry { .. } => "session expired, log in again",
        };
        Error::unauthorized(&task.doing, problem)
    }
}
