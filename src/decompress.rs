//! Decompression of layer blobs: compressed bytes in, tar bytes out.
//!
//! What a blob is compressed with is told by its first bytes alone: media types lie often enough. Sync and push-style; the
//! caller owns both buffers.

use std::{fmt, mem, time::Duration};

use self::marks::{Marks, Steps};
use crate::{
    limits,
    offset::{Compressed, Position, Uncompressed},
};

mod checkpoint;
mod gzip;
mod inflate;
mod marks;
pub(crate) mod window;
mod zstd;

pub(crate) use self::{
    checkpoint::{Checkpoint, Restart},
    inflate::WINDOW_BYTES,
};

/// A pass that records makes about one checkpoint in so many unpacked bytes.
pub(crate) const CHECKPOINT_BYTES: u64 = 1 << 20;

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
    position: Position,
    /// Where to stop for checkpoints, when recording.
    marks: Option<Marks>,
    /// How to begin at `position`, if a checkpoint was due there.
    restart: Option<Restart>,
    /// Where to note how much came out, when recording.
    steps: Option<Steps>,
    noted: Vec<Position>,
    /// What has gone wrong right behind the last output.
    failed: Option<Error>,
}

/// What a codec did in one go.
#[derive(Default)]
struct Run {
    /// Bytes of output written.
    produced: usize,
    /// How to begin where it stopped, if it stopped for a checkpoint.
    restart: Option<Restart>,
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
        let head = Vec::with_capacity(MAGIC_BYTES);
        Self { head, ..Self::at(State::Sniffing, Position::default()) }
    }

    /// Goes on from a checkpoint; `encoding` is what the blob turned out to be. The CRC and length of the gzip member that it
    /// begins in the middle of are not checked.
    pub(crate) fn restart(encoding: Encoding, checkpoint: &Checkpoint) -> Result<Self, Error> {
        let refused = |what| Err(Error::corrupt(checkpoint.at.compressed, what));
        let state = match (encoding, &checkpoint.restart) {
            (Encoding::Gzip, Restart::Deflate { bits, value, window }) => {
                if *bits > 7 || *value >> *bits != 0 || window.len() > WINDOW_BYTES {
                    return refused("a checkpoint that cannot be");
                }
                State::Gzip(gzip::Decoder::resume(*bits, *value, window))
            }
            (Encoding::Gzip, Restart::Member) => State::Gzip(gzip::Decoder::new()),
            (Encoding::Plain, Restart::Plain) => State::Plain,
            (Encoding::Zstd, Restart::Frame) => State::Zstd(zstd::Decoder::new()?),
            _ => return refused("a checkpoint of another compression"),
        };
        Ok(Self::at(state, checkpoint.at))
    }

    fn at(state: State, position: Position) -> Self {
        let (marks, restart, steps, failed) = (None, None, None, None);
        Self { state, head: Vec::new(), taken: 0, position, marks, restart, steps, noted: Vec::new(), failed }
    }

    /// From now on [`decompress`](Self::decompress) stops at places worth a checkpoint, and [`Self::take_checkpoint`] has it
    /// then: at most two in each MiB of output, none where the blob begins or decoding began. [`Self::take_progress`] has how far it
    /// came. Neither depends on how the blob is cut into pieces, nor on how much output there is room for.
    pub(crate) fn record(&mut self) {
        self.marks = Some(Marks::new(self.position.uncompressed));
        self.steps = Some(Steps::new(self.position.compressed));
    }

    /// How much of the blob was taken and how much came out so far, both from the blob's start.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The checkpoint at exactly [`Self::position`], if one was due there: its window has all the bytes that the member has, up
    /// to 32 KiB. The next call of `decompress` forgets it.
    pub(crate) fn take_checkpoint(&mut self) -> Option<Checkpoint> {
        self.restart.take().map(|restart| Checkpoint { at: self.position, restart })
    }

    /// Places since the last call, in the blob and with all that came of the bytes before them. Of a blob that is not compressed
    /// there are none: every byte tells where it comes from.
    pub(crate) fn take_progress(&mut self) -> Vec<Position> {
        mem::take(&mut self.noted)
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
    /// 0 with a non-empty `output` means that all of `input` was taken and more is needed; when recording, only if
    /// [`Self::take_checkpoint`] has nothing either (a checkpoint can be due before anything comes out).
    ///
    /// # Errors
    ///
    /// Once everything has been given that comes before what is wrong, and that at the latest when it is asked for again.
    pub(crate) fn decompress(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Error> {
        self.restart = None;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if matches!(self.state, State::Sniffing) && !self.sniff(input)? {
            return Ok(0);
        }
        if self.taken < self.head.len() {
            let head = mem::take(&mut self.head);
            let mut rest = head.get(self.taken..).unwrap_or_default();
            let produced = self.run(&mut rest, output);
            self.taken = head.len() - rest.len();
            self.head = head;
            let produced = produced?;
            if produced > 0 || self.restart.is_some() || self.taken < self.head.len() {
                return Ok(produced);
            }
        }
        self.run_by_steps(input, output)
    }

    /// The blob has ended: fills `output` with what was still held back, and once that is 0 bytes the blob was complete. An
    /// error if it ended inside a member or frame.
    pub(crate) fn finish(&mut self, output: &mut [u8]) -> Result<usize, Error> {
        if matches!(self.state, State::Sniffing) {
            // Fewer bytes than any magic number has: an empty or a tiny blob.
            self.state = State::of(&self.head)?;
        }
        // There is nothing to begin with after the end.
        (self.marks, self.steps) = (None, None);
        let produced = self.decompress(&mut &[][..], output)?;
        if produced > 0 {
            return Ok(produced);
        }
        let at = self.position.compressed;
        match &self.state {
            State::Gzip(decoder) if !decoder.at_end() => Err(Error::truncated(at, "gzip member")),
            State::Zstd(decoder) if !decoder.at_end() => Err(Error::truncated(at, "zstd frame")),
            _ => Ok(0),
        }
    }

    /// Has the codec do what it can, but take no byte behind a place that is to be noted before all is out that comes before it.
    fn run_by_steps(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Error> {
        let is_plain = matches!(self.state, State::Plain);
        let Some(mut steps) = self.steps.take().filter(|_| !is_plain) else { return self.run(input, output) };
        let mut produced = 0;
        while produced < output.len() {
            let distance = usize::try_from(steps.distance(self.position.compressed)).unwrap_or(usize::MAX);
            let (mut now, later) = input.split_at(distance.min(input.len()));
            let room = output.get_mut(produced..).unwrap_or_default();
            let run = self.run(&mut now, room);
            *input = input.get(input.len() - later.len() - now.len()..).unwrap_or_default();
            let length = match run {
                Err(error) if produced > 0 => {
                    self.failed = Some(error);
                    break;
                }
                run => run?,
            };
            produced += length;
            if self.restart.is_some() {
                break;
            }
            if length > 0 {
                continue;
            }
            if steps.distance(self.position.compressed) > 0 {
                break;
            }
            self.noted.push(self.position);
            steps.passed();
        }
        self.steps = Some(steps);
        Ok(produced)
    }

    /// Has the codec do what it can.
    fn run(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Error> {
        let before = input.len();
        let run = self.state.run(input, output, self.position, self.marks.as_ref())?;
        self.position.compressed.0 += (before - input.len()) as u64;
        self.position.uncompressed.0 += run.produced as u64;
        if let (Some(marks), Some(restart)) = (&mut self.marks, &run.restart) {
            marks.made(self.position.uncompressed, restart);
        }
        self.restart = run.restart;
        Ok(run.produced)
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

    fn run(
        &mut self,
        input: &mut &[u8],
        output: &mut [u8],
        start: Position,
        marks: Option<&Marks>,
    ) -> Result<Run, Error> {
        match self {
            Self::Gzip(decoder) => decoder.decompress(input, output, start, marks),
            Self::Plain | Self::Sniffing => Ok(copy(input, output, start.uncompressed, marks)),
            Self::Zstd(decoder) => decoder.decompress(input, output, start, marks),
        }
    }
}

/// Takes bytes of a blob that is not compressed.
fn copy(input: &mut &[u8], output: &mut [u8], start: Uncompressed, marks: Option<&Marks>) -> Run {
    let distance = marks.map_or(u64::MAX, |marks| marks.distance(start));
    let most = usize::try_from(distance).unwrap_or(usize::MAX);
    let length = input.len().min(output.len()).min(most);
    let (now, later) = input.split_at(length);
    if let Some(target) = output.get_mut(..length) {
        target.copy_from_slice(now);
    }
    *input = later;
    Run { produced: length, restart: (length == most).then_some(Restart::Plain) }
}

/// Why a blob could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A frame needs a large window, and whoever has the only one has paused.
    #[error(
        "the zstd frame at {at} needs a window of {window} bytes; only one above {} bytes is decoded at a time, \
         and another reader, which has paused for {} s, has it",
        limits::ZSTD_SMALL_WINDOW_BYTES,
        waited.as_secs()
    )]
    Busy {
        /// Where the frame begins.
        at: Compressed,
        /// The window it asks for, in bytes.
        window: u64,
        /// For how long the other has done nothing.
        waited: Duration,
    },
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
pub(crate) mod tests;
