//! A proxy that cuts connections, to simulate a bad line.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use super::{http::Listener, noise::Noise};

/// A cutting proxy on its own loopback port. Point the client at [`Cutter::host`].
#[derive(Debug)]
pub(crate) struct Cutter {
    listener: Listener,
    line: Arc<Mutex<Line>>,
}

/// Everything received from the server, over all connections.
#[derive(Debug)]
struct Line {
    carried: u64,
    /// The byte counts at which to cut, the next one last.
    cuts: Vec<u64>,
}

impl Cutter {
    /// Relays to `upstream` (`HOST:PORT`) and cuts the connection that carries the response at
    /// `count` places within the first `bytes` bytes of all responses.
    pub(crate) fn before(upstream: &str, noise: &mut Noise, count: usize, bytes: u64) -> Self {
        let mut cuts: Vec<u64> = (0..count).map(|_| noise.below(bytes)).collect();
        cuts.sort_unstable_by(|one, other| other.cmp(one));
        let line = Arc::new(Mutex::new(Line { carried: 0, cuts }));
        let (upstream, shared) = (upstream.to_owned(), Arc::clone(&line));
        let listener = Listener::start(move |client| {
            // Cut or not, both sides are closed at the end.
            let _ = relay(&client, &upstream, &shared);
        });
        Self { listener, line }
    }

    /// `127.0.0.1:PORT`, the first part of a reference.
    pub(crate) fn host(&self) -> String {
        self.listener.host()
    }

    /// The number of remaining cuts.
    pub(crate) fn left(&self) -> usize {
        self.line.lock().unwrap().cuts.len()
    }
}

impl Line {
    /// How many of `length` bytes pass, and whether the line is then cut.
    fn carry(&mut self, length: usize) -> (usize, bool) {
        let room = self.cuts.last().map(|cut| usize::try_from(cut.saturating_sub(self.carried)).unwrap());
        let cut = room.is_some_and(|room| room <= length);
        let through = room.filter(|_| cut).unwrap_or(length);
        self.carried += through as u64;
        if cut {
            self.cuts.pop();
        }
        (through, cut)
    }
}

fn relay(client: &TcpStream, upstream: &str, line: &Mutex<Line>) -> io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*client, &mut &server);
            let _ = server.shutdown(Shutdown::Write);
        });
        let result = answers(client, &server, line);
        // Ends the other direction too.
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
        result
    })
}

fn answers(mut client: &TcpStream, mut server: &TcpStream, line: &Mutex<Line>) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = server.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let (through, cut) = line.lock().unwrap().carry(length);
        client.write_all(&buffer[..through])?;
        if cut {
            return Ok(());
        }
    }
}
