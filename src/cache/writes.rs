//! What is written beside the answers: by few threads of the cache's own, one where little waits, so that requests are not kept from
//! going out by files that nobody awaits yet.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Most threads that write: a store of shared tables may be far away.
const THREADS: usize = 8;

/// Writes that wait for one thread before another one helps it.
const WAITING: usize = 4;

type Write = Box<dyn FnOnce() + Send>;

/// The writes that are still to be done. Threads live as long as there are any.
#[derive(Debug, Default)]
pub(super) struct Writes {
    state: Mutex<State>,
    none: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Write>,
    threads: usize,
}

impl fmt::Debug for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.waiting.len();
        formatter.debug_struct("State").field("waiting", &waiting).field("threads", &self.threads).finish()
    }
}

impl Writes {
    /// Has `write` done soon, those given earlier first.
    pub(super) fn add(writes: &Arc<Self>, write: impl FnOnce() + Send + 'static) {
        let mut state = writes.state();
        state.waiting.push_back(Box::new(write));
        if state.threads >= THREADS || state.waiting.len() <= state.threads * WAITING {
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = Arc::clone(writes);
        if thread::Builder::new().name("cache".to_owned()).spawn(move || shared.work()).is_err() {
            // Rather late than never.
            writes.work();
        }
    }

    /// Waits until all is written.
    pub(super) fn wait(&self) {
        drop(self.none.wait_while(self.state(), |state| state.threads > 0));
    }

    /// Writes until nothing waits.
    fn work(&self) {
        loop {
            let mut state = self.state();
            let Some(write) = state.waiting.pop_front() else {
                state.threads -= 1;
                self.none.notify_all();
                return;
            };
            drop(state);
            // The panic has been reported; what waits behind it is written all the same.
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

    /// A write that has begun, and ends when it is told to.
    fn begun(writes: &Arc<Writes>) -> mpsc::Sender<()> {
        let (end, may_end) = mpsc::channel();
        let (told, tell) = mpsc::channel();
        Writes::add(writes, move || {
            told.send(()).unwrap();
            may_end.recv().unwrap();
        });
        tell.recv().unwrap();
        end
    }

    #[test]
    fn who_waits_goes_on_when_all_is_written_in_the_order_in_which_it_was_given() {
        let writes = Arc::<Writes>::default();
        writes.wait();
        let written = Arc::<Mutex<Vec<usize>>>::default();
        let end = begun(&writes);
        for number in 0..WAITING {
            let written = Arc::clone(&written);
            Writes::add(&writes, move || written.lock().unwrap().push(number));
        }
        end.send(()).unwrap();
        writes.wait();
        assert_eq!(*written.lock().unwrap(), (0..WAITING).collect::<Vec<_>>());
    }

    #[test]
    fn many_writes_do_not_wait_for_one_that_takes_long() {
        let writes = Arc::<Writes>::default();
        let end = begun(&writes);
        let (told, tell) = mpsc::channel();
        for number in 0..=WAITING {
            let told = told.clone();
            Writes::add(&writes, move || told.send(number).unwrap());
        }
        assert_eq!(tell.iter().take(WAITING + 1).count(), WAITING + 1);
        end.send(()).unwrap();
        writes.wait();
    }

    #[test]
    fn a_write_that_panics_keeps_nobody_waiting() {
        let writes = Arc::<Writes>::default();
        let (told, tell) = mpsc::channel();
        Writes::add(&writes, || panic!("in a test"));
        Writes::add(&writes, move || told.send(()).unwrap());
        writes.wait();
        tell.recv().unwrap();
    }
}
