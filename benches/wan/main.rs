//! Our program beside its peers, through a link of settable round trip and bandwidth: bytes, requests and seconds.
//!
//! `make wan`, or `cargo bench --bench wan -- [--rounds N] [--rtt MILLISECONDS] [--mbit N] [--only TASK,…] [--write]`.
//! What it builds (images, a registry's storage, peers) lies in `target/wan` and is built once. `--write` puts the tables into
//! BENCHMARKS.md.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "the measurements are the output")]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the parts shared with the tests are tests' code"
)]
#![allow(dead_code, reason = "not all of the parts shared with the tests are used")]

use std::{env, path::Path, time::Duration};

mod certificate;
mod depth;
mod front;
#[path = "../../tests/it/support/http.rs"]
mod http;
mod images;
mod link;
mod plain;
mod programs;
mod registry;
mod runs;
mod table;
mod tasks;
#[path = "../../tests/it/support/tools.rs"]
mod tools;
mod world;

use self::{link::Shape, table::Table, world::World};

type Task = fn(&World, &mut Table);

const TASKS: [(&str, Task); 7] = [
    ("passwd", tasks::cold::cold_passwd),
    ("depths", tasks::cold::cold_depths),
    ("base", tasks::cold::cold_base),
    ("warm", tasks::warm::warm),
    ("chunked", tasks::cold::cold_chunked),
    ("list", tasks::whole::list_everything),
    ("tables", tasks::whole::tables),
];

/// What was asked for on the command line.
struct Options {
    rounds: usize,
    round_trip: u64,
    mbit: f64,
    only: Vec<String>,
    write: bool,
}

fn main() {
    let options = options();
    let shape =
        Shape { round_trip: Duration::from_millis(options.round_trip), downlink: options.mbit * 1e6 / 8.0 };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("wan");
    let world = World::start(&target, shape, options.rounds);
    let mut table = Table::default();
    for (name, task) in TASKS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            task(&world, &mut table);
        }
    }
    let section = section(&world, &options, &table);
    println!("{section}");
    if options.write {
        table::write(&root.join("BENCHMARKS.md"), &section);
    }
}

fn section(world: &World, options: &Options, table: &Table) -> String {
    let sizes = |image: &str| {
        let layers = world.images.layers(image);
        let sizes: Vec<String> =
            layers.iter().map(|layer| format!("{:.1}", layer.size as f64 / 1e6)).collect();
        format!("*{image}* {} MB", sizes.join(" + "))
    };
    let missing = match world.programs.missing.as_slice() {
        [] => String::new(),
        missing => format!(" Left out, as they could not be installed: {}.", missing.join(", ")),
    };
    format!(
        "## Through a link, beside the peers\n\
         `benches/wan`: a userspace link ({} ms round trip, {} Mbit/s towards the client, shared by all connections; at most 1 MiB in\n\
         flight a direction, one round trip to connect) before Debian's `docker-registry`, and the optimised program beside regctl, crane and\n\
         oci-extract. Images of Debian packages: {}, {}. \"https + redirect\": TLS, and every blob by a 307 from a second host behind the same\n\
         link. {} rounds in which all take turns. Bytes are those that the servers sent, heads and TLS included, until they could know of a\n\
         client that hung up (half a round trip after it did); \"arrived\" leaves out what was then on its way. The last column says what has to be reached and whether it is (bytes, requests and\n\
         memory by the largest of the rounds, seconds by the median).{missing}\n\n\
         Repeat with `make wan` (needs Debian's docker-registry, skopeo, umoci, mmdebstrap, time, isal, and Go for the peers).\n\n{}",
        options.round_trip,
        options.mbit,
        sizes("debian"),
        sizes("ml"),
        options.rounds,
        table.markdown()
    )
}

fn options() -> Options {
    let mut options = Options { rounds: 5, round_trip: 40, mbit: 200.0, only: Vec::new(), write: false };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            // What cargo adds.
            "--bench" => {}
            "--mbit" => options.mbit = value().parse().expect("a number of Mbit/s"),
            "--only" => options.only = value().split(',').map(str::to_owned).collect(),
            "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
            "--rtt" => options.round_trip = value().parse().expect("a number of milliseconds"),
            "--write" => options.write = true,
            _ => panic!("unknown argument {argument}"),
        }
    }
    options
}
