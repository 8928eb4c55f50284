//! What decided an answer, step by step, for `--explain`.

use std::fmt;

/// The steps of one resolution, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Trace {
    /// The steps.
    pub(crate) steps: Vec<Step>,
    /// The oldest layer that was asked: the answer rests on it and on all above. `None` if none was.
    pub(crate) oldest: Option<usize>,
}

/// Something met on the way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Step {
    /// In which layer, 0 = base.
    pub(crate) layer: usize,
    /// At which path.
    pub(crate) path: Vec<u8>,
    /// What it was.
    pub(crate) kind: StepKind,
}

/// What was met.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum StepKind {
    /// Something that is no directory, with the path going through it.
    File,
    /// The entry, which ends the search.
    Found,
    /// A hard link, to this path.
    Hardlink(Vec<u8>),
    /// A hard link to this path, which is neither below nor in its layer.
    HardlinkMissing(Vec<u8>),
    /// A symbolic link or file that a directory of a newer layer hides.
    HiddenByDirectory,
    /// An opaque marker: nothing below this directory comes from older layers.
    Opaque,
    /// A symbolic link, followed to this target.
    Symlink(Vec<u8>),
    /// What the hard link before it is another name of.
    Target,
    /// A whiteout: older layers do not have the path.
    Whiteout,
}

impl Trace {
    pub(super) fn add(&mut self, layer: usize, path: Vec<u8>, kind: StepKind) {
        self.steps.push(Step { layer, path, kind });
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {}: /{} ", self.layer, self.path.escape_ascii())?;
        match &self.kind {
            StepKind::File => f.write_str("is no directory, so nothing is below it"),
            StepKind::Found => f.write_str("is the entry"),
            StepKind::Hardlink(target) => write!(f, "is a hard link to /{}", target.escape_ascii()),
            StepKind::HardlinkMissing(target) => {
                write!(f, "is a hard link to a missing file, /{}", target.escape_ascii())
            }
            StepKind::HiddenByDirectory => {
                f.write_str("is hidden by a directory of a newer layer (runtimes disagree if it is a link)")
            }
            StepKind::Opaque => f.write_str("is an opaque directory: older layers do not show in it"),
            StepKind::Symlink(target) => write!(f, "is a symbolic link to {}", target.escape_ascii()),
            StepKind::Target => f.write_str("is that file"),
            StepKind::Whiteout => f.write_str("is a whiteout: older layers do not have it"),
        }
    }
}
