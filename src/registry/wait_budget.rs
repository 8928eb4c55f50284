//! How long a question waits for servers in all: failed attempts, pauses between them, and stalls.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{http::clock::Clock, lock};

/// Longest time that a question may wait without real progress.
pub(super) const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Bytes after which a question has made real progress, so that earlier waits no longer count.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Intervals kept apart; further ones are only summed up.
const MAX_INTERVALS: usize = 64;

/// The waits of one question. Concurrent waits count once. A fast response costs nothing, however many there are.
#[derive(Debug)]
pub(super) struct WaitBudget {
    clock: Clock,
    limit: Duration,
    /// The time limit of a question as a whole.
    timeout: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    started: Instant,
    /// Disjoint intervals spent waiting, in order.
    waits: Vec<(Instant, Instant)>,
    /// The length of earlier intervals.
    summed: Duration,
    /// Bytes received since the waits began to count.
    received: u64,
}

impl WaitBudget {
    pub(super) fn new(clock: Clock, limit: Duration, timeout: Option<Duration>) -> Arc<Self> {
        let state = Mutex::new(State::new(clock.now()));
        Arc::new(Self { clock, limit, timeout, state })
    }

    /// Starts a new question.
    pub(super) fn restart(&self) {
        *lock(&self.state) = State::new(self.clock.now());
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The time that was spent waiting without real progress.
    pub(super) fn spent(&self) -> Duration {
        lock(&self.state).spent()
    }

    /// The time that may still be spent waiting.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.spent())
    }

    /// The time limit of the question, and how much of it is left.
    pub(super) fn timeout(&self) -> Option<(Duration, Duration)> {
        let timeout = self.timeout?;
        let elapsed = self.clock.now().saturating_duration_since(lock(&self.state).started);
        Some((timeout, timeout.saturating_sub(elapsed)))
    }

    /// Counts the `wait` that ends now.
    pub(super) fn spend(&self, wait: Duration) {
        let end = self.clock.now();
        if let Some(start) = end.checked_sub(wait).filter(|start| *start < end) {
            lock(&self.state).add(start, end);
        }
    }

    /// Counts received bytes: enough of them make up for all waits before.
    pub(super) fn received(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.received = state.received.saturating_add(bytes);
        if state.received >= PROGRESS_BYTES {
            *state = State { started: state.started, ..State::new(self.clock.now()) };
        }
    }
}

impl State {
    fn new(started: Instant) -> Self {
        Self { started, waits: Vec::new(), summed: Duration::ZERO, received: 0 }
    }

    fn spent(&self) -> Duration {
        self.summed + self.waits.iter().map(|(start, end)| *end - *start).sum::<Duration>()
    }

    /// Adds an interval that ends after all others.
    fn add(&mut self, mut start: Instant, end: Instant) {
        while let Some((before, _)) = self.waits.pop_if(|(_, other)| *other >= start) {
            start = start.min(before);
        }
        self.waits.push((start, end));
        if self.waits.len() > MAX_INTERVALS {
            let (start, end) = self.waits.remove(0);
            self.summed += end - start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::http::clock::ManualClock;

    const SECOND: Duration = Duration::from_secs(1);

    fn budget(timeout: Option<Duration>) -> (Arc<WaitBudget>, Arc<ManualClock>) {
        let clock = ManualClock::new();
        (WaitBudget::new(Clock::Manual(Arc::clone(&clock)), WAIT_LIMIT, timeout), clock)
    }

    #[test]
    fn concurrent_waits_count_once() {
        let (budget, clock) = budget(None);
        clock.advance(100 * SECOND);
        budget.spend(10 * SECOND);
        budget.spend(SECOND);
        clock.advance(5 * SECOND);
        // Overlaps the first by 5 s.
        budget.spend(10 * SECOND);
        assert_eq!(budget.spent(), 15 * SECOND);
        clock.advance(20 * SECOND);
        budget.spend(SECOND);
        assert_eq!((budget.spent(), budget.left()), (16 * SECOND, 44 * SECOND));
        // Covers all of the above.
        budget.spend(40 * SECOND);
        assert_eq!(budget.spent(), 40 * SECOND);
    }

    #[test]
    fn many_short_waits_add_up() {
        let (budget, clock) = budget(None);
        for _ in 0..200 {
            clock.advance(SECOND);
            budget.spend(SECOND / 4);
        }
        assert_eq!((budget.spent(), budget.left()), (50 * SECOND, 10 * SECOND));
    }

    #[test]
    fn only_a_mebibyte_makes_up_for_earlier_waits() {
        let (budget, clock) = budget(None);
        clock.advance(30 * SECOND);
        budget.spend(30 * SECOND);
        budget.received(PROGRESS_BYTES - 1);
        assert_eq!(budget.left(), 30 * SECOND);
        budget.received(1);
        assert_eq!(budget.left(), WAIT_LIMIT);
    }

    #[test]
    fn the_time_limit_covers_the_whole_question_and_progress_does_not_extend_it() {
        let (budget, clock) = budget(Some(90 * SECOND));
        clock.advance(80 * SECOND);
        budget.received(PROGRESS_BYTES);
        assert_eq!(budget.timeout(), Some((90 * SECOND, 10 * SECOND)));
        clock.advance(20 * SECOND);
        assert_eq!(budget.timeout(), Some((90 * SECOND, Duration::ZERO)));
        budget.restart();
        assert_eq!(budget.timeout(), Some((90 * SECOND, 90 * SECOND)));
    }
}
