//! Path resolution.
//!
//! ```text
//! pending ─┬ names ─▶ run ─ `..` or end ─▶ walk, newest layer first ─┬ link ───▶ its target becomes pending
//!          └ `..` ◀───────────────────────── a directory, resolved ◀─┴ found ──▶ the answer
//! ```
//!
//! A walk asks one layer after the other for a path without links and `..`. A layer passes it on to the next
//! older one if it lacks a component and neither whiteout nor opaque marker lies on the way there; everything
//! else ends the walk.

use std::ops::Range;

use super::{Content, Last, Options, Resolution, Stack, StepKind, Trace};
use crate::{
    limits,
    tar::{entry::EntryKind, whiteout},
    toc::entries::{Hardlink, ROOT, components},
};

/// Hard links followed in one resolution. A chain of them needs a layer for each link.
const HARDLINKS: usize = limits::SYMLINKS;

pub(super) fn resolve(stack: &Stack<'_>, path: &[u8], options: Options) -> (Resolution, Trace) {
    let all = 0..stack.layers.len();
    let layers = match options.only_layer {
        Some(layer) if all.contains(&layer) => layer..layer + 1,
        Some(_) => 0..0,
        None => all,
    };
    let base = layers.start;
    let mut resolver = Resolver::new(stack, base);
    let resolution = match resolver.locate(path, layers.end, options.last) {
        Ok(hit) => {
            resolver.trace.add(hit.layer, hit.path.clone(), StepKind::Found);
            Resolution::Found {
                layer: hit.layer,
                record: hit.record,
                path: hit.path,
                content: hit.content,
                certain: resolver.unsure.is_none(),
            }
        }
        Err(End::Blocked { layer: 0 }) | Err(End::Missing) => Resolution::Missing,
        Err(End::Blocked { layer }) => Resolution::Deleted { layer },
        Err(End::Loop) => Resolution::Loop,
        Err(End::NeedMore { layer }) => Resolution::NeedMore { layer },
    };
    (resolution, resolver.trace)
}

/// The content of an entry, for listings. `None` for a hard link to nothing.
pub(super) fn content(stack: &Stack<'_>, layer: usize, record: u32) -> Option<Content> {
    Resolver::new(stack, 0).content(layer, record).ok()
}

struct Resolver<'s, 'a> {
    stack: &'s Stack<'a>,
    /// The oldest layer that is looked at.
    base: usize,
    trace: Trace,
    symlinks: usize,
    hardlinks: usize,
    /// Components that were looked up, in all layers.
    steps: usize,
    /// The first incomplete layer of which an entry has been believed.
    unsure: Option<usize>,
}

/// What was found.
struct Hit {
    layer: usize,
    record: u32,
    content: Content,
    path: Vec<u8>,
}

/// Where a walk ended.
enum Walked {
    /// At the last component.
    Found { layer: usize, record: u32, content: Content },
    /// At a symbolic link before the last component; so many components led there.
    Link { layer: usize, content: Content, before: usize },
}

/// Why there is nothing.
#[derive(Clone, Copy)]
enum End {
    /// This layer hides what is below it.
    Blocked {
        layer: usize,
    },
    Loop,
    Missing,
    NeedMore {
        layer: usize,
    },
}

impl<'s, 'a> Resolver<'s, 'a> {
    fn new(stack: &'s Stack<'a>, base: usize) -> Self {
        Self { stack, base, trace: Trace::default(), symlinks: 0, hardlinks: 0, steps: 0, unsure: None }
    }

    /// Resolves a path in the layers from the base up to, and without, `top`.
    fn locate(&mut self, path: &[u8], top: usize, last: Last) -> Result<Hit, End> {
        self.follow(path, top, last).map_err(|end| match (end, self.unsure) {
            // That something is not there is only known once all that led to that is certain.
            (End::Blocked { .. } | End::Loop | End::Missing, Some(layer)) => End::NeedMore { layer },
            _ => end,
        })
    }

    fn follow(&mut self, path: &[u8], top: usize, last: Last) -> Result<Hit, End> {
        // The components that lead to a directory, all links resolved.
        let mut done: Vec<Vec<u8>> = Vec::new();
        // The components to come, last first.
        let mut pending: Vec<Vec<u8>> = Vec::new();
        let mut must_be_directory = push(&mut pending, path);
        // So many leading components of `done` are known to be a directory without links, and so is this name in it.
        let (mut known, mut child) = (0, None);
        loop {
            if done.len() + pending.len() > limits::PATH_COMPONENTS {
                return Err(End::Loop);
            }
            while let Some(name) = pending.pop_if(|name| name.as_slice() != b"..") {
                if done.len() == known && child.take().is_some_and(|child| child == name) {
                    known += 1;
                }
                done.push(name);
            }
            if !pending.is_empty() && done.len() <= known {
                // `..`: the root's parent is the root.
                pending.pop();
                child = done.pop();
                known = done.len();
                continue;
            }
            let (layer, content, before) = match self.walk(&done, top)? {
                Walked::Link { layer, content, before } => (layer, content, before),
                Walked::Found { layer, record, content } => {
                    let kind = self.stack.kind(content);
                    let at_end = pending.is_empty();
                    let follow = last == Last::Follow || must_be_directory || !at_end;
                    if kind == EntryKind::Symlink && follow {
                        (layer, content, done.len().saturating_sub(1))
                    } else if at_end && (kind == EntryKind::Directory || !must_be_directory) {
                        return Ok(Hit { layer, record, content, path: done.join(&b'/') });
                    } else if at_end {
                        return Err(End::Missing);
                    } else if kind == EntryKind::Directory {
                        // The next component is `..`, which is handled above.
                        (known, child) = (done.len(), None);
                        continue;
                    } else {
                        self.trace.add(layer, done.join(&b'/'), StepKind::File);
                        return Err(End::Blocked { layer });
                    }
                }
            };
            self.symlinks += 1;
            if self.symlinks > limits::SYMLINKS {
                return Err(End::Loop);
            }
            let target = self.stack.layer(content.layer).map_or(&[][..], |table| table.link(content.record));
            let link = done.get(..=before).unwrap_or_default().join(&b'/');
            self.trace.add(layer, link, StepKind::Symlink(target.to_vec()));
            if target.is_empty() {
                return Err(End::Missing);
            }
            let ends_here = pending.is_empty() && before + 1 == done.len();
            pending.extend(done.drain(before..).skip(1).rev());
            (known, child) = (known.min(done.len()), None);
            let slash = push(&mut pending, target);
            must_be_directory |= ends_here && slash;
            if target.starts_with(b"/") {
                done.clear();
                known = 0;
            }
        }
    }

    /// Walks a path without links and `..` from the newest layer to the base.
    fn walk(&mut self, path: &[Vec<u8>], top: usize) -> Result<Walked, End> {
        if path.first().is_some_and(|name| whiteout::is_metadata(name)) {
            return Err(End::Missing);
        }
        // So many leading components are directories in a newer layer; they hide all else at their paths.
        let mut directories = 0;
        for layer in (Range { start: self.base, end: top }).rev() {
            match self.walk_layer(layer, path, directories)? {
                Ok(walked) => return Ok(walked),
                Err(depth) => directories = directories.max(depth),
            }
        }
        Err(End::Missing)
    }

    /// Walks a path in one layer. `Ok(Err(depth))` passes it on to the next older one: this one has so many
    /// directories of it.
    fn walk_layer(
        &mut self,
        layer: usize,
        path: &[Vec<u8>],
        directories: usize,
    ) -> Result<Result<Walked, usize>, End> {
        let Some(table) = self.stack.layer(layer) else { return Err(End::Missing) };
        self.trace.oldest = Some(self.trace.oldest.map_or(layer, |oldest| oldest.min(layer)));
        let mut directory = ROOT;
        let mut hides = table.is_opaque(ROOT).then_some((0, StepKind::Opaque));
        for (before, name) in path.iter().enumerate() {
            self.steps += 1;
            if self.steps > limits::PATH_STEPS {
                return Err(End::Loop);
            }
            let so_far = |components: usize| path.get(..components).unwrap_or_default().join(&b'/');
            if hides.is_none() && table.whiteout(directory, name) {
                hides = Some((before + 1, StepKind::Whiteout));
            }
            let Some(record) = table.child(directory, name) else {
                if !table.is_complete() {
                    return Err(End::NeedMore { layer });
                }
                let Some((components, kind)) = hides else { return Ok(Err(before)) };
                self.trace.add(layer, so_far(components), kind);
                return Err(End::Blocked { layer });
            };
            if !table.is_complete() {
                self.unsure.get_or_insert(layer);
            }
            let is_last = before + 1 == path.len();
            if table.kind(record) == EntryKind::Directory {
                if hides.is_none() && table.is_opaque(record) {
                    hides = Some((before + 1, StepKind::Opaque));
                }
                directory = record;
                continue;
            }
            if before < directories {
                self.trace.add(layer, so_far(before + 1), StepKind::HiddenByDirectory);
                return Err(End::Blocked { layer });
            }
            let content = match self.content(layer, record) {
                Err(End::Missing | End::Blocked { .. }) if !is_last => Content { layer, record },
                content => content?,
            };
            if is_last {
                return Ok(Ok(Walked::Found { layer, record, content }));
            }
            if self.stack.kind(content) == EntryKind::Symlink {
                return Ok(Ok(Walked::Link { layer, content, before }));
            }
            self.trace.add(layer, so_far(before + 1), StepKind::File);
            return Err(End::Blocked { layer });
        }
        if !table.is_complete() {
            self.unsure.get_or_insert(layer);
        }
        Ok(Ok(Walked::Found { layer, record: directory, content: Content { layer, record: directory } }))
    }

    /// Where the content of an entry lies: a hard link's is its target's, as that was in the link's layer.
    fn content(&mut self, layer: usize, record: u32) -> Result<Content, End> {
        let Some(table) = self.stack.layer(layer) else { return Err(End::Missing) };
        let path = match table.hardlink(record) {
            None => return Ok(Content { layer, record }),
            Some(Hardlink::Record(target)) => {
                self.trace.add(layer, table.path(record), StepKind::Hardlink(table.path(target)));
                return self.content(layer, target);
            }
            Some(Hardlink::Unresolved(path)) => path,
        };
        self.hardlinks += 1;
        if self.hardlinks > HARDLINKS {
            return Err(End::Loop);
        }
        self.trace.add(layer, table.path(record), StepKind::Hardlink(path.to_vec()));
        let mut nothing = End::Missing;
        match self.locate(path, layer, Last::Keep) {
            Ok(hit) if self.stack.kind(hit.content) != EntryKind::Directory => {
                self.trace.add(hit.layer, hit.path, StepKind::Target);
                return Ok(hit.content);
            }
            Err(End::NeedMore { layer }) => return Err(End::NeedMore { layer }),
            Err(End::Loop) => nothing = End::Loop,
            _ => {}
        }
        if !table.is_complete() {
            return Err(End::NeedMore { layer });
        }
        match table.lookup(path) {
            Some(later) if table.kind(later) != EntryKind::Directory => self.content(layer, later),
            _ => {
                self.trace.add(layer, table.path(record), StepKind::HardlinkMissing(path.to_vec()));
                Err(nothing)
            }
        }
    }
}

/// Puts the components of a path before the pending ones. True if the path can only be a directory's.
fn push(pending: &mut Vec<Vec<u8>>, path: &[u8]) -> bool {
    let start = pending.len();
    pending.extend(components(path).map(<[u8]>::to_vec));
    if let Some(added) = pending.get_mut(start..) {
        added.reverse();
    }
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    matches!(last, b"" | b"." | b"..")
}
