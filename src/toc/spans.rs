//! Spans: ranges of a blob that can be decoded one by one, with digests of their bytes.
//!
//! ```text
//! blob     │ span 0            │ span 1       │ span 2 …        a checkpoint each, about one per MiB unpacked
//! leaves   │ 64K │ 64K │ rest  │ 64K │ rest   │                 SHA-256 each, starting at the span's start
//! progress ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·                  (compressed, uncompressed): where a read may end
//! ```

use std::{fmt, io, ops::Range};

use crate::{
    decompress::{Checkpoint, Encoding, Restart, window},
    offset::{Compressed, Position, Uncompressed},
};

/// Compressed bytes that one digest covers; the last leaf of a span may be shorter.
pub(crate) const LEAF_BYTES: u64 = 64 << 10;

/// How a layer's blob can be read in parts.
#[derive(Debug)]
pub(crate) struct Spans {
    /// The blob's compression.
    pub(crate) encoding: Encoding,
    /// In the order of the blob, the first at its start.
    pub(crate) spans: Vec<Span>,
    /// How far the blob was read. After a whole pass: its size and that of the unpacked layer.
    pub(crate) end: Position,
    /// SHA-256 of the leaves, span after span. After a partial pass, the last span is open and has none.
    pub(crate) leaves: Vec<[u8; 32]>,
    /// In ascending order: decoding needs no byte from `compressed` on to yield all bytes before `uncompressed`.
    pub(crate) progress: Vec<Position>,
    /// The encoded windows of the spans.
    pub(crate) windows: Box<dyn WindowStore>,
    /// After a partial pass: how to resume from the start of the last span.
    pub(crate) resume: Option<Resume>,
}

impl Spans {
    /// The last span that starts at or before an unpacked byte.
    pub(crate) fn span_at(&self, at: Uncompressed) -> Option<usize> {
        self.spans.partition_point(|span| span.at.uncompressed <= at).checked_sub(1)
    }

    /// Where a read of the unpacked bytes before `end` may end: after a whole leaf, or at the end of the blob.
    pub(crate) fn read_end(&self, end: Uncompressed) -> Compressed {
        let after = match self.encoding {
            Encoding::Plain => Compressed(end.0.min(self.end.compressed.0)),
            Encoding::Gzip | Encoding::Zstd => {
                let sample = self.progress.partition_point(|position| position.uncompressed < end);
                let span = self.spans.partition_point(|span| span.at.uncompressed < end);
                let sample = self.progress.get(sample).map_or(self.end.compressed, |at| at.compressed);
                sample.min(self.spans.get(span).map_or(self.end.compressed, |span| span.at.compressed))
            }
        };
        let span = self.spans.partition_point(|span| span.at.compressed < after).checked_sub(1);
        let Some(span) = span.map(|index| self.compressed_range(index)) else { return after };
        let leaves = (after.0 - span.start.0).div_ceil(LEAF_BYTES);
        let whole = span.start.0.saturating_add(leaves.saturating_mul(LEAF_BYTES));
        Compressed(whole.min(span.end.0).max(after.0))
    }

    /// A span's range of the blob; empty if there is no such span.
    pub(crate) fn compressed_range(&self, index: usize) -> Range<Compressed> {
        let start = self.spans.get(index).map_or(self.end.compressed, |span| span.at.compressed);
        let next = index.checked_add(1).and_then(|next| self.spans.get(next));
        start..next.map_or(self.end.compressed, |span| span.at.compressed).max(start)
    }

    /// Drops everything after the start of a span, which becomes the last one and is open.
    pub(crate) fn reopen(&mut self, last: usize) {
        self.spans.truncate(last.saturating_add(1));
        let closed =
            (0..self.spans.len().saturating_sub(1)).map(|index| leaf_count(&self.compressed_range(index)));
        let closed = closed.sum::<u64>();
        self.leaves.truncate(usize::try_from(closed).unwrap_or(usize::MAX));
    }

    /// The checkpoint at a span's start, with its window unpacked.
    ///
    /// # Errors
    ///
    /// Those of the window store; invalid data if the window is damaged or there is no such span.
    pub(crate) fn checkpoint(&self, index: usize) -> io::Result<Checkpoint> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let span = self.spans.get(index).ok_or_else(|| invalid(format!("there is no span {index}")))?;
        let restart = match span.start {
            Start::Deflate { bits, value, window: range } => {
                let packed = if range.length == 0 { Vec::new() } else { self.windows.read(range)? };
                let window = window::decode(&packed)
                    .ok_or_else(|| invalid(format!("the window at {} is damaged", span.at.compressed)))?;
                Restart::Deflate { bits, value, window }
            }
            Start::Frame => Restart::Frame,
            Start::Member => Restart::Member,
            Start::Plain => Restart::Plain,
        };
        Ok(Checkpoint { at: span.at, restart })
    }

    /// The digests of a span's leaves; empty for the open last span of a partial pass.
    #[cfg(test)]
    pub(crate) fn leaf_digests(&self, index: usize) -> &[[u8; 32]] {
        let before = (0..index).map(|index| leaf_count(&self.compressed_range(index))).sum::<u64>();
        let count = leaf_count(&self.compressed_range(index));
        let range = usize::try_from(before).ok().zip(usize::try_from(count).ok());
        range.and_then(|(start, count)| self.leaves.get(start..start.checked_add(count)?)).unwrap_or_default()
    }
}

/// The number of leaves in a range from the start of a span to the end of a span.
pub(super) fn leaf_count(range: &Range<Compressed>) -> u64 {
    range.end.0.saturating_sub(range.start.0).div_ceil(LEAF_BYTES)
}

/// One span. It ends where the next one starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    /// Its start.
    pub(crate) at: Position,
    /// How to start there.
    pub(crate) start: Start,
}

/// A [`Restart`](crate::decompress::Restart) whose window is in a [`WindowStore`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// Between two deflate blocks.
    Deflate {
        /// How many bits of the byte before the span belong to its first block, `0..=7`.
        bits: u8,
        /// These bits, in the low end.
        value: u8,
        /// Its encoded window in the store.
        window: WindowRange,
    },
    /// At a zstd frame.
    Frame,
    /// At a gzip member.
    Member,
    /// In an uncompressed blob.
    Plain,
}

/// A range of a [`WindowStore`]. Empty if no byte of the window is needed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct WindowRange {
    /// First byte.
    pub(crate) start: u64,
    /// Length in bytes.
    pub(crate) length: u32,
}

/// A store of encoded windows. They are many, and most are never read.
pub(crate) trait WindowStore: fmt::Debug + Send + Sync {
    /// Adds one.
    fn push(&mut self, encoded: &[u8]) -> io::Result<WindowRange>;

    /// Reads one.
    fn read(&self, window: WindowRange) -> io::Result<Vec<u8>>;
}

/// How to resume a partial pass from the start of the last span.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Resume {
    /// Start of the first entry that was not decoded when the last span started. The tree may contain later entries, from
    /// bytes that were not hashed yet.
    pub(crate) next_header: Uncompressed,
    /// The state of the blob's digest at the start of the last span, if it is computed.
    pub(crate) blob: Option<Vec<u8>>,
    /// The state of the DiffID there, if it is computed.
    pub(crate) unpacked: Option<Vec<u8>>,
}
