//! Connections that are made before they are needed: whoever reads an image asks for two things at once as soon as the manifest has
//! come, and the second would wait for a connection.
//!
//! reqwest connects when a request finds no free connection, and only then. So a scout asks beside the request, through a connector
//! that keeps what it has connected and sends nothing; the client's own connector takes what is kept before it makes a new one.
//!
//! A server that answers in HTTP/1.0 is often a small one that minds one connection at a time: it would wait for a request over a
//! connection that is only kept, and let the others wait behind it. Of those none is kept.

use std::{
    any::Any,
    collections::VecDeque,
    error::Error as StdError,
    fmt::Debug,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{self, BoxFuture, Either},
};
use reqwest::{Client, ClientBuilder, Url, Version};
use tower_layer::Layer;
use tower_service::Service;

use crate::registry::lock;

/// How long a connection is kept: servers close those that nothing is asked over.
const LIFETIME: Duration = Duration::from_secs(3);

/// Connections that are kept at most.
const SPARES: usize = 8;

/// Servers that are remembered to want no connection before its request.
const SERVERS: usize = 64;

/// What connectors fail with, as reqwest has it.
type BoxError = Box<dyn StdError + Send + Sync>;

/// A client, and who connects for it beforehand. Both resolve names and verify servers alike.
pub(super) struct Pool {
    pub(super) client: Client,
    scout: Client,
    spares: Spares,
}

impl Pool {
    /// Of the client that `builder` makes each time.
    pub(super) fn new(builder: impl Fn() -> ClientBuilder) -> reqwest::Result<Self> {
        let spares = Spares::default();
        let with = |role| builder().connector_layer(SpareLayer { spares: spares.clone(), role }).build();
        let (client, scout) = (with(Role::Take)?, with(Role::Keep)?);
        Ok(Self { client, scout, spares })
    }

    /// Makes connections to the server at `url` until so many are kept. What fails is told to who needs one.
    pub(super) async fn connect(&self, url: &Url, connections: usize) {
        let missing = self.spares.missing(&Server::at(url), connections);
        let scout = || self.scout.get(url.clone()).send();
        future::join_all((0..missing).map(|_| scout())).await;
    }

    /// The server at `url` has answered in this version of HTTP.
    pub(super) fn answered(&self, url: &Url, version: Version) {
        if version < Version::HTTP_11 {
            self.spares.keep_none(Server::at(url));
        }
    }
}

/// Waits for an answer while connections are made; not for these.
pub(super) async fn beside<T>(connecting: impl Future, answer: impl Future<Output = T>) -> T {
    match future::select(pin!(answer), pin!(connecting)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, answer)) => answer.await,
    }
}

/// Whom a connection leads to.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Server {
    scheme: String,
    authority: String,
}

impl Server {
    fn at(url: &Url) -> Self {
        Self { scheme: url.scheme().to_owned(), authority: url.authority().to_owned() }
    }

    /// Whom a connector is asked for. reqwest tells it in the request's debug form only: what does not look like an address is
    /// nobody's.
    fn of(request: &impl Debug) -> Option<Self> {
        let text = format!("{request:?}");
        let (_, address) = text.strip_suffix(')')?.split_once('(')?;
        Url::parse(address).ok().filter(Url::has_host).map(|url| Self::at(&url))
    }
}

/// Connections that are kept.
#[derive(Clone, Default)]
struct Spares(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// Oldest first.
    spares: VecDeque<Spare>,
    /// The servers of which none is kept, the one that was found out first ahead.
    unwanted: VecDeque<Server>,
}

struct Spare {
    server: Server,
    made: Instant,
    /// Of a type that reqwest does not name.
    connection: Box<dyn Any + Send>,
}

impl Spares {
    /// How many are to be made until there are so many.
    fn missing(&self, server: &Server, wanted: usize) -> usize {
        let kept = self.fresh();
        match kept.unwanted.contains(server) {
            true => 0,
            false => wanted.saturating_sub(kept.count(server)),
        }
    }

    fn keep(&self, server: Server, connection: impl Any + Send) {
        let mut kept = self.fresh();
        if kept.unwanted.contains(&server) {
            return;
        }
        if kept.spares.len() == SPARES {
            kept.spares.pop_front();
        }
        kept.spares.push_back(Spare { server, made: Instant::now(), connection: Box::new(connection) });
    }

    /// Closes those to `server`, and keeps none any more.
    fn keep_none(&self, server: Server) {
        let mut kept = self.fresh();
        if kept.unwanted.contains(&server) {
            return;
        }
        kept.spares.retain(|spare| spare.server != server);
        if kept.unwanted.len() == SERVERS {
            kept.unwanted.pop_front();
        }
        kept.unwanted.push_back(server);
    }

    fn take<T: Any>(&self, server: &Server) -> Option<T> {
        let mut kept = self.fresh();
        let index = kept.spares.iter().position(|spare| spare.server == *server)?;
        let spare = kept.spares.remove(index)?;
        spare.connection.downcast().ok().map(|connection| *connection)
    }

    /// What is left when the old ones have been closed.
    fn fresh(&self) -> MutexGuard<'_, Kept> {
        let mut kept = lock(&self.0);
        kept.spares.retain(|spare| spare.made.elapsed() < LIFETIME);
        kept
    }
}

impl Kept {
    fn count(&self, server: &Server) -> usize {
        self.spares.iter().filter(|spare| spare.server == *server).count()
    }
}

#[derive(Clone, Copy, Debug)]
enum Role {
    /// Keeps each connection, and fails.
    Keep,
    /// Takes what is kept first.
    Take,
}

#[derive(Clone)]
struct SpareLayer {
    spares: Spares,
    role: Role,
}

impl<S> Layer<S> for SpareLayer {
    type Service = SpareConnector<S>;

    fn layer(&self, inner: S) -> SpareConnector<S> {
        SpareConnector { inner, spares: self.spares.clone(), role: self.role }
    }
}

#[derive(Clone)]
struct SpareConnector<S> {
    inner: S,
    spares: Spares,
    role: Role,
}

impl<S, R> Service<R> for SpareConnector<S>
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
            Role::Keep => {
                let (connecting, spares) = (self.inner.call(request), self.spares.clone());
                let kept = async move {
                    let connection = connecting.await?;
                    if let Some(server) = server {
                        spares.keep(server, connection);
                    }
                    Err("the connection is kept for another request".into())
                };
                kept.boxed()
            }
            Role::Take => match server.and_then(|server| self.spares.take(&server)) {
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

    /// Whether the connection brings a request, which is answered.
    async fn answer(connection: &mut TcpStream) -> bool {
        let mut head = [0; 1024];
        let length = connection.read(&mut head).await.unwrap();
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        head[..length].starts_with(b"GET / HTTP/1.1\r\n")
    }

    #[tokio::test]
    async fn a_request_takes_a_connection_that_was_made_before_and_nothing_was_asked_over() {
        let (pool, (listener, url)) = (pool(), listen().await);
        pool.connect(&url, 1).await;
        let (mut made_before, _) = listener.accept().await.unwrap();
        let (response, asked) = tokio::join!(pool.client.get(url.clone()).send(), answer(&mut made_before));
        assert!(response.unwrap().status().is_success() && asked);
        let further = listener.accept().now_or_never();
        assert!(further.is_none(), "the request has made a connection of its own");
        assert_eq!(pool.spares.fresh().count(&Server::at(&url)), 0, "it is taken once");
    }

    #[tokio::test]
    async fn no_more_connections_are_kept_than_were_asked_for() {
        let (pool, (listener, url)) = (pool(), listen().await);
        for (asked, kept) in [(2, 2), (1, 2), (3, 3)] {
            pool.connect(&url, asked).await;
            assert_eq!(pool.spares.fresh().count(&Server::at(&url)), kept);
        }
        for _ in 0..3 {
            let accepted = tokio::time::timeout(Duration::from_secs(20), listener.accept()).await;
            assert!(accepted.is_ok_and(|accepted| accepted.is_ok()));
        }
        assert!(listener.accept().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_connection_is_given_to_no_request_to_another_server() {
        let (pool, (kept, url), (other, elsewhere)) = (pool(), listen().await, listen().await);
        pool.connect(&url, 1).await;
        let (mut kept, _) = kept.accept().await.unwrap();
        let accept = async {
            tokio::select! {
                other = other.accept() => answer(&mut other.unwrap().0).await,
                _ = answer(&mut kept) => false,
            }
        };
        let (response, asked) = tokio::join!(pool.client.get(elsewhere).send(), accept);
        assert!(response.unwrap().status().is_success() && asked);
        assert_eq!(pool.spares.fresh().count(&Server::at(&url)), 1);
    }

    #[tokio::test]
    async fn none_is_kept_of_a_server_that_answers_in_the_first_version() {
        let (pool, (listener, url)) = (pool(), listen().await);
        pool.connect(&url, 1).await;
        let (mut kept, _) = listener.accept().await.unwrap();
        pool.answered(&url, Version::HTTP_11);
        assert_eq!(pool.spares.fresh().count(&Server::at(&url)), 1);
        pool.answered(&url, Version::HTTP_10);
        assert_eq!(kept.read(&mut [0]).await.unwrap(), 0, "it is closed");
        pool.connect(&url, 1).await;
        assert!(listener.accept().now_or_never().is_none());
        // One that was on its way.
        pool.spares.keep(Server::at(&url), ());
        assert_eq!(pool.spares.fresh().count(&Server::at(&url)), 0);
    }

    #[tokio::test]
    async fn an_answer_does_not_wait_for_the_connection_beside_it() {
        let (pool, (_silent, url)) = (pool(), listen().await);
        // Nobody answers a handshake.
        let url = url.as_str().replace("http:", "https:").parse().unwrap();
        assert_eq!(beside(pool.connect(&url, 1), future::ready(7)).await, 7);
    }

    #[test]
    fn what_does_not_look_like_an_address_is_nobodys() {
        #[derive(Debug)]
        #[expect(dead_code, reason = "only shown")]
        struct Asked(Text);
        struct Text(&'static str);
        impl Debug for Text {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.0)
            }
        }

        for text in ["", "..", "mailto:a@b", "/v2/"] {
            assert_eq!(Server::of(&Asked(Text(text))), None, "{text}");
        }
        assert_eq!(Server::of(&"https://a/"), None);
        let found = Server::of(&Asked(Text("https://a:5000/"))).unwrap();
        assert_eq!((found.scheme.as_str(), found.authority.as_str()), ("https", "a:5000"));
    }
}
