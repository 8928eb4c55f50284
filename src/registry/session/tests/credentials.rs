//! Which credential is sent where, and in which form.

use super::*;

fn given() -> Option<Credential> {
    Some(Credential::basic("me", "hush"))
}

fn stored(credential: Credential) -> Option<Credential> {
    Some(credential.with_source("config.json at /home/me").stored())
}

fn stored_basic() -> Option<Credential> {
    stored(Credential::basic("me", "hush"))
}

/// `me:hush`.
const BASIC: &str = "Basic bWU6aHVzaA==";

/// A registry that requires `Bearer good` and responds to token requests by `issue`.
fn guarded(issue: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> ScriptedRegistry {
    ScriptedRegistry::start(move |request| match (request.path(), request.authorization()) {
        ("/token", _) => issue(request),
        (_, Some("Bearer good")) => Reply::blob(request, b"content"),
        _ => Reply::challenge(&bearer(request)),
    })
}

#[tokio::test]
async fn basic_without_a_credential_fails_at_once() {
    let server = ScriptedRegistry::start(|_| Reply::challenge("Basic realm=\"r\""));
    let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
    assert!(
        error.is_unauthorized() && error.to_hint() == Some(Hint::LogIn { registry: server.host() }),
        "{error}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn basic_is_sent_only_after_a_challenge() {
    let server = ScriptedRegistry::start(|request| match request.authorization() {
        Some(BASIC) => Reply::blob(request, b"content"),
        _ => Reply::challenge("Basic realm=\"r\""),
    });
    let session = session_with(builder(), &server, given());
    read(&session, b"content", 0..7).await.unwrap();
    read(&session, b"content", 0..7).await.unwrap();
    let sent: Vec<_> = server.requests().iter().map(|request| request.authorization().is_some()).collect();
    assert_eq!(sent, [false, true, true]);
}

#[tokio::test]
async fn a_refused_password_is_not_sent_again() {
    let server = ScriptedRegistry::start(|_| Reply::challenge("Basic realm=\"r\""));
    let session = session_with(builder(), &server, given());
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    let hint = Hint::CheckCredential { registry: server.host(), found_in: None };
    assert!(error.is_unauthorized() && error.to_hint() == Some(hint), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn bearer_is_tried_before_basic_in_any_order() {
    let server = ScriptedRegistry::start(|request| match (request.path(), request.authorization()) {
        ("/token", _) => Reply::token("good"),
        (_, Some("Bearer good")) => Reply::blob(request, b"content"),
        _ => Reply::challenge("Basic realm=\"r\"").header("www-authenticate", &bearer(request)),
    });
    read(&session_with(builder(), &server, given()), b"content", 0..7).await.unwrap();
    let registry = server.requests_to("/v2/");
    assert!(registry.iter().all(|request| request.authorization() != Some(BASIC)));
}

#[tokio::test]
async fn basic_is_tried_when_bearer_fails() {
    // Refused by the token server, and by the registry.
    for (status, tokens) in [(401, 1), (403, 1), (200, 1)] {
        let server =
            ScriptedRegistry::start(move |request| match (request.path(), request.authorization()) {
                ("/token", _) => Reply::token("bad").header("x", "y").with_status(status),
                (_, Some(BASIC)) => Reply::blob(request, b"content"),
                _ => Reply::challenge(&format!("{}, Basic realm=r", bearer(request))),
            });
        let session = session_with(builder(), &server, given());
        read(&session, b"content", 0..7).await.unwrap();
        read(&session, b"content", 0..7).await.unwrap();
        // Once accepted, Basic is kept to.
        assert_eq!(server.requests_to("/token").len(), tokens, "{status}");
    }
}

#[tokio::test]
async fn basic_is_not_tried_when_the_token_server_is_down() {
    let server = ScriptedRegistry::start(|request| match (request.path(), request.authorization()) {
        ("/token", _) => Reply::status(503),
        (_, Some(BASIC)) => Reply::blob(request, b"content"),
        _ => Reply::challenge(&format!("{}, Basic realm=r", bearer(request))),
    });
    let session = session_with(builder(), &server, stored_basic());
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    assert!(server.requests_to("/v2/").iter().all(|request| request.authorization().is_none()));
}

#[tokio::test]
async fn user_and_password_go_to_the_token_server_as_basic() {
    let server = guarded(|request| match request.authorization() {
        Some(BASIC) => Reply::token("good"),
        _ => Reply::status(401),
    });
    read(&session_with(builder(), &server, given()), b"content", 0..7).await.unwrap();
    let [asked] = &server.requests_to("/token")[..] else { panic!("one request for a token") };
    assert!(asked.query().ends_with("&account=me") && !asked.target.contains("hush"), "{}", asked.target);
    assert!(server.requests_to("/v2/").iter().all(|request| request.authorization() != Some(BASIC)));
}

fn identity(username: &str) -> Option<Credential> {
    stored(Credential::identity_token(username, "refresh+me"))
}

#[tokio::test]
async fn an_identity_token_is_posted() {
    let server = guarded(|request| match request.method.as_str() {
        "POST" => Reply::ok(r#"{"access_token":"good"}"#),
        _ => Reply::status(404),
    });
    read(&session_with(builder(), &server, identity("")), b"content", 0..7).await.unwrap();
    let [asked] = &server.requests_to("/token")[..] else { panic!("one request for a token") };
    assert_eq!(asked.target, "/token");
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(
        asked.text(),
        "grant_type=refresh_token&service=the+service&client_id=layerslayer&\
         scope=repository%3Alibrary%2Fapp%3Apull&refresh_token=refresh%2Bme"
    );
    assert!(
        server.requests_to("/v2/").iter().all(|request| request.authorization() != Some("Bearer refresh+me"))
    );
}

#[tokio::test]
async fn an_identity_token_is_sent_as_password_if_post_is_unknown() {
    for (status, username, falls_back) in [
        (400, "", true),
        (401, "", true),
        (404, "", true),
        (405, "me", true),
        (405, "", false),
        (403, "me", false),
    ] {
        let server = guarded(move |request| match (request.method.as_str(), request.authorization()) {
            ("GET", Some(_)) => Reply::token("good"),
            ("GET", None) => Reply::status(401),
            _ => Reply::status(status),
        });
        let result = read(&session_with(builder(), &server, identity(username)), b"content", 0..7).await;
        assert_eq!(result.is_ok(), falls_back, "{status} {username:?}");
        let methods: Vec<_> =
            server.requests_to("/token").into_iter().map(|request| request.method).collect();
        assert_eq!(methods, ["POST", "GET"]);
    }
}

#[tokio::test]
async fn a_registry_token_is_sent_unchanged() {
    let token = Credential::registry_token("good");
    let server = guarded(|_| Reply::status(500));
    read(&session_with(builder(), &server, stored(token)), b"content", 0..7).await.unwrap();
    assert_eq!(server.requests_to("/token").len(), 0);
}

async fn read_with_warnings(
    server: &ScriptedRegistry,
    credential: Option<Credential>,
) -> (bool, Vec<String>) {
    let warnings = Arc::new(Warnings::default());
    let progress = Arc::new(crate::progress::Reporter::new(Arc::<Warnings>::clone(&warnings)));
    let http = builder().build().unwrap();
    let session = Session::with_progress(http, repository(&server.host(), NAME), credential, progress);
    let mut is_ok = true;
    for _ in 0..3 {
        match read(&session, b"content", 0..7).await {
            Ok(read) => assert_eq!(read, b"content"),
            Err(error) => {
                assert!(error.is_unauthorized() && !error.to_string().contains("hush"), "{error}");
                is_ok = false;
            }
        }
    }
    (is_ok, warnings.all())
}

#[tokio::test]
async fn a_stored_credential_that_the_token_server_refuses_is_left_out_with_one_warning() {
    for status in [400, 401, 403] {
        let server = guarded(move |request| match request.authorization() {
            None => Reply::token("good"),
            Some(_) => Reply::status(status).body(r#"{"details":"incorrect username or password hush"}"#),
        });
        let (is_ok, warnings) = read_with_warnings(&server, stored_basic()).await;
        assert!(is_ok);
        let [warning] = &warnings[..] else { panic!("one warning: {warnings:?}") };
        assert!(warning.contains("config.json at /home/me") && !warning.contains("hush"), "{warning}");
        // Refused once, then remembered.
        assert_eq!(server.requests_to("/token").len(), 2);
    }
}

#[tokio::test]
async fn a_stored_credential_that_the_registry_denies_is_left_out_with_one_warning() {
    // GHCR's way: 403 "denied", without a challenge.
    let server = ScriptedRegistry::start(|request| match (request.path(), request.authorization()) {
        ("/token", None) => Reply::token("good"),
        ("/token", Some(_)) => Reply::token("bad"),
        (_, Some("Bearer good")) => Reply::blob(request, b"content"),
        (_, Some(_)) => Reply::status(403).body(r#"{"errors":[{"code":"DENIED","message":"denied"}]}"#),
        _ => Reply::challenge(&bearer(request)),
    });
    let (is_ok, warnings) = read_with_warnings(&server, stored_basic()).await;
    assert!(is_ok);
    assert_eq!(warnings.len(), 1);
    assert_eq!(server.requests_to("/token").len(), 2);
}

#[tokio::test]
async fn the_error_for_a_private_image_names_the_stored_credential() {
    let server = guarded(|_| Reply::status(401));
    let session = session_with(builder(), &server, stored_basic());
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    let found_in = Some("config.json at /home/me".to_owned());
    let hint = Hint::CheckCredential { registry: server.host(), found_in };
    assert!(error.is_unauthorized() && error.to_hint() == Some(hint), "{error}");
    assert_eq!(server.requests_to("/token").len(), 2);
}

#[tokio::test]
async fn an_explicit_credential_is_never_left_out() {
    let server = guarded(|request| match request.authorization() {
        None => Reply::token("good"),
        Some(_) => Reply::status(401),
    });
    let (is_ok, warnings) = read_with_warnings(&server, given()).await;
    assert!(!is_ok && warnings.is_empty());
    assert!(server.requests_to("/token").iter().all(|request| request.authorization() == Some(BASIC)));
}

#[tokio::test]
async fn a_refusal_without_a_challenge_pings_the_api_root() {
    for status in [401, 403] {
        let server =
            ScriptedRegistry::start(move |request| match (request.path(), request.authorization()) {
                ("/token", _) => Reply::token("good"),
                ("/v2/", _) => {
                    let host = request.header("host").unwrap();
                    Reply::challenge(&format!("Bearer realm=\"http://{host}/token\""))
                }
                (_, Some("Bearer good")) => Reply::blob(request, b"content"),
                _ => Reply::status(status),
            });
        let session = session(&server);
        read(&session, b"content", 0..7).await.unwrap();
        read(&session, b"content", 0..7).await.unwrap();
        let roots: Vec<_> =
            server.requests().into_iter().filter(|request| request.target == "/v2/").collect();
        assert_eq!(roots.len(), 1);
        let [asked] = &server.requests_to("/token")[..] else { panic!("one request for a token") };
        assert_eq!(asked.query(), "scope=repository%3Alibrary%2Fapp%3Apull&client_id=layerslayer");
    }
}

#[tokio::test]
async fn the_api_root_is_pinged_once() {
    let tokens = Arc::new(Tokens::default());
    let shared = Arc::clone(&tokens);
    let server = ScriptedRegistry::start(move |request| match request.path() {
        "/token" => shared.issue(request),
        "/v2/" => {
            let host = request.header("host").unwrap();
            Reply::challenge(&format!("Bearer realm=\"http://{host}/token\""))
        }
        _ if shared.admits(request) => Reply::blob(request, b"content"),
        _ => Reply::status(401),
    });
    let session = session(&server);
    for _ in 0..3 {
        read(&session, b"content", 0..7).await.unwrap();
        tokens.revoke_all();
    }
    assert_eq!(tokens.issued(), 3);
    let requests = server.requests();
    assert_eq!(requests.iter().filter(|request| request.target == "/v2/").count(), 1);
}

#[tokio::test]
async fn a_registry_without_a_usable_challenge_is_an_error() {
    let server = ScriptedRegistry::start(|_| Reply::status(401));
    let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
    assert!(error.is_unauthorized(), "{error}");
    assert_eq!(server.requests().len(), 2);
    let server = ScriptedRegistry::start(|_| Reply::challenge("Negotiate"));
    let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
    assert!(error.to_string().contains("\"negotiate\", which is not supported"), "{error}");
}

#[tokio::test]
async fn a_403_means_a_stale_token_only_with_a_challenge_or_the_text_of_ecr() {
    let ecr = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}"#;
    for (forbidden, is_renewed) in [
        (Reply::status(403).body(ecr), true),
        (
            Reply::status(403).header("www-authenticate", "Bearer realm=\"X\",error=\"insufficient_scope\""),
            true,
        ),
        (Reply::status(403).body(r#"{"errors":[{"code":"DENIED","message":"no"}]}"#), false),
    ] {
        let tokens = Arc::new(Tokens::default());
        let shared = Arc::clone(&tokens);
        let server = ScriptedRegistry::start(move |request| {
            let is_known = request.authorization().is_some() || request.path() == "/token";
            if is_known && request.path() != "/token" && !shared.admits(request) {
                let host = request.header("host").unwrap();
                return forbidden.clone().rename("X", &format!("http://{host}/token"));
            }
            shared.answer(request, |request| Reply::blob(request, b"content"))
        });
        let session = session(&server);
        read(&session, b"content", 0..7).await.unwrap();
        tokens.revoke_all();
        let again = read(&session, b"content", 0..7).await;
        assert_eq!(again.is_ok(), is_renewed);
        assert_eq!(tokens.issued(), if is_renewed { 2 } else { 1 });
    }
}

#[tokio::test]
async fn no_secret_that_a_server_echoes_gets_into_a_message() {
    let server = ScriptedRegistry::start(|request| {
        let echoed = request.authorization().unwrap_or("nothing").to_owned();
        let body = format!(r#"{{"errors":[{{"code":"DENIED","message":"bad {echoed} me:hush"}}]}}"#);
        match request.path() {
            "/token" => Reply::token("secret-token"),
            _ => Reply::challenge(&bearer(request)).body(body),
        }
    });
    let session = session_with(builder(), &server, given());
    let shown = read(&session, b"content", 0..7).await.unwrap_err().to_string();
    assert!(!shown.contains("hush") && !shown.contains("secret-token") && !shown.contains("bWU6"), "{shown}");
    assert!(!format!("{session:?}").contains("hush"));
}

#[tokio::test]
async fn an_echoed_credential_that_was_left_out_is_hidden() {
    let asked = AtomicUsize::new(0);
    let server = guarded(move |request| {
        let count = asked.fetch_add(1, Ordering::SeqCst);
        match request.authorization() {
            None if count == 1 => Reply::ok(r#"{"token":"good","expires_in":60}"#),
            _ => Reply::status(401).body(r#"{"details":"you said hush"}"#),
        }
    });
    let clock = crate::registry::http::clock::ManualClock::new();
    let session = session_with(builder().clock(&clock), &server, stored_basic());
    read(&session, b"content", 0..7).await.unwrap();
    clock.advance(Duration::from_secs(100));
    let shown = read(&session, b"content", 0..7).await.unwrap_err().to_string();
    assert!(shown.contains("401") && !shown.contains("hush"), "{shown}");
    assert_eq!(server.requests_to("/token").len(), 3);
}

#[tokio::test]
async fn a_ping_that_fails_transiently_is_retried() {
    let failures = AtomicUsize::new(2);
    let server = ScriptedRegistry::start(move |request| match (request.path(), request.authorization()) {
        ("/token", _) => Reply::token("good"),
        ("/v2/", _) => {
            match failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => Reply::status(503),
                Err(_) => {
                    let host = request.header("host").unwrap();
                    Reply::challenge(&format!("Bearer realm=\"http://{host}/token\""))
                }
            }
        }
        (_, Some("Bearer good")) => Reply::blob(request, b"content"),
        _ => Reply::status(401),
    });
    read(&session(&server), b"content", 0..7).await.unwrap();
}

#[tokio::test]
async fn requested_scopes_are_reduced_to_pulling() {
    let server = ScriptedRegistry::start(|request| match (request.path(), request.authorization()) {
        ("/token", _) => Reply::token("good"),
        (_, Some("Bearer good")) => Reply::blob(request, b"content"),
        _ => {
            let host = request.header("host").unwrap();
            let scope = "registry:catalog:* repository:library/app:pull,push,delete repository:library/app:*";
            Reply::challenge(&format!("Bearer realm=\"http://{host}/token\",scope=\"{scope}\""))
        }
    });
    read(&session(&server), b"content", 0..7).await.unwrap();
    let [asked] = &server.requests_to("/token")[..] else { panic!("one request for a token") };
    assert_eq!(asked.query(), "scope=repository%3Alibrary%2Fapp%3Apull&client_id=layerslayer");
}

/// What a server was sent it can send back, in any form.
#[tokio::test]
async fn an_echoed_credential_is_redacted_in_every_form() {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
    };

    const PASSWORD: &str = "p/w+d \"canary\"?";
    let percent: String = PASSWORD.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let pair = format!("me:{PASSWORD}");
    let identity = || stored(Credential::identity_token("me", PASSWORD));
    let forms = [
        PASSWORD.to_owned(),
        percent,
        STANDARD.encode(PASSWORD),
        STANDARD.encode(&pair),
        URL_SAFE_NO_PAD.encode(&pair),
        serde_json::to_string(PASSWORD).unwrap(),
        STANDARD.encode(&pair).split_at(9).0.to_owned() + "\n" + STANDARD.encode(&pair).split_at(9).1,
        format!("https://s3.example/{PASSWORD}/x?sig=1"),
    ];
    for form in forms {
        for (credential, path) in [
            (stored(Credential::basic("me", PASSWORD)), "/token"),
            (identity(), "/token"),
            (identity(), "/v2/"),
        ] {
            let body =
                serde_json::json!({ "error": "denied", "message": format!("you sent {form}") }).to_string();
            let text = form.clone();
            let server = ScriptedRegistry::start(move |request| match request.path() {
                "/token" if path == "/token" && text.len() % 2 == 0 => Reply::status(401).body(text.clone()),
                "/token" if path == "/token" => {
                    Reply::status(403).body(body.replace("\"error\":\"denied\",", ""))
                }
                "/token" => Reply::token("good"),
                _ if request.authorization() == Some("Bearer good") => {
                    Reply::status(403).body(body.replace("\"error\":\"denied\",", ""))
                }
                _ => Reply::challenge(&bearer(request)),
            });
            let error =
                read(&session_with(builder(), &server, credential), b"content", 0..7).await.unwrap_err();
            let shown = format!("{error} {error:?}");
            for secret in [
                PASSWORD,
                "anary",
                &STANDARD.encode(PASSWORD)[..12],
                &STANDARD.encode(&pair)[4..16],
                "%63%61",
                "%70%2f",
            ] {
                assert!(!shown.contains(secret), "{form}: {secret} in {shown}");
            }
        }
    }
}
