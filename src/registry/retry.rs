//! When to try again, and after how long.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use crate::{
    hint::Hint,
    limits,
    registry::{
        error::Error,
        http::{Http, clock::Clock, response::Response},
        message,
    },
};

/// Retries in a row without progress: five attempts in all.
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

    /// Forgets earlier failures, because data has arrived.
    pub(super) fn progress(&mut self) {
        self.backoff = backoff(self.base);
    }

    /// Waits before another attempt, at least as long as the server requested. Returns `false` at once if there were enough attempts.
    pub(super) async fn pause(&mut self, requested: Option<Duration>) -> bool {
        let Some(wait) = self.backoff.next() else { return false };
        self.clock.sleep(wait.max(requested.unwrap_or_default())).await;
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

/// The wait that a failed response requests; an error at once if it is too long.
pub(super) fn requested_wait(
    operation: &str,
    registry: &str,
    response: &Response,
) -> Result<Option<Duration>, Error> {
    let Some(wait) = message::retry_after(&response.headers) else { return Ok(None) };
    if wait <= limits::RETRY_AFTER {
        return Ok(Some(wait));
    }
    let status = message::status_text(response.status);
    let detail = format!("the server answers {status} and asks to wait {}", duration_text(wait));
    let hint = match response.status.as_u16() {
        429 => Hint::LogInForHigherLimit { registry: registry.to_owned() },
        _ => Hint::RetryLater,
    };
    let error = Error::unavailable(operation, detail).hint(hint);
    Err(error.with_status(response.status).with_retry_after(wait))
}

fn duration_text(wait: Duration) -> String {
    let seconds = wait.as_secs();
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}
