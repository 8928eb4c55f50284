//! SIGINT and SIGTERM end the program, and its temporary files with it.

use std::time::Duration;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use super::{
    destination::temporary,
    exit::{Exit, Failure},
};

/// How long work that was told to stop may take to stop. A write to a pipe that nobody reads never does.
const GRACE: Duration = Duration::from_millis(500);

/// Watches for signals from now on; what it returns is ready after the first. Whoever has not left [`GRACE`] later, or when the
/// signal comes again, is made to leave; `last` is done before.
pub(crate) fn watch(last: impl FnOnce(Exit) + Send + 'static) -> Result<oneshot::Receiver<Exit>, Failure> {
    let failed = |error| Failure::caused("watching for signals", &error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let exit = tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        };
        // Nobody listening means that the program is about to end anyway.
        let _ = sender.send(exit);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = tokio::time::sleep(GRACE) => {}
        }
        last(exit);
        temporary::remove_all();
        std::process::exit(i32::from(exit.code()));
    });
    Ok(receiver)
}
