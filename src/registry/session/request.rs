//! How one request of a session is sent: scheme, redirects, further attempts.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use super::{Origin, Session, Task, authorize::authorized_headers};
use crate::{
    limits,
    oci::digest::Digest,
    progress::RequestTarget,
    registry::{
        authorization::Authorization,
        error::Error,
        http::{
            Beside, HeaderMap, HeaderValue, Method, Outgoing, StatusCode, Url,
            address::AddressClass,
            answer::{Answer, Failure, FailureKind},
            header,
        },
        lock,
        redirect::{self, is_link_refusal, is_redirect},
        response,
        retry::{Retry, asked_wait},
    },
};

/// A registry is whom the user names, wherever it is.
const REGISTRY_FLOOR: AddressClass = AddressClass::LinkLocal;

/// Times that a registry on this machine may speak neither http nor https before it is given up.
const SILENCES: usize = 3;

/// Times that the registry is asked for a link in one request: a link that was refused is asked for once more.
const RESOLUTIONS: usize = 2;

/// What the registry itself is asked.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    /// How to log in.
    Api,
    /// What the task is about.
    Task,
}

/// An attempt that failed.
pub(super) enum Trouble {
    /// For good.
    Final(Error),
    /// Another attempt may fare better.
    Passing(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Session {
    /// Sends a task's request until it is answered for good: authorised, redirects followed, passing failures tried again.
    pub(in crate::registry) async fn get(
        &self,
        task: &Task<'_>,
        range: Option<&Range<u64>>,
        retry: &mut Retry,
    ) -> Result<Answer, Error> {
        loop {
            let (error, wait) = match self.attempt(task, range).await {
                Ok(answer) if task.is_a_shortcut() && answer.status.is_server_error() => return Ok(answer),
                Ok(mut answer) if response::is_passing(answer.status) => {
                    if matches!(
                        answer.status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
                    ) {
                        self.transfers.note_refusal();
                    }
                    let wait = asked_wait(&task.doing, &answer)?;
                    let problem = self.problem(&mut answer).await;
                    (Error::unavailable(&task.doing, problem).advise("try again later"), wait)
                }
                Ok(answer) => return Ok(answer),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(error)) => {
                    self.transfers.note_refusal();
                    (error, None)
                }
            };
            if !retry.pause(wait).await {
                return Err(error);
            }
        }
    }

    /// Sends a task's request once: to where the blob was found lately, else to the registry and on to where it sends us.
    async fn attempt(&self, task: &Task<'_>, range: Option<&Range<u64>>) -> Result<Answer, Trouble> {
        self.check_open(&task.doing)?;
        let headers = request_headers(task, range);
        let mut resolutions = 0;
        if let Some((digest, url)) = self.link(task) {
            let sent = self.transmit(self.outgoing(task, url, headers.clone(), self.redirect_floor())).await;
            let answer = match sent {
                Ok(answer) => self.follow(task, answer, &headers, None).await,
                Err(failure) => Err(self.trouble(task, failure)),
            };
            if answer.as_ref().is_ok_and(|answer| answer.status.is_success()) {
                return answer;
            }
            lock(&self.links).forget(digest);
            if !answer.as_ref().is_ok_and(|answer| is_link_refusal(answer.status)) {
                return answer;
            }
            resolutions = 1;
        }
        loop {
            let (answer, authorization) = self.authorized(task, &headers).await?;
            if !is_redirect(answer.status) {
                return Ok(answer);
            }
            resolutions += 1;
            let answer = self.follow(task, answer, &headers, authorization).await?;
            if is_link_refusal(answer.status) && resolutions < RESOLUTIONS {
                continue;
            }
            return self.settle(task, answer);
        }
    }

    /// Makes so many connections to where a blob was read lately, for further requests. What fails will fail again for them, and
    /// be told then.
    pub(crate) async fn connect_for(&self, digest: &Digest, connections: usize) {
        let link = lock(&self.links).find(digest, self.http.clock.now());
        let (url, floor) = match link {
            Some(link) => (link, self.redirect_floor()),
            None => match self.url("/") {
                Ok(url) => (url, REGISTRY_FLOOR),
                Err(_) => return,
            },
        };
        self.http.connect(&url, floor, connections).await;
    }

    /// Where the task's blob was found lately.
    fn link<'a>(&self, task: &Task<'a>) -> Option<(&'a Digest, Url)> {
        let digest = task.digest?;
        let url = lock(&self.links).find(digest, self.http.clock.now())?;
        Some((digest, url))
    }

    /// Remembers where a redirect led, or says that it leads nowhere.
    fn settle(&self, task: &Task<'_>, answer: Answer) -> Result<Answer, Trouble> {
        if let Some(digest) = task.digest
            && answer.status.is_success()
            && !self.is_origin(&answer.url)
        {
            lock(&self.links).remember(digest, answer.url.clone(), self.http.clock.now());
            self.habits.redirected(&answer.url, self.redirect_floor());
        }
        if matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let (target, status) = (redirect::shown(&answer.url), response::status_text(answer.status));
            let problem =
                format!("{target}, to which the registry redirects, answers {status}, also to a new link");
            return Err(Error::unavailable(&task.doing, problem).into());
        }
        Ok(answer)
    }

    /// Follows redirects. What the registry may see is dropped on the way to anybody else, and not taken up again.
    async fn follow(
        &self,
        task: &Task<'_>,
        mut answer: Answer,
        headers: &HeaderMap,
        mut authorization: Option<Authorization>,
    ) -> Result<Answer, Trouble> {
        let mut redirects = 0;
        while is_redirect(answer.status) {
            redirects += 1;
            if redirects > limits::REDIRECTS {
                let problem = format!("more than {} redirects", limits::REDIRECTS);
                return Err(Error::other(&task.doing, problem).into());
            }
            let target = redirect::target(&answer.url, &answer.headers)
                .map_err(|problem| Error::other(&task.doing, format!("{problem} is not followed")))?;
            let keeps = redirect::keeps_authorization(&self.url("/")?, &self.repository.name, &target);
            authorization = authorization.filter(|_| keeps);
            drop(answer);
            let headers = authorized_headers(headers, authorization.as_ref());
            let sent = self.transmit(self.outgoing(task, target, headers, self.redirect_floor())).await;
            answer = sent.map_err(|failure| self.trouble(task, failure))?;
        }
        Ok(answer)
    }

    /// Sends a request to the registry. To one on this machine that has not answered yet: plain http first, https if it turns
    /// out to speak TLS.
    pub(super) async fn ask(
        &self,
        task: &Task<'_>,
        asked: Asked,
        headers: HeaderMap,
    ) -> Result<Answer, Trouble> {
        let origin = *lock(&self.origin);
        let url = match asked {
            Asked::Api => self.url("/v2/")?,
            Asked::Task => self.url(&self.path(task))?,
        };
        let outgoing = |url, headers| {
            let outgoing = self.outgoing(task, url, headers, REGISTRY_FLOOR);
            match asked {
                Asked::Api => Outgoing { method: Method::Get, target: RequestTarget::Api, ..outgoing },
                Asked::Task => outgoing,
            }
        };
        if origin.is_decided {
            let sent = self.transmit(outgoing(url, headers)).await;
            let answer = sent.map_err(|failure| self.trouble(task, failure))?;
            self.decide(origin.is_plain, &answer);
            return Ok(answer);
        }
        let mut secure = url.clone();
        // Cannot fail between http and https; if it did, plain http would be tried again.
        let _ = secure.set_scheme("https");
        // Who brings certificates along means to use them.
        let is_secure_first = self.http.has_authorities;
        if is_secure_first {
            match self.transmit(outgoing(secure.clone(), headers.clone())).await {
                Ok(answer) => {
                    self.decide(false, &answer);
                    return Ok(answer);
                }
                Err(failure) if failure.kind == FailureKind::Certificate => {
                    return Err(self.trouble(task, failure));
                }
                Err(_) => {}
            }
        }
        let may_speak_tls = match self.transmit(outgoing(url, headers.clone())).await {
            Ok(mut answer) => {
                if answer.status != StatusCode::BAD_REQUEST || !mentions_https(&answer.peek().await) {
                    self.decide(true, &answer);
                    return Ok(answer);
                }
                Failure::wants_https()
            }
            Err(failure) if failure.kind == FailureKind::Interrupted => failure,
            Err(failure) => return Err(self.trouble(task, failure)),
        };
        if is_secure_first {
            return Err(self.silent(self.trouble(task, may_speak_tls)));
        }
        match self.transmit(outgoing(secure, headers)).await {
            Ok(answer) => {
                self.decide(false, &answer);
                Ok(answer)
            }
            // It does speak TLS: that is the failure to tell.
            Err(failure) if failure.kind == FailureKind::Certificate => Err(self.trouble(task, failure)),
            Err(_) => Err(self.silent(self.trouble(task, may_speak_tls))),
        }
    }

    /// What never answers is probably no registry: it is not asked as often as one that once did.
    fn silent(&self, trouble: Trouble) -> Trouble {
        let mut origin = lock(&self.origin);
        origin.silences += 1;
        match trouble {
            Trouble::Passing(error) if origin.silences >= SILENCES => Trouble::Final(error),
            trouble => trouble,
        }
    }

    fn decide(&self, is_plain: bool, answer: &Answer) {
        *lock(&self.origin) =
            Origin { is_plain, is_decided: true, is_reached: true, silences: 0, peer: answer.peer };
    }

    /// How private an address a redirect may lead to: one class below the registry's, since a public name may well stand before
    /// a storage in the same private network, but no further.
    fn redirect_floor(&self) -> AddressClass {
        match lock(&self.origin).peer {
            Some(AddressClass::Public) | None => AddressClass::Private,
            Some(AddressClass::Private | AddressClass::Loopback) => AddressClass::Loopback,
            Some(AddressClass::LinkLocal) => AddressClass::LinkLocal,
        }
    }

    fn outgoing(&self, task: &Task<'_>, url: Url, headers: HeaderMap, floor: AddressClass) -> Outgoing {
        let (method, target) = (task.method.clone(), task.target.clone());
        let progress = Arc::clone(&self.progress);
        let beside = self.beside(task, &url, floor);
        Outgoing { url, headers, method, target, progress, floor, beside }
    }

    /// The connections for what follows the first answer. A manifest leaves one; who asks for its digest alone asks for blobs at the
    /// same time: at once, over connections of their own, or once there is a token.
    fn beside(&self, task: &Task<'_>, url: &Url, floor: AddressClass) -> Vec<Beside> {
        if task.leads_on == 0 || lock(&self.origin).is_reached {
            return Vec::new();
        }
        let connections = match task.method {
            Method::Head if self.is_probably_open() => 0,
            Method::Head => task.leads_on,
            _ => task.leads_on - 1,
        };
        let own = Beside { url: url.clone(), floor, connections };
        let storage = self.habits.storage();
        let storage = storage.map(|(url, floor)| Beside { url, floor, connections: task.leads_on });
        storage.into_iter().chain([own]).collect()
    }

    async fn transmit(&self, outgoing: Outgoing) -> Result<Answer, Failure> {
        self.http.send(outgoing, &self.counters).await
    }

    /// A failure to connect may pass only if the registry has been reached before: a mistyped name need not be waited for.
    fn trouble(&self, task: &Task<'_>, failure: Failure) -> Trouble {
        let is_reached = lock(&self.origin).is_reached;
        let passes = failure.is_passing() && (is_reached || failure.kind != FailureKind::Connect);
        let error = match failure.kind {
            FailureKind::TooPrivate => {
                Error::other(&task.doing, format!("a redirect is not followed: {failure}"))
            }
            _ => failure.into_error(&task.doing),
        };
        if passes { Trouble::Passing(error) } else { Trouble::Final(error) }
    }

    pub(super) fn check_open(&self, doing: &str) -> Result<(), Error> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::other(doing, "the session has been closed"));
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

/// What Go's and nginx's servers say to plain http on a TLS port.
fn mentions_https(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_ascii_lowercase();
    text.contains("http request to an https server")
        || text.contains("plain http request was sent to https port")
}
