//! One repository and one credential: everything that is asked of a registry goes through here.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    auth::Credential,
    limits,
    oci::{
        digest::{Digest, Hasher},
        media_type::ACCEPTED_MANIFESTS,
    },
    progress::{Progress, RequestTarget},
    registry::{
        Repository,
        authorization::Authority,
        blob::BlobReader,
        error::{Error, Kind},
        habits::Habits,
        http::{self, Counters, Http, Method, StatusCode, Url, address::AddressClass, answer::Answer},
        lock,
        redirect::Links,
        response,
        retry::Retry,
        transfers::Transfers,
    },
};

mod authorize;
pub(crate) mod login;
mod push;
mod renewal;
mod request;
#[cfg(test)]
mod tests;

/// Every kind of manifest that we can read; without the OCI types distribution 2.8.2 answers 404. Schema 1 comes last, so that
/// it can be refused by name.
static ACCEPT_MANIFEST: LazyLock<String> = LazyLock::new(|| ACCEPTED_MANIFESTS.join(", "));

/// The digest of what was asked for (distribution specification, "Checking if content exists in the registry").
const DIGEST_HEADER: &str = "docker-content-digest";

/// A session with a registry, bound to one repository and one credential. Tokens live in it and end with it; they are sent to
/// its registry, for its repository, and nowhere else.
pub(crate) struct Session {
    pub(super) http: Arc<Http>,
    repository: Repository,
    progress: Arc<dyn Progress>,
    pub(super) counters: Arc<Counters>,
    authority: Authority,
    origin: Mutex<Origin>,
    links: Mutex<Links>,
    habits: Habits,
    /// Whether a request has been accepted, or what it takes for that is at hand.
    is_admitted: watch::Sender<bool>,
    ranges_ignored: AtomicBool,
    pub(crate) transfers: Arc<Transfers>,
    is_closed: AtomicBool,
    /// Tokens are to allow storing, too.
    pushes: bool,
}

/// How the registry is reached.
#[derive(Clone, Copy, Debug)]
struct Origin {
    is_plain: bool,
    /// `false` while it is open whether a registry on this machine speaks TLS.
    is_decided: bool,
    /// It has answered: a failure to connect may pass.
    is_reached: bool,
    /// How often it has spoken neither http nor https.
    silences: usize,
    /// How private its address is; unknown before it has answered, and behind a proxy.
    peer: Option<AddressClass>,
}

/// A manifest or image index as it came, verified against the digest that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct FetchedManifest {
    /// The very bytes.
    pub(crate) bytes: Bytes,
    /// `Content-Type` as it came.
    pub(crate) content_type: Option<String>,
    /// The digest asked for, else the SHA-256 of the bytes.
    pub(crate) digest: Digest,
}

/// What is being asked for.
pub(super) struct Task<'a> {
    /// For messages: what we are doing, to what.
    pub(super) doing: String,
    /// Path below `/v2/NAME/`.
    path: String,
    method: Method,
    target: RequestTarget,
    accept: Option<&'static str>,
    /// Of a blob: the link to it may be remembered.
    digest: Option<&'a Digest>,
    /// How many blobs will be asked for at once, when it has been answered.
    leads_on: usize,
}

impl Task<'_> {
    fn of_manifest(doing: String, method: Method, reference: &str) -> Self {
        let target = RequestTarget::Manifest(reference.to_owned());
        let path = format!("manifests/{reference}");
        // The configuration and the first range.
        let leads_on = if matches!(method, Method::Get) { 2 } else { 0 };
        Self { doing, path, method, target, accept: Some(&ACCEPT_MANIFEST), digest: None, leads_on }
    }

    /// Whether another request will do as well, and is the one to be tried again.
    fn is_a_shortcut(&self) -> bool {
        matches!((&self.method, &self.target), (Method::Head, RequestTarget::Manifest(_)))
    }
}

#[cfg(test)]
impl Session {
    /// A session that warns nobody.
    pub(crate) fn new(http: Arc<Http>, repository: Repository, credential: Option<Credential>) -> Arc<Self> {
        Self::with_progress(http, repository, credential, Arc::new(crate::progress::Silent))
    }

    /// Requests sent so far, those for tokens and those that failed included.
    pub(crate) fn requests(&self) -> u64 {
        self.counters.requests.load(Ordering::Relaxed)
    }

    /// Bytes of bodies received so far.
    pub(crate) fn bytes_fetched(&self) -> u64 {
        self.counters.bytes.load(Ordering::Relaxed)
    }
}

impl Session {
    /// A session whose warnings go to `progress`. Nothing is sent yet.
    pub(crate) fn with_progress(
        http: Arc<Http>,
        repository: Repository,
        credential: Option<Credential>,
        progress: Arc<dyn Progress>,
    ) -> Arc<Self> {
        Arc::new(Self::open(http, repository, credential, progress))
    }

    /// One that reads, of which earlier runs know this.
    pub(crate) fn reading(
        http: Arc<Http>,
        repository: Repository,
        credential: Option<Credential>,
        progress: Arc<dyn Progress>,
        habits: Habits,
    ) -> Arc<Self> {
        Arc::new(Self { habits, ..Self::open(http, repository, credential, progress) })
    }

    /// A session that may store something, too.
    pub(crate) fn pushing(
        http: Arc<Http>,
        repository: Repository,
        credential: Option<Credential>,
        progress: Arc<dyn Progress>,
    ) -> Arc<Self> {
        Arc::new(Self { pushes: true, ..Self::open(http, repository, credential, progress) })
    }

    fn open(
        http: Arc<Http>,
        repository: Repository,
        credential: Option<Credential>,
        progress: Arc<dyn Progress>,
    ) -> Self {
        let is_loopback = http::is_loopback(host_without_port(&repository.host));
        let origin = Origin {
            is_plain: http.plain_http || is_loopback,
            is_decided: http.plain_http || !is_loopback,
            is_reached: false,
            silences: 0,
            peer: None,
        };
        Self {
            counters: Arc::clone(&http.counters),
            http,
            repository,
            progress,
            authority: Authority::new(credential),
            origin: Mutex::new(origin),
            links: Mutex::default(),
            habits: Habits::default(),
            is_admitted: watch::Sender::new(false),
            ranges_ignored: AtomicBool::new(false),
            transfers: Arc::default(),
            is_closed: AtomicBool::new(false),
            pushes: false,
        }
    }

    /// Whether the registry has answered a range with the whole blob.
    pub(crate) fn ignores_ranges(&self) -> bool {
        self.ranges_ignored.load(Ordering::Relaxed)
    }

    /// Waits until a further request beside the first one will be accepted if that one is: until it is known what it has to carry. Not
    /// at all where the registry asked for nothing the last time.
    pub(crate) async fn admitted(&self) {
        if self.is_probably_open() {
            return;
        }
        // It cannot be closed as long as we are here.
        let _ = self.is_admitted.subscribe().wait_for(|is_admitted| *is_admitted).await;
    }

    /// Whether nothing has to be shown to the registry, if it is as it was.
    fn is_probably_open(&self) -> bool {
        let is_plain = {
            let origin = lock(&self.origin);
            // Of two schemes, the one that is tried first.
            if origin.is_decided { origin.is_plain } else { !self.http.has_authorities }
        };
        self.authority.credential.is_none() && self.habits.was_open(is_plain)
    }

    /// Bytes that may still be asked for.
    pub(crate) fn allowance(&self) -> u64 {
        self.counters.left()
    }

    pub(super) fn note_ignored_range(&self) {
        self.ranges_ignored.store(true, Ordering::Relaxed);
    }

    /// Fetches the manifest or index that `reference` (a tag or a digest) names, and holds it against `expected`, or against
    /// `reference` if that is a digest.
    pub(crate) async fn manifest(
        &self,
        reference: &str,
        expected: Option<&Digest>,
    ) -> Result<FetchedManifest, Error> {
        let doing = format!("fetching the manifest {reference} of {}", self.repository);
        let task = Task::of_manifest(doing, Method::Get, reference);
        let mut retry = Retry::new(&self.http);
        let (bytes, content_type) = loop {
            let mut answer = self.get(&task, None, &mut retry).await?;
            if answer.status != StatusCode::OK {
                return Err(self.unexpected(&task, &mut answer, Kind::ManifestUnknown).await);
            }
            let content_type = answer.headers.get(http::header::CONTENT_TYPE);
            let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
            match answer.whole(limits::MANIFEST_BYTES).await {
                Ok(Some(bytes)) => break (bytes, content_type),
                Ok(None) => {
                    let problem = format!("it is larger than {} bytes", limits::MANIFEST_BYTES);
                    return Err(Error::other(&task.doing, problem));
                }
                Err(failure) if failure.is_passing() && retry.pause(None).await => drop(failure),
                Err(failure) => return Err(failure.into_error(&task.doing)),
            }
        };
        let asked = reference.parse::<Digest>().ok();
        let Some(expected) = expected.or(asked.as_ref()) else {
            return Ok(FetchedManifest { digest: Digest::sha256(&bytes), bytes, content_type });
        };
        if !expected.matches(&bytes) {
            let problem = format!("the registry sent other content: its digest is not {expected}");
            return Err(Error::corrupt(&task.doing, problem));
        }
        Ok(FetchedManifest { digest: expected.clone(), bytes, content_type })
    }

    /// Asks what digest the manifest or index of a tag has, without fetching it: Docker Hub counts no pull for that. `None` if the
    /// registry does not say, be it that it does not know the tag, the question or the header, or refuses it, or fails at it; fetching
    /// the manifest will tell. So many blobs will be asked for then.
    pub(crate) async fn head_manifest(&self, tag: &str, leads_on: usize) -> Result<Option<Digest>, Error> {
        let doing = format!("asking for the digest of {tag} of {}", self.repository);
        let task = Task { leads_on, ..Task::of_manifest(doing, Method::Head, tag) };
        let answer = match self.get(&task, None, &mut Retry::new(&self.http)).await {
            // Some let nobody ask for the head alone; who may not have the manifest either is told so when fetching it.
            Err(error) if error.is_unauthorized() => return Ok(None),
            answer => answer?,
        };
        if answer.status != StatusCode::OK {
            return Ok(None);
        }
        let digest = answer.headers.get(DIGEST_HEADER).and_then(|value| value.to_str().ok());
        Ok(digest.and_then(|digest| digest.parse().ok()))
    }

    /// Reads a whole blob of `size` bytes, at most `cap`, and holds it against its digest.
    pub(crate) async fn blob(self: &Arc<Self>, digest: &Digest, size: u64, cap: u64) -> Result<Bytes, Error> {
        let mut reader = self.open_blob(digest.clone(), 0..size, size);
        if size > cap {
            let problem = format!("its size is given as {size} bytes, and {cap} are accepted");
            return Err(Error::other(reader.doing(), problem));
        }
        let mut hasher = Hasher::new(digest.algorithm());
        let mut bytes = Vec::new();
        while let Some(chunk) = reader.next().await? {
            hasher.update(&chunk);
            bytes.extend_from_slice(&chunk);
        }
        if hasher.finish() != *digest {
            return Err(Error::corrupt(
                reader.doing(),
                "the registry sent other content: the digest differs",
            ));
        }
        Ok(bytes.into())
    }

    /// Reads `range` of a blob of `size` bytes. Sends nothing before the first byte is asked for.
    pub(crate) fn open_blob(self: &Arc<Self>, digest: Digest, range: Range<u64>, size: u64) -> BlobReader {
        BlobReader::new(Arc::clone(self), digest, range, size)
    }

    /// Ends the session: tokens and links are forgotten, nothing more is asked for.
    pub(crate) async fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.authority.clear();
        lock(&self.links).clear();
    }

    /// The task of reading a blob.
    pub(super) fn blob_task<'a>(&self, digest: &'a Digest) -> Task<'a> {
        Task {
            doing: format!("reading the blob {digest} of {}", self.repository),
            path: format!("blobs/{digest}"),
            method: Method::Get,
            target: RequestTarget::Blob(digest.clone()),
            accept: None,
            digest: Some(digest),
            leads_on: 0,
        }
    }

    /// An error for an answer that is not what was hoped for; `missing` is the kind where it is 404 or 410.
    pub(super) async fn unexpected(&self, task: &Task<'_>, answer: &mut Answer, missing: Kind) -> Error {
        let problem = self.problem(answer).await;
        match answer.status.as_u16() {
            404 | 410 if missing == Kind::ManifestUnknown => Error::new(missing, &task.doing, problem)
                .advise(
                    "check the name and the tag; a private image may look missing to who is not logged in",
                ),
            404 | 410 => Error::new(missing, &task.doing, problem),
            500.. => Error::unavailable(&task.doing, problem),
            _ => Error::other(&task.doing, problem),
        }
    }

    /// What an answer says, for a message.
    async fn problem(&self, answer: &mut Answer) -> String {
        let status = response::status_text(answer.status);
        if !self.is_origin(&answer.url) {
            return format!("{} answers {status}", crate::registry::redirect::shown(&answer.url));
        }
        let body = answer.peek().await;
        let secrets = self.authority.secret_texts();
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        match response::server_message(&body, &secrets) {
            Some(message) => format!("the registry answers {status} ({message})"),
            None => format!("the registry answers {status}"),
        }
    }

    fn is_origin(&self, url: &Url) -> bool {
        self.url("/").is_ok_and(|origin| crate::registry::redirect::is_same_origin(&origin, url))
    }

    /// An address of the registry.
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

/// The host of `host:port`, with the brackets of an IPv6 address.
fn host_without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}
