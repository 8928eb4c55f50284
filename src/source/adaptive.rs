//! Reads a blob from an offset on by ranges that grow: stopping early wastes few bytes, and reading on keeps the link saturated.
//!
//! ```text
//! decoded ──────▶│  may be ahead: ¼ of it and 1,520 KiB        │
//! [ first: 128 KiB ][ range, being read ][ range, requested     ]
//! ```
//!
//! The first range is requested alone: it holds most small system files. Where the latency is longer than a short range takes, the
//! next range is requested as soon as the first bytes of the previous one arrive: a reader that stops there hangs up before the
//! server has sent more than may be ahead. Where ranges are large, the next one is requested shortly before the previous one ends.
//!
//! A read that is known to go to the end requests a small blob at once and splits a large one. Where the link and not the decoder is
//! the bottleneck, and each connection has a limit of its own, large ranges are received by several connections in parallel:
//! ```text
//! [ received ][ being read, connection 1 ][ buffered, 2 ][ buffered, 3 ][ buffered, 4 ]
//!             │◀─────────────────── at most READ_AHEAD_BYTES ──────────────────────▶│
//! ```

mod full;
mod link_estimate;
mod part;
mod prefetched;
mod ranges;
mod read_progress;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future, stream};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::{
    full::forecast_full, prefetched::Prefetched, ranges::forecast, read_progress::ReadProgress,
};
use self::{
    full::next_full,
    link_estimate::LinkEstimate,
    part::{Event, Part},
    ranges::{ReadState, clip, next, remainder},
};
use super::{Error, Source};
use crate::offset::Compressed;

/// Ranges requested at a time while they are short, each on a connection of its own.
const RANGES: usize = 4;

/// The bytes of a blob from an offset on, by ranges that grow.
pub(crate) struct AdaptiveReader {
    source: Arc<dyn Source>,
    read_progress: Arc<ReadProgress>,
    /// Whether all of the blob is going to be read.
    is_full: bool,
    /// Whether the host does not ignore ranges.
    is_ranged: bool,
    start: u64,
    /// End of the last requested range.
    requested: u64,
    /// End of the bytes delivered to the reader.
    delivered: u64,
    parts: VecDeque<Part>,
    /// Connections being made for later ranges.
    preparing: Option<AbortOnDropHandle<()>>,
    link: LinkEstimate,
}

impl AdaptiveReader {
    /// Reads `source` from `start` towards its end, as `read_progress` advances.
    pub(crate) fn new(source: Arc<dyn Source>, start: Compressed, read_progress: Arc<ReadProgress>) -> Self {
        let (mut requested, mut parts) = (start.0, VecDeque::new());
        if let Some(prefetched) = read_progress.take_prefetched().filter(|_| start == Compressed(0)) {
            requested = prefetched.part.range.end;
            parts.push_back(prefetched.part);
        }
        let (start, link) = (start.0, LinkEstimate::new(Instant::now()));
        let (is_full, is_ranged, delivered, preparing) = (false, source.wants_ranges(), start, None);
        Self {
            source,
            read_progress,
            is_full,
            is_ranged,
            start,
            requested,
            delivered,
            parts,
            preparing,
            link,
        }
    }

    /// Reads `source` from `start` to its end.
    pub(crate) fn full(source: Arc<dyn Source>, start: Compressed, read_progress: Arc<ReadProgress>) -> Self {
        Self { is_full: true, ..Self::new(source, start, read_progress) }
    }

    /// The chunks.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        self.located().map(|located| located.map(|(_, chunk)| chunk))
    }

    /// The chunks with their offsets in the blob.
    pub(crate) fn located(self) -> impl Stream<Item = Result<(Compressed, Bytes), Error>> + Send {
        stream::unfold(self, |mut reader| async move {
            let chunk = reader.next().await?;
            let located = chunk.map(|chunk| (Compressed(reader.delivered - chunk.len() as u64), chunk));
            Some((located, reader))
        })
    }

    /// The next chunk.
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            self.skip();
            self.request();
            let is_requested = self.requested >= self.source.size();
            if is_requested && !self.is_full {
                self.read_progress.set_all_requested();
            }
            let is_parallel = self.parts.len() > 1;
            let Some(front) = self.parts.front_mut() else {
                if is_requested {
                    return None;
                }
                self.read_progress.advanced().await;
                continue;
            };
            let (was_open, waiting_since) = (front.is_open(), Instant::now());
            let event = tokio::select! {
                biased;
                event = front.next() => Some(event),
                () = self.read_progress.advanced() => None,
                () = sequential(&*self.source), if is_parallel => None,
            };
            let now = Instant::now();
            // Waiting for a response says nothing about the throughput.
            let waited = now.saturating_duration_since(waiting_since);
            self.link.waited(Some(waited).filter(|_| was_open), now);
            match event {
                Some(Event::Chunk(chunk)) => {
                    self.delivered += chunk.len() as u64;
                    self.link.received(chunk.len() as u64, now);
                    return Some(Ok(chunk));
                }
                Some(Event::Opened(latency)) => self.link.responded(latency),
                Some(Event::End) => drop(self.parts.pop_front()),
                Some(Event::Failed(error)) => {
                    self.parts.pop_front();
                    return Some(Err(error));
                }
                None => {}
            }
        }
    }

    /// Follows a reader that skipped content.
    fn skip(&mut self) {
        if let Some(Compressed(offset)) = self.read_progress.take_skip() {
            self.parts.clear();
            (self.start, self.requested, self.delivered) = (offset, offset, offset);
        }
    }

    /// Drops the later ranges where the host does not serve them in parallel: it ignores ranges, so that each would cost all of the
    /// blob before it, or it has refused parallel requests.
    fn drop_later(&mut self) {
        let received = self.parts.iter().skip(1).take_while(|part| part.is_received()).count();
        self.parts.truncate(1 + received);
        // Of the whole blob as the response to its first range, nothing has been read yet.
        if !self.is_ranged && self.is_full && self.delivered == 0 {
            self.parts.retain(|part| part.range.end == self.source.size());
        }
        self.requested = self.parts.back().map_or(self.delivered, |part| part.range.end);
    }

    /// Requests every range that may be requested now.
    fn request(&mut self) {
        let was_ranged = std::mem::replace(&mut self.is_ranged, self.source.wants_ranges());
        let is_sequential = self.source.transfers().is_some_and(|transfers| transfers.is_sequential());
        if !self.parts.is_empty() && (was_ranged && !self.is_ranged || is_sequential) {
            self.drop_later();
        }
        let mut allowance = self.source.allowance();
        let is_limited = allowance < u64::MAX;
        loop {
            if is_sequential && !self.parts.is_empty() {
                return;
            }
            let state = self.state(is_limited);
            let next = match (self.is_ranged, self.is_full) {
                (false, _) => remainder(state).map(|range| (range, false)),
                (true, false) if self.parts.len() >= RANGES && !state.may_add => None,
                (true, false) => next(state, self.link.lead()),
                (true, true) => next_full(state, self.link.lead()),
            };
            let Some((range, is_buffered)) = next else { return };
            // A read to the end fails at once if it does not fit.
            let range = if self.is_full { range } else { clip(range, allowance) };
            allowance = allowance.saturating_sub(range.end - range.start);
            self.prepare(&range, is_sequential);
            self.requested = range.end;
            self.parts.push_back(match is_buffered {
                true => Part::buffer(&self.source, range),
                false => Part::request(&self.source, range),
            });
        }
    }

    fn state(&self, is_limited: bool) -> ReadState {
        let is_last_arriving = self.parts.back().is_some_and(|part| self.delivered > part.range.start);
        let transfers = self.source.transfers().filter(|_| !is_limited);
        ReadState {
            start: self.start,
            decoded: self.read_progress.decoded(),
            delivered: self.delivered,
            requested: self.requested,
            // Not under a transfer limit: it counts requested bytes.
            is_arriving: is_last_arriving && !is_limited && self.link.is_far(),
            size: self.source.size(),
            receiving: self.parts.iter().filter(|part| !part.is_received()).count(),
            may_add: transfers.is_some_and(|transfers| self.link.is_bottleneck() && transfers.may_add()),
            pays: transfers.map_or(Some(false), |transfers| transfers.pays()),
            is_decoder_bound: !self.link.is_bottleneck(),
        }
    }

    /// Makes connections for the ranges after the second one, once.
    fn prepare(&mut self, range: &Range<u64>, is_sequential: bool) {
        let continues = range.start > self.start && range.end < self.source.size();
        if continues && !self.is_full && !is_sequential && self.preparing.is_none() {
            let preparing = tokio::spawn(self.source.prepare(RANGES - 2));
            self.preparing = Some(AbortOnDropHandle::new(preparing));
        }
    }
}

/// Whether parallel transfers are faster; `None` if that is unknown.
pub(crate) fn pays(source: &dyn Source) -> Option<bool> {
    let transfers = source.transfers().filter(|_| source.allowance() == u64::MAX);
    transfers.map_or(Some(false), |transfers| transfers.pays())
}

/// Waits until the host gets only one request at a time.
async fn sequential(source: &dyn Source) {
    match source.transfers() {
        Some(transfers) => transfers.sequential().await,
        None => future::pending().await,
    }
}
