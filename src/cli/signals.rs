//! SIGINT, SIGTERM, SIGHUP and SIGQUIT end the program and remove its temporary files.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::{
    destination::temporary,
    exit::{Exit, Failure},
};

/// How long a cancelled command may take to stop. One that is blocked on a write to a full pipe never does.
const GRACE: Duration = Duration::from_millis(500);

/// Watches for signals. The receiver completes at the first one. If the program has not exited after [`GRACE`], or at a second
/// signal, `on_forced_exit` runs and the process exits.
pub(crate) fn watch(
    on_forced_exit: impl FnOnce(Exit) + Send + 'static,
) -> Result<oneshot::Receiver<Exit>, Failure> {
    let failed = |error| Failure::caused("watching for signals", &error);
    let (caught, mut signals) = mpsc::channel(1);
    for (kind, exit) in [
        (SignalKind::hangup(), Exit::HungUp),
        (SignalKind::interrupt(), Exit::Interrupted),
        (SignalKind::quit(), Exit::Quit),
        (SignalKind::terminate(), Exit::Terminated),
    ] {
        // `nohup` and shells without job control have signals ignored on purpose. SIGINT always ends the program.
        if exit != Exit::Interrupted && is_ignored(kind) {
            continue;
        }
        tokio::spawn(forward(signal(kind).map_err(failed)?, exit, caught.clone()));
    }
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        // Keeps the channel open.
        let _caught = caught;
        let Some(exit) = signals.recv().await else { return };
        // Without a receiver the program is about to exit anyway.
        let _ = sender.send(exit);
        tokio::select! {
            _ = signals.recv() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        on_forced_exit(exit);
        temporary::remove_all();
        std::process::exit(i32::from(exit.code()));
    });
    Ok(receiver)
}

async fn forward(mut signal: Signal, exit: Exit, caught: mpsc::Sender<Exit>) {
    while signal.recv().await.is_some() {
        // The receiver lives as long as the runtime.
        let _ = caught.send(exit).await;
    }
}

/// Whether the process was started with this signal ignored, as far as the system reports it (Linux).
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let bit = u32::try_from(kind.as_raw_value()).ok().and_then(|number| number.checked_sub(1));
    bit.and_then(|bit| mask.checked_shr(bit)).is_some_and(|rest| rest & 1 == 1)
}
