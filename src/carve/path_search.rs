//! Resolves paths in one layer while a pass reads it.

use std::collections::HashSet;

use super::{candidates::Candidates, file::FoundFile, sink::ContentSink};
use crate::{
    error::Error,
    image::rootfs::{Content, Options, Resolution, Stack, StepKind, Trace},
    layer::toc_state::TocState,
    read::visit::{Piece, VisitAction, Visitor},
    tar::entry::{Entry, EntryKind},
    toc::entries::{EntryTree, components},
};

/// When a pass may stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StopWhen {
    /// When every path is answered.
    Found,
    /// At the end of the layer, and of a blob that is not a layer: an error is reported only after the blob was hashed.
    Verified,
    /// At the end of the layer.
    End,
}

/// The visitor that answers paths.
pub(super) struct PathSearch {
    /// The TOCs of all layers; that of the layer being read is in `tree`.
    states: Vec<TocState>,
    layer: usize,
    tree: EntryTree,
    targets: Vec<Target>,
    candidates: Candidates,
    options: Options,
    stop_when: StopWhen,
    sink: ContentSink,
}

/// One path to resolve.
struct Target {
    path: Vec<u8>,
    /// Names that can change its answer: components of the path and of all links followed so far.
    names: HashSet<Vec<u8>>,
    answered: bool,
}

/// What a pass searches for.
pub(super) struct Query<'a> {
    /// The paths to answer.
    pub(super) paths: &'a [Vec<u8>],
    /// Further entries whose content is kept.
    pub(super) candidates: Candidates,
    /// How paths are resolved.
    pub(super) options: Options,
    /// When the pass may stop.
    pub(super) stop_when: StopWhen,
}

impl PathSearch {
    /// A search in one layer of which earlier passes have left `tree`.
    pub(super) fn new(
        states: Vec<TocState>,
        layer: usize,
        tree: EntryTree,
        query: Query<'_>,
        sink: ContentSink,
    ) -> Self {
        let Query { paths, candidates, options, stop_when } = query;
        let target = |path: &Vec<u8>| {
            let names = components(path).map(<[u8]>::to_vec).collect();
            Target { path: path.clone(), names, answered: false }
        };
        let targets = paths.iter().map(target).collect();
        let mut search = Self { states, layer, tree, targets, candidates, options, stop_when, sink };
        // Links in newer layers may already lead elsewhere.
        for index in 0..search.targets.len() {
            search.resolve_target(index, None);
        }
        search
    }

    /// Where content was put.
    pub(super) fn into_sink(self) -> ContentSink {
        self.sink
    }

    /// Resolves a target by what is known now; returns the answer if its content is `this`.
    fn resolve_target(&mut self, index: usize, this: Option<Content>) -> Option<FoundFile> {
        let target = self.targets.get(index)?;
        let (resolution, trace) = self.resolve(&target.path);
        let answered = match &resolution {
            Resolution::NeedMore { layer } => *layer != self.layer,
            Resolution::Found { content, .. } => self.kind(*content) != EntryKind::Directory,
            _ => true,
        };
        let found = match resolution {
            Resolution::Found { layer, path, content, .. } if Some(content) == this => {
                let entry = Entry { path, ..self.tree.entry(content.record) };
                Some(FoundFile { entry, layer, trace: trace.steps.iter().map(ToString::to_string).collect() })
            }
            _ => None,
        };
        let target = self.targets.get_mut(index)?;
        target.answered = answered;
        for step in trace.steps {
            if let StepKind::Hardlink(link) | StepKind::Symlink(link) = step.kind {
                target.names.extend(components(&link).map(<[u8]>::to_vec));
            }
        }
        found
    }

    fn resolve(&self, path: &[u8]) -> (Resolution, Trace) {
        self.stack().resolve(path, self.options)
    }

    fn kind(&self, content: Content) -> EntryKind {
        self.stack().kind(content)
    }

    fn stack(&self) -> Stack<'_> {
        let trees = self.states.iter().enumerate();
        Stack::new(trees.map(|(layer, state)| if layer == self.layer { &self.tree } else { state.tree() }))
    }

    fn action(&self) -> VisitAction {
        let done = self.stop_when == StopWhen::Found && self.targets.iter().all(|target| target.answered);
        if done { VisitAction::Stop } else { VisitAction::Entries }
    }
}

impl Visitor for PathSearch {
    fn entry(&mut self, entry: Entry) -> Result<VisitAction, Error> {
        let inserted = self.tree.insert(&entry)?;
        let this = Content { layer: self.layer, record: inserted.record };
        let name = components(&entry.path).last().unwrap_or_default();
        let mut found = None;
        for index in 0..self.targets.len() {
            let concerned = |target: &Target| entry.path.is_empty() || target.names.contains(name);
            if self.targets.get(index).is_some_and(concerned) {
                found = self.resolve_target(index, Some(this)).or(found);
            }
        }
        if entry.kind != EntryKind::File || matches!(self.sink, ContentSink::Discard) {
            return Ok(self.action());
        }
        let mut wanted = found.is_some();
        if !wanted && self.candidates.contains(&entry.path) {
            let (resolution, _) = self.resolve(&self.tree.path(inserted.record));
            wanted = matches!(resolution, Resolution::Found { content, .. } if content == this);
        }
        if !wanted {
            return Ok(self.action());
        }
        self.sink.begin(this, found);
        Ok(VisitAction::Content)
    }

    fn content(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        self.sink.piece(piece)
    }

    fn content_end(&mut self) -> Result<VisitAction, Error> {
        self.sink.end();
        Ok(self.action())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.sink.flush().await
    }

    fn take_tree(&mut self) -> Option<EntryTree> {
        Some(std::mem::replace(&mut self.tree, EntryTree::new()))
    }

    fn skips(&self) -> bool {
        self.stop_when == StopWhen::Found
    }

    fn verifies(&self) -> bool {
        self.stop_when == StopWhen::Verified
    }
}

/// The trees of several layers as a stack.
pub(super) fn stack(states: &[TocState]) -> Stack<'_> {
    Stack::new(states.iter().map(TocState::tree))
}
