//! Files of images without a cache.

use super::{
    super::{
        depth,
        images::{self, Layer},
        programs::Transport,
        runs::Run,
        table::{Table, Target},
        tools,
        world::World,
    },
    LINK, TRANSPORTS, add, files, median_of,
};

/// Depths of the files of the newest layer, in compressed bytes.
const DEPTHS: [u64; 4] = [1_000_000, 25_000_000, 73_000_000, 100_000_000];

/// What a file read may cost beside 1.25 times its offset, in bytes.
const SLACK: f64 = 1536.0 * 1024.0;

/// `/etc/passwd` of one layer.
pub(crate) fn cold_passwd(world: &World, table: &mut Table) {
    let [base] = world.images.layers("debian").try_into().expect("one layer");
    let passwd = depth::file(&base.file, "etc/passwd");
    eprintln!("etc/passwd ends {} bytes into a layer of {}", passwd.end, base.size);
    for transport in TRANSPORTS {
        let task = format!("Cold `/etc/passwd`, one layer of {} MB", base.size / 1_000_000);
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
            let task = format!("Cold file at X = {:.1} MB of the newest layer", file.end as f64 / 1e6);
            let mut candidates = files(world, transport, "ml", &file, &["regctl", "oci-extract"]);
            let plain = || world.plain_get(transport, "ml", &newest.digest, file.end);
            candidates.push((LINK.to_owned(), Box::new(plain)));
            let results = world.compare(candidates);
            let link = median_of(&results, LINK);
            let targets = [
                Target::bytes(1.25 * file.end as f64 + SLACK).as_of("1.25 X + 1.5 MiB"),
                Target::seconds(median_of(&results, "regctl")).as_of("what regctl needs"),
                Target::seconds(1.15 * link + world.round_trips(2).as_secs_f64())
                    .as_of("1.15 times the link itself and 2 round trips"),
            ];
            add(table, &task, transport, &results, &targets);
        }
    }
}

/// `/etc/passwd` of the base, below layers that must be read to know that they do not contain it.
pub(crate) fn cold_base(world: &World, table: &mut Table) {
    let layers = world.images.layers("ml");
    let (base, newer) = layers.split_first().expect("layers");
    let above: u64 = newer.iter().map(|layer| layer.size).sum();
    let passwd = depth::file(&base.file, "etc/passwd");
    for transport in TRANSPORTS {
        let task = format!("Cold file of the base under {:.1} MB of newer layers", above as f64 / 1e6);
        let mut candidates = files(world, transport, "ml", &passwd, &["regctl", "oci-extract"]);
        // One connection, one layer after another, as each is needed completely.
        let plain = || every_layer(world, transport, newer, base, passwd.end);
        candidates.push((LINK.to_owned(), Box::new(plain)));
        let results = world.compare(candidates);
        let link = median_of(&results, LINK);
        let peer = results.iter().find(|(name, _)| name == "regctl");
        let bytes = peer.map_or(above as f64 + SLACK, |(_, runs)| runs.bytes()[1]);
        let targets = [
            Target::bytes(bytes).as_of("what regctl needs"),
            Target::seconds(1.08 * link).as_of("1.08 times the link itself"),
        ];
        add(table, &task, transport, &results, &targets);
    }
}

/// `/etc/passwd` of the base, below small layers.
pub(crate) fn cold_small(world: &World, table: &mut Table) {
    let layers = world.images.layers(images::SMALL);
    let (base, newer) = layers.split_first().expect("layers");
    let above: u64 = newer.iter().map(|layer| layer.size).sum();
    let passwd = depth::file(&base.file, "etc/passwd");
    for transport in TRANSPORTS {
        let (count, size) = (newer.len(), above / 1000);
        let task = format!("Cold `/etc/passwd` of the base under {count} layers of {size} KB in all");
        let peers = ["regctl", "oci-extract", "crane"];
        let results = world.compare(files(world, transport, images::SMALL, &passwd, &peers));
        add(table, &task, transport, &results, &[]);
    }
}

/// A file of the base of two eStargz layers.
pub(crate) fn cold_estargz(world: &World, table: &mut Table) {
    if world.images.has_estargz() {
        cold_embedded(world, table, "eStargz", images::ESTARGZ);
    } else {
        table.missing("Cold `/etc/passwd`, base of two eStargz layers", "no Go to make the image");
    }
}

/// A file of the base of two zstd:chunked layers.
pub(crate) fn cold_chunked(world: &World, table: &mut Table) {
    cold_embedded(world, table, "zstd:chunked", images::CHUNKED);
}

/// A file of the base of two layers with embedded TOCs whose digests are in the manifest.
fn cold_embedded(world: &World, table: &mut Table, format: &str, image: &str) {
    let layers = world.images.layers(images::TWO);
    let passwd = depth::file(&layers[0].file, "etc/passwd");
    let layers = world.images.layers(image);
    let tocs: u64 = layers.iter().map(|layer| layer.toc.expect("a TOC")).sum();
    let task = format!("Cold `/etc/passwd`, base of two {format} layers, TOCs of {} KB", tocs / 1000);
    for transport in TRANSPORTS {
        let results = world.compare(files(world, transport, image, &passwd, &["oci-extract", "regctl"]));
        let targets =
            [Target::requests(7.0), Target::bytes(tocs as f64 + 100e3).as_of("the TOCs and 100 KB")];
        add(table, &task, transport, &results, &targets);
    }
    let verified = verification(world, image, "/etc/passwd");
    table.figure(&task, "verified `chunk`", &format!("`{verified}`"), verified == "chunk");
}

/// The verification level of a file's content, from a report.
fn verification(world: &World, image: &str, path: &str) -> String {
    let folder = tools::temporary_folder();
    let report = folder.path().join("report.json");
    let host = world.direct();
    let reference = format!("{}/{image}:latest", host.name);
    let arguments = ["carve", &reference, path, "--report", tools::text(&report)];
    tools::run(&mut world.programs.ours(&host, None, &arguments));
    let report = std::fs::read(&report).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    report["verified"].as_str().unwrap_or("missing").to_owned()
}

/// The newer layers completely, then the base up to `end`, without pauses.
fn every_layer(world: &World, transport: Transport, newer: &[Layer], base: &Layer, end: u64) -> Run {
    let parts = newer.iter().rev().map(|layer| (layer, layer.size)).chain([(base, end)]);
    let mut sum = Run { right: true, ..Run::default() };
    for (index, (layer, bytes)) in parts.enumerate() {
        let run = world.plain_get(transport, "ml", &layer.digest, bytes);
        // Only the first one connects and waits; the other requests would already be in flight.
        let waiting = match (index, transport) {
            (0, _) => 0,
            (_, Transport::Http) => 2,
            // Twice: TCP, TLS and a request.
            (_, Transport::Https) => 6,
        };
        let waiting = world.round_trips(waiting).as_secs_f64();
        sum.seconds += run.seconds - waiting;
        sum.bytes += run.bytes;
        sum.arrived += run.arrived;
        sum.requests += run.requests;
    }
    sum
}
