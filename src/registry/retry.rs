//! When to try again, and after how long.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::{
    limits,
    registry::{
        error::Error,
        http::{Http, answer::Answer, clock::Clock},
        response,
    },
};

/// Failures in a row, without progress between them, that are made up for: five attempts in all.
const RETRIES: usize = 4;
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// The failures of one piece of work. Only failures without progress count.
pub(super) struct Retry {
    clock: Clock,
    base: Duration,
    backoff: ExponentialBackoff,
}

impl Retry {
    pub(super) fn new(http: &Http) -> Self {
        Self { clock: http.clock.clone(), base: http.retry_base, backoff: backoff(http.retry_base) }
    }

    /// Something came through: earlier failures no longer count.
    pub(super) fn progress(&mut self) {
        self.backoff = backoff(self.base);
    }

    /// Waits before another attempt, at least as long as the server asked. `false` without waiting once there were enough.
    pub(super) async fn pause(&mut self, asked: Option<Duration>) -> bool {
        let Some(wait) = self.backoff.next() else { return false };
        self.clock.sleep(wait.max(asked.unwrap_or_default())).await;
        true
    }
}

fn backoff(base: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(base)
        .with_factor(2.0)
        .with_max_delay(LONGEST_WAIT)
        .with_max_times(RETRIES)
        .with_jitter()
        .build()
}

/// The wait that a failed answer asks for; an error at once if nobody would wait that long.
pub(super) fn asked_wait(doing: &str, answer: &Answer) -> Result<Option<Duration>, Error> {
    let Some(wait) = response::retry_after(&answer.headers) else { return Ok(None) };
    if wait <= limits::RETRY_AFTER {
        return Ok(Some(wait));
    }
    let status = response::status_text(answer.status);
    let problem = format!("the server answers {status} and asks to wait {}", duration_text(wait));
    let advice = match answer.status.as_u16() {
        429 => "log in for a higher limit, or try again after that time",
        _ => "try again after that time",
    };
    Err(Error::unavailable(doing, problem).advise(advice))
}

fn duration_text(wait: Duration) -> String {
    let seconds = wait.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
