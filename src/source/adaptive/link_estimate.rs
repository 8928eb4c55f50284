//! Throughput and latency of one reader's transfers. They determine how early the next range is requested: early enough to follow
//! the previous one without a gap, and no earlier, so that the two do not share the link for long.

use std::time::Duration;

use tokio::time::Instant;

/// Period over which throughput is measured.
const WINDOW: Duration = Duration::from_millis(50);

/// Least lead, in bytes: less than a chunk leaves gaps.
const LEAST_BYTES: u64 = 512 << 10;

/// From this latency on a response takes longer than a short range.
const FAR: Duration = Duration::from_millis(15);

/// Period over which waiting is observed; older observations count half as much.
const WAITING_PERIOD: Duration = Duration::from_secs(1);

/// Reading a chunk waits for the link for at least one part in this many where the link is the bottleneck.
const WAITING_SHARE: u32 = 5;

/// How many times the lowest latency a response may take.
const MARGIN: u128 = 2;

/// Throughput and latency of one reader's transfers.
pub(super) struct LinkEstimate {
    /// Lowest latency of a response.
    latency: Option<Duration>,
    /// Bytes a second in the last period.
    rate: Option<u64>,
    /// Bytes received since the period began.
    counted: (u64, Instant),
    /// Time spent waiting for bytes.
    waited: Duration,
    /// Time in which it was.
    observed: Duration,
    last: Instant,
}

impl LinkEstimate {
    pub(super) fn new(now: Instant) -> Self {
        let (waited, observed) = (Duration::ZERO, Duration::ZERO);
        Self { latency: None, rate: None, counted: (0, now), waited, observed, last: now }
    }

    /// Records the latency of a response.
    pub(super) fn responded(&mut self, latency: Duration) {
        self.latency = Some(self.latency.map_or(latency, |lowest| lowest.min(latency)));
    }

    /// Records received bytes.
    pub(super) fn received(&mut self, bytes: u64, now: Instant) {
        let (counted, since) = (self.counted.0 + bytes, self.counted.1);
        let elapsed = now.saturating_duration_since(since);
        self.counted = (counted, since);
        if elapsed >= WINDOW {
            let rate = u128::from(counted) * 1_000_000 / elapsed.as_micros().max(1);
            self.rate = Some(u64::try_from(rate).unwrap_or(u64::MAX));
            self.counted = (0, now);
        }
    }

    /// Records time spent waiting for bytes, up to `now`; `None` while no bytes could arrive.
    pub(super) fn waited(&mut self, time: Option<Duration>, now: Instant) {
        let observed = now.saturating_duration_since(std::mem::replace(&mut self.last, now));
        let Some(time) = time else { return };
        (self.waited, self.observed) = (self.waited + time, self.observed + observed);
        if self.observed >= WAITING_PERIOD {
            (self.waited, self.observed) = (self.waited / 2, self.observed / 2);
        }
    }

    /// Whether the link and not the decoder is the bottleneck, as far as is known.
    pub(super) fn is_bottleneck(&self) -> bool {
        self.observed < WINDOW || self.waited * WAITING_SHARE >= self.observed
    }

    /// Whether the latency is so long that even short ranges must be requested before the previous one has arrived.
    pub(super) fn is_far(&self) -> bool {
        self.latency.is_some_and(|latency| latency >= FAR)
    }

    /// How many bytes before the end of a range the next one is requested; as early as possible while that is unknown.
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
    fn the_lead_is_twice_the_bytes_that_arrive_during_one_latency() {
        let mut now = Instant::now();
        let mut link = LinkEstimate::new(now);
        assert_eq!(link.lead(), u64::MAX);
        link.responded(90 * MS);
        link.responded(50 * MS);
        link.responded(70 * MS);
        assert_eq!(link.lead(), u64::MAX, "the throughput is unknown");
        // 25 MB/s.
        for _ in 0..100 {
            now += MS;
            link.received(25_000, now);
        }
        assert_eq!(link.lead(), 2_500_000);
    }

    #[test]
    fn a_slow_link_has_the_least_lead() {
        let now = Instant::now();
        let mut link = LinkEstimate::new(now);
        link.responded(MS);
        link.received(1, now + WINDOW);
        assert_eq!(link.lead(), LEAST_BYTES);
    }

    #[test]
    fn the_link_is_the_bottleneck_while_reading_waits_for_it() {
        let mut now = Instant::now();
        let mut link = LinkEstimate::new(now);
        assert!(link.is_bottleneck(), "nothing is known");
        for _ in 0..100 {
            now += 10 * MS;
            link.waited(Some(9 * MS), now);
        }
        assert!(link.is_bottleneck());
        for _ in 0..300 {
            now += 10 * MS;
            link.waited(Some(MS), now);
            now += 50 * MS;
            link.waited(None, now);
        }
        assert!(!link.is_bottleneck());
    }

    #[test]
    fn extreme_measurements_do_not_overflow_the_lead() {
        let now = Instant::now();
        let mut link = LinkEstimate::new(now);
        link.responded(Duration::from_secs(u64::MAX / 4));
        link.received(u64::MAX / 2, now + WINDOW);
        assert_eq!(link.lead(), u64::MAX);
    }
}
