//! Offsets in the two streams of a layer, as types that cannot be mixed up.

use std::fmt;

/// A byte offset in a layer's blob as it is stored and transferred.
///
/// ```
/// use layerslayer::Compressed;
///
/// assert_eq!(Compressed(7).to_string(), "byte 7 of the blob");
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Compressed(pub u64);

/// A byte offset in a layer's tar stream, after decompression.
///
/// ```
/// use layerslayer::Uncompressed;
///
/// assert_eq!(Uncompressed(512).to_string(), "byte 512 of the unpacked layer");
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uncompressed(pub u64);

impl fmt::Display for Compressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the blob", self.0)
    }
}

impl fmt::Display for Uncompressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the unpacked layer", self.0)
    }
}

/// The same point in both streams of a layer: decoding the first `compressed` bytes of the blob yields the first
/// `uncompressed` bytes of the layer.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Position {
    /// Offset in the blob.
    pub(crate) compressed: Compressed,
    /// Offset in the unpacked layer.
    pub(crate) uncompressed: Uncompressed,
}
