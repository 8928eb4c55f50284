//! How long servers are waited for.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::registry::http::clock::ManualClock;

#[tokio::test]
async fn a_byte_a_range_ends_with_the_wait_budget() {
    let blob = content(10_000);
    let served = blob.clone();
    let server = ScriptedRegistry::start(move |request| {
        let (start, _) = request.range().unwrap();
        let reply = Reply::ok(&served[start..start + 1]).with_status(206);
        reply.header("content-range", &format!("bytes {start}-{start}/10000"))
    });
    let clock = ManualClock::new();
    let base = Duration::from_millis(500);
    let session = session_with(builder().retry_base(base).clock(&clock), &server, None);
    let error = read(&session, &blob, 1..9_999).await.unwrap_err();
    let shown = error.to_string();
    assert!(error.is_unavailable() && shown.contains("no more than 1 B of a range at a time"), "{shown}");
    assert!(shown.contains("gave up after waiting"), "{shown}");
    let waited: Duration = clock.waits().iter().sum();
    assert!(waited <= Duration::from_secs(60) && server.requests().len() <= 121, "{waited:?}");
}

#[tokio::test]
async fn requested_waits_share_one_budget_and_the_error_says_when_to_come_back() {
    let server = ScriptedRegistry::start(|_| Reply::status(503).header("retry-after", "40"));
    let clock = ManualClock::new();
    let session = session_with(builder().clock(&clock), &server, None);
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    let shown = error.to_string();
    assert!(error.is_unavailable() && shown.contains("asks to wait 40 s, until 2"), "{shown}");
    assert_eq!((error.retry_after(), error.status()), (Some(Duration::from_secs(40)), Some(503)));
    assert_eq!((clock.waits(), server.requests().len()), (vec![Duration::from_secs(40)], 2));
    // A new question may wait again.
    session.begin_question();
    read(&session, b"content", 0..7).await.unwrap_err();
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn the_time_limit_ends_a_silent_wait_and_is_an_error_of_its_own() {
    let server = ScriptedRegistry::start(|_| Reply::silence());
    let session = session_with(builder().timeout(Duration::from_millis(50)), &server, None);
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert_eq!((error.kind(), error.to_hint()), (Kind::TimedOut, Some(Hint::RaiseTimeLimit)), "{error}");
    assert!(error.to_string().contains(&server.host()), "{error}");
}

#[tokio::test]
async fn a_malformed_head_is_final() {
    for head in
        ["nonsense\r\n\r\n".to_owned(), format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(1_000))]
    {
        let server = ScriptedRegistry::start(move |_| Reply::raw(head.clone()));
        let http = builder().plain_http(true).build().unwrap();
        let session = Session::new(http, repository(&server.host(), NAME), None);
        let error = read(&session, b"content", 0..7).await.unwrap_err();
        assert!(error.is_unavailable() && error.to_string().contains("not an HTTP response"), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_part_whose_two_lengths_differ_is_refused() {
    let server =
        ScriptedRegistry::start(|_| Reply::ok("on").with_status(206).header("content-range", "bytes 1-5/7"));
    let error = read(&session(&server), b"content", 1..6).await.unwrap_err();
    let shown = error.to_string();
    assert!(
        error.is_corrupt() && shown.contains("5 bytes in Content-Range, and 2 in Content-Length"),
        "{shown}"
    );
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn head_refused_by_429_or_a_closed_connection_leaves_it_to_get() {
    for refusal in [Reply::status(429).header("retry-after", "9999"), Reply::status(503), Reply::close()] {
        let server = ScriptedRegistry::start(move |request| match request.method.as_str() {
            "HEAD" => refusal.clone(),
            _ => Reply::ok("{}"),
        });
        let http = builder().plain_http(true).build().unwrap();
        let session = Session::new(http, repository(&server.host(), NAME), None);
        assert_eq!(session.head_manifest("latest", 0).await.unwrap(), None);
        assert_eq!(&session.manifest("latest", None).await.unwrap().bytes[..], b"{}");
        assert_eq!(server.requests().len(), 2);
    }
}

fn gzipped(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_compressed_manifest_is_decoded_up_to_the_cap_and_odd_codings_are_named() {
    let plain = br#"{"schemaVersion":2}"#;
    let bomb = gzipped(&vec![b' '; limits::MANIFEST_BYTES as usize + 1]);
    let cases: [(&str, Vec<u8>, Result<(), &str>); 7] = [
        ("gzip", gzipped(plain), Ok(())),
        ("X-GZIP", gzipped(plain), Ok(())),
        ("identity", plain.to_vec(), Ok(())),
        // A false label.
        ("gzip", plain.to_vec(), Ok(())),
        ("br", gzipped(plain), Err("Content-Encoding \"br\" is not supported")),
        ("gzip", b"neither".to_vec(), Err("Content-Encoding")),
        ("gzip", bomb, Err("larger than 4194304 bytes")),
    ];
    for (coding, body, expected) in cases {
        let server =
            ScriptedRegistry::start(move |_| Reply::ok(body.clone()).header("content-encoding", coding));
        let fetched = session(&server).manifest(&Digest::sha256(plain).to_string(), None).await;
        match (fetched, expected) {
            (Ok(fetched), Ok(())) => assert_eq!(&fetched.bytes[..], plain),
            (Err(error), Err(named)) => assert!(error.to_string().contains(named), "{error}"),
            (fetched, _) => panic!("{coding}: {fetched:?}"),
        }
    }
}
