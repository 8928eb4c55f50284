//! Lower layers that are read before anybody knows whether they are needed: bytes for time.
//!
//! ```text
//! newest    [ hunt ──────────────────────────▶]│ its table is kept
//! the next  [ hunt as if nothing lay above ──▶]  waits │ its turn: its table is kept
//! ```
//!
//! What such a hunt finds counts when its turn comes, if the layers above then say nothing of the path indeed; else the layer is read
//! again. It stops at content that is larger than what can wait for the turn, which goes on from there.

use std::{
    convert::Infallible,
    future::{self, poll_fn},
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt as _;

use super::{
    CarveOptions,
    candidates::Candidates,
    hunt::{Hunt, Query},
    pass::Scanning,
    sink::{Sink, Stream},
};
use crate::{
    error::Error,
    image::Image,
    layer::{Layer, Verification, known::Known, scan::Scanned},
    toc::{ContentMap, LayerToc, entries::EntryTree},
};

/// Hunts that were begun before their turn. They end when this is dropped.
#[derive(Default)]
pub(super) struct Guesses(Vec<Guess>);

struct Guess {
    layer: usize,
    scanning: Scanning,
    ended: Option<Result<Scanned<Hunt>, Error>>,
}

impl Guesses {
    /// The hunt in a layer whose turn has come, if it was begun; one that failed is as good as none.
    pub(super) fn take(&mut self, layer: usize) -> Option<Scanning> {
        let at = self.0.iter().position(|guess| guess.layer == layer)?;
        let Guess { mut scanning, ended, .. } = self.0.swap_remove(at);
        match ended {
            Some(Err(_)) => return None,
            Some(ended) => scanning.pass = future::ready(ended).boxed(),
            None => {}
        }
        Some(scanning)
    }

    /// Does `work`, and goes on with all of them meanwhile: what they hold, a token's turn or a connection, others may wait for.
    pub(super) async fn meanwhile<T>(&mut self, work: impl Future<Output = T> + Send) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.run() => match never {},
        }
    }

    /// Ends all of them; false if there were none.
    pub(super) fn end(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }

    /// Goes on with all of them. Never ends, and may be dropped and called again.
    pub(super) async fn run(&mut self) -> Infallible {
        poll_fn(|context| {
            self.0.iter_mut().for_each(|guess| guess.poll(context));
            Poll::Pending
        })
        .await
    }
}

impl Guess {
    fn poll(&mut self, context: &mut Context<'_>) {
        if self.ended.is_none()
            && let Poll::Ready(ended) = self.scanning.pass.poll_unpin(context)
        {
            self.ended = Some(ended);
        }
    }
}

impl Image {
    /// Begins to look for a path in layers below this one, up to as many as may be read at the same time.
    pub(super) async fn guess(
        &self,
        guesses: &mut Guesses,
        layer: usize,
        path: &[u8],
        options: CarveOptions,
    ) -> Result<(), Error> {
        for below in (0..layer).rev().filter(|_| options.layer.is_none()) {
            if guesses.0.len() + 1 >= options.parallel_layers {
                break;
            }
            let read = self.layer(below)?;
            let is_begun = guesses.0.iter().any(|guess| guess.layer == below);
            // The same blob again may be known by then.
            let is_again = self.layers().iter().skip(below + 1).any(|other| other.name == read.name);
            if is_begun || is_again || !read.may_be_guessed() {
                continue;
            }
            guesses.meanwhile(read.learn_cached(options.least)).await;
            if !read.will_be_read(options.least) {
                continue;
            }
            let known = self.known().into_iter().enumerate();
            let known = known.map(|(above, known)| if above > below { nothing_more(known) } else { known });
            let paths = [path.to_vec()];
            let query = Query {
                paths: &paths,
                candidates: Candidates::None,
                options: options.resolution(),
                extent: options.extent(),
            };
            let scanning = self.scanning(known.collect(), below, query, Sink::Stream(Stream::held_only()))?;
            guesses.0.push(Guess { layer: below, scanning, ended: None });
        }
        Ok(())
    }
}

impl Layer {
    /// Whether it may be read before it is known to be needed.
    pub(super) fn may_be_guessed(&self) -> bool {
        self.source.allowance() == u64::MAX
    }
}

/// A layer of which no more is known taken for one that has no more.
fn nothing_more(known: Known) -> Known {
    if let Known::Wholly(..) = known {
        return known;
    }
    let mut entries = EntryTree::new();
    entries.complete();
    Known::Wholly(Arc::new(LayerToc { entries, content: ContentMap::Nothing }), Verification::Blob)
}
