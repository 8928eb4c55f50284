//! The state of standard output at the start. The standard library opens `/dev/null` in place of a closed stream before `main`, and
//! writes would then succeed.

use std::sync::atomic::{AtomicBool, Ordering};

static STDOUT_IS_CLOSED: AtomicBool = AtomicBool::new(false);

ctor::declarative::ctor! {
    #[ctor(unsafe)]
    fn check_stdout() {
        let is_closed = rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_err();
        STDOUT_IS_CLOSED.store(is_closed, Ordering::Relaxed);
    }
}

/// Whether standard output was closed when the program started.
pub(crate) fn stdout_is_closed() -> bool {
    STDOUT_IS_CLOSED.load(Ordering::Relaxed)
}
