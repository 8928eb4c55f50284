//! Logins, and identity tokens that replace another.

use std::sync::Mutex as StdMutex;

use secrecy::ExposeSecret as _;

use super::*;
use crate::{
    auth::{
        CredentialError,
        credential::{RefreshLease, TokenStore},
    },
    registry::NO_TOKEN_SERVER,
};

const ME: &str = "Basic bWU6aHVzaA==";

fn me() -> Credential {
    Credential::basic("me", "hush")
}

async fn verify(
    server: &ScriptedRegistry,
    credential: &Credential,
) -> Result<crate::registry::session::login::Verified, Error> {
    session(server).verify(credential).await
}

#[tokio::test]
async fn login_requests_an_identity_token_without_a_scope() {
    let server = ScriptedRegistry::start(|request| match (request.path(), request.authorization()) {
        ("/token", Some(ME)) => Reply::ok(r#"{"token":"good","refresh_token":"refresh"}"#),
        ("/token", _) => Reply::status(401),
        ("/v2/", Some("Bearer good")) => Reply::ok("{}"),
        _ => Reply::challenge(&format!(
            "Bearer realm=\"http://{}/token\",service=\"s\"",
            request.header("host").unwrap()
        )),
    });
    let verified = verify(&server, &me()).await.unwrap();
    assert_eq!(verified.identity.unwrap().expose_secret(), "refresh");
    assert_eq!(verified.token_server, format!("{}/token", server.url()));
    assert!(verified.is_required);
    let [asked] = &server.requests_to("/token")[..] else { panic!("one request for a token") };
    assert_eq!(asked.query(), "service=s&client_id=layerslayer&offline_token=true&account=me");
    let wrong = Credential::basic("me", "canary");
    let error = verify(&server, &wrong).await.err().unwrap();
    let shown = error.to_string();
    assert!(error.is_unauthorized() && shown.contains("invalid username or password"), "{shown}");
}

#[tokio::test]
async fn a_token_that_the_registry_refuses_fails_the_login() {
    let server = ScriptedRegistry::start(|request| match request.path() {
        "/token" => Reply::token("never-good"),
        _ => Reply::challenge(&bearer(request)),
    });
    let error = verify(&server, &me()).await.err().unwrap();
    assert!(error.is_unauthorized() && error.to_string().contains("its own token server"), "{error}");
}

#[tokio::test]
async fn login_sends_basic_only_if_required() {
    let server = ScriptedRegistry::start(|request| match request.authorization() {
        Some(ME) => Reply::ok("{}"),
        _ => Reply::challenge("Basic realm=\"r\""),
    });
    let verified = verify(&server, &me()).await.unwrap();
    assert!(verified.identity.is_none() && verified.token_server == NO_TOKEN_SERVER);
    // A registry that requires no credential gets none.
    let open = ScriptedRegistry::start(|_| Reply::ok("{}"));
    assert!(!verify(&open, &me()).await.unwrap().is_required);
    assert!(open.requests().iter().all(|request| request.authorization().is_none()));
}

#[tokio::test]
async fn a_pin_holds_when_the_registry_switches_to_basic() {
    let server = ScriptedRegistry::start(|request| match request.authorization() {
        Some(ME) => Reply::blob(request, b"content"),
        _ => Reply::challenge("Basic realm=\"r\""),
    });
    let pinned = me().pinned_to(Some("https://auth.example/token".into()));
    let error = read(&session_with(builder(), &server, Some(pinned)), b"content", 0..7).await.unwrap_err();
    assert!(error.is_unauthorized(), "{error}");
    assert!(server.requests().iter().all(|request| request.authorization().is_none()));
    let pinned = me().pinned_to(Some(NO_TOKEN_SERVER.into()));
    read(&session_with(builder(), &server, Some(pinned)), b"content", 0..7).await.unwrap();
    // The other way round: a pin to no token server.
    let (server, tokens) = token_server(b"content");
    let pinned = me().pinned_to(Some(NO_TOKEN_SERVER.into()));
    let error = read(&session_with(builder(), &server, Some(pinned)), b"content", 0..7).await.unwrap_err();
    assert!(error.to_string().contains("pinned to no token server"), "{error}");
    assert_eq!(tokens.issued(), 0);
}

/// Stores a token in memory.
#[derive(Clone, Default)]
struct Memory(Arc<StdMutex<Option<Credential>>>);

struct MemoryLease(Memory, Option<Credential>);

impl TokenStore for Memory {
    fn lease(&self) -> Result<Box<dyn RefreshLease>, CredentialError> {
        let now = lock(&self.0).clone();
        Ok(Box::new(MemoryLease(self.clone(), now)))
    }
}

impl RefreshLease for MemoryLease {
    fn credential(&self) -> Option<&Credential> {
        self.1.as_ref()
    }

    fn replace(&self, token: &secrecy::SecretString) -> Result<(), CredentialError> {
        *lock(&self.0.0) = Some(Credential::identity_token("me", token.expose_secret()));
        Ok(())
    }

    fn remove(&self) -> Result<(), CredentialError> {
        *lock(&self.0.0) = None;
        Ok(())
    }
}

#[tokio::test]
async fn a_replaced_identity_token_is_stored_and_a_refused_one_removed() {
    let good = Arc::new(StdMutex::new(1_u32));
    let shared = Arc::clone(&good);
    let server = ScriptedRegistry::start(move |request| {
        let mut good = lock(&shared);
        match (request.path(), request.authorization()) {
            ("/token", _) if request.text().contains(&format!("refresh_token=refresh-{}", *good)) => {
                *good += 1;
                Reply::ok(format!(r#"{{"access_token":"good","refresh_token":"refresh-{}"}}"#, *good))
            }
            ("/token", _) => Reply::status(400).body(r#"{"error":"invalid_grant"}"#),
            (_, Some("Bearer good")) => Reply::blob(request, b"content"),
            _ => Reply::challenge(&bearer(request)),
        }
    });
    let first = || Credential::identity_token("me", "refresh-1");
    let memory = Memory(Arc::new(StdMutex::new(Some(first()))));
    // Each session starts with the first token, as one that was opened earlier would.
    for number in 2..5 {
        let credential = first().with_source("memory").stored().with_token_store(Arc::new(memory.clone()));
        read(&session_with(builder(), &server, Some(credential)), b"content", 0..7).await.unwrap();
        let kept = lock(&memory.0).clone().unwrap();
        assert_eq!(kept.secret().expose_secret(), format!("refresh-{number}"));
    }
    *lock(&good) = 100;
    let credential = first().with_source("memory").stored().with_token_store(Arc::new(memory.clone()));
    let error =
        read(&session_with(builder(), &server, Some(credential)), b"content", 0..7).await.unwrap_err();
    let shown = error.to_string();
    assert!(error.is_unauthorized() && shown.contains("session expired"), "{shown}");
    assert!(
        error.to_hint() == Some(Hint::LogInAgain { registry: server.host() }) && !shown.contains("refresh-"),
        "{shown}"
    );
    assert!(lock(&memory.0).is_none());
}

/// Anything between us and the token server may answer so: a proxy, a captive portal, a broken deployment.
#[tokio::test]
async fn an_identity_token_is_removed_only_for_an_invalid_grant() {
    let grant = r#"{"error":"invalid_grant"}"#;
    for (status, body, is_removed) in [
        (400, grant, true),
        (401, grant, true),
        (400, "", false),
        (400, r#"{"error":"invalid_request"}"#, false),
        (401, "", false),
        (401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#, false),
        (403, grant, false),
        (403, "<html>sign in to the Wi-Fi</html>", false),
        (404, "", false),
        (302, "", false),
    ] {
        let server = ScriptedRegistry::start(move |request| match request.path() {
            "/token" if status == 302 => Reply::redirect(302, "http://portal.example/"),
            "/token" => Reply::status(status).body(body),
            _ => Reply::challenge(&bearer(request)),
        });
        let memory = Memory(Arc::new(StdMutex::new(Some(Credential::identity_token("me", "refresh-1")))));
        let credential = Credential::identity_token("me", "refresh-1").with_source("memory").stored();
        let credential = credential.with_token_store(Arc::new(memory.clone()));
        let error =
            read(&session_with(builder(), &server, Some(credential)), b"content", 0..7).await.unwrap_err();
        let shown = error.to_string();
        assert_eq!(lock(&memory.0).is_none(), is_removed, "{status} {body}: {shown}");
        let came = if status == 302 { "redirects".to_owned() } else { status.to_string() };
        assert!(error.is_unauthorized() && shown.contains(&came), "{shown}");
        assert_eq!(shown.contains("session expired"), is_removed, "{shown}");
    }
}
