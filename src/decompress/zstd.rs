//! Zstandard (RFC 8878): any number of frames, skippable ones included, checksums checked by libzstd.
//!
//! ```text
//! Between ─▶ Header ─▶ InFrame ─▶ Between
//!    └─▶ Padding
//! ```
//!
//! A frame's header is held back until the window is known: a large one needs a permit ([`LargeWindow`]).

use zstd::stream::raw::{self, DParameter, Operation};

use self::{
    header::Header,
    large_window::{LARGE_WINDOW, LargeWindow, Permit, Stalled},
};
use super::{Error, Restart, Run, schedule::CheckpointSchedule};
use crate::{
    limits,
    offset::{Compressed, Position},
};

mod header;
mod large_window;

/// Decodes a sequence of zstd frames.
pub(super) struct Decoder {
    /// Holds the window; dropped before the permit for it.
    frame: raw::Decoder<'static>,
    permit: Option<Permit>,
    large_window: &'static LargeWindow,
    state: State,
    /// The first bytes of the frame, until libzstd has consumed them.
    header: Vec<u8>,
    /// Whether libzstd has returned all output of the bytes that it has consumed.
    is_drained: bool,
    /// How many bytes to pass next: an error discards everything that was unpacked in the same call.
    next_bytes: usize,
}

/// libzstd requests a block together with the header of the next one.
const BLOCK_HEADER_BYTES: usize = 3;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Between,
    Header { start: Compressed },
    InFrame,
    Padding,
}

impl Decoder {
    /// A decoder at the start of the first frame.
    pub(super) fn new() -> Result<Self, Error> {
        Self::with(&LARGE_WINDOW)
    }

    fn with(large_window: &'static LargeWindow) -> Result<Self, Error> {
        let frame = context(Compressed(0))?;
        Ok(Self {
            frame,
            permit: None,
            large_window,
            state: State::Between,
            header: Vec::new(),
            is_drained: true,
            next_bytes: 0,
        })
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
        if let Some(permit) = &self.permit {
            permit.progressed();
        }
        let length = input.len();
        let due = schedule.is_some_and(|schedule| schedule.distance(start.uncompressed) == 0);
        loop {
            let at = Compressed(start.compressed.0 + (length - input.len()) as u64);
            match (self.state, input.first()) {
                (State::Between | State::Padding, None) => return Ok(Run::default()),
                (State::Between, Some(0)) => self.state = State::Padding,
                (State::Between, Some(_)) if due => {
                    return Ok(Run { produced: 0, restart: Some(Restart::Frame) });
                }
                (State::Between, Some(_)) => self.state = State::Header { start: at },
                (State::Header { start }, _) => match header::parse(&self.header) {
                    Header::Needs(_) if input.is_empty() => return Ok(Run::default()),
                    Header::Needs(length) => self.hold(input, length),
                    Header::Window(window) if window > 1 << limits::ZSTD_WINDOW_LOG => {
                        return Err(Error::Window { at: start, window });
                    }
                    Header::Window(window) if window > limits::ZSTD_SMALL_WINDOW_BYTES => {
                        self.permit = Some(self.wait(start, window)?);
                        self.state = State::InFrame;
                    }
                    Header::Window(_) | Header::Windowless => self.state = State::InFrame,
                },
                (State::Padding, Some(_)) => match input.iter().position(|&byte| byte != 0) {
                    None => *input = &[],
                    Some(junk) => {
                        let at = Compressed(at.0 + junk as u64);
                        return Err(Error::corrupt(at, "neither a zstd frame nor zero padding"));
                    }
                },
                // libzstd reports an error after several calls without input.
                (State::InFrame, None) if self.is_drained && self.header.is_empty() => {
                    return Ok(Run::default());
                }
                (State::InFrame, _) => {
                    let was_drained = self.is_drained;
                    let (read, written) = self.run(input, output, at)?;
                    if written > 0 || (self.state == State::InFrame && input.is_empty()) {
                        return Ok(Run { produced: written, restart: None });
                    }
                    if read == 0 && self.state == State::InFrame {
                        match output.is_empty() {
                            true => return Ok(Run::default()),
                            false if was_drained => {
                                return Err(Error::corrupt(at, "the zstd frame makes no progress"));
                            }
                            // All held output is returned, so the next step passes more input.
                            false => {}
                        }
                    }
                }
            }
        }
    }

    /// Holds back input until there are `length` bytes of the header, or the input ends.
    fn hold(&mut self, input: &mut &[u8], length: usize) {
        let missing = length.saturating_sub(self.header.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.header.extend_from_slice(taken);
        *input = rest;
    }

    /// Waits for the permit for the frame at `start`. Blocks.
    fn wait(&self, start: Compressed, window: u64) -> Result<Permit, Error> {
        let busy = |Stalled(waited)| Error::Busy { at: start, window, waited };
        self.large_window.acquire().map_err(busy)
    }

    /// One step of libzstd, with the held header first. Returns bytes consumed and bytes written.
    fn run(&mut self, input: &mut &[u8], output: &mut [u8], at: Compressed) -> Result<(usize, usize), Error> {
        let held = !self.header.is_empty();
        let at = Compressed(at.0.saturating_sub(self.header.len() as u64));
        let offered = match (held, self.is_drained) {
            (true, _) => self.header.as_slice(),
            (false, true) => input.get(..self.next_bytes).unwrap_or(input),
            (false, false) => &[],
        };
        let status = self
            .frame
            .run_on_buffers(offered, output)
            .map_err(|error| Error::corrupt(at, format!("invalid zstd data ({error})")))?;
        if held {
            self.header.drain(..status.bytes_read);
        } else {
            *input = input.get(status.bytes_read..).unwrap_or_default();
        }
        self.is_drained = status.bytes_written < output.len();
        self.next_bytes = match status.remaining {
            all @ ..=BLOCK_HEADER_BYTES => all,
            more => more - BLOCK_HEADER_BYTES,
        };
        if status.remaining == 0 {
            self.state = State::Between;
            if self.permit.is_some() {
                // The old context would keep its window.
                self.frame = context(at)?;
                self.permit = None;
            }
        }
        Ok((status.bytes_read, status.bytes_written))
    }
}

fn context(at: Compressed) -> Result<raw::Decoder<'static>, Error> {
    let broken = |error: std::io::Error| Error::corrupt(at, format!("zstd: {error}"));
    let mut context = raw::Decoder::new().map_err(broken)?;
    context.set_parameter(DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG)).map_err(broken)?;
    Ok(context)
}

#[cfg(test)]
mod tests;
