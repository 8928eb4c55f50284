//! Runs a command until it completes, a signal arrives or the time is up.

use std::{future::Future, io, sync::mpsc, thread};

use super::{
    exit::{Exit, Failure},
    signals::{self, TimeLimit},
};

/// Worker threads for network and decoding; the main thread formats and writes.
const WORKERS: usize = 2;

/// Threads that a command needs at the same time: the workers, one for blocking calls, and those that decode, hash and record.
const REQUIRED_THREADS: usize = WORKERS + 4;

/// Runs a command until it completes, a signal arrives or the time is up. `on_forced_exit` runs if the command does not stop in
/// time.
pub(crate) fn block_on(
    command: impl Future<Output = Result<(), Failure>>,
    time_limit: TimeLimit,
    on_forced_exit: impl FnOnce(&Failure) + Send + 'static,
) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::caused("starting the worker threads", &error);
    check_threads().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(failed)?;
    let result = runtime.block_on(async {
        let mut ended = signals::watch(time_limit, on_forced_exit)?;
        tokio::select! {
            biased;
            failure = &mut ended => Err(failure.unwrap_or_else(|_| Failure::silent(Exit::Interrupted))),
            result = command => result,
        }
    });
    // Do not wait for threads that still read from the network.
    runtime.shutdown_background();
    result
}

/// Checks that the system lets this process start its threads. The runtime panics if it cannot start one.
fn check_threads() -> io::Result<()> {
    let (release, held) =
        (0..REQUIRED_THREADS).map(|_| mpsc::channel::<()>()).unzip::<_, _, Vec<_>, Vec<_>>();
    let started: io::Result<Vec<_>> =
        held.into_iter().map(|held| thread::Builder::new().spawn(move || held.recv())).collect();
    drop(release);
    for thread in started? {
        // The thread does nothing that could panic.
        let _ = thread.join();
    }
    Ok(())
}
