//! What this run has read of an image's layers: their tables, shared by all questions about the image.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{layer::Verification, toc::entries::LayerTable};

/// One table a layer, base first.
pub(crate) struct Tables {
    layers: Mutex<Vec<Read>>,
}

/// What was read of one layer.
#[derive(Clone)]
pub(crate) enum Read {
    /// Nothing yet; the table is empty.
    Nothing(Arc<LayerTable>),
    /// A pass that stopped early; nothing vouches for the table.
    Partly(Arc<LayerTable>),
    /// A whole pass, hashed to the layer's digests.
    Wholly(Arc<LayerTable>),
}

impl Read {
    /// The table, complete only after a whole pass.
    pub(crate) fn table(&self) -> &LayerTable {
        let (Self::Nothing(table) | Self::Partly(table) | Self::Wholly(table)) = self;
        table
    }
}

impl Tables {
    /// Tables of `layers` layers of which nothing was read.
    pub(crate) fn new(layers: usize) -> Self {
        let empty = Read::Nothing(Arc::new(LayerTable::new()));
        Self { layers: Mutex::new(vec![empty; layers]) }
    }

    /// The tables as they are now.
    pub(crate) fn snapshot(&self) -> Vec<Read> {
        self.lock().clone()
    }

    /// Keeps what a pass over a layer has found; what a whole pass has found stays.
    pub(crate) fn store(&self, layer: usize, table: LayerTable) {
        let mut layers = self.lock();
        let kept = layers.get_mut(layer).filter(|kept| !matches!(kept, Read::Wholly(_)));
        let Some(kept) = kept else { return };
        let whole = table.is_complete();
        let table = Arc::new(table);
        *kept = if whole { Read::Wholly(table) } else { Read::Partly(table) };
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Read>> {
        // A panic elsewhere leaves whole tables: they are replaced, never changed.
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far an answer was checked that rests on all that was read of these layers.
pub(crate) fn verification<'a>(layers: impl IntoIterator<Item = &'a Read>) -> Verification {
    let of = |read: &Read| match read {
        Read::Partly(_) => Some(Verification::None),
        Read::Nothing(_) => None,
        Read::Wholly(_) => Some(Verification::Blob),
    };
    layers.into_iter().filter_map(of).min().unwrap_or(Verification::Blob)
}
