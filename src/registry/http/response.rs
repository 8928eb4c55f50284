//! The response to a request: its head, and its body in pieces, watched for stalls.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::{StatusCode, Url, header::HeaderMap};
use tokio::runtime::Handle;

use super::{AddressClass, STALL_BYTES_PER_SECOND, budget::Claim, transfer_error::TransferError};
use crate::{limits, progress::Ongoing};

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
    /// `https://host:port`, for messages.
    server: String,
    /// Read before its consumer wants it, by [`Response::peek`].
    peeked: Bytes,
    response: Option<reqwest::Response>,
    read: u64,
    meter: Meter,
    claim: Claim,
    /// Why the body ends here.
    cut: Option<TransferError>,
    /// Reports the request once its last wanted byte has arrived.
    ongoing: Option<Ongoing>,
}

/// Speed over a window, counting only the time spent waiting for the peer.
struct Meter {
    window: Duration,
    /// Bytes that must arrive in each window.
    min_bytes: u64,
    waited: Duration,
    arrived: u64,
}

impl Response {
    pub(super) fn new(
        response: reqwest::Response,
        server: String,
        peer: Option<AddressClass>,
        window: Duration,
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
            server,
            peeked: Bytes::new(),
            // The body of a 416 is never read: distribution 2.8.2 announces the whole blob and sends 33 bytes.
            response: Some(response).filter(|_| status != StatusCode::RANGE_NOT_SATISFIABLE),
            read: 0,
            meter: Meter::new(window),
            claim,
            cut: None,
            ongoing: Some(ongoing),
        }
    }

    /// The next piece of the body, never empty; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, TransferError> {
        if !self.peeked.is_empty() {
            return Ok(Some(std::mem::take(&mut self.peeked)));
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
                    self.meter.next_window(&self.server)?;
                    continue;
                }
            };
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.abandon();
                    return Err(TransferError::from_reqwest(&self.server, error));
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
                self.meter.next_window(&self.server)?;
            }
            return Ok(Some(chunk));
        }
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
        self.response = None;
        self.ongoing = None;
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        let Some(mut response) = self.response.take() else { return };
        let left = self.length.map_or(u64::MAX, |length| length.saturating_sub(self.read));
        if !(1..limits::DRAIN_BYTES).contains(&left) || !self.claim.shrink(left) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let none = self.claim.none();
        let mut claim = std::mem::replace(&mut self.claim, none);
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

impl Meter {
    fn new(window: Duration) -> Self {
        let min_bytes = STALL_BYTES_PER_SECOND.saturating_mul(window.as_secs().max(1));
        Self { window, min_bytes, waited: Duration::ZERO, arrived: 0 }
    }

    fn next_window(&mut self, server: &str) -> Result<(), TransferError> {
        if self.arrived < self.min_bytes {
            return Err(TransferError::stalled(server, self.window));
        }
        self.waited = Duration::ZERO;
        self.arrived = 0;
        Ok(())
    }
}
