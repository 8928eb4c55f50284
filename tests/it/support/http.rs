//! The parts of HTTP/1.1 that the servers of the tests need.

use std::{
    io::{self, BufRead, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Longest start line or header line, in bytes. Our own client never sends more, but a mistake must
/// not hang a test.
const LINE_BYTES: u64 = 64 << 10;

/// Accepts connections, each on its own thread, until dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Listener {
    /// Passes every connection to a free loopback port to `serve`.
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let (serve, seen) = (Arc::new(serve), Arc::clone(&stopped));
        thread::spawn(move || {
            for connection in listener.incoming() {
                if seen.load(Ordering::SeqCst) {
                    return;
                }
                let serve = Arc::clone(&serve);
                thread::spawn(move || connection.map(|connection| serve(connection)));
            }
        });
        Self { address, stopped }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; if that fails it has already ended.
        let _ = TcpStream::connect(self.address);
    }
}

/// A start line and header fields, of a request or a response.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// `GET /v2/ HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub(crate) start_line: String,
    /// Names in lower case, values unchanged.
    pub(crate) fields: Vec<(String, String)>,
    /// The raw bytes, including the empty line.
    pub(crate) raw: Vec<u8>,
}

impl Head {
    /// The next head of a connection; `None` if the connection ended before one.
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        if reader.fill_buf()?.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            // A client that tries TLS first would otherwise wait for an answer until its timeout.
            return Err(io::Error::other("this is not HTTP"));
        }
        let mut raw = Vec::new();
        let mut lines = Vec::new();
        loop {
            let start = raw.len();
            let read = reader.take(LINE_BYTES).read_until(b'\n', &mut raw)?;
            let line = String::from_utf8_lossy(&raw[start..]).trim_end().to_owned();
            match (read, lines.is_empty()) {
                (0, true) => return Ok(None),
                (0, false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if line.is_empty() => break,
                _ => lines.push(line),
            }
        }
        let mut lines = lines.into_iter();
        let start_line = lines.next().unwrap_or_default();
        let fields = lines
            .filter_map(|line| {
                line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            })
            .collect();
        Ok(Some(Self { start_line, fields, raw }))
    }

    /// The first value of a field, by its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Word `index` of the start line.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.start_line.split(' ').nth(index).unwrap_or_default()
    }

    /// Copies the body that follows this head, in whatever framing it has, and returns how many
    /// bytes were passed on. With `until_close`, a body without framing ends with the connection (a
    /// response); otherwise it is empty (a request).
    pub(crate) fn copy_body(
        &self,
        reader: &mut impl BufRead,
        writer: &mut impl Write,
        until_close: bool,
    ) -> (u64, io::Result<()>) {
        let mut copied = 0;
        let result =
            if self.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
                copy_chunks(reader, writer, &mut copied)
            } else if let Some(length) = self.field("content-length").and_then(|value| value.parse().ok()) {
                copy_exactly(reader, writer, length, &mut copied)
            } else if until_close {
                copy(reader, writer, &mut copied)
            } else {
                Ok(())
            };
        (copied, result)
    }
}

fn copy_exactly(
    reader: &mut impl Read,
    writer: &mut impl Write,
    length: u64,
    copied: &mut u64,
) -> io::Result<()> {
    let before = *copied;
    copy(&mut reader.take(length), writer, copied)?;
    if *copied - before == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// In pieces, so that `copied` is right when the writer fails in the middle.
fn copy(reader: &mut impl Read, writer: &mut impl Write, copied: &mut u64) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        writer.write_all(&buffer[..read])?;
        *copied += read as u64;
    }
}

fn copy_chunks(reader: &mut impl BufRead, writer: &mut impl Write, copied: &mut u64) -> io::Result<()> {
    loop {
        let mut line = Vec::new();
        reader.take(LINE_BYTES).read_until(b'\n', &mut line)?;
        writer.write_all(&line)?;
        let text = String::from_utf8_lossy(&line);
        let digits = text.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
        // The chunk ends with CR LF, and so does the empty list of trailers after the last one.
        copy_exactly(reader, writer, length + 2, copied)?;
        *copied -= 2;
        if length == 0 {
            return Ok(());
        }
    }
}

/// The pairs of a query or a form.
pub(crate) fn form_pairs(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (unescape(key), unescape(value)))
        .collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(byte) = escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            bytes.push(byte);
            rest = &tail[2..];
        } else {
            bytes.push(if first == b'+' { b' ' } else { first });
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
