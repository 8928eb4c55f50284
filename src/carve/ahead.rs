//! The first ranges of layers whose turn comes next, asked for once all of the layer that is being read has been asked for: small
//! layers cost one round trip together, not one each.

use std::{collections::VecDeque, convert::Infallible, future, sync::Arc};

use futures_util::{future::join_all, poll};

use super::CarveOptions;
use crate::{
    image::Image,
    layer::Verification,
    source::growing::{Begun, Demand},
};

/// Layers that are begun at a time: with the one that is being read, a connection each.
const LAYERS: usize = 3;

/// Layers that were begun, newest first.
pub(super) struct Ahead {
    image: Image,
    least: Verification,
    /// Whether further layers will be read by ranges at all.
    is_wanted: bool,
    reading: Option<(usize, Arc<Demand>)>,
    begun: VecDeque<(usize, Begun)>,
}

impl Ahead {
    /// For reading layers of an image from the newest down; nothing is begun where one layer alone is asked for, or all must be read.
    pub(super) fn new(image: &Image, options: CarveOptions) -> Self {
        let is_wanted = options.layer.is_none() && !options.verifies();
        let (image, least) = (image.clone(), options.least);
        Self { image, least, is_wanted, reading: None, begun: VecDeque::new() }
    }

    /// This layer is read now, with this demand: it has what was begun of the layer.
    pub(super) fn read(&mut self, layer: usize) -> Arc<Demand> {
        let mut begun = None;
        while let Some((index, found)) = self.begun.pop_front() {
            if index == layer {
                begun = Some(found);
                break;
            }
        }
        let demand = Arc::new(Demand::after(begun));
        self.reading = Some((layer, Arc::clone(&demand)));
        demand
    }

    /// Begins layers while one is read. Never ends, and may be dropped and called again.
    pub(super) async fn run(&mut self) -> Infallible {
        let Some((layer, demand)) = self.reading.clone().filter(|_| self.is_wanted) else {
            return future::pending().await;
        };
        demand.all_requested().await;
        while self.begun.len() < LAYERS && self.begun.iter().all(|(_, begun)| begun.is_whole()) {
            let last = self.begun.back().map_or(layer, |(index, _)| *index);
            let Some((index, mut begun)) = begin_below(&self.image, last, self.least).await else { break };
            let _ = poll!(Box::pin(begun.open()));
            self.begun.push_back((index, begun));
        }
        join_all(self.begun.iter_mut().map(|(_, begun)| begun.open())).await;
        future::pending().await
    }
}

/// Begins the next layer below one, if it is going to be scanned.
async fn begin_below(image: &Image, layer: usize, least: Verification) -> Option<(usize, Begun)> {
    for layer in image.layers().iter().take(layer).rev() {
        layer.learn_cached(least).await;
        if !layer.known().is_known(least) {
            return layer.begin().map(|begun| (layer.index(), begun));
        }
    }
    None
}
