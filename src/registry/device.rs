//! Signing in with a device code (RFC 8628), as GitHub implements it.

use std::{sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    hint::Hint,
    limits,
    progress::{Reporter, RequestTarget},
    registry::{
        error::Error,
        http::{
            Counters, HeaderMap, HeaderValue, Http, HttpRequest, Method, StatusCode, Url,
            address::AddressClass, header,
        },
        message, redirect,
    },
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The scope for reading packages.
const SCOPE: &str = "read:packages";

/// Seconds between two polls if the server does not state them, and what `slow_down` adds (RFC 8628, section 3.5).
const INTERVAL: u64 = 5;

/// Most seconds between two polls, whatever the server says.
const LONGEST_INTERVAL: u64 = 60;

/// Longest lifetime of a code in seconds, whatever the server says.
const LONGEST_LIFE: u64 = 60 * 60;

/// Polls in a row that may fail transiently.
const FAILURES: usize = 3;

/// A code for the user to type.
pub(crate) struct DeviceCode {
    device_code: SecretString,
    /// The code that the user types.
    pub(crate) user_code: String,
    /// Where the user types it.
    pub(crate) verification_uri: String,
    expires_in: u64,
    interval: u64,
}

#[derive(Deserialize)]
struct CodeBody {
    device_code: String,
    user_code: String,
    verification_uri: String,
    #[serde(default)]
    expires_in: u64,
    #[serde(default)]
    interval: u64,
}

#[derive(Deserialize)]
struct Body {
    access_token: Option<String>,
    error: Option<String>,
}

/// A server that issues device codes, and the client's identity there.
pub(crate) struct Device {
    http: Arc<Http>,
    counters: Arc<Counters>,
    progress: Arc<Reporter>,
    server: Url,
    client_id: String,
    operation: String,
}

impl Device {
    /// The server at `server`: `https://github.com`.
    pub(crate) fn new(
        http: &Arc<Http>,
        server: &str,
        client_id: &str,
        progress: &Arc<Reporter>,
    ) -> Result<Self, Error> {
        // The text may have a password in it.
        let url = Url::parse(server)
            .map_err(|_| Error::other("signing in", "the server is not a valid address"))?;
        let operation = format!("signing in at {}", redirect::shown(&url));
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::other(&operation, "the address has a user name or password"));
        }
        let is_local = url.host_str().is_some_and(super::http::is_loopback);
        if url.scheme() != "https" && !(url.scheme() == "http" && (is_local || http.plain_http)) {
            return Err(Error::other(&operation, "the address is not https"));
        }
        let (http, client_id) = (Arc::clone(http), client_id.to_owned());
        let (counters, progress) = (Arc::clone(&http.counters), Arc::clone(progress));
        Ok(Self { http, counters, progress, server: url, client_id, operation })
    }

    /// Requests a code.
    pub(crate) async fn begin(&self) -> Result<DeviceCode, Error> {
        let form = [("client_id", self.client_id.as_str()), ("scope", SCOPE)];
        let body = self.post("login/device/code", &form).await.map_err(|(error, _)| error)?;
        match serde_json::from_slice::<CodeBody>(&body) {
            Ok(body) => Ok(DeviceCode {
                device_code: body.device_code.into(),
                user_code: body.user_code,
                verification_uri: body.verification_uri,
                expires_in: body.expires_in,
                interval: body.interval,
            }),
            Err(_) => match error_of(&body).as_deref() {
                Some("device_flow_disabled") => {
                    Err(self.refused("the application does not allow device codes"))
                }
                Some("incorrect_client_credentials" | "unauthorized_client" | "invalid_client") => {
                    Err(self.refused("the client id is not known"))
                }
                _ => Err(Error::other(&self.operation, "the response holds no device code")),
            },
        }
    }

    /// Waits until the user has typed the code, has refused, or the code has expired.
    pub(crate) async fn wait(&self, code: &DeviceCode) -> Result<SecretString, Error> {
        let mut interval = if code.interval == 0 { INTERVAL } else { code.interval.min(LONGEST_INTERVAL) };
        let life = if code.expires_in == 0 { LONGEST_LIFE } else { code.expires_in.min(LONGEST_LIFE) };
        let until = self.http.clock.now() + Duration::from_secs(life);
        let mut failures = 0;
        while self.http.clock.now() < until {
            self.http.clock.sleep(Duration::from_secs(interval)).await;
            let form = [
                ("client_id", self.client_id.as_str()),
                ("device_code", code.device_code.expose_secret()),
                ("grant_type", GRANT),
            ];
            let body = match self.post("login/oauth/access_token", &form).await {
                Ok(body) => body,
                Err((_, true)) if failures < FAILURES => {
                    failures += 1;
                    continue;
                }
                Err((error, _)) => return Err(error),
            };
            failures = 0;
            let Ok(body) = serde_json::from_slice::<Body>(&body) else {
                return Err(Error::other(&self.operation, "the response holds neither a token nor an error"));
            };
            if let Some(token) = body.access_token.filter(|token| !token.is_empty()) {
                return Ok(token.into());
            }
            match body.error.as_deref() {
                Some("authorization_pending") => {}
                Some("slow_down") => interval = (interval + INTERVAL).min(LONGEST_INTERVAL),
                Some("access_denied") => return Err(self.refused("the request was denied")),
                Some("expired_token" | "token_expired") => break,
                _ => return Err(self.refused("the server refuses")),
            }
        }
        Err(self.refused("the code expired before it was typed").hint(Hint::RetryLater))
    }

    /// The user's name, if the server tells it.
    pub(crate) async fn user(&self, token: &SecretString) -> Option<String> {
        let mut url = self.server.clone();
        if url.host_str() == Some("github.com") {
            url = Url::parse("https://api.github.com/user").ok()?;
        } else {
            url.set_path("/api/v3/user");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, super::token::bearer_header(token)?);
        let body = self.send(url, headers, Method::Get).await.ok()?;
        let value: Value = serde_json::from_slice(&body).ok()?;
        let login = value.get("login")?.as_str()?;
        let is_name = login.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        (is_name && !login.is_empty()).then(|| login.to_owned())
    }

    /// The response to a form, or the error and whether it is transient.
    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<bytes::Bytes, (Error, bool)> {
        let mut url = self.server.clone();
        url.set_path(path);
        url.set_query(None);
        let mut encoded = url.clone();
        encoded.query_pairs_mut().extend_pairs(form);
        self.send(url, HeaderMap::new(), Method::Post(encoded.query().unwrap_or_default().to_owned())).await
    }

    async fn send(
        &self,
        url: Url,
        mut headers: HeaderMap,
        method: Method,
    ) -> Result<bytes::Bytes, (Error, bool)> {
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let is_local = url.host_str().is_some_and(super::http::is_loopback);
        let min_address_class = if is_local { AddressClass::Loopback } else { AddressClass::Private };
        let (target, progress) = (RequestTarget::Token, Arc::clone(&self.progress));
        let budget = self.http.wait_budget();
        let request = HttpRequest {
            url,
            headers,
            method,
            target,
            progress,
            budget,
            min_address_class,
            preconnect: Vec::new(),
        };
        let sent = self.http.send(request, &self.counters).await;
        let mut response = sent.map_err(|failure| {
            let is_transient = failure.is_transient();
            (failure.into_error(&self.operation), is_transient)
        })?;
        // GitHub sends errors with 200, other servers with 400.
        if !response.status.is_success() && response.status != StatusCode::BAD_REQUEST {
            let is_transient = message::is_transient(response.status);
            let detail = format!("the server answers {}", message::status_text(response.status));
            return Err((
                Error::unavailable(&self.operation, detail).with_status(response.status),
                is_transient,
            ));
        }
        match response.whole(limits::TOKEN_BYTES).await {
            Ok(Some(body)) => Ok(body),
            Ok(None) => Err((Error::other(&self.operation, "the response is too large"), false)),
            Err(failure) => {
                let is_transient = failure.is_transient();
                Err((failure.into_error(&self.operation), is_transient))
            }
        }
    }

    fn refused(&self, detail: &str) -> Error {
        Error::unauthorized(&self.operation, detail)
    }
}

fn error_of(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Body>(body).ok()?.error
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::registry::{
        http::clock::ManualClock,
        scripted::{Reply, Request, ScriptedRegistry},
    };

    const CODE: &str = r#"{"device_code":"device-canary","user_code":"AB-CD","verification_uri":"https://x/","expires_in":60,"interval":5}"#;

    /// A server that responds to polls with these bodies, the last one repeatedly.
    fn server(answers: &[&str]) -> ScriptedRegistry {
        let answers: Vec<String> = answers.iter().map(|response| (*response).to_owned()).collect();
        let asked = AtomicUsize::new(0);
        ScriptedRegistry::start(move |request| match request.path() {
            "/login/device/code" => Reply::ok(CODE),
            "/login/oauth/access_token" => {
                let number = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
                match answers[number].strip_prefix("status ") {
                    Some(status) => Reply::status(status.parse().unwrap()),
                    None => Reply::ok(answers[number].clone()),
                }
            }
            _ => Reply::status(404),
        })
    }

    fn silent() -> Arc<Reporter> {
        Arc::new(crate::progress::Reporter::silent())
    }

    fn device(server: &ScriptedRegistry, clock: &Arc<ManualClock>) -> Device {
        let http = Http::builder().clock(clock).build().unwrap();
        Device::new(&http, &server.url(), "app", &silent()).unwrap()
    }

    /// The result of waiting, and the length of each wait.
    async fn waited(answers: &[&str]) -> (Result<String, Error>, Vec<u64>) {
        let clock = ManualClock::new();
        let server = server(answers);
        let device = device(&server, &clock);
        let code = device.begin().await.unwrap();
        assert_eq!((code.user_code.as_str(), code.verification_uri.as_str()), ("AB-CD", "https://x/"));
        let token = device.wait(&code).await.map(|token| token.expose_secret().to_owned());
        let waits = clock.waits().iter().map(Duration::as_secs).collect();
        let asked: Mutex<Vec<Request>> = Mutex::new(server.requests_to("/login/oauth/access_token"));
        for request in asked.lock().unwrap().iter() {
            let expected = "client_id=app&device_code=device-canary&grant_type=\
                            urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code";
            assert_eq!((request.method.as_str(), request.text().as_str()), ("POST", expected));
            assert_eq!(request.header("accept"), Some("application/json"));
        }
        (token, waits)
    }

    const PENDING: &str = r#"{"error":"authorization_pending"}"#;
    const SLOW: &str = r#"{"error":"slow_down"}"#;
    const TOKEN: &str = r#"{"access_token":"token-canary"}"#;

    #[tokio::test]
    async fn polls_keep_the_servers_interval_and_slow_down_on_request() {
        let (token, waits) = waited(&[PENDING, SLOW, SLOW, TOKEN]).await;
        assert_eq!((token.unwrap().as_str(), waits), ("token-canary", vec![5, 5, 10, 15]));
    }

    #[tokio::test]
    async fn transient_failures_are_retried() {
        let (token, _) = waited(&[PENDING, "status 503", "status 502", TOKEN]).await;
        assert_eq!(token.unwrap(), "token-canary");
        let (token, waits) = waited(&["status 503"]).await;
        assert!(token.unwrap_err().is_unavailable() && waits.len() == FAILURES + 1);
    }

    #[tokio::test]
    async fn refusals_name_the_reason_and_no_secret() {
        for (response, said) in [
            (r#"{"error":"access_denied"}"#, "denied"),
            (r#"{"error":"expired_token"}"#, "expired"),
            (r#"{"error":"unsupported_grant_type","error_description":"device-canary"}"#, "refuses"),
            ("device-canary", "neither a token nor an error"),
            (r#"{"access_token":""}"#, "refuses"),
        ] {
            let (token, _) = waited(&[response]).await;
            let shown = token.unwrap_err().to_string();
            assert!(shown.contains(said) && !shown.contains("canary"), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_code_that_is_never_typed_expires() {
        let (token, waits) = waited(&[PENDING]).await;
        let error = token.unwrap_err();
        assert!(error.is_unauthorized() && error.to_string().contains("expired"), "{error}");
        assert_eq!(waits.iter().sum::<u64>(), 60);
    }

    #[test]
    fn the_server_uses_https_or_is_on_this_machine() {
        let http = Http::builder().build().unwrap();
        for server in ["http://github.example", "ftp://localhost", "github.com", ""] {
            assert!(Device::new(&http, server, "app", &silent()).is_err(), "{server}");
        }
        for server in ["https://github.com", "http://127.0.0.1:5000"] {
            assert!(Device::new(&http, server, "app", &silent()).is_ok(), "{server}");
        }
    }
}
