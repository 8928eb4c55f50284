//! How fast bytes come and how long answers take: what tells when the next range is to be asked for so that it follows the one
//! before without a gap, and does not share the link with it for longer than that.

use std::time::{Duration, Instant};

/// Time over which the rate is measured.
const WINDOW: Duration = Duration::from_millis(50);

/// Least that is asked for ahead, in bytes: less than one piece makes gaps.
const LEAST_BYTES: u64 = 512 << 10;

/// From here on an answer takes longer than a short range.
const FAR: Duration = Duration::from_millis(15);

/// Answers may take so many times as long as the fastest did.
const MARGIN: u128 = 2;

/// The pace of one reader.
pub(super) struct Pace {
    /// The fastest answer.
    latency: Option<Duration>,
    /// Bytes a second, lately.
    rate: Option<u64>,
    /// Bytes since then.
    counted: (u64, Instant),
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { latency: None, rate: None, counted: (0, now) }
    }

    /// A request has been answered after so long.
    pub(super) fn answered(&mut self, after: Duration) {
        self.latency = Some(self.latency.map_or(after, |fastest| fastest.min(after)));
    }

    /// So many bytes were taken.
    pub(super) fn took(&mut self, bytes: u64, now: Instant) {
        let (counted, since) = (self.counted.0 + bytes, self.counted.1);
        let elapsed = now.saturating_duration_since(since);
        self.counted = (counted, since);
        if elapsed >= WINDOW {
            let rate = u128::from(counted) * 1_000_000 / elapsed.as_micros().max(1);
            self.rate = Some(u64::try_from(rate).unwrap_or(u64::MAX));
            self.counted = (0, now);
        }
    }

    /// Whether answers take so long that even short ranges are to be asked for before the ones before them have come.
    pub(super) fn is_far(&self) -> bool {
        self.latency.is_some_and(|latency| latency >= FAR)
    }

    /// How many bytes before the end of one range the next is to be asked for; as early as may be while that is not known.
    pub(super) fn lead(&self) -> u64 {
        let (Some(latency), Some(rate)) = (self.latency, self.rate) else { return u64::MAX };
        let bytes = u128::from(rate).saturating_mul(latency.as_micros() * MARGIN) / 1_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(LEAST_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_next_range_is_asked_for_twice_as_many_bytes_early_as_come_in_the_time_of_an_answer() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.lead(), u64::MAX);
        pace.answered(90 * MS);
        pace.answered(50 * MS);
        pace.answered(70 * MS);
        assert_eq!(pace.lead(), u64::MAX, "the rate is not known");
        // 25 MB/s.
        for _ in 0..100 {
            now += MS;
            pace.took(25_000, now);
        }
        assert_eq!(pace.lead(), 2_500_000);
    }

    #[test]
    fn what_comes_slowly_is_asked_for_a_piece_early() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.answered(MS);
        pace.took(1, now + WINDOW);
        assert_eq!(pace.lead(), LEAST_BYTES);
    }

    #[test]
    fn a_pace_without_bounds_asks_as_early_as_may_be() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.answered(Duration::from_secs(u64::MAX / 4));
        pace.took(u64::MAX / 2, now + WINDOW);
        assert_eq!(pace.lead(), u64::MAX);
    }
}
