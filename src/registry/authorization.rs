//! The authorisation of one session: scheme, credential, and generation of the token.
//!
//! ```text
//!            bare request        refused        fetch (single flight)
//! Unknown ──────────────▶ 200 │ ────────▶ None ─────────────────────▶ Current(generation n, method m)
//!                          │                ▲                           │ refused: discard(n) if n is still current
//!                        Open               └───────────────────────────┘ fresh and refused again: method m + 1, or failure
//! ```
//!
//! Methods are tried in order: Bearer with the credential, Basic with it, and Bearer without it. Only a credential that was found in
//! a file is ever left out: a stale entry there must not make a public image fail.
//!
//! An async mutex is held across the fetch. Nothing is spawned: a caller that is dropped in mid-fetch releases the mutex, and the
//! next one in the queue fetches. Callers that waited while a fetch failed get its error; later ones try again.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use secrecy::SecretString;

use crate::{
    auth::{
        credential::{Credential, Secret},
        redact::Redactor,
    },
    registry::{
        challenge::Challenge,
        error::Error,
        http::{HeaderValue, address::AddressClass},
        lock,
        token::{basic_header, bearer_header},
    },
};

/// Tokens are renewed this long before they expire, or a fifth of their lifetime if that is shorter.
const REFRESH_AHEAD: Duration = Duration::from_secs(30);

/// The latest so many secrets are redacted from messages.
const SECRETS: usize = 32;

/// The pin of a credential that its registry accepts without a token server.
pub(crate) const NO_TOKEN_SERVER: &str = "none";

/// A way to authorise requests, in the order in which they are tried.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum AuthMethod {
    /// A token for the credential, or an anonymous one if there is none.
    Bearer,
    /// The credential itself.
    Basic,
    /// An anonymous token, although there is a credential.
    Anonymous,
}

impl AuthMethod {
    const ALL: [Self; 3] = [Self::Bearer, Self::Basic, Self::Anonymous];

    fn next(self) -> Option<Self> {
        match self {
            Self::Bearer => Some(Self::Basic),
            Self::Basic => Some(Self::Anonymous),
            Self::Anonymous => None,
        }
    }
}

/// The authorisation of one request.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    pub(super) method: AuthMethod,
    generation: u64,
    /// Whether another fetch could give a different one.
    is_renewable: bool,
    refresh_at: Option<Instant>,
    expires_at: Option<Instant>,
}

/// The result of a method.
pub(super) struct Token {
    pub(super) header: HeaderValue,
    /// When it was requested and how long it may be used from then; `None` for as long as it is accepted.
    pub(super) lifetime: Option<(Instant, Duration)>,
}

/// How a registry refused a request.
pub(super) struct Refusal {
    pub(super) challenges: Vec<Challenge>,
    /// The class of the registry's address; unknown behind a proxy.
    pub(super) peer: Option<AddressClass>,
    /// The registry's message.
    pub(super) detail: String,
    /// Whether a new token of the same kind may help.
    pub(super) may_be_stale: bool,
}

/// The authorisation of a session.
pub(super) struct Authority {
    pub(super) credential: Option<Credential>,
    state: Mutex<State>,
    /// Held across a fetch.
    flight: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The latest secrets that were sent, to redact from messages.
    sent: VecDeque<SecretString>,
    current: Option<Authorization>,
    generation: u64,
    /// Fetches that ended, successful or not.
    attempts: u64,
    /// The number of the last failed fetch, and its error.
    failure: Option<(u64, Error)>,
    challenges: Vec<Challenge>,
    peer: Option<AddressClass>,
    /// The method of the last authorisation that the registry accepted.
    accepted: Option<AuthMethod>,
    has_warned: bool,
}

/// How to get an authorisation.
pub(super) enum Next {
    /// Use this one; `None` sends the request without any.
    Use(Option<Authorization>),
    /// Fetch one, according to the plan.
    Fetch(RefreshPlan),
}

/// The state when a caller decided that a fetch is needed.
pub(super) struct RefreshPlan {
    seen: u64,
    pub(super) from: Option<AuthMethod>,
    /// Valid for a while yet, in case the token server is down.
    fallback: Option<Authorization>,
}

/// The permit to fetch; only one task has it at a time.
pub(super) enum RefreshPermit<'a> {
    /// Another task has fetched in the meantime.
    Done(Result<Authorization, Error>),
    /// This task fetches.
    Granted { guard: tokio::sync::MutexGuard<'a, ()>, challenges: Vec<Challenge>, peer: Option<AddressClass> },
}

#[cfg(feature = "internals")]
impl RefreshPlan {
    /// The plan of a new session.
    pub(super) fn first() -> Self {
        Self { seen: 0, from: None, fallback: None }
    }
}

impl Authority {
    pub(super) fn new(credential: Option<Credential>) -> Self {
        Self { credential, state: Mutex::default(), flight: tokio::sync::Mutex::default() }
    }

    /// The authorisation of the next request.
    pub(super) fn next(&self, now: Instant) -> Next {
        let state = lock(&self.state);
        let plan = |fallback| RefreshPlan {
            seen: state.attempts,
            from: Some(state.accepted.unwrap_or(AuthMethod::Bearer)),
            fallback,
        };
        match &state.current {
            Some(current) if current.is_good(now) => Next::Use(Some(current.clone())),
            Some(current) => {
                let fallback =
                    Some(current.clone()).filter(|current| current.expires_at.is_none_or(|at| now < at));
                Next::Fetch(plan(fallback))
            }
            None if state.challenges.is_empty() => Next::Use(None),
            None => Next::Fetch(plan(None)),
        }
    }

    /// What to do after `refused` was refused. Discards it if it is still the current one.
    pub(super) fn refused(&self, refused: Option<&Authorization>, refusal: &Refusal, is_fresh: bool) -> Next {
        let mut state = lock(&self.state);
        if !refusal.challenges.is_empty() {
            state.challenges.clone_from(&refusal.challenges);
        }
        state.peer = refusal.peer;
        let generation = refused.map_or(0, |refused| refused.generation);
        match &state.current {
            Some(current) if current.generation != generation => return Next::Use(Some(current.clone())),
            _ => state.current = None,
        }
        let from = match refused {
            Some(refused) if is_fresh || !refusal.may_be_stale || !refused.is_renewable => {
                refused.method.next()
            }
            Some(refused) => Some(refused.method),
            None => Some(state.accepted.unwrap_or(AuthMethod::Bearer)),
        };
        Next::Fetch(RefreshPlan { seen: state.attempts, from, fallback: None })
    }

    /// Waits for the permit to fetch.
    pub(super) async fn refresh_permit(
        &self,
        plan: &RefreshPlan,
        now: impl Fn() -> Instant,
    ) -> RefreshPermit<'_> {
        let guard = self.flight.lock().await;
        let state = lock(&self.state);
        if let Some(current) = state.current.as_ref().filter(|current| current.is_good(now())) {
            return RefreshPermit::Done(Ok(current.clone()));
        }
        if let Some((attempt, error)) = &state.failure
            && *attempt > plan.seen
        {
            return RefreshPermit::Done(plan.or_fallback(error.clone()));
        }
        RefreshPermit::Granted { guard, challenges: state.challenges.clone(), peer: state.peer }
    }

    /// Records the result of a fetch.
    pub(super) fn fetched(
        &self,
        plan: &RefreshPlan,
        result: Result<(AuthMethod, Token), Error>,
    ) -> Result<Authorization, Error> {
        let mut state = lock(&self.state);
        state.attempts += 1;
        match result {
            Ok((method, token)) => {
                state.generation += 1;
                state.failure = None;
                let authorization = Authorization::new(token, method, state.generation);
                if let Some((_, text)) =
                    authorization.header.to_str().ok().and_then(|text| text.split_once(' '))
                {
                    if state.sent.len() >= SECRETS {
                        state.sent.pop_front();
                    }
                    state.sent.push_back(SecretString::from(text));
                }
                state.current = Some(authorization.clone());
                Ok(authorization)
            }
            Err(error) => {
                state.failure = Some((state.attempts, error.clone()));
                plan.or_fallback(error)
            }
        }
    }

    /// Records the challenges from the root of the API.
    pub(super) fn record_challenges(&self, challenges: &[Challenge], peer: Option<AddressClass>) {
        let mut state = lock(&self.state);
        state.challenges = challenges.to_vec();
        state.peer = peer;
    }

    /// Records that the registry accepts this authorisation. Returns a warning to show, at most once.
    pub(super) fn accepted(&self, authorization: &Authorization) -> Option<String> {
        let mut state = lock(&self.state);
        state.accepted = Some(authorization.method);
        let credential =
            self.credential.as_ref().filter(|_| authorization.method == AuthMethod::Anonymous)?;
        if std::mem::replace(&mut state.has_warned, true) {
            return None;
        }
        Some(format!("the credential from {} was refused; continuing without it", credential.source()))
    }

    /// Removes the session's secrets from texts: the credential, and the tokens and refreshed credentials so far.
    pub(super) fn redactor(&self) -> Redactor {
        let credential = self.credential.as_ref().map(|credential| credential.secret().clone());
        Redactor::new(credential.into_iter().chain(lock(&self.state).sent.iter().cloned()))
    }

    /// Remembers a secret that is not the session's credential.
    pub(super) fn remember_secret(&self, secret: &SecretString) {
        let mut state = lock(&self.state);
        if state.sent.len() >= SECRETS {
            state.sent.pop_front();
        }
        state.sent.push_back(secret.clone());
    }

    /// Discards tokens and challenges.
    pub(super) fn clear(&self) {
        *lock(&self.state) = State::default();
    }

    /// The methods that challenges and credential allow, from `from` on.
    pub(super) fn methods(&self, challenges: &[Challenge], from: Option<AuthMethod>) -> Vec<AuthMethod> {
        let Some(from) = from else { return Vec::new() };
        let offers = |scheme: &str| challenges.iter().any(|challenge| challenge.is(scheme));
        let is_open = |method: &AuthMethod| match (method, &self.credential) {
            (AuthMethod::Bearer, _) => offers("bearer"),
            // A credential that is pinned to a token server is for that server only.
            (AuthMethod::Basic, Some(credential)) => {
                matches!(credential.secret, Secret::Basic { .. })
                    && credential.token_server().is_none_or(|pin| pin == NO_TOKEN_SERVER)
                    && offers("basic")
            }
            (AuthMethod::Basic, None) => false,
            (AuthMethod::Anonymous, Some(credential)) => credential.is_stored() && offers("bearer"),
            (AuthMethod::Anonymous, None) => false,
        };
        AuthMethod::ALL.into_iter().filter(|method| *method >= from).filter(is_open).collect()
    }

    /// The result of a method that needs no token server.
    pub(super) fn ready(&self, method: AuthMethod) -> Option<Token> {
        let header = match (method, &self.credential.as_ref()?.secret) {
            (AuthMethod::Basic, Secret::Basic { username, password }) => basic_header(username, password),
            (AuthMethod::Bearer, Secret::Registry { token }) => bearer_header(token),
            _ => None,
        };
        Some(Token { header: header?, lifetime: None })
    }
}

impl RefreshPlan {
    fn or_fallback(&self, error: Error) -> Result<Authorization, Error> {
        match &self.fallback {
            Some(fallback) if error.is_unavailable() => Ok(fallback.clone()),
            _ => Err(error),
        }
    }
}

impl Authorization {
    fn new(token: Token, method: AuthMethod, generation: u64) -> Self {
        let times = token.lifetime.map(|(asked, left)| {
            let ahead = REFRESH_AHEAD.min(left / 5);
            (asked + left.saturating_sub(ahead), asked + left)
        });
        Self {
            header: token.header,
            method,
            generation,
            is_renewable: times.is_some(),
            refresh_at: times.map(|(refresh_at, _)| refresh_at),
            expires_at: times.map(|(_, expires_at)| expires_at),
        }
    }

    fn is_good(&self, now: Instant) -> bool {
        self.refresh_at.is_none_or(|at| now < at)
    }
}
