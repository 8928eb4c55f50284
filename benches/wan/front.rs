//! A TLS registry with its blobs on another host: requests are relayed to a registry on this machine, except that a blob request is
//! answered with a redirect to a second TLS host, which serves it.

use std::{
    io::{self, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{
    certificate,
    http::{Head, Listener},
};

/// Both hosts.
#[derive(Debug)]
pub(crate) struct Front {
    requests: Arc<AtomicU64>,
    listeners: [Listener; 2],
}

/// How a host answers a request for a blob.
enum Blobs {
    /// `https://HOST:PORT` of the storage.
    RedirectTo(String),
    Serve,
}

impl Front {
    /// Starts both hosts in front of `registry`. `through` returns the port at which clients reach a server: the registry as
    /// 127.0.0.1, the storage as `localhost` (go-containerregistry refuses redirects to another private address). Also returns the
    /// port of the registry.
    pub(crate) fn start(registry: SocketAddr, through: impl Fn(SocketAddr) -> u16) -> (Self, u16) {
        let configuration = Arc::new(configuration());
        let requests = Arc::<AtomicU64>::default();
        let host = |blobs: Blobs| {
            let (configuration, requests) = (Arc::clone(&configuration), Arc::clone(&requests));
            Listener::start(move |client| {
                // Either side may disconnect at any time.
                let _ = serve(client, &configuration, registry, &blobs, &requests);
            })
        };
        let address = |listener: &Listener| listener.host().parse().expect("an address");
        let storage = host(Blobs::Serve);
        let storage_port = through(address(&storage));
        let front = host(Blobs::RedirectTo(format!("https://localhost:{storage_port}")));
        let port = through(address(&front));
        (Self { requests, listeners: [front, storage] }, port)
    }

    /// The address of the storage, without the link.
    pub(crate) fn storage(&self) -> SocketAddr {
        let [_, storage] = &self.listeners;
        storage.host().parse().expect("an address")
    }

    /// Requests to both hosts since the last call.
    pub(crate) fn take_requests(&self) -> u64 {
        self.requests.swap(0, Ordering::SeqCst)
    }
}

fn configuration() -> ServerConfig {
    let chain = CertificateDer::from_pem_file(certificate::server()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(certificate::server_key()).expect("a key");
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("a certificate and its key")
}

fn serve(
    client: TcpStream,
    configuration: &Arc<ServerConfig>,
    registry: SocketAddr,
    blobs: &Blobs,
    requests: &AtomicU64,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let session = ServerConnection::new(Arc::clone(configuration)).map_err(io::Error::other)?;
    let mut client = BufReader::new(StreamOwned::new(session, client));
    while let Some(request) = Head::read(&mut client)? {
        requests.fetch_add(1, Ordering::SeqCst);
        match blobs {
            Blobs::RedirectTo(storage) if request.word(1).contains("/blobs/sha256:") => {
                let head = format!(
                    "HTTP/1.1 307 Temporary Redirect\r\nlocation: {storage}{}\r\ncontent-length: 0\r\n\r\n",
                    request.word(1)
                );
                client.get_mut().write_all(head.as_bytes())?;
            }
            Blobs::RedirectTo(_) | Blobs::Serve => relay(&request, &mut client, registry)?,
        }
    }
    Ok(())
}

/// Relays a request without a body, and its response.
fn relay(
    request: &Head,
    client: &mut BufReader<StreamOwned<ServerConnection, TcpStream>>,
    registry: SocketAddr,
) -> io::Result<()> {
    let mut server = TcpStream::connect(registry)?;
    server.write_all(&request.raw)?;
    let mut server = BufReader::with_capacity(64 << 10, server);
    let response = Head::read(&mut server)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    client.get_mut().write_all(&response.raw)?;
    if request.word(0) != "HEAD" && !matches!(response.word(1), "204" | "304") {
        response.copy_body(&mut server, client.get_mut(), true).1?;
    }
    client.get_mut().flush()
}
