//! Spans: the pieces of a blob that can be decoded one by one, with what vouches for their bytes.
//!
//! ```text
//! blob     │ span 0            │ span 1       │ span 2 …        a checkpoint each, about one per MiB unpacked
//! leaves   │ 64K │ 64K │ rest  │ 64K │ rest   │                 SHA-256 each, anchored at the span's start
//! progress ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·                  (compressed, uncompressed): where a read may end
//! ```

#![allow(dead_code, reason = "the rooms that read and write this follow")]

use std::{fmt, io};

use crate::{
    decompress::Encoding,
    offset::{Position, Uncompressed},
};

/// Compressed bytes that one digest vouches for; the last leaf of a span may be shorter.
pub(crate) const LEAF_BYTES: u64 = 64 << 10;

/// How a layer's blob can be read in parts.
#[derive(Debug)]
pub(crate) struct Spans {
    /// How the blob is compressed.
    pub(crate) encoding: Encoding,
    /// In the order of the blob, the first at its start.
    pub(crate) spans: Vec<Span>,
    /// How far the blob was read: its size and that of the unpacked layer after a whole pass.
    pub(crate) end: Position,
    /// SHA-256 of the leaves, span after span. Of a pass that stopped early: of all spans but the last, which is open.
    pub(crate) leaves: Vec<[u8; 32]>,
    /// In ascending order: to have all bytes before `uncompressed`, decoding needs none from `compressed` on.
    pub(crate) progress: Vec<Position>,
    /// The encoded windows that spans refer to.
    pub(crate) windows: Box<dyn WindowStore>,
    /// Of a pass that stopped early: how to go on from the start of the last span.
    pub(crate) resume: Option<Resume>,
}

/// One span: it ends where the next one begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    /// Where it begins.
    pub(crate) at: Position,
    /// How to begin there.
    pub(crate) start: Start,
}

/// [`Restart`](crate::decompress::Restart) with its window elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Start {
    /// Between two deflate blocks.
    Deflate {
        /// How many bits of the byte before belong to the next block, `0..=7`.
        bits: u8,
        /// Those bits, in the low end.
        value: u8,
        /// Where its encoded window lies in the store.
        window: WindowRange,
    },
    /// At a zstd frame.
    Frame,
    /// At a gzip member.
    Member,
    /// In a blob that is not compressed.
    Plain,
}

/// A place in a [`WindowStore`]. Empty where no byte of the window is needed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct WindowRange {
    /// First byte.
    pub(crate) start: u64,
    /// Length in bytes.
    pub(crate) length: u32,
}

/// Encoded windows, wherever they lie: they are many, and most are never asked for.
pub(crate) trait WindowStore: fmt::Debug + Send + Sync {
    /// Adds one.
    fn push(&mut self, encoded: &[u8]) -> io::Result<WindowRange>;

    /// Reads one.
    fn read(&self, window: WindowRange) -> io::Result<Vec<u8>>;
}

/// How a pass that stopped early goes on from the start of the last span.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Resume {
    /// Where the first entry begins that is not in the table.
    pub(crate) next_header: Uncompressed,
    /// The saved state of the blob's digest at the start of the last span, where it is being computed.
    pub(crate) blob: Option<Vec<u8>>,
    /// The saved state of the DiffID there, where it is being computed.
    pub(crate) unpacked: Option<Vec<u8>>,
}
