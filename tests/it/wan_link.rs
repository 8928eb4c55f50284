//! The link that the benchmarks measure through: its counts are exact, and nothing is faster than
//! its bandwidth and round trip.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::support::http::{Head, Listener};

#[path = "../../benches/wan/link.rs"]
mod link;

use link::{Link, Shape};

const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Bytes a second.
const DOWNLINK: f64 = 10e6;

const HEAD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
const REQUEST: &str = "GET / HTTP/1.1\r\n\r\n";

fn link() -> Link {
    Link::new(Shape { round_trip: ROUND_TRIP, downlink: DOWNLINK, each: None })
}

/// A server that answers the only request of each connection with this many bytes.
fn server(bytes: usize) -> Listener {
    Listener::start(move |client| {
        let mut writer = client.try_clone().unwrap();
        Head::read(&mut BufReader::new(&client)).unwrap();
        // The client may hang up before the end.
        let _ = writer.write_all(HEAD.as_bytes()).and_then(|()| writer.write_all(&vec![b'.'; bytes]));
    })
}

fn ask(port: u16) -> TcpStream {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    connection.write_all(REQUEST.as_bytes()).unwrap();
    connection
}

fn take_all(mut connection: TcpStream) -> usize {
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).unwrap();
    answer.len()
}

#[test]
fn the_link_counts_every_byte_and_request_of_each_connection() {
    let (link, small, large) = (link(), server(5), server(300_000));
    let [small_port, large_port] =
        [&small, &large].map(|server| link.port_to(server.host().parse().unwrap()));
    assert_eq!(take_all(ask(small_port)), HEAD.len() + 5);
    assert_eq!(take_all(ask(large_port)), HEAD.len() + 300_000);
    let traffic = link.settled();
    let counts = traffic.iter().map(|one| (one.up, one.down, one.arrived, one.requests));
    let (up, head) = (REQUEST.len() as u64, HEAD.len() as u64);
    assert_eq!(
        counts.collect::<Vec<_>>(),
        [(up, head + 5, head + 5, 1), (up, head + 300_000, head + 300_000, 1)]
    );
    assert!(link.settled().is_empty());
}

#[test]
fn connecting_and_requesting_take_a_round_trip_each() {
    let (link, server) = (link(), server(1));
    let port = link.port_to(server.host().parse().unwrap());
    let start = Instant::now();
    take_all(ask(port));
    assert!(start.elapsed() >= ROUND_TRIP * 2);
}

#[test]
fn connections_share_the_downlink() {
    let (link, server) = (link(), server(1_000_000));
    let port = link.port_to(server.host().parse().unwrap());
    let start = Instant::now();
    let readers: Vec<_> = (0..2).map(|_| thread::spawn(move || take_all(ask(port)))).collect();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), HEAD.len() + 1_000_000);
    }
    assert!(start.elapsed() >= ROUND_TRIP * 2 + Duration::from_secs_f64(2e6 / DOWNLINK));
}

#[test]
fn a_connection_may_have_a_limit_below_the_bandwidth_of_the_link() {
    let each = DOWNLINK / 5.0;
    let link = Link::new(Shape { round_trip: ROUND_TRIP, downlink: DOWNLINK, each: Some(each) });
    let server = server(400_000);
    let port = link.port_to(server.host().parse().unwrap());
    let start = Instant::now();
    let readers: Vec<_> = (0..2).map(|_| thread::spawn(move || take_all(ask(port)))).collect();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), HEAD.len() + 400_000);
    }
    assert!(start.elapsed() >= ROUND_TRIP * 2 + Duration::from_secs_f64(390_000.0 / each));
}

#[test]
fn a_server_learns_half_a_round_trip_later_that_its_client_has_gone() {
    let link = link();
    let (gone, noticed) = mpsc::channel();
    let server = Listener::start(move |client| {
        let mut client = BufReader::new(client);
        Head::read(&mut client).unwrap();
        client.get_mut().write_all(HEAD.as_bytes()).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
        gone.send(Instant::now()).unwrap();
    });
    let mut connection = ask(link.port_to(server.host().parse().unwrap()));
    connection.read_exact(&mut [0; HEAD.len()]).unwrap();
    let left = Instant::now();
    drop(connection);
    assert!(noticed.recv().unwrap() >= left + ROUND_TRIP / 2);
}

#[test]
fn a_client_that_hangs_up_is_not_charged_for_unsent_bytes() {
    let (link, server) = (link(), server(64 << 20));
    let mut connection = ask(link.port_to(server.host().parse().unwrap()));
    connection.read_exact(&mut [0; 1000]).unwrap();
    drop(connection);
    let [traffic] = link.settled().try_into().unwrap();
    assert!(traffic.arrived >= 1000 && traffic.down >= traffic.arrived, "{traffic:?}");
    assert!(traffic.down < 32 << 20, "{traffic:?}");
}
