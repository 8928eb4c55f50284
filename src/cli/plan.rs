//! `--dry-run`: prints the reads that would be made.

use std::io::{self, Write};

use layerslayer::{Image, PlannedRead, ReadMethod};

use super::{
    console::Console,
    exit::Failure,
    output::{Listing as _, facts::ImageFacts, json::Json},
};

/// Prints a plan.
pub(crate) fn print(
    image: &Image,
    facts: &ImageFacts,
    reads: &[PlannedRead],
    is_json: bool,
    console: &Console,
) -> Result<(), Failure> {
    let mut out = console.stdout()?;
    let written =
        if is_json { print_json(&mut out, image, facts, reads) } else { print_text(&mut out, image, reads) };
    written.and_then(|()| out.flush()).map_err(|error| Failure::writing("stdout", &error))
}

fn print_json(
    out: &mut (impl Write + Send),
    image: &Image,
    facts: &ImageFacts,
    reads: &[PlannedRead],
) -> io::Result<()> {
    let mut lines = Json::new(out);
    lines.image(facts)?;
    for read in reads {
        lines.plan(read, &digest(image, read))?;
    }
    lines.end()
}

fn print_text(out: &mut impl Write, image: &Image, reads: &[PlannedRead]) -> io::Result<()> {
    for read in reads {
        let prefix = if read.is_certain { "" } else { "then perhaps " };
        let PlannedRead { layer, method, .. } = read;
        write!(out, "{prefix}layer {layer} {}: {method}, {}", digest(image, read), cost(read))?;
        let first = if is_exact(read) { "" } else { "first " };
        for (index, range) in read.ranges.iter().enumerate() {
            let before = if index == 0 { format!(": {first}") } else { ", ".to_owned() };
            write!(out, "{before}{}..{}", range.start, range.end)?;
        }
        writeln!(out)?;
    }
    let bytes = reads.iter().map(|read| read.bytes).fold(0, u64::saturating_add);
    let requests = reads.iter().map(|read| read.requests).sum::<Option<u64>>();
    writeln!(out, "{}", total(requests, bytes))
}

/// Whether `ranges` cover all bytes.
fn is_exact(read: &PlannedRead) -> bool {
    let known = read.ranges.iter().map(|range| range.end - range.start).fold(0, u64::saturating_add);
    known == read.bytes
}

fn cost(read: &PlannedRead) -> String {
    let bytes = read.bytes;
    match read.requests {
        Some(requests) if is_exact(read) => format!("{}, {bytes} bytes", counted(requests)),
        Some(requests) => format!("at most {}, {bytes} bytes", counted(requests)),
        None if read.method != ReadMethod::Chunks => format!("at most {bytes} bytes"),
        None => format!("the TOC, then the ranges it gives, at most {bytes} bytes"),
    }
}

fn total(requests: Option<u64>, bytes: u64) -> String {
    match requests {
        Some(requests) => format!("at most {}, {bytes} bytes of layers", counted(requests)),
        None => format!("at most {bytes} bytes of layers"),
    }
}

fn counted(requests: u64) -> String {
    if requests == 1 { "1 request".to_owned() } else { format!("{requests} requests") }
}

fn digest(image: &Image, read: &PlannedRead) -> String {
    image.layers().get(read.layer).map(|layer| layer.digest().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_count_requests_only_if_known() {
        assert_eq!(total(Some(1), 7), "at most 1 request, 7 bytes of layers");
        assert_eq!(total(Some(0), 0), "at most 0 requests, 0 bytes of layers");
        assert_eq!(total(None, 7), "at most 7 bytes of layers");
    }
}
