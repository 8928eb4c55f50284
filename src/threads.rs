//! Calls that block, on a bounded number of the runtime's threads.

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

/// Threads that may block at a time, in the whole process: reading files and the cache, however many questions wait for them.
const THREADS: usize = 16;

static PERMITS: Semaphore = Semaphore::const_new(THREADS);

/// Runs a call that blocks for a short time.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    // The semaphore is never closed.
    let permit = PERMITS.acquire().await.ok();
    let result = spawn_blocking(work).await;
    drop(permit);
    result
}
