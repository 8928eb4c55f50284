//! Signals and the time limit: they end the program and remove its temporary files.

use std::{
    future,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

use super::{
    destination::temporary,
    exit::{Exit, Failure},
};

/// How long a cancelled command may take to stop. One that is blocked on a write to a full pipe never does.
const GRACE: Duration = Duration::from_millis(500);

/// The time that a command may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLimit {
    /// When the program started.
    pub(crate) started: Instant,
    /// The limit; `None` for no limit.
    pub(crate) limit: Option<Duration>,
}

impl TimeLimit {
    /// Completes when the time is up.
    async fn reached(self) -> Failure {
        let Some(limit) = self.limit else { return future::pending().await };
        tokio::time::sleep(limit.saturating_sub(self.started.elapsed())).await;
        let limit = match limit.subsec_millis() {
            0 => format!("{} s", limit.as_secs()),
            _ => format!("{} ms", limit.as_millis()),
        };
        Failure::new(Exit::Other, format!("stopped after {limit}, the limit of --timeout"))
    }
}

/// The signals that end the program.
struct Signals(Vec<(Exit, Signal)>);

impl Signals {
    /// Starts to handle signals. Signals that were ignored when the program started stay ignored, as `nohup` expects. SIGINT always
    /// ends the program: shells without job control ignore it for background commands.
    fn listen() -> Result<Self, Failure> {
        let kinds = [
            (Exit::HungUp, SignalKind::hangup()),
            (Exit::Interrupted, SignalKind::interrupt()),
            (Exit::Quit, SignalKind::quit()),
            (Exit::Terminated, SignalKind::terminate()),
        ];
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let handled = kinds
            .into_iter()
            .filter(|(exit, kind)| *exit == Exit::Interrupted || !is_ignored(&status, kind.as_raw_value()));
        let signals = handled.map(|(exit, kind)| Ok((exit, signal(kind)?)));
        let signals: std::io::Result<Vec<_>> = signals.collect();
        signals.map(Self).map_err(|error| Failure::caused("watching for signals", &error))
    }

    /// Completes at the next signal.
    async fn next(&mut self) -> Exit {
        future::poll_fn(|context| {
            let received =
                |(exit, signal): &mut (Exit, Signal)| signal.poll_recv(context).is_ready().then_some(*exit);
            match self.0.iter_mut().find_map(received) {
                Some(exit) => std::task::Poll::Ready(exit),
                None => std::task::Poll::Pending,
            }
        })
        .await
    }
}

/// Whether a signal is in the mask `SigIgn` of `/proc/self/status`.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1))
}

/// Watches for signals and the time limit. The receiver completes at the first of them. If the program has not exited after
/// [`GRACE`], or at a second signal, `on_forced_exit` runs and the process exits.
pub(crate) fn watch(
    time_limit: TimeLimit,
    on_forced_exit: impl FnOnce(&Failure) + Send + 'static,
) -> Result<oneshot::Receiver<Failure>, Failure> {
    let mut signals = Signals::listen()?;
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let failure = tokio::select! {
            exit = signals.next() => Failure::silent(exit),
            failure = time_limit.reached() => failure,
        };
        // Without a receiver the program is about to exit anyway.
        let _ = sender.send(failure.clone());
        tokio::select! {
            _ = signals.next() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        on_forced_exit(&failure);
        temporary::remove_all();
        std::process::exit(i32::from(failure.exit.code()));
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_the_status_of_the_process() {
        let status = "Name:\tlayerslayer\nSigBlk:\t0000000000000006\nSigIgn:\t0000000000001003\nSigCgt:\t0000000000000440\n";
        for (signal, expected) in
            [(1, true), (2, true), (3, false), (13, true), (15, false), (0, false), (65, false)]
        {
            assert_eq!(is_ignored(status, signal), expected, "{signal}");
        }
        assert!(!is_ignored("", 1));
    }
}
