//! What is known of a layer: its table of contents, shared by all questions about the image.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Verification, pushed::PushedTocs};
use crate::{
    cache::Cache,
    oci::digest::Digest,
    toc::{ContentMap, LayerToc, entries::EntryTree},
};

/// What is known of one layer.
#[derive(Clone)]
pub(crate) enum Known {
    /// Nothing yet; the table is empty.
    Nothing(Arc<LayerToc>),
    /// What a pass saw that stopped early; nothing vouches for it.
    Partly(Arc<LayerToc>),
    /// All of it, with what vouches for it.
    Wholly(Arc<LayerToc>, Verification),
}

impl Known {
    fn nothing() -> Self {
        Self::Nothing(Arc::new(LayerToc { entries: EntryTree::new(), content: ContentMap::Nothing }))
    }

    /// The table of contents, complete only where the layer is known wholly.
    pub(crate) fn toc(&self) -> &Arc<LayerToc> {
        let (Self::Nothing(toc) | Self::Partly(toc) | Self::Wholly(toc, _)) = self;
        toc
    }

    /// Its entries.
    pub(crate) fn table(&self) -> &EntryTree {
        &self.toc().entries
    }

    /// Whether it is known by a SOCI index that nobody vouches for.
    pub(crate) fn is_unproved_ztoc(&self) -> bool {
        let Self::Wholly(toc, Verification::None) = self else { return false };
        matches!(toc.content, ContentMap::Ztoc(_))
    }

    /// Whether it is known by somebody's table that nobody vouches for: it may leave out what is there.
    pub(crate) fn is_unproved_table(&self) -> bool {
        let Self::Wholly(toc, Verification::None) = self else { return false };
        // What was hopped through has been seen, and left nothing to read content by.
        !matches!(toc.content, ContentMap::Nothing)
    }

    /// Whether it is known wholly, and vouched for at least so far.
    pub(crate) fn is_known(&self, least: Verification) -> bool {
        matches!(self, Self::Wholly(_, level) if *level >= least)
    }
}

/// How far an answer was checked that rests on all that is known of these layers.
pub(crate) fn verification<'a>(layers: impl IntoIterator<Item = &'a Known>) -> Verification {
    let of = |known: &Known| match known {
        Known::Nothing(_) => None,
        Known::Partly(_) => Some(Verification::None),
        Known::Wholly(_, level) => Some(*level),
    };
    layers.into_iter().filter_map(of).min().unwrap_or(Verification::Blob)
}

/// What is known of one layer now, and where more may come from.
pub(crate) struct Knowledge {
    known: Mutex<Known>,
    proved: Arc<Mutex<Option<Proved>>>,
    asked: Mutex<Asked>,
    /// Where tables of contents are kept between runs.
    pub(super) cache: Option<Cache>,
    /// What others have stored beside the image, where it may be believed: that is asked for before a layer is read.
    pub(super) pushed: Option<Arc<PushedTocs>>,
}

/// What a pass has found in a whole blob, which hashed to its digest: for all layers of the image that have this blob.
#[derive(Clone)]
pub(super) struct Proved {
    /// What it unpacked to, if it was told what to unpack to.
    pub(super) diff_id: Option<Digest>,
    pub(super) toc: Arc<LayerToc>,
}

/// Where the layer's table was looked for already.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    blob: bool,
    cache: bool,
    referring: bool,
    registry: bool,
    shared: bool,
}

/// A place to look for a layer's table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// Inside the blob.
    Blob,
    /// The cache.
    Cache,
    /// In an index that refers to the image.
    Referring,
    /// Beside the image.
    Registry,
    /// With what others have stored, also where the cache has a part of its own.
    Shared,
}

impl Knowledge {
    /// That of a layer of which nothing is known.
    pub(crate) fn new(cache: Option<Cache>, referring: Option<Arc<PushedTocs>>) -> Self {
        let (known, asked) = (Mutex::new(Known::nothing()), Mutex::default());
        let pushed = referring.filter(|_| cache.as_ref().is_some_and(Cache::can_trust));
        Self { known, proved: Arc::default(), asked, cache, pushed }
    }

    /// That of another layer of the same blob.
    pub(crate) fn twin(&self) -> Self {
        Self {
            known: Mutex::new(Known::nothing()),
            proved: Arc::clone(&self.proved),
            asked: Mutex::default(),
            cache: self.cache.clone(),
            pushed: self.pushed.clone(),
        }
    }

    /// Whether there is another layer of the same blob.
    pub(super) fn has_twin(&self) -> bool {
        Arc::strong_count(&self.proved) > 1
    }

    /// What a pass over the blob has found, for this layer or another.
    pub(super) fn proved(&self) -> Option<Proved> {
        lock(&self.proved).clone().filter(|_| self.has_twin())
    }

    /// A pass over the whole blob has found this.
    pub(super) fn prove(&self, proved: Proved) {
        *lock(&self.proved) = Some(proved);
    }

    /// What is known now.
    pub(crate) fn now(&self) -> Known {
        lock(&self.known).clone()
    }

    /// Keeps what was learnt. Nothing is forgotten for less.
    pub(super) fn keep(&self, learnt: Known) {
        let mut known = lock(&self.known);
        let is_more = match (&*known, &learnt) {
            (Known::Wholly(_, known), Known::Wholly(_, learnt)) => learnt > known,
            (Known::Wholly(..), _) => false,
            _ => true,
        };
        if is_more {
            *known = learnt;
        }
    }

    /// Forgets what was found to be wrong.
    pub(super) fn forget(&self) {
        *lock(&self.known) = Known::nothing();
        *lock(&self.proved) = None;
    }

    /// Whether to look there now: not twice.
    pub(super) fn ask(&self, place: Place) -> bool {
        !std::mem::replace(lock(&self.asked).of(place), true)
    }

    /// Whether was looked there.
    pub(super) fn has_asked(&self, place: Place) -> bool {
        *lock(&self.asked).of(place)
    }
}

impl Asked {
    fn of(&mut self, place: Place) -> &mut bool {
        match place {
            Place::Blob => &mut self.blob,
            Place::Cache => &mut self.cache,
            Place::Referring => &mut self.referring,
            Place::Registry => &mut self.registry,
            Place::Shared => &mut self.shared,
        }
    }
}

/// A panic elsewhere leaves whole values: they are replaced, never changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
