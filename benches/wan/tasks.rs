//! The rows of the table: what is asked, of whom, and what has to be reached.

use std::{process::Command, time::Instant};

use super::{
    depth::{self, Deep},
    images::Layer,
    programs::{Host, Transport},
    runs::{self, Run, Runs},
    table::{Table, Target},
    tools,
    world::{Candidate, World},
};

const OURS: &str = "layerslayer";
const LINK: &str = "the link itself: connect, one GET";

/// Depths at which files of the newest layer are asked for, in compressed bytes.
const DEPTHS: [u64; 4] = [1_000_000, 10_000_000, 50_000_000, 100_000_000];

/// Both transports.
const TRANSPORTS: [Transport; 2] = [Transport::Http, Transport::Https];

/// What a file read may cost beside 1.25 times its offset, in bytes.
const SLACK: f64 = 768.0 * 1024.0;

/// `/etc/passwd` of one layer.
pub(crate) fn cold_passwd(world: &World, table: &mut Table) {
    let [base] = world.images.layers("debian").try_into().expect("one layer");
    let passwd = depth::file(&base.file, "etc/passwd");
    eprintln!("etc/passwd ends {} bytes into a layer of {}", passwd.end, base.size);
    for transport in TRANSPORTS {
        let task = format!("cold `/etc/passwd`, one layer of {} MB", base.size / 1_000_000);
        let peers = ["regctl", "oci-extract", "crane"];
        let results = world.compare(files(world, transport, "debian", &passwd, &peers));
        let targets = [Target::bytes(200e3), Target::seconds(0.29)];
        add(table, &task, transport, &results, &targets);
    }
}

/// Files of the newest layer, at several depths.
pub(crate) fn cold_depths(world: &World, table: &mut Table) {
    let layers = world.images.layers("ml");
    let newest = layers.last().expect("layers");
    for offset in DEPTHS {
        let Some(file) = depth::small_file_from(&newest.file, offset) else {
            eprintln!("the newest layer of {} bytes has no file at {offset}", newest.size);
            continue;
        };
        for transport in TRANSPORTS {
            let task = format!("cold file at X = {:.1} MB of the newest layer", file.end as f64 / 1e6);
            let mut candidates = files(world, transport, "ml", &file, &["regctl", "oci-extract"]);
            let plain = || world.plain_get(transport, "ml", &newest.digest, file.end);
            candidates.push((LINK.to_owned(), Box::new(plain)));
            let results = world.compare(candidates);
            let link = median_of(&results, LINK);
            let targets = [
                Target::bytes(1.25 * file.end as f64 + SLACK),
                Target::seconds(1.15 * link + world.round_trips(2).as_secs_f64()),
            ];
            add(table, &task, transport, &results, &targets);
        }
    }
}

/// `/etc/passwd` of the base, under layers that have to be read to know that they do not hold it.
pub(crate) fn cold_base(world: &World, table: &mut Table) {
    let layers = world.images.layers("ml");
    let (base, newer) = layers.split_first().expect("layers");
    let above: u64 = newer.iter().map(|layer| layer.size).sum();
    let passwd = depth::file(&base.file, "etc/passwd");
    for transport in TRANSPORTS {
        let task = format!("cold file of the base under {:.1} MB of newer layers", above as f64 / 1e6);
        let mut candidates = files(world, transport, "ml", &passwd, &["regctl", "oci-extract"]);
        // One connection for all: the layers one after the other, as each is needed whole.
        let plain = || every_layer(world, transport, newer, base, passwd.end);
        candidates.push(("the link itself: connect, GETs".to_owned(), Box::new(plain)));
        let results = world.compare(candidates);
        let link = median_of(&results, "the link itself: connect, GETs");
        let peer = results.iter().find(|(name, _)| name == "regctl");
        let bytes = peer.map_or(above as f64 + SLACK, |(_, runs)| runs.bytes()[0]);
        add(table, &task, transport, &results, &[Target::bytes(bytes), Target::seconds(1.08 * link)]);
    }
}

/// Everything that is in the image, as fast as this machine can.
pub(crate) fn list_everything(world: &World, table: &mut Table) {
    let host = world.direct();
    let layers = world.images.layers("ml");
    let all: u64 = layers.iter().map(|layer| layer.size).sum();
    let reference = format!("{}/ml:latest", host.name);
    let mut candidates: Vec<Candidate<'_>> = vec![(
        format!("{OURS}, no tables"),
        Box::new(|| resident(world.programs.ours(&host, None, &["peek", &reference, "--all"]))),
    )];
    if world.programs.peer("crane").is_some() {
        let run = || resident(world.programs.crane_list(&host, "ml").expect("crane"));
        candidates.push(("crane export \\| tar t".to_owned(), Box::new(run)));
    }
    if tools::try_run(Command::new("igzip").arg("--version")).is_ok() {
        let run = || resident(igzip(world, &host, &layers));
        candidates.push(("curl \\| igzip -d, one by one".to_owned(), Box::new(run)));
    } else {
        eprintln!("no igzip here (Debian's package isal): left out");
    }
    let results = world.compare(candidates);
    let task = format!("list everything, {} MB, no link limit", all / 1_000_000);
    for (name, runs) in &results {
        table.add(&task, "http", name, runs, &[]);
    }
    let reach = "≤ 1/7 of crane \\| tar, ≤ 1.0 × curl \\| igzip, ≤ 96 MiB resident";
    if !world.programs.has_subcommand("toc") {
        table.not_yet(&format!("{task}, tables built"), reach, "not yet: no `toc build`");
    }
}

/// The rows whose parts are not there yet.
pub(crate) fn pending(world: &World, table: &mut Table) {
    if !world.programs.has_subcommand("cache") {
        let why = "not yet: no cache of tables";
        table.not_yet("warm, any small file", "≤ 2 requests, ≤ 0.35 MB, ≤ 0.20 s", why);
    }
    if !world.programs.has_subcommand("toc") {
        let why = "not yet: no tables";
        table.not_yet("size of all tables at 1 MiB spacing", "≤ 0.9 %, spans ≤ 0.65 %", why);
        table.not_yet("a streaming pass with the table against without", "≤ 1.20 ×", why);
    }
    table.not_yet(
        "eStargz or zstd:chunked, cold, small file in the base layer of two",
        "≤ 7 requests, ≤ TOCs + 100 KB, verified `chunk`",
        "not yet: no such images",
    );
}

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
        // What has to be reached is said of one plain host.
        let targets = if name == OURS && over == Transport::Http { targets } else { &[] };
        table.add(task, over.name(), name, runs, targets);
    }
}

fn median_of(results: &[(String, Runs)], name: &str) -> f64 {
    results.iter().find(|(other, _)| other == name).map_or(f64::NAN, |(_, runs)| runs.seconds()[1])
}

/// The newer layers whole, then the base up to `end`, without a pause.
fn every_layer(world: &World, transport: Transport, newer: &[Layer], base: &Layer, end: u64) -> Run {
    let parts = newer.iter().rev().map(|layer| (layer, layer.size)).chain([(base, end)]);
    let mut sum = Run { right: true, ..Run::default() };
    for (index, (layer, bytes)) in parts.enumerate() {
        let run = world.plain_get(transport, "ml", &layer.digest, bytes);
        // Only the first of them connects and waits; the others' requests would be on their way already.
        let waiting = if index == 0 { 0.0 } else { world.round_trips(2).as_secs_f64() };
        sum.seconds += run.seconds - waiting;
        sum.bytes += run.bytes;
        sum.requests += run.requests;
    }
    sum
}

/// Curl and igzip, a blob after the other.
fn igzip(world: &World, host: &Host, layers: &[Layer]) -> Command {
    let script = r#"for url; do curl -sSf "$url" | igzip -d -c || exit 1; done"#;
    let mut command = world.programs.shell(host, script);
    for layer in layers {
        command.arg(format!("http://{}/v2/ml/blobs/{}", host.name, layer.digest));
    }
    command
}

/// Runs a command whose output nobody reads, under GNU time.
fn resident(command: Command) -> Run {
    let folder = tools::temporary_folder();
    let report = folder.path().join("resident");
    let mut timed = tools::command("time");
    timed.env_clear().args(["--format=%M", "--output"]).arg(&report).arg(command.get_program());
    timed.args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            timed.env(name, value);
        }
    }
    let start = Instant::now();
    let status = timed.stdout(std::process::Stdio::null()).status().expect("time");
    let mut run = runs::of(start.elapsed());
    run.right = status.success();
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    run.resident = text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    run
}
