//! How a session gets its requests authorised: what is refused is renewed once, then given up rung by rung.

use super::{
    Session, Task, renewal,
    request::{Asked, Trouble},
};
use crate::registry::{
    authorization::{Authorization, Grant, Next, Plan, Refusal, Rung, Turn},
    challenge::Challenge,
    error::Error,
    http::{HeaderMap, HeaderValue, StatusCode, Url, address::AddressClass, answer::Answer, header},
    lock, redirect, response,
    token::{self, TokenRequest},
};

/// Refusals answered in one request: of a stale token, of one fresh token on each rung, and one to spare for tokens that others
/// renew meanwhile.
const REFUSALS: usize = 5;

impl Session {
    /// Asks the registry with what authorisation there is; what is refused is renewed once, then given up rung by rung.
    pub(super) async fn authorized(
        &self,
        task: &Task<'_>,
        headers: &HeaderMap,
    ) -> Result<(Answer, Option<Authorization>), Trouble> {
        let mut next = self.authority.next(self.http.clock.now());
        let mut refusal: Option<Refusal> = None;
        for _ in 0..REFUSALS {
            self.check_open(&task.doing)?;
            // One that others fetched some time ago may have gone stale since: it is no proof that a fresh one is refused.
            let (authorization, is_fresh) = match next {
                Next::Use(authorization) => (authorization, false),
                Next::Fetch(plan) => {
                    (Some(self.fetch(task, plan, refusal.as_ref()).await?), refusal.is_some())
                }
            };
            let headers = authorized_headers(headers, authorization.as_ref());
            let mut answer = self.ask(task, Asked::Task, headers).await?;
            let Some(refused) = self.refusal(&mut answer).await else {
                if let Some(warning) = authorization.as_ref().and_then(|one| self.authority.accepted(one)) {
                    self.progress.warning(&format!("{}: {warning}", self.repository.host));
                }
                self.habits.answered(lock(&self.origin).is_plain, authorization.is_none());
                self.is_admitted.send_replace(true);
                return Ok((answer, authorization));
            };
            next = self.authority.refused(authorization.as_ref(), &refused, is_fresh);
            refusal = Some(refused);
        }
        Err(self.unauthorized(task, refusal.as_ref()).into())
    }

    /// Whether and how an answer of the registry refuses us.
    async fn refusal(&self, answer: &mut Answer) -> Option<Refusal> {
        if !matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return None;
        }
        let problem = self.problem(answer).await;
        let challenges = challenges(answer);
        // ECR refuses an expired token with 403 and this text; icr.io sends a challenge with 403.
        let is_ecr = || problem.to_ascii_lowercase().contains("authorization token has expired");
        let may_be_stale = answer.status == StatusCode::UNAUTHORIZED || !challenges.is_empty() || is_ecr();
        Some(Refusal { challenges, peer: answer.peer, problem, may_be_stale })
    }

    /// Fetches an authorisation, unless somebody else just does.
    async fn fetch(
        &self,
        task: &Task<'_>,
        plan: Plan,
        refusal: Option<&Refusal>,
    ) -> Result<Authorization, Trouble> {
        let turn = self.authority.turn(&plan, || self.http.clock.now()).await;
        let (_guard, mut offered, mut peer) = match turn {
            Turn::Done(result) => return Ok(result?),
            Turn::Ours { guard, challenges, peer } => (guard, challenges, peer),
        };
        // Some refusals come without a challenge (gcr.io, GHCR): the API's root has it.
        if offered.is_empty() {
            let mut answer = self.ask(task, Asked::Api, HeaderMap::new()).await?;
            if response::is_passing(answer.status) {
                let problem = self.problem(&mut answer).await;
                return Err(Trouble::Passing(
                    Error::unavailable(&task.doing, problem).advise("try again later"),
                ));
            }
            (offered, peer) = (challenges(&answer), answer.peer);
            self.authority.learn(&offered, peer);
        }
        let result = self.climb(task, &plan, &offered, peer, refusal).await;
        let result = self.check_open(&task.doing).and(result);
        let authorization = self.authority.fetched(&plan, result)?;
        self.is_admitted.send_replace(true);
        Ok(authorization)
    }

    /// Tries one rung after the other; the first refusal is the one to tell.
    async fn climb(
        &self,
        task: &Task<'_>,
        plan: &Plan,
        challenges: &[Challenge],
        peer: Option<AddressClass>,
        refusal: Option<&Refusal>,
    ) -> Result<(Rung, Grant), Error> {
        let mut first = None;
        for rung in self.authority.rungs(challenges, plan.from) {
            if rung == Rung::Bearer {
                self.check_pin(challenges)?;
            }
            match self.step(rung, challenges, peer).await {
                Ok(grant) => return Ok((rung, grant)),
                Err(error) if error.is_unauthorized() => first = first.or(Some(error)),
                Err(error) => return Err(first.unwrap_or(error)),
            }
        }
        Err(match first {
            Some(error) => error.advise(self.advice()),
            None => self.unauthorized(task, refusal),
        })
    }

    /// Whether the token server that the registry names is the one that the credential is pinned to, if it is pinned.
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
        let problem = format!(
            "the registry sends to the token server {shown}, but the credential from {} is pinned to {pinned}",
            credential.source()
        );
        let doing = format!("getting a token for {}", self.repository);
        let advice = "it was not sent; if the registry has really moved its token server, log in again";
        Err(Error::unauthorized(doing, problem).advise(advice))
    }

    /// Tries one rung.
    async fn step(
        &self,
        rung: Rung,
        challenges: &[Challenge],
        peer: Option<AddressClass>,
    ) -> Result<Grant, Error> {
        if let Some(grant) = self.authority.ready(rung) {
            return Ok(grant);
        }
        let doing = format!("getting a token for {}", self.repository);
        let credential = self.authority.credential.as_ref().filter(|_| rung != Rung::Anonymous);
        let bearer = challenges.iter().find(|challenge| challenge.is("bearer"));
        let named = bearer.and_then(|bearer| bearer.parameter("realm")).unwrap_or_default();
        let is_plain = lock(&self.origin).is_plain;
        let realm = token::realm(named, is_plain).map_err(|problem| Error::unauthorized(&doing, problem))?;
        let scope = bearer.and_then(|bearer| bearer.parameter("scope"));
        let lease = match credential {
            Some(credential) => renewal::begin(credential).await,
            None => None,
        };
        let kept = lease.as_ref().and_then(|lease| lease.credential().cloned());
        let asked = self.http.clock.now();
        let request = TokenRequest {
            http: &self.http,
            counters: &self.counters,
            progress: &self.progress,
            doing: format!("{doing} from {}", redirect::shown(&realm)),
            realm,
            service: bearer.and_then(|bearer| bearer.parameter("service")),
            scopes: token::scopes(scope, &self.repository.name, self.pushes),
            credential: kept.as_ref().or(credential),
            wants_identity: false,
            hidden: [self.authority.secret_texts(), renewal::texts(kept.as_ref())].concat(),
            // Behind a proxy the registry's own address is unknown: of literal addresses only a public one will do then.
            floor: peer.unwrap_or(AddressClass::Public),
        };
        let fetched = request.fetch().await;
        let token = match lease {
            Some(lease) => renewal::end(lease, fetched, &self.repository.host, &self.progress).await?,
            None => fetched?,
        };
        Ok(Grant { header: token.header, lifetime: Some((asked, token.left)) })
    }

    fn unauthorized(&self, task: &Task<'_>, refusal: Option<&Refusal>) -> Error {
        let problem = refusal.map_or("the registry asks for authentication", |refusal| &refusal.problem);
        let offered = refusal.map(|refusal| &refusal.challenges).into_iter().flatten();
        let unknown = offered.map(Challenge::scheme).find(|scheme| !["basic", "bearer"].contains(scheme));
        let unknown =
            unknown.map(|scheme| format!("; it offers the scheme {scheme:?}, which is not supported"));
        let problem = format!("{problem}{}", unknown.unwrap_or_default());
        Error::unauthorized(&task.doing, problem).advise(self.advice())
    }

    fn advice(&self) -> String {
        match &self.authority.credential {
            None => format!(
                "the image is private or does not exist: log in with `layerslayer login {}`, or give --username and \
                 --password-stdin",
                self.repository.host
            ),
            Some(credential) => format!(
                "the credential from {} gives no access, or the image does not exist: check the name, log in again",
                credential.source()
            ),
        }
    }
}

pub(super) fn authorized_headers(headers: &HeaderMap, authorization: Option<&Authorization>) -> HeaderMap {
    let mut headers = headers.clone();
    headers.extend(authorization.map(|one| (header::AUTHORIZATION, one.header.clone())));
    headers
}

pub(super) fn challenges(answer: &Answer) -> Vec<Challenge> {
    let headers = answer.headers.get_all(header::WWW_AUTHENTICATE);
    Challenge::parse_all(headers.iter().map(HeaderValue::as_bytes))
}
