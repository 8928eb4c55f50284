//! The spans of a zTOC: a checkpoint and a digest each.
//!
//! ```text
//! blob   … │ last byte of span 0, first bits of span 1 │ … │
//!          ╰─ span 0 ends after it      ╰─ span 1, if it starts within a byte, is hashed from here on
//! ```
//! Unlike our own checkpoints these do not keep the bits of a byte that two spans share, so it is read with both spans.

use std::ops::Range;

use super::Error;
use crate::{
    decompress::{Checkpoint, Encoding, Restart, WINDOW_BYTES},
    limits,
    oci::digest::Digest,
    offset::{Compressed, Position, Uncompressed},
};

/// Bytes before the first checkpoint: the number of checkpoints and the span size.
const HEADER_BYTES: usize = 4 + 8;

/// Bytes of a checkpoint before its window: two offsets and the number of bits.
const CHECKPOINT_BYTES: usize = 8 + 8 + 1;

/// The first checkpoint, which version 1 omits: after a gzip header without a name.
const FIRST_CHECKPOINT: Compressed = Compressed(10);

/// Compression level of windows that are not in use.
const WINDOW_LEVEL: i32 = 1;

/// The spans of a layer's blob in a SOCI index.
#[derive(Debug)]
pub(crate) struct Ztoc {
    encoding: Encoding,
    spans: Vec<Span>,
    end: Position,
}

#[derive(Debug)]
struct Span {
    at: Position,
    /// How many bits of the byte before `at` belong to the span.
    bits: u8,
    /// Its window, compressed with zstd; empty if it has none.
    window: Box<[u8]>,
    digest: Digest,
}

impl Ztoc {
    /// Spans of a gzip blob.
    pub(super) fn gzip(checkpoints: &[u8], digests: Vec<Digest>, end: Position) -> Result<Self, Error> {
        const ENTRY_BYTES: usize = CHECKPOINT_BYTES + WINDOW_BYTES;
        let (header, entries) = checkpoints.split_at_checked(HEADER_BYTES).ok_or(Error::Checkpoints)?;
        let count = header.first_chunk().map_or(0, |count| i32::from_le_bytes(*count));
        let given = entries.len() / ENTRY_BYTES;
        let is_first_implied = match usize::try_from(count).map(|count| count.checked_sub(given)) {
            Ok(Some(0)) => false,
            Ok(Some(1)) => true,
            _ => return Err(Error::Checkpoints),
        };
        let is_whole =
            entries.len() % ENTRY_BYTES == 0 && given + usize::from(is_first_implied) == digests.len();
        if !is_whole || digests.is_empty() {
            return Err(Error::Checkpoints);
        }
        let mut digests = digests.into_iter();
        let mut spans = Vec::with_capacity(digests.len());
        if is_first_implied {
            let at = Position { compressed: FIRST_CHECKPOINT, uncompressed: Uncompressed(0) };
            spans.extend(digests.next().map(|digest| Span { at, bits: 0, window: Box::default(), digest }));
        }
        for (entry, digest) in entries.chunks_exact(ENTRY_BYTES).zip(digests) {
            let number = spans.len() as u64;
            spans.push(span(entry, digest).ok_or(Error::Span { number })?);
        }
        Self { encoding: Encoding::Gzip, spans, end }.checked()
    }

    /// Spans of an uncompressed blob, all of the same size but the last.
    pub(super) fn plain(size: u64, digests: Vec<Digest>, end: Position) -> Result<Self, Error> {
        if size == 0 || digests.len() as u64 != end.compressed.0.div_ceil(size) {
            return Err(Error::Checkpoints);
        }
        let at = |start| Position { compressed: Compressed(start), uncompressed: Uncompressed(start) };
        let starts = (0..).map(|number: u64| at(number * size));
        let spans =
            starts.zip(digests).map(|(at, digest)| Span { at, bits: 0, window: Box::default(), digest });
        Self { encoding: Encoding::Plain, spans: spans.collect(), end }.checked()
    }

    fn checked(self) -> Result<Self, Error> {
        let starts_whole = |span: &Span| {
            let header = if self.encoding == Encoding::Plain { 0 } else { FIRST_CHECKPOINT.0 };
            span.at.uncompressed.0 == 0 && span.bits == 0 && span.at.compressed.0 >= header
        };
        if !self.spans.first().is_some_and(starts_whole) {
            return Err(Error::Span { number: 0 });
        }
        let ends = self.spans.iter().skip(1).map(|span| span.at).chain([self.end]);
        for ((span, end), number) in self.spans.iter().zip(ends).zip(0..) {
            let length = end.compressed.0.checked_sub(span.at.compressed.0);
            let is_sound = length.is_some_and(|length| (1..=limits::ZTOC_SPAN_BYTES).contains(&length));
            // The last span may unpack to bytes after the end of the archive only.
            let unpacks = span.at.uncompressed < end.uncompressed || number + 1 == self.spans.len() as u64;
            if !is_sound || !unpacks {
                return Err(Error::Span { number });
            }
        }
        Ok(self)
    }

    /// How the blob is compressed.
    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The blob's size, and the end of the archive in the unpacked layer, which may be longer.
    #[cfg(test)]
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// The spans that unpack to these bytes.
    pub(crate) fn covering(&self, wanted: Range<Uncompressed>) -> Range<usize> {
        let first = self.spans.partition_point(|span| span.at.uncompressed <= wanted.start);
        let end = self.spans.partition_point(|span| span.at.uncompressed < wanted.end);
        first.saturating_sub(1)..end.max(first)
    }

    /// The bytes of the blob that a span's digest covers and that decoding it needs.
    pub(crate) fn compressed(&self, span: usize) -> Option<Range<Compressed>> {
        let start = self.spans.get(span)?;
        let end = self.spans.get(span + 1).map_or(self.end.compressed, |next| next.at.compressed);
        Some(Compressed(start.at.compressed.0 - u64::from(start.bits > 0))..end)
    }

    /// The bytes that a span unpacks to. The last one may unpack to more.
    pub(crate) fn unpacked(&self, span: usize) -> Option<Range<Uncompressed>> {
        let start = self.spans.get(span)?.at.uncompressed;
        let end = self.spans.get(span + 1).map_or(self.end.uncompressed, |next| next.at.uncompressed);
        Some(start..end.max(start))
    }

    /// Verifies a span's bytes, those of [`Self::compressed`]. Returns the checkpoint and the bytes to decode from it.
    pub(crate) fn open<'a>(&self, span: usize, bytes: &'a [u8]) -> Result<(Checkpoint, &'a [u8]), Error> {
        let number = span as u64;
        let Some(span) = self.spans.get(span) else { return Err(Error::Span { number }) };
        if !span.digest.matches(bytes) {
            return Err(Error::SpanDigest { number });
        }
        let Some((shared, rest)) = bytes.split_first() else { return Err(Error::Span { number }) };
        let (value, rest) = match span.bits {
            0 => (0, bytes),
            bits => (shared >> (8 - bits), rest),
        };
        let restart = match self.encoding {
            Encoding::Gzip => Restart::Deflate { bits: span.bits, value, window: span.window(number)? },
            Encoding::Plain | Encoding::Zstd => Restart::Plain,
        };
        Ok((Checkpoint { at: span.at, restart }, rest))
    }
}

impl Span {
    fn window(&self, number: u64) -> Result<Vec<u8>, Error> {
        if self.window.is_empty() {
            return Ok(Vec::new());
        }
        zstd::bulk::decompress(&self.window, WINDOW_BYTES).map_err(|_| Error::Span { number })
    }
}

/// One checkpoint with its window.
fn span(entry: &[u8], digest: Digest) -> Option<Span> {
    let (compressed, rest) = entry.split_first_chunk()?;
    let (uncompressed, rest) = rest.split_first_chunk()?;
    let (bits, window) = rest.split_first()?;
    let offset = |bytes| u64::try_from(i64::from_le_bytes(bytes)).ok();
    let (compressed, uncompressed) = (offset(*compressed)?, offset(*uncompressed)?);
    if *bits > 7 {
        return None;
    }
    // Bytes before that are left over in the window from earlier, not part of the stream.
    let length = WINDOW_BYTES.min(usize::try_from(uncompressed).unwrap_or(WINDOW_BYTES));
    let window = window.get(window.len().checked_sub(length)?..)?;
    let window =
        if window.is_empty() { Vec::new() } else { zstd::bulk::compress(window, WINDOW_LEVEL).ok()? };
    Some(Span {
        at: Position { compressed: Compressed(compressed), uncompressed: Uncompressed(uncompressed) },
        bits: *bits,
        window: window.into(),
        digest,
    })
}
