//! Oddities of a layer: all are counted, the first few are kept.

use std::fmt;

/// Most warnings of a layer that are kept; the rest are only counted.
const KEPT: usize = 16;

/// Longest path shown in a warning, in bytes.
const SHOWN_PATH_BYTES: usize = 256;

/// An oddity that runtimes may treat differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum WarningKind {
    /// The path has two entries in this layer; the image specification forbids it. The last wins.
    Duplicate,
    /// The path is reached through a symbolic link that the same layer made.
    FollowedLink,
    /// An entry below the path turned it into a directory.
    ReplacedByDirectory,
    /// An entry for the root that is not a directory was ignored.
    RootIgnored,
}

/// A warning about a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Warning {
    /// The kind of oddity.
    pub(crate) kind: WarningKind,
    /// At most the first 256 bytes of the path.
    pub(crate) path: Vec<u8>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.escape_ascii();
        match self.kind {
            WarningKind::Duplicate => write!(f, "\"{path}\" occurs twice; the last entry wins"),
            WarningKind::FollowedLink => {
                write!(f, "\"{path}\" leads through a symbolic link of the same layer (runtimes disagree)")
            }
            WarningKind::ReplacedByDirectory => {
                write!(f, "\"{path}\" is not a directory but has entries below it; a directory replaces it")
            }
            WarningKind::RootIgnored => {
                f.write_str("an entry for the root that is not a directory is ignored")
            }
        }
    }
}

/// The warnings of a layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warnings {
    count: u64,
    first: Vec<Warning>,
}

impl Warnings {
    /// Restores stored warnings: their number and the first ones. `None` if they are inconsistent.
    pub(super) fn restored(count: u64, first: Vec<Warning>) -> Option<Self> {
        let expected = usize::try_from(count).unwrap_or(usize::MAX).min(KEPT);
        let are_short = first.iter().all(|warning| warning.path.len() <= SHOWN_PATH_BYTES);
        (first.len() == expected && are_short).then_some(Self { count, first })
    }

    /// The number of warnings.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The first warnings, at most 16.
    pub(crate) fn first(&self) -> &[Warning] {
        &self.first
    }

    pub(super) fn add(&mut self, kind: WarningKind, path: &[u8]) {
        self.count += 1;
        if self.first.len() < KEPT {
            let shown = path.get(..SHOWN_PATH_BYTES).unwrap_or(path);
            self.first.push(Warning { kind, path: shown.to_vec() });
        }
    }
}
