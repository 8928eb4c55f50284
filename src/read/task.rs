//! Tasks with an owner: dropping the handle aborts the task.

use std::{
    panic,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::FutureExt as _;
use tokio::{runtime::Handle, task::JoinError};
use tokio_util::task::AbortOnDropHandle;

use crate::error::{Error, Kind};

/// A task that runs by itself and is aborted when this is dropped. A panic in it continues in whoever awaits it.
#[derive(Debug)]
pub(crate) struct Task<T>(AbortOnDropHandle<Result<T, Error>>);

impl<T: Send + 'static> Task<T> {
    /// Runs `work` on the current runtime.
    pub(crate) fn spawn(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        Self(AbortOnDropHandle::new(tokio::spawn(work)))
    }

    /// Runs `work` on another runtime.
    pub(crate) fn spawn_on(
        runtime: &Handle,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Self {
        Self(AbortOnDropHandle::new(runtime.spawn(work)))
    }

    /// Whether it has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let joined: Result<_, JoinError> = ready!(self.0.poll_unpin(context));
        Poll::Ready(match joined {
            Ok(result) => result,
            Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
            Err(error) => Err(Error::caused(Kind::Other, "the runtime shut down", error)),
        })
    }
}
