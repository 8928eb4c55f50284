//! The tasks: what is compared, between which programs, and the targets.

use super::{
    depth::Deep,
    programs::Transport,
    runs::Runs,
    table::{Table, Target},
    world::{Candidate, World},
};

pub(crate) mod capped;
pub(crate) mod cold;
pub(crate) mod warm;
pub(crate) mod whole;

const OURS: &str = "layerslayer";
const LINK: &str = "the link itself";

/// Both transports.
const TRANSPORTS: [Transport; 2] = [Transport::Http, Transport::Https];

/// A candidate for each program that prints `file` of `image`.
fn files<'a>(
    world: &'a World,
    transport: Transport,
    image: &'a str,
    file: &'a Deep,
    peers: &[&'a str],
) -> Vec<Candidate<'a>> {
    let host = world.host(transport);
    let present = peers.iter().filter(|peer| world.programs.peer(peer).is_some());
    let candidate = |program: &'a str| -> Candidate<'a> {
        let host = host.clone();
        let run = move || {
            let command = world.programs.file(program, &host, image, &file.path).expect("a program");
            world.run(transport, command, &file.content)
        };
        (program.to_owned(), Box::new(run))
    };
    [OURS].iter().chain(present).map(|&program| candidate(program)).collect()
}

fn add(table: &mut Table, task: &str, over: Transport, results: &[(String, Runs)], targets: &[Target]) {
    for (name, runs) in results {
        let targets = if name == OURS { targets } else { &[] };
        table.add(task, over.name(), name, runs, targets);
    }
}

fn median_of(results: &[(String, Runs)], name: &str) -> f64 {
    results.iter().find(|(other, _)| other == name).map_or(f64::NAN, |(_, runs)| runs.seconds()[1])
}
