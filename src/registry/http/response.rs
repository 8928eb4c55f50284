//! The response to a request: its head, and its body in pieces, watched for stalls.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{StatusCode, Url, header::HeaderMap};
use tokio::runtime::Handle;

use super::{
    AddressClass, STALL_BYTES_PER_SECOND, USUAL_WAIT, budget::Claim, patience, transfer_error::TransferError,
};
use crate::{limits, progress::Ongoing, registry::wait_budget::WaitBudget};

/// How long the unwanted end of a body may take before its connection is closed.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The head of a response, and its body as it arrives. Dropping it ends the transfer: the rest is read only if it is so short that
/// keeping the connection is worth it.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    /// How private the peer's address is; unknown behind a proxy.
    pub(crate) peer: Option<AddressClass>,
    /// Length of the whole body, if the head states it.
    pub(crate) length: Option<u64>,
    /// Read before its consumer wants it, by [`Response::peek`].
    peeked: Bytes,
    /// `None` once the body is complete or abandoned.
    transfer: Option<Transfer>,
    read: u64,
    claim: Claim,
    /// Why the body ends here.
    cut: Option<TransferError>,
}

/// What a response needs besides its head.
pub(super) struct Body {
    /// `https://host:port`, for messages.
    pub(super) server: String,
    /// How long the body may stall.
    pub(super) window: Duration,
    pub(super) budget: Arc<WaitBudget>,
    pub(super) claim: Claim,
    pub(super) ongoing: Ongoing,
}

/// A body under way. Dropping it reports the request.
struct Transfer {
    response: reqwest::Response,
    server: String,
    meter: Meter,
    budget: Arc<WaitBudget>,
    ongoing: Ongoing,
}

/// The speed of a body. Only time spent waiting for the server counts.
struct Meter {
    window: Duration,
    /// Bytes that must arrive within each window; a new window begins as soon as they have.
    min_bytes: u64,
    waited: Duration,
    arrived: u64,
}

impl Response {
    pub(super) fn new(response: reqwest::Response, peer: Option<AddressClass>, body: Body) -> Self {
        let Body { server, window, budget, claim, ongoing } = body;
        let status = response.status();
        let (headers, url, length) =
            (response.headers().clone(), response.url().clone(), response.content_length());
        let transfer = Transfer { response, server, meter: Meter::new(window), budget, ongoing };
        // The body of a 416 is never read: distribution 2.8.2 announces the whole blob and sends 33 bytes.
        let transfer = Some(transfer).filter(|_| status != StatusCode::RANGE_NOT_SATISFIABLE);
        Self { status, headers, url, peer, length, peeked: Bytes::new(), transfer, read: 0, claim, cut: None }
    }

    /// The next piece of the body, never empty; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, TransferError> {
        if !self.peeked.is_empty() {
            return Ok(Some(std::mem::take(&mut self.peeked)));
        }
        if let Some(failure) = self.cut.take() {
            return Err(failure);
        }
        let Some(transfer) = &mut self.transfer else { return Ok(None) };
        let mut chunk = match transfer.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => {
                self.abandon();
                return Ok(None);
            }
            Err(failure) => {
                self.abandon();
                return Err(failure);
            }
        };
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
        transfer.ongoing.advanced(length);
        Ok(Some(chunk))
    }

    /// The whole body, or `None` if it is longer than `cap` bytes.
    pub(crate) async fn whole(&mut self, cap: u64) -> Result<Option<Bytes>, TransferError> {
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

    /// The first bytes of an error's body, at most `limits::ERROR_BODY_BYTES`, without consuming them.
    pub(crate) async fn peek(&mut self) -> Bytes {
        let mut body = BytesMut::new();
        while (body.len() as u64) < limits::ERROR_BODY_BYTES {
            match self.chunk().await {
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        self.peeked = body.freeze();
        self.peeked.clone()
    }

    /// Takes a chunk back: it is the next one again.
    pub(crate) fn put_back(&mut self, chunk: Bytes) {
        self.peeked = chunk;
    }

    /// Discards the rest of the body, and closes the connection.
    pub(crate) fn abandon(&mut self) {
        self.transfer = None;
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        let Some(transfer) = self.transfer.take() else { return };
        let left = self.length.map_or(u64::MAX, |length| length.saturating_sub(self.read));
        if !(1..limits::DRAIN_BYTES).contains(&left) || !self.claim.shrink(left) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let none = self.claim.none();
        let mut claim = std::mem::replace(&mut self.claim, none);
        let Transfer { mut response, .. } = transfer;
        // The head announced fewer bytes than the cap, and hyper enforces that.
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

impl Transfer {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransferError> {
        loop {
            let began = self.budget.now();
            let patience = self.meter.patience(self.budget.left());
            let arriving = self.response.chunk();
            let arrived = patience::wait(arriving, patience, &self.server, &self.budget).await;
            let length = match &arrived {
                Ok(Ok(Some(chunk))) => chunk.len() as u64,
                _ => 0,
            };
            self.meter.advance(self.budget.now().saturating_duration_since(began), length);
            let is_end = !matches!(arrived, Ok(Ok(Some(_))));
            if is_end {
                self.budget.spend(self.meter.unproductive());
            }
            self.budget.received(length);
            match arrived?.map_err(|error| TransferError::from_reqwest(&self.server, error))? {
                Some(chunk) if chunk.is_empty() => {}
                chunk => return Ok(chunk),
            }
        }
    }
}

impl Meter {
    fn new(window: Duration) -> Self {
        let min_bytes = STALL_BYTES_PER_SECOND.saturating_mul(window.as_secs().max(1));
        Self { window, min_bytes, waited: Duration::ZERO, arrived: 0 }
    }

    /// How long to wait for the next piece, if `left` is left of the question's waits.
    fn patience(&self, left: Duration) -> Duration {
        let left = (left + USUAL_WAIT).saturating_sub(self.unproductive());
        self.window.saturating_sub(self.waited).min(left)
    }

    fn advance(&mut self, waited: Duration, arrived: u64) {
        self.waited = self.waited.saturating_add(waited);
        self.arrived = self.arrived.saturating_add(arrived);
        if self.arrived >= self.min_bytes {
            (self.waited, self.arrived) = (Duration::ZERO, 0);
        }
    }

    /// The time of this window beyond what is usual, and beyond what the bytes may take.
    fn unproductive(&self) -> Duration {
        let usual = USUAL_WAIT + Duration::from_secs(self.arrived / STALL_BYTES_PER_SECOND);
        self.waited.saturating_sub(usual)
    }
}
