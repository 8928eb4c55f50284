//! How a session sends one request: scheme, redirects, retries.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use super::{Origin, Session, Task, authorize::authorized_headers};
use crate::{
    hint::Hint,
    limits,
    oci::digest::Digest,
    progress::RequestTarget,
    registry::{
        authorization::Authorization,
        error::Error,
        http::{
            HeaderMap, HeaderValue, HttpRequest, Method, Preconnect, StatusCode, Url,
            address::AddressClass,
            header,
            response::Response,
            transfer_error::{TransferError, TransferErrorKind},
        },
        lock, message,
        redirect::{self, is_link_refusal, is_redirect},
        retry::{Retry, requested_wait},
    },
};

/// Attempts with both HTTP and HTTPS after which a silent registry on this machine is unavailable.
const MAX_SILENCES: usize = 3;

/// Redirects of the registry used in one request: if the target refuses the first, a new one is requested.
const RESOLUTIONS: usize = 2;

/// What a request to the registry itself addresses.
#[derive(Clone, Copy)]
pub(super) enum Endpoint {
    /// The root of the API, which states how to log in.
    Api,
    /// The task's path.
    Task,
}

/// Why an attempt failed.
pub(super) enum AttemptError {
    /// Another attempt cannot succeed.
    Fatal(Error),
    /// Another attempt may succeed.
    Transient(Error),
}

impl From<Error> for AttemptError {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

impl Session {
    /// Sends a task's request until there is a final response: authorised, redirects followed, transient failures retried.
    pub(in crate::registry) async fn get(
        &self,
        task: &Task<'_>,
        range: Option<&Range<u64>>,
        retry: &mut Retry,
    ) -> Result<Response, Error> {
        loop {
            let (error, wait) = match self.attempt(task, range).await {
                Ok(response) if task.is_a_shortcut() && message::is_transient(response.status) => {
                    return Ok(response);
                }
                Ok(mut response) if message::is_transient(response.status) => {
                    if matches!(
                        response.status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
                    ) {
                        self.transfers.note_refusal();
                    }
                    let host = &self.repository.host;
                    let wait = requested_wait(&task.operation, host, &response, &self.budget)?;
                    let detail = self.detail(&mut response).await;
                    (Error::unavailable(&task.operation, detail).with_status(response.status), wait)
                }
                Ok(response) => return Ok(response),
                Err(AttemptError::Fatal(error)) => return Err(error.redacted(&self.authority.redactor())),
                Err(AttemptError::Transient(error)) if task.is_a_shortcut() => {
                    return Err(error.redacted(&self.authority.redactor()));
                }
                Err(AttemptError::Transient(error)) => {
                    self.transfers.note_refusal();
                    (error, None)
                }
            };
            retry.pause(error.redacted(&self.authority.redactor()), wait).await?;
        }
    }

    /// Sends a task's request once: to the remembered location of the blob, else to the registry, following its redirects.
    async fn attempt(&self, task: &Task<'_>, range: Option<&Range<u64>>) -> Result<Response, AttemptError> {
        self.check_open(&task.operation)?;
        let headers = request_headers(task, range);
        let mut resolutions = 0;
        if let Some((digest, url)) = self.link(task) {
            let min_address_class = self.redirect_class(&url);
            let sent = self.transmit(self.request(task, url, headers.clone(), min_address_class)).await;
            let response = match sent {
                Ok(response) => self.follow(task, response, &headers, None).await,
                Err(failure) => Err(self.attempt_error(task, failure)),
            };
            if response.as_ref().is_ok_and(|response| response.status.is_success()) {
                return response;
            }
            lock(&self.links).forget(digest);
            if !response.as_ref().is_ok_and(|response| is_link_refusal(response.status)) {
                return response;
            }
            resolutions = 1;
        }
        loop {
            let (response, authorization) = self.authorized(task, &headers).await?;
            if !is_redirect(response.status) {
                return Ok(response);
            }
            resolutions += 1;
            let response = self.follow(task, response, &headers, authorization).await?;
            if is_link_refusal(response.status) && resolutions < RESOLUTIONS {
                continue;
            }
            return self.settle(task, response);
        }
    }

    /// Makes up to `connections` connections to the remembered location of a blob, for further requests. Failures are left to them.
    pub(crate) async fn connect_for(&self, digest: &Digest, connections: usize) {
        let link = lock(&self.links).find(digest, self.http.clock.now());
        let (url, min_address_class) = match link {
            Some(link) => {
                let min_address_class = self.redirect_class(&link);
                (link, min_address_class)
            }
            None => match self.url("/") {
                Ok(url) => {
                    let min_address_class = self.http.address_policy.registry_class(&url);
                    (url, min_address_class)
                }
                Err(_) => return,
            },
        };
        self.http.connect(&url, min_address_class, connections).await;
    }

    /// The remembered location of the task's blob.
    fn link<'a>(&self, task: &Task<'a>) -> Option<(&'a Digest, Url)> {
        let digest = task.digest?;
        let url = lock(&self.links).find(digest, self.http.clock.now())?;
        Some((digest, url))
    }

    /// Remembers the target of a redirect, or fails if it refuses access.
    fn settle(&self, task: &Task<'_>, response: Response) -> Result<Response, AttemptError> {
        if let Some(digest) = task.digest
            && response.status.is_success()
            && !self.is_origin(&response.url)
        {
            lock(&self.links).remember(digest, response.url.clone(), self.http.clock.now());
            let peer = lock(&self.origin).peer.unwrap_or(AddressClass::Public);
            self.hints.redirected(&response.url, peer);
        }
        if matches!(response.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let (target, status) = (redirect::shown(&response.url), message::status_text(response.status));
            let detail =
                format!("{target}, to which the registry redirects, answers {status}, also to a new link");
            return Err(Error::unavailable(&task.operation, detail).with_status(response.status).into());
        }
        Ok(response)
    }

    /// Follows redirects. The authorisation is dropped at the first target that may not have it, for good.
    async fn follow(
        &self,
        task: &Task<'_>,
        mut response: Response,
        headers: &HeaderMap,
        mut authorization: Option<Authorization>,
    ) -> Result<Response, AttemptError> {
        let mut redirects = 0;
        while is_redirect(response.status) {
            redirects += 1;
            if redirects > limits::REDIRECTS {
                let detail = format!("more than {} redirects", limits::REDIRECTS);
                return Err(Error::other(&task.operation, detail).into());
            }
            let target = redirect::target(&response.url, &response.headers)
                .map_err(|detail| Error::other(&task.operation, format!("{detail} is not followed")))?;
            let keeps = redirect::keeps_authorization(&self.url("/")?, &self.repository.name, &target);
            authorization = authorization.filter(|_| keeps);
            drop(response);
            let headers = authorized_headers(headers, authorization.as_ref());
            let min_address_class = self.redirect_class(&target);
            let sent = self.transmit(self.request(task, target, headers, min_address_class)).await;
            response = sent.map_err(|failure| self.attempt_error(task, failure))?;
        }
        Ok(response)
    }

    /// Sends a request to the registry. A registry on this machine that has not responded yet is tried over plain HTTP first, then
    /// over HTTPS if it seems to speak TLS.
    pub(super) async fn ask(
        &self,
        task: &Task<'_>,
        endpoint: Endpoint,
        headers: HeaderMap,
    ) -> Result<Response, AttemptError> {
        let origin = *lock(&self.origin);
        let url = match endpoint {
            Endpoint::Api => self.url("/v2/")?,
            Endpoint::Task => self.url(&self.path(task))?,
        };
        let request = |url: Url, headers| {
            let min_address_class = self.http.address_policy.registry_class(&url);
            let request = self.request(task, url, headers, min_address_class);
            match endpoint {
                Endpoint::Api => HttpRequest { method: Method::Get, target: RequestTarget::Api, ..request },
                Endpoint::Task => request,
            }
        };
        if origin.is_decided {
            let sent = self.transmit(request(url, headers)).await;
            let response = sent.map_err(|failure| self.attempt_error(task, failure))?;
            self.decide(origin.is_plain, &response);
            return Ok(response);
        }
        let mut secure = url.clone();
        // Cannot fail between http and https; if it did, plain HTTP would be tried again.
        let _ = secure.set_scheme("https");
        let may_speak_tls = match self.transmit(request(url, headers.clone())).await {
            Ok(mut response) => {
                if response.status != StatusCode::BAD_REQUEST || !mentions_https(&response.peek().await) {
                    self.decide(true, &response);
                    return Ok(response);
                }
                TransferError::wants_https(&self.repository.host)
            }
            Err(failure)
                if matches!(failure.kind, TransferErrorKind::Interrupted | TransferErrorKind::Malformed) =>
            {
                failure
            }
            Err(failure) => return Err(self.attempt_error(task, failure)),
        };
        match self.transmit(request(secure, headers)).await {
            Ok(response) => {
                self.decide(false, &response);
                Ok(response)
            }
            // It does speak TLS: report that failure.
            Err(failure) if failure.kind == TransferErrorKind::Certificate => {
                Err(self.attempt_error(task, failure))
            }
            Err(_) => Err(self.silent(self.attempt_error(task, may_speak_tls))),
        }
    }

    /// A server that never responds is probably not a registry: it gets fewer attempts than one that did.
    fn silent(&self, attempt_error: AttemptError) -> AttemptError {
        let mut origin = lock(&self.origin);
        origin.silences += 1;
        match attempt_error {
            AttemptError::Transient(error) if origin.silences >= MAX_SILENCES => AttemptError::Fatal(error),
            attempt_error => attempt_error,
        }
    }

    fn decide(&self, is_plain: bool, response: &Response) {
        *lock(&self.origin) =
            Origin { is_plain, is_decided: true, is_reached: true, silences: 0, peer: response.peer };
    }

    /// The least public address class that a redirect to `target` may reach.
    fn redirect_class(&self, target: &Url) -> AddressClass {
        self.http.address_policy.target_class(target, lock(&self.origin).peer)
    }

    fn request(
        &self,
        task: &Task<'_>,
        url: Url,
        headers: HeaderMap,
        min_address_class: AddressClass,
    ) -> HttpRequest {
        let (method, target) = (task.method.clone(), task.target.clone());
        let progress = Arc::clone(&self.progress);
        let preconnect = self.preconnect(task, &url, min_address_class);
        let budget = Arc::clone(&self.budget);
        HttpRequest { url, headers, method, target, progress, budget, min_address_class, preconnect }
    }

    /// The connections for the requests after the first response. Fetching a manifest leaves one connection idle. After a HEAD for the
    /// digest of a tag, blobs are requested concurrently: at once, over connections of their own, or once there is a token.
    fn preconnect(&self, task: &Task<'_>, url: &Url, min_address_class: AddressClass) -> Vec<Preconnect> {
        if task.followups == 0 || lock(&self.origin).is_reached {
            return Vec::new();
        }
        let connections = match task.method {
            Method::Head if self.is_probably_open() => 0,
            Method::Head => task.followups,
            _ => task.followups - 1,
        };
        let own = Preconnect { url: url.clone(), min_address_class, connections };
        let storage = self.hints.storage();
        let storage = storage.map(|(url, peer)| Preconnect {
            min_address_class: self.http.address_policy.target_class(&url, Some(peer)),
            url,
            connections: task.followups,
        });
        storage.into_iter().chain([own]).collect()
    }

    async fn transmit(&self, request: HttpRequest) -> Result<Response, TransferError> {
        self.http.send(request, &self.counters).await
    }

    /// A failure to connect is transient only if the registry was reached before: waiting does not mend a mistyped name.
    fn attempt_error(&self, task: &Task<'_>, failure: TransferError) -> AttemptError {
        let is_reached = lock(&self.origin).is_reached;
        let is_transient =
            failure.is_transient() && (is_reached || failure.kind != TransferErrorKind::Connect);
        let error = match failure.kind {
            TransferErrorKind::TooPrivate => Error::other(&task.operation, &failure).hint(Hint::AllowHost),
            _ => failure.into_error(&task.operation),
        };
        if is_transient { AttemptError::Transient(error) } else { AttemptError::Fatal(error) }
    }

    pub(super) fn check_open(&self, operation: &str) -> Result<(), Error> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::other(operation, "the session has been closed"));
        }
        Ok(())
    }
}

fn request_headers(task: &Task<'_>, range: Option<&Range<u64>>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.extend(task.accept.map(|accept| (header::ACCEPT, HeaderValue::from_static(accept))));
    let range = range.map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
    let range = range.and_then(|range| HeaderValue::from_str(&range).ok());
    headers.extend(range.map(|range| (header::RANGE, range)));
    headers
}

/// Recognises the text that the servers of Go and nginx send to plain HTTP on a TLS port.
fn mentions_https(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    text.contains("http request to an https server")
        || text.contains("plain http request was sent to https port")
}
