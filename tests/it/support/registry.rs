//! A scripted registry: an HTTP/1.1 server on a loopback port whose every reply a test decides,
//! including cut, stalled and false ones. One blocking thread a connection. It records every
//! request.
#![allow(dead_code, reason = "no test binary uses all of it")]

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Signs [`Certificate::Signed`].
pub(crate) const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/tls/authority.pem");
/// Is [`Certificate::SelfSigned`].
pub(crate) const SELF_SIGNED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/tls/self-signed.pem");

/// What a TLS server presents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Certificate {
    SelfSigned,
    Signed,
}

/// A request as received.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Number of the connection it arrived on, from 0.
    pub(crate) connection: usize,
}

/// A reply.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    manner: Manner,
    length: Option<u64>,
}

#[derive(Clone, Debug)]
enum Manner {
    /// The body in chunked encoding.
    Chunked,
    /// No reply: the connection is closed.
    Close,
    /// Closes the connection after this many bytes of the body.
    Cut(usize),
    /// Sends this many bytes of the body, and the rest when the hold returns.
    Hold(usize, Hold),
    /// Sends exactly these bytes, then closes the connection.
    Raw(Vec<u8>),
    /// Sends nothing until the client disconnects.
    Silence,
    /// Sends this many bytes of the body, then nothing until the client disconnects, which is then
    /// reported.
    Stall(usize, Hold),
    Whole,
}

/// Returns when a reply may continue, or is notified that it will not.
#[derive(Clone)]
struct Hold(Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

/// The server. It stops accepting connections when dropped.
pub(crate) struct ScriptedRegistry {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    /// Connections closed by the client, or cut.
    closed: Mutex<usize>,
    closing: Condvar,
    is_stopped: AtomicBool,
    tls: Option<(Arc<ServerConfig>, OnPlain)>,
}

/// What a TLS server does with a plain HTTP request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OnPlain {
    /// Sends a TLS alert and closes.
    Alert,
    /// Answers 400 in plain HTTP, as Go's servers do.
    Explain,
}

impl ScriptedRegistry {
    /// Plain HTTP on 127.0.0.1.
    pub(crate) fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1", None, script)
    }

    /// Plain HTTP on another loopback address.
    pub(crate) fn start_at(host: &str, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(host, None, script)
    }

    /// HTTPS on a loopback address.
    pub(crate) fn start_tls(
        host: &str,
        certificate: Certificate,
        on_plain: OnPlain,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(host, Some((tls_config(certificate), on_plain)), script)
    }

    fn listen(
        host: &str,
        tls: Option<(Arc<ServerConfig>, OnPlain)>,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            closed: Mutex::default(),
            closing: Condvar::new(),
            is_stopped: AtomicBool::new(false),
            tls,
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.is_stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let shared = Arc::clone(&accepting);
                let number = shared.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    // Many scripts include a client that disconnects.
                    let _ = shared.serve(stream, number);
                    *lock(&shared.closed) += 1;
                    shared.closing.notify_all();
                });
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// `http://127.0.0.1:PORT` or the same with https.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Every request received.
    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Requests whose target begins with `start`.
    pub(crate) fn requests_to(&self, start: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.target.starts_with(start)).collect()
    }

    /// The number of accepted connections.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until this many connections have ended.
    pub(crate) fn wait_for_closed(&self, count: usize) {
        let closed = lock(&self.shared.closed);
        drop(self.shared.closing.wait_while(closed, |closed| *closed < count));
    }
}

impl Drop for ScriptedRegistry {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream, connection: usize) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut first = [0];
        // A TLS handshake record begins with 22.
        let speaks_tls = stream.peek(&mut first)? == 1 && first == [22];
        let Some((config, on_plain)) = &self.tls else {
            if speaks_tls {
                let _ = stream.read(&mut [0; 16 << 10])?;
                return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            }
            let closer = stream.try_clone()?;
            return self.converse(stream, &closer, connection);
        };
        if !speaks_tls {
            // The whole request must be read, or closing would reset the connection before the
            // reply arrives.
            read_request(&mut BufReader::new(&stream), connection)?;
            if let OnPlain::Alert = on_plain {
                // An alert record, TLS 1.2, 2 bytes: fatal, decode error.
                return stream.write_all(&[21, 3, 3, 0, 2, 2, 50]);
            }
            let text = "Client sent an HTTP request to an HTTPS server.\n";
            let head = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n", text.len());
            return stream.write_all(format!("{head}{text}").as_bytes());
        }
        let closer = stream.try_clone()?;
        let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        self.converse(StreamOwned::new(session, stream), &closer, connection)
    }

    fn converse(&self, stream: impl Read + Write, closer: &TcpStream, connection: usize) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream, connection)? {
            lock(&self.requests).push(request.clone());
            let reply = (self.script)(&request);
            if !reply.write(&mut stream, request.method == "HEAD")? {
                break;
            }
        }
        closer.shutdown(Shutdown::Both)
    }
}

impl Request {
    /// The first header of this name (in lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    pub(crate) fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }

    /// Start and end (exclusive) of a range such as `bytes=0-9`.
    pub(crate) fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), manner: Manner::Whole, length: None }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::ok("") }
    }

    /// What a registry replies to a request for this blob: the whole, or the requested range.
    pub(crate) fn blob(request: &Request, blob: &[u8]) -> Self {
        let Some((start, end)) = request.range() else { return Self::ok(blob) };
        match blob.get(start..end) {
            Some(part) if !part.is_empty() => {
                let range = format!("bytes {start}-{}/{}", end - 1, blob.len());
                Self { status: 206, ..Self::ok(part) }.header("content-range", &range)
            }
            _ => Self::status(416).header("content-range", &format!("bytes */{}", blob.len())),
        }
    }

    pub(crate) fn redirect(status: u16, location: &str) -> Self {
        Self::status(status).header("location", location)
    }

    /// 401 with one challenge.
    pub(crate) fn challenge(challenge: &str) -> Self {
        Self::status(401)
            .header("www-authenticate", challenge)
            .body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
    }

    /// A token server's reply.
    pub(crate) fn token(token: &str) -> Self {
        Self::ok(format!(r#"{{"token":"{token}","expires_in":300}}"#))
    }

    /// No reply: the connection is closed.
    pub(crate) fn close() -> Self {
        Self { manner: Manner::Close, ..Self::ok("") }
    }

    /// No reply, and the connection stays open.
    pub(crate) fn silence() -> Self {
        Self { manner: Manner::Silence, ..Self::ok("") }
    }

    /// Exactly these bytes, then the connection is closed.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { manner: Manner::Raw(bytes.into()), ..Self::ok("") }
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Replaces a text in all header values, for values that depend on the request.
    pub(crate) fn rename(mut self, from: &str, to: &str) -> Self {
        for (_, value) in &mut self.headers {
            *value = value.replace(from, to);
        }
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| key != name || name == "www-authenticate");
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends a `Content-Length` that differs from the body's.
    pub(crate) fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.manner = Manner::Chunked;
        self
    }

    /// Closes the connection after this many bytes of the body.
    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.manner = Manner::Cut(bytes);
        self
    }

    /// Sends this many bytes of the body, and the rest when `until` returns.
    pub(crate) fn hold_after(mut self, bytes: usize, until: impl Fn() + Send + Sync + 'static) -> Self {
        self.manner = Manner::Hold(bytes, Hold(Arc::new(until)));
        self
    }

    /// Stops after this many bytes of the body, and keeps the connection open.
    pub(crate) fn stall_after(self, bytes: usize) -> Self {
        self.stall_until_left(bytes, || {})
    }

    /// The same, and calls `left` once the client has disconnected.
    pub(crate) fn stall_until_left(mut self, bytes: usize, left: impl Fn() + Send + Sync + 'static) -> Self {
        self.manner = Manner::Stall(bytes, Hold(Arc::new(left)));
        self
    }

    /// Whether the connection can be reused. HEAD gets the same reply without the body.
    fn write(&self, stream: &mut BufReader<impl Read + Write>, is_head: bool) -> io::Result<bool> {
        let out = stream.get_mut();
        match &self.manner {
            Manner::Close => return Ok(false),
            Manner::Silence => {
                io::copy(stream, &mut io::sink())?;
                return Ok(false);
            }
            Manner::Raw(bytes) => {
                out.write_all(bytes)?;
                out.flush()?;
                return Ok(false);
            }
            _ => {}
        }
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match self.manner {
            Manner::Chunked => head.push_str("transfer-encoding: chunked\r\n\r\n"),
            _ => {
                let length = self.length.unwrap_or(self.body.len() as u64);
                head.push_str(&format!("content-length: {length}\r\n\r\n"));
            }
        }
        out.write_all(head.as_bytes())?;
        if is_head {
            out.flush()?;
            return Ok(true);
        }
        let (sent, goes_on) = match self.manner {
            Manner::Cut(bytes) | Manner::Stall(bytes, _) => {
                (self.body.get(..bytes).unwrap_or(&self.body), false)
            }
            _ => (self.body.as_slice(), true),
        };
        if matches!(self.manner, Manner::Chunked) {
            for piece in sent.chunks(1_000) {
                out.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                out.write_all(piece)?;
                out.write_all(b"\r\n")?;
            }
            out.write_all(b"0\r\n\r\n")?;
        } else if let Manner::Hold(bytes, hold) = &self.manner {
            let (first, rest) = sent.split_at(*bytes);
            out.write_all(first)?;
            out.flush()?;
            (hold.0)();
            out.write_all(rest)?;
        } else {
            out.write_all(sent)?;
        }
        out.flush()?;
        if let Manner::Stall(_, left) = &self.manner {
            // Returns once the client has disconnected, with an error if it left bytes unread.
            let _ = io::copy(stream, &mut io::sink());
            (left.0)();
        }
        // After a wrong length no further reply can follow.
        Ok(goes_on && self.length.is_none_or(|length| length == self.body.len() as u64))
    }
}

fn read_request(stream: &mut BufReader<impl Read>, connection: usize) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, value)| value.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Some(Request { method, target, headers, body, connection }))
}

fn tls_config(certificate: Certificate) -> Arc<ServerConfig> {
    let name = match certificate {
        Certificate::SelfSigned => "self-signed",
        Certificate::Signed => "server",
    };
    let path = |kind| format!("{}/tests/it/support/tls/{name}.{kind}", env!("CARGO_MANIFEST_DIR"));
    let chain = CertificateDer::from_pem_file(path("pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(path("key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring's versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key);
    Arc::new(config.expect("key and certificate belong together"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
