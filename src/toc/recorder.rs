//! Makes spans of a pass over a blob.
//!
//! ```text
//! compressed ──▶ held ──▶ leaves        bytes are held from the first open candidate on: it may begin a span
//! progress ────▶ decoded                32 KiB of output behind a candidate, its window is thinned and packed
//! checkpoint ──▶ candidates ──▶ spans   in each MiB the one with the smaller window becomes a span, once the MiB is over, or
//!                                       the first if its window is small
//! ```

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

/// Compressed bytes decoded since the first open candidate, from which on it is decided with what is there.
const HELD_BYTES: u64 = 512 << 10;

/// Least distance between two entries of the table of progress, in unpacked and compressed bytes: what a read ends at is
/// rounded up to a leaf anyway.
const PROGRESS_BYTES: (u64, u64) = (32 << 10, 4 << 10);

/// Most entries of that table; when it is full, every other one goes.
const PROGRESS_ENTRIES: usize = 1 << 18;
const _: () = assert!(PROGRESS_ENTRIES <= limits::PROGRESS, "a recorded table can be stored");

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
    progress: Progress,
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
            progress: Progress::new(progress),
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

    /// Where decoding is; the bytes of the blob up to there have been given.
    pub(crate) fn progress(&mut self, at: Position) {
        self.decoded = at;
        self.progress.push(at);
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
        let full = self.spans.len() + self.candidates.len() >= limits::SPANS;
        if !later || !open || full || self.failed.is_some() {
            return;
        }
        let none = WindowRange::default();
        let (start, window) = match checkpoint.restart {
            Restart::Deflate { bits, value, window } => {
                (Start::Deflate { bits, value, window: none }, Window::Whole(window))
            }
            Restart::Frame => (Start::Frame, Window::Packed(Vec::new())),
            Restart::Member => (Start::Member, Window::Packed(Vec::new())),
            Restart::Plain => (Start::Plain, Window::Packed(Vec::new())),
        };
        self.candidates.push_back(Candidate { at, start, window });
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
        self.end(end);
        let mut spans = self.into_spans(encoding, end)?;
        let keep = spans.spans.partition_point(|span| span.at.uncompressed <= next_header);
        spans.reopen(keep.saturating_sub(1));
        Ok(spans)
    }

    /// No candidates follow.
    fn end(&mut self, end: Position) {
        self.decoded = self.decoded.max(end);
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
        let progress = if encoding == Encoding::Plain { Vec::new() } else { self.progress.entries };
        let (spans, leaves, windows) = (self.spans, self.leaves.finish(), self.windows);
        Ok(Spans { encoding, spans, end, leaves, progress, windows, resume: None })
    }

    /// Packs the windows that can be, decides on candidates, and hashes what cannot begin a span any more.
    fn settle(&mut self, ended: bool) {
        let overdue = self.candidates.front().is_some_and(|first| {
            self.decoded.compressed.0.saturating_sub(first.at.compressed.0) > HELD_BYTES
        });
        let forced = ended || overdue;
        let mut index = 0;
        while index < self.candidates.len() {
            if self.has_cheaper(index) {
                self.candidates.remove(index);
                continue;
            }
            self.pack(index, forced);
            index += 1;
        }
        while let Some(first) = self.candidates.front() {
            let open = mib(first.at) >= mib(self.decoded) && !forced;
            let group = self.candidates.iter().take_while(|candidate| mib(candidate.at) == mib(first.at));
            if group.clone().any(|candidate| matches!(candidate.window, Window::Whole(_))) {
                break;
            }
            // Nothing is cheaper than a checkpoint without a window, if anything follows it.
            let free = |one: &Candidate| one.cost() == 0 && self.decoded.uncompressed > one.at.uncompressed;
            if open && !group.clone().any(free) {
                break;
            }
            let length = group.clone().count();
            let best = group.enumerate().min_by_key(|(_, candidate)| candidate.cost());
            let Some((best, _)) = best else { break };
            let chosen = self.candidates.drain(..length).nth(best);
            if let Some(chosen) = chosen {
                self.begin_span(chosen);
            }
        }
        let until = self.candidates.front().map_or(self.decoded.compressed, |first| first.at.compressed);
        self.hash_until(until.0);
    }

    /// Whether an earlier candidate of the same MiB is good enough.
    fn has_cheaper(&self, index: usize) -> bool {
        let Some(candidate) = self.candidates.get(index) else { return false };
        self.candidates.iter().take(index).any(|earlier| {
            let is_packed = matches!(earlier.window, Window::Packed(_));
            mib(earlier.at) == mib(candidate.at) && is_packed && earlier.cost() <= CHEAP_BYTES
        })
    }

    /// Thins and packs the window of a candidate, once what follows it is decoded.
    fn pack(&mut self, index: usize, forced: bool) {
        let Some(candidate) = self.candidates.get_mut(index) else { return };
        let behind = self.decoded.uncompressed.0.saturating_sub(candidate.at.uncompressed.0);
        if behind < WINDOW_BYTES as u64 && !forced {
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

/// Thins the places where decoding came to.
struct Progress {
    entries: Vec<Position>,
    /// Least distances, as [`PROGRESS_BYTES`].
    apart: (u64, u64),
}

impl Progress {
    fn new(entries: Vec<Position>) -> Self {
        Self { entries, apart: PROGRESS_BYTES }
    }

    fn push(&mut self, at: Position) {
        let last = self.entries.last().copied().unwrap_or_default();
        let far = |at: u64, last: u64, least: u64| at.checked_sub(last).is_some_and(|apart| apart >= least);
        if !far(at.uncompressed.0, last.uncompressed.0, self.apart.0)
            || !far(at.compressed.0, last.compressed.0, self.apart.1)
        {
            return;
        }
        if self.entries.len() >= PROGRESS_ENTRIES {
            let mut keep = false;
            self.entries.retain(|_| {
                keep = !keep;
                keep
            });
            self.apart = (self.apart.0.saturating_mul(2), self.apart.1.saturating_mul(2));
        }
        self.entries.push(at);
    }
}

#[cfg(test)]
mod tests;
