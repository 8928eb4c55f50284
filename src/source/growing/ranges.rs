//! Which range of a blob is asked for next.

use std::ops::Range;

/// The first range, in bytes.
const FIRST_BYTES: u64 = 128 << 10;

/// How far requests may be ahead of what was decoded, in bytes; a quarter of what was decoded comes on top.
const AHEAD_BYTES: u64 = 752 << 10;

/// Most that requests are ahead, in bytes.
const MOST_AHEAD_BYTES: u64 = 64 << 20;

/// Shortest range that is worth a request of its own, in bytes.
const SHORTEST_BYTES: u64 = 160 << 10;

/// Up to here ranges are short, in bytes ahead: the first ones cannot fill the link, and what follows them must not be late.
const MANY_BYTES: u64 = 1 << 20;

/// From here on two ranges fill any link there is, in bytes ahead, and mostly one does.
const FEWER_BYTES: u64 = 2 << 20;

/// Where a reader is, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Where it began in the blob.
    pub(super) start: u64,
    /// Bytes from there on that have been decoded.
    pub(super) decoded: u64,
    /// Up to where the blob has come.
    pub(super) given: u64,
    /// Up to where it was asked for.
    pub(super) requested: u64,
    /// Whether to count as decoded what was asked for: its end is on its way, and what follows would come too late otherwise.
    pub(super) is_flowing: bool,
    /// Size of the blob.
    pub(super) size: u64,
}

/// The next range to ask for, if one may be: `lead` bytes before the end of the one before, where these are so large that two of them
/// would only share the link.
pub(super) fn next(place: Place, lead: u64) -> Option<Range<u64>> {
    let Place { start, decoded, given, requested, is_flowing, size } = place;
    if requested >= size {
        return None;
    }
    let first = FIRST_BYTES.min(size - start);
    if requested == start {
        return Some(start..start + first);
    }
    // Less than the first range was asked for where no more may be fetched.
    if decoded < first.min(requested - start) {
        return None;
    }
    let counted = match is_flowing && ahead(decoded) < FEWER_BYTES {
        true => requested - start,
        false => decoded,
    };
    let ahead = ahead(counted);
    let end = start.saturating_add(counted).saturating_add(ahead).min(size);
    // Parts of what may be ahead, so that the link stays full while one of them is awaited; few, since each may need a connection.
    let parts = match ahead {
        ..MANY_BYTES => 6,
        MANY_BYTES..FEWER_BYTES => 3,
        _ => 2,
    };
    if ahead >= FEWER_BYTES && requested.saturating_sub(given) > lead {
        return None;
    }
    let worth = SHORTEST_BYTES.max(ahead / parts);
    (end.saturating_sub(requested) >= worth || end == size && end > requested).then_some(requested..end)
}

/// How far requests may be ahead of a reader that has decoded so many bytes.
fn ahead(decoded: u64) -> u64 {
    (decoded / 4 + AHEAD_BYTES).min(MOST_AHEAD_BYTES)
}

/// The first range from `start` on, and how many ranges it takes at most to the end of a blob of `size` bytes.
pub(crate) fn forecast(start: u64, size: u64) -> (Range<u64>, u64) {
    let place = |decoded, requested| Place {
        start,
        decoded,
        given: start + decoded,
        requested,
        is_flowing: false,
        size,
    };
    let first = next(place(0, start), u64::MAX).unwrap_or(start..start);
    let (mut requested, mut ranges) = (first.end, u64::from(!first.is_empty()));
    // From here on ranges no longer grow; before, a reader that comes by the byte asks most often.
    let steady = 4 * MOST_AHEAD_BYTES;
    for decoded in (0..steady).step_by(16 << 10) {
        while let Some(range) = next(place(decoded, requested), u64::MAX) {
            requested = range.end;
            ranges += 1;
        }
        if requested >= size {
            return (first, ranges);
        }
    }
    (first, ranges + (size - requested).div_ceil(MOST_AHEAD_BYTES / 2))
}

/// All the rest of a blob, where there are no ranges: the server sends whole blobs whatever it is asked for.
pub(super) fn rest(place: Place) -> Option<Range<u64>> {
    let Place { start, decoded, requested, size, .. } = place;
    let first = FIRST_BYTES.min(size - start).min(requested - start);
    (requested < size && decoded >= first).then_some(requested..size)
}

/// As much of a range as may be asked for: what lies there may be all that is needed. Where nothing may be, asking gives the error.
pub(super) fn allowed(range: Range<u64>, allowance: u64) -> Range<u64> {
    match allowance {
        0 => range,
        _ => range.start..range.end.min(range.start.saturating_add(allowance)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 300 << 20;

    /// The next range of a reader that has decoded all that has come, and may ask as early as it likes.
    fn early(start: u64, decoded: u64, requested: u64, size: u64) -> Option<Range<u64>> {
        next(Place { start, decoded, given: start + decoded, requested, is_flowing: false, size }, u64::MAX)
    }

    #[test]
    fn the_first_range_is_alone_until_all_of_it_is_decoded() {
        assert_eq!(early(0, 0, 0, SIZE), Some(0..FIRST_BYTES));
        assert_eq!(early(0, FIRST_BYTES - 1, FIRST_BYTES, SIZE), None);
        assert!(early(0, FIRST_BYTES, FIRST_BYTES, SIZE).is_some());
        assert_eq!(early(7, 0, 7, SIZE), Some(7..7 + FIRST_BYTES));
    }

    #[test]
    fn a_reader_that_stops_anywhere_has_asked_for_a_quarter_and_752_kib_too_much_at_most() {
        for (lead, is_far) in [(0, false), (1 << 20, false), (u64::MAX, false), (u64::MAX, true)] {
            let (mut requested, mut last, mut requests) = (0, 0, 0);
            for decoded in (0..=SIZE).step_by(16 << 10) {
                let place = |last, requested| {
                    let is_flowing = is_far && decoded > last;
                    Place { start: 0, decoded, given: decoded, requested, is_flowing, size: SIZE }
                };
                while let Some(range) = next(place(last, requested), lead) {
                    assert_eq!(range.start, requested);
                    (last, requested) = (range.start, range.end);
                    requests += 1;
                }
                let allowed = |decoded: u64| decoded + decoded / 4 + AHEAD_BYTES;
                // What is asked for early counts from the end of the range that flows.
                let allowed = if is_far { allowed(allowed(decoded)) } else { allowed(decoded) };
                assert!(requested <= allowed, "{decoded} {requested}");
                assert!(requested >= decoded || requested == SIZE, "the reader never starves");
                assert!(requested > decoded || requested == SIZE || lead == 0, "nor waits");
            }
            assert_eq!(requested, SIZE);
            assert!(requests < 80, "{requests}");
        }
    }

    /// Reads a blob through a link that brings `rate` bytes a millisecond, `latency` milliseconds after they were asked for, and decodes
    /// at once; for each step what was decoded, and what the server has sent if the reader hangs up then.
    fn through_a_link(latency: u64, rate: u64) -> Vec<(u64, u64)> {
        let (mut requested, mut last, mut decoded) = (0, 0, 0);
        // Up to where was asked for when, and what was sent when.
        let (mut asked, mut sent) = (Vec::new(), vec![0]);
        let mut steps = Vec::new();
        for now in 0.. {
            let place = |last, requested| Place {
                start: 0,
                decoded,
                given: decoded,
                requested,
                is_flowing: decoded > last,
                size: SIZE,
            };
            while let Some(range) = next(place(last, requested), 2 * latency * rate) {
                (last, requested) = (range.start, range.end);
                asked.push((now, requested));
            }
            // Both are half a latency away from the reader: what is asked for now is sent while what was sent before is on its way.
            let known = asked.iter().filter(|(when, _)| when + latency / 2 <= now).map(|(_, end)| *end).max();
            let so_far = *sent.last().unwrap();
            sent.push((so_far + rate).min(known.unwrap_or(0)));
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
    fn what_is_asked_for_as_soon_as_the_range_before_flows_is_taken_back_in_time() {
        for latency in [20, 40, 100, 300] {
            for rate in [100, 1_000, 5_000, 25_000, 50_000] {
                for (decoded, sent) in through_a_link(latency, rate) {
                    // Those of one step may be on either side.
                    let most = decoded + decoded / 4 + (768 << 10) + rate;
                    assert!(sent <= most, "{latency} ms, {rate} bytes a ms: {sent} at {decoded}");
                }
            }
        }
    }

    #[test]
    fn at_a_link_the_range_behind_the_second_one_comes_a_few_milliseconds_after_it() {
        let steps = through_a_link(40, 25_000);
        let reached = |place| steps.iter().position(|(decoded, _)| *decoded >= place).unwrap();
        // Asking, the first range and asking again; the third one comes a latency after the second one has begun to.
        let ideal = 40 + 5 + 40 + ((1_400_000 - FIRST_BYTES) / 25_000) as usize;
        assert!((ideal..ideal + 12).contains(&reached(1_400_000)), "{} {ideal}", reached(1_400_000));
    }

    #[test]
    fn large_ranges_follow_one_another_and_do_not_share_the_link_for_longer_than_it_takes_to_ask() {
        let (decoded, requested) = (40 << 20, 44 << 20);
        let at = |given| {
            next(Place { start: 0, decoded, given, requested, is_flowing: false, size: SIZE }, 2 << 20)
        };
        assert_eq!(at(requested - (2 << 20) - 1), None);
        let range = at(requested - (2 << 20)).unwrap();
        assert_eq!(range, requested..decoded + decoded / 4 + AHEAD_BYTES);
        // The short ones at the start are under way side by side.
        let small = Place {
            start: 0,
            decoded: 1 << 20,
            given: 1 << 20,
            requested: 9 << 17,
            is_flowing: false,
            size: SIZE,
        };
        assert!(next(small, 0).is_some());
    }

    #[test]
    fn a_forecast_counts_ranges_as_they_are_asked_for() {
        assert_eq!(forecast(0, 0), (0..0, 0));
        assert_eq!(forecast(7, 1_000), (7..1_000, 1));
        assert_eq!(forecast(0, FIRST_BYTES + 1), (0..FIRST_BYTES, 2));
        let (_, ranges) = forecast(0, SIZE);
        assert!((20..80).contains(&ranges), "{ranges}");
        // What a lying manifest says costs no time.
        assert!(forecast(0, u64::MAX).1 > 1 << 30);
    }

    #[test]
    fn a_range_is_cut_to_what_may_be_asked_for() {
        assert_eq!(allowed(10..100, u64::MAX), 10..100);
        assert_eq!(allowed(10..100, 30), 10..40);
        assert_eq!(allowed(10..100, 0), 10..100, "asking for it gives the error");
        assert_eq!(early(0, 9, 10, SIZE), None);
        assert!(early(0, 10, 10, SIZE).is_some(), "a first range that was cut is no end");
    }

    #[test]
    fn the_last_range_ends_with_the_blob_and_a_small_blob_is_one_range() {
        assert_eq!(early(0, 0, 0, 1_000), Some(0..1_000));
        assert_eq!(early(0, 1_000, 1_000, 1_000), None);
        let size = FIRST_BYTES + 1;
        assert_eq!(early(0, FIRST_BYTES, FIRST_BYTES, size), Some(FIRST_BYTES..size));
    }

    #[test]
    fn where_ranges_are_ignored_all_the_rest_is_asked_for_at_once() {
        let rest = |start, decoded, requested| {
            rest(Place { start, decoded, given: start + decoded, requested, is_flowing: false, size: SIZE })
        };
        assert_eq!(rest(0, FIRST_BYTES, FIRST_BYTES), Some(FIRST_BYTES..SIZE));
        assert_eq!(rest(0, 0, FIRST_BYTES), None);
        assert_eq!(rest(9, 0, 9), Some(9..SIZE));
        assert_eq!(rest(0, SIZE, SIZE), None);
    }
}
