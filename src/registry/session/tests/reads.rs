//! Manifests and blobs as they should arrive, and responses that lie about themselves.

use super::*;
use crate::{
    offset::Compressed,
    source::{Source as _, registry_blob::RegistryBlob},
};
use futures_util::TryStreamExt as _;

const MANIFEST: &str = r#"{"schemaVersion":2}"#;

fn manifests(reply: Reply) -> ScriptedRegistry {
    ScriptedRegistry::start(move |_| reply.clone())
}

#[tokio::test]
async fn a_manifest_is_accepted_in_every_format_and_hashed() {
    let reply = Reply::ok(MANIFEST)
        .header("content-type", "application/vnd.oci.image.manifest.v1+json")
        .header("docker-content-digest", "sha256:wrong");
    let server = manifests(reply);
    let manifest = session(&server).manifest("latest", None).await.unwrap();
    assert_eq!(manifest.bytes, MANIFEST);
    assert_eq!(manifest.digest, Digest::sha256(MANIFEST.as_bytes()));
    assert_eq!(manifest.content_type.as_deref(), Some("application/vnd.oci.image.manifest.v1+json"));
    let request = &server.requests()[0];
    assert_eq!(request.target, "/v2/library/app/manifests/latest");
    let accept: Vec<_> = request.header("accept").unwrap().split(',').map(str::trim).collect();
    assert_eq!(accept.len(), 6);
    assert!(accept[0].ends_with("oci.image.index.v1+json"));
    // Schema 1 is last, in both its forms, so that the error can name it.
    assert!(accept[4].ends_with("manifest.v1+prettyjws") && accept[5].ends_with("manifest.v1+json"));
}

#[tokio::test]
async fn a_manifest_must_have_the_requested_digest() {
    let server = manifests(Reply::ok(MANIFEST));
    let session = session(&server);
    let right = Digest::sha256(MANIFEST.as_bytes());
    let wrong = Digest::sha256(b"other");
    let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    assert_eq!(session.manifest(&right.to_string(), None).await.unwrap().digest, right);
    assert_eq!(session.manifest("latest", Some(&right)).await.unwrap().digest, right);
    for wrong in [&wrong, &sha512] {
        assert!(session.manifest(&wrong.to_string(), None).await.unwrap_err().is_corrupt());
        assert!(session.manifest("latest", Some(wrong)).await.unwrap_err().is_corrupt());
    }
}

#[tokio::test]
async fn a_manifest_beyond_the_cap_is_refused() {
    let cap = limits::MANIFEST_BYTES as usize;
    for reply in [Reply::ok(vec![b' '; cap]), Reply::ok(vec![b' '; cap]).chunked()] {
        session(&manifests(reply)).manifest("latest", None).await.unwrap();
    }
    for reply in [Reply::ok(vec![b' '; cap + 1]), Reply::ok(vec![b' '; cap + 1]).chunked()] {
        let error = session(&manifests(reply)).manifest("latest", None).await.unwrap_err();
        assert!(error.to_string().contains("larger than 4194304 bytes"), "{error}");
    }
}

#[tokio::test]
async fn a_manifest_that_always_breaks_off_is_unavailable() {
    let server = manifests(Reply::ok(MANIFEST).cut_after(5));
    let error = session(&server).manifest("latest", None).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
}

#[tokio::test]
async fn a_registry_that_fails_is_unavailable() {
    for status in [501, 505] {
        let server = manifests(Reply::status(status));
        let error = session(&server).manifest("latest", None).await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
    }
}

#[tokio::test]
async fn a_registry_that_refuses_head_may_still_send_the_manifest() {
    for status in [400, 403, 404, 405, 500, 501, 502, 503] {
        let server = ScriptedRegistry::start(move |request| match request.method.as_str() {
            "HEAD" => Reply::status(status),
            _ => Reply::ok(MANIFEST),
        });
        let session = session(&server);
        assert_eq!(session.head_manifest("latest", 0).await.unwrap(), None, "{status}");
        assert_eq!(session.manifest("latest", None).await.unwrap().bytes, MANIFEST);
        // The API root may have been pinged.
        assert_eq!(server.requests().len(), if status == 403 { 3 } else { 2 }, "{status}");
    }
}

#[tokio::test]
async fn a_missing_manifest_may_be_private() {
    let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    let server = manifests(Reply::status(404).body(body));
    let error = session(&server).manifest("nope", None).await.unwrap_err();
    let shown = error.to_string();
    assert!(error.is_manifest_unknown() && error.to_hint() == Some(Hint::CheckName), "{shown}");
    assert_eq!(error.status(), Some(404));
    for part in ["manifest nope of library/app at 127.0.0.1:", "404 Not Found", "MANIFEST_UNKNOWN"] {
        assert!(shown.contains(part), "{shown}");
    }
}

#[tokio::test]
async fn a_blob_is_read_whole_and_by_range() {
    let blob = content(100_000);
    let served = blob.clone();
    let server = ScriptedRegistry::start(move |request| Reply::blob(request, &served));
    let session = session(&server);
    for range in [0..100_000, 0..1, 99_999..100_000, 12_345..67_890] {
        let expected = &blob[range.start as usize..range.end as usize];
        assert_eq!(read(&session, &blob, range).await.unwrap(), expected);
    }
    let ranges: Vec<_> = server.requests().iter().map(Request::range).collect();
    assert_eq!(ranges, [None, Some((0, 1)), Some((99_999, 100_000)), Some((12_345, 67_890))]);
    assert_eq!(session.requests(), 4);
    assert_eq!(session.bytes_fetched(), 100_000 + 1 + 1 + 55_545);
    // One connection served all requests.
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_empty_range_sends_no_request() {
    let server = ScriptedRegistry::start(|_| Reply::status(500));
    let session = session(&server);
    assert_eq!(read(&session, b"content", 3..3).await.unwrap(), b"");
    assert_eq!(read(&session, b"", 0..0).await.unwrap(), b"");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_whole_blob_is_verified() {
    let served = Arc::new(Mutex::new(b"content".to_vec()));
    let shown = Arc::clone(&served);
    let server = ScriptedRegistry::start(move |request| Reply::blob(request, &lock(&shown)));
    let session = session(&server);
    let digest = Digest::sha256(b"content");
    assert_eq!(session.blob(&digest, 7, 7).await.unwrap(), &b"content"[..]);
    *lock(&served) = b"c0ntent".to_vec();
    assert!(session.blob(&digest, 7, 7).await.unwrap_err().is_corrupt());
    *lock(&served) = b"contents".to_vec();
    assert!(session.blob(&digest, 7, 7).await.unwrap_err().is_corrupt());
    let before = server.requests().len();
    let error = session.blob(&digest, 8, 7).await.unwrap_err();
    assert!(error.to_string().contains("8 bytes, and 7 are accepted"), "{error}");
    assert_eq!(server.requests().len(), before);
}

#[tokio::test]
async fn a_source_reads_ranges_of_a_blob() {
    let server = ScriptedRegistry::start(|request| Reply::blob(request, b"content"));
    let source = RegistryBlob::new(session(&server), Digest::sha256(b"content"), 7);
    assert_eq!(source.size(), 7);
    let pieces: Vec<_> =
        source.open(Compressed(2)..Compressed(6)).await.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.concat(), b"nten");
    let missing = ScriptedRegistry::start(|_| Reply::status(404));
    let source = RegistryBlob::new(session(&missing), Digest::sha256(b"content"), 7);
    assert!(source.open(Compressed(2)..Compressed(6)).await.is_err());
}

#[tokio::test]
async fn content_encoding_of_a_blob_is_ignored() {
    for label in ["gzip", "x-gzip"] {
        let server = ScriptedRegistry::start(move |request| {
            Reply::blob(request, b"content").header("content-encoding", label)
        });
        assert_eq!(read(&session(&server), b"content", 0..7).await.unwrap(), b"content");
    }
}

#[tokio::test]
async fn a_part_other_than_the_requested_one_is_refused() {
    let blob = content(1_000);
    let part = || Reply::ok(&content(1_000)[100..200]).with_status(206);
    let range = |value: &str| part().header("content-range", value);
    let multipart = part().header("content-type", "multipart/byteranges; boundary=x");
    for (reply, is_right) in [
        (range("bytes 100-199/1000"), true),
        (range("bytes 100-199/*"), true),
        (range("bytes 100-199/1000").chunked(), true),
        (range("bytes 101-200/1000"), false),
        (range("bytes 100-198/1000"), false),
        (range("bytes 100-198/1000").chunked(), false),
        (range("bytes 100-200/1000"), false),
        (range("bytes 0-999/1000"), false),
        (range("bytes 100-199/1001"), false),
        (range("bytes 100-199"), false),
        (range("bytes */1000"), false),
        (range("pages 100-199/1000"), false),
        (part(), false),
        (multipart, false),
        (range("bytes 100-199/1000").body(vec![0; 101]), false),
        (range("bytes 100-199/1000").body(vec![0; 101]).chunked(), false),
    ] {
        let shown = format!("{reply:?}");
        let server = ScriptedRegistry::start(move |_| reply.clone());
        let result = read(&session(&server), &blob, 100..200).await;
        assert_eq!(result.is_ok(), is_right, "{shown}");
        if let Err(error) = result {
            assert!(error.is_corrupt(), "{error}");
        }
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_up_to_the_range() {
    let blob = content(300_000);
    for chunked in [false, true] {
        let served = blob.clone();
        let server = ScriptedRegistry::start(move |_| {
            let reply = Reply::ok(served.clone());
            if chunked { reply.chunked() } else { reply }
        });
        let session = session(&server);
        assert!(!session.ignores_ranges());
        assert_eq!(read(&session, &blob, 200_000..200_010).await.unwrap(), &blob[200_000..200_010]);
        assert_eq!(read(&session, &blob, 299_990..300_000).await.unwrap(), &blob[299_990..]);
        assert!(session.ignores_ranges());
    }
}

#[tokio::test]
async fn a_range_far_into_a_blob_is_skipped_to_once() {
    let (far, size) = (limits::SKIP_BYTES + 1, limits::SKIP_BYTES + 100);
    let mut blob = vec![0; size as usize];
    blob[far as usize..].fill(7);
    for is_cut in [false, true] {
        let blob = blob.clone();
        let server = ScriptedRegistry::start(move |_| {
            let reply = Reply::ok(blob.clone());
            if is_cut { reply.cut_after(far as usize + 9) } else { reply }
        });
        let session = session(&server);
        let mut reader = session.open_blob(Digest::sha256(b"x"), far..size, size);
        let (mut length, mut error) = (0, None);
        loop {
            match reader.next().await {
                Ok(Some(piece)) => length += piece.iter().filter(|byte| **byte == 7).count(),
                Ok(None) => break,
                Err(detail) => {
                    error = Some(detail.to_string());
                    break;
                }
            }
        }
        assert_eq!(length, if is_cut { 9 } else { 99 });
        assert_eq!(error.is_some_and(|error| error.contains("ignores ranges")), is_cut);
    }
}

#[tokio::test]
async fn a_blob_of_another_length_is_refused() {
    let blob = content(1_000);
    for length in [0, 999, 1_001] {
        for chunked in [false, true] {
            let server = ScriptedRegistry::start(move |_| {
                let reply = Reply::ok(content(length));
                if chunked { reply.chunked() } else { reply }
            });
            let session = session(&server);
            let error = read(&session, &blob, 0..1_000).await.unwrap_err();
            // A body without a length that ends early may have been cut, and is retried.
            let may_be_cut = chunked && length < 1_000;
            assert_eq!((error.is_corrupt(), error.is_unavailable()), (!may_be_cut, may_be_cut), "{error}");
        }
    }
}

#[tokio::test]
async fn the_body_of_416_is_never_read() {
    let blob = content(1_000);
    for (range, is_corrupt) in [("bytes */500", true), ("bytes */1000", false)] {
        let server = ScriptedRegistry::start(move |_| {
            // As distribution 2.8.2: the length of the whole blob with a short body, and the connection stays open.
            Reply::status(416).header("content-range", range).body("short").length(1_000).stall_after(5)
        });
        let session = session(&server);
        let error = read(&session, &blob, 600..700).await.unwrap_err();
        assert_eq!(error.is_corrupt(), is_corrupt, "{error}");
        assert_eq!(server.requests().len(), 1);
        tokio::task::spawn_blocking(move || server.wait_for_closed(1)).await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_blob_has_its_own_kind() {
    let server =
        ScriptedRegistry::start(|_| Reply::status(404).body("{\"errors\":[{\"code\":\"BLOB_UNKNOWN\"}]}"));
    let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
    assert!(error.is_blob_unknown() && error.to_string().contains("BLOB_UNKNOWN"), "{error}");
    assert!(!error.to_string().contains("private"), "the image is known: {error}");
}
