//! Waiting for a server, but not too long.

use std::time::Duration;

use super::transfer_error::TransferError;
use crate::registry::wait_budget::WaitBudget;

/// Waits for `arrival` at most `patience`, and within the time limit of the question.
pub(super) async fn wait<T>(
    arrival: impl Future<Output = T>,
    patience: Duration,
    server: &str,
    budget: &WaitBudget,
) -> Result<T, TransferError> {
    let timeout = budget.timeout();
    let longest = timeout.map_or(patience, |(_, left)| patience.min(left));
    if let Ok(arrived) = tokio::time::timeout(longest, arrival).await {
        return Ok(arrived);
    }
    Err(match timeout {
        Some((limit, left)) if left <= patience => TransferError::timed_out(server, limit),
        _ => TransferError::stalled(server, longest),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::future;

    use super::*;
    use crate::registry::http::{clock::Clock, transfer_error::TransferErrorKind};

    #[tokio::test]
    async fn the_time_limit_ends_a_wait_before_the_stall_does() {
        const SHORT: Duration = Duration::from_millis(5);
        for (patience, timeout, expected) in [
            (100 * SHORT, Some(SHORT), TransferErrorKind::TimedOut),
            (SHORT, Some(100 * SHORT), TransferErrorKind::Stalled),
            (SHORT, None, TransferErrorKind::Stalled),
        ] {
            let budget = WaitBudget::new(Clock::default(), Duration::from_secs(60), timeout);
            let waited = wait(future::pending::<()>(), patience, "https://a", &budget).await;
            assert_eq!(waited.unwrap_err().kind, expected);
        }
    }
}
