//! Finds what is at a path, without its content.

use super::{
    CarveOptions,
    answer::{Located, depends_on},
    path_search::stack,
    selection::Selection,
    sink::Sinks,
};
use crate::{
    error::Error,
    image::{
        Image,
        rootfs::{Content, Last, Options},
    },
    layer::toc_state::{TocState, verification},
    read::verification::Verification,
    tar::entry::Entry,
};

/// What is at a path.
pub(crate) struct Location {
    /// The entry, with the path that links led to.
    pub(crate) entry: Entry,
    /// The layer that holds its name.
    pub(crate) layer: usize,
    /// The record of its content.
    pub(crate) content: Content,
    /// How far the answer is verified.
    pub(crate) verification: Verification,
    /// The TOCs that it depends on.
    pub(super) states: Vec<TocState>,
}

impl Image {
    /// Reads layers until it is known what is at a path; links in the last component are followed as `last` says.
    pub(crate) async fn locate(
        &self,
        path: &[u8],
        options: CarveOptions,
        last: Last,
    ) -> Result<Location, Error> {
        self.locate_selection(&Selection::file(path), path, options, last).await
    }

    /// The same for a selection of this path: with a directory, all that is below it is known then.
    pub(super) async fn locate_selection(
        &self,
        selection: &Selection,
        path: &[u8],
        options: CarveOptions,
        last: Last,
    ) -> Result<Location, Error> {
        if let Some(layer) = options.layer {
            self.layer(layer)?;
        }
        self.configured(self.search(selection, options, &Sinks::Discard, &mut Vec::new())).await?;
        let states = self.toc_states();
        let (resolution, trace) = stack(&states).resolve(path, Options { last, ..options.resolution() });
        let layers = depends_on(&states, trace.oldest, options);
        let verification = verification(layers);
        let located = self.located(&stack(&states), path, resolution, &trace);
        let (Located { found, content }, _) = located.inspect_err(|_| self.warn_untrusted(layers))?;
        Ok(Location { entry: found.entry, layer: found.layer, content, verification, states })
    }
}
