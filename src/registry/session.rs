//! A session: one repository and one credential. All requests to a registry go through here.

use std::{
    fmt,
    io::Read as _,
    ops::Range,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use tokio::sync::watch;

use crate::{
    auth::Credential,
    hint::Hint,
    limits,
    oci::{
        digest::{Digest, Hasher},
        media_type::ACCEPTED_MANIFESTS,
    },
    progress::{Reporter, RequestTarget},
    registry::{
        Repository,
        authorization::Authority,
        blob::BlobReader,
        error::{Error, Kind},
        hints::RegistryHints,
        http::{
            self, Counters, HeaderValue, Http, Method, StatusCode, Url, address::AddressClass,
            response::Response,
        },
        lock, message,
        redirect::Links,
        retry::Retry,
        transfers::Transfers,
        wait_budget::WaitBudget,
    },
};

mod authorize;
pub(crate) mod login;
mod push;
mod renewal;
mod request;
#[cfg(test)]
mod tests;

/// All types of manifests that can be read. Without the OCI types distribution 2.8.2 responds 404. Schema 1 is last, so that the
/// error can name it.
static ACCEPT_MANIFEST: LazyLock<String> = LazyLock::new(|| ACCEPTED_MANIFESTS.join(", "));

/// The digest of the requested content (distribution specification, "Checking if content exists in the registry").
const DIGEST_HEADER: &str = "docker-content-digest";

/// A session with a registry, bound to one repository and one credential. Its tokens end with it, and are sent only to its registry
/// and for its repository.
pub(crate) struct Session {
    pub(super) http: Arc<Http>,
    repository: Repository,
    progress: Arc<Reporter>,
    pub(super) counters: Arc<Counters>,
    authority: Authority,
    origin: Mutex<Origin>,
    links: Mutex<Links>,
    hints: RegistryHints,
    /// Whether a request has been accepted, or the authorisation for it is at hand.
    auth_settled: watch::Sender<bool>,
    /// The waits of the current question.
    pub(super) budget: Arc<WaitBudget>,
    ranges_ignored: AtomicBool,
    pub(crate) transfers: Arc<Transfers>,
    is_closed: AtomicBool,
    /// Whether tokens must also permit pushing.
    pushes: bool,
}

/// How the registry is reached.
#[derive(Clone, Copy, Debug)]
struct Origin {
    is_plain: bool,
    /// `false` until it is known whether a registry on this machine speaks TLS.
    is_decided: bool,
    /// Whether it has responded: a failure to connect may then be transient.
    is_reached: bool,
    /// How often it has spoken neither HTTP nor HTTPS.
    silences: usize,
    /// The class of its address; unknown before it has responded, and behind a proxy.
    peer: Option<AddressClass>,
}

/// A manifest or image index as received, verified against the requested digest.
#[derive(Clone, Debug)]
pub(crate) struct FetchedManifest {
    /// The unchanged bytes.
    pub(crate) bytes: Bytes,
    /// `Content-Type` as received.
    pub(crate) content_type: Option<String>,
    /// The requested digest, else the SHA-256 of the bytes.
    pub(crate) digest: Digest,
}

/// A request in terms of the distribution API.
pub(super) struct Task<'a> {
    /// What is being done to what, for messages.
    pub(super) operation: String,
    /// Path below `/v2/NAME/`.
    path: String,
    method: Method,
    target: RequestTarget,
    accept: Option<&'static str>,
    /// The digest of a blob, whose location may be remembered.
    digest: Option<&'a Digest>,
    /// How many blobs will be requested concurrently after the response.
    followups: usize,
}

impl Task<'_> {
    fn of_manifest(operation: String, method: Method, reference: &str) -> Self {
        let target = RequestTarget::Manifest(reference.to_owned());
        let path = format!("manifests/{reference}");
        // The configuration and the first range.
        let followups = if matches!(method, Method::Get) { 2 } else { 0 };
        Self { operation, path, method, target, accept: Some(&ACCEPT_MANIFEST), digest: None, followups }
    }

    /// Whether another request gives the same, and is the one to retry.
    fn is_a_shortcut(&self) -> bool {
        matches!((&self.method, &self.target), (Method::Head, RequestTarget::Manifest(_)))
    }
}

#[cfg(test)]
impl Session {
    /// A session without progress.
    pub(crate) fn new(http: Arc<Http>, repository: Repository, credential: Option<Credential>) -> Arc<Self> {
        Self::with_progress(http, repository, credential, Arc::new(crate::progress::Reporter::silent()))
    }

    /// Requests sent so far, including token requests and failed ones.
    pub(crate) fn requests(&self) -> u64 {
        self.counters.requests.load(Ordering::Relaxed)
    }

    /// Bytes of bodies received so far.
    pub(crate) fn bytes_fetched(&self) -> u64 {
        self.counters.bytes.load(Ordering::Relaxed)
    }
}

impl Session {
    /// A session whose warnings go to `progress`. Sends nothing yet.
    pub(crate) fn with_progress(
        http: Arc<Http>,
        repository: Repository,
        credential: Option<Credential>,
        progress: Arc<Reporter>,
    ) -> Arc<Self> {
        Arc::new(Self::open(http, repository, credential, progress))
    }

    /// A session that reads, with the hints of earlier runs.
    pub(crate) fn reading(
        http: Arc<Http>,
        repository: Repository,
        credential: Option<Credential>,
        progress: Arc<Reporter>,
        hints: RegistryHints,
    ) -> Arc<Self> {
        Arc::new(Self { hints, ..Self::open(http, repository, credential, progress) })
    }

    /// A session that may also push.
    pub(crate) fn pushing(
        http: Arc<Http>,
        repository: Repository,
        credential: Option<Credential>,
        progress: Arc<Reporter>,
    ) -> Arc<Self> {
        Arc::new(Self { pushes: true, ..Self::open(http, repository, credential, progress) })
    }

    fn open(
        http: Arc<Http>,
        repository: Repository,
        credential: Option<Credential>,
        progress: Arc<Reporter>,
    ) -> Self {
        let is_loopback = http::is_loopback(host_without_port(&repository.host));
        let origin = Origin {
            // Added certificates are meant to be used: nothing is sent in plain text then, least of all a password.
            is_plain: http.plain_http || (is_loopback && !http.has_authorities),
            is_decided: http.plain_http || !is_loopback || http.has_authorities,
            is_reached: false,
            silences: 0,
            peer: None,
        };
        Self {
            counters: Arc::clone(&http.counters),
            budget: http.wait_budget(),
            http,
            repository,
            progress,
            authority: Authority::new(credential),
            origin: Mutex::new(origin),
            links: Mutex::default(),
            hints: RegistryHints::default(),
            auth_settled: watch::Sender::new(false),
            ranges_ignored: AtomicBool::new(false),
            transfers: Arc::default(),
            is_closed: AtomicBool::new(false),
            pushes: false,
        }
    }

    /// Whether the registry has responded to a range with the whole blob.
    pub(crate) fn ignores_ranges(&self) -> bool {
        self.ranges_ignored.load(Ordering::Relaxed)
    }

    /// Waits until the authorisation of further requests is known, so that a request concurrent to the first one is not sent in vain.
    /// Returns at once if the registry required none in the last run.
    pub(crate) async fn auth_settled(&self) {
        if self.is_probably_open() {
            return;
        }
        // The sender is a field of this session, so the channel is open.
        let _ = self.auth_settled.subscribe().wait_for(|auth_settled| *auth_settled).await;
    }

    /// Whether the registry probably requires no authorisation, as in the last run.
    fn is_probably_open(&self) -> bool {
        let is_plain = {
            let origin = lock(&self.origin);
            // The scheme that is tried first.
            origin.is_plain
        };
        self.authority.credential.is_none() && self.hints.was_open(is_plain)
    }

    /// Starts a new question, whose waits and time limit begin now.
    pub(crate) fn begin_question(&self) {
        self.budget.restart();
    }

    /// Bytes that may still be requested.
    pub(crate) fn allowance(&self) -> u64 {
        self.counters.left()
    }

    pub(super) fn note_ignored_range(&self) {
        self.ranges_ignored.store(true, Ordering::Relaxed);
    }

    /// Fetches the manifest or index of `reference` (a tag or a digest) and checks it against `expected`, or against `reference` if
    /// that is a digest.
    pub(crate) async fn manifest(
        &self,
        reference: &str,
        expected: Option<&Digest>,
    ) -> Result<FetchedManifest, Error> {
        let operation = format!("fetching the manifest {reference} of {}", self.repository);
        let task = Task::of_manifest(operation, Method::Get, reference);
        let mut retry = Retry::new(&self.http, &self.budget);
        let (bytes, content_type, encoding) = loop {
            let mut response = self.get(&task, None, &mut retry).await?;
            if response.status != StatusCode::OK {
                return Err(self.unexpected(&task, &mut response, Kind::ManifestUnknown).await);
            }
            let content_type = response.headers.get(http::header::CONTENT_TYPE);
            let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
            match response.whole(limits::MANIFEST_BYTES).await {
                Ok(Some(bytes)) => {
                    let encoding = response.headers.get_all(http::header::CONTENT_ENCODING).iter();
                    break (bytes, content_type, encoding.cloned().collect::<Vec<_>>());
                }
                Ok(None) => {
                    let detail = format!("it is larger than {} bytes", limits::MANIFEST_BYTES);
                    return Err(Error::other(&task.operation, detail));
                }
                Err(failure) if failure.is_transient() => {
                    retry.pause(failure.into_error(&task.operation), None).await?;
                }
                Err(failure) => return Err(failure.into_error(&task.operation)),
            }
        };
        let bytes = decoded(&task.operation, &encoding, bytes)?;
        let asked = reference.parse::<Digest>().ok();
        let Some(expected) = expected.or(asked.as_ref()) else {
            return Ok(FetchedManifest { digest: Digest::sha256(&bytes), bytes, content_type });
        };
        if !expected.matches(&bytes) {
            let detail = format!("the registry sent other content: its digest is not {expected}");
            return Err(Error::corrupt(&task.operation, detail));
        }
        Ok(FetchedManifest { digest: expected.clone(), bytes, content_type })
    }

    /// Requests the digest of a tag by HEAD, which Docker Hub does not count as a pull. `None` if the registry does not tell, for
    /// whatever reason: fetching the manifest gives the answer or the error. `followups` blobs will be requested next.
    pub(crate) async fn head_manifest(&self, tag: &str, followups: usize) -> Result<Option<Digest>, Error> {
        let operation = format!("requesting the digest of {tag} of {}", self.repository);
        let task = Task { followups, ..Task::of_manifest(operation, Method::Head, tag) };
        let response = match self.get(&task, None, &mut Retry::new(&self.http, &self.budget)).await {
            // Some registries refuse HEAD, or close the connection. Whatever is wrong, fetching the manifest says so.
            Err(error) if error.is_unauthorized() || error.is_unavailable() => return Ok(None),
            response => response?,
        };
        if response.status != StatusCode::OK {
            return Ok(None);
        }
        let digest = response.headers.get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
        Ok(digest.and_then(|digest| digest.parse().ok()))
    }

    /// Reads a whole blob of `size` bytes, at most `cap`, and checks it against its digest.
    pub(crate) async fn blob(self: &Arc<Self>, digest: &Digest, size: u64, cap: u64) -> Result<Bytes, Error> {
        let mut reader = self.open_blob(digest.clone(), 0..size, size);
        if size > cap {
            let detail = format!("its size is given as {size} bytes, and {cap} are accepted");
            return Err(Error::other(reader.operation(), detail));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await? {
            hasher.update(&chunk);
            bytes.extend_from_slice(&chunk);
        }
        if hasher.finish() != *digest {
            return Err(Error::corrupt(
                reader.operation(),
                "the registry sent other content: the digest differs",
            ));
        }
        Ok(bytes.into())
    }

    /// Reads `range` of a blob of `size` bytes. Sends nothing before the first byte is requested.
    pub(crate) fn open_blob(self: &Arc<Self>, digest: Digest, range: Range<u64>, size: u64) -> BlobReader {
        BlobReader::new(Arc::clone(self), digest, range, size)
    }

    /// Ends the session: discards tokens and locations, and sends nothing more.
    pub(crate) async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.authority.clear();
        lock(&self.links).clear();
    }

    /// The task of reading a blob.
    pub(super) fn blob_task<'a>(&self, digest: &'a Digest) -> Task<'a> {
        Task {
            operation: format!("reading the blob {digest} of {}", self.repository),
            path: format!("blobs/{digest}"),
            method: Method::Get,
            target: RequestTarget::Blob(digest.clone()),
            accept: None,
            digest: Some(digest),
            followups: 0,
        }
    }

    /// The error for an unexpected response; `missing` is its kind for 404 and 410.
    pub(super) async fn unexpected(&self, task: &Task<'_>, response: &mut Response, missing: Kind) -> Error {
        let detail = self.detail(response).await;
        let error = match response.status.as_u16() {
            404 | 410 if missing == Kind::ManifestUnknown => {
                Error::new(missing, &task.operation, detail).hint(Hint::CheckName)
            }
            404 | 410 => Error::new(missing, &task.operation, detail),
            500.. => Error::unavailable(&task.operation, detail),
            _ => Error::other(&task.operation, detail),
        };
        error.with_status(response.status)
    }

    /// Describes a response, for a message.
    async fn detail(&self, response: &mut Response) -> String {
        let status = message::status_text(response.status);
        if !self.is_origin(&response.url) {
            return format!("{} answers {status}", crate::registry::redirect::shown(&response.url));
        }
        let body = response.peek().await;
        match message::server_message(&body, &self.authority.redactor()) {
            Some(message) => format!("the registry answers {status} ({message})"),
            None => format!("the registry answers {status}"),
        }
    }

    fn is_origin(&self, url: &Url) -> bool {
        self.url("/").is_ok_and(|origin| crate::registry::redirect::is_same_origin(&origin, url))
    }

    /// A URL of the registry.
    fn url(&self, path: &str) -> Result<Url, Error> {
        let scheme = if lock(&self.origin).is_plain { "http" } else { "https" };
        let host = &self.repository.host;
        Url::parse(&format!("{scheme}://{host}{path}"))
            .map_err(|error| Error::other(format!("asking {host}"), format!("not a valid address: {error}")))
    }

    fn path(&self, task: &Task<'_>) -> String {
        format!("/v2/{}/{}", self.repository.name, task.path)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("repository", &self.repository).finish_non_exhaustive()
    }
}

/// A manifest without its content coding: some servers compress manifests unasked. False labels are ignored.
fn decoded(operation: &str, codings: &[HeaderValue], bytes: Bytes) -> Result<Bytes, Error> {
    let is_identity = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    let coding = match codings {
        [] => return Ok(bytes),
        [one] if is_identity(one) || bytes.trim_ascii_start().first() == Some(&b'{') => return Ok(bytes),
        [one] => String::from_utf8_lossy(one.as_bytes()).to_ascii_lowercase(),
        _ => return Err(Error::other(operation, "there is more than one Content-Encoding")),
    };
    if !matches!(coding.as_str(), "gzip" | "x-gzip") {
        let detail = format!("the Content-Encoding {:?} is not supported", coding.escape_debug().to_string());
        return Err(Error::other(operation, detail));
    }
    let mut plain = Vec::new();
    let read = GzDecoder::new(&bytes[..]).take(limits::MANIFEST_BYTES + 1).read_to_end(&mut plain);
    if let Err(error) = read {
        let detail = format!("the body is not what its Content-Encoding says, gzip: {error}");
        return Err(Error::corrupt(operation, detail));
    }
    if plain.len() as u64 > limits::MANIFEST_BYTES {
        let detail = format!("it is larger than {} bytes", limits::MANIFEST_BYTES);
        return Err(Error::other(operation, detail));
    }
    Ok(plain.into())
}

/// The host of `host:port`, with the brackets of an IPv6 address.
fn host_without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}
