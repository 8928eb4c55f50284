//! Builds the spans of a blob during a pass over it.
//!
//! ```text
//! compressed ──▶ held ──▶ leaves        bytes are held from the first open candidate on, because it may start a span
//! progress ────▶ decoded                32 KiB of output after a candidate, its window is made sparse and packed
//! checkpoint ──▶ candidates ──▶ spans   per MiB, the candidate with the smaller window starts a span, once no other can
//!                                       follow; or the first one, if its window is small
//! ```
//!
//! The spans depend on the blob alone: a decision waits for all of its input, and uses nothing else. So they are the same
//! however the blob is split, and wherever passes stop and resume.

use std::{collections::VecDeque, fmt, io};

use bytes::{Buf as _, Bytes};

use super::{
    leaves::LeafHasher,
    spans::{Span, Spans, Start, WindowRange, WindowStore},
};
use crate::{
    decompress::{CHECKPOINT_BYTES, Checkpoint, Encoding, Restart, WINDOW_BYTES, window::WindowSparsifier},
    limits,
    offset::{Position, Uncompressed},
};

/// Most compressed bytes used to make a window sparse.
const FOLLOWING_BYTES: usize = 64 << 10;

/// A packed window of at most this many bytes is good enough: the next candidate of its MiB is ignored.
const CHEAP_BYTES: usize = 2 << 10;

/// Most compressed bytes held for undecided candidates.
const HELD_BYTES: u64 = 512 << 10;

/// A second candidate is ignored if it is more than this many compressed bytes after the first.
const APART_BYTES: u64 = HELD_BYTES - FOLLOWING_BYTES as u64;

/// Most candidates per MiB.
const CANDIDATES: usize = 2;

/// Builds the spans of a blob.
pub(crate) struct SpanBuilder {
    spans: Vec<Span>,
    leaves: LeafHasher,
    windows: Box<dyn WindowStore>,
    /// Compressed bytes that are not hashed yet, and their start.
    held: VecDeque<Bytes>,
    held_start: u64,
    held_end: u64,
    decoded: Position,
    candidates: VecDeque<Candidate>,
    progress: Vec<Position>,
    sparsifier: WindowSparsifier,
    failed: Option<io::Error>,
}

/// A checkpoint that may become the start of a span.
struct Candidate {
    at: Position,
    start: Start,
    window: Window,
}

enum Window {
    /// As in the checkpoint.
    Whole(Vec<u8>),
    /// Sparse and encoded.
    Packed(Vec<u8>),
}

impl SpanBuilder {
    /// For a pass from the blob's start.
    pub(crate) fn new(windows: Box<dyn WindowStore>) -> Self {
        // The start of the first span is set once the encoding is known.
        let first = Span { at: Position::default(), start: Start::Plain };
        Self::with(vec![first], Vec::new(), Vec::new(), windows)
    }

    /// For a pass that resumes another from the start of its last span.
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
            sparsifier: WindowSparsifier::new(),
            failed: None,
        }
    }

    /// Adds the next bytes of the blob.
    pub(crate) fn compressed(&mut self, piece: &Bytes) {
        if !piece.is_empty() {
            self.held_end += piece.len() as u64;
            self.held.push_back(piece.clone());
        }
    }

    /// Reports the position of decoding and the samples on the way there
    /// ([`take_progress`](crate::decompress::Decompressor::take_progress)). The blob's bytes up to there must have been
    /// added.
    pub(crate) fn progress(&mut self, at: Position, samples: &[Position]) {
        self.decoded = self.decoded.max(at);
        for sample in samples {
            let last = self.progress.last().copied().unwrap_or_default();
            // After bytes without output, the sample before them is the better end of a read.
            let is_farther = sample.compressed > last.compressed && sample.uncompressed > last.uncompressed;
            if is_farther && self.progress.len() < limits::PROGRESS {
                self.progress.push(*sample);
            }
        }
        self.settle(false);
    }

    /// Adds a checkpoint at the last reported position.
    pub(crate) fn checkpoint(&mut self, checkpoint: Checkpoint) {
        let last = self.candidates.back().map(|candidate| candidate.at);
        let last = last.or_else(|| self.spans.last().map(|span| span.at)).unwrap_or_default();
        let at = checkpoint.at;
        let later = at.compressed > last.compressed && at.uncompressed > last.uncompressed;
        // A MiB that is decided is not decided again.
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

    /// Ends a pass over the whole blob; `end` is its size and that of the unpacked layer.
    ///
    /// # Errors
    ///
    /// Those of the window store.
    pub(crate) fn finish(mut self, encoding: Encoding, end: Position) -> io::Result<Spans> {
        self.end(end);
        self.hash_until(end.compressed.0);
        self.leaves.end_span();
        self.into_spans(encoding, end)
    }

    /// Ends a pass over part of the blob, up to `end`. The first entry that is not in the tree starts at `next_header`. The
    /// last span starts there or before; it is open, so its leaves are dropped. The caller sets `resume`.
    ///
    /// # Errors
    ///
    /// Those of the window store.
    pub(crate) fn stop(
        mut self,
        encoding: Encoding,
        end: Position,
        next_header: Uncompressed,
    ) -> io::Result<Spans> {
        self.decoded = self.decoded.max(end);
        self.settle(false);
        // The resuming pass decides on open candidates again: the leaves before them belong to the span that ends there.
        self.candidates.clear();
        let mut spans = self.into_spans(encoding, end)?;
        let kept = spans.spans.partition_point(|span| span.at.uncompressed <= next_header);
        spans.reopen(kept.saturating_sub(1));
        Ok(spans)
    }

    /// Ends the blob: no candidates follow.
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
        // The offsets of a plain blob are the same in both streams.
        let progress = if encoding == Encoding::Plain { Vec::new() } else { self.progress };
        let (spans, leaves, windows) = (self.spans, self.leaves.finish(), self.windows);
        Ok(Spans { encoding, spans, end, leaves, progress, windows, resume: None })
    }

    /// Packs complete windows, decides on candidates, and hashes bytes that cannot start a span any more.
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

    /// Which of the first MiB's candidates starts a span, and how many candidates it has; `None` while undecided.
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

    /// Makes the window of a candidate sparse and packs it, once all bytes that may refer to it are decoded.
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
        self.sparsifier.sparsify(bits, value, window, following);
        match self.sparsifier.pack(window) {
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
                Ok(range) => *window = range,
                Err(error) => self.failed = Some(error),
            }
        }
        self.spans.push(Span { at: candidate.at, start });
    }

    /// Hashes held bytes up to an offset in the blob.
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

    /// The size of its window.
    fn cost(&self) -> usize {
        match &self.window {
            Window::Packed(packed) => packed.len(),
            Window::Whole(window) => window.len(),
        }
    }
}

impl fmt::Debug for SpanBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanBuilder").field("decoded", &self.decoded).finish_non_exhaustive()
    }
}

/// The MiB of output of a position.
fn mib(at: Position) -> u64 {
    at.uncompressed.0 / CHECKPOINT_BYTES
}

/// The held bytes from an offset on that making a window sparse uses.
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
