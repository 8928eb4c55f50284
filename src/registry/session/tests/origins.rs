//! How a registry is reached: scheme, certificates, proxies, and the errors if it cannot be.

use std::net::TcpListener;

use super::*;
use crate::registry::{
    http::address::AddressClass,
    scripted::{AUTHORITY, Certificate, OnPlain, SELF_SIGNED},
};

fn serve(request: &Request) -> Reply {
    Reply::blob(request, b"content")
}

#[tokio::test]
async fn local_registries_use_https_with_added_certificates() {
    for on_plain in [OnPlain::Alert, OnPlain::Explain] {
        let server = ScriptedRegistry::start_tls("127.0.0.1", Certificate::Signed, on_plain, serve);
        let session = session_with(builder().ca_files(vec![AUTHORITY.into()]), &server, None);
        for _ in 0..2 {
            assert_eq!(read(&session, b"content", 0..7).await.unwrap(), b"content");
        }
        assert_eq!((session.requests(), server.requests().len()), (2, 2));
    }
}

#[tokio::test]
async fn with_added_certificates_nothing_is_sent_in_plain_text() {
    let server = ScriptedRegistry::start(serve);
    let credential = Some(Credential::basic("me", "hush"));
    let session = session_with(builder().ca_files(vec![AUTHORITY.into()]), &server, credential);
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    // What the server received is no HTTP request.
    assert!(server.requests().iter().all(|request| request.authorization().is_none()));
}

#[tokio::test]
async fn local_registries_are_tried_over_plain_http_then_https() {
    for on_plain in [OnPlain::Alert, OnPlain::Explain] {
        let server = ScriptedRegistry::start_tls("127.0.0.1", Certificate::Signed, on_plain, serve);
        let session = session(&server);
        let error = read(&session, b"content", 0..7).await.unwrap_err();
        // HTTPS is reached, but the certificate is not trusted.
        assert_eq!(error.to_hint(), Some(Hint::TrustCertificate), "{error}");
        assert_eq!(session.requests(), 2);
    }
}

#[test]
fn https_is_the_default_except_on_this_machine() {
    for (host, plain_http, is_plain, is_decided) in [
        ("registry.example", false, false, true),
        ("registry.example:5000", true, true, true),
        ("localhost:5000", false, true, false),
        ("localhost:5000", true, true, true),
    ] {
        let http = builder().plain_http(plain_http).build().unwrap();
        let session = Session::new(http, repository(host, NAME), None);
        let origin = *lock(&session.origin);
        assert_eq!((origin.is_plain, origin.is_decided), (is_plain, is_decided), "{host} {plain_http}");
    }
}

#[tokio::test]
async fn a_server_without_http_and_https_is_reported_as_http() {
    let server = ScriptedRegistry::start(|_| Reply::close());
    let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
    assert!(error.is_unavailable() && !error.to_string().contains("TLS"), "{error}");
    // Each attempt uses HTTP and HTTPS; the server cannot read the latter.
    assert_eq!(server.connections(), 6);
}

#[tokio::test]
async fn a_bad_request_alone_does_not_mean_https() {
    let server = ScriptedRegistry::start(|_| Reply::status(400).body("no"));
    let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
    assert!(error.to_string().contains("400 Bad Request (no)"), "{error}");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_with_a_hint() {
    let server = ScriptedRegistry::start_tls("127.0.0.1", Certificate::Signed, OnPlain::Alert, serve);
    let error = read(&session(&server), b"content", 0..7).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_hint() == Some(Hint::TrustCertificate), "{error}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_added_self_signed_certificate_is_valid_for_its_names_only() {
    for (host, is_good) in [("127.0.0.1", true), ("127.0.0.2", false)] {
        let server = ScriptedRegistry::start_tls(host, Certificate::SelfSigned, OnPlain::Alert, serve);
        let session = session_with(builder().ca_files(vec![SELF_SIGNED.into()]), &server, None);
        assert_eq!(read(&session, b"content", 0..7).await.is_ok(), is_good, "{host}");
    }
}

#[test]
fn a_file_without_certificates_is_refused_by_name() {
    for file in [concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "/nowhere/ca.pem"] {
        let error = builder().ca_files(vec![file.into()]).build().unwrap_err();
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[tokio::test]
async fn remote_registries_use_https_unless_plain_http_is_allowed() {
    let server = ScriptedRegistry::start(serve);
    let host = format!("registry.test:{}", server.port());
    let names = [("registry.test", "127.0.0.1")];
    let with = |builder: HttpBuilder| {
        let http = builder.network(AddressClass::of, &names).build().unwrap();
        Session::new(http, repository(&host, NAME), None)
    };
    let error = read(&with(builder()), b"content", 0..7).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_hint() == Some(Hint::AllowPlainHttp), "{error}");
    assert!(server.requests().is_empty());
    read(&with(builder().plain_http(true)), b"content", 0..7).await.unwrap();
}

#[tokio::test]
async fn an_unreachable_registry_fails_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let session = Session::new(builder().build().unwrap(), repository(&host, NAME), None);
    let error = read(&session, b"content", 0..7).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains(&host), "{error}");
    assert_eq!(session.requests(), 1);
}

#[tokio::test]
async fn requests_use_the_proxy_except_to_this_machine() {
    let proxy = ScriptedRegistry::start(serve);
    let server = ScriptedRegistry::start(serve);
    let http = builder().plain_http(true).proxy(&proxy.url()).build().unwrap();
    for host in ["registry.test", &server.host(), &format!("localhost:{}", server.port())] {
        let session = Session::new(Arc::clone(&http), repository(host, NAME), None);
        read(&session, b"content", 0..7).await.unwrap();
    }
    let [request] = &proxy.requests()[..] else { panic!("one request through the proxy") };
    assert!(
        request.target.starts_with("http://registry.test/v2/library/app/blobs/sha256:"),
        "{}",
        request.target
    );
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn this_machine_has_several_names() {
    for host in ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "[::1]"] {
        assert!(http::is_loopback(host), "{host}");
    }
    for host in ["localhost.example", "128.0.0.1", "[::2]", "127.0.0.1.example", "10.0.0.1", ""] {
        assert!(!http::is_loopback(host), "{host}");
    }
    for (host, name) in
        [("[::1]:5000", "[::1]"), ("[::1]", "[::1]"), ("localhost:5000", "localhost"), ("a", "a")]
    {
        assert_eq!(host_without_port(host), name);
    }
}
