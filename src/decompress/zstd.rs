//! Zstandard (RFC 8878): any number of frames, skippable ones included, checksums checked by libzstd.

use zstd::stream::raw::{self, DParameter, Operation};

use super::{Error, Restart, Run, marks::Marks};
use crate::{
    limits,
    offset::{Compressed, Position},
};

/// Decodes a sequence of zstd frames.
pub(super) struct Decoder {
    frame: raw::Decoder<'static>,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Between,
    InFrame,
    Padding,
}

impl Decoder {
    /// A decoder at the start of the first frame.
    pub(super) fn new() -> Result<Self, Error> {
        let broken = |error: std::io::Error| Error::corrupt(Compressed(0), format!("zstd: {error}"));
        let mut frame = raw::Decoder::new().map_err(broken)?;
        frame.set_parameter(DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG)).map_err(broken)?;
        Ok(Self { frame, state: State::Between })
    }

    /// Whether the stream may end here.
    pub(super) fn at_end(&self) -> bool {
        self.state != State::InFrame
    }

    /// See [`super::Decompressor::decompress`]; `start` is where `input` and `output` begin, `marks` where to stop.
    pub(super) fn decompress(
        &mut self,
        input: &mut &[u8],
        output: &mut [u8],
        start: Position,
        marks: Option<&Marks>,
    ) -> Result<Run, Error> {
        let length = input.len();
        let due = marks.is_some_and(|marks| marks.distance(start.uncompressed) == 0);
        loop {
            let at = Compressed(start.compressed.0 + (length - input.len()) as u64);
            match (self.state, input.first()) {
                (State::Between, None) | (State::Padding, None) => return Ok(Run::default()),
                (State::Between, Some(0)) => self.state = State::Padding,
                (State::Between, Some(_)) if due => {
                    return Ok(Run { produced: 0, restart: Some(Restart::Frame) });
                }
                (State::Between, Some(_)) => self.state = State::InFrame,
                (State::Padding, Some(_)) => match input.iter().position(|&byte| byte != 0) {
                    None => *input = &[],
                    Some(junk) => {
                        let at = Compressed(at.0 + junk as u64);
                        return Err(Error::corrupt(at, "neither a zstd frame nor zero padding"));
                    }
                },
                (State::InFrame, _) => {
                    let status = self
                        .frame
                        .run_on_buffers(input, output)
                        .map_err(|error| Error::corrupt(at, format!("invalid zstd data ({error})")))?;
                    *input = input.get(status.bytes_read..).unwrap_or_default();
                    if status.remaining == 0 {
                        self.state = State::Between;
                    }
                    if status.bytes_written > 0 || (self.state == State::InFrame && input.is_empty()) {
                        return Ok(Run { produced: status.bytes_written, restart: None });
                    }
                    if status.bytes_read == 0 && self.state == State::InFrame {
                        return match output.is_empty() {
                            true => Ok(Run::default()),
                            false => Err(Error::corrupt(at, "the zstd frame does not go on")),
                        };
                    }
                }
            }
        }
    }
}
