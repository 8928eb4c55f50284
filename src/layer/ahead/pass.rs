//! A pass over a whole layer beside the reading of others: what it finds is kept back until the layer's turn.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture};

use crate::{
    error::Error,
    layer::{Layer, keep::Kept},
    source::growing::Demand,
};

/// What a pass has come to.
pub(in crate::layer) type Found = Result<Kept, Error>;

/// A pass that was begun before its turn.
pub(in crate::layer) struct Pass {
    demand: Arc<Demand>,
    state: State,
}

enum State {
    Ended(Box<Found>),
    Running(BoxFuture<'static, Found>),
}

impl Pass {
    pub(super) fn begin(layer: &Layer) -> Self {
        let (demand, pass) = layer.listing();
        Self { demand, state: State::Running(pass) }
    }

    /// How far it has come.
    pub(in crate::layer) fn demand(&self) -> Arc<Demand> {
        Arc::clone(&self.demand)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Goes on; tells whether it has ended now.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> bool {
        let State::Running(pass) = &mut self.state else { return false };
        let Poll::Ready(found) = pass.poll_unpin(context) else { return false };
        self.state = State::Ended(Box::new(found));
        true
    }

    /// Its end, now that its turn has come.
    pub(in crate::layer) async fn finish(self) -> Found {
        match self.state {
            State::Ended(found) => *found,
            State::Running(pass) => pass.await,
        }
    }
}
