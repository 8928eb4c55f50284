//! Bytes on their way from the transfer to the extract thread.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    error::{Error, Kind},
    offset::Compressed,
    source::growing::Demand,
};

/// What comes to the thread: the pieces of a range, then its end.
pub(super) enum Message {
    End,
    Piece(Bytes),
}

/// The bytes of one range after the other, for a thread that waits for them.
pub(super) struct Feed {
    pieces: mpsc::Receiver<Message>,
    /// What is left of the last piece.
    piece: Bytes,
    /// Where it lies in the blob.
    pub(super) at: Compressed,
    /// Whether the range has no more pieces.
    ended: bool,
    /// Told how far a range has been taken that ends at `endless`.
    demand: Arc<Demand>,
    endless: Option<Compressed>,
    is_endless: bool,
}

impl Feed {
    /// Of what comes from `pieces`; nothing of it before the first range has begun.
    pub(super) fn new(
        pieces: mpsc::Receiver<Message>,
        demand: Arc<Demand>,
        endless: Option<Compressed>,
    ) -> Self {
        let (piece, at) = (Bytes::new(), Compressed(0));
        Self { pieces, piece, at, ended: true, demand, endless, is_endless: false }
    }

    /// Goes on to the next range.
    pub(super) fn begin(&mut self, range: &Range<Compressed>) -> Result<(), Error> {
        while !self.ended {
            self.piece = Bytes::new();
            self.fill()?;
        }
        self.piece = Bytes::new();
        self.at = range.start;
        self.ended = false;
        self.is_endless = Some(range.end) == self.endless;
        Ok(())
    }

    /// The bytes at hand, or the next ones; none at the end of the range.
    pub(super) fn fill(&mut self) -> Result<&[u8], Error> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Message::End) => self.ended = true,
                Some(Message::Piece(piece)) => self.piece = piece,
                None => return Err(Error::new(Kind::Other, "the reader was dropped")),
            }
        }
        Ok(&self.piece)
    }

    /// So many of the bytes at hand have been taken.
    pub(super) fn take(&mut self, bytes: usize) -> Bytes {
        let taken = self.piece.split_to(bytes.min(self.piece.len()));
        self.at.0 += taken.len() as u64;
        if self.is_endless {
            self.demand.advance(taken.len() as u64);
        }
        taken
    }

    /// The bytes of a range into `bytes`, which has those of the range before: the two may overlap.
    pub(super) fn collect(&mut self, range: &Range<Compressed>, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let shared = usize::try_from(self.at.0.saturating_sub(range.start.0)).unwrap_or(usize::MAX);
        bytes.drain(..bytes.len().saturating_sub(shared));
        self.skip_to(range.start)?;
        while self.at < range.end {
            let length = self.fill()?.len();
            if length == 0 {
                return Err(cut());
            }
            let missing = usize::try_from(range.end.0 - self.at.0).unwrap_or(usize::MAX);
            bytes.extend_from_slice(&self.take(length.min(missing)));
        }
        Ok(())
    }

    /// Leaves out all up to a place.
    pub(super) fn skip_to(&mut self, place: Compressed) -> Result<(), Error> {
        while self.at < place {
            let length = self.fill()?.len();
            if length == 0 {
                return Err(cut());
            }
            let missing = usize::try_from(place.0 - self.at.0).unwrap_or(usize::MAX);
            self.take(length.min(missing));
        }
        Ok(())
    }
}

/// The bytes do not go as far as the table says.
pub(super) fn cut() -> Error {
    Error::new(Kind::Corrupt, "the content ends before the layer's table of contents says")
}
