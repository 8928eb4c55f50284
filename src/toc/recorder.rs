//! Makes spans of a pass over a blob.
//!
//! ```text
//! compressed ──▶ held ──▶ leaves        bytes are held from the first open candidate on: it may begin a span
//! progress ────▶ decoded                32 KiB of output behind a candidate, its window is thinned and packed
//! checkpoint ──▶ candidates ──▶ spans   in each MiB the one with the smaller window becomes a span, once no other can come, or
//!                                       the first if its window is small
//! ```
//!
//! What becomes a span is a matter of the blob alone: a decision waits until what it looks at is there, and looks at no more than that.
//! So the spans of a blob are always the same, in whatever pieces it came, and wherever passes stopped and were gone on with.

use std::{collections::VecDeque, fmt, io};

use bytes::{Buf as _, Bytes};

use super::{
    leaves::LeafHasher,
    spans::{Span, Spans, Start, WindowRange, WindowStore},
};
use crate::{
    decompress::{CHECKPOINT_BYTES, Checkpoint, Encoding, Restart, WINDOW_BYTES, window::Thinner},
    limits,
    offset::{Position, Uncompressed},
};

/// Most compressed bytes that are looked at to thin a window.
const FOLLOWING_BYTES: usize = 64 << 10;

/// A window that takes no more is good enough: the next candidate of its MiB is not looked at. In bytes, packed.
const CHEAP_BYTES: usize = 2 << 10;

/// Most compressed bytes that are held for what is not decided on.
const HELD_BYTES: u64 = 512 << 10;

/// A second candidate that lies farther behind the first is passed over, in compressed bytes.
const APART_BYTES: u64 = HELD_BYTES - FOLLOWING_BYTES as u64;

/// Candidates that a MiB has at most.
const CANDIDATES: usize = 2;

/// Makes spans of what a pass over a blob comes past.
pub(crate) struct Recorder {
    spans: Vec<Span>,
    leaves: LeafHasher,
    windows: Box<dyn WindowStore>,
    /// Compressed bytes that are not hashed yet, and where they begin.
    held: VecDeque<Bytes>,
    held_start: u64,
    held_end: u64,
    decoded: Position,
    candidates: VecDeque<Candidate>,
    progress: Vec<Position>,
    thinner: Thinner,
    failed: Option<io::Error>,
}

/// A checkpoint that may become the start of a span.
struct Candidate {
    at: Position,
    start: Start,
    window: Window,
}

enum Window {
    /// As the checkpoint has it.
    Whole(Vec<u8>),
    /// Thinned and encoded.
    Packed(Vec<u8>),
}

impl Recorder {
    /// Of a pass from the blob's start.
    pub(crate) fn new(windows: Box<dyn WindowStore>) -> Self {
        // How a span begins at the blob's start is known when its encoding is.
        let first = Span { at: Position::default(), start: Start::Plain };
        Self::with(vec![first], Vec::new(), Vec::new(), windows)
    }

    /// Of a pass that goes on where another one stopped, from the start of its last span.
    pub(crate) fn resume(spans: Spans) -> Self {
        let mut progress = spans.progress;
        if let Some(last) = spans.spans.last() {
            progress.retain(|position| position.uncompressed <= last.at.uncompressed);
        }
        Self::with(spans.spans, spans.leaves, progress, spans.windows)
    }

    fn with(
        spans: Vec<Span>,
        leaves: Vec<[u8; 32]>,
        progress: Vec<Position>,
        windows: Box<dyn WindowStore>,
    ) -> Self {
        let start = spans.last().map(|span| span.at).unwrap_or_default();
        Self {
            spans,
            leaves: LeafHasher::new(leaves),
            windows,
            held: VecDeque::new(),
            held_start: start.compressed.0,
            held_end: start.compressed.0,
            decoded: start,
            candidates: VecDeque::new(),
            progress,
            thinner: Thinner::new(),
            failed: None,
        }
    }

    /// Takes the next bytes of the blob.
    pub(crate) fn compressed(&mut self, piece: &Bytes) {
        if !piece.is_empty() {
            self.held_end += piece.len() as u64;
            self.held.push_back(piece.clone());
        }
    }

    /// Where decoding is, and what was noted on the way there ([`take_progress`](crate::decompress::Decompressor::take_progress)); the
    /// bytes of the blob up to there have been given.
    pub(crate) fn progress(&mut self, at: Position, noted: &[Position]) {
        self.decoded = self.decoded.max(at);
        for place in noted {
            let last = self.progress.last().copied().unwrap_or_default();
            // Bytes that nothing comes of are no better place to end at than the one before them.
            let is_farther = place.compressed > last.compressed && place.uncompressed > last.uncompressed;
            if is_farther && self.progress.len() < limits::PROGRESS {
                self.progress.push(*place);
            }
        }
        self.settle(false);
    }

    /// Takes a checkpoint at the last progress.
    pub(crate) fn checkpoint(&mut self, checkpoint: Checkpoint) {
        let last = self.candidates.back().map(|candidate| candidate.at);
        let last = last.or_else(|| self.spans.last().map(|span| span.at)).unwrap_or_default();
        let at = checkpoint.at;
        let later = at.compressed > last.compressed && at.uncompressed > last.uncompressed;
        // What was decided on is not decided on again.
        let open = self.spans.last().is_none_or(|span| mib(span.at) < mib(at));
        let first = self.candidates.iter().find(|candidate| mib(candidate.at) == mib(at));
        let near = first.is_none_or(|first| at.compressed.0 - first.at.compressed.0 <= APART_BYTES);
        if !later || !open || !near || self.failed.is_some() {
            return;
        }
        self.candidates.push_back(Candidate::new(checkpoint));
        self.decoded = self.decoded.max(at);
        self.settle(false);
    }

    /// The whole blob was read; `end` is its size and that of the unpacked layer.
    ///
    /// # Errors
    ///
    /// What the store of windows says.
    pub(crate) fn finish(mut self, encoding: Encoding, end: Position) -> io::Result<Spans> {
        self.end(end);
        self.hash_until(end.compressed.0);
        self.leaves.end_span();
        self.into_spans(encoding, end)
    }

    /// The blob was read in part, up to `end`; the first entry that is not in the table begins at `next_header`. The last span
    /// starts there or before and is open: what there are of its leaves is dropped. `resume` is left to the caller.
    ///
    /// # Errors
    ///
    /// What the store of windows says.
    pub(crate) fn stop(
        mut self,
        encoding: Encoding,
        end: Position,
        next_header: Uncompressed,
    ) -> io::Result<Spans> {
        self.decoded = self.decoded.max(end);
        self.settle(false);
        // What is not decided on would be, in another place, by who goes on: the leaves before it are anchored at the span that ends there.
        self.candidates.clear();
        let mut spans = self.into_spans(encoding, end)?;
        let keep = spans.spans.partition_point(|span| span.at.uncompressed <= next_header);
        spans.reopen(keep.saturating_sub(1));
        Ok(spans)
    }

    /// The blob ends here, and no candidates follow.
    fn end(&mut self, end: Position) {
        self.decoded = self.decoded.max(end);
        self.settle(false);
        self.candidates.retain(|candidate| {
            candidate.at.uncompressed < end.uncompressed && candidate.at.compressed < end.compressed
        });
        self.settle(true);
    }

    fn into_spans(mut self, encoding: Encoding, end: Position) -> io::Result<Spans> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Some(first) = self.spans.first_mut() {
            first.start = match encoding {
                Encoding::Gzip => Start::Member,
                Encoding::Plain => Start::Plain,
                Encoding::Zstd => Start::Frame,
            };
        }
        // Of a plain blob every byte tells where it comes from.
        let progress = if encoding == Encoding::Plain { Vec::new() } else { self.progress };
        let (spans, leaves, windows) = (self.spans, self.leaves.finish(), self.windows);
        Ok(Spans { encoding, spans, end, leaves, progress, windows, resume: None })
    }

    /// Packs the windows that can be, decides on candidates, and hashes what cannot begin a span any more.
    fn settle(&mut self, ended: bool) {
        for index in 0..self.candidates.len() {
            self.pack(index, ended);
        }
        while let Some((chosen, length)) = self.chosen(ended) {
            let chosen = self.candidates.drain(..length).nth(chosen);
            if let Some(chosen) = chosen {
                self.begin_span(chosen);
            }
        }
        let until = self.candidates.front().map_or(self.decoded.compressed, |first| first.at.compressed);
        self.hash_until(until.0);
    }

    /// Which of the first candidates, those of one MiB, begins a span, and how many they are; `None` while that cannot be told.
    fn chosen(&self, ended: bool) -> Option<(usize, usize)> {
        let first = self.candidates.front()?;
        let group = self.candidates.iter().take_while(|candidate| mib(candidate.at) == mib(first.at));
        let length = group.clone().count();
        for (index, candidate) in group.clone().enumerate() {
            let follows = self.decoded.uncompressed > candidate.at.uncompressed;
            match &candidate.window {
                Window::Whole(_) => return None,
                Window::Packed(packed) if packed.len() <= CHEAP_BYTES && follows => {
                    return Some((index, length));
                }
                Window::Packed(_) => {}
            }
        }
        let behind = self.decoded.compressed.0.saturating_sub(first.at.compressed.0);
        let is_over = mib(first.at) < mib(self.decoded) || behind > APART_BYTES;
        if !is_over && !ended && length < CANDIDATES {
            return None;
        }
        let (best, _) = group.enumerate().min_by_key(|(_, candidate)| candidate.cost())?;
        Some((best, length))
    }

    /// Thins and packs the window of a candidate, once all that may count for that is there.
    fn pack(&mut self, index: usize, ended: bool) {
        let Some(candidate) = self.candidates.get_mut(index) else { return };
        let compressed = self.decoded.compressed.0.saturating_sub(candidate.at.compressed.0);
        let uncompressed = self.decoded.uncompressed.0.saturating_sub(candidate.at.uncompressed.0);
        if uncompressed < WINDOW_BYTES as u64 && compressed < FOLLOWING_BYTES as u64 && !ended {
            return;
        }
        let (Start::Deflate { bits, value, .. }, Window::Whole(window)) =
            (candidate.start, &mut candidate.window)
        else {
            return;
        };
        let following = following(&self.held, self.held_start, candidate.at.compressed.0);
        self.thinner.thin(bits, value, window, following);
        match self.thinner.pack(window) {
            Ok(packed) => candidate.window = Window::Packed(packed),
            Err(error) => {
                candidate.window = Window::Packed(Vec::new());
                self.failed = Some(error);
            }
        }
    }

    fn begin_span(&mut self, candidate: Candidate) {
        if self.spans.len() >= limits::SPANS {
            return;
        }
        self.hash_until(candidate.at.compressed.0);
        self.leaves.end_span();
        let mut start = candidate.start;
        if let (Start::Deflate { window, .. }, Window::Packed(packed)) = (&mut start, candidate.window)
            && !packed.is_empty()
        {
            match self.windows.push(&packed) {
                Ok(place) => *window = place,
                Err(error) => self.failed = Some(error),
            }
        }
        self.spans.push(Span { at: candidate.at, start });
    }

    /// Hashes what is held up to a place in the blob.
    fn hash_until(&mut self, until: u64) {
        while let Some(piece) = self.held.front_mut().filter(|_| self.held_start < until) {
            let left = usize::try_from(until - self.held_start).unwrap_or(usize::MAX);
            let length = left.min(piece.len());
            self.leaves.update(piece.get(..length).unwrap_or_default());
            self.held_start += length as u64;
            piece.advance(length);
            if piece.is_empty() {
                self.held.pop_front();
            }
        }
    }
}

impl Candidate {
    fn new(Checkpoint { at, restart }: Checkpoint) -> Self {
        let none = WindowRange::default();
        let (start, window) = match restart {
            Restart::Deflate { bits, value, window } => {
                (Start::Deflate { bits, value, window: none }, Window::Whole(window))
            }
            Restart::Frame => (Start::Frame, Window::Packed(Vec::new())),
            Restart::Member => (Start::Member, Window::Packed(Vec::new())),
            Restart::Plain => (Start::Plain, Window::Packed(Vec::new())),
        };
        Self { at, start, window }
    }

    /// The bytes that its window takes.
    fn cost(&self) -> usize {
        match &self.window {
            Window::Packed(packed) => packed.len(),
            Window::Whole(window) => window.len(),
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("decoded", &self.decoded).finish_non_exhaustive()
    }
}

/// The MiB of output that a place lies in.
fn mib(at: Position) -> u64 {
    at.uncompressed.0 / CHECKPOINT_BYTES
}

/// What is held from a place on, as much as thinning looks at.
fn following(held: &VecDeque<Bytes>, held_start: u64, from: u64) -> impl Iterator<Item = &[u8]> + Clone {
    let mut skip = usize::try_from(from.saturating_sub(held_start)).unwrap_or(usize::MAX);
    let mut room = FOLLOWING_BYTES;
    held.iter().map(move |piece| {
        let (skipped, rest) = piece.split_at(skip.min(piece.len()));
        let (taken, _) = rest.split_at(room.min(rest.len()));
        skip -= skipped.len();
        room -= taken.len();
        taken
    })
}

#[cfg(test)]
mod tests;
