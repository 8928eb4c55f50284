//! Decompression of layer blobs: compressed bytes in, tar bytes out.
//!
//! Only the first bytes of a blob decide its compression, because media types are often wrong. Sync and push-style; the
//! caller owns both buffers.

use std::{fmt, mem, time::Duration};

use self::schedule::{CheckpointSchedule, SampleSchedule};
use crate::{
    limits,
    offset::{Compressed, Position, Uncompressed},
};

mod checkpoint;
mod gzip;
mod inflate;
mod schedule;
pub(crate) mod window;
mod zstd;

pub(crate) use self::{
    checkpoint::{Checkpoint, Restart},
    inflate::WINDOW_BYTES,
};

/// Unpacked bytes per checkpoint in a pass that records, on average.
pub(crate) const CHECKPOINT_BYTES: u64 = 1 << 20;

/// Bytes needed to recognise every known compression (bzip2's block magic ends at byte 10).
const MAGIC_BYTES: usize = 10;

/// The compression of a blob.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Encoding {
    /// Gzip (RFC 1952), any number of members.
    Gzip,
    /// Not compressed.
    Plain,
    /// Zstandard (RFC 8878), any number of frames.
    Zstd,
}

impl Encoding {
    /// The most bytes that this many compressed bytes can unpack to: deflate copies at most 258 bytes by two bits, a zstd block has
    /// at least four bytes and at most 128 KiB of content.
    pub(crate) fn max_unpacked(self, compressed: u64) -> u64 {
        const DEFLATE_RATIO: u64 = 258 * 8 / 2;
        const ZSTD_RATIO: u64 = (128 << 10) / 4;
        match self {
            Self::Gzip => compressed.saturating_mul(DEFLATE_RATIO),
            Self::Plain => compressed,
            Self::Zstd => compressed.saturating_mul(ZSTD_RATIO),
        }
    }
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
    /// The blob's first bytes, kept until the codec has consumed them.
    head: Vec<u8>,
    taken: usize,
    position: Position,
    /// Where to stop for checkpoints, when recording.
    checkpoints: Option<CheckpointSchedule>,
    /// How to start at `position`, if a checkpoint was due there.
    restart: Option<Restart>,
    /// Where to sample the position, when recording.
    sampling: Option<SampleSchedule>,
    samples: Vec<Position>,
    /// An error that occurred right after the last output.
    failed: Option<Error>,
}

/// What a codec did in one call.
#[derive(Default)]
struct Run {
    /// Bytes of output written.
    produced: usize,
    /// How to start where it stopped, if it stopped for a checkpoint.
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

    /// Continues from a checkpoint of a blob with this `encoding`. If it is inside a gzip member, the member's CRC and
    /// length are not checked.
    pub(crate) fn restart(encoding: Encoding, checkpoint: &Checkpoint) -> Result<Self, Error> {
        let refused = |what| Err(Error::corrupt(checkpoint.at.compressed, what));
        let state = match (encoding, &checkpoint.restart) {
            (Encoding::Gzip, Restart::Deflate { bits, value, window }) => {
                if *bits > 7 || *value >> *bits != 0 || window.len() > WINDOW_BYTES {
                    return refused("an invalid checkpoint");
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
        Self {
            state,
            head: Vec::new(),
            taken: 0,
            position,
            checkpoints: None,
            restart: None,
            sampling: None,
            samples: Vec::new(),
            failed: None,
        }
    }

    /// From now on [`decompress`](Self::decompress) stops where a checkpoint is useful, and [`Self::take_checkpoint`]
    /// returns it: at most two per MiB of output, none at the start of the blob or of decoding. [`Self::take_progress`]
    /// returns sampled positions. Neither depends on how the input is split or on the size of the output buffer.
    pub(crate) fn record(&mut self) {
        self.checkpoints = Some(CheckpointSchedule::new(self.position.uncompressed));
        self.sampling = Some(SampleSchedule::new(self.position.compressed));
    }

    /// The current position in both streams.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The checkpoint at exactly [`Self::position`], if one was due there. Its window has the last bytes of the member,
    /// up to 32 KiB. The next call of `decompress` drops it.
    pub(crate) fn take_checkpoint(&mut self) -> Option<Checkpoint> {
        self.restart.take().map(|restart| Checkpoint { at: self.position, restart })
    }

    /// Positions sampled since the last call: all output of the compressed bytes before each has been returned. An
    /// uncompressed blob has none, because its offsets are the same in both streams.
    pub(crate) fn take_progress(&mut self) -> Vec<Position> {
        mem::take(&mut self.samples)
    }

    /// The blob's compression, once enough of it has been read.
    pub(crate) fn encoding(&self) -> Option<Encoding> {
        match self.state {
            State::Gzip(_) => Some(Encoding::Gzip),
            State::Plain => Some(Encoding::Plain),
            State::Sniffing => None,
            State::Zstd(_) => Some(Encoding::Zstd),
        }
    }

    /// Consumes bytes from the front of `input` and fills the front of `output`; returns how many bytes of `output` were
    /// filled. 0 with a non-empty `output` means that all of `input` was consumed and more is needed; when recording,
    /// only if [`Self::take_checkpoint`] returns nothing either (a checkpoint can be due before any output).
    ///
    /// # Errors
    ///
    /// If the blob is invalid. All output before the invalid byte is returned first.
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
        self.run_sampled(input, output)
    }

    /// The blob has ended: fills `output` with the remaining output. 0 means that the blob is complete.
    ///
    /// # Errors
    ///
    /// If the blob ends inside a member or frame.
    pub(crate) fn finish(&mut self, output: &mut [u8]) -> Result<usize, Error> {
        if matches!(self.state, State::Sniffing) {
            // Shorter than any magic number: an empty or tiny blob.
            self.state = State::of(&self.head)?;
        }
        // No checkpoint is useful at the end.
        (self.checkpoints, self.sampling) = (None, None);
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

    /// Runs the codec, but consumes no byte after a sample point before all output of the bytes before it is returned.
    fn run_sampled(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Error> {
        let is_plain = matches!(self.state, State::Plain);
        let Some(mut sampling) = self.sampling.take().filter(|_| !is_plain) else {
            return self.run(input, output);
        };
        let mut produced = 0;
        while produced < output.len() {
            let distance = usize::try_from(sampling.distance(self.position.compressed)).unwrap_or(usize::MAX);
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
            if sampling.distance(self.position.compressed) > 0 {
                break;
            }
            self.samples.push(self.position);
            sampling.advance();
        }
        self.sampling = Some(sampling);
        Ok(produced)
    }

    /// Runs the codec.
    fn run(&mut self, input: &mut &[u8], output: &mut [u8]) -> Result<usize, Error> {
        let before = input.len();
        let run = self.state.run(input, output, self.position, self.checkpoints.as_ref())?;
        self.position.compressed.0 += (before - input.len()) as u64;
        self.position.uncompressed.0 += run.produced as u64;
        if let (Some(schedule), Some(restart)) = (&mut self.checkpoints, &run.restart) {
            schedule.taken(self.position.uncompressed, restart);
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
        schedule: Option<&CheckpointSchedule>,
    ) -> Result<Run, Error> {
        match self {
            Self::Gzip(decoder) => decoder.decompress(input, output, start, schedule),
            Self::Plain | Self::Sniffing => Ok(copy(input, output, start.uncompressed, schedule)),
            Self::Zstd(decoder) => decoder.decompress(input, output, start, schedule),
        }
    }
}

/// Copies bytes of an uncompressed blob.
fn copy(
    input: &mut &[u8],
    output: &mut [u8],
    start: Uncompressed,
    schedule: Option<&CheckpointSchedule>,
) -> Run {
    let distance = schedule.map_or(u64::MAX, |schedule| schedule.distance(start));
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
    /// A frame needs a large window, and the holder of the only one has paused.
    #[error(
        "the zstd frame at {at} needs a window of {window} bytes; only one window above {} bytes is allowed at a time, \
         and another reader holds it without progress for {} s",
        limits::ZSTD_SMALL_WINDOW_BYTES,
        waited.as_secs()
    )]
    Busy {
        /// Start of the frame.
        at: Compressed,
        /// The window that it needs, in bytes.
        window: u64,
        /// How long the holder has made no progress.
        waited: Duration,
    },
    /// The bytes are invalid in their format.
    #[error("{what} at {at}")]
    Corrupt {
        /// Offset in the blob.
        at: Compressed,
        /// What is wrong.
        what: String,
    },
    /// The blob is truncated.
    #[error("the blob ends inside a {within} at {at}")]
    Truncated {
        /// Where it ends.
        at: Compressed,
        /// What is incomplete.
        within: &'static str,
    },
    /// A compression that no runtime supports for layers.
    #[error(
        "the layer is compressed with {compression}, which is not supported (gzip, zstd and plain tar are)"
    )]
    Unsupported {
        /// Name of the compression.
        compression: &'static str,
    },
    /// A frame needs a larger window than this program supports.
    #[error(
        "the zstd frame at {at} needs a window of {window} bytes, more than the supported {} bytes",
        1_u64 << limits::ZSTD_WINDOW_LOG
    )]
    Window {
        /// Start of the frame.
        at: Compressed,
        /// The window that it needs, in bytes.
        window: u64,
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
