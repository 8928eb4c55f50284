//! Passes over a blob in memory.

use bytes::Bytes;

use super::caused;
use crate::{
    decompress::Decompressor,
    error::Error,
    offset::Position,
    toc::{
        span_builder::SpanBuilder,
        spans::{Spans, Start},
        windows::MemoryWindows,
    },
};

/// Bytes of the blob decoded at a time, as from a network.
const PIECE_BYTES: usize = 64 << 10;

/// Unpacked bytes written at a time, as in a pass.
const BUFFER_BYTES: usize = 256 << 10;

/// Unpacks a blob and discards the output; returns the unpacked length.
///
/// # Errors
///
/// If the blob is corrupt.
///
/// ```
/// assert_eq!(layerslayer::internals::unpack(&b"not compressed"[..].into())?, 14);
/// # Ok::<(), layerslayer::Error>(())
/// ```
pub fn unpack(blob: &Bytes) -> Result<u64, Error> {
    let end = pass(Decompressor::new(), blob, &mut |_, _| {})?;
    Ok(end.uncompressed.0)
}

/// The same, stopping for checkpoints; returns their number.
///
/// # Errors
///
/// If the blob is corrupt.
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

/// The spans recorded by a pass over a blob.
///
/// ```
/// let recording = layerslayer::internals::RecordedSpans::of(&b"not compressed"[..].into());
/// assert!(recording.is_ok());
/// ```
#[derive(Debug)]
pub struct RecordedSpans(Spans);

impl RecordedSpans {
    /// Reads a blob and records its spans, all on this thread.
    ///
    /// # Errors
    ///
    /// If the blob is corrupt.
    ///
    /// ```
    /// assert!(layerslayer::internals::RecordedSpans::of(&b"not compressed"[..].into()).is_ok());
    /// ```
    pub fn of(blob: &Bytes) -> Result<Self, Error> {
        let mut decompressor = Decompressor::new();
        decompressor.record();
        let mut builder = SpanBuilder::new(Box::new(MemoryWindows::default()));
        let mut encoding = None;
        let end = pass(decompressor, blob, &mut |piece, decoder| {
            if let Some(piece) = piece {
                builder.compressed(piece);
                return;
            }
            let samples = decoder.take_progress();
            builder.progress(decoder.position(), &samples);
            encoding = decoder.encoding();
            if let Some(checkpoint) = decoder.take_checkpoint() {
                builder.checkpoint(checkpoint);
            }
        })?;
        let encoding = encoding.unwrap_or(crate::decompress::Encoding::Plain);
        builder.finish(encoding, end).map(Self).map_err(caused)
    }

    /// The number of spans.
    ///
    /// ```
    /// # use layerslayer::internals::RecordedSpans;
    /// assert_eq!(RecordedSpans::of(&b"not compressed"[..].into())?.spans(), 1);
    /// # Ok::<(), layerslayer::Error>(())
    /// ```
    #[must_use]
    pub fn spans(&self) -> usize {
        self.0.spans.len()
    }

    /// The total length of all encoded windows in bytes.
    ///
    /// ```
    /// # use layerslayer::internals::RecordedSpans;
    /// assert_eq!(RecordedSpans::of(&b"not compressed"[..].into())?.windows(), 0);
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

    /// Decodes from a span into `output`; returns how many bytes were filled.
    ///
    /// # Errors
    ///
    /// If there is no such span, or the blob is not the recorded one.
    ///
    /// ```
    /// # use layerslayer::internals::RecordedSpans;
    /// let blob = b"not compressed"[..].into();
    /// let mut output = [0; 3];
    /// assert_eq!(RecordedSpans::of(&blob)?.restart(0, &blob, &mut output)?, 3);
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

/// Unpacks a blob. Calls `seen` with each piece before it is decoded, and with `None` after each decoder call.
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
            // 0 with remaining input: it stopped for a checkpoint.
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
