//! At most one large zstd window is alive in the process. Whoever needs one waits for its turn, but not for a holder whose own
//! reader has paused: that one may be waiting for us.

use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::limits;

/// Tests of who waits in vain are not to take as long.
const PATIENCE: Duration = if cfg!(test) { Duration::from_millis(300) } else { limits::ZSTD_WINDOW_PATIENCE };

/// The one large window that this process may have.
pub(super) static LARGE_WINDOW: LargeWindow = LargeWindow::new(PATIENCE);

/// A permit for one large window, given to one decoder at a time.
#[derive(Debug)]
pub(super) struct LargeWindow {
    taken: Mutex<bool>,
    freed: Condvar,
    /// Grows with everything that a holder does.
    progress: AtomicU64,
    patience: Duration,
}

/// The large window is in use, and for so long its holder has done nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stalled(pub(super) Duration);

impl LargeWindow {
    /// A permit for which nobody waits longer than `patience` without seeing its holder move.
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

    /// Waits for the permit; `wait` returns once it is free, or patience is at an end.
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
        // That the permit changed hands counts for those who still wait.
        permit.moved();
        Ok(permit)
    }

    /// The flag is a plain value: a thread that died while holding the lock left it right.
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to one large window; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Permit(&'static LargeWindow);

impl Permit {
    /// The holder is at work: whoever waits may go on waiting.
    pub(super) fn moved(&self) {
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
    fn a_holder_that_moves_is_waited_for() {
        let window = leaked(Duration::ZERO);
        let (mut permit, mut waits) = (Some(window.acquire().unwrap()), 0);
        let acquired = window.acquire_with(|taken| {
            drop(taken);
            waits += 1;
            match &permit {
                Some(held) if waits < 10 => held.moved(),
                _ => permit = None,
            }
            window.lock()
        });
        assert!(acquired.is_ok());
        assert_eq!(waits, 10);
    }

    #[test]
    fn a_holder_that_moves_no_more_is_not_waited_for() {
        let window = leaked(Duration::from_secs(7));
        let (permit, mut waits) = (window.acquire().unwrap(), 0);
        let acquired = window.acquire_with(|taken| {
            waits += 1;
            if waits == 1 {
                permit.moved();
            }
            taken
        });
        assert_eq!(acquired.unwrap_err(), Stalled(Duration::from_secs(7)));
        assert_eq!(waits, 2);
    }
}
