//! Which range of a blob is requested next.

use std::ops::Range;

use crate::limits;

/// The first range, in bytes.
const FIRST_BYTES: u64 = 128 << 10;

/// How far requests may be ahead of what was decoded, in bytes, in addition to a quarter of what was decoded.
const AHEAD_BYTES: u64 = 1520 << 10;

/// Most that requests may be ahead, in bytes.
const MOST_AHEAD_BYTES: u64 = 64 << 20;

/// Shortest range worth a request of its own, in bytes.
const SHORTEST_BYTES: u64 = 160 << 10;

/// Below this many bytes ahead, ranges are short: the first ones cannot fill the link, and the next must not be late.
const MANY_BYTES: u64 = 1 << 20;

/// From this many bytes ahead on, two ranges fill any link, and usually one does.
const FEWER_BYTES: u64 = 2 << 20;

/// Ranges received in parallel that what may be ahead is split into, one more than there are transfers: none waits for another to end.
const PARALLEL_PARTS: u64 = limits::PARALLEL_RANGES as u64 + 1;

/// Longest range received in parallel, in bytes: long compared with a latency, and a few of them fit in memory.
pub(super) const PARALLEL_BYTES: u64 = 3 << 20;

/// What a reader has requested, received and decoded, in bytes.
#[derive(Clone, Copy)]
pub(super) struct ReadState {
    /// Where it started in the blob.
    pub(super) start: u64,
    /// Bytes decoded since then.
    pub(super) decoded: u64,
    /// End of the received bytes.
    pub(super) delivered: u64,
    /// End of the last requested range.
    pub(super) requested: u64,
    /// Whether to count requested bytes as decoded: the last range is arriving, and the next one would be late otherwise.
    pub(super) is_arriving: bool,
    /// Size of the blob.
    pub(super) size: u64,
    /// Ranges that have been requested and not completely received.
    pub(super) receiving: usize,
    /// Whether one more may raise the throughput.
    pub(super) may_add: bool,
    /// Whether parallel transfers are faster; `None` if that is unknown.
    pub(super) pays: Option<bool>,
    /// Whether the decoder and not the link is the bottleneck.
    pub(super) is_decoder_bound: bool,
}

/// The next range to request, if any, and whether it is received in parallel with the previous ones. Where ranges are so large that
/// two would only share the link, it is requested `lead` bytes before the end of the previous one.
pub(super) fn next(state: ReadState, lead: u64) -> Option<(Range<u64>, bool)> {
    let ReadState { start, decoded, delivered, requested, is_arriving, size, .. } = state;
    if requested >= size {
        return None;
    }
    let first = FIRST_BYTES.min(size - start);
    if requested == start {
        return Some((start..start + first, false));
    }
    // The first range is shorter under a transfer limit.
    if decoded < first.min(requested - start) {
        return None;
    }
    let counted = match is_arriving && ahead(decoded) < FEWER_BYTES {
        true => requested - start,
        false => decoded,
    };
    let ahead = ahead(counted);
    let end = start.saturating_add(counted).saturating_add(ahead).min(size);
    if ahead >= FEWER_BYTES && state.is_parallel() {
        let length = (ahead / PARALLEL_PARTS).min(PARALLEL_BYTES);
        let end = end.min(delivered.saturating_add(limits::READ_AHEAD_BYTES));
        let is_worth = end.saturating_sub(requested) >= length || end == size;
        return (state.may_add && is_worth).then(|| (requested..end.min(requested + length), true));
    }
    // What may be ahead is split into parts so that the link stays full while one is awaited; few, as each may need a connection.
    let parts = match ahead {
        ..MANY_BYTES => 6,
        MANY_BYTES..FEWER_BYTES => 3,
        _ => 2,
    };
    if ahead >= FEWER_BYTES && state.receiving > 0 && requested.saturating_sub(delivered) > lead {
        return None;
    }
    let worth = SHORTEST_BYTES.max(ahead / parts);
    let is_worth = end.saturating_sub(requested) >= worth || end == size && end > requested;
    is_worth.then_some((requested..end, false))
}

impl ReadState {
    /// Whether ranges are received in parallel, or one more may be.
    pub(super) fn is_parallel(&self) -> bool {
        self.receiving > 0 && self.may_add || self.receiving > 1 && self.pays == Some(true)
    }
}

/// How far requests may be ahead of a reader that has decoded this many bytes.
fn ahead(decoded: u64) -> u64 {
    (decoded / 4 + AHEAD_BYTES).min(MOST_AHEAD_BYTES)
}

/// The first range from `start` on, and the largest number of ranges up to the end of a blob of `size` bytes.
pub(crate) fn forecast(start: u64, size: u64) -> (Range<u64>, u64) {
    let state = |decoded, requested| ReadState {
        start,
        decoded,
        delivered: start + decoded,
        requested,
        is_arriving: false,
        size,
        receiving: 1,
        may_add: false,
        pays: Some(false),
        is_decoder_bound: false,
    };
    let first = next(state(0, start), u64::MAX).map_or(start..start, |(range, _)| range);
    let (mut requested, mut ranges) = (first.end, u64::from(!first.is_empty()));
    // From here on ranges no longer grow; up to here, a reader that advances in small steps makes the most requests.
    let steady = 4 * MOST_AHEAD_BYTES;
    for decoded in (0..steady).step_by(16 << 10) {
        while let Some((range, _)) = next(state(decoded, requested), u64::MAX) {
            requested = range.end;
            ranges += 1;
        }
        if requested >= size {
            return (first, ranges);
        }
    }
    (first, ranges + (size - requested).div_ceil(MOST_AHEAD_BYTES / 2))
}

/// The remainder of a blob, for a server that ignores ranges and sends the whole blob anyway.
pub(super) fn remainder(state: ReadState) -> Option<Range<u64>> {
    let ReadState { start, decoded, requested, size, .. } = state;
    let first = FIRST_BYTES.min(size - start).min(requested - start);
    (requested < size && decoded >= first).then_some(requested..size)
}

/// As much of a range as the transfer limit allows: it may be enough. Where nothing is left, requesting the range gives the error.
pub(super) fn clip(range: Range<u64>, allowance: u64) -> Range<u64> {
    match allowance {
        0 => range,
        _ => range.start..range.end.min(range.start.saturating_add(allowance)),
    }
}

#[cfg(test)]
pub(super) mod tests;
