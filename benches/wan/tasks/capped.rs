//! A link on which each connection has a limit of its own, as content delivery networks impose.

use super::{
    super::{
        depth,
        link::Shape,
        programs::Transport,
        table::{Table, Target},
        world::{Candidate, World},
    },
    OURS, add, files, median_of,
    whole::CRANE,
};

/// Bits a second of each connection, and of all.
const EACH: f64 = 50e6;
const ALL: f64 = 400e6;

/// How many times as fast as its peers the program has to be.
const TIMES: f64 = 3.0;

/// Lists a whole image, and extracts a file of the base below big layers, without a cache.
pub(crate) fn capped(world: &World, table: &mut Table) {
    let shape = Shape { downlink: ALL / 8.0, each: Some(EACH / 8.0), ..world.shape };
    let (round_trip, each, all) = (shape.round_trip.as_millis(), EACH / 1e6, ALL / 1e6);
    table.through(format!("a link of {round_trip} ms, {each} Mbit/s a connection and {all} Mbit/s in all"));
    let world = World::start(&world.target, shape, world.rounds);
    list(&world, table);
    base(&world, table);
}

fn list(world: &World, table: &mut Table) {
    let all: u64 = world.images.layers("ml").iter().map(|layer| layer.size).sum();
    let host = world.host(Transport::Http);
    let reference = format!("{}/ml:latest", host.name);
    let is_listing = |printed: &[u8]| printed.windows(10).any(|text| text == b"etc/passwd");
    let ours = || {
        let command = world.programs.ours(&host, None, &["peek", &reference, "--all"]);
        world.judged(Transport::Http, command, is_listing)
    };
    let mut candidates: Vec<Candidate<'_>> = vec![(OURS.to_owned(), Box::new(ours))];
    if world.programs.peer("crane").is_some() {
        let crane = || {
            let command = world.programs.crane_list(&host, "ml").expect("crane");
            world.judged(Transport::Http, command, is_listing)
        };
        candidates.push((CRANE.to_owned(), Box::new(crane)));
    }
    let results = world.compare(candidates);
    let target = Target::seconds(median_of(&results, CRANE) / TIMES).as_of("1/3 of crane and tar");
    let task = format!("Limited connections: cold, list everything, {} MB", all / 1_000_000);
    add(table, &task, Transport::Http, &results, &[target]);
}

fn base(world: &World, table: &mut Table) {
    let layers = world.images.layers("ml");
    let (base, newer) = layers.split_first().expect("layers");
    let above: u64 = newer.iter().map(|layer| layer.size).sum();
    let passwd = depth::file(&base.file, "etc/passwd");
    let results = world.compare(files(world, Transport::Http, "ml", &passwd, &["regctl", "crane"]));
    let targets = ["regctl", "crane"].map(|peer| Target::seconds(median_of(&results, peer) / TIMES));
    let [regctl, crane] = targets;
    let targets = [regctl.as_of("1/3 of regctl"), crane.as_of("1/3 of crane")];
    let task = format!(
        "Limited connections: cold file of the base below {:.1} MB of newer layers",
        above as f64 / 1e6
    );
    add(table, &task, Transport::Http, &results, &targets);
}
