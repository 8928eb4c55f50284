//! A simulated link with a configurable round trip and bandwidth, between clients and servers on this machine.
//!
//! Four threads relay each connection: a reader and a writer per direction. A reader receives what its side sends, puts it on the
//! lane of its direction, which determines the time of arrival, and queues it for the writer, which sleeps until then. Modelled:
//! - connecting takes one round trip: the kernel connects at once, so the client's first bytes are delayed instead;
//! - each way takes half a round trip, and the downlink's bandwidth is shared, in turns, by all connections of the link;
//! - a connection may have a limit of its own below that bandwidth, as many content delivery networks impose;
//! - at most [`WINDOW`], or what fits into the link if that is more, is in flight in each direction: sent and not acknowledged;
//! - the server learns of a client that hangs up half a round trip later; until then the server's bytes use the link.
//!
//! Not modelled: slow start, loss, a limit of the uplink.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Most bytes in flight in one direction of a link, and most bytes of one connection that wait for a client that does not read.
const WINDOW: usize = 1 << 20;

/// Bytes of one turn on the link.
const PARCEL: usize = 16 << 10;

/// How late a thread may wake without slowing its connection down.
const LATE: Duration = Duration::from_millis(5);

/// How long [`Link::settled`] waits for connections to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// The characteristics of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Round trip time.
    pub(crate) round_trip: Duration,
    /// Bytes a second towards the clients.
    pub(crate) downlink: f64,
    /// Bytes a second of one connection towards its client, if it has a limit of its own.
    pub(crate) each: Option<f64>,
}

/// The traffic of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes that the client sent.
    pub(crate) up: u64,
    /// Bytes that the server sent before it learned that the client had hung up.
    pub(crate) down: u64,
    /// Of these, bytes that reached the client's side before it hung up.
    pub(crate) arrived: u64,
    /// Requests without a body, where the connection is not encrypted.
    pub(crate) requests: u64,
}

/// A link to any number of servers. Its ports stay open until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    shape: Shape,
    up: Arc<Lane>,
    down: Arc<Lane>,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
}

impl Link {
    /// A link without servers.
    pub(crate) fn new(shape: Shape) -> Self {
        let half = shape.round_trip / 2;
        // A window below what fits into the link would be its bandwidth.
        let fits = (shape.downlink * shape.round_trip.as_secs_f64()) as usize;
        Self {
            shape,
            up: Arc::new(Lane::new(half, None, WINDOW)),
            down: Arc::new(Lane::new(half, Some(shape.downlink), WINDOW.max(fits))),
            connections: Arc::default(),
        }
    }

    /// The loopback port at which `server` is reached through the link.
    pub(crate) fn port_to(&self, server: SocketAddr) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let port = listener.local_addr().expect("an address").port();
        let link = self.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                link.connect(client, server);
            }
        });
        port
    }

    /// Waits until every connection has ended on both sides, then returns their traffic in the order of connecting, and forgets
    /// them.
    pub(crate) fn settled(&self) -> Vec<Traffic> {
        let start = Instant::now();
        loop {
            let mut connections = lock(&self.connections);
            if connections.iter().all(|connection| connection.threads.load(Ordering::SeqCst) == 0) {
                return connections.drain(..).map(|connection| connection.traffic()).collect();
            }
            assert!(start.elapsed() < PATIENCE, "a connection of the link does not end");
            drop(connections);
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn connect(&self, client: TcpStream, server: SocketAddr) {
        let established = Instant::now() + self.shape.round_trip;
        let Ok(server) = TcpStream::connect(server) else { return };
        let both = [&client, &server].map(|side| side.set_nodelay(true).and_then(|()| side.try_clone()));
        let [Ok(client_again), Ok(server_again)] = both else { return };
        let connection = Arc::new(Connection::default());
        connection.threads.store(4, Ordering::SeqCst);
        lock(&self.connections).push(Arc::clone(&connection));
        let (up, down) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
        let (up_lane, down_lane) = (Arc::clone(&self.up), Arc::clone(&self.down));
        let (up_again, down_again) = (Arc::clone(&up), Arc::clone(&down));
        connection.spawn(move |traffic| traffic.read_client(client_again, &up_lane, &up, established));
        connection.spawn(move |traffic| traffic.write_server(&server_again, &up_again));
        let each = self.shape.each;
        connection.spawn(move |traffic| traffic.read_server(server, each, &down_lane, &down));
        connection.spawn(move |traffic| traffic.write_client(&client, &down_again));
    }
}

/// The counters of one connection and the state of its end.
#[derive(Debug, Default)]
struct Connection {
    up: AtomicU64,
    /// When each number of bytes leaves the server.
    down: Mutex<Vec<(Instant, u64)>>,
    arrived: AtomicU64,
    requests: AtomicU64,
    /// The client has hung up: bytes that arrive later do not reach it.
    client_gone: AtomicBool,
    /// When the server learned that the client hung up.
    server_notified: Mutex<Option<Instant>>,
    threads: AtomicU64,
}

impl Connection {
    fn spawn(self: &Arc<Self>, run: impl FnOnce(&Self) + Send + 'static) {
        let connection = Arc::clone(self);
        thread::spawn(move || {
            run(&connection);
            connection.threads.fetch_sub(1, Ordering::SeqCst);
        });
    }

    fn traffic(&self) -> Traffic {
        let notified = *lock(&self.server_notified);
        let sent = |(leaves, bytes): &(Instant, u64)| {
            notified.is_none_or(|notified| *leaves <= notified).then_some(*bytes)
        };
        Traffic {
            up: self.up.load(Ordering::SeqCst),
            down: lock(&self.down).iter().filter_map(sent).sum(),
            arrived: self.arrived.load(Ordering::SeqCst),
            requests: self.requests.load(Ordering::SeqCst),
        }
    }

    fn read_client(&self, mut client: TcpStream, lane: &Lane, queue: &Queue, established: Instant) {
        let mut ends = Ends::default();
        let mut buffer = vec![0; PARCEL];
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            let bytes = buffer.get(..read).unwrap_or_default();
            self.up.fetch_add(read as u64, Ordering::SeqCst);
            self.requests.fetch_add(ends.count(bytes), Ordering::SeqCst);
            queue.push(lane.send(read, established), bytes.to_vec());
        }
        // HTTP clients close both directions at once.
        self.client_gone.store(true, Ordering::SeqCst);
        queue.push(lane.send(0, established), Vec::new());
    }

    fn write_server(&self, mut server: &TcpStream, queue: &Queue) {
        loop {
            let parcel = queue.next();
            if parcel.is_empty() {
                break;
            }
            // The thread that reads from the server notices its end.
            let _ = server.write_all(&parcel);
            queue.done(parcel.len());
        }
        *lock(&self.server_notified) = Some(Instant::now());
        let _ = server.shutdown(Shutdown::Both);
    }

    fn read_server(&self, mut server: TcpStream, each: Option<f64>, lane: &Lane, queue: &Queue) {
        let mut buffer = vec![0; PARCEL];
        let mut free = Instant::now();
        while let Ok(read @ 1..) = server.read(&mut buffer) {
            if let Some(rate) = each {
                let now = Instant::now();
                free = free.max(now - LATE) + Duration::from_secs_f64(read as f64 / rate);
                thread::sleep(free.saturating_duration_since(now));
            }
            if lock(&self.server_notified).is_some() {
                break;
            }
            let arrival = lane.send(read, Instant::now());
            lock(&self.down).push((arrival - lane.delay, read as u64));
            queue.push(arrival, buffer.get(..read).unwrap_or_default().to_vec());
        }
        queue.push(lane.send(0, Instant::now()), Vec::new());
    }

    fn write_client(&self, mut client: &TcpStream, queue: &Queue) {
        loop {
            let parcel = queue.next();
            if parcel.is_empty() {
                break;
            }
            if !self.client_gone.load(Ordering::SeqCst) && client.write_all(&parcel).is_ok() {
                self.arrived.fetch_add(parcel.len() as u64, Ordering::SeqCst);
            }
            queue.done(parcel.len());
        }
        let _ = client.shutdown(Shutdown::Write);
    }
}

/// Counts empty lines. They end the heads of requests, and with them requests without a body.
#[derive(Debug, Default)]
struct Ends {
    matched: usize,
}

impl Ends {
    fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut count = 0;
        for &byte in bytes {
            self.matched = match (self.matched, byte) {
                (0 | 2, b'\r') | (1 | 3, b'\n') => self.matched + 1,
                (_, b'\r') => 1,
                _ => 0,
            };
            if self.matched == 4 {
                self.matched = 0;
                count += 1;
            }
        }
        count
    }
}

/// One direction of a link.
#[derive(Debug)]
struct Lane {
    delay: Duration,
    rate: Option<f64>,
    window: usize,
    state: Mutex<LaneState>,
    turn: Condvar,
}

#[derive(Debug)]
struct LaneState {
    /// First come, first served: without tickets one connection could monopolise the lane.
    next_ticket: u64,
    serving: u64,
    /// When the last byte accepted so far has left.
    free: Instant,
    /// When each number of bytes is acknowledged.
    unacknowledged: VecDeque<(Instant, usize)>,
    in_flight: usize,
}

impl Lane {
    fn new(delay: Duration, rate: Option<f64>, window: usize) -> Self {
        let state = LaneState {
            next_ticket: 0,
            serving: 0,
            free: Instant::now(),
            unacknowledged: VecDeque::new(),
            in_flight: 0,
        };
        Self { delay, rate, window, state: Mutex::new(state), turn: Condvar::new() }
    }

    /// Sends this many bytes once the window has room, not before `earliest`, and returns their time of arrival.
    fn send(&self, bytes: usize, earliest: Instant) -> Instant {
        let mut state = lock(&self.state);
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        while state.serving != ticket {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        loop {
            let now = Instant::now();
            while let Some(&(_, bytes)) = state.unacknowledged.front().filter(|(at, _)| *at <= now) {
                state.in_flight -= bytes;
                state.unacknowledged.pop_front();
            }
            match state.unacknowledged.front() {
                Some(&(at, _)) if state.in_flight + bytes > self.window => {
                    state = self.turn.wait_timeout(state, at - now).unwrap_or_else(PoisonError::into_inner).0;
                }
                _ => break,
            }
        }
        let mut start = earliest.max(Instant::now());
        if let Some(rate) = self.rate {
            start = start.max(state.free) + Duration::from_secs_f64(bytes as f64 / rate);
            state.free = start;
        }
        let arrival = start + self.delay;
        state.unacknowledged.push_back((arrival + self.delay, bytes));
        state.in_flight += bytes;
        state.serving += 1;
        self.turn.notify_all();
        arrival
    }
}

/// The bytes of one connection that are in flight in one direction.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    parcels: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

impl Queue {
    /// Waits for room; an empty parcel marks the end.
    fn push(&self, arrival: Instant, parcel: Vec<u8>) {
        let mut state = lock(&self.state);
        while state.bytes >= WINDOW {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.bytes += parcel.len();
        state.parcels.push_back((arrival, parcel));
        self.changed.notify_all();
    }

    /// The next parcel, once it has arrived. It takes up room until [`Self::done`].
    fn next(&self) -> Vec<u8> {
        let mut state = lock(&self.state);
        let (arrival, parcel) = loop {
            match state.parcels.pop_front() {
                Some(first) => break first,
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        thread::sleep(arrival.saturating_duration_since(Instant::now()));
        parcel
    }

    fn done(&self, bytes: usize) {
        lock(&self.state).bytes -= bytes;
        self.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
