//! Warm connections, made before they are needed: as soon as a manifest has arrived, two requests follow at once, and the second
//! would wait for a connection.
//!
//! reqwest connects only when a request finds no idle connection. So a second client, the preconnector, sends a request through a
//! connector that stores the new connection and then fails. The connector of the main client takes a stored connection before it
//! makes a new one.
//!
//! A server that responds in HTTP/1.0 is often a small one that handles one connection at a time. It would wait for a request on a
//! warm connection while the others wait behind it, so none is made to such servers.

use std::{
    any::Any,
    collections::VecDeque,
    error::Error as StdError,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture},
};
use reqwest::{Client, ClientBuilder, Url, Version};
use tower_layer::Layer;
use tower_service::Service;

use crate::registry::lock;

/// How long a warm connection is used: servers close idle ones.
const LIFETIME: Duration = Duration::from_secs(3);

/// Most warm connections at a time.
const MAX_CONNECTIONS: usize = 8;

/// Most servers that are remembered to get no warm connections.
const MAX_SERVERS: usize = 64;

/// The error type of reqwest's connectors.
type BoxError = Box<dyn StdError + Send + Sync>;

/// A client and its preconnector. Both resolve names and verify servers in the same way.
pub(super) struct Pool {
    pub(super) client: Client,
    preconnector: Client,
    warm: WarmConnections,
}

impl Pool {
    /// `builder` creates both clients.
    pub(super) fn new(builder: impl Fn() -> ClientBuilder) -> reqwest::Result<Self> {
        let warm = WarmConnections::default();
        let with = |role| builder().connector_layer(WarmLayer { warm: warm.clone(), role }).build();
        let (client, preconnector) = (with(Role::Take)?, with(Role::Store)?);
        Ok(Self { client, preconnector, warm })
    }

    /// Makes connections to the server at `url` until `connections` are warm. Failures are left to the requests that need one.
    pub(super) fn connect(&self, url: &Url, connections: usize) -> impl Future<Output = ()> + Send + use<> {
        let missing = self.warm.missing(&Server::at(url), connections);
        let connecting = (0..missing).map(|_| self.preconnector.get(url.clone()).send());
        future::join_all(connecting.collect::<Vec<_>>()).map(drop)
    }

    /// Takes note of the version of HTTP in a response from `url`.
    pub(super) fn answered(&self, url: &Url, version: Version) {
        if version < Version::HTTP_11 {
            self.warm.disable(Server::at(url));
        }
    }
}

/// The server at the other end of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Server {
    scheme: String,
    authority: String,
}

impl Server {
    fn at(url: &Url) -> Self {
        Self { scheme: url.scheme().to_owned(), authority: url.authority().to_owned() }
    }

    /// The server that a connector is called for. reqwest exposes it only through `Debug`; anything that does not look like a URL
    /// gives `None`.
    fn of(request: &impl Debug) -> Option<Self> {
        let text = format!("{request:?}");
        let (_, address) = text.strip_suffix(')')?.split_once('(')?;
        Url::parse(address).ok().filter(Url::has_host).map(|url| Self::at(&url))
    }
}

/// Warm connections that wait for a request.
#[derive(Clone, Default)]
struct WarmConnections(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Oldest first.
    warm: VecDeque<WarmConnection>,
    /// Servers without warm connections, oldest first.
    disabled: VecDeque<Server>,
}

struct WarmConnection {
    server: Server,
    made: Instant,
    /// Its type is private to reqwest.
    connection: Box<dyn Any + Send>,
}

impl WarmConnections {
    /// How many are missing until there are `wanted`.
    fn missing(&self, server: &Server, wanted: usize) -> usize {
        let state = self.fresh();
        match state.disabled.contains(server) {
            true => 0,
            false => wanted.saturating_sub(state.count(server)),
        }
    }

    fn store(&self, server: Server, connection: impl Any + Send) {
        let mut state = self.fresh();
        if state.disabled.contains(&server) {
            return;
        }
        if state.warm.len() == MAX_CONNECTIONS {
            state.warm.pop_front();
        }
        state.warm.push_back(WarmConnection {
            server,
            made: Instant::now(),
            connection: Box::new(connection),
        });
    }

    /// Closes the connections to `server`, and stores none from now on.
    fn disable(&self, server: Server) {
        let mut state = self.fresh();
        if state.disabled.contains(&server) {
            return;
        }
        state.warm.retain(|connection| connection.server != server);
        if state.disabled.len() == MAX_SERVERS {
            state.disabled.pop_front();
        }
        state.disabled.push_back(server);
    }

    fn take<T: Any>(&self, server: &Server) -> Option<T> {
        let mut state = self.fresh();
        let index = state.warm.iter().position(|connection| connection.server == *server)?;
        let connection = state.warm.remove(index)?;
        connection.connection.downcast().ok().map(|connection| *connection)
    }

    /// Closes old connections first.
    fn fresh(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.0);
        state.warm.retain(|connection| connection.made.elapsed() < LIFETIME);
        state
    }
}

impl State {
    fn count(&self, server: &Server) -> usize {
        self.warm.iter().filter(|connection| connection.server == *server).count()
    }
}

#[derive(Clone, Copy, Debug)]
enum Role {
    /// Stores each new connection, and fails.
    Store,
    /// Takes a stored connection first.
    Take,
}

#[derive(Clone)]
struct WarmLayer {
    warm: WarmConnections,
    role: Role,
}

impl<S> Layer<S> for WarmLayer {
    type Service = WarmConnector<S>;

    fn layer(&self, inner: S) -> WarmConnector<S> {
        WarmConnector { inner, warm: self.warm.clone(), role: self.role }
    }
}

#[derive(Clone)]
struct WarmConnector<S> {
    inner: S,
    warm: WarmConnections,
    role: Role,
}

impl<S, R> Service<R> for WarmConnector<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
    S::Response: Any + Send,
    R: Debug,
{
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;
    type Response = S::Response;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let server = Server::of(&request);
        match self.role {
            Role::Store => {
                let (connecting, warm) = (self.inner.call(request), self.warm.clone());
                let storing = async move {
                    let connection = connecting.await?;
                    if let Some(server) = server {
                        warm.store(server, connection);
                    }
                    Err("the connection is stored for another request".into())
                };
                storing.boxed()
            }
            Role::Take => match server.and_then(|server| self.warm.take(&server)) {
                Some(connection) => future::ready(Ok(connection)).boxed(),
                None => self.inner.call(request).boxed(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::registry::http::tls;

    fn pool() -> Pool {
        let (tls, _) = tls::config(&[]).unwrap();
        Pool::new(|| Client::builder().no_proxy().tls_backend_preconfigured(tls.clone())).unwrap()
    }

    async fn listen() -> (TcpListener, Url) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        (listener, url.parse().unwrap())
    }

    /// Whether a request arrives on the connection, which is answered.
    async fn response(connection: &mut TcpStream) -> bool {
        let mut head = [0; 1024];
        let length = connection.read(&mut head).await.unwrap();
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        head[..length].starts_with(b"GET / HTTP/1.1\r\n")
    }

    #[tokio::test]
    async fn a_request_takes_a_warm_connection() {
        let (pool, (listener, url)) = (pool(), listen().await);
        pool.connect(&url, 1).await;
        let (mut made_before, _) = listener.accept().await.unwrap();
        let (response, asked) = tokio::join!(pool.client.get(url.clone()).send(), response(&mut made_before));
        assert!(response.unwrap().status().is_success() && asked);
        let further = listener.accept().now_or_never();
        assert!(further.is_none(), "the request made a connection of its own");
        assert_eq!(pool.warm.fresh().count(&Server::at(&url)), 0, "it is taken once");
    }

    #[tokio::test]
    async fn no_more_connections_are_made_than_requested() {
        let (pool, (listener, url)) = (pool(), listen().await);
        for (requested, warm) in [(2, 2), (1, 2), (3, 3)] {
            pool.connect(&url, requested).await;
            assert_eq!(pool.warm.fresh().count(&Server::at(&url)), warm);
        }
        for _ in 0..3 {
            let accepted = tokio::time::timeout(Duration::from_secs(20), listener.accept()).await;
            assert!(accepted.is_ok_and(|accepted| accepted.is_ok()));
        }
        assert!(listener.accept().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_request_to_another_server_does_not_take_the_connection() {
        let (pool, (kept, url), (other, elsewhere)) = (pool(), listen().await, listen().await);
        pool.connect(&url, 1).await;
        let (mut kept, _) = kept.accept().await.unwrap();
        let accept = async {
            tokio::select! {
                other = other.accept() => response(&mut other.unwrap().0).await,
                _ = response(&mut kept) => false,
            }
        };
        let (response, asked) = tokio::join!(pool.client.get(elsewhere).send(), accept);
        assert!(response.unwrap().status().is_success() && asked);
        assert_eq!(pool.warm.fresh().count(&Server::at(&url)), 1);
    }

    #[tokio::test]
    async fn a_server_that_responds_in_http_1_0_gets_no_warm_connections() {
        let (pool, (listener, url)) = (pool(), listen().await);
        pool.connect(&url, 1).await;
        let (mut kept, _) = listener.accept().await.unwrap();
        pool.answered(&url, Version::HTTP_11);
        assert_eq!(pool.warm.fresh().count(&Server::at(&url)), 1);
        pool.answered(&url, Version::HTTP_10);
        assert_eq!(kept.read(&mut [0]).await.unwrap(), 0, "it is closed");
        pool.connect(&url, 1).await;
        assert!(listener.accept().now_or_never().is_none());
        // A connection that was under way.
        pool.warm.store(Server::at(&url), ());
        assert_eq!(pool.warm.fresh().count(&Server::at(&url)), 0);
    }

    #[test]
    fn text_that_is_no_url_names_no_server() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "only shown")]
        struct Endpoint(Text);
        struct Text(&'static str);
        impl Debug for Text {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0)
            }
        }

        for text in ["", "..", "mailto:a@b", "/v2/"] {
            assert_eq!(Server::of(&Endpoint(Text(text))), None, "{text}");
        }
        assert_eq!(Server::of(&"https://a/"), None);
        let found = Server::of(&Endpoint(Text("https://a:5000/"))).unwrap();
        assert_eq!((found.scheme.as_str(), found.authority.as_str()), ("https", "a:5000"));
    }
}
