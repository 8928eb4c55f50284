//! Whole images, and what tables cost.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use super::{
    super::{
        images::Layer,
        programs::Host,
        runs::{self, Run},
        table::{Table, Target},
        tools,
        world::{Candidate, World},
    },
    OURS, median_of,
};

const CRANE: &str = "crane export \\| tar t";
const IGZIP: &str = "curl \\| igzip -d, one by one";

/// Everything that is in the image, as fast as this machine can.
pub(crate) fn list_everything(world: &World, table: &mut Table) {
    let host = world.direct();
    let layers = world.images.layers("ml");
    let all: u64 = layers.iter().map(|layer| layer.size).sum();
    let reference = format!("{}/ml:latest", host.name);
    let peek = ["peek", &reference, "--all"];
    let built = built_tables(world, &host, &reference);
    let ours = format!("{OURS}, tables built");

    let mut candidates: Vec<Candidate<'_>> = Vec::new();
    if let Some(cache) = &built {
        candidates.push((
            ours.clone(),
            Box::new(|| resident(world.programs.ours(&host, Some(cache.path()), &peek))),
        ));
    }
    let run = || resident(world.programs.ours(&host, None, &peek));
    candidates.push((format!("{OURS}, no tables"), Box::new(run)));
    if world.programs.peer("crane").is_some() {
        let run = || resident(world.programs.crane_list(&host, "ml").expect("crane"));
        candidates.push((CRANE.to_owned(), Box::new(run)));
    }
    if tools::try_run(Command::new("igzip").arg("--version")).is_ok() {
        let run = || resident(igzip(world, &host, &layers));
        candidates.push((IGZIP.to_owned(), Box::new(run)));
    } else {
        eprintln!("no igzip here (Debian's package isal): left out");
    }
    let results = world.compare(candidates);

    let task = format!("list everything, {} MB, no link limit", all / 1_000_000);
    let targets = [
        Target::seconds(median_of(&results, CRANE) / 7.0),
        Target::seconds(median_of(&results, IGZIP)),
        Target::resident(96.0),
    ];
    if built.is_none() {
        let reach = "≤ 1/7 of crane \\| tar, ≤ 1.0 × curl \\| igzip, ≤ 96 MiB resident";
        table.not_yet(&format!("{task}, tables built"), reach, "not yet: no `toc build`");
    }
    for (name, runs) in &results {
        table.add(&task, "http", name, runs, if *name == ours { &targets } else { &[] });
    }
}

/// The size of all tables, and what a pass costs that makes them.
pub(crate) fn tables(world: &World, table: &mut Table) {
    let size = "size of all tables at 1 MiB spacing, as a share of the layers";
    let pass = "a streaming pass that makes tables against one that does not";
    let host = world.direct();
    let reference = format!("{}/ml:latest", host.name);
    let Some(cache) = built_tables(world, &host, &reference) else {
        table.not_yet(size, "≤ 0.9 %, spans ≤ 0.65 %", "not yet: no `toc build`");
        table.not_yet(pass, "≤ 1.20 ×", "not yet: no `toc build`");
        return;
    };
    let all: u64 = world.images.layers("ml").iter().map(|layer| layer.size).sum();
    let share = 100.0 * bytes_below(cache.path()) as f64 / all as f64;
    table.note(size, "≤ 0.9 %", &format!("{share:.2} %"), share <= 0.9);

    let peek = ["peek", &reference, "--all"];
    let with = || {
        let cache = tools::temporary_folder();
        resident(world.programs.ours(&host, Some(cache.path()), &peek))
    };
    let without = || resident(world.programs.ours(&host, None, &peek));
    let candidates: Vec<Candidate<'_>> =
        vec![("with".to_owned(), Box::new(with)), ("without".to_owned(), Box::new(without))];
    let results = world.compare(candidates);
    let target = Target::seconds(1.2 * median_of(&results, "without"));
    for (name, runs) in &results {
        let targets: &[Target] = if name == "with" { std::slice::from_ref(&target) } else { &[] };
        table.add(pass, "http", &format!("{OURS}, {name}"), runs, targets);
    }
}

/// A cache with the tables of an image; `None` while the program cannot build them.
fn built_tables(world: &World, host: &Host, reference: &str) -> Option<tempfile::TempDir> {
    let cache = world.programs.has_subcommand("toc", "build").then(tools::temporary_folder)?;
    tools::run(&mut world.programs.ours(host, Some(cache.path()), &["toc", "build", reference]));
    Some(cache)
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
        _ => 0,
    });
    sizes.sum()
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
    let status = timed.stdout(Stdio::null()).status().expect("time");
    let mut run = runs::of(start.elapsed());
    run.right = status.success();
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    run.resident = text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    run
}
