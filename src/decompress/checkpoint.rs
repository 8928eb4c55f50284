//! Checkpoints: points where decoding can start in the middle of a blob.

use crate::offset::Position;

/// A point where decoding can start without the bytes before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Checkpoint {
    /// The first compressed byte that decoding needs, and the first unpacked byte that it yields.
    pub(crate) at: Position,
    /// What else the decoder needs.
    pub(crate) restart: Restart,
}

/// What a decoder needs to start at a [`Checkpoint`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Restart {
    /// Between two deflate blocks of a gzip member (RFC 1951).
    Deflate {
        /// How many bits of the byte before the checkpoint belong to the next block, `0..=7`.
        bits: u8,
        /// These bits, in the low end.
        value: u8,
        /// The last unpacked bytes of the member before the checkpoint, at most 32 KiB. Unreferenced bytes may be 0.
        window: Vec<u8>,
    },
    /// At the start of a zstd frame (RFC 8878).
    Frame,
    /// At the start of a gzip member (RFC 1952).
    Member,
    /// Anywhere in an uncompressed blob.
    Plain,
}
