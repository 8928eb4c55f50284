//! Runs a command until it completes or a signal ends it.

use std::future::Future;

use super::{
    exit::{Exit, Failure},
    signals,
};

/// Worker threads for network and decoding; the main thread formats and writes.
const WORKERS: usize = 2;

/// Runs a command until it completes or a signal arrives. `on_forced_exit` runs if the command does not stop in time.
pub(crate) fn block_on(
    command: impl Future<Output = Result<(), Failure>>,
    on_forced_exit: impl FnOnce(Exit) + Send + 'static,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("starting the runtime", &error))?;
    let result = runtime.block_on(async {
        let mut signal = signals::watch(on_forced_exit)?;
        tokio::select! {
            biased;
            exit = &mut signal => Err(Failure::silent(exit.unwrap_or(Exit::Interrupted))),
            result = command => result,
        }
    });
    // Do not wait for threads that still read from the network.
    runtime.shutdown_background();
    result
}
