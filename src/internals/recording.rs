//! Passes over a blob that lies in memory.

use bytes::Bytes;

use super::caused;
use crate::{
    decompress::Decompressor,
    error::Error,
    offset::Position,
    toc::{
        recorder::Recorder,
        spans::{Spans, Start},
        windows::MemoryWindows,
    },
};

/// Bytes of the blob that are given to the decoder at a time, as they come from a network.
const PIECE_BYTES: usize = 64 << 10;

/// Unpacked bytes written at a time, as in a pass.
const BUFFER_BYTES: usize = 256 << 10;

/// Unpacks a blob and keeps nothing; returns the unpacked length.
///
/// # Errors
///
/// When the blob is corrupt.
///
/// ```
/// assert_eq!(layerslayer::internals::unpack(&b"not compressed"[..].into())?, 14);
/// # Ok::<(), layerslayer::Error>(())
/// ```
pub fn unpack(blob: &Bytes) -> Result<u64, Error> {
    let end = pass(Decompressor::new(), blob, &mut |_, _| {})?;
    Ok(end.uncompressed.0)
}

/// The same, stopping for checkpoints; returns how many there were.
///
/// # Errors
///
/// When the blob is corrupt.
///
/// ```
/// assert_eq!(layerslayer::internals::checkpoints(&vec![0; 3 << 20].into())?, 3);
/// # Ok::<(), layerslayer::Error>(())
/// ```
pub fn checkpoints(blob: &Bytes) -> Result<usize, Error> {
    let mut decompressor = Decompressor::new();
    decompressor.record();
    let mut count = 0;
    pass(decompressor, blob, &mut |_, decoder| count += usize::from(decoder.take_checkpoint().is_some()))?;
    Ok(count)
}

/// The spans that a pass over a blob gave.
///
/// ```
/// let recording = layerslayer::internals::Recording::of(&b"not compressed"[..].into());
/// assert!(recording.is_ok());
/// ```
#[derive(Debug)]
pub struct Recording(Spans);

impl Recording {
    /// Passes over a blob and records, all on this thread.
    ///
    /// # Errors
    ///
    /// When the blob is corrupt.
    ///
    /// ```
    /// assert!(layerslayer::internals::Recording::of(&b"not compressed"[..].into()).is_ok());
    /// ```
    pub fn of(blob: &Bytes) -> Result<Self, Error> {
        let mut decompressor = Decompressor::new();
        decompressor.record();
        let mut recorder = Recorder::new(Box::new(MemoryWindows::default()));
        let mut encoding = None;
        let end = pass(decompressor, blob, &mut |piece, decoder| {
            if let Some(piece) = piece {
                recorder.compressed(piece);
                return;
            }
            let noted = decoder.take_progress();
            recorder.progress(decoder.position(), &noted);
            encoding = decoder.encoding();
            if let Some(checkpoint) = decoder.take_checkpoint() {
                recorder.checkpoint(checkpoint);
            }
        })?;
        let encoding = encoding.unwrap_or(crate::decompress::Encoding::Plain);
        recorder.finish(encoding, end).map(Self).map_err(caused)
    }

    /// How many spans there are.
    ///
    /// ```
    /// # use layerslayer::internals::Recording;
    /// assert_eq!(Recording::of(&b"not compressed"[..].into())?.spans(), 1);
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn spans(&self) -> usize {
        self.0.spans.len()
    }

    /// The length of all encoded windows, in bytes.
    ///
    /// ```
    /// # use layerslayer::internals::Recording;
    /// assert_eq!(Recording::of(&b"not compressed"[..].into())?.windows(), 0);
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn windows(&self) -> u64 {
        let lengths = self.0.spans.iter().map(|span| match span.start {
            Start::Deflate { window, .. } => u64::from(window.length),
            Start::Frame | Start::Member | Start::Plain => 0,
        });
        lengths.sum()
    }

    /// Begins with a span and fills `output`, where it has so much; returns how much it had.
    ///
    /// # Errors
    ///
    /// When there is no such span, or the blob is not the one that was recorded.
    ///
    /// ```
    /// # use layerslayer::internals::Recording;
    /// let blob = b"not compressed"[..].into();
    /// let mut output = [0; 3];
    /// assert_eq!(Recording::of(&blob)?.restart(0, &blob, &mut output)?, 3);
    /// assert_eq!(output, *b"not");
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    pub fn restart(&self, span: usize, blob: &Bytes, output: &mut [u8]) -> Result<usize, Error> {
        let checkpoint = self.0.checkpoint(span).map_err(caused)?;
        let mut decompressor = Decompressor::restart(self.0.encoding, &checkpoint)?;
        let start = usize::try_from(checkpoint.at.compressed.0).unwrap_or(usize::MAX);
        let mut input = blob.get(start..).unwrap_or_default();
        let mut filled = 0;
        while let Some(room) = output.get_mut(filled..).filter(|room| !room.is_empty()) {
            match decompressor.decompress(&mut input, room)? {
                0 => break,
                produced => filled += produced,
            }
        }
        Ok(filled)
    }
}

/// Unpacks a blob; `seen` is told each piece before it is decoded, and `None` after each call of the decoder.
fn pass(
    mut decompressor: Decompressor,
    blob: &Bytes,
    seen: &mut dyn FnMut(Option<&Bytes>, &mut Decompressor),
) -> Result<Position, Error> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut start = 0;
    while start < blob.len() {
        let piece = blob.slice(start..blob.len().min(start + PIECE_BYTES));
        start += piece.len();
        seen(Some(&piece), &mut decompressor);
        let mut input = &*piece;
        loop {
            let produced = decompressor.decompress(&mut input, &mut buffer)?;
            seen(None, &mut decompressor);
            // 0 with input left: it stopped for a checkpoint.
            if produced == 0 && input.is_empty() {
                break;
            }
        }
    }
    while decompressor.finish(&mut buffer)? > 0 {
        seen(None, &mut decompressor);
    }
    seen(None, &mut decompressor);
    Ok(decompressor.position())
}
