//! Tokens: when they are fetched, by which task, and how long they are used.

use std::sync::Condvar;

use futures_util::future::join_all;

use super::*;
use crate::registry::http::clock::ManualClock;

#[tokio::test]
async fn an_open_registry_needs_no_token() {
    let server = ScriptedRegistry::start(|request| Reply::blob(request, b"content"));
    let session = session(&server);
    assert_eq!(read(&session, b"content", 0..7).await.unwrap(), b"content");
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].authorization(), None);
}

#[tokio::test]
async fn a_token_is_fetched_when_first_needed_and_reused() {
    let (server, tokens) = token_server(b"content");
    let session = session(&server);
    for _ in 0..3 {
        assert_eq!(read(&session, b"content", 2..5).await.unwrap(), b"nte");
    }
    assert_eq!(tokens.issued(), 1);
    let [asked] = &server.requests_to("/token")[..] else { panic!("one request for a token") };
    assert_eq!(asked.method, "GET");
    assert_eq!(
        asked.query(),
        "service=the+service&scope=repository%3Alibrary%2Fapp%3Apull&client_id=layerslayer"
    );
    assert_eq!(asked.authorization(), None);
    // The first request had no token; there were no others.
    assert_eq!(server.requests().len(), 1 + 1 + 3);
    assert_eq!(session.requests(), 5);
}

#[tokio::test]
async fn fifty_concurrent_reads_need_one_token() {
    let (server, tokens) = token_server(b"content");
    let session = session(&server);
    let reads = join_all((0..50).map(|_| read(&session, b"content", 1..6))).await;
    assert!(reads.into_iter().all(|read| read.unwrap() == b"onten"));
    assert_eq!(tokens.issued(), 1);
}

#[tokio::test]
async fn fifty_concurrent_reads_with_a_revoked_token_need_one_more() {
    let (server, tokens) = token_server(b"content");
    let session = session(&server);
    read(&session, b"content", 0..7).await.unwrap();
    tokens.revoke_all();
    let reads = join_all((0..50).map(|_| read(&session, b"content", 1..6))).await;
    assert!(reads.into_iter().all(|read| read.unwrap() == b"onten"));
    assert_eq!(tokens.issued(), 2);
}

#[tokio::test]
async fn a_refused_fresh_token_is_final() {
    let server = ScriptedRegistry::start(|request| match request.path() {
        "/token" => Reply::token("never-good"),
        _ => Reply::challenge(&bearer(request)),
    });
    let session = session(&server);
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert!(error.is_unauthorized(), "{error}");
    let shown = error.to_string();
    assert!(
        shown.contains("UNAUTHORIZED: authentication required")
            && error.to_hint() == Some(Hint::LogIn { registry: server.host() }),
        "{shown}"
    );
    assert!(!shown.contains("never-good"), "{shown}");
    assert_eq!(server.requests().len(), 3);
    // The failure is not cached: the next read fetches a new token.
    read(&session, b"content", 0..7).await.unwrap_err();
    assert_eq!(server.requests_to("/token").len(), 3);
}

#[tokio::test]
async fn a_revoked_token_is_renewed_once_and_retried_once() {
    let (server, tokens) = token_server(b"content");
    let session = session(&server);
    read(&session, b"content", 0..7).await.unwrap();
    let before = server.requests().len();
    tokens.revoke_all();
    read(&session, b"content", 0..7).await.unwrap();
    let paths: Vec<_> = server.requests()[before..].iter().map(|request| request.path().to_owned()).collect();
    let blob = format!("/v2/{NAME}/blobs/{}", Digest::sha256(b"content"));
    assert_eq!(paths, [blob.as_str(), "/token", blob.as_str()]);
}

#[tokio::test]
async fn tokens_are_renewed_before_they_expire() {
    for (lifetime, renewed_after) in [(300, 270), (100, 80), (1, 48)] {
        let tokens = Arc::new(Tokens::default());
        let shared = Arc::clone(&tokens);
        let server = ScriptedRegistry::start(move |request| match request.path() {
            "/token" => {
                let reply = shared.issue(request);
                reply.body(format!(r#"{{"token":"token-{}","expires_in":{lifetime}}}"#, shared.issued()))
            }
            _ => shared.answer(request, |request| Reply::blob(request, b"content")),
        });
        let clock = ManualClock::new();
        let session = session_with(builder().clock(&clock), &server, None);
        read(&session, b"content", 0..7).await.unwrap();
        clock.advance(Duration::from_secs(renewed_after - 1));
        read(&session, b"content", 0..7).await.unwrap();
        assert_eq!(tokens.issued(), 1, "{lifetime}");
        clock.advance(Duration::from_secs(1));
        read(&session, b"content", 0..7).await.unwrap();
        assert_eq!(tokens.issued(), 2, "{lifetime}");
        // The registry refused only the first request, which had no token.
        assert_eq!(server.requests().len(), 1 + 2 + 3);
    }
}

#[tokio::test]
async fn access_token_is_another_name_for_token() {
    let server = ScriptedRegistry::start(|request| match (request.path(), request.authorization()) {
        ("/token", _) => Reply::ok(r#"{"access_token":"good","token":""}"#),
        (_, Some("Bearer good")) => Reply::blob(request, b"content"),
        _ => Reply::challenge(&bearer(request)),
    });
    read(&session(&server), b"content", 0..7).await.unwrap();
}

#[tokio::test]
async fn a_token_renewed_by_another_task_and_stale_since_is_renewed_again() {
    let tokens = Arc::new(Tokens::default());
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let (shared, opened) = (Arc::clone(&tokens), Arc::clone(&gate));
    let server = ScriptedRegistry::start(move |request| {
        if request.range() == Some((0, 1)) && request.authorization() == Some("Bearer token-1") {
            drop(opened.1.wait_while(lock(&opened.0), |is_open| !*is_open));
        }
        shared.answer(request, |request| Reply::blob(request, b"content"))
    });
    let session = session(&server);
    read(&session, b"content", 0..7).await.unwrap();
    tokens.revoke_all();
    let slow = Arc::clone(&session);
    let slow = tokio::spawn(async move { read(&slow, b"content", 0..1).await });
    while server.requests().last().unwrap().range() != Some((0, 1)) {
        tokio::task::yield_now().await;
    }
    read(&session, b"content", 1..2).await.unwrap();
    tokens.revoke_all();
    *lock(&gate.0) = true;
    gate.1.notify_all();
    slow.await.unwrap().unwrap();
    assert_eq!(tokens.issued(), 3);
}

/// A server that can be told to issue no tokens, and a session whose token has expired.
async fn run_out(status: u16) -> (ScriptedRegistry, Arc<AtomicUsize>, Arc<Session>, Arc<ManualClock>) {
    let tokens = Tokens::default();
    let failures = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&failures);
    let server = ScriptedRegistry::start(move |request| {
        let fails =
            || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if request.path() == "/token" && fails() {
            return Reply::status(status).body(r#"{"details":"not today"}"#);
        }
        tokens.answer(request, |request| Reply::blob(request, b"content"))
    });
    let clock = ManualClock::new();
    let session = session_with(builder().clock(&clock), &server, None);
    read(&session, b"content", 0..7).await.unwrap();
    clock.advance(Duration::from_secs(1_000));
    (server, failures, session, clock)
}

#[tokio::test]
async fn a_failed_fetch_reaches_all_waiters_and_is_not_cached() {
    let (server, failures, session, _) = run_out(403).await;
    failures.store(1, Ordering::SeqCst);
    let reads = join_all((0..10).map(|_| read(&session, b"content", 0..7))).await;
    for read in reads {
        let error = read.unwrap_err();
        assert!(error.is_unauthorized() && error.to_string().contains("not today"), "{error}");
    }
    assert_eq!(server.requests_to("/token").len(), 2);
    read(&session, b"content", 0..7).await.unwrap();
    assert_eq!(server.requests_to("/token").len(), 3);
}

#[tokio::test]
async fn a_cancelled_fetch_does_not_block_its_waiters() {
    let tokens = Tokens::default();
    let server = ScriptedRegistry::start(move |request| {
        if request.path() == "/token" && tokens.issued() == 1 {
            tokens.issue(request);
            return Reply::ok("never to end").stall_after(3);
        }
        tokens.answer(request, |request| Reply::blob(request, b"content"))
    });
    let clock = ManualClock::new();
    let session = session_with(builder().clock(&clock), &server, None);
    read(&session, b"content", 0..7).await.unwrap();
    clock.advance(Duration::from_secs(1_000));
    let reading = |session: &Arc<Session>| {
        let session = Arc::clone(session);
        tokio::spawn(async move { read(&session, b"content", 0..7).await })
    };
    let leader = reading(&session);
    while server.requests_to("/token").len() < 2 {
        tokio::task::yield_now().await;
    }
    let waiters: Vec<_> = (0..5).map(|_| reading(&session)).collect();
    tokio::task::yield_now().await;
    leader.abort();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!(server.requests_to("/token").len(), 3);
}

#[tokio::test]
async fn a_valid_token_is_used_while_the_token_server_is_down() {
    let (_server, failures, session, clock) = run_out(503).await;
    read(&session, b"content", 0..7).await.unwrap();
    failures.store(usize::MAX, Ordering::SeqCst);
    clock.advance(Duration::from_secs(280));
    read(&session, b"content", 0..7).await.unwrap();
    clock.advance(Duration::from_secs(280));
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("503"), "{error}");
}

#[tokio::test]
async fn a_token_is_used_until_it_expires() {
    for (age, is_good) in [(299, true), (300, false)] {
        let (_server, failures, session, clock) = run_out(503).await;
        read(&session, b"content", 0..7).await.unwrap();
        failures.store(usize::MAX, Ordering::SeqCst);
        clock.advance(Duration::from_secs(age));
        assert_eq!(read(&session, b"content", 0..7).await.is_ok(), is_good, "{age}");
    }
}

#[tokio::test]
async fn a_token_that_may_not_be_renewed_is_not_used() {
    let (_server, failures, session, clock) = run_out(403).await;
    read(&session, b"content", 0..7).await.unwrap();
    failures.store(usize::MAX, Ordering::SeqCst);
    clock.advance(Duration::from_secs(280));
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert!(error.is_unauthorized() && error.to_string().contains("not today"), "{error}");
}

#[tokio::test]
async fn a_token_server_that_fails_transiently_is_retried() {
    let (server, failures, session, _) = run_out(503).await;
    failures.store(3, Ordering::SeqCst);
    read(&session, b"content", 0..7).await.unwrap();
    assert_eq!(server.requests_to("/token").len(), 1 + 4);
}

#[tokio::test]
async fn a_token_server_that_closes_the_connection_once_is_retried() {
    let (tokens, asked) = (Tokens::default(), AtomicUsize::new(0));
    let server = ScriptedRegistry::start(move |request| {
        if request.path() == "/token" && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            return Reply::close();
        }
        tokens.answer(request, |request| Reply::blob(request, b"content"))
    });
    read(&session(&server), b"content", 0..7).await.unwrap();
    assert_eq!(server.requests_to("/token").len(), 2);
}

#[tokio::test]
async fn sessions_never_share_a_token() {
    let (server, tokens) = token_server(b"content");
    let http = builder().build().unwrap();
    let names = ["library/one", "library/two"];
    let sessions = names.map(|name| Session::new(Arc::clone(&http), repository(&server.host(), name), None));
    for round in 0..4 {
        for session in &sessions {
            read(session, b"content", 0..7).await.unwrap();
        }
        if round == 1 {
            tokens.revoke_all();
        }
    }
    assert_eq!(tokens.issued(), 4);
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for request in server.requests_to("/v2/") {
        let Some(token) = request.authorization() else { continue };
        let name = request.path().rsplitn(3, '/').last().unwrap().to_owned();
        assert_eq!(seen.entry(token.to_owned()).or_insert_with(|| name.clone()), &name);
    }
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn a_read_survives_a_token_that_ends_in_the_middle_of_it() {
    let blob = content(100_000);
    let tokens = Arc::new(Tokens::default());
    let (shared, served) = (Arc::clone(&tokens), blob.clone());
    let server = ScriptedRegistry::start(move |request| {
        shared.answer(request, |request| {
            shared.revoke_all();
            Reply::blob(request, &served).cut_after(30_000)
        })
    });
    let session = session(&server);
    assert_eq!(read(&session, &blob, 0..100_000).await.unwrap(), blob);
    let ranges: Vec<_> =
        server.requests_to("/v2/").into_iter().filter_map(|request| request.range()).collect();
    let end = 100_000;
    // Each resumes at the byte where the last one broke off, first with the old token, then with a new one.
    let expected = [30_000, 30_000, 60_000, 60_000, 90_000, 90_000].map(|start| (start, end));
    assert_eq!(ranges, expected);
    assert_eq!(tokens.issued(), 4);
}

#[tokio::test]
async fn a_closed_session_sends_nothing() {
    let (server, _) = token_server(b"content");
    let session = session(&server);
    read(&session, b"content", 0..7).await.unwrap();
    let before = server.requests().len();
    assert_eq!(session.authority.redactor().redact("token-1"), "[redacted]");
    let shown = format!("{session:?}");
    assert!(shown.contains(NAME) && !shown.contains("token-1"), "{shown}");
    session.close().await;
    assert_eq!(session.authority.redactor().redact("token-1"), "token-1", "the token is forgotten");
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn malformed_token_responses_are_errors() {
    let huge = format!(r#"{{"token":"{}"}}"#, "x".repeat(2 << 20));
    for body in ["", "token", "[]", "{}", r#"{"token":7}"#, r#"{"token":"a\nb"}"#, r#"{"token":"ä"}"#, &huge]
    {
        let body = body.to_owned();
        let server = ScriptedRegistry::start(move |request| match request.path() {
            "/token" => Reply::ok(body.clone()),
            _ => Reply::challenge(&bearer(request)),
        });
        let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
        assert!(error.to_string().contains("getting a token for "), "{error}");
        assert_eq!(server.requests_to("/v2/").len(), 1);
    }
}
