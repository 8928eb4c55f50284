//! The environment of a task: images, registry, link and programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::{
    certificate,
    front::Front,
    images::Images,
    link::{Link, Shape},
    plain,
    programs::{self, Host, PATIENCE, Programs, Transport},
    registry::Registry,
    runs::{self, Run, Runs},
};

/// One program at one task.
pub(crate) type Candidate<'a> = (String, Box<dyn FnMut() -> Run + 'a>);

/// Servers on one side of the links, programs on the other.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) programs: Programs,
    pub(crate) images: Images,
    pub(crate) shape: Shape,
    /// Rounds of every task.
    pub(crate) rounds: usize,
    /// Where all of this was built.
    pub(crate) target: PathBuf,
    link: Link,
    front: Front,
    registry: Registry,
    http_port: u16,
    https_port: u16,
    storage_port: u16,
}

impl World {
    /// Builds what is missing below `target`, and starts the servers.
    pub(crate) fn start(target: &Path, shape: Shape, rounds: usize) -> Self {
        fs::create_dir_all(target).expect("a folder");
        let programs = Programs::prepare(target);
        let images = Images::prepare(target, programs.peer(programs::ESTARGZ).as_deref());
        let registry = Registry::start(&images.storage());
        let link = Link::new(shape);
        let (front, https_port) = Front::start(registry.address(), |server| link.port_to(server));
        let http_port = link.port_to(registry.address());
        let storage_port = link.port_to(front.storage());
        let target = target.to_owned();
        Self {
            programs,
            images,
            shape,
            rounds,
            target,
            link,
            front,
            registry,
            http_port,
            https_port,
            storage_port,
        }
    }

    /// The registry behind the link.
    pub(crate) fn host(&self, transport: Transport) -> Host {
        let port = match transport {
            Transport::Http => self.http_port,
            Transport::Https => self.https_port,
        };
        let name = format!("127.0.0.1:{port}");
        Host { transport, name, authority: certificate::authority() }
    }

    /// The registry without the link, over plain HTTP.
    pub(crate) fn direct(&self) -> Host {
        let name = self.registry.address().to_string();
        Host { transport: Transport::Http, name, authority: certificate::authority() }
    }

    /// Runs a command behind the link; it must print `expected`.
    pub(crate) fn run(&self, transport: Transport, command: Command, expected: &[u8]) -> Run {
        self.judged(transport, command, |printed| printed == expected)
    }

    /// The same; `is_right` checks its output.
    pub(crate) fn judged(
        &self,
        transport: Transport,
        mut command: Command,
        is_right: impl FnOnce(&[u8]) -> bool,
    ) -> Run {
        self.traced(transport, || runs::time(&mut command, is_right))
    }

    /// The time of the link itself for the first bytes of a blob.
    pub(crate) fn plain_get(&self, transport: Transport, image: &str, digest: &str, bytes: u64) -> Run {
        self.traced(transport, || {
            let ports = match transport {
                Transport::Http => vec![self.http_port],
                Transport::Https => vec![self.https_port, self.storage_port],
            };
            runs::of(plain::get(&ports, image, digest, bytes, transport))
        })
    }

    /// Runs every candidate in turn in every round, so that other load on the machine affects all of them.
    pub(crate) fn compare(&self, mut candidates: Vec<Candidate<'_>>) -> Vec<(String, Runs)> {
        let mut results: Vec<(String, Runs)> =
            candidates.iter().map(|(name, _)| (name.clone(), Runs::default())).collect();
        for _ in 0..self.rounds {
            for ((_, run), (_, runs)) in candidates.iter_mut().zip(&mut results) {
                // A program that was cut off once would be cut off again.
                if runs.runs.iter().all(|run| run.seconds < f64::from(PATIENCE)) {
                    runs.runs.push(run());
                }
            }
        }
        results
    }

    /// The time of this many round trips.
    pub(crate) fn round_trips(&self, count: u32) -> Duration {
        self.shape.round_trip * count
    }

    fn traced(&self, transport: Transport, run: impl FnOnce() -> Run) -> Run {
        self.link.settled();
        self.front.take_requests();
        let mut run = run().with_traffic(&self.link.settled());
        if transport == Transport::Https {
            run.requests = self.front.take_requests();
        }
        run
    }
}
