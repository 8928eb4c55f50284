//! Which range of a blob is requested next.

use std::ops::Range;

/// The first range, in bytes.
const FIRST_BYTES: u64 = 128 << 10;

/// How far requests may be ahead of what was decoded, in bytes, in addition to a quarter of what was decoded.
const AHEAD_BYTES: u64 = 752 << 10;

/// Most that requests may be ahead, in bytes.
const MOST_AHEAD_BYTES: u64 = 64 << 20;

/// Shortest range worth a request of its own, in bytes.
const SHORTEST_BYTES: u64 = 160 << 10;

/// Below this many bytes ahead, ranges are short: the first ones cannot fill the link, and the next must not be late.
const MANY_BYTES: u64 = 1 << 20;

/// From this many bytes ahead on, two ranges fill any link, and usually one does.
const FEWER_BYTES: u64 = 2 << 20;

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
}

/// The next range to request, if any. Where ranges are so large that two would only share the link, it is requested `lead` bytes
/// before the end of the previous one.
pub(super) fn next(state: ReadState, lead: u64) -> Option<Range<u64>> {
    let ReadState { start, decoded, delivered, requested, is_arriving, size } = state;
    if requested >= size {
        return None;
    }
    let first = FIRST_BYTES.min(size - start);
    if requested == start {
        return Some(start..start + first);
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
    // What may be ahead is split into parts so that the link stays full while one is awaited; few, as each may need a connection.
    let parts = match ahead {
        ..MANY_BYTES => 6,
        MANY_BYTES..FEWER_BYTES => 3,
        _ => 2,
    };
    if ahead >= FEWER_BYTES && requested.saturating_sub(delivered) > lead {
        return None;
    }
    let worth = SHORTEST_BYTES.max(ahead / parts);
    (end.saturating_sub(requested) >= worth || end == size && end > requested).then_some(requested..end)
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
    };
    let first = next(state(0, start), u64::MAX).unwrap_or(start..start);
    let (mut requested, mut ranges) = (first.end, u64::from(!first.is_empty()));
    // From here on ranges no longer grow; up to here, a reader that advances in small steps makes the most requests.
    let steady = 4 * MOST_AHEAD_BYTES;
    for decoded in (0..steady).step_by(16 << 10) {
        while let Some(range) = next(state(decoded, requested), u64::MAX) {
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
mod tests {
    use super::*;

    const SIZE: u64 = 300 << 20;

    /// The next range of a reader that has decoded all it received and may request as early as possible.
    fn early(start: u64, decoded: u64, requested: u64, size: u64) -> Option<Range<u64>> {
        next(
            ReadState { start, decoded, delivered: start + decoded, requested, is_arriving: false, size },
            u64::MAX,
        )
    }

    #[test]
    fn the_first_range_is_alone_until_all_of_it_is_decoded() {
        assert_eq!(early(0, 0, 0, SIZE), Some(0..FIRST_BYTES));
        assert_eq!(early(0, FIRST_BYTES - 1, FIRST_BYTES, SIZE), None);
        assert!(early(0, FIRST_BYTES, FIRST_BYTES, SIZE).is_some());
        assert_eq!(early(7, 0, 7, SIZE), Some(7..7 + FIRST_BYTES));
    }

    #[test]
    fn a_reader_that_stops_anywhere_has_requested_at_most_a_quarter_and_752_kib_too_much() {
        for (lead, is_far) in [(0, false), (1 << 20, false), (u64::MAX, false), (u64::MAX, true)] {
            let (mut requested, mut last, mut requests) = (0, 0, 0);
            for decoded in (0..=SIZE).step_by(16 << 10) {
                let state = |last, requested| {
                    let is_arriving = is_far && decoded > last;
                    ReadState { start: 0, decoded, delivered: decoded, requested, is_arriving, size: SIZE }
                };
                while let Some(range) = next(state(last, requested), lead) {
                    assert_eq!(range.start, requested);
                    (last, requested) = (range.start, range.end);
                    requests += 1;
                }
                let allowed = |decoded: u64| decoded + decoded / 4 + AHEAD_BYTES;
                // The end of the arriving range counts as decoded.
                let allowed = if is_far { allowed(allowed(decoded)) } else { allowed(decoded) };
                assert!(requested <= allowed, "{decoded} {requested}");
                assert!(requested >= decoded || requested == SIZE, "the reader never starves");
                assert!(requested > decoded || requested == SIZE || lead == 0, "the reader never waits");
            }
            assert_eq!(requested, SIZE);
            assert!(requests < 80, "{requests}");
        }
    }

    /// Reads a blob through a link with a throughput of `rate` bytes a millisecond and this latency in milliseconds, and decodes at
    /// once. Returns for each step the decoded bytes, and the bytes that the server has sent if the reader hangs up then.
    fn through_a_link(latency: u64, rate: u64) -> Vec<(u64, u64)> {
        let (mut requested, mut last, mut decoded) = (0, 0, 0);
        // The requested end at each time, and the bytes sent at each time.
        let (mut requests, mut sent) = (Vec::new(), vec![0]);
        let mut steps = Vec::new();
        for now in 0.. {
            let state = |last, requested| ReadState {
                start: 0,
                decoded,
                delivered: decoded,
                requested,
                is_arriving: decoded > last,
                size: SIZE,
            };
            while let Some(range) = next(state(last, requested), 2 * latency * rate) {
                (last, requested) = (range.start, range.end);
                requests.push((now, requested));
            }
            // The server is half a latency away in either direction.
            let known =
                requests.iter().filter(|(when, _)| when + latency / 2 <= now).map(|(_, end)| *end).max();
            let total = *sent.last().unwrap();
            sent.push((total + rate).min(known.unwrap_or(0)));
            steps.push((now, decoded));
            decoded = sent.get((now + 1).saturating_sub(latency / 2) as usize).copied().unwrap_or(0);
            if decoded >= 40 << 20 {
                break;
            }
            assert!(now < 500_000, "{latency} ms, {rate} bytes a ms: stopped at {decoded}");
        }
        let sent_then = |now: u64| sent.get((now + latency / 2) as usize).copied();
        steps.into_iter().filter_map(|(now, decoded)| Some((decoded, sent_then(now)?))).collect()
    }

    #[test]
    fn a_range_requested_early_is_cancelled_in_time() {
        for latency in [20, 40, 100, 300] {
            for rate in [100, 1_000, 5_000, 25_000, 50_000] {
                for (decoded, sent) in through_a_link(latency, rate) {
                    // The bytes of one step may count on either side.
                    let most = decoded + decoded / 4 + (768 << 10) + rate;
                    assert!(sent <= most, "{latency} ms, {rate} bytes a ms: {sent} at {decoded}");
                }
            }
        }
    }

    #[test]
    fn the_third_range_arrives_a_few_milliseconds_after_the_second() {
        let steps = through_a_link(40, 25_000);
        let reached = |offset| steps.iter().position(|(decoded, _)| *decoded >= offset).unwrap();
        // A latency, the first range and a latency; the third range arrives a latency after the start of the second.
        let ideal = 40 + 5 + 40 + ((1_400_000 - FIRST_BYTES) / 25_000) as usize;
        assert!((ideal..ideal + 12).contains(&reached(1_400_000)), "{} {ideal}", reached(1_400_000));
    }

    #[test]
    fn large_ranges_share_the_link_for_no_longer_than_the_lead() {
        let (decoded, requested) = (40 << 20, 44 << 20);
        let at = |delivered| {
            next(
                ReadState { start: 0, decoded, delivered, requested, is_arriving: false, size: SIZE },
                2 << 20,
            )
        };
        assert_eq!(at(requested - (2 << 20) - 1), None);
        let range = at(requested - (2 << 20)).unwrap();
        assert_eq!(range, requested..decoded + decoded / 4 + AHEAD_BYTES);
        // The short ranges at the start are in flight in parallel.
        let small = ReadState {
            start: 0,
            decoded: 1 << 20,
            delivered: 1 << 20,
            requested: 9 << 17,
            is_arriving: false,
            size: SIZE,
        };
        assert!(next(small, 0).is_some());
    }

    #[test]
    fn a_forecast_counts_ranges_as_they_are_requested() {
        assert_eq!(forecast(0, 0), (0..0, 0));
        assert_eq!(forecast(7, 1_000), (7..1_000, 1));
        assert_eq!(forecast(0, FIRST_BYTES + 1), (0..FIRST_BYTES, 2));
        let (_, ranges) = forecast(0, SIZE);
        assert!((20..80).contains(&ranges), "{ranges}");
        // An absurd size in a manifest costs no time.
        assert!(forecast(0, u64::MAX).1 > 1 << 30);
    }

    #[test]
    fn a_range_is_clipped_to_the_transfer_limit() {
        assert_eq!(clip(10..100, u64::MAX), 10..100);
        assert_eq!(clip(10..100, 30), 10..40);
        assert_eq!(clip(10..100, 0), 10..100, "requesting it gives the error");
        assert_eq!(early(0, 9, 10, SIZE), None);
        assert!(early(0, 10, 10, SIZE).is_some(), "a clipped first range is not the end");
    }

    #[test]
    fn the_last_range_ends_with_the_blob_and_a_small_blob_is_one_range() {
        assert_eq!(early(0, 0, 0, 1_000), Some(0..1_000));
        assert_eq!(early(0, 1_000, 1_000, 1_000), None);
        let size = FIRST_BYTES + 1;
        assert_eq!(early(0, FIRST_BYTES, FIRST_BYTES, size), Some(FIRST_BYTES..size));
    }

    #[test]
    fn a_server_that_ignores_ranges_is_asked_for_the_remainder_at_once() {
        let next = |start, decoded, requested| {
            remainder(ReadState {
                start,
                decoded,
                delivered: start + decoded,
                requested,
                is_arriving: false,
                size: SIZE,
            })
        };
        assert_eq!(next(0, FIRST_BYTES, FIRST_BYTES), Some(FIRST_BYTES..SIZE));
        assert_eq!(next(0, 0, FIRST_BYTES), None);
        assert_eq!(next(9, 0, 9), Some(9..SIZE));
        assert_eq!(next(0, SIZE, SIZE), None);
    }
}
