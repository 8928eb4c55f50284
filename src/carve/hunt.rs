//! Looks for paths in one layer while it streams past.

use std::collections::HashSet;

use super::{candidates::Candidates, file::Found, sink::Sink};
use crate::{
    error::Error,
    image::rootfs::{Content, Options, Resolution, Stack, StepKind, Trace},
    layer::{
        known::Known,
        scan::{Piece, Visitor, Want},
    },
    tar::entry::{Entry, EntryKind},
    toc::entries::{EntryTree, components},
};

/// How far a pass goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    /// Until every path is answered.
    Answered,
    /// To the end of the layer, and to that of a blob that is none: nothing is said of it before it has been hashed.
    Verified,
    /// To the end of the layer.
    Whole,
}

/// The visitor that answers paths.
pub(super) struct Hunt {
    /// What is known of all layers; the one being read is in `table`.
    known: Vec<Known>,
    layer: usize,
    table: EntryTree,
    targets: Vec<Target>,
    candidates: Candidates,
    options: Options,
    extent: Extent,
    sink: Sink,
}

/// One path that is asked for.
struct Target {
    path: Vec<u8>,
    /// Names that can change its answer: components of the path and of all links met so far.
    names: HashSet<Vec<u8>>,
    answered: bool,
}

/// What a hunt is for.
pub(super) struct Query<'a> {
    /// The paths to answer.
    pub(super) paths: &'a [Vec<u8>],
    /// Entries whose content is kept besides.
    pub(super) candidates: Candidates,
    /// How paths are resolved.
    pub(super) options: Options,
    /// How far the pass goes.
    pub(super) extent: Extent,
}

impl Hunt {
    /// A hunt in one layer, of which earlier passes have left `table`.
    pub(super) fn new(
        known: Vec<Known>,
        layer: usize,
        table: EntryTree,
        query: Query<'_>,
        sink: Sink,
    ) -> Self {
        let Query { paths, candidates, options, extent } = query;
        let target = |path: &Vec<u8>| {
            let names = components(path).map(<[u8]>::to_vec).collect();
            Target { path: path.clone(), names, answered: false }
        };
        let targets = paths.iter().map(target).collect();
        let mut hunt = Self { known, layer, table, targets, candidates, options, extent, sink };
        // Links in newer layers may already lead elsewhere.
        for index in 0..hunt.targets.len() {
            hunt.ask(index, None);
        }
        hunt
    }

    /// What was learnt of the layer, and what was found.
    pub(super) fn finish(self) -> (EntryTree, Sink) {
        (self.table, self.sink)
    }

    /// Resolves a target with what is known now; returns what answers it if its content is `this`.
    fn ask(&mut self, index: usize, this: Option<Content>) -> Option<Found> {
        let target = self.targets.get(index)?;
        let (resolution, trace) = self.resolve(&target.path);
        let answered = match &resolution {
            Resolution::NeedMore { layer } => *layer != self.layer,
            Resolution::Found { content, .. } => self.kind(*content) != EntryKind::Directory,
            _ => true,
        };
        let found = match resolution {
            Resolution::Found { layer, path, content, .. } if Some(content) == this => {
                let entry = Entry { path, ..self.table.entry(content.record) };
                Some(Found { entry, layer, trace: trace.steps.iter().map(ToString::to_string).collect() })
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
        let tables = self.known.iter().enumerate();
        Stack::new(tables.map(|(layer, known)| if layer == self.layer { &self.table } else { known.table() }))
    }

    fn want(&self) -> Want {
        let done = self.extent == Extent::Answered && self.targets.iter().all(|target| target.answered);
        if done { Want::Nothing } else { Want::Entries }
    }
}

impl Visitor for Hunt {
    fn entry(&mut self, entry: Entry) -> Result<Want, Error> {
        let inserted = self.table.insert(&entry)?;
        let this = Content { layer: self.layer, record: inserted.record };
        let name = components(&entry.path).last().unwrap_or_default();
        let mut found = None;
        for index in 0..self.targets.len() {
            let concerned = |target: &Target| entry.path.is_empty() || target.names.contains(name);
            if self.targets.get(index).is_some_and(concerned) {
                found = self.ask(index, Some(this)).or(found);
            }
        }
        if entry.kind != EntryKind::File {
            return Ok(self.want());
        }
        let mut wanted = found.is_some();
        if !wanted && self.candidates.contains(&entry.path) {
            let (resolution, _) = self.resolve(&self.table.path(inserted.record));
            wanted = matches!(resolution, Resolution::Found { content, .. } if content == this);
        }
        if !wanted {
            return Ok(self.want());
        }
        self.sink.begin(this, found);
        Ok(Want::Content)
    }

    fn content(&mut self, piece: Piece<'_>) -> Result<(), Error> {
        self.sink.piece(piece)
    }

    fn content_end(&mut self) -> Result<Want, Error> {
        self.sink.end();
        Ok(self.want())
    }

    fn hops(&self) -> bool {
        self.extent == Extent::Answered
    }

    fn verifies(&self) -> bool {
        self.extent == Extent::Verified
    }
}

/// The tables of several layers as a stack.
pub(super) fn stack(known: &[Known]) -> Stack<'_> {
    Stack::new(known.iter().map(Known::table))
}
