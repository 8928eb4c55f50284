//! The root file system that the layers make together: which layer answers for a path, and the merged
//! listing.
//!
//! Across layers the rules are those of overlayfs, as the image specification's layer changesets ask;
//! `docs/semantics.md` has them in words. Resolution is lazy: it asks the newest layer first and says which
//! layer it would have to know more of, so that no layer is read which cannot change the answer.

use crate::{tar::entry::EntryKind, toc::entries::EntryTree};

mod merged;
mod resolve;
#[cfg(test)]
mod tests;
mod trace;

pub(crate) use self::{
    merged::{Merged, Node},
    trace::{StepKind, Trace},
};

/// The tables of an image's layers, base first.
#[derive(Clone, Debug)]
pub(crate) struct Stack<'a> {
    layers: Vec<&'a EntryTree>,
}

/// Where the bytes of a file lie, and what it is: differs from where its name lies for hard links.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Content {
    /// The layer, 0 = base.
    pub(crate) layer: usize,
    /// The record in that layer's table, no hard link.
    pub(crate) record: u32,
}

/// How to look for a path.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Look in this layer alone, as if the image had no other.
    pub(crate) only_layer: Option<usize>,
    /// What to do with a symbolic link at the end of the path.
    pub(crate) last: Last,
}

/// What to do with a symbolic link at the end of a path. (With a slash after it, it is always followed.)
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Last {
    /// Follow it, as `open` does.
    #[default]
    Follow,
    /// The link itself is the answer, as for `lstat`.
    Keep,
}

/// The answer for a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Resolution {
    /// A whiteout, an opaque marker or a non-directory of this layer, not the base, ended the search.
    Deleted {
        /// The layer that ended it.
        layer: usize,
    },
    /// There it is.
    Found {
        /// The layer that holds the name.
        layer: usize,
        /// The record of the name in that layer's table.
        record: u32,
        /// The path with all symbolic links resolved.
        path: Vec<u8>,
        /// The record that says what it is and where its bytes lie.
        content: Content,
        /// False if a layer that led here has not been read to its end: a later entry could still change the
        /// answer.
        certain: bool,
    },
    /// Too many links, symbolic or hard.
    Loop,
    /// Not in the image. Also the end of a dangling link, and a path through or with a slash after a file.
    Missing,
    /// Cannot be known before more of this layer has been read.
    NeedMore {
        /// An incomplete layer.
        layer: usize,
    },
}

impl<'a> Stack<'a> {
    /// A stack of layers, base first.
    pub(crate) fn new(layers: impl IntoIterator<Item = &'a EntryTree>) -> Self {
        Self { layers: layers.into_iter().collect() }
    }

    /// The table of a layer.
    pub(crate) fn layer(&self, layer: usize) -> Option<&'a EntryTree> {
        self.layers.get(layer).copied()
    }

    /// What a file is.
    pub(crate) fn kind(&self, content: Content) -> EntryKind {
        self.layer(content.layer).map_or(EntryKind::Other, |table| table.kind(content.record))
    }

    /// Finds the entry that a container would see at `path` (from the root; a leading slash, `.` and `..` are
    /// fine), and how.
    ///
    /// Asks as few layers as the answer needs. `NeedMore` names the layer to read on in; ask again when more
    /// of it is known.
    pub(crate) fn resolve(&self, path: &[u8], options: Options) -> (Resolution, Trace) {
        resolve::resolve(self, path, options)
    }

    /// Everything a container would see, parents first, siblings by the bytes of their names. All layers must
    /// be complete.
    pub(crate) fn merged(&self) -> Merged<'_, 'a> {
        Merged::new(self)
    }

    /// The part of `merged` at and below a path without symbolic links, such as `Resolution::Found` gives.
    pub(crate) fn subtree(&self, path: &[u8]) -> Merged<'_, 'a> {
        Merged::below(self, path)
    }
}
