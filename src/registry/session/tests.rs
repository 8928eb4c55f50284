//! Sessions against a scripted registry.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::hint::Hint;
use crate::registry::{
    HttpBuilder,
    scripted::{Reply, Request, ScriptedRegistry},
};

mod authorization;
mod connections;
mod credentials;
mod faults;
mod login;
mod origins;
mod reads;
mod realms;
mod redirects;
mod referrers;
mod waiting;

const NAME: &str = "library/app";

/// Settings with fast retries.
fn builder() -> HttpBuilder {
    Http::builder().retry_base(Duration::from_millis(1)).stall_window(Duration::from_secs(20))
}

fn repository(host: &str, name: &str) -> Repository {
    Repository { host: host.to_owned(), name: name.to_owned() }
}

/// An anonymous session with the server.
fn session(server: &ScriptedRegistry) -> Arc<Session> {
    session_with(builder(), server, None)
}

fn session_with(
    builder: HttpBuilder,
    server: &ScriptedRegistry,
    credential: Option<Credential>,
) -> Arc<Session> {
    Session::new(builder.build().unwrap(), repository(&server.host(), NAME), credential)
}

/// Content in which each byte shows its position.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 + at % 251) as u8).collect()
}

async fn read(session: &Arc<Session>, blob: &[u8], range: Range<u64>) -> Result<Vec<u8>, Error> {
    let mut reader = session.open_blob(Digest::sha256(blob), range, blob.len() as u64);
    let mut read = Vec::new();
    while let Some(piece) = reader.next().await? {
        assert!(!piece.is_empty());
        read.extend_from_slice(&piece);
    }
    Ok(read)
}

/// Collects warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl crate::progress::Progress for Warnings {
    fn event(&self, event: &crate::progress::Event) {
        if let crate::progress::Event::Warning { message, .. } = event {
            lock(&self.0).push(message.to_owned());
        }
    }
}

impl Warnings {
    fn all(&self) -> Vec<String> {
        lock(&self.0).clone()
    }
}

/// A registry and its token server in one: tokens are valid for the repository that they were issued for until revoked.
#[derive(Default)]
struct Tokens {
    /// Tokens and the repositories that they are valid for.
    good: Mutex<BTreeMap<String, String>>,
    issued: AtomicUsize,
}

impl Tokens {
    fn issued(&self) -> usize {
        self.issued.load(Ordering::SeqCst)
    }

    fn revoke_all(&self) {
        lock(&self.good).clear();
    }

    /// Responds to `/token`.
    fn issue(&self, request: &Request) -> Reply {
        let query: BTreeMap<String, String> =
            Url::parse(&format!("http://x{}", request.target)).unwrap().query_pairs().into_owned().collect();
        let name =
            query["scope"].strip_prefix("repository:").unwrap().strip_suffix(":pull").unwrap().to_owned();
        let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        let token = format!("token-{number}");
        lock(&self.good).insert(token.clone(), name);
        Reply::token(&token)
    }

    /// Whether the request has a token that is valid for its repository.
    fn admits(&self, request: &Request) -> bool {
        let Some(token) = request.authorization().and_then(|value| value.strip_prefix("Bearer ")) else {
            return false;
        };
        lock(&self.good).get(token).is_some_and(|name| request.path().starts_with(&format!("/v2/{name}/")))
    }

    /// Answers all requests, auth_settled ones by `serve`.
    fn answer(&self, request: &Request, serve: impl Fn(&Request) -> Reply) -> Reply {
        if request.path() == "/token" {
            return self.issue(request);
        }
        if self.admits(request) {
            return serve(request);
        }
        Reply::challenge(&bearer(request))
    }
}

/// A challenge that names `/token` of the same server.
fn bearer(request: &Request) -> String {
    let host = request.header("host").unwrap();
    let name = request.path().trim_start_matches("/v2/").rsplitn(3, '/').last().unwrap_or_default();
    format!(r#"Bearer realm="http://{host}/token",service="the service",scope="repository:{name}:pull""#)
}

/// A server with tokens and one blob in every repository.
fn token_server(blob: &[u8]) -> (ScriptedRegistry, Arc<Tokens>) {
    let tokens = Arc::new(Tokens::default());
    let (shared, blob) = (Arc::clone(&tokens), blob.to_vec());
    let server =
        ScriptedRegistry::start(move |request| shared.answer(request, |request| Reply::blob(request, &blob)));
    (server, tokens)
}
