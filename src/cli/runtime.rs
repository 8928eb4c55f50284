//! The runtime in which commands run, and the signals that end it.

use std::future::Future;

use super::{
    exit::{Exit, Failure},
    signals,
};

/// Threads that move bytes; the main thread formats and writes.
const WORKERS: usize = 2;

/// Runs a command to its end, or to the signal that ends it; `cut_short` does what is left to do if it cannot be waited for.
pub(crate) fn block_on(
    command: impl Future<Output = Result<(), Failure>>,
    cut_short: impl FnOnce(Exit) + Send + 'static,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("starting the runtime", &error))?;
    let result = runtime.block_on(async {
        let mut signal = signals::watch(cut_short)?;
        tokio::select! {
            biased;
            exit = &mut signal => Err(Failure::silent(exit.unwrap_or(Exit::Interrupted))),
            result = command => result,
        }
    });
    // Threads that still read from the network have nothing left to say.
    runtime.shutdown_background();
    result
}
