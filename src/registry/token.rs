//! Tokens from a registry's token server (distribution's token authentication specification; OAuth 2, RFC 6749, for refresh
//! tokens).

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    auth::{
        credential::{Credential, Secret, encoded},
        redact::Redactor,
    },
    limits,
    progress::{Reporter, RequestTarget},
    registry::{
        error::{Error, Kind},
        http::{
            Counters, HeaderMap, HeaderValue, Http, HttpRequest, Method, StatusCode, Url,
            address::AddressClass, header, is_loopback,
        },
        message,
        redirect::{is_redirect, shown},
        retry::{Retry, requested_wait},
        wait_budget::WaitBudget,
    },
};

const CLIENT_ID: &str = "layerslayer";

/// Lifetime of a token without a stated one, and the shortest that is believed (the specification's default).
const LIFETIME_SECONDS: u64 = 60;

/// A token is used at least this long, however old the server says it is: the requests that waited for it must be able to use it.
const SHORTEST_USE: Duration = Duration::from_secs(10);

/// A request for a token.
pub(super) struct TokenRequest<'a> {
    pub(super) http: &'a Http,
    pub(super) counters: &'a Arc<Counters>,
    /// The waits of the question.
    pub(super) budget: &'a Arc<WaitBudget>,
    /// Where requests are reported.
    pub(super) progress: &'a Arc<Reporter>,
    /// The registry that the token is for.
    pub(super) registry: &'a str,
    pub(super) realm: Url,
    pub(super) service: Option<&'a str>,
    pub(super) scopes: Vec<String>,
    pub(super) credential: Option<&'a Credential>,
    /// Whether to request an identity token too, as `docker login` does.
    pub(super) wants_identity: bool,
    /// Removes secrets from messages, including those of earlier requests that the server may know.
    pub(super) redactor: Redactor,
    /// The least public address class of the token server.
    pub(super) min_address_class: AddressClass,
    /// For messages.
    pub(super) operation: String,
}

/// A token, ready to be sent.
pub(super) struct FetchedToken {
    /// The whole `Authorization` header.
    pub(super) header: HeaderValue,
    /// How long it may be used from when it was requested.
    pub(super) left: Duration,
    /// An identity token that replaces the one sent.
    pub(super) identity: Option<SecretString>,
}

#[derive(Deserialize)]
struct Body {
    access_token: Option<String>,
    expires_in: Option<Value>,
    issued_at: Option<Value>,
    refresh_token: Option<String>,
    token: Option<String>,
}

/// A response of the token server, with its body.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// How an attempt ended.
enum Attempt {
    Answered(Reply),
    /// Another attempt may succeed, after this wait.
    Failed {
        detail: String,
        wait: Option<Duration>,
    },
}

/// Checks the address of the token server that a registry names: it has no user name, and uses HTTPS, or plain HTTP on the host of a
/// registry that uses plain HTTP itself (`registry` is then its URL).
pub(super) fn realm(text: &str, registry: Option<&Url>) -> Result<Url, String> {
    if text.len() > limits::URL_BYTES {
        return Err(format!(
            "the registry names a token server by an address of more than {} bytes",
            limits::URL_BYTES
        ));
    }
    let Ok(realm) = Url::parse(text) else { return Err("the registry names no valid token server".into()) };
    if !realm.username().is_empty() || realm.password().is_some() {
        return Err("the registry names a token server with a user name in its address".into());
    }
    match realm.scheme() {
        "https" => Ok(realm),
        "http" if registry.is_some_and(|registry| is_same_host(&realm, registry)) => Ok(realm),
        "http" if registry.is_some() => Err(format!(
            "the registry names a token server over plain HTTP on another host: {}; a credential would be sent to it in plain text",
            shown(&realm)
        )),
        _ => Err(format!("the registry names a token server that is not https: {}", shown(&realm))),
    }
}

/// Whether both URLs name the same host, on any port. All names of this machine are one.
fn is_same_host(one: &Url, other: &Url) -> bool {
    let is_local = |url: &Url| url.host_str().is_some_and(is_loopback);
    one.host() == other.host() || (is_local(one) && is_local(other))
}

/// The scopes to request: those of the challenge, reduced to pulling; pulling from the repository if there are none; and pushing to the
/// repository, and no other, if the session `pushes`.
pub(super) fn scopes(challenge: Option<&str>, repository: &str, pushes: bool) -> Vec<String> {
    // The resource's name may contain a port: the type ends at the first colon, the actions begin after the last.
    let reduced = challenge.unwrap_or_default().split_ascii_whitespace().filter_map(|scope| {
        let (resource, _) = scope.rsplit_once(':')?;
        let (kind, name) = resource.split_once(':')?;
        let is_repository = kind == "repository" || kind.starts_with("repository(");
        if is_repository && !name.is_empty() { Some(format!("{resource}:pull")) } else { None }
    });
    let mut scopes: Vec<String> = reduced.collect();
    let own = format!("repository:{repository}:pull");
    if pushes {
        scopes.retain(|scope| *scope != own);
        scopes.push(format!("{own},push"));
    }
    if scopes.is_empty() {
        scopes.push(own);
    }
    scopes.sort();
    scopes.dedup();
    scopes
}

/// A token server's address as it is stored and compared: without query and fragment.
pub(super) fn pin_of(realm: &Url) -> String {
    let mut bare = realm.clone();
    bare.set_query(None);
    bare.set_fragment(None);
    bare.to_string()
}

impl TokenRequest<'_> {
    /// Fetches a token. A refusal is an error of the kind `Unauthorized`.
    pub(super) async fn fetch(&self) -> Result<FetchedToken, Error> {
        let (username, password) = match self.credential.map(|credential| &credential.secret) {
            Some(Secret::Basic { username, password }) => (username, password),
            Some(Secret::Identity { username, token }) => {
                let reply = self.exchange(|| self.post(token)).await?;
                if is_invalid_grant(&reply) {
                    return Err(self.refused(Kind::Unauthorized, &reply).invalid_grant());
                }
                match reply.status.as_u16() {
                    // Servers that do not know this form respond 404 (GCR), 401 (Artifactory), 400 (ACR) or 405.
                    400 | 401 | 404 => {}
                    405 if !username.is_empty() => {}
                    _ => return self.read(&reply),
                }
                (username, token)
            }
            Some(Secret::Registry { .. }) | None => {
                let reply = self.exchange(|| self.query(None)).await?;
                return self.read(&reply);
            }
        };
        let reply = self.exchange(|| self.query(Some((username, password)))).await?;
        match is_invalid_grant(&reply) {
            true => Err(self.refused(Kind::Unauthorized, &reply).invalid_grant()),
            false => self.read(&reply),
        }
    }

    fn query(&self, basic: Option<(&String, &SecretString)>) -> HttpRequest {
        let mut url = self.realm.clone();
        url.set_fragment(None);
        let mut headers = HeaderMap::new();
        {
            let mut pairs = url.query_pairs_mut();
            if let Some(service) = self.service {
                pairs.append_pair("service", service);
            }
            for scope in &self.scopes {
                pairs.append_pair("scope", scope);
            }
            pairs.append_pair("client_id", CLIENT_ID);
            if self.wants_identity {
                pairs.append_pair("offline_token", "true");
            }
            if let Some((username, password)) = basic {
                if !username.is_empty() {
                    pairs.append_pair("account", username);
                }
                headers.extend(basic_header(username, password).map(|value| (header::AUTHORIZATION, value)));
            }
        }
        self.request(url, headers, Method::Get)
    }

    fn post(&self, refresh_token: &SecretString) -> HttpRequest {
        let mut form = self.realm.clone();
        form.set_query(None);
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID);
        if !self.scopes.is_empty() {
            form.query_pairs_mut().append_pair("scope", &self.scopes.join(" "));
        }
        form.query_pairs_mut().append_pair("refresh_token", refresh_token.expose_secret());
        let body = form.query().unwrap_or_default().to_owned();
        let mut url = self.realm.clone();
        url.set_fragment(None);
        self.request(url, HeaderMap::new(), Method::Post(body))
    }

    fn request(&self, url: Url, headers: HeaderMap, method: Method) -> HttpRequest {
        let progress = Arc::clone(self.progress);
        let target = RequestTarget::Token;
        let budget = Arc::clone(self.budget);
        HttpRequest {
            url,
            headers,
            method,
            budget,
            target,
            progress,
            min_address_class: self.min_address_class,
            preconnect: Vec::new(),
        }
    }

    /// Sends a request until there is a final response. The time is limited, because every request waits for the token. Waits that the
    /// server requests do not count.
    async fn exchange(&self, request: impl Fn() -> HttpRequest) -> Result<Reply, Error> {
        let mut retry = Retry::new(self.http, self.budget);
        let mut left = self.http.token_deadline;
        loop {
            let began = Instant::now();
            let Ok(tried) = tokio::time::timeout(left, self.attempt(request())).await else {
                let detail = format!("no token within {} s", self.http.token_deadline.as_secs_f32());
                return Err(Error::unavailable(&self.operation, detail));
            };
            let (detail, wait) = match tried? {
                Attempt::Answered(reply) => return Ok(reply),
                Attempt::Failed { detail, wait } => (detail, wait),
            };
            left = left.saturating_sub(began.elapsed());
            retry.pause(Error::unavailable(&self.operation, detail), wait).await?;
        }
    }

    async fn attempt(&self, request: HttpRequest) -> Result<Attempt, Error> {
        let (detail, wait) = match self.http.send(request, self.counters).await {
            Ok(response) if message::is_transient(response.status) => {
                let wait = requested_wait(&self.operation, self.registry, &response, self.budget)?;
                (format!("the token server answers {}", message::status_text(response.status)), wait)
            }
            Ok(mut response) => match response.whole(limits::TOKEN_BYTES).await {
                Ok(Some(body)) => {
                    let (status, headers) = (response.status, std::mem::take(&mut response.headers));
                    return Ok(Attempt::Answered(Reply { status, headers, body }));
                }
                Ok(None) => {
                    let detail = format!("the response is larger than {} bytes", limits::TOKEN_BYTES);
                    return Err(Error::other(&self.operation, detail));
                }
                Err(failure) if failure.is_transient() => (failure.to_string(), None),
                Err(failure) => return Err(failure.into_error(&self.operation)),
            },
            Err(failure) if failure.is_transient() => (failure.to_string(), None),
            Err(failure) => return Err(failure.into_error(&self.operation)),
        };
        Ok(Attempt::Failed { detail, wait })
    }

    fn read(&self, reply: &Reply) -> Result<FetchedToken, Error> {
        if is_redirect(reply.status) {
            let detail = "the token server redirects, which is not followed, because a credential could reach another server";
            return Err(Error::unauthorized(&self.operation, detail));
        }
        if !reply.status.is_success() {
            let kind = if reply.status.is_server_error() { Kind::Unavailable } else { Kind::Unauthorized };
            return Err(self.refused(kind, reply));
        }
        let Ok(mut body) = serde_json::from_slice::<Body>(&reply.body) else {
            return Err(Error::other(&self.operation, "the token server's response is not a token in JSON"));
        };
        let given = [body.token.take(), body.access_token.take()].into_iter().flatten();
        let Some(token) = given.map(SecretString::from).find(|token| !token.expose_secret().is_empty())
        else {
            return Err(self.refused(Kind::Unauthorized, reply));
        };
        let Some(header) = bearer_header(&token) else {
            return Err(Error::other(
                &self.operation,
                "the token contains characters that no header may contain",
            ));
        };
        let identity = body.refresh_token.take().map(SecretString::from);
        let identity = identity.filter(|token| !token.expose_secret().is_empty());
        Ok(FetchedToken { header, left: time_left(&body, message::date(&reply.headers)), identity })
    }

    fn refused(&self, kind: Kind, reply: &Reply) -> Error {
        let mut detail = format!("the token server answers {}", message::status_text(reply.status));
        if let Some(message) = message::token_server_message(&reply.body, &self.redactor) {
            detail = format!("{detail} ({message})");
        }
        Error::new(kind, &self.operation, detail).with_status(reply.status)
    }
}

/// Whether the token server says that the identity token is no longer valid (RFC 6749, section 5.2). A bare 400, 401, 403 or 404 may
/// come from anything in between.
fn is_invalid_grant(reply: &Reply) -> bool {
    matches!(reply.status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED)
        && message::oauth_error(&reply.body).is_some_and(|error| error == "invalid_grant")
}

/// `Bearer …`, if the token is valid in a header.
pub(super) fn bearer_header(token: &SecretString) -> Option<HeaderValue> {
    let token = token.expose_secret();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    sensitive(&format!("Bearer {token}"))
}

/// `Basic …`.
pub(super) fn basic_header(username: &str, password: &SecretString) -> Option<HeaderValue> {
    sensitive(&format!("Basic {}", encoded(username, password).expose_secret()))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// How long a token is valid. Its age is measured by the server's clock only, because the local one may be wrong.
fn time_left(body: &Body, answered: Option<SystemTime>) -> Duration {
    let told = body.expires_in.as_ref().and_then(Value::as_f64).unwrap_or_default();
    // Saturating: a negative number becomes 0.
    let lifetime = (told as u64).clamp(LIFETIME_SECONDS, limits::TOKEN_LIFETIME_SECONDS);
    let issued =
        body.issued_at.as_ref().and_then(Value::as_str).and_then(|text| text.parse::<Timestamp>().ok());
    let issued = issued.map(SystemTime::from);
    let age = match (answered, issued) {
        (Some(answered), Some(issued)) => answered.duration_since(issued).unwrap_or_default(),
        _ => Duration::ZERO,
    };
    Duration::from_secs(lifetime).saturating_sub(age).max(SHORTEST_USE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_reduced_to_pulling_and_sorted() {
        let own = vec!["repository:a/b:pull".to_owned()];
        assert_eq!(scopes(None, "a/b", false), own);
        assert_eq!(scopes(Some(""), "a/b", false), own);
        assert_eq!(scopes(Some("repository:a/b:pull,push"), "a/b", false), own);
        assert_eq!(scopes(Some("repository:a/b:* registry:catalog:* nonsense"), "a/b", false), own);
        assert_eq!(
            scopes(
                Some("repository:x/y:pull,push repository:host:5000/b:pull repository:x/y:pull"),
                "x/y",
                false
            ),
            ["repository:host:5000/b:pull", "repository:x/y:pull"]
        );
        assert_eq!(
            scopes(Some("repository(plugin):p/q:pull"), "p/q", false),
            ["repository(plugin):p/q:pull"]
        );
        let pushing = vec!["repository:a/b:pull,push".to_owned()];
        assert_eq!(scopes(None, "a/b", true), pushing);
        assert_eq!(scopes(Some("repository:a/b:pull,push,delete"), "a/b", true), pushing);
        assert_eq!(
            scopes(Some("repository:x/y:pull,push"), "a/b", true),
            ["repository:a/b:pull,push", "repository:x/y:pull"]
        );
    }

    #[test]
    fn a_realm_uses_https_unless_the_registry_is_plain_and_has_no_user() {
        let plain = Url::parse("http://auth.example:5000/").unwrap();
        let local = Url::parse("http://localhost:5000/").unwrap();
        assert!(realm("https://auth.example/token?x=1", None).is_ok());
        assert!(realm("http://auth.example/token", Some(&plain)).is_ok());
        assert!(realm("http://127.0.0.1:5001/token", Some(&local)).is_ok());
        assert!(realm("https://other.example/token", Some(&plain)).is_ok());
        for public in ["http://other.example/token", "http://8.8.8.8/token", "http://auth.example.evil/token"]
        {
            for registry in [&plain, &local] {
                assert!(realm(public, Some(registry)).unwrap_err().contains("another host"), "{public}");
            }
        }
        assert!(realm(&format!("https://auth.example/{}", "x".repeat(limits::URL_BYTES)), None).is_err());
        for (wrong, is_plain) in [
            ("http://auth.example/token", false),
            ("https://me:hush@auth.example/token", false),
            ("https://me@auth.example/token", true),
            ("ftp://auth.example/", true),
            ("file:///etc/passwd", true),
            ("/token", true),
            ("", false),
        ] {
            let refused = realm(wrong, is_plain.then_some(&plain)).unwrap_err();
            assert!(!refused.contains("hush"), "{refused}");
        }
    }

    fn left(json: &str, date: Option<&str>) -> u64 {
        let date = date.map(|date| httpdate::parse_http_date(date).unwrap());
        time_left(&serde_json::from_str(json).unwrap(), date).as_secs()
    }

    #[test]
    fn a_lifetime_is_between_a_minute_and_a_day() {
        assert_eq!(left("{}", None), 60);
        assert_eq!(left(r#"{"expires_in":5}"#, None), 60);
        assert_eq!(left(r#"{"expires_in":-5}"#, None), 60);
        assert_eq!(left(r#"{"expires_in":300}"#, None), 300);
        assert_eq!(left(r#"{"expires_in":300.5}"#, None), 300);
        assert_eq!(left(r#"{"expires_in":1e300}"#, None), 86_400);
    }

    #[test]
    fn age_is_measured_by_the_servers_clock() {
        let date = Some("Fri, 01 Jan 1999 00:01:40 GMT");
        assert_eq!(left(r#"{"expires_in":300,"issued_at":"1999-01-01T00:00:00Z"}"#, date), 200);
        // Issued after the response, or long before: neither makes sense.
        assert_eq!(left(r#"{"expires_in":300,"issued_at":"1999-01-02T00:00:00Z"}"#, date), 300);
        assert_eq!(left(r#"{"expires_in":300,"issued_at":"1998-01-01T00:00:00Z"}"#, date), 10);
        // Without the server's date the age is unknown.
        assert_eq!(left(r#"{"expires_in":300,"issued_at":"1999-01-01T00:00:00Z"}"#, None), 300);
        assert_eq!(left(r#"{"expires_in":300,"issued_at":"yesterday"}"#, date), 300);
    }

    #[test]
    fn a_pin_has_no_query() {
        let pin = |text: &str| pin_of(&text.parse().unwrap());
        assert_eq!(pin("https://auth.example/token?x=1#y"), "https://auth.example/token");
        assert_eq!(pin("https://Auth.example:443/token"), pin("https://auth.example/token"));
        assert_ne!(pin("https://auth.example/other"), pin("https://auth.example/token"));
    }

    #[test]
    fn a_token_that_would_break_the_header_is_refused() {
        let header = |token: &str| bearer_header(&String::from(token).into());
        assert!(header("abc.def-_~+/=").unwrap().is_sensitive());
        for wrong in ["", "a\nb", "a b", "ä", "a\r\nX-Evil: 1"] {
            assert!(header(wrong).is_none(), "{wrong:?}");
        }
    }
}
