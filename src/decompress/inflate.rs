//! Raw deflate streams (RFC 1951), by zlib-rs.

use flate2::{Decompress, FlushDecompress, Status};

/// Inflates one raw deflate stream after another.
pub(super) struct Inflate {
    stream: Decompress,
}

/// What one step of [`Inflate`] did.
pub(super) struct Step {
    /// Compressed bytes taken.
    pub(super) consumed: usize,
    /// Bytes of output written.
    pub(super) produced: usize,
    /// Whether the deflate stream has ended.
    pub(super) ended: bool,
}

impl Inflate {
    /// An inflater at the start of a stream.
    pub(super) fn new() -> Self {
        Self { stream: Decompress::new(false) }
    }

    /// Ready for another stream, with the same memory.
    pub(super) fn reset(&mut self) {
        self.stream.reset(false);
    }

    /// Inflates as much as `input` and `output` allow; the error says what is wrong with the stream.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
        let status = self.stream.decompress(input, output, FlushDecompress::None);
        let consumed = (self.stream.total_in() - in_before) as usize;
        let produced = (self.stream.total_out() - out_before) as usize;
        match status {
            Ok(status) => Ok(Step { consumed, produced, ended: status == Status::StreamEnd }),
            Err(error) => Err(error.message().unwrap_or("invalid deflate data").to_owned()),
        }
    }
}
