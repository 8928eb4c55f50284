//! SIGINT and SIGTERM end the program and remove its temporary files.

use std::time::Duration;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
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
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let exit = tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        };
        // Without a receiver the program is about to exit anyway.
        let _ = sender.send(exit);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        on_forced_exit(exit);
        temporary::remove_all();
        std::process::exit(i32::from(exit.code()));
    });
    Ok(receiver)
}
