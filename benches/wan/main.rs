//! Compares this program with its peers through a simulated link: bytes, requests and seconds.
//!
//! `make wan`, or `cargo bench --bench wan -- [--rounds N] [--rtt MILLISECONDS] [--mbit N] [--only TASK,…] [--write]`.
//! `--serve` measures nothing: it prints the addresses of the registries and waits until it is interrupted.
//! Images, the storage of the registry and the peers are built once, in `target/wan`. `--write` updates the tables of the tasks
//! that ran in BENCHMARKS.md, after every task.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "the measurements are the output")]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "the parts shared with the tests are tests' code"
)]
#![allow(dead_code, reason = "not all of the parts shared with the tests are used")]

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

mod certificate;
mod depth;
mod front;
#[path = "../../tests/it/support/http.rs"]
mod http;
mod images;
mod link;
#[path = "../../tests/it/support/noise.rs"]
mod noise;
mod plain;
mod programs;
mod registry;
mod runs;
mod table;
mod tasks;
#[path = "../../tests/it/support/tools.rs"]
mod tools;
mod world;

use self::{link::Shape, programs::Transport, table::Table, world::World};

type Task = fn(&World, &mut Table);

const TASKS: [(&str, Task); 11] = [
    ("passwd", tasks::cold::cold_passwd),
    ("depths", tasks::cold::cold_depths),
    ("base", tasks::cold::cold_base),
    ("small", tasks::cold::cold_small),
    ("warm", tasks::warm::warm),
    ("estargz", tasks::cold::cold_estargz),
    ("chunked", tasks::cold::cold_chunked),
    ("list", tasks::whole::list_everything),
    ("far", tasks::whole::list_through_the_link),
    ("capped", tasks::capped::capped),
    ("tocs", tasks::whole::tocs),
];

/// The command line.
struct Options {
    rounds: usize,
    round_trip: u64,
    mbit: f64,
    only: Vec<String>,
    serve: bool,
    write: bool,
}

fn main() {
    let options = options();
    let shape = Shape {
        round_trip: Duration::from_millis(options.round_trip),
        downlink: options.mbit * 1e6 / 8.0,
        each: None,
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target folder").join("wan");
    let file = root.join("BENCHMARKS.md");
    let world = World::start(&target, shape, options.rounds);
    if options.serve {
        for transport in [Transport::Http, Transport::Https] {
            let host = world.host(transport);
            println!("{}: {} (authority: {})", transport.name(), host.name, host.authority.display());
        }
        loop {
            std::thread::park();
        }
    }
    let before = table::read(&file);
    let Options { rounds, round_trip, mbit, .. } = options;
    let (rounds, link) = (
        format!("{rounds} round{}", if rounds == 1 { "" } else { "s" }),
        format!("a link of {round_trip} ms and {mbit} Mbit/s"),
    );
    let (mut parts, mut measured) = (String::new(), String::new());
    for (name, task) in TASKS {
        let wanted = options.only.is_empty() || options.only.iter().any(|only| only == name);
        let now = wanted.then(|| {
            let start = Instant::now();
            let mut table = Table::default();
            task(&world, &mut table);
            eprintln!("{name}: {:.0} s", start.elapsed().as_secs_f64());
            table.markdown(&rounds, &link)
        });
        if let Some(now) = &now {
            measured.push_str(now);
            parts.push_str(&table::part(name, Some(now.clone()), &before));
            if options.write {
                // The results are saved even if a later task fails.
                table::write(&file, &section(&world, &(parts.clone() + &others(name, &before))));
            }
        } else {
            parts.push_str(&table::part(name, None, &before));
        }
    }
    println!("{}\n{measured}", table::summary(&measured));
}

/// The parts of the tasks after this one, as they are in the file.
fn others(name: &str, before: &str) -> String {
    let later = TASKS.iter().skip_while(|(other, _)| *other != name).skip(1);
    later.map(|(name, _)| table::part(name, None, before)).collect()
}

fn section(world: &World, parts: &str) -> String {
    let sizes = |image: &str| {
        let layers = world.images.layers(image);
        let sizes: Vec<String> =
            layers.iter().map(|layer| format!("{:.1}", layer.size as f64 / 1e6)).collect();
        format!("*{image}* {} MB", sizes.join(" + "))
    };
    let missing = match world.programs.missing.as_slice() {
        [] => String::new(),
        missing => format!("Not included because they could not be installed: {}.\n", missing.join(", ")),
    };
    format!(
        "## Through a link, compared with other tools\n\
         `benches/wan`: a userspace link (with a set round trip and bandwidth towards the client, shared by all connections; at most 1 MiB in\n\
         flight per direction, one round trip to connect) in front of Debian's `docker-registry`, and the optimised program, regctl, crane and\n\
         oci-extract. \"https + redirect\": TLS, and a 307 for every blob to a second host behind the same link. Images of Debian packages:\n\
         {}, {}, {}, {}.\n\n\
         The programs alternate in every round. Bytes are those that the servers sent, with heads and TLS, until they could know that the\n\
         client had hung up (half a round trip later); \"arrived\" excludes the bytes then in flight. \"The link itself\" is a plain client that\n\
         requests exactly the bytes up to the file's end. X is the end of the file's content in the compressed layer. Targets are compared\n\
         with the largest bytes, requests and memory of the rounds, and with the median of the seconds. The targets were set for plain http\n\
         and also apply to https, where a redirect is a separate request, and TLS and the second host alone take four round trips.\n{missing}\n\
         Repeat with `make wan` (needs Debian's docker-registry, skopeo, umoci, mmdebstrap, time, isal, and Go for the other tools and the\n\
         eStargz image); repeat one task with `cargo bench --locked --bench wan -- --only passwd --write`, which keeps the other figures.\n\n\
         {}\n{parts}",
        sizes("debian"),
        sizes("two"),
        sizes("ml"),
        sizes(images::SMALL),
        table::summary(parts),
    )
}

fn options() -> Options {
    let mut options =
        Options { rounds: 5, round_trip: 40, mbit: 200.0, only: Vec::new(), serve: false, write: false };
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--mbit" => options.mbit = value().parse().expect("a number of Mbit/s"),
            "--only" => options.only.extend(value().split(',').map(str::to_owned)),
            "--rounds" => options.rounds = value().parse().expect("a number of rounds"),
            "--rtt" => options.round_trip = value().parse().expect("a number of milliseconds"),
            "--serve" => options.serve = true,
            "--write" => options.write = true,
            _ => panic!("unknown argument {argument}"),
        }
    }
    options
}
