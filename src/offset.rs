//! Offsets of the two streams of a layer, as types that cannot be mixed up.

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

/// The same place in both streams of a layer: once so many bytes of the blob have been decoded, so many unpacked bytes are out.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Position {
    /// Bytes of the blob.
    pub(crate) compressed: Compressed,
    /// Bytes of the unpacked layer.
    pub(crate) uncompressed: Uncompressed,
}
