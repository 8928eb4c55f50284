use super::*;

const SIZE: u64 = 300 << 20;

/// A reader that has decoded all it received, on a host without parallel transfers.
pub(in crate::source::adaptive) fn state(start: u64, decoded: u64, requested: u64, size: u64) -> ReadState {
    let (receiving, may_add, pays, is_decoder_bound) = (1, false, Some(false), false);
    let (delivered, is_arriving) = (start + decoded, false);
    ReadState {
        start,
        decoded,
        delivered,
        requested,
        is_arriving,
        size,
        receiving,
        may_add,
        pays,
        is_decoder_bound,
    }
}

/// Its next range, if it may request as early as possible.
fn early(start: u64, decoded: u64, requested: u64, size: u64) -> Option<Range<u64>> {
    single(state(start, decoded, requested, size), u64::MAX)
}

/// The next range, which is not received in parallel with others.
fn single(state: ReadState, lead: u64) -> Option<Range<u64>> {
    let (range, is_parallel) = next(state, lead)?;
    assert!(!is_parallel);
    Some(range)
}

#[test]
fn the_first_range_is_alone_until_all_of_it_is_decoded() {
    assert_eq!(early(0, 0, 0, SIZE), Some(0..FIRST_BYTES));
    assert_eq!(early(0, FIRST_BYTES - 1, FIRST_BYTES, SIZE), None);
    assert!(early(0, FIRST_BYTES, FIRST_BYTES, SIZE).is_some());
    assert_eq!(early(7, 0, 7, SIZE), Some(7..7 + FIRST_BYTES));
}

#[test]
fn a_reader_that_stops_anywhere_has_requested_at_most_a_quarter_and_1520_kib_too_much() {
    for (lead, is_far) in [(0, false), (1 << 20, false), (u64::MAX, false), (u64::MAX, true)] {
        let (mut requested, mut last, mut requests) = (0, 0, 0);
        for decoded in (0..=SIZE).step_by(16 << 10) {
            let now = |last, requested| {
                let is_arriving = is_far && decoded > last;
                ReadState { is_arriving, ..state(0, decoded, requested, SIZE) }
            };
            while let Some(range) = single(now(last, requested), lead) {
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
        let at =
            |last, requested| ReadState { is_arriving: decoded > last, ..state(0, decoded, requested, SIZE) };
        while let Some(range) = single(at(last, requested), 2 * latency * rate) {
            (last, requested) = (range.start, range.end);
            requests.push((now, requested));
        }
        // The server is half a latency away in either direction.
        let known = requests.iter().filter(|(when, _)| when + latency / 2 <= now).map(|(_, end)| *end).max();
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
                let most = decoded + decoded / 4 + (1536 << 10) + rate;
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
    let at = |delivered| single(ReadState { delivered, ..state(0, decoded, requested, SIZE) }, 2 << 20);
    assert_eq!(at(requested - (2 << 20) - 1), None);
    let range = at(requested - (2 << 20)).unwrap();
    assert_eq!(range, requested..decoded + decoded / 4 + AHEAD_BYTES);
    // The short ranges at the start are in flight in parallel.
    assert!(single(state(0, 1 << 20, 9 << 17, SIZE), 0).is_some());
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
    let next = |start, decoded, requested| remainder(state(start, decoded, requested, SIZE));
    assert_eq!(next(0, FIRST_BYTES, FIRST_BYTES), Some(FIRST_BYTES..SIZE));
    assert_eq!(next(0, 0, FIRST_BYTES), None);
    assert_eq!(next(9, 0, 9), Some(9..SIZE));
    assert_eq!(next(0, SIZE, SIZE), None);
}

#[test]
fn where_parallel_transfers_pay_what_may_be_ahead_is_split_between_them() {
    let decoded = 60 << 20;
    let parallel = |requested, receiving, may_add| {
        let state = ReadState { receiving, may_add, pays: Some(true), ..state(0, decoded, requested, SIZE) };
        next(state, u64::MAX)
    };
    let (mut requested, mut parts) = (decoded + PARALLEL_BYTES, 0);
    while let Some((range, is_parallel)) = parallel(requested, 3, true) {
        assert!(is_parallel && range.start == requested && range.end - range.start == PARALLEL_BYTES);
        (requested, parts) = (range.end, parts + 1);
    }
    assert_eq!(parts, 4);
    assert!(requested - decoded <= limits::READ_AHEAD_BYTES);
    assert_eq!(parallel(decoded + PARALLEL_BYTES, 4, false), None, "there are enough");
}

#[test]
fn a_reader_that_stops_early_has_not_requested_more_in_parallel() {
    for decoded in (0..=SIZE).step_by(64 << 10) {
        let (mut requested, most) = (decoded.max(FIRST_BYTES), decoded + decoded / 4 + AHEAD_BYTES);
        let at = |requested| ReadState { receiving: 2, may_add: true, ..state(0, decoded, requested, SIZE) };
        while let Some((range, _)) = next(at(requested), u64::MAX) {
            requested = range.end;
        }
        assert!(requested <= most.max(FIRST_BYTES), "{requested} at {decoded}");
    }
}
