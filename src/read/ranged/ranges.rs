//! Which ranges of a blob to request: pure functions.

use std::ops::Range;

use crate::{
    offset::{Compressed, Uncompressed},
    toc::{chunks::Chunk, soci::Ztoc, spans::Spans},
};

/// Ranges with at most this many unwanted bytes between them are read as one.
const GAP_BYTES: u64 = 64 << 10;

/// An entry whose content is wanted, by its place in the unpacked layer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct EntryExtent {
    /// Its first header.
    pub(crate) header: Uncompressed,
    /// The end of its stored content.
    pub(crate) end: Uncompressed,
}

/// One range to read, and what to decode of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CoalescedRange<T> {
    /// The range.
    pub(crate) range: Range<Compressed>,
    /// What is wanted of it, in ascending order, never nothing.
    pub(crate) wanted: Vec<T>,
}

/// The ranges that hold entries, each starting with a span. The end of content that no pass has decoded yet is not known: its
/// range ends with the blob, which has `size` bytes.
pub(crate) fn span_ranges(
    spans: &Spans,
    size: u64,
    mut wanted: Vec<EntryExtent>,
) -> Vec<CoalescedRange<EntryExtent>> {
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
pub(crate) fn ztoc_ranges(ztoc: &Ztoc, mut wanted: Vec<EntryExtent>) -> Vec<CoalescedRange<EntryExtent>> {
    wanted.sort_unstable();
    let placed = wanted.into_iter().filter_map(|wanted| {
        let spans = ztoc.covering(wanted.header..wanted.end);
        let start = ztoc.compressed(spans.start)?.start;
        let end = ztoc.compressed(spans.end.checked_sub(1)?)?.end;
        Some((start..end.max(start), wanted))
    });
    coalesce(placed)
}

/// The ranges that hold files, each given with its chunks.
pub(crate) fn chunk_ranges<'a, T>(
    wanted: impl IntoIterator<Item = (T, &'a [Chunk])>,
) -> Vec<CoalescedRange<(T, &'a [Chunk])>> {
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

/// Merges ranges, sorted by their starts, where the gap between them is small.
fn coalesce<T>(placed: impl IntoIterator<Item = (Range<Compressed>, T)>) -> Vec<CoalescedRange<T>> {
    let mut ranges: Vec<CoalescedRange<T>> = Vec::new();
    for (range, wanted) in placed {
        match ranges.last_mut() {
            // The place of an empty range means nothing.
            Some(last)
                if !last.range.is_empty() && range.start.0 <= last.range.end.0.saturating_add(GAP_BYTES) =>
            {
                last.range.end = last.range.end.max(range.end);
                last.wanted.push(wanted);
            }
            _ => ranges.push(CoalescedRange { range, wanted: vec![wanted] }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> Range<Compressed> {
        Compressed(start)..Compressed(end)
    }

    fn merged(ranges: &[(u64, u64)]) -> Vec<(u64, u64, usize)> {
        let placed = ranges.iter().map(|(start, end)| (range(*start, *end), ()));
        let ranges = coalesce(placed);
        ranges.iter().map(|s| (s.range.start.0, s.range.end.0, s.wanted.len())).collect()
    }

    #[test]
    fn ranges_that_overlap_or_are_within_64_kib_are_read_as_one() {
        const GAP: u64 = 64 << 10;
        assert_eq!(merged(&[]), []);
        assert_eq!(merged(&[(10, 20)]), [(10, 20, 1)]);
        assert_eq!(merged(&[(10, 20), (15, 18), (20, 30)]), [(10, 30, 3)]);
        assert_eq!(merged(&[(10, 20), (20 + GAP, 90_000)]), [(10, 90_000, 2)]);
        assert_eq!(merged(&[(10, 20), (21 + GAP, 90_000)]), [(10, 20, 1), (21 + GAP, 90_000, 1)]);
    }

    #[test]
    fn files_are_read_in_the_order_of_the_blob() {
        let chunk = |start, end| Chunk { compressed: range(start, end), skip: 0, size: 1, digest: None };
        let (near, far) = ([chunk(0, 9)], [chunk(1 << 20, (1 << 20) + 5), chunk((1 << 20) + 5, 2 << 20)]);
        let ranges = chunk_ranges([("far", &far[..]), ("near", &near[..])]);
        let names: Vec<_> = ranges.iter().map(|s| (s.wanted[0].0, s.range.clone())).collect();
        assert_eq!(names, [("near", range(0, 9)), ("far", range(1 << 20, 2 << 20))]);
    }

    #[test]
    fn a_file_without_content_is_read_and_adds_no_byte() {
        let (empty, file) = ([], [Chunk { compressed: range(50, 90), skip: 0, size: 1, digest: None }]);
        let ranges = chunk_ranges([("file", &file[..]), ("empty", &empty[..])]);
        let found: Vec<_> = ranges.iter().map(|s| (s.wanted[0].0, s.range.clone())).collect();
        assert_eq!(found, [("empty", range(0, 0)), ("file", range(50, 90))]);
    }

    #[test]
    fn a_file_of_zeros_only_needs_no_byte() {
        let zeros = [Chunk { compressed: range(7, 7), skip: 0, size: 100, digest: None }];
        let ranges = chunk_ranges([((), &zeros[..])]);
        assert!(ranges[0].range.is_empty());
    }
}
