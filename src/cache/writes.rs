//! Background writes to the cache, on a few threads of its own (one while few writes are queued), so that writes do not delay
//! requests.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Most threads that write. A shared TOC store may be slow.
const THREADS: usize = 8;

/// Queued writes per thread before another thread is started.
const QUEUED_PER_THREAD: usize = 4;

type Write = Box<dyn FnOnce() + Send>;

/// The queue of writes. Threads run as long as it is not empty.
#[derive(Debug, Default)]
pub(super) struct Writes {
    state: Mutex<State>,
    is_idle: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Write>,
    threads: usize,
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queued = self.queue.len();
        formatter.debug_struct("State").field("queued", &queued).field("threads", &self.threads).finish()
    }
}

impl Writes {
    /// Queues `write`. Writes start in the order in which they are queued.
    pub(super) fn add(writes: &Arc<Self>, write: impl FnOnce() + Send + 'static) {
        let mut state = writes.state();
        state.queue.push_back(Box::new(write));
        if state.threads >= THREADS || state.queue.len() <= state.threads * QUEUED_PER_THREAD {
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(writes);
        if thread::Builder::new().name("cache".to_owned()).spawn(move || shared.work()).is_err() {
            // Without a thread, write on this one.
            writes.work();
        }
    }

    /// Blocks until the queue is empty and all writes are done.
    pub(super) fn wait(&self) {
        drop(self.is_idle.wait_while(self.state(), |state| state.threads > 0));
    }

    /// Runs writes until the queue is empty.
    fn work(&self) {
        loop {
            let mut state = self.state();
            let Some(write) = state.queue.pop_front() else {
                state.threads -= 1;
                self.is_idle.notify_all();
                return;
            };
            drop(state);
            // The panic hook has reported the panic; the remaining writes still run.
            let _ = catch_unwind(AssertUnwindSafe(write));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Starts a write that ends when the returned sender is used.
    fn start_write(writes: &Arc<Writes>) -> mpsc::Sender<()> {
        let (end, may_end) = mpsc::channel();
        let (sender, receiver) = mpsc::channel();
        Writes::add(writes, move || {
            sender.send(()).unwrap();
            may_end.recv().unwrap();
        });
        receiver.recv().unwrap();
        end
    }

    #[test]
    fn wait_returns_after_all_writes_have_run_in_order() {
        let writes = Arc::<Writes>::default();
        writes.wait();
        let written = Arc::<Mutex<Vec<usize>>>::default();
        let end = start_write(&writes);
        for number in 0..QUEUED_PER_THREAD {
            let written = Arc::clone(&written);
            Writes::add(&writes, move || written.lock().unwrap().push(number));
        }
        end.send(()).unwrap();
        writes.wait();
        assert_eq!(*written.lock().unwrap(), (0..QUEUED_PER_THREAD).collect::<Vec<_>>());
    }

    #[test]
    fn a_slow_write_does_not_delay_many_others() {
        let writes = Arc::<Writes>::default();
        let end = start_write(&writes);
        let (sender, receiver) = mpsc::channel();
        for number in 0..=QUEUED_PER_THREAD {
            let sender = sender.clone();
            Writes::add(&writes, move || sender.send(number).unwrap());
        }
        assert_eq!(receiver.iter().take(QUEUED_PER_THREAD + 1).count(), QUEUED_PER_THREAD + 1);
        end.send(()).unwrap();
        writes.wait();
    }

    #[test]
    fn a_panicking_write_does_not_block_wait() {
        let writes = Arc::<Writes>::default();
        let (sender, receiver) = mpsc::channel();
        Writes::add(&writes, || panic!("in a test"));
        Writes::add(&writes, move || sender.send(()).unwrap());
        writes.wait();
        receiver.recv().unwrap();
    }
}
