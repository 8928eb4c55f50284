//! At most one large zstd window exists in the process. A decoder that needs one waits for the permit, but not while the
//! holder makes no progress: the holder's reader may be waiting for this one.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::limits;

/// Short in tests, because some wait until it is over.
const PATIENCE: Duration = if cfg!(test) { Duration::from_millis(300) } else { limits::ZSTD_WINDOW_PATIENCE };

/// The one large window that this process may have.
pub(super) static LARGE_WINDOW: LargeWindow = LargeWindow::new(PATIENCE);

/// The permit for a large window, held by one decoder at a time.
#[derive(Debug)]
pub(super) struct LargeWindow {
    taken: Mutex<bool>,
    freed: Condvar,
    /// Counts the steps of holders.
    progress: AtomicU64,
    patience: Duration,
}

/// The large window is in use, and its holder has made no progress for this long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stalled(pub(super) Duration);

impl LargeWindow {
    /// A permit for which decoders wait at most `patience` while its holder makes no progress.
    pub(super) const fn new(patience: Duration) -> Self {
        Self { taken: Mutex::new(false), freed: Condvar::new(), progress: AtomicU64::new(0), patience }
    }

    /// Waits for the permit. Blocks.
    pub(super) fn acquire(&'static self) -> Result<Permit, Stalled> {
        self.acquire_with(|taken| {
            let waited = self.freed.wait_timeout_while(taken, self.patience, |taken| *taken);
            waited.unwrap_or_else(PoisonError::into_inner).0
        })
    }

    /// Waits for the permit; `wait` returns once it is free or `patience` is over.
    fn acquire_with(
        &'static self,
        mut wait: impl FnMut(MutexGuard<'static, bool>) -> MutexGuard<'static, bool>,
    ) -> Result<Permit, Stalled> {
        let mut taken = self.lock();
        let mut seen = self.progress.load(Ordering::Relaxed);
        while *taken {
            taken = wait(taken);
            let now = self.progress.load(Ordering::Relaxed);
            if *taken && now == seen {
                return Err(Stalled(self.patience));
            }
            seen = now;
        }
        *taken = true;
        let permit = Permit(self);
        // A new holder is progress for the decoders that still wait.
        permit.progressed();
        Ok(permit)
    }

    /// The flag stays valid if a thread panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one large window, released on drop.
#[derive(Debug)]
pub(super) struct Permit(&'static LargeWindow);

impl Permit {
    /// Records progress of the holder, so that others keep waiting.
    pub(super) fn progressed(&self) {
        self.0.progress.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.0.lock() = false;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn leaked(patience: Duration) -> &'static LargeWindow {
        Box::leak(Box::new(LargeWindow::new(patience)))
    }

    #[test]
    fn dropping_the_permit_frees_it() {
        let window = leaked(Duration::ZERO);
        let permit = window.acquire().unwrap();
        assert_eq!(window.acquire().unwrap_err(), Stalled(Duration::ZERO));
        drop(permit);
        window.acquire().unwrap();
    }

    #[test]
    fn only_one_thread_at_a_time_holds_the_permit() {
        let window = leaked(LONG);
        let (inside, most) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let permit = window.acquire().unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }

    #[test]
    fn a_holder_that_makes_progress_is_waited_for() {
        let window = leaked(Duration::ZERO);
        let (mut permit, mut waits) = (Some(window.acquire().unwrap()), 0);
        let acquired = window.acquire_with(|taken| {
            drop(taken);
            waits += 1;
            match &permit {
                Some(held) if waits < 10 => held.progressed(),
                _ => permit = None,
            }
            window.lock()
        });
        assert!(acquired.is_ok());
        assert_eq!(waits, 10);
    }

    #[test]
    fn a_holder_without_progress_is_not_waited_for() {
        let window = leaked(Duration::from_secs(7));
        let (permit, mut waits) = (window.acquire().unwrap(), 0);
        let acquired = window.acquire_with(|taken| {
            waits += 1;
            if waits == 1 {
                permit.progressed();
            }
            taken
        });
        assert_eq!(acquired.unwrap_err(), Stalled(Duration::from_secs(7)));
        assert_eq!(waits, 2);
    }
}
