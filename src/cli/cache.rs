//! `layerslayer cache`: shows, shrinks or clears the cache.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    process::ExitCode,
};

use layerslayer::{Cache, CacheError, CacheOptions, CachedToc, Removed};
use serde::Serialize;

use super::{
    args::{CacheAction, CacheArguments},
    console::Console,
    exit::{Exit, Failure, chain},
    output::{json::SCHEMA, text, time},
};

/// Runs `cache`.
pub(crate) fn main(arguments: &CacheArguments) -> ExitCode {
    let console = Console::new(false, false);
    match run(arguments, &console) {
        Ok(()) => ExitCode::from(Exit::Done.code()),
        Err(failure) => {
            failure.messages.iter().for_each(|message| console.error(message));
            ExitCode::from(failure.exit.code())
        }
    }
}

fn run(arguments: &CacheArguments, console: &Console) -> Result<(), Failure> {
    let options = CacheOptions::from_environment().map_err(failed)?;
    let open = || Cache::open(&options).map_err(failed);
    let mut out = console.stdout()?;
    let written = match arguments.action {
        CacheAction::Clear => print_removed(&mut out, open()?.clear().map_err(failed)?),
        CacheAction::Gc { size } => {
            let size = size.unwrap_or_else(|| options.capacity());
            print_removed(&mut out, open()?.shrink(size).map_err(failed)?)
        }
        CacheAction::Ls { json: false } => print_text(&mut out, &open()?.tocs().map_err(failed)?),
        CacheAction::Ls { json: true } => {
            let cache = open()?;
            print_json(&mut out, &cache, &cache.tocs().map_err(failed)?)
        }
        CacheAction::Path => {
            let path = options.directory().map_err(failed)?;
            out.write_all(path.as_os_str().as_bytes()).and_then(|()| out.write_all(b"\n"))
        }
    };
    written.and_then(|()| out.flush()).map_err(|error| Failure::writing("stdout", &error))
}

fn failed(error: CacheError) -> Failure {
    let exit = if error.is_setting() { Exit::Usage } else { Exit::Other };
    Failure::new(exit, chain(&error))
}

fn print_removed(out: &mut impl Write, removed: Removed) -> io::Result<()> {
    let files = if removed.files == 1 { "file" } else { "files" };
    writeln!(out, "removed {} {files}, {}", removed.files, text::size(removed.bytes))
}

/// Prints the cached TOCs as text.
fn print_text(out: &mut impl Write, tocs: &[CachedToc]) -> io::Result<()> {
    for toc in tocs {
        let entries = match (toc.entries, toc.complete) {
            (Some(entries), Some(true)) => format!("{entries} entries"),
            (Some(entries), _) => format!("{entries} entries, incomplete"),
            (None, _) => "not readable".to_owned(),
        };
        let used = time::minute(time::of(toc.used));
        writeln!(out, "{}  {:>8}  {used}  {entries}", toc.digest, text::size(toc.size))?;
    }
    Ok(())
}

/// Prints the cached TOCs as JSON Lines.
fn print_json(out: &mut impl Write, cache: &Cache, tocs: &[CachedToc]) -> io::Result<()> {
    let path = cache.path().to_string_lossy();
    line(out, &Head { kind: "cache", schema: SCHEMA, path: &path, capacity: cache.capacity() })?;
    for toc in tocs {
        line(
            out,
            &TocLine {
                kind: "table",
                layer: toc.digest.to_string(),
                size: toc.size,
                entries: toc.entries,
                complete: toc.complete,
                used: time::rfc3339(time::of(toc.used)),
            },
        )?;
    }
    line(out, &End { kind: "end", complete: true })
}

fn line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

#[derive(Serialize)]
struct Head<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    schema: u32,
    path: &'a str,
    capacity: u64,
}

#[derive(Serialize)]
struct TocLine {
    #[serde(rename = "type")]
    kind: &'static str,
    layer: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
}

#[derive(Serialize)]
struct End {
    #[serde(rename = "type")]
    kind: &'static str,
    complete: bool,
}
