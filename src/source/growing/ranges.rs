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
    /// Size of the blob.
    pub(super) size: u64,
}

/// The next range to ask for, if one may be: `lead` bytes before the end of the one before, where these are so large that two of them
/// would only share the link.
pub(super) fn next(place: Place, lead: u64) -> Option<Range<u64>> {
    let Place { start, decoded, given, requested, size } = place;
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
    let ahead = (decoded / 4 + AHEAD_BYTES).min(MOST_AHEAD_BYTES);
    let end = start.saturating_add(decoded).saturating_add(ahead).min(size);
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

/// The first range from `start` on, and how many ranges it takes at most to the end of a blob of `size` bytes.
pub(crate) fn forecast(start: u64, size: u64) -> (Range<u64>, u64) {
    let place = |decoded, requested| Place { start, decoded, given: start + decoded, requested, size };
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
        next(Place { start, decoded, given: start + decoded, requested, size }, u64::MAX)
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
        for lead in [0, 1 << 20, u64::MAX] {
            let (mut requested, mut requests) = (0, 0);
            for decoded in (0..=SIZE).step_by(16 << 10) {
                let place = |requested| Place { start: 0, decoded, given: decoded, requested, size: SIZE };
                while let Some(range) = next(place(requested), lead) {
                    assert_eq!(range.start, requested);
                    requested = range.end;
                    requests += 1;
                }
                assert!(requested <= decoded + decoded / 4 + AHEAD_BYTES, "{decoded} {requested}");
                assert!(requested >= decoded || requested == SIZE, "the reader never starves");
                assert!(requested > decoded || requested == SIZE || lead == 0, "nor waits");
            }
            assert_eq!(requested, SIZE);
            assert!(requests < 80, "{requests}");
        }
    }

    #[test]
    fn large_ranges_follow_one_another_and_do_not_share_the_link_for_longer_than_it_takes_to_ask() {
        let (decoded, requested) = (40 << 20, 44 << 20);
        let at = |given| next(Place { start: 0, decoded, given, requested, size: SIZE }, 2 << 20);
        assert_eq!(at(requested - (2 << 20) - 1), None);
        let range = at(requested - (2 << 20)).unwrap();
        assert_eq!(range, requested..decoded + decoded / 4 + AHEAD_BYTES);
        // The short ones at the start are under way side by side.
        let small = Place { start: 0, decoded: 1 << 20, given: 1 << 20, requested: 9 << 17, size: SIZE };
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
            rest(Place { start, decoded, given: start + decoded, requested, size: SIZE })
        };
        assert_eq!(rest(0, FIRST_BYTES, FIRST_BYTES), Some(FIRST_BYTES..SIZE));
        assert_eq!(rest(0, 0, FIRST_BYTES), None);
        assert_eq!(rest(9, 0, 9), Some(9..SIZE));
        assert_eq!(rest(0, SIZE, SIZE), None);
    }
}
