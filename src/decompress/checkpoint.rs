//! Places where decoding can begin in the middle of a blob.

use crate::offset::Position;

/// A place where decoding can begin without what lies before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Checkpoint {
    /// The first byte of the blob that decoding needs from here on, and the first unpacked byte that it yields.
    pub(crate) at: Position,
    /// What else it needs.
    pub(crate) restart: Restart,
}

/// What a decoder must be given to begin at a [`Checkpoint`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Restart {
    /// Between two deflate blocks of a gzip member (RFC 1951).
    Deflate {
        /// How many bits of the byte before the checkpoint belong to the next block, `0..=7`.
        bits: u8,
        /// Those bits, in the low end.
        value: u8,
        /// The last unpacked bytes of the member before the checkpoint, at most 32 KiB. Bytes that nothing refers to may be 0.
        window: Vec<u8>,
    },
    /// At the start of a zstd frame (RFC 8878).
    Frame,
    /// At the start of a gzip member (RFC 1952).
    Member,
    /// Anywhere in a blob that is not compressed.
    Plain,
}
