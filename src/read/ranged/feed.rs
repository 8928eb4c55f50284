//! Bytes on their way from the transfer to the extractor.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    error::{Error, Kind},
    offset::Compressed,
    source::adaptive::ReadProgress,
};

/// What is sent to the extractor: the pieces of a range, then its end.
pub(super) enum RangeInput {
    End,
    Piece(Bytes),
}

/// The bytes of one range after the other.
pub(super) struct Feed {
    pieces: mpsc::Receiver<RangeInput>,
    /// What is left of the last piece.
    piece: Bytes,
    /// Its place in the blob.
    pub(super) at: Compressed,
    /// Whether the range has no more pieces.
    ended: bool,
    /// Learns how far a range has been taken that ends at `open_end`.
    read_progress: Arc<ReadProgress>,
    open_end: Option<Compressed>,
    is_open_ended: bool,
}

impl Feed {
    /// A feed of `pieces`; nothing is read before the first range has begun.
    pub(super) fn new(
        pieces: mpsc::Receiver<RangeInput>,
        read_progress: Arc<ReadProgress>,
        open_end: Option<Compressed>,
    ) -> Self {
        let (piece, at) = (Bytes::new(), Compressed(0));
        Self { pieces, piece, at, ended: true, read_progress, open_end, is_open_ended: false }
    }

    /// Continues with the next range.
    pub(super) async fn begin(&mut self, range: &Range<Compressed>) -> Result<(), Error> {
        while !self.ended {
            self.piece = Bytes::new();
            self.fill().await?;
        }
        self.piece = Bytes::new();
        self.at = range.start;
        self.ended = false;
        self.is_open_ended = Some(range.end) == self.open_end;
        Ok(())
    }

    /// The bytes at hand, or the next ones; none at the end of the range.
    pub(super) async fn fill(&mut self) -> Result<&[u8], Error> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.recv().await {
                Some(RangeInput::End) => self.ended = true,
                Some(RangeInput::Piece(piece)) => self.piece = piece,
                None => return Err(Error::new(Kind::Other, "the reader was dropped")),
            }
        }
        Ok(&self.piece)
    }

    /// The bytes at hand.
    pub(super) fn at_hand(&self) -> &[u8] {
        &self.piece
    }

    /// Takes this many of the bytes at hand.
    pub(super) fn take(&mut self, bytes: usize) -> Bytes {
        let taken = self.piece.split_to(bytes.min(self.piece.len()));
        self.at.0 += taken.len() as u64;
        if self.is_open_ended {
            self.read_progress.advance(taken.len() as u64);
        }
        taken
    }

    /// Collects the bytes of a range into `bytes`, which has those of the range before: the two may overlap.
    pub(super) async fn collect(
        &mut self,
        range: &Range<Compressed>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let shared = usize::try_from(self.at.0.saturating_sub(range.start.0)).unwrap_or(usize::MAX);
        bytes.drain(..bytes.len().saturating_sub(shared));
        self.skip_to(range.start).await?;
        while self.at < range.end {
            let length = self.fill().await?.len();
            if length == 0 {
                return Err(cut());
            }
            let missing = usize::try_from(range.end.0 - self.at.0).unwrap_or(usize::MAX);
            bytes.extend_from_slice(&self.take(length.min(missing)));
        }
        Ok(())
    }

    /// Drops all bytes up to a place.
    pub(super) async fn skip_to(&mut self, place: Compressed) -> Result<(), Error> {
        while self.at < place {
            let length = self.fill().await?.len();
            if length == 0 {
                return Err(cut());
            }
            let missing = usize::try_from(place.0 - self.at.0).unwrap_or(usize::MAX);
            self.take(length.min(missing));
        }
        Ok(())
    }
}

/// The bytes end before the TOC says so.
pub(super) fn cut() -> Error {
    Error::new(Kind::Corrupt, "the content ends before the layer's TOC says")
}
