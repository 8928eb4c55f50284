//! The stored form of spans: lists of rows with each position relative to the one before. Leaves and windows are separate.
//!
//! ```text
//! summary  │ encoding, end; for a partial TOC how to resume
//! spans    │ positions, kind of start, length of the window
//! progress │ positions
//! ```

use std::io;

use super::{
    Error, HASH, Hashing, Header, Parts,
    columns::{Column, Rows, Section, bytes, number},
    invalid, section,
};
use crate::{
    decompress::Encoding,
    limits,
    offset::{Compressed, Position, Uncompressed},
    toc::{
        spans::{LEAF_BYTES, Resume, Span, Spans, Start, WindowRange},
        windows::StoredWindows,
    },
};

const SUMMARY: usize = 1;
const SPANS: usize = 5;
const PROGRESS: usize = 2;

/// The kinds of a span's start.
const START_DEFLATE: u8 = 0;
const START_FRAME: u8 = 1;
const START_MEMBER: u8 = 2;
const START_PLAIN: u8 = 3;

/// Writes everything but leaves and windows.
pub(super) fn store(spans: &Spans, out: &mut impl io::Write) -> io::Result<()> {
    check(spans).map_err(invalid)?;
    store_summary(spans, out)?;
    let mut rows: Rows<SPANS> = Rows::new();
    let mut before = Position::default();
    for span in &spans.spans {
        let [compressed, uncompressed, starts, leftovers, windows] = rows.columns();
        store_position(&mut before, span.at, compressed, uncompressed);
        starts.push(match span.start {
            Start::Deflate { bits, value, window } => {
                leftovers.extend([bits, value]);
                number(windows, window.length.into());
                START_DEFLATE
            }
            Start::Frame => START_FRAME,
            Start::Member => START_MEMBER,
            Start::Plain => START_PLAIN,
        });
        rows.end_row(out)?;
    }
    rows.end(out)?;
    let mut rows: Rows<PROGRESS> = Rows::new();
    let mut before = Position::default();
    for position in &spans.progress {
        let [compressed, uncompressed] = rows.columns();
        store_position(&mut before, *position, compressed, uncompressed);
        rows.end_row(out)?;
    }
    rows.end(out)
}

/// Writes the windows, span after span; returns their length in bytes.
pub(super) fn store_windows<W: io::Write>(spans: &Spans, out: &mut Hashing<W>) -> io::Result<u64> {
    let before = out.written;
    for span in &spans.spans {
        let Start::Deflate { window, .. } = span.start else { continue };
        if window.length > 0 {
            let encoded = spans.windows.read(window)?;
            if encoded.len() as u64 != u64::from(window.length) {
                return Err(invalid("a window with another length than in its store"));
            }
            io::Write::write_all(out, &encoded)?;
        }
    }
    Ok(out.written - before)
}

/// Reads the output of `store` and `store_windows`, and the leaves.
pub(super) fn load(parts: &Parts, header: &Header) -> Result<Spans, Error> {
    let mut section = section(&parts.spans, "stored spans")?;
    let (encoding, end, resume) = load_summary(&mut section)?;
    let (list, windows) = load_spans(&mut section)?;
    let progress = load_progress(&mut section)?;
    if resume.is_none() != header.complete {
        return Err(section.corrupt("an invalid place to resume"));
    }
    section.end()?;
    let (leaves, rest) = parts.leaves.as_chunks::<HASH>();
    if windows != parts.windows.len() as u64 || !rest.is_empty() {
        return Err(parts.corrupt("a wrong length of leaves or windows"));
    }
    let spans = Spans {
        encoding,
        spans: list,
        end,
        leaves: leaves.to_vec(),
        progress,
        windows: Box::new(StoredWindows(parts.windows.clone())),
        resume,
    };
    check(&spans).map_err(|what| parts.corrupt(what))?;
    Ok(spans)
}

/// Checks the invariants of all spans; returns the one that is violated.
fn check(spans: &Spans) -> Result<(), &'static str> {
    let Spans { encoding, spans: list, end, leaves, progress, resume, .. } = spans;
    let first = match encoding {
        Encoding::Gzip => Start::Member,
        Encoding::Plain => Start::Plain,
        Encoding::Zstd => Start::Frame,
    };
    if list.first() != Some(&Span { at: Position::default(), start: first }) {
        return Err("a first span that is not at the start of the blob");
    }
    if list.len() > limits::SPANS || progress.len() > limits::PROGRESS {
        return Err("too many spans or samples");
    }
    if !list.iter().all(|span| is_valid_start(*encoding, span.start)) {
        return Err("an invalid start of a span");
    }
    let ascend = |positions: &mut dyn Iterator<Item = Position>| {
        let mut before = Position::default();
        positions.chain([*end]).all(|at| {
            let ascends = at.compressed >= before.compressed && at.uncompressed >= before.uncompressed;
            before = at;
            ascends
        })
    };
    if !ascend(&mut list.iter().map(|span| span.at)) || !ascend(&mut progress.iter().copied()) {
        return Err("positions that do not ascend");
    }
    let ends = list.iter().skip(1).map(|span| span.at).chain(resume.is_none().then_some(*end));
    let lengths = list.iter().zip(ends).map(|(span, end)| end.compressed.0 - span.at.compressed.0);
    if lengths.map(|length| length.div_ceil(LEAF_BYTES)).sum::<u64>() != leaves.len() as u64 {
        return Err("a wrong number of leaves");
    }
    let Some(resume) = resume else { return Ok(()) };
    let states = [&resume.blob, &resume.unpacked].into_iter().flatten();
    if states.into_iter().any(|state| state.len() as u64 > limits::DIGEST_STATE_BYTES)
        || list.last().is_none_or(|last| last.at.uncompressed > resume.next_header)
    {
        return Err("an invalid place to resume");
    }
    Ok(())
}

fn is_valid_start(encoding: Encoding, start: Start) -> bool {
    match (encoding, start) {
        (Encoding::Gzip, Start::Deflate { bits, value, window }) => {
            bits < 8 && u32::from(value) >> bits == 0 && u64::from(window.length) <= limits::WINDOW_BYTES
        }
        (Encoding::Gzip, Start::Member)
        | (Encoding::Plain, Start::Plain)
        | (Encoding::Zstd, Start::Frame) => true,
        _ => false,
    }
}

fn store_summary(spans: &Spans, out: &mut impl io::Write) -> io::Result<()> {
    let mut rows: Rows<SUMMARY> = Rows::new();
    let [summary] = rows.columns();
    summary.push(match spans.encoding {
        Encoding::Gzip => 0,
        Encoding::Plain => 1,
        Encoding::Zstd => 2,
    });
    number(summary, spans.end.compressed.0);
    number(summary, spans.end.uncompressed.0);
    summary.push(u8::from(spans.resume.is_some()));
    if let Some(resume) = &spans.resume {
        number(summary, resume.next_header.0);
        for state in [&resume.blob, &resume.unpacked] {
            summary.push(u8::from(state.is_some()));
            bytes(summary, state.as_deref().unwrap_or_default());
        }
    }
    rows.end_row(out)?;
    rows.end(out)
}

fn load_summary(section: &mut Section<impl io::Read>) -> Result<(Encoding, Position, Option<Resume>), Error> {
    let Some((1, [mut summary])) = section.group::<SUMMARY>()? else {
        return Err(section.corrupt("a missing summary"));
    };
    let encoding = match summary.byte()? {
        0 => Encoding::Gzip,
        1 => Encoding::Plain,
        2 => Encoding::Zstd,
        _ => return Err(summary.corrupt("an unknown encoding")),
    };
    let end =
        Position { compressed: Compressed(summary.number()?), uncompressed: Uncompressed(summary.number()?) };
    let resume = match summary.number_to(1)? {
        0 => None,
        _ => Some(Resume {
            next_header: Uncompressed(summary.number()?),
            blob: load_state(&mut summary)?,
            unpacked: load_state(&mut summary)?,
        }),
    };
    summary.end()?;
    match section.group::<SUMMARY>()? {
        None => Ok((encoding, end, resume)),
        Some(_) => Err(section.corrupt("an invalid summary")),
    }
}

fn load_state(summary: &mut Column) -> Result<Option<Vec<u8>>, Error> {
    let is_present = summary.number_to(1)? == 1;
    let state = summary.bytes(limits::DIGEST_STATE_BYTES)?.to_vec();
    Ok(is_present.then_some(state))
}

/// The spans, and the total length of their windows.
fn load_spans(section: &mut Section<impl io::Read>) -> Result<(Vec<Span>, u64), Error> {
    let mut list = Vec::new();
    let (mut before, mut windows) = (Position::default(), 0);
    while let Some((rows, mut columns)) = section.group::<SPANS>()? {
        if list.len() + rows > limits::SPANS {
            return Err(section.corrupt("too many spans"));
        }
        for _ in 0..rows {
            let [compressed, uncompressed, starts, leftovers, lengths] = &mut columns;
            let at = load_position(&mut before, compressed, uncompressed)?;
            let start = match starts.byte()? {
                START_DEFLATE => {
                    let (bits, value) = (leftovers.byte()?, leftovers.byte()?);
                    let length = lengths.number_to(limits::WINDOW_BYTES)?;
                    let start = if length == 0 { 0 } else { windows };
                    windows += length;
                    Start::Deflate { bits, value, window: WindowRange { start, length: length as u32 } }
                }
                START_FRAME => Start::Frame,
                START_MEMBER => Start::Member,
                START_PLAIN => Start::Plain,
                _ => return Err(starts.corrupt("an unknown start of a span")),
            };
            list.push(Span { at, start });
        }
        columns.iter().try_for_each(Column::end)?;
    }
    Ok((list, windows))
}

fn load_progress(section: &mut Section<impl io::Read>) -> Result<Vec<Position>, Error> {
    let mut progress = Vec::new();
    let mut before = Position::default();
    while let Some((rows, mut columns)) = section.group::<PROGRESS>()? {
        if progress.len() + rows > limits::PROGRESS {
            return Err(section.corrupt("too many samples"));
        }
        for _ in 0..rows {
            let [compressed, uncompressed] = &mut columns;
            progress.push(load_position(&mut before, compressed, uncompressed)?);
        }
        columns.iter().try_for_each(Column::end)?;
    }
    Ok(progress)
}

fn store_position(before: &mut Position, at: Position, compressed: &mut Vec<u8>, uncompressed: &mut Vec<u8>) {
    number(compressed, at.compressed.0.wrapping_sub(before.compressed.0));
    number(uncompressed, at.uncompressed.0.wrapping_sub(before.uncompressed.0));
    *before = at;
}

fn load_position(
    before: &mut Position,
    compressed: &mut Column,
    uncompressed: &mut Column,
) -> Result<Position, Error> {
    *before = Position {
        compressed: Compressed(before.compressed.0.wrapping_add(compressed.number()?)),
        uncompressed: Uncompressed(before.uncompressed.0.wrapping_add(uncompressed.number()?)),
    };
    Ok(*before)
}
