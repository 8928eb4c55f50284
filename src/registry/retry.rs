//! When to try again, and after how long.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use jiff::Timestamp;

use crate::{
    hint::Hint,
    registry::{
        error::{Error, Kind},
        http::{Http, clock::Clock, response::Response, transfer_error::seconds},
        message,
        wait_budget::WaitBudget,
    },
};

/// Retries in a row without any progress: five attempts in all.
const RETRIES: usize = 4;
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// The failures of one piece of work. Failures in a row are limited in number, and all waits of the question in time.
pub(super) struct Retry {
    clock: Clock,
    base: Duration,
    backoff: ExponentialBackoff,
    budget: Arc<WaitBudget>,
}

impl Retry {
    pub(super) fn new(http: &Http, budget: &Arc<WaitBudget>) -> Self {
        let (clock, base, budget) = (http.clock.clone(), http.retry_base, Arc::clone(budget));
        Self { clock, base, backoff: backoff(base), budget }
    }

    /// Forgets the number of earlier failures, because data has arrived. Their time still counts.
    pub(super) fn progress(&mut self) {
        self.backoff = backoff(self.base);
    }

    /// Waits before another attempt, at least as long as the server requested. Returns `error` at once if there were enough attempts,
    /// or if there is no time left to wait.
    pub(super) async fn pause(&mut self, error: Error, requested: Option<Duration>) -> Result<(), Error> {
        if let Some((limit, _)) = self.budget.timeout().filter(|(_, left)| left.is_zero()) {
            return Err(error.timed_out(limit));
        }
        let gave_up = |error: Error, budget: &WaitBudget| match seconds(budget.spent()).as_str() {
            "0.00" => error,
            spent => error.after(format_args!("gave up after waiting {spent} s in all")),
        };
        let Some(wait) = self.backoff.next() else { return Err(gave_up(error, &self.budget)) };
        let wait = wait.max(requested.unwrap_or_default());
        if wait > self.budget.left() {
            return Err(gave_up(error, &self.budget));
        }
        let in_time = self.budget.timeout().map_or(wait, |(_, left)| wait.min(left));
        self.clock.sleep(in_time).await;
        self.budget.spend(in_time);
        Ok(())
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

/// The wait that a failed response requests; an error at once if it is longer than the question may still wait.
pub(super) fn requested_wait(
    operation: &str,
    registry: &str,
    response: &Response,
    budget: &WaitBudget,
) -> Result<Option<Duration>, Error> {
    let Some(wait) = message::retry_after(&response.headers) else { return Ok(None) };
    if wait <= budget.left() {
        return Ok(Some(wait));
    }
    let status = message::status_text(response.status);
    let until = jiff::SignedDuration::try_from(wait).ok();
    let until = until.and_then(|wait| Timestamp::now().checked_add(wait).ok());
    let until = until.map(|until| format!(", until {}", until.strftime("%Y-%m-%d %H:%M:%S UTC")));
    let detail = format!(
        "the server answers {status} and asks to wait {}{}",
        duration_text(wait),
        until.unwrap_or_default()
    );
    let hint = match response.status.as_u16() {
        429 => Hint::LogInForHigherLimit { registry: registry.to_owned() },
        _ => Hint::RetryLater,
    };
    let error = Error::new(Kind::Unavailable, operation, detail).hint(hint);
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
