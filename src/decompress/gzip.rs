//! Gzip (RFC 1952): any header flags, any number of members, every CRC and length checked.
//!
//! ```text
//! Fixed ─▶ ExtraLength ─▶ Extra ─▶ Name ─▶ Comment ─▶ HeaderCrc ─▶ Body ─▶ Trailer ─▶ Between
//!   ▲                                                                                  │  │
//!   └──────────────────────────── another member ──────────────────────────────────────┘  └▶ Padding
//! ```

use flate2::Crc;

use super::{
    Error, Restart, Run,
    inflate::{Inflate, Stop},
    schedule::CheckpointSchedule,
};
use crate::{
    limits,
    offset::{Compressed, Position, Uncompressed},
};

const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAGS_RESERVED: u8 = 0b1110_0000;

const DEFLATE: u8 = 8;
const FIXED_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;

/// Decodes a gzip stream.
pub(super) struct Decoder {
    state: State,
    flags: u8,
    /// The bytes of the current field, at most [`FIXED_BYTES`].
    field: Vec<u8>,
    header_crc: Crc,
    header_bytes: u64,
    inflate: Inflate,
    /// CRC of the member's content; `None` if decoding started inside the member.
    content: Option<Crc>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Between,
    Body,
    Comment,
    Extra { left: usize },
    ExtraLength,
    Fixed,
    HeaderCrc,
    Name,
    Padding,
    Trailer,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub(super) fn new() -> Self {
        Self {
            state: State::Fixed,
            flags: 0,
            field: Vec::with_capacity(FIXED_BYTES),
            header_crc: Crc::new(),
            header_bytes: 0,
            inflate: Inflate::new(),
            content: Some(Crc::new()),
        }
    }

    /// A decoder between two deflate blocks: see [`Restart::Deflate`].
    pub(super) fn resume(bits: u8, value: u8, window: &[u8]) -> Self {
        let mut decoder = Self { state: State::Body, content: None, ..Self::new() };
        decoder.inflate.resume(bits, value, window);
        decoder
    }

    /// Whether the stream may end here.
    pub(super) fn at_end(&self) -> bool {
        matches!(self.state, State::Between | State::Padding)
    }

    /// See [`super::Decompressor::decompress`]. `input` and `output` begin at `start`; `schedule` says where to stop.
    pub(super) fn decompress(
        &mut self,
        input: &mut &[u8],
        output: &mut [u8],
        start: Position,
        schedule: Option<&CheckpointSchedule>,
    ) -> Result<Run, Error> {
        let length = input.len();
        loop {
            let at = Compressed(start.compressed.0 + (length - input.len()) as u64);
            if self.state == State::Body {
                match self.body(input, output, Position { compressed: at, ..start }, schedule)? {
                    Some(run) => return Ok(run),
                    None => continue,
                }
            }
            let Some(&next) = input.first() else { return Ok(Run::default()) };
            let due = schedule.is_some_and(|schedule| schedule.distance(start.uncompressed) == 0);
            if self.state == State::Between && next != 0 && due {
                return Ok(Run { produced: 0, restart: Some(Restart::Member) });
            }
            self.framing(input, at)?;
        }
    }

    /// Inflates; `None` if the member ended without output.
    fn body(
        &mut self,
        input: &mut &[u8],
        output: &mut [u8],
        start: Position,
        schedule: Option<&CheckpointSchedule>,
    ) -> Result<Option<Run>, Error> {
        let (length, mut produced) = (input.len(), 0);
        let distance = |produced: usize| {
            let at = Uncompressed(start.uncompressed.0 + produced as u64);
            let distance = schedule.map(|schedule| schedule.distance(at));
            distance.and_then(|distance| usize::try_from(distance).ok()).unwrap_or(usize::MAX)
        };
        loop {
            let at = Compressed(start.compressed.0 + (length - input.len()) as u64);
            let room = output.get_mut(produced..).unwrap_or_default();
            let free = room.len();
            // Far from a due checkpoint the inflater does not stop at block ends, because there may be very many. The
            // last byte before it is in a block that may end exactly there.
            let step = match distance(produced) {
                0 | 1 => self.inflate.step_in_block(input, room),
                near => self.inflate.step(input, room.get_mut(..free.min(near - 1)).unwrap_or_default()),
            };
            let step = match step {
                Ok(step) => step,
                Err(_) if produced > 0 => return Ok(Some(Run { produced, restart: None })),
                Err(what) => return Err(Error::corrupt(at, format!("invalid deflate data ({what})"))),
            };
            *input = input.get(step.consumed..).unwrap_or_default();
            if let Some(content) = &mut self.content {
                content.update(output.get(produced..produced + step.produced).unwrap_or_default());
            }
            produced += step.produced;
            match step.stop {
                Stop::BlockEnd { bits, value } if distance(produced) == 0 => {
                    let restart = Restart::Deflate { bits, value, window: self.inflate.window() };
                    return Ok(Some(Run { produced, restart: Some(restart) }));
                }
                Stop::End => {
                    self.state = State::Trailer;
                    return Ok((produced > 0).then_some(Run { produced, restart: None }));
                }
                Stop::BlockEnd { .. } | Stop::Full => {}
            }
            if input.is_empty() || step.produced == free {
                return Ok(Some(Run { produced, restart: None }));
            }
            if step.consumed == 0 && step.produced == 0 {
                return Err(Error::corrupt(at, "the deflate stream makes no progress"));
            }
        }
    }

    /// One step outside a deflate stream: headers, trailers and padding. Consumes at least one byte of `input`.
    fn framing(&mut self, input: &mut &[u8], at: Compressed) -> Result<(), Error> {
        match self.state {
            State::Between => match input.first() {
                Some(0) => self.state = State::Padding,
                _ => self.state = State::Fixed,
            },
            State::Padding => {
                if let Some(junk) = input.iter().position(|&byte| byte != 0) {
                    let at = Compressed(at.0 + junk as u64);
                    return Err(Error::corrupt(at, "neither a gzip member nor zero padding"));
                }
                *input = &[];
            }
            State::Fixed => {
                if self.fill(input, FIXED_BYTES) {
                    self.fixed(at)?;
                }
            }
            State::ExtraLength => {
                if self.fill(input, 2) {
                    let left = self.field.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                    self.header_field_read();
                    self.state = State::Extra { left };
                    self.skip_empty_fields();
                }
            }
            State::Extra { left } => {
                let (extra, rest) = input.split_at(left.min(input.len()));
                self.header_bytes_read(extra, at)?;
                *input = rest;
                self.state = State::Extra { left: left - extra.len() };
                self.skip_empty_fields();
            }
            State::Name | State::Comment => {
                let end = input.iter().position(|&byte| byte == 0);
                let (text, rest) = input.split_at(end.map_or(input.len(), |zero| zero + 1));
                self.header_bytes_read(text, at)?;
                *input = rest;
                if end.is_some() {
                    self.flags &= if self.state == State::Name { !FLAG_NAME } else { !FLAG_COMMENT };
                    self.next_header_state();
                }
            }
            State::HeaderCrc => {
                if self.fill(input, 2) {
                    let stored = self.field.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte));
                    if stored != self.header_crc.sum() & 0xffff {
                        return Err(Error::corrupt(at, "the CRC of a gzip header does not match"));
                    }
                    self.field.clear();
                    self.flags &= !FLAG_HEADER_CRC;
                    self.next_header_state();
                }
            }
            State::Trailer => {
                if self.fill(input, TRAILER_BYTES) {
                    self.trailer(at)?;
                }
            }
            State::Body => {}
        }
        Ok(())
    }

    fn fixed(&mut self, at: Compressed) -> Result<(), Error> {
        let [0x1f, 0x8b, method, flags, ..] = *self.field.as_slice() else {
            return Err(Error::corrupt(at, "neither a gzip member nor zero padding"));
        };
        if method != DEFLATE {
            return Err(Error::corrupt(at, format!("unknown gzip compression method {method}")));
        }
        if flags & FLAGS_RESERVED != 0 {
            return Err(Error::corrupt(at, "reserved gzip header flags are set"));
        }
        self.flags = flags;
        self.header_crc = Crc::new();
        self.header_bytes = 0;
        self.header_field_read();
        self.inflate.reset();
        self.content = Some(Crc::new());
        self.next_header_state();
        Ok(())
    }

    fn trailer(&mut self, at: Compressed) -> Result<(), Error> {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte));
        let (crc, length) = self.field.split_at(4);
        if let Some(content) = &self.content {
            if number(crc) != content.sum() {
                return Err(Error::corrupt(at, "the CRC-32 of a gzip member does not match its content"));
            }
            if number(length) != content.amount() {
                return Err(Error::corrupt(at, "the length of a gzip member does not match its content"));
            }
        }
        self.field.clear();
        self.state = State::Between;
        Ok(())
    }

    /// Collects `length` bytes in `field`; true once they are complete.
    fn fill(&mut self, input: &mut &[u8], length: usize) -> bool {
        let missing = length.saturating_sub(self.field.len());
        let (now, later) = input.split_at(missing.min(input.len()));
        self.field.extend_from_slice(now);
        *input = later;
        self.field.len() == length
    }

    fn header_field_read(&mut self) {
        self.header_crc.update(&self.field);
        self.field.clear();
    }

    fn header_bytes_read(&mut self, bytes: &[u8], at: Compressed) -> Result<(), Error> {
        self.header_crc.update(bytes);
        self.header_bytes += bytes.len() as u64;
        if self.header_bytes > limits::GZIP_HEADER_BYTES {
            return Err(Error::corrupt(at, "a gzip header is too long"));
        }
        Ok(())
    }

    fn skip_empty_fields(&mut self) {
        if self.state == (State::Extra { left: 0 }) {
            self.flags &= !FLAG_EXTRA;
            self.next_header_state();
        }
    }

    fn next_header_state(&mut self) {
        self.state = match self.flags {
            flags if flags & FLAG_EXTRA != 0 => State::ExtraLength,
            flags if flags & FLAG_NAME != 0 => State::Name,
            flags if flags & FLAG_COMMENT != 0 => State::Comment,
            flags if flags & FLAG_HEADER_CRC != 0 => State::HeaderCrc,
            _ => State::Body,
        };
    }
}
