//! Which range is requested next by a read that goes to the end of the blob.

use std::ops::Range;

use super::ranges::{PARALLEL_BYTES, ReadState};
use crate::limits;

/// Longest read to the end that is a single request, in bytes: before its end, parallel transfers would have gained little.
const UNSPLIT_BYTES: u64 = 16 << 20;

/// First range of a longer one, in bytes: parallel transfers are tried before it ends.
const PROBE_BYTES: u64 = 6 << 20;

/// Ranges of a longer one while the decoder is the bottleneck, in bytes.
const SINGLE_BYTES: u64 = 12 << 20;

/// The next range to request, if any, and whether it is received in parallel with the previous ones. One that is not is requested
/// `lead` bytes before the end of the previous one.
pub(super) fn next_full(state: ReadState, lead: u64) -> Option<(Range<u64>, bool)> {
    let ReadState { start, delivered, requested, size, receiving, may_add, pays, .. } = state;
    if requested >= size {
        return None;
    }
    let (first, _) = forecast_full(start, size, pays);
    if requested == start {
        return Some((first, false));
    }
    if first.end == size {
        return (receiving <= 1).then_some((requested..size, false));
    }
    let part = requested..size.min(requested + PARALLEL_BYTES);
    if state.is_parallel() && receiving > 0 {
        let has_room = part.end <= delivered.saturating_add(limits::READ_AHEAD_BYTES);
        return (may_add && has_room).then_some((part, true));
    }
    let is_ending = receiving == 0 || requested.saturating_sub(delivered) <= lead.min(PARALLEL_BYTES);
    let length = match pays {
        Some(_) => PARALLEL_BYTES,
        None if state.is_decoder_bound => size - requested,
        None => SINGLE_BYTES,
    };
    is_ending.then(|| (requested..size.min(requested + length), false))
}

/// The first range from `start` on of a read to the end, and the largest number of ranges. `pays`: whether parallel transfers are
/// faster, if that is known.
pub(crate) fn forecast_full(start: u64, size: u64, pays: Option<bool>) -> (Range<u64>, u64) {
    let left = size.saturating_sub(start);
    let first = match pays {
        _ if left <= UNSPLIT_BYTES => left,
        Some(false) => left,
        Some(true) => PARALLEL_BYTES,
        None => PROBE_BYTES,
    };
    (start..start + first, u64::from(left > 0) + (left - first).div_ceil(PARALLEL_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::adaptive::ranges::tests::state;

    const SIZE: u64 = 300 << 20;
    const MIB: u64 = 1 << 20;

    /// A reader that has received this much, on a host on which parallel transfers pay, if known.
    fn reader(delivered: u64, requested: u64, pays: Option<bool>) -> ReadState {
        ReadState { pays, ..state(0, delivered, requested, SIZE) }
    }

    #[test]
    fn a_blob_that_is_not_large_is_one_request() {
        for pays in [None, Some(true), Some(false)] {
            let state = ReadState { pays, ..state(7, 0, 7, UNSPLIT_BYTES + 7) };
            assert_eq!(next_full(state, 0), Some((7..UNSPLIT_BYTES + 7, false)));
        }
        assert_eq!(next_full(reader(0, 0, Some(false)), 0), Some((0..SIZE, false)));
    }

    #[test]
    fn parallel_ranges_are_consecutive_and_fit_into_memory() {
        let (mut requested, mut state) = (PROBE_BYTES, reader(MIB, PROBE_BYTES, None));
        assert_eq!(next_full(reader(0, 0, None), 0), Some((0..PROBE_BYTES, false)));
        assert_eq!(next_full(state, 0), None, "the throughput is not known");
        state.may_add = true;
        while let Some((range, is_parallel)) = next_full(ReadState { requested, ..state }, 0) {
            assert!(is_parallel && range.start == requested, "{range:?}");
            requested = range.end;
        }
        assert_eq!(requested, PROBE_BYTES + 3 * PARALLEL_BYTES);
        assert!(requested - state.delivered <= limits::READ_AHEAD_BYTES);
    }

    #[test]
    fn the_remainder_is_one_request_once_parallel_transfers_do_not_pay() {
        let state = reader(7 * MIB, 9 * MIB, Some(false));
        assert_eq!(next_full(ReadState { receiving: 2, ..state }, 0), None);
        assert_eq!(next_full(state, 0), Some((9 * MIB..SIZE, false)));
    }

    #[test]
    fn a_read_that_waits_for_the_decoder_requests_the_remainder_shortly_before_it_is_needed() {
        let state = ReadState { is_decoder_bound: true, ..reader(2 * MIB, PROBE_BYTES, None) };
        assert_eq!(next_full(state, u64::MAX), None);
        let state = ReadState { delivered: 5 * MIB, ..state };
        assert_eq!(next_full(state, u64::MAX), Some((PROBE_BYTES..SIZE, false)));
        let link_bound = ReadState { is_decoder_bound: false, ..state };
        assert_eq!(next_full(link_bound, MIB), Some((PROBE_BYTES..PROBE_BYTES + SINGLE_BYTES, false)));
    }

    #[test]
    fn a_forecast_covers_the_whole_blob() {
        assert_eq!(forecast_full(9, 9, None), (9..9, 0));
        assert_eq!(forecast_full(9, 10, None), (9..10, 1));
        assert_eq!(forecast_full(0, SIZE, Some(false)), (0..SIZE, 1));
        assert_eq!(forecast_full(0, 18 * MIB, None), (0..PROBE_BYTES, 5));
        assert_eq!(forecast_full(0, u64::MAX, None).0, 0..PROBE_BYTES);
    }
}
