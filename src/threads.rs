//! Calls that block, on a bounded number of threads.

use std::sync::LazyLock;

use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinError, spawn_blocking},
};

/// Threads that may block at a time, in the whole process: reading files and the cache, however many questions wait for them.
const THREADS: usize = 16;

/// Only its threads for blocking calls are used; the caller's runtime has hundreds of those.
static RUNTIME: LazyLock<Option<Runtime>> =
    LazyLock::new(|| Builder::new_current_thread().max_blocking_threads(THREADS).build().ok());

/// Runs a call that blocks for a short time.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match &*RUNTIME {
        Some(runtime) => runtime.spawn_blocking(work).await,
        None => spawn_blocking(work).await,
    }
}
