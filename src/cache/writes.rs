//! How many threads are writing.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Counts those who write.
#[derive(Debug, Default)]
pub(super) struct Writes {
    count: Mutex<usize>,
    none: Condvar,
}

/// One who writes.
#[derive(Debug)]
pub(crate) struct Writing(Arc<Writes>);

impl Writes {
    /// Somebody begins.
    pub(super) fn begin(writes: &Arc<Self>) -> Writing {
        *writes.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Writing(Arc::clone(writes))
    }

    /// Waits until nobody writes.
    pub(super) fn wait(&self) {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.none.wait_while(count, |count| *count > 0));
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_sub(1);
        self.0.none.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn who_waits_goes_on_when_all_have_ended() {
        let writes = Arc::<Writes>::default();
        let written = AtomicBool::new(false);
        writes.wait();
        std::thread::scope(|scope| {
            let (one, other) = (Writes::begin(&writes), Writes::begin(&writes));
            drop(one);
            scope.spawn(|| {
                written.store(true, Ordering::SeqCst);
                drop(other);
            });
            writes.wait();
            assert!(written.load(Ordering::SeqCst));
        });
    }
}
