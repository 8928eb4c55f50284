//! A gzip member or zstd frame that several chunks may share.

use std::sync::Arc;

use super::feed::{Feed, cut};
use crate::{
    decompress::{Checkpoint, Decompressor, Encoding, Restart},
    error::Error,
    offset::{Compressed, Position},
    read::pool::{Buffer, WorkerPool},
};

/// A member or a run of frames that is being decoded.
pub(super) struct Member {
    pub(super) start: Compressed,
    decompressor: Decompressor,
    /// Unpacked bytes so far.
    pub(super) produced: u64,
}

impl Member {
    /// The member or frame that begins here.
    pub(super) fn new(start: Compressed, encoding: Encoding) -> Result<Self, Error> {
        let restart = match encoding {
            Encoding::Gzip => Restart::Member,
            Encoding::Plain => Restart::Plain,
            Encoding::Zstd => Restart::Frame,
        };
        let at = Position { compressed: start, ..Position::default() };
        let decompressor = Decompressor::restart(encoding, &Checkpoint { at, restart })?;
        Ok(Self { start, decompressor, produced: 0 })
    }

    /// Decodes the next bytes, at least one, and none from `end` (unpacked) on.
    pub(super) async fn decode(
        &mut self,
        feed: &mut Feed,
        pool: &Arc<WorkerPool>,
        compressed_end: Compressed,
        end: u64,
    ) -> Result<(Buffer, usize), Error> {
        loop {
            let left = usize::try_from(compressed_end.0.saturating_sub(feed.at.0)).unwrap_or(usize::MAX);
            let length = if left == 0 { 0 } else { feed.fill().await?.len().min(left) };
            // Only now: who holds a buffer must not wait for bytes.
            let mut buffer = pool.buffer().await;
            let room = usize::try_from(end - self.produced).unwrap_or(usize::MAX).min(buffer.len());
            let output = buffer.get_mut(..room).unwrap_or_default();
            let produced = if length == 0 {
                self.decompressor.finish(output)?
            } else {
                let mut input = feed.at_hand().get(..length).unwrap_or_default();
                let produced = self.decompressor.decompress(&mut input, output)?;
                let taken = length - input.len();
                feed.take(taken);
                produced
            };
            if produced > 0 {
                return Ok((buffer, produced));
            }
            if length == 0 {
                return Err(cut());
            }
        }
    }
}
