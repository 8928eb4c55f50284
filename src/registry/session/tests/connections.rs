//! Which connections are made before anything is asked over them.

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

/// Answers one request for anything.
async fn answer(connection: &mut TcpStream) {
    let mut head = [0; 2048];
    assert!(connection.read(&mut head).await.unwrap() > 0, "a request");
    connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
}

#[tokio::test]
async fn a_further_connection_is_made_while_the_first_manifest_is_awaited_and_no_third_one() {
    let (listener, session) = listen().await;
    let server = async {
        let (mut first, _) = listener.accept().await.unwrap();
        // The answer waits for it.
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
async fn asking_for_a_digest_makes_one_connection() {
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
async fn while_a_digest_is_asked_for_a_connection_is_made_for_what_follows_a_token() {
    for is_open in [false, true] {
        let (listener, _) = listen().await;
        let host = listener.local_addr().unwrap().to_string();
        let record = RegistryRecord { registry: host.clone(), is_plain: true, is_open, storage: None };
        let (http, progress) = (builder().build().unwrap(), Arc::new(crate::progress::Silent));
        let session = Session::reading(http, repository(&host, NAME), None, progress, Habits::kept(record));
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
        // Where nothing has to be shown, what follows is asked for at once, and connects by itself.
        assert!(listener.accept().now_or_never().is_none());
    }
}

#[tokio::test]
async fn connections_for_ranges_of_a_blob_lead_to_where_it_was_found() {
    let ((registry, session), (storage, _)) = (listen().await, listen().await);
    let digest = Digest::sha256(b"content");
    session.connect_for(&digest, 2).await;
    assert!(has_two(&registry).await, "while nothing else is known");
    assert!(storage.accept().now_or_never().is_none());
    let link = format!("http://{}/blob", storage.local_addr().unwrap()).parse().unwrap();
    lock(&session.links).remember(&digest, link, session.http.clock.now());
    session.connect_for(&digest, 2).await;
    assert!(
        storage.accept().now_or_never().is_none(),
        "too private as long as nobody knows where the registry is"
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
async fn a_server_that_may_mind_one_connection_at_a_time_is_not_left_to_wait_for_a_request() {
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
