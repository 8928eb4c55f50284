//! What is known about a layer's TOC, shared by all questions about the image.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{
    cache::Cache,
    oci::digest::Digest,
    read::verification::Verification,
    toc::{ContentMap, LayerToc, entries::EntryTree},
};

/// The state of one layer's TOC.
#[derive(Clone)]
pub(crate) enum TocState {
    /// No TOC is known yet; the tree is empty.
    Absent(Arc<LayerToc>),
    /// What a pass saw that stopped early; it is not verified.
    Partial(Arc<LayerToc>),
    /// All of it, and how far it is verified.
    Complete(Arc<LayerToc>, Verification),
}

impl TocState {
    fn absent() -> Self {
        Self::Absent(Arc::new(LayerToc { entries: EntryTree::new(), content: ContentMap::Nothing }))
    }

    /// The state of a layer that the merged view leaves out: no entries, and nothing to verify.
    pub(crate) fn left_out() -> Self {
        let mut entries = EntryTree::new();
        entries.complete();
        Self::Absent(Arc::new(LayerToc { entries, content: ContentMap::Nothing }))
    }

    /// The TOC: of all of the layer only in the state `Complete`.
    pub(crate) fn toc(&self) -> &Arc<LayerToc> {
        let (Self::Absent(toc) | Self::Partial(toc) | Self::Complete(toc, _)) = self;
        toc
    }

    /// Its entries.
    pub(crate) fn tree(&self) -> &EntryTree {
        &self.toc().entries
    }

    /// Whether it comes from an unsigned SOCI index.
    pub(crate) fn is_untrusted_ztoc(&self) -> bool {
        let Self::Complete(toc, Verification::None) = self else { return false };
        matches!(toc.content, ContentMap::Ztoc(_))
    }

    /// Whether it is an unsigned TOC from elsewhere: it may leave entries out.
    pub(crate) fn is_untrusted(&self) -> bool {
        let Self::Complete(toc, Verification::None) = self else { return false };
        // A pass that skipped content has seen all entries, and left nothing to read content by.
        !matches!(toc.content, ContentMap::Nothing)
    }

    /// Whether it is complete, and verified to at least this level.
    pub(crate) fn satisfies(&self, min_verification: Verification) -> bool {
        matches!(self, Self::Complete(_, level) if *level >= min_verification)
    }
}

/// How far an answer is verified that depends on all of these TOCs.
pub(crate) fn verification<'a>(states: impl IntoIterator<Item = &'a TocState>) -> Verification {
    let level = |state: &TocState| match state {
        TocState::Absent(_) => None,
        TocState::Partial(_) => Some(Verification::None),
        TocState::Complete(_, level) => Some(*level),
    };
    states.into_iter().filter_map(level).min().unwrap_or(Verification::Blob)
}

/// The TOC of one layer, and which TOC sources were tried.
pub(crate) struct TocCell {
    state: Mutex<TocState>,
    verified: Arc<Mutex<Option<VerifiedToc>>>,
    tried: Mutex<TriedSources>,
    /// Where TOCs are kept between runs.
    pub(crate) cache: Option<Cache>,
}

/// The TOC that a pass over the whole blob has left, for all layers of the image with the same blob.
#[derive(Clone)]
pub(crate) struct VerifiedToc {
    /// The DiffID that the blob matched, if the configuration gives one.
    pub(crate) diff_id: Option<Digest>,
    pub(crate) toc: Arc<LayerToc>,
}

/// TOC sources that were tried for a layer, as bits.
#[derive(Clone, Copy, Debug, Default)]
struct TriedSources(u8);

/// Where the TOC of a layer may come from, in the order in which they are tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TocSourceId {
    /// Another layer of the image with the same blob.
    SameBlob,
    /// The cache.
    Cache,
    /// A TOC embedded in the blob.
    Embedded,
    /// The SOCI index that the manifest names.
    Soci,
    /// A signed TOC that refers to the image.
    Referrers,
    /// The shared store.
    Shared,
    /// An unsigned SOCI index that refers to the image.
    UnsignedSoci,
}

impl TocCell {
    /// That of a layer about which nothing is known.
    pub(crate) fn new(cache: Option<Cache>) -> Self {
        let (state, tried) = (Mutex::new(TocState::absent()), Mutex::default());
        Self { state, verified: Arc::default(), tried, cache }
    }

    /// That of another layer with the same blob.
    pub(crate) fn same_blob(&self) -> Self {
        Self { verified: Arc::clone(&self.verified), ..Self::new(self.cache.clone()) }
    }

    /// Whether another layer has the same blob.
    pub(crate) fn has_same_blob(&self) -> bool {
        Arc::strong_count(&self.verified) > 1
    }

    /// The TOC that a pass over the same blob has left.
    pub(crate) fn verified(&self) -> Option<VerifiedToc> {
        lock(&self.verified).clone().filter(|_| self.has_same_blob())
    }

    /// Stores the TOC of a pass over the whole blob for other layers with the same blob.
    pub(crate) fn set_verified(&self, verified: VerifiedToc) {
        *lock(&self.verified) = Some(verified);
    }

    /// The state now.
    pub(crate) fn state(&self) -> TocState {
        lock(&self.state).clone()
    }

    /// Replaces the state unless the present one is worth more.
    pub(crate) fn store(&self, new: TocState) {
        let mut state = lock(&self.state);
        let is_more = match (&*state, &new) {
            (TocState::Complete(old, level), TocState::Complete(new, new_level)) => {
                let tells_more =
                    matches!(old.content, ContentMap::Nothing) && !matches!(new.content, ContentMap::Nothing);
                new_level > level || new_level == level && tells_more
            }
            (TocState::Complete(..), _) => false,
            _ => true,
        };
        if is_more {
            *state = new;
        }
    }

    /// Drops a TOC that turned out to be wrong.
    pub(crate) fn invalidate(&self) {
        *lock(&self.state) = TocState::absent();
        *lock(&self.verified) = None;
    }

    /// Marks a source as tried.
    pub(crate) fn set_tried(&self, source: TocSourceId) {
        lock(&self.tried).0 |= 1 << source as u8;
    }

    /// Whether a source was tried.
    pub(crate) fn was_tried(&self, source: TocSourceId) -> bool {
        lock(&self.tried).0 & 1 << source as u8 != 0
    }
}

/// A panic elsewhere leaves whole values: they are replaced, never changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
