//! The authorisation of one session: which scheme, whose credential, which generation of token.
//!
//! ```text
//!            bare request        refused        fetch (single flight)
//! Unknown ──────────────▶ 200 │ ────────▶ None ─────────────────────▶ Current(generation n, rung r)
//!                          │                ▲                           │ refused: discard(n) if n is still current
//!                        Open               └───────────────────────────┘ fresh and refused again: rung r + 1, or failure
//! ```
//!
//! Rungs are tried in order: Bearer with the credential, Basic with it, and Bearer without it. Leaving out a credential is only
//! for one that was found in a file: on a public image a stale entry there must not stand in the way.
//!
//! The flight is an async mutex held across the fetch. Nothing is spawned: a caller that is dropped in mid-fetch releases the
//! mutex, and the next in line fetches. Who was in line while a fetch failed gets that error; who comes later tries anew.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use secrecy::ExposeSecret as _;

use crate::{
    auth::credential::{Credential, Secret},
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

/// The pin of a credential that its registry takes without a token server.
pub(crate) const NO_TOKEN_SERVER: &str = "none";

/// A way to be authorised, in the order in which ways are tried.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Rung {
    /// A token for the credential, or for nobody if there is none.
    Bearer,
    /// The credential itself.
    Basic,
    /// A token for nobody, though there is a credential.
    Anonymous,
}

impl Rung {
    const ALL: [Self; 3] = [Self::Bearer, Self::Basic, Self::Anonymous];

    fn next(self) -> Option<Self> {
        match self {
            Self::Bearer => Some(Self::Basic),
            Self::Basic => Some(Self::Anonymous),
            Self::Anonymous => None,
        }
    }
}

/// What one request carries.
#[derive(Clone)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    pub(super) rung: Rung,
    generation: u64,
    /// Whether fetching again could give another one.
    is_renewable: bool,
    refresh_at: Option<Instant>,
    expires_at: Option<Instant>,
}

/// What a rung gave.
pub(super) struct Grant {
    pub(super) header: HeaderValue,
    /// When it was asked for and how long it may be used from then; `None` for as long as it is accepted.
    pub(super) lifetime: Option<(Instant, Duration)>,
}

/// How a registry refused a request.
pub(super) struct Refusal {
    pub(super) challenges: Vec<Challenge>,
    /// How private the registry's address is; unknown behind a proxy.
    pub(super) peer: Option<AddressClass>,
    /// What it said.
    pub(super) problem: String,
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
    current: Option<Authorization>,
    generation: u64,
    /// Fetches that ended, well or not.
    attempts: u64,
    /// How the fetch of that number failed.
    failure: Option<(u64, Error)>,
    challenges: Vec<Challenge>,
    peer: Option<AddressClass>,
    /// The rung of the last authorisation that the registry accepted.
    accepted: Option<Rung>,
    has_warned: bool,
}

/// What to do for an authorisation.
pub(super) enum Next {
    /// Use this; `None`: send the request bare.
    Use(Option<Authorization>),
    /// Fetch one, by the plan.
    Fetch(Plan),
}

/// What was known when a caller decided that a fetch is needed.
pub(super) struct Plan {
    seen: u64,
    pub(super) from: Option<Rung>,
    /// Still good for a while, if the fetch fails for want of a server.
    spare: Option<Authorization>,
}

/// The right to fetch, once nobody else does.
pub(super) enum Turn<'a> {
    /// Somebody else has fetched in the meantime.
    Done(Result<Authorization, Error>),
    /// Ours.
    Ours { guard: tokio::sync::MutexGuard<'a, ()>, challenges: Vec<Challenge>, peer: Option<AddressClass> },
}

#[cfg(feature = "internals")]
impl Plan {
    /// One for a session that has nothing yet.
    pub(super) fn first() -> Self {
        Self { seen: 0, from: None, spare: None }
    }
}

impl Authority {
    pub(super) fn new(credential: Option<Credential>) -> Self {
        Self { credential, state: Mutex::default(), flight: tokio::sync::Mutex::default() }
    }

    /// What the next request should carry.
    pub(super) fn next(&self, now: Instant) -> Next {
        let state = lock(&self.state);
        let plan =
            |spare| Plan { seen: state.attempts, from: Some(state.accepted.unwrap_or(Rung::Bearer)), spare };
        match &state.current {
            Some(current) if current.is_good(now) => Next::Use(Some(current.clone())),
            Some(current) => {
                let spare =
                    Some(current.clone()).filter(|current| current.expires_at.is_none_or(|at| now < at));
                Next::Fetch(plan(spare))
            }
            None if state.challenges.is_empty() => Next::Use(None),
            None => Next::Fetch(plan(None)),
        }
    }

    /// What to do after `refused` was refused: discards it if it is still the current one.
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
                refused.rung.next()
            }
            Some(refused) => Some(refused.rung),
            None => Some(state.accepted.unwrap_or(Rung::Bearer)),
        };
        Next::Fetch(Plan { seen: state.attempts, from, spare: None })
    }

    /// Waits for the right to fetch.
    pub(super) async fn turn(&self, plan: &Plan, now: impl Fn() -> Instant) -> Turn<'_> {
        let guard = self.flight.lock().await;
        let state = lock(&self.state);
        if let Some(current) = state.current.as_ref().filter(|current| current.is_good(now())) {
            return Turn::Done(Ok(current.clone()));
        }
        if let Some((attempt, error)) = &state.failure
            && *attempt > plan.seen
        {
            return Turn::Done(plan.or_spare(error.clone()));
        }
        Turn::Ours { guard, challenges: state.challenges.clone(), peer: state.peer }
    }

    /// Notes how our fetch ended.
    pub(super) fn fetched(
        &self,
        plan: &Plan,
        result: Result<(Rung, Grant), Error>,
    ) -> Result<Authorization, Error> {
        let mut state = lock(&self.state);
        state.attempts += 1;
        match result {
            Ok((rung, grant)) => {
                state.generation += 1;
                state.failure = None;
                let authorization = Authorization::new(grant, rung, state.generation);
                state.current = Some(authorization.clone());
                Ok(authorization)
            }
            Err(error) => {
                state.failure = Some((state.attempts, error.clone()));
                plan.or_spare(error)
            }
        }
    }

    /// Notes challenges that were found by asking for them.
    pub(super) fn learn(&self, challenges: &[Challenge], peer: Option<AddressClass>) {
        let mut state = lock(&self.state);
        state.challenges = challenges.to_vec();
        state.peer = peer;
    }

    /// Notes that the registry accepts this; gives a warning that should be shown, the first time that there is one.
    pub(super) fn accepted(&self, authorization: &Authorization) -> Option<String> {
        let mut state = lock(&self.state);
        state.accepted = Some(authorization.rung);
        let credential = self.credential.as_ref().filter(|_| authorization.rung == Rung::Anonymous)?;
        if std::mem::replace(&mut state.has_warned, true) {
            return None;
        }
        Some(format!("the credential from {} was refused; going on without it", credential.source()))
    }

    /// Texts that no message may hold.
    pub(super) fn secret_texts(&self) -> Vec<String> {
        let stored = self.credential.as_ref().map(Credential::texts).unwrap_or_default();
        let mut texts: Vec<String> = stored.iter().map(|text| text.expose_secret().to_owned()).collect();
        let current = lock(&self.state).current.as_ref().and_then(|current| {
            let header = current.header.to_str().ok()?;
            header.split_once(' ').map(|(_, token)| token.to_owned())
        });
        texts.extend(current);
        texts
    }

    /// Forgets tokens and what is known of the registry.
    pub(super) fn clear(&self) {
        *lock(&self.state) = State::default();
    }

    /// The rungs that challenges and credential allow, from `from` upwards.
    pub(super) fn rungs(&self, challenges: &[Challenge], from: Option<Rung>) -> Vec<Rung> {
        let Some(from) = from else { return Vec::new() };
        let offers = |scheme: &str| challenges.iter().any(|challenge| challenge.is(scheme));
        let is_open = |rung: &Rung| match (rung, &self.credential) {
            (Rung::Bearer, _) => offers("bearer"),
            // One that is pinned to a token server is for that alone.
            (Rung::Basic, Some(credential)) => {
                matches!(credential.secret, Secret::Basic { .. })
                    && credential.token_server().is_none_or(|pin| pin == NO_TOKEN_SERVER)
                    && offers("basic")
            }
            (Rung::Basic, None) => false,
            (Rung::Anonymous, Some(credential)) => credential.is_stored() && offers("bearer"),
            (Rung::Anonymous, None) => false,
        };
        Rung::ALL.into_iter().filter(|rung| *rung >= from).filter(is_open).collect()
    }

    /// What a rung gives without asking a token server.
    pub(super) fn ready(&self, rung: Rung) -> Option<Grant> {
        let header = match (rung, &self.credential.as_ref()?.secret) {
            (Rung::Basic, Secret::Basic { username, password }) => basic_header(username, password),
            (Rung::Bearer, Secret::Registry { token }) => bearer_header(token),
            _ => None,
        };
        Some(Grant { header: header?, lifetime: None })
    }
}

impl Plan {
    fn or_spare(&self, error: Error) -> Result<Authorization, Error> {
        match &self.spare {
            Some(spare) if error.is_unavailable() => Ok(spare.clone()),
            _ => Err(error),
        }
    }
}

impl Authorization {
    fn new(grant: Grant, rung: Rung, generation: u64) -> Self {
        let times = grant.lifetime.map(|(asked, left)| {
            let ahead = REFRESH_AHEAD.min(left / 5);
            (asked + left.saturating_sub(ahead), asked + left)
        });
        Self {
            header: grant.header,
            rung,
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
