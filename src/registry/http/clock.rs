//! The clock, so that tests can control it.

#[cfg(test)]
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The source of the current time and of waits. It is monotonic: the time of day may be wrong.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    /// The machine's monotonic clock, by way of the runtime's.
    #[default]
    System,
    /// A clock that advances only by calls and by waits.
    #[cfg(test)]
    Manual(Arc<ManualClock>),
}

impl Clock {
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System => tokio::time::Instant::now().into_std(),
            #[cfg(test)]
            Self::Manual(clock) => clock.start + clock.lock().0,
        }
    }

    pub(crate) async fn sleep(&self, wait: Duration) {
        match self {
            Self::System => tokio::time::sleep(wait).await,
            #[cfg(test)]
            Self::Manual(clock) => {
                clock.advance(wait);
                clock.lock().1.push(wait);
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A clock that a test controls.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct ManualClock {
    start: Instant,
    state: Mutex<(Duration, Vec<Duration>)>,
}

#[cfg(test)]
impl ManualClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), state: Mutex::default() })
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.lock().0 += by;
    }

    /// All waits so far.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.lock().1.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Duration, Vec<Duration>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
