//! Which connections are made before their requests.

use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::cache::RegistryRecord;

async fn listen() -> (TcpListener, Arc<Session>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let http = builder().stall_window(Duration::from_secs(2)).build().unwrap();
    (listener, Session::new(http, repository(&host, NAME), None))
}

/// Responds to one request.
async fn answer(connection: &mut TcpStream) {
    let mut head = [0; 2048];
    assert!(connection.read(&mut head).await.unwrap() > 0, "a request");
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
}

#[tokio::test]
async fn the_first_manifest_preconnects_exactly_once() {
    let (listener, session) = listen().await;
    let server = async {
        let (mut first, _) = listener.accept().await.unwrap();
        // The response waits for it.
        let (second, _) = listener.accept().await.unwrap();
        answer(&mut first).await;
        answer(&mut first).await;
        second
    };
    let client = async {
        session.manifest("latest", None).await?;
        session.manifest("latest", None).await
    };
    let both = async { tokio::join!(client, server) };
    let (result, _second) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("connections");
    result.unwrap();
    assert!(listener.accept().now_or_never().is_none());
}

#[tokio::test]
async fn a_head_request_makes_one_connection() {
    let (listener, session) = listen().await;
    let server = async {
        let (mut first, _) = listener.accept().await.unwrap();
        answer(&mut first).await;
        first
    };
    let (result, _first) = tokio::join!(session.head_manifest("latest", 0), server);
    result.unwrap();
    assert!(listener.accept().now_or_never().is_none());
}

#[tokio::test]
async fn a_head_request_preconnects_for_the_requests_after_the_token() {
    for is_open in [false, true] {
        let (listener, _) = listen().await;
        let host = listener.local_addr().unwrap().to_string();
        let record = RegistryRecord { registry: host.clone(), is_plain: true, is_open, storage: None };
        let (http, progress) = (builder().build().unwrap(), Arc::new(crate::progress::Reporter::silent()));
        let session =
            Session::reading(http, repository(&host, NAME), None, progress, RegistryHints::loaded(record));
        let server = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let second = if is_open { None } else { Some(listener.accept().await.unwrap()) };
            answer(&mut first).await;
            (first, second)
        };
        let both = async { tokio::join!(session.head_manifest("latest", 1), server) };
        let (result, _connections) =
            tokio::time::timeout(Duration::from_secs(10), both).await.expect("connections");
        result.unwrap();
        // Without authorisation the next requests follow at once, and connect by themselves.
        assert!(listener.accept().now_or_never().is_none());
    }
}

#[tokio::test]
async fn connections_for_a_blob_lead_to_its_remembered_location() {
    let ((registry, session), (storage, _)) = (listen().await, listen().await);
    let digest = Digest::sha256(b"content");
    session.connect_for(&digest, 2).await;
    assert!(has_two(&registry).await, "while no location is known");
    assert!(storage.accept().now_or_never().is_none());
    let link = format!("http://{}/blob", storage.local_addr().unwrap()).parse().unwrap();
    lock(&session.links).remember(&digest, link, session.http.clock.now());
    session.connect_for(&digest, 2).await;
    assert!(
        storage.accept().now_or_never().is_none(),
        "too private while the address of the registry is unknown"
    );
    lock(&session.origin).peer = Some(AddressClass::Loopback);
    session.connect_for(&digest, 2).await;
    assert!(has_two(&storage).await);
    assert!(registry.accept().now_or_never().is_none());
}

/// Whether two connections were made.
async fn has_two(listener: &TcpListener) -> bool {
    let two = async { (listener.accept().await.is_ok(), listener.accept().await.is_ok()) };
    tokio::time::timeout(Duration::from_secs(20), two).await.is_ok_and(|two| two == (true, true))
}

#[tokio::test]
async fn an_http_1_0_server_gets_no_warm_connections() {
    let (listener, session) = listen().await;
    let server = async {
        let (mut first, _) = listener.accept().await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        assert!(first.read(&mut [0; 2048]).await.unwrap() > 0, "a request");
        first.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0, "it is closed");
    };
    let both = async { tokio::join!(session.manifest("latest", None), server) };
    let (result, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("both");
    result.unwrap();
    session.connect_for(&Digest::sha256(b"content"), 2).await;
    assert!(listener.accept().now_or_never().is_none());
}
