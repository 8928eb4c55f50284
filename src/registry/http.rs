//! The only caller of reqwest: connections, TLS, proxies, and which addresses a request may reach.
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
use futures_util::future;
use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Client, redirect::Policy};
pub(super) use reqwest::{
    StatusCode, Url,
    header::{self, HeaderMap, HeaderValue},
};
use rustls::ClientConfig;

pub(super) use self::budget::Counters;
pub(crate) mod address;
pub(super) mod answer;
mod budget;
pub(crate) mod clock;
#[cfg(feature = "object-store")]
pub(crate) mod objects;
mod spare;
mod tls;

use crate::{
    progress::{Ongoing, Progress, RequestMethod, RequestTarget},
    registry::{
        error::Error,
        http::{
            address::{AddressClass, Network, Resolver},
            answer::{Answer, Failure},
            clock::Clock,
            spare::Pool,
        },
    },
};

const USER_AGENT: &str = concat!("layerslayer/", env!("CARGO_PKG_VERSION"));

/// Below this many bytes a second, over the stall window, a transfer counts as stalled.
const STALL_BYTES_PER_SECOND: u64 = 1 << 10;
const STALL_WINDOW: Duration = Duration::from_secs(30);
/// Longest time that all transfers for one token may take together: whoever needs it waits.
const TOKEN_DEADLINE: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_BASE: Duration = Duration::from_millis(500);
const IDLE_CONNECTIONS_PER_HOST: usize = 16;

/// Shared connections and settings.
pub(crate) struct Http {
    pub(super) plain_http: bool,
    /// Whether certificates were given besides the platform's.
    pub(super) has_authorities: bool,
    pub(super) retry_base: Duration,
    pub(super) clock: Clock,
    pub(super) token_deadline: Duration,
    /// What all sessions together asked for.
    pub(super) counters: Arc<Counters>,
    stall_window: Duration,
    network: Arc<Network>,
    verifier: Arc<tls::Verifier>,
    /// Decides, as reqwest does, what goes through a proxy.
    matcher: Matcher,
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
    clock: Clock,
    max_bytes: u64,
    network: Network,
    #[cfg(test)]
    proxy: Option<String>,
}

/// What a request asks for. Holds secrets: a form may have a refresh token.
#[derive(Clone)]
pub(super) enum Method {
    /// Posts nothing.
    Begin,
    Get,
    Head,
    /// Posts this form.
    Post(String),
    /// Puts this content of that type.
    Put(Bytes, &'static str),
}

impl Method {
    fn told(&self) -> RequestMethod {
        match self {
            Self::Get => RequestMethod::Get,
            Self::Head => RequestMethod::Head,
            Self::Begin | Self::Post(_) => RequestMethod::Post,
            Self::Put(..) => RequestMethod::Put,
        }
    }
}

/// A request to be sent.
pub(super) struct Outgoing {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) method: Method,
    /// What it is for, and who is told of it.
    pub(super) target: RequestTarget,
    pub(super) progress: Arc<dyn Progress>,
    /// The most private class of address that the request may reach.
    pub(super) floor: AddressClass,
    /// Connections that are made meanwhile, for what will be asked when it has been answered.
    pub(super) beside: Vec<Beside>,
}

/// Connections to be made beside a request.
pub(super) struct Beside {
    /// Scheme, host and port count.
    pub(super) url: Url,
    /// The most private class of address that they may lead to.
    pub(super) floor: AddressClass,
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
            clock: Clock::default(),
            max_bytes: u64::MAX,
            network: Network::default(),
            #[cfg(test)]
            proxy: None,
        }
    }

    /// Requests sent so far, those for tokens and those that failed included.
    pub(crate) fn requests(&self) -> u64 {
        self.counters.requests.load(Ordering::Relaxed)
    }

    /// Bytes of bodies received so far.
    pub(crate) fn bytes_fetched(&self) -> u64 {
        self.counters.bytes.load(Ordering::Relaxed)
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) async fn send(&self, outgoing: Outgoing, counters: &Arc<Counters>) -> Result<Answer, Failure> {
        let Outgoing { url, mut headers, method, target, progress, floor, beside } = outgoing;
        self.check_literal(&url, floor)?;
        let range = range(&headers);
        let is_head = matches!(method, Method::Head);
        if url.scheme() == "https" {
            self.verifier.prepare();
        }
        let mut claim = counters.claim(range.as_ref().map_or(0, |range| range.end - range.start))?;
        let mut ongoing = Ongoing::new(progress, method.told(), target).of(server(&url)).range(range.clone());
        let is_proxied = self.is_proxied(&url);
        let pool = self.direct.get(&floor).filter(|_| !is_proxied);
        let client = pool.map_or(&self.proxied, |pool| &pool.client);
        // Blobs are raw bytes: nothing may compress them on their way.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let mut patience = self.stall_window;
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
        let sent = tokio::time::timeout(patience, request.headers(headers).send());
        let connecting =
            beside.iter().map(|beside| self.connect(&beside.url, beside.floor, beside.connections));
        let sent = spare::beside(future::join_all(connecting), sent).await;
        let Ok(sent) = sent else { return Err(Failure::stalled(self.stall_window)) };
        let response = sent.map_err(Failure::from_reqwest)?;
        if let Some(pool) = pool {
            pool.answered(&url, response.version());
        }
        ongoing.answered(response.status().as_u16());
        if !response.status().is_success() {
            claim.shrink(0);
        } else if range.is_none() && !is_head {
            claim = counters.claim(response.content_length().unwrap_or_default())?;
        }
        let floor_bytes = STALL_BYTES_PER_SECOND.saturating_mul(self.stall_window.as_secs().max(1));
        let peer =
            response.remote_addr().filter(|_| !is_proxied).map(|peer| (self.network.classify)(peer.ip()));
        Ok(Answer::new(response, peer, self.stall_window, floor_bytes, claim, ongoing))
    }

    /// Makes connections to the server at `url` for so many requests that will be sent at once, but not through proxies.
    pub(super) async fn connect(&self, url: &Url, floor: AddressClass, connections: usize) {
        if self.check_literal(url, floor).is_err() {
            return;
        }
        if url.scheme() == "https" {
            self.verifier.prepare();
        }
        if let Some(pool) = self.direct.get(&floor).filter(|_| !self.is_proxied(url)) {
            pool.connect(url, connections).await;
        }
    }

    /// Our client for object stores: through proxies where the environment says so, and to any address that the user names.
    #[cfg(feature = "object-store")]
    pub(crate) fn objects(&self) -> objects::Connector {
        objects::Connector { client: self.proxied.clone() }
    }

    /// Whether requests to `url` go through a proxy. Those to this machine never do, as with Go's clients.
    fn is_proxied(&self, url: &Url) -> bool {
        if url.host_str().is_some_and(is_loopback) {
            return false;
        }
        url.as_str().parse().is_ok_and(|uri| self.matcher.intercept(&uri).is_some())
    }

    /// Names are checked when they are resolved; through a proxy, which resolves them itself, they cannot be.
    fn check_literal(&self, url: &Url, floor: AddressClass) -> Result<(), Failure> {
        let host = url.host_str().unwrap_or_default();
        let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Ok(()) };
        if (self.network.classify)(address) < floor {
            return Err(Failure::too_private(host, address));
        }
        Ok(())
    }
}

impl HttpBuilder {
    /// Speak plain http to registries other than those on this machine too.
    pub(crate) fn plain_http(mut self, plain_http: bool) -> Self {
        self.plain_http = plain_http;
        self
    }

    /// Trust the certificates in these files (PEM) besides the platform's.
    pub(crate) fn ca_files(mut self, files: Vec<PathBuf>) -> Self {
        self.ca_files = files;
        self
    }

    /// Let no more bytes of bodies come than these, from all servers together.
    pub(crate) fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Reads the certificates and sets up the clients.
    pub(crate) fn build(self) -> Result<Arc<Http>, Error> {
        let (tls, verifier) = tls::config(&self.ca_files)?;
        let failed = |error: reqwest::Error| Error::other("setting up HTTP", error.without_url());
        let network = Arc::new(self.network.clone());
        let mut direct = BTreeMap::new();
        for floor in AddressClass::ALL {
            let client = || {
                let resolver = Resolver { floor, network: Arc::clone(&network) };
                self.client(&tls).no_proxy().dns_resolver(resolver)
            };
            direct.insert(floor, Pool::new(client).map_err(failed)?);
        }
        let (matcher, proxied) = self.proxies(self.client(&tls)).map_err(failed)?;
        Ok(Arc::new(Http {
            plain_http: self.plain_http,
            has_authorities: !self.ca_files.is_empty(),
            retry_base: self.retry_base,
            clock: self.clock,
            token_deadline: self.token_deadline,
            counters: Arc::new(Counters::new(self.max_bytes)),
            stall_window: self.stall_window,
            network,
            verifier,
            matcher,
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

    #[cfg(not(test))]
    fn proxies(&self, client: reqwest::ClientBuilder) -> reqwest::Result<(Matcher, reqwest::ClientBuilder)> {
        Ok((Matcher::from_system(), client))
    }

    /// Tests do not depend on the environment's proxies.
    #[cfg(test)]
    fn proxies(&self, client: reqwest::ClientBuilder) -> reqwest::Result<(Matcher, reqwest::ClientBuilder)> {
        match &self.proxy {
            Some(proxy) => {
                let matcher = Matcher::builder().all(proxy.clone()).build();
                Ok((matcher, client.proxy(reqwest::Proxy::all(proxy)?)))
            }
            None => Ok((Matcher::builder().build(), client.no_proxy())),
        }
    }
}

/// Settings that only tests change.
#[cfg(test)]
impl HttpBuilder {
    /// Watch a transfer's speed over windows of this length; the default is 30 s.
    pub(crate) fn stall_window(mut self, window: Duration) -> Self {
        self.stall_window = window;
        self
    }

    /// Give up a token after transfers of so long; the default is 30 s.
    pub(crate) fn token_deadline(mut self, deadline: Duration) -> Self {
        self.token_deadline = deadline;
        self
    }

    /// The first wait between attempts; it doubles from one to the next; the default is 500 ms.
    pub(crate) fn retry_base(mut self, base: Duration) -> Self {
        self.retry_base = base;
        self
    }

    pub(crate) fn clock(mut self, clock: &Arc<clock::ManualClock>) -> Self {
        self.clock = Clock::Manual(Arc::clone(clock));
        self
    }

    pub(crate) fn proxy(mut self, url: &str) -> Self {
        self.proxy = Some(url.to_owned());
        self
    }

    pub(crate) fn network(mut self, classify: fn(IpAddr) -> AddressClass, names: &[(&str, &str)]) -> Self {
        let names = names.iter().map(|(name, address)| ((*name).to_owned(), address.parse().unwrap()));
        self.network = Network { classify, names: names.collect() };
        self
    }
}

/// Whom a request goes to. Path and query may hold signatures.
fn server(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}", url.scheme())
}

/// The range that a request asks for.
fn range(headers: &HeaderMap) -> Option<Range<u64>> {
    let (first, last) = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    Some(first..last.checked_add(1)?.max(first))
}

/// Whether `host`, as it stands in a URL, names this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host == "localhost" || host.ends_with(".localhost") {
        return true;
    }
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
