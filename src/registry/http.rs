//! The only caller of reqwest: connections, TLS, proxies, and the addresses that a request may reach.
//!
//! Nothing here follows a redirect, sends a `Referer`, keeps a cookie or decompresses a body. HTTP/1.1 only.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    ops::Range,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use reqwest::{Client, redirect::Policy};
pub(super) use reqwest::{
    StatusCode, Url,
    header::{self, HeaderMap, HeaderValue},
};
use rustls::ClientConfig;
use tokio::task::JoinSet;

pub(super) use self::budget::Counters;
pub(crate) mod address;
mod budget;
pub(crate) mod clock;
#[cfg(feature = "object-store")]
pub(crate) mod objects;
mod patience;
pub(crate) mod policy;
mod proxy;
pub(super) mod response;
mod tls;
pub(crate) mod transfer_error;
mod warm;

use crate::{
    progress::{Ongoing, Reporter, RequestMethod, RequestTarget},
    registry::{
        error::Error,
        http::{
            address::{AddressClass, Network, Resolver},
            clock::Clock,
            policy::AddressPolicy,
            proxy::Proxies,
            response::{Body, Response},
            transfer_error::TransferError,
            warm::Pool,
        },
        wait_budget::{WAIT_LIMIT, WaitBudget},
    },
};

const USER_AGENT: &str = concat!("layerslayer/", env!("CARGO_PKG_VERSION"));

/// A transfer with fewer bytes per second than this, over the stall window, is stalled.
const STALL_BYTES_PER_SECOND: u64 = 1 << 10;
const STALL_WINDOW: Duration = Duration::from_secs(30);
/// Longest time that all transfers for one token may take together: every request waits for it.
const TOKEN_DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The part of each request's wait that is usual.
const USUAL_WAIT: Duration = Duration::from_secs(1);
const RETRY_BASE: Duration = Duration::from_millis(500);
const IDLE_CONNECTIONS_PER_HOST: usize = 16;

/// Shared connections and settings.
pub(crate) struct Http {
    pub(super) plain_http: bool,
    /// Whether certificates were added to the platform's.
    pub(super) has_authorities: bool,
    pub(super) retry_base: Duration,
    pub(super) clock: Clock,
    pub(super) token_deadline: Duration,
    wait_limit: Duration,
    timeout: Option<Duration>,
    /// Requests and bytes of all sessions.
    pub(super) counters: Arc<Counters>,
    stall_window: Duration,
    network: Arc<Network>,
    verifier: Arc<tls::Verifier>,
    pub(super) address_policy: AddressPolicy,
    proxies: Proxies,
    direct: BTreeMap<AddressClass, Pool>,
    proxied: Client,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("plain_http", &self.plain_http).finish_non_exhaustive()
    }
}

/// Settings of an [`Http`].
#[derive(Clone, Debug)]
pub(crate) struct HttpBuilder {
    plain_http: bool,
    ca_files: Vec<PathBuf>,
    stall_window: Duration,
    token_deadline: Duration,
    retry_base: Duration,
    wait_limit: Duration,
    timeout: Option<Duration>,
    clock: Clock,
    max_bytes: u64,
    address_policy: AddressPolicy,
    network: Network,
    proxies: Proxies,
}

/// Method and body of a request. Contains secrets: a form may have a refresh token.
#[derive(Clone)]
pub(super) enum Method {
    /// POST without a body.
    Begin,
    Get,
    Head,
    /// POST with this form.
    Post(String),
    /// PUT with this content of this type.
    Put(Bytes, &'static str),
}

impl Method {
    fn reported(&self) -> RequestMethod {
        match self {
            Self::Get => RequestMethod::Get,
            Self::Head => RequestMethod::Head,
            Self::Begin | Self::Post(_) => RequestMethod::Post,
            Self::Put(..) => RequestMethod::Put,
        }
    }
}

/// A request to be sent.
pub(super) struct HttpRequest {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) method: Method,
    /// What it is for, as reported to `progress`.
    pub(super) target: RequestTarget,
    pub(super) progress: Arc<Reporter>,
    /// The waits of the question.
    pub(super) budget: Arc<WaitBudget>,
    /// The least public address class that the request may reach.
    pub(super) min_address_class: AddressClass,
    /// Connections made concurrently, for the requests that follow the response.
    pub(super) preconnect: Vec<Preconnect>,
}

/// Connections to make while a request is under way.
pub(super) struct Preconnect {
    /// Only scheme, host and port matter.
    pub(super) url: Url,
    /// The least public address class that they may reach.
    pub(super) min_address_class: AddressClass,
    pub(super) connections: usize,
}

impl Http {
    pub(crate) fn builder() -> HttpBuilder {
        HttpBuilder {
            plain_http: false,
            ca_files: Vec::new(),
            stall_window: STALL_WINDOW,
            token_deadline: TOKEN_DEADLINE,
            retry_base: RETRY_BASE,
            wait_limit: WAIT_LIMIT,
            timeout: None,
            clock: Clock::default(),
            max_bytes: u64::MAX,
            address_policy: AddressPolicy::default(),
            network: Network::default(),
            // Tests do not depend on the environment's proxies.
            proxies: if cfg!(test) { Proxies::default() } else { Proxies::from_environment() },
        }
    }

    /// Requests sent so far, including token requests and failed ones.
    pub(crate) fn requests(&self) -> u64 {
        self.counters.requests.load(Ordering::Relaxed)
    }

    /// Bytes of bodies received so far.
    pub(crate) fn bytes_fetched(&self) -> u64 {
        self.counters.bytes.load(Ordering::Relaxed)
    }

    /// The budget of a new question.
    pub(super) fn wait_budget(&self) -> Arc<WaitBudget> {
        WaitBudget::new(self.clock.clone(), self.wait_limit, self.timeout)
    }

    /// Sends a request and waits for the head of the response.
    pub(super) async fn send(
        &self,
        request: HttpRequest,
        counters: &Arc<Counters>,
    ) -> Result<Response, TransferError> {
        let HttpRequest { url, mut headers, method, target, progress, budget, min_address_class, preconnect } =
            request;
        self.check_literal(&url, min_address_class)?;
        let range = range(&headers);
        let is_head = matches!(method, Method::Head);
        if url.scheme() == "https" {
            self.verifier.prepare();
        }
        let mut claim = counters.claim(range.as_ref().map_or(0, |range| range.end - range.start))?;
        let mut ongoing =
            Ongoing::start(progress, (method.reported(), target), Some(server(&url)), range.clone());
        let proxy = self.proxies.of(&url).map_err(TransferError::setting)?;
        let is_proxied = proxy.is_some();
        let pool = self.direct.get(&min_address_class).filter(|_| !is_proxied);
        let client = pool.map_or(&self.proxied, |pool| &pool.client);
        // Blobs are raw bytes and must arrive uncompressed.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        // Slow progress of a large upload cannot be seen.
        let mut patience = self.stall_window.min(budget.left() + USUAL_WAIT);
        let request = match method {
            Method::Begin => {
                headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
                client.post(url.clone())
            }
            Method::Get => client.get(url.clone()),
            Method::Head => client.head(url.clone()),
            Method::Post(form) => {
                let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
                headers.insert(header::CONTENT_TYPE, form_type);
                client.post(url.clone()).body(form)
            }
            Method::Put(content, content_type) => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
                patience += Duration::from_secs(content.len() as u64 / STALL_BYTES_PER_SECOND);
                client.put(url.clone()).body(content)
            }
        };
        counters.requests.fetch_add(1, Ordering::Relaxed);
        let server = match proxy {
            Some(proxy) => format!("{} through the proxy {}", server(&url), self::server(proxy)),
            None => server(&url),
        };
        let began = budget.now();
        let mut sending = Box::pin(request.headers(headers).send());
        // The request itself connects first.
        let sent = match (&mut sending).now_or_never() {
            Some(sent) => Ok(sent),
            None => {
                let _preconnecting = self.preconnect(preconnect);
                patience::wait(sending, patience, &server, &budget).await
            }
        };
        let waited = budget.now().saturating_duration_since(began);
        let is_healthy = matches!(sent, Ok(Ok(_)));
        budget.spend(if is_healthy { waited.saturating_sub(USUAL_WAIT) } else { waited });
        let sent = sent?;
        let response = sent.map_err(|error| TransferError::from_reqwest(&server, error))?;
        if let Some(pool) = pool {
            pool.answered(&url, response.version());
        }
        ongoing.answered(response.status().as_u16());
        if !response.status().is_success() {
            claim.shrink(0);
        } else if range.is_none() && !is_head {
            claim = counters.claim(response.content_length().unwrap_or_default())?;
        }
        let peer =
            response.remote_addr().filter(|_| !is_proxied).map(|peer| (self.network.classify)(peer.ip()));
        let body = Body { server, window: self.stall_window, budget, claim, ongoing };
        Ok(Response::new(response, peer, body))
    }

    /// Makes connections in a task of its own, which ends with the returned guard.
    fn preconnect(&self, preconnect: Vec<Preconnect>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for one in preconnect {
            if let Some(connecting) = self.connecting(&one.url, one.min_address_class, one.connections) {
                tasks.spawn(connecting);
            }
        }
        tasks
    }

    /// Makes up to `connections` connections to the server at `url` for later requests, but not through proxies.
    pub(super) async fn connect(&self, url: &Url, min_address_class: AddressClass, connections: usize) {
        if let Some(connecting) = self.connecting(url, min_address_class, connections) {
            connecting.await;
        }
    }

    fn connecting(
        &self,
        url: &Url,
        min_address_class: AddressClass,
        connections: usize,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.check_literal(url, min_address_class).ok()?;
        let pool = self.direct.get(&min_address_class).filter(|_| !self.is_proxied(url))?;
        if url.scheme() == "https" {
            self.verifier.prepare();
        }
        Some(pool.connect(url, connections))
    }

    /// The client for object stores: it uses the environment's proxies and reaches any address that the user names.
    #[cfg(feature = "object-store")]
    pub(crate) fn objects(&self) -> objects::Connector {
        objects::Connector { client: self.proxied.clone() }
    }

    /// Whether requests to `url` go through a proxy, or would if its variable were valid.
    fn is_proxied(&self, url: &Url) -> bool {
        self.proxies.of(url) != Ok(None)
    }

    /// Checks an address literal. Names are checked when they are resolved; a proxy resolves them itself, so they cannot be.
    fn check_literal(&self, url: &Url, min_address_class: AddressClass) -> Result<(), TransferError> {
        let host = url.host_str().unwrap_or_default();
        let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Ok(()) };
        if (self.network.classify)(address) < min_address_class {
            return Err(TransferError::too_private(host, address));
        }
        Ok(())
    }
}

impl HttpBuilder {
    /// Use plain HTTP for all registries, not only for those on this machine.
    pub(crate) fn plain_http(mut self, plain_http: bool) -> Self {
        self.plain_http = plain_http;
        self
    }

    /// Trust the certificates in these PEM files in addition to the platform's.
    pub(crate) fn ca_files(mut self, files: Vec<PathBuf>) -> Self {
        self.ca_files = files;
        self
    }

    /// Receive at most this many bytes of bodies from all servers together.
    pub(crate) fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Reach only the addresses that this policy allows.
    pub(crate) fn address_policy(mut self, policy: AddressPolicy) -> Self {
        self.address_policy = policy;
        self
    }

    /// Limit the time of each question.
    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Reads the certificates and sets up the clients.
    pub(crate) fn build(self) -> Result<Arc<Http>, Error> {
        let (tls, verifier) = tls::config(&self.ca_files)?;
        let failed = |error: reqwest::Error| Error::other("setting up HTTP", error.without_url());
        let network = Arc::new(self.network.clone());
        let mut direct = BTreeMap::new();
        for min_address_class in AddressClass::ALL {
            let client = || {
                let resolver = Resolver { min_address_class, network: Arc::clone(&network) };
                self.client(&tls).no_proxy().dns_resolver(resolver)
            };
            direct.insert(min_address_class, Pool::new(client).map_err(failed)?);
        }
        let proxies = self.proxies.clone();
        let proxied = self.client(&tls).proxy(reqwest::Proxy::custom(move |url| proxies.address(url)));
        Ok(Arc::new(Http {
            plain_http: self.plain_http,
            has_authorities: !self.ca_files.is_empty(),
            retry_base: self.retry_base,
            clock: self.clock,
            token_deadline: self.token_deadline,
            wait_limit: self.wait_limit,
            timeout: self.timeout,
            counters: Arc::new(Counters::new(self.max_bytes)),
            stall_window: self.stall_window,
            network,
            verifier,
            address_policy: self.address_policy,
            proxies: self.proxies,
            direct,
            proxied: proxied.build().map_err(failed)?,
        }))
    }

    fn client(&self, tls: &ClientConfig) -> reqwest::ClientBuilder {
        Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(tls.clone())
            .http1_only()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_HOST)
    }
}

/// Settings that only tests change.
#[cfg(test)]
impl HttpBuilder {
    /// Length of the windows over which a transfer's speed is measured; the default is 30 s.
    pub(crate) fn stall_window(mut self, window: Duration) -> Self {
        self.stall_window = window;
        self
    }

    /// Longest time of all transfers for one token; the default is 10 s.
    pub(crate) fn token_deadline(mut self, deadline: Duration) -> Self {
        self.token_deadline = deadline;
        self
    }

    /// The first wait between attempts, which doubles each time; the default is 500 ms.
    pub(crate) fn retry_base(mut self, base: Duration) -> Self {
        self.retry_base = base;
        self
    }

    pub(crate) fn clock(mut self, clock: &Arc<clock::ManualClock>) -> Self {
        self.clock = Clock::Manual(Arc::clone(clock));
        self
    }

    pub(crate) fn proxy(mut self, url: &str) -> Self {
        self.proxies = Proxies::all(url);
        self
    }

    pub(crate) fn network(mut self, classify: fn(IpAddr) -> AddressClass, names: &[(&str, &str)]) -> Self {
        let names = names.iter().map(|(name, address)| ((*name).to_owned(), address.parse().unwrap()));
        self.network = Network { classify, names: names.collect() };
        self
    }
}

/// Scheme, host and port of a URL. Path and query may contain signatures.
pub(super) fn server(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", url.scheme())
}

/// The range of a request.
fn range(headers: &HeaderMap) -> Option<Range<u64>> {
    let (first, last) = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some(first..last.checked_add(1)?.max(first))
}

/// Whether `host`, as written in a URL, names this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host == "localhost" || host.ends_with(".localhost") {
        return true;
    }
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
