//! The worker pool of a client: threads that decompress, hash and parse.
//!
//! Every stage of a pass is a task on this pool. A stage that waits, for bytes or for its consumer, gives its thread back, so
//! any number of passes share a few threads and none of them can block another. Unpacked bytes are in buffers that the pool
//! lends: memory does not grow with the number of passes.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::task::Task;
use crate::error::{Error, Kind};

/// Unpacked bytes in a buffer.
pub(crate) const BUFFER_BYTES: usize = 256 << 10;

/// Buffers for each thread: one being filled, the others on their way to the hash.
const BUFFERS: usize = 10;

/// Fewest threads: one pass decodes and hashes in parallel.
const LEAST_THREADS: usize = 2;

/// The pool. Its threads start with the first pass and end with the last clone of the client.
#[derive(Debug)]
pub(crate) struct WorkerPool {
    threads: usize,
    permits: Arc<Semaphore>,
    free: Mutex<Vec<Vec<u8>>>,
    /// How many passes are under way: without any, no buffer is kept.
    passes: AtomicUsize,
    runtime: Mutex<Option<Runtime>>,
}

impl WorkerPool {
    /// A pool of one thread for each core, and at least two.
    pub(crate) fn new() -> Arc<Self> {
        let cores = thread::available_parallelism().map_or(LEAST_THREADS, usize::from);
        Self::with_threads(cores.max(LEAST_THREADS))
    }

    /// A pool of `threads` threads, at least one.
    pub(crate) fn with_threads(threads: usize) -> Arc<Self> {
        let threads = threads.max(1);
        let permits = Arc::new(Semaphore::new(threads * BUFFERS));
        Arc::new(Self {
            threads,
            permits,
            free: Mutex::default(),
            passes: AtomicUsize::new(0),
            runtime: Mutex::default(),
        })
    }

    /// Runs `work` on the pool.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<Task<T>, Error> {
        Ok(Task::spawn_on(&self.handle()?, work))
    }

    /// Says that a pass begins. Free buffers are kept until the last one has ended.
    pub(crate) fn begin_pass(self: &Arc<Self>) -> PassGuard {
        self.passes.fetch_add(1, Ordering::Relaxed);
        PassGuard(Arc::clone(self))
    }

    /// A buffer, once one is free. Who holds one must not wait for a consumer.
    pub(crate) async fn buffer(self: &Arc<Self>) -> Buffer {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let bytes = lock(&self.free).pop().unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        Buffer { bytes, pool: Arc::clone(self), _permit: permit }
    }

    fn handle(&self) -> Result<Handle, Error> {
        let mut runtime = lock(&self.runtime);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let failed = |error| Error::caused(Kind::Other, "starting the worker threads", error);
        // The runtime panics where the system gives no thread.
        let probe = thread::Builder::new().spawn(|| ()).map_err(failed)?;
        let _ = probe.join();
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(self.threads).thread_name("worker").max_blocking_threads(1);
        let built = builder.build().map_err(failed)?;
        Ok(runtime.insert(built).handle().clone())
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        // It may be dropped by one of its own tasks, which must not wait for itself.
        if let Some(runtime) = lock(&self.runtime).take() {
            runtime.shutdown_background();
        }
    }
}

/// A pass under way.
#[derive(Debug)]
pub(crate) struct PassGuard(Arc<WorkerPool>);

impl Drop for PassGuard {
    fn drop(&mut self) {
        let mut free = lock(&self.0.free);
        if self.0.passes.fetch_sub(1, Ordering::Relaxed) == 1 {
            free.clear();
            free.shrink_to_fit();
        }
    }
}

/// [`BUFFER_BYTES`] bytes, lent by the pool.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<WorkerPool>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = lock(&self.pool.free);
        if self.pool.passes.load(Ordering::Relaxed) > 0 {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A panic elsewhere leaves whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
