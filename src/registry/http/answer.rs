//! The answer to a request: its head, and its body in pieces, watched for stalls.

use std::{
    error::Error as StdError,
    fmt,
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use reqwest::{Response, StatusCode, Url, header::HeaderMap};
use tokio::runtime::Handle;

use crate::{
    limits,
    progress::Ongoing,
    registry::{
        error::{Error, Kind},
        http::{address::TooPrivate, budget::Claim, tls},
    },
};

/// How long the unwanted end of a body may take before its connection is given up after all.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The head of a response, and its body as far as it is wanted. Dropping it ends the transfer: the rest is read only where it is
/// short enough that keeping the connection is worth it.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    /// How private the peer's address is; unknown behind a proxy.
    pub(crate) peer: Option<super::AddressClass>,
    /// Length of the whole body, where the head tells.
    pub(crate) length: Option<u64>,
    /// Read ahead of its consumer, by [`Answer::peek`].
    ahead: Bytes,
    response: Option<Response>,
    read: u64,
    meter: Meter,
    claim: Claim,
    /// Why no more of the body is given.
    cut: Option<Failure>,
    /// Tells of the request when the last byte that anybody wants has come.
    ongoing: Option<Ongoing>,
}

/// Speed over a window, counting only the time spent waiting for the peer.
struct Meter {
    window: Duration,
    /// Bytes that must arrive in each window.
    floor: u64,
    waited: Duration,
    arrived: u64,
}

/// A transfer failed below HTTP's own answers.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    text: String,
}

/// What failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FailureKind {
    /// The peer's certificate is not trusted.
    Certificate,
    /// No connection came about: name, address, timeout.
    Connect,
    /// The connection broke, or what came was not HTTP.
    Interrupted,
    /// The peer does not speak TLS.
    NotTls,
    /// More bytes than may be fetched.
    OverBudget,
    /// Too slow for too long.
    Stalled,
    /// The address is more private than it may be.
    TooPrivate,
}

impl Answer {
    pub(super) fn new(
        response: Response,
        peer: Option<super::AddressClass>,
        window: Duration,
        floor: u64,
        claim: Claim,
        ongoing: Ongoing,
    ) -> Self {
        let status = response.status();
        Self {
            status,
            headers: response.headers().clone(),
            url: response.url().clone(),
            peer,
            length: response.content_length(),
            ahead: Bytes::new(),
            // The body of 416 is never read: distribution 2.8.2 announces the whole blob and sends 33 bytes.
            response: Some(response).filter(|_| status != StatusCode::RANGE_NOT_SATISFIABLE),
            read: 0,
            meter: Meter { window, floor, waited: Duration::ZERO, arrived: 0 },
            claim,
            cut: None,
            ongoing: Some(ongoing),
        }
    }

    /// The next piece of the body, never empty; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        if !self.ahead.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ahead)));
        }
        if let Some(failure) = self.cut.take() {
            return Err(failure);
        }
        let Some(response) = &mut self.response else { return Ok(None) };
        loop {
            let began = Instant::now();
            let patience = self.meter.window.saturating_sub(self.meter.waited);
            let arrived = tokio::time::timeout(patience, response.chunk()).await;
            let chunk = match arrived {
                Ok(chunk) => chunk,
                Err(_) => {
                    self.meter.next_window()?;
                    continue;
                }
            };
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.abandon();
                    return Err(Failure::from_reqwest(error));
                }
            };
            let Some(mut chunk) = chunk else {
                self.abandon();
                return Ok(None);
            };
            if chunk.is_empty() {
                continue;
            }
            let length = match self.claim.take(chunk.len() as u64) {
                Ok(length) => length,
                Err(failure) => {
                    self.abandon();
                    return Err(failure);
                }
            };
            if length < chunk.len() as u64 {
                self.cut = Some(self.claim.exceeded(chunk.len() as u64 - length));
                chunk.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            }
            self.read = self.read.saturating_add(length);
            if let Some(ongoing) = &mut self.ongoing {
                ongoing.advanced(length);
            }
            self.meter.arrived = self.meter.arrived.saturating_add(length);
            self.meter.waited = self.meter.waited.saturating_add(began.elapsed());
            if self.meter.waited >= self.meter.window {
                self.meter.next_window()?;
            }
            return Ok(Some(chunk));
        }
    }

    /// The whole body, or `None` if it is longer than `cap` bytes.
    pub(crate) async fn whole(&mut self, cap: u64) -> Result<Option<Bytes>, Failure> {
        if self.length.is_some_and(|length| length > cap) {
            self.abandon();
            return Ok(None);
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() as u64 + chunk.len() as u64 > cap {
                self.abandon();
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body.freeze()))
    }

    /// The first bytes of an error's body, as many as come and at most `limits::ERROR_BODY_BYTES`; they stay unread.
    pub(crate) async fn peek(&mut self) -> Bytes {
        let mut body = BytesMut::new();
        while (body.len() as u64) < limits::ERROR_BODY_BYTES {
            match self.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        self.ahead = body.freeze();
        self.ahead.clone()
    }

    /// Takes back what its consumer has no use for; it comes again as the next chunk.
    pub(crate) fn put_back(&mut self, chunk: Bytes) {
        self.ahead = chunk;
    }

    /// Gives the rest of the body up, and with it the connection.
    pub(crate) fn abandon(&mut self) {
        self.response = None;
        self.ongoing = None;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(mut response) = self.response.take() else { return };
        let left = self.length.map_or(u64::MAX, |length| length.saturating_sub(self.read));
        if !(1..limits::DRAIN_BYTES).contains(&left) || !self.claim.shrink(left) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let none = self.claim.none();
        let mut claim = std::mem::replace(&mut self.claim, none);
        // The head promised fewer bytes than the cap, and the HTTP layer holds the peer to it.
        let rest = async move {
            while let Ok(Some(chunk)) = response.chunk().await {
                if claim.take(chunk.len() as u64).is_err() {
                    return;
                }
            }
        };
        runtime.spawn(tokio::time::timeout(DRAIN_TIME, rest));
    }
}

impl Meter {
    fn next_window(&mut self) -> Result<(), Failure> {
        if self.arrived < self.floor {
            return Err(Failure::stalled(self.window));
        }
        self.waited = Duration::ZERO;
        self.arrived = 0;
        Ok(())
    }
}

impl Failure {
    pub(super) fn stalled(window: Duration) -> Self {
        let text = format!("less than 1 KiB/s came over {} s", window.as_secs_f32());
        Self { kind: FailureKind::Stalled, text }
    }

    pub(super) fn too_private(host: &str, address: IpAddr) -> Self {
        let refusal = TooPrivate { host: host.to_owned(), address };
        Self { kind: FailureKind::TooPrivate, text: refusal.to_string() }
    }

    /// `bytes` more than the `fetched` ones would pass the limit.
    pub(super) fn over_budget(bytes: u64, fetched: u64, limit: u64) -> Self {
        let bytes = if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") };
        let text = format!("{bytes} more, after {fetched}, would pass the limit of {limit} bytes");
        Self { kind: FailureKind::OverBudget, text }
    }

    /// A server said that it wants https.
    pub(crate) fn wants_https() -> Self {
        Self { kind: FailureKind::Interrupted, text: "the server wants https, and https fails".into() }
    }

    pub(super) fn from_reqwest(error: reqwest::Error) -> Self {
        let is_connect = error.is_connect();
        let is_timeout = error.is_timeout();
        // URLs may hold the signature of a presigned link.
        let error = error.without_url();
        let mut kind = if is_connect { FailureKind::Connect } else { FailureKind::Interrupted };
        let mut text = error.to_string();
        let mut next: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(cause) = next {
            if let Some(found) = telling(cause) {
                (kind, text) = found;
                break;
            }
            text = cause.to_string();
            next = cause.source();
        }
        if is_timeout && is_connect {
            "no connection within the time limit".clone_into(&mut text);
        }
        Self { kind, text }
    }

    /// The failure as an error, for when it is not tried again.
    pub(crate) fn into_error(self, doing: &str) -> Error {
        match self.kind {
            FailureKind::Certificate => Error::unavailable(doing, self)
                .advise("if the certificate is to be trusted, name its authority's file with --ca"),
            FailureKind::Connect => {
                Error::unavailable(doing, self).advise("check the name of the registry and the network")
            }
            FailureKind::NotTls => {
                Error::unavailable(doing, format!("the server does not speak TLS: {self}"))
                    .advise("if plain http is acceptable, say --plain-http")
            }
            FailureKind::Interrupted | FailureKind::Stalled => {
                Error::unavailable(doing, self).advise("try again later")
            }
            FailureKind::OverBudget => {
                Error::new(Kind::OverBudget, doing, self).advise("--max-bytes is the limit")
            }
            FailureKind::TooPrivate => Error::unauthorized(doing, self),
        }
    }

    /// Whether another attempt may fare better.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self.kind, FailureKind::Connect | FailureKind::Interrupted | FailureKind::Stalled)
    }
}

/// What a cause says beyond "connection failed". An I/O error hides what it carries from the chain of sources.
fn telling(cause: &(dyn StdError + 'static)) -> Option<(FailureKind, String)> {
    let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    if let Some(inner) = inner {
        let inner: &(dyn StdError + 'static) = inner;
        return telling(inner);
    }
    if cause.is::<TooPrivate>() {
        return Some((FailureKind::TooPrivate, cause.to_string()));
    }
    match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(problem) => {
            Some((FailureKind::Certificate, tls::certificate_problem(problem)))
        }
        rustls::Error::InvalidMessage(_) => Some((FailureKind::NotTls, cause.to_string())),
        _ => None,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
