//! Which bytes of a blob to ask for: decided here, without asking for any.

use std::{fmt, ops::Range};

use crate::{
    offset::{Compressed, Uncompressed},
    toc::{chunks::Chunk, soci::Ztoc, spans::Spans},
};

/// Ranges with at most this many unwanted bytes between them are read as one.
const GAP_BYTES: u64 = 64 << 10;

/// How the bytes of an answer were come by.
///
/// ```
/// assert_eq!(layerslayer::Plan::Toc.to_string(), "toc");
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Plan {
    /// By a table of files inside the blob: eStargz or zstd:chunked.
    Chunks,
    /// A plain tar was read from header to header.
    Hop,
    /// The layer was streamed from its start until the answer was known.
    Scan,
    /// By a SOCI index.
    Soci,
    /// By a table of contents that an earlier pass has left.
    Toc,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chunks => "chunks",
            Self::Hop => "hop",
            Self::Scan => "scan",
            Self::Soci => "soci",
            Self::Toc => "toc",
        })
    }
}

/// An entry whose content is wanted, by where it lies in the unpacked layer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Wanted {
    /// Its first header.
    pub(crate) header: Uncompressed,
    /// The end of its stored content.
    pub(crate) end: Uncompressed,
}

/// One range to read, and what to decode of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Stretch<T> {
    /// The range.
    pub(crate) range: Range<Compressed>,
    /// What is wanted of it, in ascending order, never nothing.
    pub(crate) wanted: Vec<T>,
}

/// The stretches that hold entries, each from the start of a span on. Content beyond what was ever decoded of the blob, which has
/// `size` bytes, ends nobody knows where: its stretch ends with the blob.
pub(crate) fn span_stretches(spans: &Spans, size: u64, mut wanted: Vec<Wanted>) -> Vec<Stretch<Wanted>> {
    wanted.sort_unstable();
    let placed = wanted.into_iter().filter_map(|wanted| {
        let span = spans.spans.get(spans.span_at(wanted.header)?)?;
        let start = span.at.compressed;
        let is_seen = wanted.end <= spans.end.uncompressed;
        let end = if is_seen { spans.read_end(wanted.end) } else { Compressed(size) };
        Some((start..end.max(start), wanted))
    });
    coalesce(placed)
}

/// The same by the spans of a SOCI index, which are read whole.
pub(crate) fn ztoc_stretches(ztoc: &Ztoc, mut wanted: Vec<Wanted>) -> Vec<Stretch<Wanted>> {
    wanted.sort_unstable();
    let placed = wanted.into_iter().filter_map(|wanted| {
        let spans = ztoc.covering(wanted.header..wanted.end);
        let start = ztoc.compressed(spans.start)?.start;
        let end = ztoc.compressed(spans.end.checked_sub(1)?)?.end;
        Some((start..end.max(start), wanted))
    });
    coalesce(placed)
}

/// The stretches that hold files, each given with its chunks.
pub(crate) fn chunk_stretches<'a, T>(
    wanted: impl IntoIterator<Item = (T, &'a [Chunk])>,
) -> Vec<Stretch<(T, &'a [Chunk])>> {
    let range = |chunks: &[Chunk]| {
        let stored = || chunks.iter().map(|chunk| &chunk.compressed).filter(|range| !range.is_empty());
        let start = stored().map(|range| range.start).min().unwrap_or_default();
        start..stored().map(|range| range.end).max().unwrap_or(start)
    };
    let mut placed: Vec<_> =
        wanted.into_iter().map(|(file, chunks)| (range(chunks), (file, chunks))).collect();
    placed.sort_by_key(|(range, _)| (range.start, range.end));
    coalesce(placed)
}

/// Merges ranges, which ascend by their starts, wherever little lies between them.
fn coalesce<T>(placed: impl IntoIterator<Item = (Range<Compressed>, T)>) -> Vec<Stretch<T>> {
    let mut stretches: Vec<Stretch<T>> = Vec::new();
    for (range, wanted) in placed {
        match stretches.last_mut() {
            // Where what needs no byte lies means nothing.
            Some(last)
                if !last.range.is_empty() && range.start.0 <= last.range.end.0.saturating_add(GAP_BYTES) =>
            {
                last.range.end = last.range.end.max(range.end);
                last.wanted.push(wanted);
            }
            _ => stretches.push(Stretch { range, wanted: vec![wanted] }),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range<Compressed> {
        Compressed(start)..Compressed(end)
    }

    fn merged(ranges: &[(u64, u64)]) -> Vec<(u64, u64, usize)> {
        let placed = ranges.iter().map(|(start, end)| (range(*start, *end), ()));
        let stretches = coalesce(placed);
        stretches.iter().map(|s| (s.range.start.0, s.range.end.0, s.wanted.len())).collect()
    }

    #[test]
    fn ranges_that_overlap_or_lie_within_64_kib_are_read_as_one() {
        const GAP: u64 = 64 << 10;
        assert_eq!(merged(&[]), []);
        assert_eq!(merged(&[(10, 20)]), [(10, 20, 1)]);
        assert_eq!(merged(&[(10, 20), (15, 18), (20, 30)]), [(10, 30, 3)]);
        assert_eq!(merged(&[(10, 20), (20 + GAP, 90_000)]), [(10, 90_000, 2)]);
        assert_eq!(merged(&[(10, 20), (21 + GAP, 90_000)]), [(10, 20, 1), (21 + GAP, 90_000, 1)]);
    }

    #[test]
    fn files_are_read_in_the_order_of_the_blob_whatever_order_they_are_asked_in() {
        let chunk = |start, end| Chunk { compressed: range(start, end), skip: 0, size: 1, digest: None };
        let (near, far) = ([chunk(0, 9)], [chunk(1 << 20, (1 << 20) + 5), chunk((1 << 20) + 5, 2 << 20)]);
        let stretches = chunk_stretches([("far", &far[..]), ("near", &near[..])]);
        let names: Vec<_> = stretches.iter().map(|s| (s.wanted[0].0, s.range.clone())).collect();
        assert_eq!(names, [("near", range(0, 9)), ("far", range(1 << 20, 2 << 20))]);
    }

    #[test]
    fn a_file_without_content_is_read_and_adds_no_byte() {
        let (empty, file) = ([], [Chunk { compressed: range(50, 90), skip: 0, size: 1, digest: None }]);
        let stretches = chunk_stretches([("file", &file[..]), ("empty", &empty[..])]);
        let found: Vec<_> = stretches.iter().map(|s| (s.wanted[0].0, s.range.clone())).collect();
        assert_eq!(found, [("empty", range(0, 0)), ("file", range(50, 90))]);
    }

    #[test]
    fn a_file_of_zeros_only_needs_no_byte() {
        let zeros = [Chunk { compressed: range(7, 7), skip: 0, size: 100, digest: None }];
        let stretches = chunk_stretches([((), &zeros[..])]);
        assert!(stretches[0].range.is_empty());
    }
}
