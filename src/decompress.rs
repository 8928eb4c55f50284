//! Decompression of layer blobs: compressed bytes in, tar bytes out.
//!
//! What a blob is compressed with is told by its first bytes alone: media types lie often enough. Sync and push-style; the
//! caller owns both buffers.

use std::fmt;

use crate::offset::Compressed;

mod checkpoint;
mod gzip;
mod inflate;
mod zstd;

#[allow(unused_imports, reason = "the rooms that use them follow")]
pub(crate) use self::checkpoint::{Checkpoint, Restart};

/// Bytes needed to tell every known compression from another (bzip2's block magic ends at byte 10).
const MAGIC_BYTES: usize = 10;

/// How a blob turned out to be compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Encoding {
    /// Gzip (RFC 1952), any number of members.
    Gzip,
    /// Not at all.
    Plain,
    /// Zstandard (RFC 8878), any number of frames.
    Zstd,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Plain => "plain",
            Self::Zstd => "zstd",
        })
    }
}

/// Decompresses one blob.
///
/// ```text
///             ┌─▶ Gzip ──┐
/// Sniffing ───┼─▶ Zstd ──┼─▶ finish()
///             └─▶ Plain ─┘
/// ```
pub(crate) struct Decompressor {
    state: State,
    /// The blob's first bytes, kept until the codec has taken them.
    head: Vec<u8>,
    taken: usize,
    consumed: u64,
}

enum State {
    Gzip(gzip::Decoder),
    Plain,
    Sniffing,
    Zstd(zstd::Decoder),
}

impl Decompressor {
    /// A decompressor at the start of a blob.
    pub(crate) fn new() -> Self {
        Self { state: State::Sniffing, head: Vec::with_capacity(MAGIC_BYTES), taken: 0, consumed: 0 }
    }

    /// What the blob is compressed with, once enough of it has been seen.
    pub(crate) fn encoding(&self) -> Option<Encoding> {
        match self.state {
            State::Gzip(_) => Some(Encoding::Gzip),
            State::Plain => Some(Encoding::Plain),
            State::Sniffing => None,
            State::Zstd(_) => Some(Encoding::Zstd),
        }
    }

    /// Takes bytes from the front of `input` and fills the front of `output`; returns how many bytes of `output` were filled.
    /// 0 with a non-empty `output` means that all of `input` was taken and more is needed.
    pub(crate) fn decompress(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Error> {
        if matches!(self.state, State::Sniffing) && !self.sniff(input)? {
            return Ok(0);
        }
        if let Some(mut head) = self.head.get(self.taken..).filter(|head| !head.is_empty()) {
            let before = head.len();
            let produced = self.state.run(&mut head, output, self.consumed)?;
            let taken = before - head.len();
            self.taken += taken;
            self.consumed += taken as u64;
            if produced > 0 || self.taken < self.head.len() {
                return Ok(produced);
            }
        }
        let before = input.len();
        let produced = self.state.run(input, output, self.consumed)?;
        self.consumed += (before - input.len()) as u64;
        Ok(produced)
    }

    /// The blob has ended: fills `output` with what was still held back, and once that is 0 bytes the blob was complete. An
    /// error if it ended inside a member or frame.
    pub(crate) fn finish(&mut self, output: &mut [u8]) -> Result<usize, Error> {
        if matches!(self.state, State::Sniffing) {
            // Fewer bytes than any magic number has: an empty or a tiny blob.
            self.state = State::of(&self.head)?;
        }
        let produced = self.decompress(&mut &[][..], output)?;
        if produced > 0 {
            return Ok(produced);
        }
        let at = Compressed(self.consumed);
        match &self.state {
            State::Gzip(decoder) if !decoder.at_end() => Err(Error::truncated(at, "gzip member")),
            State::Zstd(decoder) if !decoder.at_end() => Err(Error::truncated(at, "zstd frame")),
            _ => Ok(0),
        }
    }

    fn sniff(&mut self, input: &mut &[u8]) -> Result<bool, Error> {
        let missing = MAGIC_BYTES - self.head.len();
        let (magic, rest) = input.split_at(missing.min(input.len()));
        self.head.extend_from_slice(magic);
        *input = rest;
        if self.head.len() < MAGIC_BYTES {
            return Ok(false);
        }
        self.state = State::of(&self.head)?;
        Ok(true)
    }
}

impl State {
    fn of(head: &[u8]) -> Result<Self, Error> {
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip(gzip::Decoder::new())),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Ok(Self::Zstd(zstd::Decoder::new()?))
            }
            // The digits after "BZh" alone could be a file name at the start of a plain tar.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => {
                Err(Error::Unsupported { compression: "bzip2" })
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(Error::Unsupported { compression: "xz" }),
            [0x04, 0x22, 0x4d, 0x18, ..] => Err(Error::Unsupported { compression: "lz4" }),
            _ => Ok(Self::Plain),
        }
    }

    fn run(&mut self, input: &mut &[u8], output: &mut [u8], consumed: u64) -> Result<usize, Error> {
        match self {
            Self::Gzip(decoder) => decoder.decompress(input, output, Compressed(consumed)),
            Self::Plain | Self::Sniffing => {
                let length = input.len().min(output.len());
                let (now, later) = input.split_at(length);
                if let Some(target) = output.get_mut(..length) {
                    target.copy_from_slice(now);
                }
                *input = later;
                Ok(length)
            }
            Self::Zstd(decoder) => decoder.decompress(input, output, Compressed(consumed)),
        }
    }
}

/// Why a blob could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The bytes are not what the format allows.
    #[error("{what} at {at}")]
    Corrupt {
        /// Where in the blob.
        at: Compressed,
        /// What is wrong there.
        what: String,
    },
    /// The blob ended too early.
    #[error("the blob ends inside a {within} at {at}")]
    Truncated {
        /// Where it ended.
        at: Compressed,
        /// What was not complete.
        within: &'static str,
    },
    /// A compression that no runtime accepts for layers.
    #[error(
        "the layer is compressed with {compression}, which is not supported (gzip, zstd and plain tar are)"
    )]
    Unsupported {
        /// Its name.
        compression: &'static str,
    },
}

impl Error {
    fn corrupt(at: Compressed, what: impl Into<String>) -> Self {
        Self::Corrupt { at, what: what.into() }
    }

    fn truncated(at: Compressed, within: &'static str) -> Self {
        Self::Truncated { at, within }
    }
}

#[cfg(test)]
mod tests;
