//! The time of the link itself: one connection, one request, a given number of bytes.

use std::{
    io::{self, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{certificate, http::Head, programs::Transport};

/// The time from connecting to the last of the first `bytes` bytes of a blob, through the loopback ports of a link: one connection to
/// each, as all but the last redirect to the next.
pub(crate) fn get(ports: &[u16], image: &str, digest: &str, bytes: u64, transport: Transport) -> Duration {
    let configuration = (transport == Transport::Https).then(configuration);
    let start = Instant::now();
    let mut read = 0;
    for port in ports {
        let request = format!(
            "GET /v2/{image}/blobs/{digest} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nrange: bytes=0-{}\r\n\r\n",
            bytes - 1
        );
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).expect("the link");
        connection.set_nodelay(true).expect("an option");
        let answer = match &configuration {
            None => exchange(connection, &request),
            Some(configuration) => {
                let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
                let session = ClientConnection::new(Arc::clone(configuration), name).expect("a session");
                exchange(StreamOwned::new(session, connection), &request)
            }
        };
        read = answer.expect("an answer");
    }
    assert_eq!(read, bytes, "not the range asked for");
    start.elapsed()
}

fn exchange(mut connection: impl Read + Write, request: &str) -> io::Result<u64> {
    connection.write_all(request.as_bytes())?;
    let mut connection = BufReader::with_capacity(256 << 10, connection);
    let response = Head::read(&mut connection)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = response.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    io::copy(&mut connection.take(length), &mut io::sink())
}

fn configuration() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(certificate::authority()).expect("a certificate"))
        .expect("a root");
    let configuration =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
    Arc::new(configuration)
}
