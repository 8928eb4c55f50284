//! Whole images, and the cost of TOCs.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use super::{
    super::{
        images::{self, Layer},
        programs::Host,
        runs::{self, Run},
        table::{NO_LINK, Table, Target},
        tools,
        world::{Candidate, World},
    },
    OURS, TRANSPORTS, add, median_of,
};

pub(super) const CRANE: &str = "crane export \\| tar t";
const IGZIP: &str = "curl \\| igzip -d, one by one";
const IGZIP_TAR: &str = "curl \\| igzip -d \\| tar t, one by one";

/// The magic number of a stored TOC.
const MAGIC: &[u8] = b"LayerToc";

/// Length of the footer of a stored TOC: three lengths and a digest.
const FOOTER: usize = 3 * 8 + 32;

/// Lists a whole image at the speed of this machine.
pub(crate) fn list_everything(world: &World, table: &mut Table) {
    let host = world.direct();
    let layers = world.images.layers("ml");
    let all: u64 = layers.iter().map(|layer| layer.size).sum();
    let reference = format!("{}/ml:latest", host.name);
    let peek = ["peek", &reference, "--all"];
    let built = built_tocs(world, &host, &reference);
    let ours = format!("{OURS}, TOCs built");

    let mut candidates: Vec<Candidate<'_>> = Vec::new();
    let run = || resident(world.programs.ours(&host, Some(built.path()), &peek));
    candidates.push((ours.clone(), Box::new(run)));
    let run = || resident(world.programs.ours(&host, None, &peek));
    candidates.push((format!("{OURS}, no TOCs"), Box::new(run)));
    if world.programs.peer("crane").is_some() {
        let run = || resident(world.programs.crane_list(&host, "ml").expect("crane"));
        candidates.push((CRANE.to_owned(), Box::new(run)));
    }
    if tools::try_run(Command::new("igzip").arg("--version")).is_ok() {
        for (name, then) in [(IGZIP, ""), (IGZIP_TAR, "| tar t")] {
            let (host, layers) = (&host, &layers);
            let run = move || resident(igzip(world, host, layers, then));
            candidates.push((name.to_owned(), Box::new(run)));
        }
    } else {
        eprintln!("igzip (Debian package isal) is missing: skipped");
    }
    let results = world.compare(candidates);

    let task = format!("List everything, {} MB", all / 1_000_000);
    let targets = [
        Target::seconds(median_of(&results, CRANE) / 7.0).as_of("1/7 of crane and tar"),
        Target::seconds(median_of(&results, IGZIP)).as_of("1.0 times curl and igzip"),
        Target::resident(96.0),
    ];
    for (name, runs) in &results {
        table.add(&task, NO_LINK, name, runs, if *name == ours { &targets } else { &[] });
    }
    table.note(&task, "Peak resident memory is that of the largest process of each.".to_owned());
}

/// Lists a whole image through the link, without a cache.
pub(crate) fn list_through_the_link(world: &World, table: &mut Table) {
    for image in ["ml", images::SMALL] {
        let layers = world.images.layers(image);
        let all: u64 = layers.iter().map(|layer| layer.size).sum();
        let task = format!("Cold, list everything: {} layers, {} MB", layers.len(), all / 1_000_000);
        for transport in TRANSPORTS {
            let host = world.host(transport);
            let reference = format!("{}/{image}:latest", host.name);
            let is_listing = |printed: &[u8]| printed.windows(10).any(|text| text == b"etc/passwd");
            let ours = || {
                world.judged(
                    transport,
                    world.programs.ours(&host, None, &["peek", &reference, "--all"]),
                    is_listing,
                )
            };
            let mut candidates: Vec<Candidate<'_>> = vec![(OURS.to_owned(), Box::new(ours))];
            if world.programs.peer("crane").is_some() {
                let crane = || {
                    let command = world.programs.crane_list(&host, image).expect("crane");
                    world.judged(transport, command, is_listing)
                };
                candidates.push((CRANE.to_owned(), Box::new(crane)));
            }
            add(table, &task, transport, &world.compare(candidates), &[]);
        }
    }
}

/// The size of all TOCs, and the cost of a pass that makes them.
pub(crate) fn tocs(world: &World, table: &mut Table) {
    let host = world.direct();
    let reference = format!("{}/ml:latest", host.name);
    let cache = built_tocs(world, &host, &reference);
    let all: u64 = world.images.layers("ml").iter().map(|layer| layer.size).sum();
    sizes(cache.path(), all, table);

    let pass = format!("A pass over all {} MB that builds TOCs", all / 1_000_000);
    let peek = ["peek", &reference, "--all"];
    let with = || {
        let cache = tools::temporary_folder();
        resident(world.programs.ours(&host, Some(cache.path()), &peek))
    };
    let build = || {
        let cache = tools::temporary_folder();
        resident(world.programs.ours(&host, Some(cache.path()), &["toc", "build", &reference]))
    };
    let without = || resident(world.programs.ours(&host, None, &peek));
    let names @ [with_name, without_name, _] = ["peek --all, with TOCs", "peek --all, without", "toc build"];
    let runs: [Box<dyn FnMut() -> Run + '_>; 3] = [Box::new(with), Box::new(without), Box::new(build)];
    let candidates = names.iter().map(|name| format!("{OURS} {name}")).zip(runs).collect();
    let results = world.compare(candidates);
    let median = |name: &str| median_of(&results, &format!("{OURS} {name}"));
    let ratio = median(with_name) / median(without_name);
    let reach = "≤ 1.20 times a pass that builds none (medians)";
    table.figure(&pass, reach, &format!("{ratio:.2}"), ratio <= 1.2);
    for (name, runs) in &results {
        table.add(&pass, NO_LINK, name, runs, &[]);
    }
}

/// The size of the TOCs of `all` bytes of layers.
fn sizes(cache: &Path, all: u64, table: &mut Table) {
    let mut stored = Vec::new();
    stored_tocs(cache, &mut stored);
    let [mut whole, mut entries, mut spans, mut leaves] = [0_u64; 4];
    for toc in &stored {
        let footer = &toc[toc.len() - FOOTER..];
        let [entries_now, spans_now, windows_now] =
            [0, 8, 16].map(|at| u64::from_le_bytes(footer[at..at + 8].try_into().expect("eight bytes")));
        whole += toc.len() as u64;
        entries += entries_now;
        spans += spans_now + windows_now;
        // Includes a header of less than 128 bytes.
        leaves += (toc.len() - FOOTER) as u64 - entries_now - spans_now - windows_now;
    }
    let percent = |bytes: u64| 100.0 * bytes as f64 / all as f64;
    let task =
        format!("Size of the {} TOCs at 1 MiB spacing, as a share of {} MB", stored.len(), all / 1_000_000);
    let reach = |most: f64, what: &str, bytes: u64, table: &mut Table| {
        let share = percent(bytes);
        table.figure(&task, &format!("{what} ≤ {most} %"), &format!("{share:.3} %"), share <= most);
    };
    reach(0.9, "all", whole, table);
    reach(0.65, "spans with the digests of their bytes", spans + leaves, table);
    table.note(
        &task,
        format!(
            "Spans alone (checkpoints, windows, offsets where a read may end): {:.3} %; digests of the compressed bytes: {:.3} %; entries: \
             {:.3} %.",
            percent(spans),
            percent(leaves),
            percent(entries),
        ),
    );
}

/// A cache with the TOCs of an image.
fn built_tocs(world: &World, host: &Host, reference: &str) -> tempfile::TempDir {
    let cache = tools::temporary_folder();
    tools::run(&mut world.programs.ours(host, Some(cache.path()), &["toc", "build", reference]));
    cache
}

fn stored_tocs(folder: &Path, tocs: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            stored_tocs(&entry.path(), tocs);
        } else if kind.is_file() {
            let content = std::fs::read(entry.path()).expect("a file");
            if content.starts_with(MAGIC) {
                tocs.push(content);
            }
        }
    }
}

/// Curl and igzip, one blob after another.
fn igzip(world: &World, host: &Host, layers: &[Layer], then: &str) -> Command {
    let script = format!(r#"for url; do curl -sSf "$url" | igzip -d -c {then} || exit 1; done"#);
    let mut command = world.programs.shell(host, &script);
    for layer in layers {
        command.arg(format!("http://{}/v2/ml/blobs/{}", host.name, layer.digest));
    }
    command
}

/// Runs a command under GNU time, and discards its output.
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
    let status = timed.stdout(Stdio::null()).status().expect("time");
    let mut run = runs::of(start.elapsed());
    run.right = status.success();
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    run.resident = text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    run
}
