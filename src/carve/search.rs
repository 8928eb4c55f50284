//! The search: reads layers until a selection is answered, and keeps content that passes by.

use super::{
    CarveOptions,
    candidates::Candidates,
    path_search::{PathSearch, Query, StopWhen, stack},
    selection::{Selection, SelectionKind},
    sink::{ContentSink, Sinks},
};
use crate::{
    error::{Error, Kind},
    image::{Image, rootfs::Resolution},
    layer::{Layer, toc_state::TocState},
    read::{method::ReadMethod, pass::Fetch},
    reader::{
        discover::discover,
        driver::{self, PassRequest},
        prefetch::Prefetcher,
    },
    tar::entry::EntryKind,
};

/// What a search has read.
pub(super) struct Searched {
    /// Where content was put.
    pub(super) sink: ContentSink,
    /// How the last layer was read.
    pub(super) method: ReadMethod,
}

/// A layer that has to be read before a selection is answered.
pub(super) struct Unread {
    pub(super) layer: usize,
    /// Whether it has to be read to its end.
    pub(super) whole: bool,
}

impl Image {
    /// Reads layers until the selection is answered. `searched` remembers layers that were read: one that is read again is read to
    /// its end.
    pub(super) async fn search(
        &self,
        selection: &Selection,
        options: CarveOptions,
        sinks: &Sinks,
        searched: &mut Vec<usize>,
    ) -> Result<Searched, Error> {
        let gone = || Error::new(Kind::Other, "content was already given");
        let mut result = Searched { sink: sinks.make()?.ok_or_else(gone)?, method: ReadMethod::Scan };
        let (adaptive, full) =
            (self.prefetcher(Fetch::Adaptive, options), self.prefetcher(Fetch::Full, options));
        while let Some(Unread { layer: index, whole }) = self.unread(selection, options) {
            let layer = self.layer(index)?;
            if discover(layer, options.min_verification).await? {
                continue;
            }
            let again = searched.contains(&index);
            searched.push(index);
            let stop_when = match options.stop_when() {
                StopWhen::Found if whole || again => StopWhen::End,
                stop_when => stop_when,
            };
            let fetch = if stop_when == StopWhen::Found { Fetch::Adaptive } else { Fetch::Full };
            // Where one layer is read to its end for what it lists, so are all.
            let prefetcher = if whole { &full } else { &adaptive };
            let request = PassRequest { fetch, record: true, resume: true, prefetcher };
            let (states, mut sink) = (self.toc_states(), Some(result.sink));
            let start = |tree| {
                let sink = sink.take().or_else(|| sinks.make().ok().flatten())?;
                let candidates: Candidates = selection.candidates();
                let (paths, options) = (selection.targets(), options.resolution());
                let query = Query { paths, candidates, options, stop_when };
                Some(PathSearch::new(states.clone(), index, tree, query, sink))
            };
            let finished = driver::run(layer, request, start).await?;
            result = Searched { sink: finished.visitor.into_sink(), method: finished.method };
        }
        Ok(result)
    }

    /// Requests layers ahead of their turn, from the newest down; none where only one layer is searched. Whether the next layer is
    /// needed is not known before one has been read: only its first range is requested.
    fn prefetcher(&self, fetch: Fetch, options: CarveOptions) -> Prefetcher {
        let layers = self.layers().iter().rev().filter(|_| options.layer.is_none()).cloned();
        Prefetcher::requests(layers, fetch, options.min_verification)
    }

    /// A layer that has to be read before the selection is answered.
    pub(super) fn unread(&self, selection: &Selection, options: CarveOptions) -> Option<Unread> {
        let states = self.toc_states();
        let stack = stack(&states);
        let is_searched = |layer: &usize| options.layer.is_none_or(|only| only == *layer);
        let min_verification = options.min_verification;
        let is_below = |layer: &usize| match states.get(*layer) {
            None | Some(TocState::Absent(_)) => false,
            Some(state) => !state.satisfies(min_verification),
        };
        let whole = |layer| Unread { layer, whole: true };
        if let Some(layer) =
            (0..states.len()).filter(is_searched).find(is_below).filter(|_| options.verifies())
        {
            return Some(whole(layer));
        }
        let newest_incomplete = || {
            let mut layers = (0..states.len()).rev().filter(is_searched);
            layers.find(|layer| states.get(*layer).is_some_and(|state| !state.satisfies(min_verification)))
        };
        let paths = match &selection.kind {
            SelectionKind::Globs(_) => return newest_incomplete().map(whole),
            SelectionKind::File(paths) | SelectionKind::Paths(paths) => paths,
        };
        let mut lists_directory = false;
        for path in paths {
            match stack.resolve(path, options.resolution()).0 {
                Resolution::NeedMore { layer } => return Some(Unread { layer, whole: false }),
                Resolution::Found { content, .. } if stack.kind(content) == EntryKind::Directory => {
                    if let SelectionKind::Paths(_) = selection.kind {
                        lists_directory = true;
                        continue;
                    }
                    // What is a directory so far may be a file by a later entry of its name.
                    if !matches!(states.get(content.layer), None | Some(TocState::Complete(..))) {
                        return Some(Unread { layer: content.layer, whole: false });
                    }
                }
                _ => {}
            }
        }
        if lists_directory { newest_incomplete().map(whole) } else { None }
    }

    /// The TOCs of all layers now, base first.
    pub(super) fn toc_states(&self) -> Vec<TocState> {
        self.layers().iter().map(|layer: &Layer| layer.toc.state()).collect()
    }
}
