//! A proxy in front of a real server that records each request before passing it on: what the
//! server saw, without its cooperation.

use std::{
    io::{self, BufReader, Write as _},
    net::TcpStream,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use super::http::{Head, Listener};

/// An event that has not happened in this time never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// A recording proxy on its own loopback port. Point the client at [`Recorder::host`].
#[derive(Debug)]
pub(crate) struct Recorder {
    listener: Listener,
    exchanges: Arc<Exchanges>,
    open: Arc<Open>,
}

#[derive(Debug, Default)]
struct Exchanges {
    list: Mutex<Vec<Exchange>>,
    changed: Condvar,
}

/// Connections being relayed.
#[derive(Debug, Default)]
struct Open {
    count: Mutex<usize>,
    changed: Condvar,
}

/// A request and its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// `GET`, `HEAD`, …
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Header fields: names in lower case, values unchanged.
    pub(crate) fields: Vec<(String, String)>,
    /// The status of the response; `None` until it arrives.
    pub(crate) status: Option<u16>,
    /// Bytes of the response's body that the client's side has taken (kernel buffers included).
    pub(crate) body_bytes: u64,
}

impl Exchange {
    /// The first value of a request field, by its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

impl Recorder {
    /// Records what goes to `upstream` (`HOST:PORT`, plain HTTP), which may come and go.
    pub(crate) fn before(upstream: &str) -> Self {
        let (exchanges, open) = (Arc::<Exchanges>::default(), Arc::<Open>::default());
        let (upstream, written, relayed) = (upstream.to_owned(), Arc::clone(&exchanges), Arc::clone(&open));
        let listener = Listener::start(move |client| {
            *relayed.count.lock().unwrap() += 1;
            // Either side may disconnect at any time; its peer sees the closed connection.
            let _ = relay(&client, &upstream, &written);
            *relayed.count.lock().unwrap() -= 1;
            relayed.changed.notify_all();
        });
        Self { listener, exchanges, open }
    }

    /// `127.0.0.1:PORT`, the first part of a reference.
    pub(crate) fn host(&self) -> String {
        self.listener.host()
    }

    /// All exchanges, in the order in which requests arrived.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.list.lock().unwrap().clone()
    }

    /// Waits, blocking, until the recording meets `condition`; the test fails if that takes too
    /// long.
    pub(crate) fn wait_until(&self, condition: impl Fn(&[Exchange]) -> bool) {
        let list = self.exchanges.list.lock().unwrap();
        let waited =
            self.exchanges.changed.wait_timeout_while(list, PATIENCE, |list| !condition(list)).unwrap();
        assert!(!waited.1.timed_out(), "{:?}", waited.0);
    }

    /// All exchanges with final counts, once every client has closed its connections: for clients
    /// that have ended.
    pub(crate) fn settled(&self) -> Vec<Exchange> {
        let count = self.open.count.lock().unwrap();
        let waited = self.open.changed.wait_timeout_while(count, PATIENCE, |count| *count > 0).unwrap();
        assert!(!waited.1.timed_out(), "{} connections are still open", waited.0);
        self.exchanges()
    }
}

fn relay(client: &TcpStream, upstream: &str, exchanges: &Exchanges) -> io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    let (mut from_client, mut to_client) = (BufReader::new(client), client);
    let (mut from_server, mut to_server) = (BufReader::new(&server), &server);
    while let Some(request) = Head::read(&mut from_client)? {
        let index = {
            let mut exchanges = exchanges.list.lock().unwrap();
            exchanges.push(Exchange {
                method: request.word(0).to_owned(),
                target: request.word(1).to_owned(),
                fields: request.fields.clone(),
                status: None,
                body_bytes: 0,
            });
            exchanges.len() - 1
        };
        let note = |change: &dyn Fn(&mut Exchange)| {
            change(&mut exchanges.list.lock().unwrap()[index]);
            exchanges.changed.notify_all();
        };
        to_server.write_all(&request.raw)?;
        request.copy_body(&mut from_client, &mut to_server, false).1?;
        loop {
            let Some(response) = Head::read(&mut from_server)? else { return Ok(()) };
            let status: u16 = response.word(1).parse().unwrap_or_default();
            note(&|exchange| exchange.status = Some(status));
            to_client.write_all(&response.raw)?;
            if (100..200).contains(&status) {
                continue;
            }
            if request.word(0) != "HEAD" && status != 204 && status != 304 {
                let (copied, result) = response.copy_body(&mut from_server, &mut to_client, true);
                note(&|exchange| exchange.body_bytes = copied);
                result?;
            }
            break;
        }
    }
    Ok(())
}
