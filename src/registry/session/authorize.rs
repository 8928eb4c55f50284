//! How a session authorises its requests: a refused token is renewed once, then the next method is tried.

use super::{
    Session, Task, renewal,
    request::{AttemptError, Endpoint},
};
use crate::{
    hint::Hint,
    registry::{
        authorization::{AuthMethod, Authorization, Next, RefreshPermit, RefreshPlan, Refusal, Token},
        challenge::Challenge,
        error::Error,
        http::{HeaderMap, HeaderValue, StatusCode, Url, address::AddressClass, header, response::Response},
        lock, message, redirect,
        token::{self, TokenRequest},
    },
};

/// Refusals handled in one request: of a stale token, of one fresh token with each method, and one more for a token that another task
/// renews in the meantime.
const MAX_REFUSALS: usize = 5;

impl Session {
    /// Sends a request to the registry with the current authorisation. A refused one is renewed once, then the next method is tried.
    pub(super) async fn authorized(
        &self,
        task: &Task<'_>,
        headers: &HeaderMap,
    ) -> Result<(Response, Option<Authorization>), AttemptError> {
        let mut next = self.authority.next(self.http.clock.now());
        let mut refusal: Option<Refusal> = None;
        for _ in 0..MAX_REFUSALS {
            self.check_open(&task.operation)?;
            // A token fetched by another task may be stale already: its refusal does not prove that a fresh one is refused.
            let (authorization, is_fresh) = match next {
                Next::Use(authorization) => (authorization, false),
                Next::Fetch(plan) => {
                    (Some(self.fetch(task, plan, refusal.as_ref()).await?), refusal.is_some())
                }
            };
            let headers = authorized_headers(headers, authorization.as_ref());
            let mut response = self.ask(task, Endpoint::Task, headers).await?;
            let Some(refused) = self.refusal(&mut response).await else {
                if let Some(warning) = authorization.as_ref().and_then(|one| self.authority.accepted(one)) {
                    self.progress.warning(&format!("{}: {warning}", self.repository.host));
                }
                self.hints.answered(lock(&self.origin).is_plain, authorization.is_none());
                self.auth_settled.send_replace(true);
                return Ok((response, authorization));
            };
            next = self.authority.refused(authorization.as_ref(), &refused, is_fresh);
            refusal = Some(refused);
        }
        Err(self.unauthorized(task, refusal.as_ref()).into())
    }

    /// Whether and how a response of the registry refuses access.
    async fn refusal(&self, response: &mut Response) -> Option<Refusal> {
        if !matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return None;
        }
        let detail = self.detail(response).await;
        let challenges = challenges(response);
        // ECR refuses an expired token with 403 and this text; icr.io sends 403 with a challenge.
        let is_ecr = || detail.to_ascii_lowercase().contains("authorization token has expired");
        let may_be_stale = response.status == StatusCode::UNAUTHORIZED || !challenges.is_empty() || is_ecr();
        Some(Refusal { challenges, peer: response.peer, detail, may_be_stale })
    }

    /// Fetches an authorisation, unless another task is doing so.
    async fn fetch(
        &self,
        task: &Task<'_>,
        plan: RefreshPlan,
        refusal: Option<&Refusal>,
    ) -> Result<Authorization, AttemptError> {
        let permit = self.authority.refresh_permit(&plan, || self.http.clock.now()).await;
        let (_guard, mut offered, mut peer) = match permit {
            RefreshPermit::Done(result) => return Ok(result?),
            RefreshPermit::Granted { guard, challenges, peer } => (guard, challenges, peer),
        };
        // Some refusals have no challenge (gcr.io, GHCR): the root of the API has one.
        if offered.is_empty() {
            let mut response = self.ask(task, Endpoint::Api, HeaderMap::new()).await?;
            if message::is_transient(response.status) {
                let detail = self.detail(&mut response).await;
                let error = Error::unavailable(&task.operation, detail).with_status(response.status);
                return Err(AttemptError::Transient(error));
            }
            (offered, peer) = (challenges(&response), response.peer);
            self.authority.record_challenges(&offered, peer);
        }
        let result = self.try_methods(task, &plan, &offered, peer, refusal).await;
        let result = self.check_open(&task.operation).and(result);
        let authorization = self.authority.fetched(&plan, result)?;
        self.auth_settled.send_replace(true);
        Ok(authorization)
    }

    /// Tries one method after the other; the first refusal is the one to report.
    async fn try_methods(
        &self,
        task: &Task<'_>,
        plan: &RefreshPlan,
        challenges: &[Challenge],
        peer: Option<AddressClass>,
        refusal: Option<&Refusal>,
    ) -> Result<(AuthMethod, Token), Error> {
        let mut first = None;
        for method in self.authority.methods(challenges, plan.from) {
            if method == AuthMethod::Bearer {
                self.check_pin(challenges)?;
            }
            match self.try_method(method, challenges, peer).await {
                Ok(token) => return Ok((method, token)),
                Err(error) if error.is_unauthorized() => first = first.or(Some(error)),
                Err(error) => return Err(first.unwrap_or(error)),
            }
        }
        Err(match first {
            Some(error) if error.to_hint().is_some() => error,
            Some(error) => error.hint(self.login_hint()),
            None => self.unauthorized(task, refusal),
        })
    }

    /// Checks that the registry names the token server that the credential is pinned to, if it is pinned.
    fn check_pin(&self, challenges: &[Challenge]) -> Result<(), Error> {
        let Some(credential) = &self.authority.credential else { return Ok(()) };
        let Some(pin) = credential.token_server() else { return Ok(()) };
        let bearer = challenges.iter().find(|challenge| challenge.is("bearer"));
        let named = bearer.and_then(|bearer| bearer.parameter("realm")).unwrap_or_default();
        let realm = Url::parse(named).map(|realm| token::pin_of(&realm)).unwrap_or_default();
        if realm == pin {
            return Ok(());
        }
        let shown = Url::parse(named).map_or_else(|_| "nowhere".to_owned(), |realm| redirect::shown(&realm));
        let pinned =
            Url::parse(pin).map_or_else(|_| "no token server".to_owned(), |pin| redirect::shown(&pin));
        let detail = format!(
            "the registry names the token server {shown}, but the credential from {} is pinned to {pinned}; it was not sent",
            credential.source()
        );
        let operation = format!("getting a token for {}", self.repository);
        let hint = Hint::LogInAgain { registry: self.repository.host.clone() };
        Err(Error::unauthorized(operation, detail).hint(hint))
    }

    /// The token server that the registry names, if it is acceptable.
    pub(super) fn realm(&self, named: &str) -> Result<Url, String> {
        let is_plain = lock(&self.origin).is_plain;
        let registry = self.url("/").ok().filter(|_| is_plain);
        token::realm(named, registry.as_ref())
    }

    /// Tries one method.
    async fn try_method(
        &self,
        method: AuthMethod,
        challenges: &[Challenge],
        peer: Option<AddressClass>,
    ) -> Result<Token, Error> {
        if let Some(token) = self.authority.ready(method) {
            return Ok(token);
        }
        let operation = format!("getting a token for {}", self.repository);
        let credential = self.authority.credential.as_ref().filter(|_| method != AuthMethod::Anonymous);
        let bearer = challenges.iter().find(|challenge| challenge.is("bearer"));
        let named = bearer.and_then(|bearer| bearer.parameter("realm")).unwrap_or_default();
        let realm = self.realm(named).map_err(|detail| Error::unauthorized(&operation, detail))?;
        let scope = bearer.and_then(|bearer| bearer.parameter("scope"));
        let lease = match credential {
            Some(credential) => renewal::begin(credential).await,
            None => None,
        };
        let kept = lease.as_ref().and_then(|lease| lease.credential().cloned());
        if let Some(kept) = &kept {
            self.authority.remember_secret(kept.secret());
        }
        let min_address_class = self.http.address_policy.target_class(&realm, peer);
        let asked = self.http.clock.now();
        let request = TokenRequest {
            http: &self.http,
            counters: &self.counters,
            progress: &self.progress,
            budget: &self.budget,
            operation: format!("{operation} from {}", redirect::shown(&realm)),
            registry: &self.repository.host,
            realm,
            service: bearer.and_then(|bearer| bearer.parameter("service")),
            scopes: token::scopes(scope, &self.repository.name, self.pushes),
            credential: kept.as_ref().or(credential),
            wants_identity: false,
            redactor: self.authority.redactor(),
            min_address_class,
        };
        let fetched = request.fetch().await;
        let token = match lease {
            Some(lease) => renewal::end(lease, fetched, &self.repository.host, &self.progress).await?,
            None => fetched?,
        };
        Ok(Token { header: token.header, lifetime: Some((asked, token.left)) })
    }

    fn unauthorized(&self, task: &Task<'_>, refusal: Option<&Refusal>) -> Error {
        let detail = refusal.map_or("the registry requires authentication", |refusal| &refusal.detail);
        let offered = refusal.map(|refusal| &refusal.challenges).into_iter().flatten();
        let unknown = offered.map(Challenge::scheme).find(|scheme| !["basic", "bearer"].contains(scheme));
        let unknown =
            unknown.map(|scheme| format!("; it offers the scheme {scheme:?}, which is not supported"));
        let detail = format!("{detail}{}", unknown.unwrap_or_default());
        Error::unauthorized(&task.operation, detail).hint(self.login_hint())
    }

    /// What the user can do where access is refused.
    fn login_hint(&self) -> Hint {
        let registry = self.repository.host.clone();
        match &self.authority.credential {
            None => Hint::LogIn { registry },
            Some(credential) => {
                let found_in = credential.is_stored().then(|| credential.source().to_owned());
                Hint::CheckCredential { registry, found_in }
            }
        }
    }
}

pub(super) fn authorized_headers(headers: &HeaderMap, authorization: Option<&Authorization>) -> HeaderMap {
    let mut headers = headers.clone();
    headers.extend(authorization.map(|one| (header::AUTHORIZATION, one.header.clone())));
    headers
}

pub(super) fn challenges(response: &Response) -> Vec<Challenge> {
    let headers = response.headers.get_all(header::WWW_AUTHENTICATE);
    Challenge::parse_all(headers.iter().map(HeaderValue::as_bytes))
}
