//! Connections that break, servers that fail, and retries.

use super::*;
use crate::registry::http::clock::ManualClock;

/// A server that responds to the nth request with `reply(n, its ordinary response)`.
fn faulty(
    blob: &[u8],
    reply: impl Fn(usize, Reply) -> Reply + Send + Sync + 'static,
) -> (ScriptedRegistry, Vec<u8>) {
    let (served, count) = (blob.to_vec(), AtomicUsize::new(0));
    let server = ScriptedRegistry::start(move |request| {
        reply(count.fetch_add(1, Ordering::SeqCst), Reply::blob(request, &served))
    });
    (server, blob.to_vec())
}

fn starts(server: &ScriptedRegistry) -> Vec<usize> {
    server.requests().iter().map(|request| request.range().map_or(0, |(start, _)| start)).collect()
}

#[tokio::test]
async fn broken_transfers_resume_at_the_exact_byte() {
    // Positions from a linear congruential generator: pseudo-random, but the same every time.
    let mut state = 12_345_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let blob = content(400_000);
    let lengths: Vec<usize> = (0..20).map(|_| 1 + next(15_000) as usize).collect();
    let cuts = lengths.clone();
    let (server, blob) = faulty(&blob, move |count, reply| match cuts.get(count) {
        Some(length) => reply.cut_after(*length),
        None => reply,
    });
    let range = 1_000..399_000;
    let session = session(&server);
    assert_eq!(read(&session, &blob, range).await.unwrap(), &blob[1_000..399_000]);
    let mut expected = vec![1_000];
    for length in lengths {
        expected.push(expected.last().unwrap() + length);
    }
    assert_eq!(starts(&server), expected);
    assert_eq!(session.bytes_fetched(), 398_000);
}

#[tokio::test]
async fn the_rest_of_a_short_part_is_requested_next() {
    let blob = content(200_000);
    for (most, is_chunked) in [(70_000, false), (30_000, false), (30_000, true)] {
        let served = blob.clone();
        let server = ScriptedRegistry::start(move |request| {
            let (start, end) = request.range().unwrap();
            let end = end.min(start + most);
            let reply = Reply::ok(&served[start..end]).with_status(206);
            let reply = reply.header("content-range", &format!("bytes {start}-{}/200000", end - 1));
            if is_chunked { reply.chunked() } else { reply }
        });
        let session = session(&server);
        assert_eq!(read(&session, &blob, 1..199_999).await.unwrap(), &blob[1..199_999]);
        assert_eq!(starts(&server), (1..199_999).step_by(most).collect::<Vec<_>>());
        assert_eq!((session.bytes_fetched(), server.connections()), (199_998, 1));
    }
}

#[tokio::test]
async fn requests_for_tiny_parts_are_spaced_out() {
    let blob = content(20_000);
    for (most, pauses) in [(4_096, 0), (4_095, 4), (1_000, 19)] {
        let served = blob.clone();
        let server = ScriptedRegistry::start(move |request| {
            let (start, end) = request.range().unwrap();
            let end = end.min(start + most);
            let reply = Reply::ok(&served[start..end]).with_status(206);
            reply.header("content-range", &format!("bytes {start}-{}/20000", end - 1))
        });
        let clock = ManualClock::new();
        let session = session_with(builder().clock(&clock), &server, None);
        assert_eq!(read(&session, &blob, 1..19_999).await.unwrap(), &blob[1..19_999]);
        assert_eq!(clock.waits().len(), pauses, "{most}");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_without_an_error_is_resumed() {
    let blob = content(10_000);
    let (server, blob) = faulty(&blob, |count, reply| match count {
        // A well-formed end in the middle.
        0 => reply.body(content(4_000)).chunked(),
        _ => reply,
    });
    assert_eq!(read(&session(&server), &blob, 0..10_000).await.unwrap(), blob);
    assert_eq!(starts(&server), [0, 4_000]);
}

#[tokio::test]
async fn four_failures_in_a_row_are_retried_and_five_are_not() {
    for (failures, is_made_up) in [(4, true), (5, false)] {
        for kind in 0..3 {
            let (server, blob) = faulty(b"content", move |count, reply| match kind {
                _ if count >= failures => reply,
                0 => Reply::close(),
                1 => reply.cut_after(0),
                _ => Reply::status(500),
            });
            // With a known scheme: otherwise a closed connection on this machine is taken for TLS.
            let http = builder().plain_http(true).build().unwrap();
            let session = Session::new(http, repository(&server.host(), NAME), None);
            let result = read(&session, &blob, 0..7).await;
            assert_eq!(result.is_ok(), is_made_up, "{kind}");
            assert_eq!(server.requests().len(), 5, "{kind}");
            if let Err(error) = result {
                assert!(error.is_unavailable(), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn only_failures_without_progress_count() {
    let blob = content(1_000);
    // Three failures after each piece.
    let (server, blob) = faulty(&blob, |count, reply| match count % 4 {
        0 => reply.cut_after(100),
        1 => Reply::status(503),
        2 => Reply::status(502),
        _ => reply.cut_after(0),
    });
    assert_eq!(read(&session(&server), &blob, 0..1_000).await.unwrap(), blob);
}

#[tokio::test]
async fn transient_statuses_are_retried_and_no_others() {
    for status in [408, 429, 499, 500, 502, 503, 504, 522] {
        let (server, blob) = faulty(b"content", move |count, reply| match count {
            0 => Reply::status(status),
            _ => reply,
        });
        assert_eq!(read(&session(&server), &blob, 0..7).await.unwrap(), blob, "{status}");
        assert_eq!(server.requests().len(), 2);
    }
    for status in [400, 405, 418, 451, 501, 505] {
        let (server, blob) = faulty(b"content", move |_, _| Reply::status(status));
        let error = read(&session(&server), &blob, 0..7).await.unwrap_err();
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn waits_grow_and_honour_retry_after() {
    let clock = ManualClock::new();
    let (server, blob) = faulty(b"content", |count, reply| match count {
        0 => Reply::status(503),
        1 => Reply::status(429).header("retry-after", "7"),
        2 => Reply::status(503)
            .header("date", "Fri, 01 Jan 1999 00:00:00 GMT")
            .header("retry-after", "Fri, 01 Jan 1999 00:00:30 GMT"),
        3 => Reply::status(503),
        _ => reply,
    });
    let base = Duration::from_millis(100);
    let session = session_with(builder().retry_base(base).clock(&clock), &server, None);
    read(&session, &blob, 0..7).await.unwrap();
    let waits = clock.waits();
    assert!((base..2 * base).contains(&waits[0]), "{waits:?}");
    assert_eq!(waits[1..3], [Duration::from_secs(7), Duration::from_secs(30)]);
    assert!((8 * base..16 * base).contains(&waits[3]), "{waits:?}");
}

#[tokio::test]
async fn a_requested_wait_beyond_the_budget_fails_at_once() {
    let cases = [
        (429, "21600", "6 h 0 min"),
        (503, "61", "1 min 1 s"),
        (429, "Fri, 01 Jan 1999 01:00:00 GMT", "1 h 0 min"),
    ];
    for (status, wait, named) in cases {
        let (server, blob) = faulty(b"content", move |_, _| {
            Reply::status(status).header("date", "Fri, 01 Jan 1999 00:00:00 GMT").header("retry-after", wait)
        });
        let error = read(&session(&server), &blob, 0..7).await.unwrap_err();
        assert!(error.is_unavailable() && error.to_string().contains(named), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_stalled_read_resumes() {
    let blob = content(50_000);
    let served = blob.clone();
    let server = ScriptedRegistry::start(move |request| {
        let reply = Reply::blob(request, &served);
        // Nothing arrives beyond byte 20,000, nor beyond 20,010, until a request starts there.
        match request.range().map_or(0, |(start, _)| start) {
            start @ 0..20_000 => reply.stall_after(20_000 - start),
            start @ 20_000..20_010 => reply.stall_after(20_010 - start),
            _ => reply,
        }
    });
    let session = session_with(builder().stall_window(Duration::from_millis(100)), &server, None);
    assert_eq!(read(&session, &blob, 0..50_000).await.unwrap(), blob);
    // On a busy machine there may be more attempts.
    let starts = starts(&server);
    assert!(starts.is_sorted() && starts.contains(&20_000) && starts.contains(&20_010), "{starts:?}");
}

#[tokio::test]
async fn a_server_that_never_responds_is_unavailable() {
    let (server, blob) = faulty(b"content", |_, _| Reply::silence());
    let session = session_with(builder().stall_window(Duration::from_millis(20)), &server, None);
    let error = read(&session, &blob, 0..7).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("less than 1 KiB/s"), "{error}");
    assert_eq!(session.requests(), 5);
}

#[tokio::test]
async fn a_manifest_that_breaks_off_is_fetched_again() {
    let (server, blob) = faulty(b"{\"schemaVersion\":2}", |count, reply| match count {
        0..3 => reply.cut_after(5),
        _ => reply,
    });
    assert_eq!(session(&server).manifest("latest", None).await.unwrap().bytes, blob);
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn reading_again_without_ranges_has_a_budget() {
    // Each attempt at a server without ranges gets one MiB further; 64 MiB are read again after eleven.
    let size = 40_usize << 20;
    let blob = vec![7; size];
    let (server, blob) = faulty(&blob, move |count, reply| {
        let whole = Reply::ok(vec![7; size]);
        drop(reply);
        whole.cut_after((count + 1) << 20)
    });
    let error = read(&session(&server), &blob, 0..size as u64).await.unwrap_err();
    assert!(error.to_string().contains("ignores ranges"), "{error}");
    assert_eq!(server.requests().len(), 12);
}

#[tokio::test]
async fn dropping_a_read_closes_the_connection_if_much_is_left() {
    let blob = content(8 << 20);
    let (server, blob) = faulty(&blob, |_, reply| reply);
    let session = session(&server);
    let mut reader = session.open_blob(Digest::sha256(&blob), 0..blob.len() as u64, blob.len() as u64);
    reader.next().await.unwrap();
    drop(reader);
    tokio::task::spawn_blocking(move || server.wait_for_closed(1)).await.unwrap();
    assert!(session.bytes_fetched() < blob.len() as u64);
}

#[tokio::test]
async fn dropping_a_read_keeps_the_connection_if_little_is_left() {
    let blob = content(60_000);
    let (server, blob) = faulty(&blob, |_, reply| reply);
    let session = session(&server);
    let mut reader = session.open_blob(Digest::sha256(&blob), 0..60_000, 60_000);
    let first = reader.next().await.unwrap().unwrap();
    assert!(first.len() < 60_000);
    drop(reader);
    while session.bytes_fetched() < 60_000 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    read(&session, &blob, 0..10).await.unwrap();
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn endless_heads_and_trailers_are_refused() {
    let line = "x-flood: 0123456789012345678901234567890123456789\r\n";
    let flood = line.repeat(100_000);
    let head = format!("HTTP/1.1 200 OK\r\n{flood}");
    let trailers = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ncon\r\n0\r\n{flood}");
    let extension = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7;{}", "x".repeat(1 << 20));
    for raw in [head, trailers, extension] {
        let server = ScriptedRegistry::start(move |_| Reply::raw(raw.clone()));
        let http = builder().plain_http(true).build().unwrap();
        let session = Session::new(http, repository(&server.host(), NAME), None);
        let error = read(&session, b"content", 0..7).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
    }
}

#[tokio::test]
async fn a_slow_token_server_is_limited_in_total_time() {
    let tokens = ScriptedRegistry::start(|_| Reply::token("token").stall_after(5));
    let realm = format!("{}/token", tokens.url());
    let server = ScriptedRegistry::start(move |_| Reply::challenge(&format!(r#"Bearer realm="{realm}""#)));
    let session = session_with(builder().token_deadline(Duration::from_millis(50)), &server, None);
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("no token within 0.05 s"), "{error}");
    // Requested once: another attempt would have no time left.
    assert_eq!(session.requests(), 2);
}
