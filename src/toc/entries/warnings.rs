//! Oddities of a layer: all are counted, the first few are kept.

use std::fmt;

use super::{EntryTree, ROOT, record::REPLACED};
use crate::tar::entry::EntryKind;

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

impl EntryTree {
    /// One line about the oddities on which an answer may depend. A directory that occurs twice is none of them: every runtime
    /// keeps its entries and takes the last description.
    pub(crate) fn warning(&self) -> Option<String> {
        let (count, first) = (self.warnings.count(), self.warnings.first());
        if count == 0 {
            return None;
        }
        let records = ROOT..self.records.len() as u32;
        let replaced = records.filter(|record| self.record(*record).has(REPLACED)).count();
        let is_directory =
            |path: &[u8]| self.lookup(path).is_some_and(|record| self.kind(record) == EntryKind::Directory);
        let is_harmless = |warning: &&Warning| {
            warning.kind == WarningKind::Duplicate && (replaced == 0 || is_directory(&warning.path))
        };
        let mut odd = first.iter().filter(|warning| !is_harmless(warning));
        let Some(shown) = odd.next() else {
            return (replaced > 0)
                .then(|| format!("later entries of the same path replace others ({replaced})"));
        };
        let (known, are_all_kept) = (odd.count(), count == first.len() as u64);
        match if are_all_kept { known } else { known.max(replaced.saturating_sub(1)) } {
            0 => Some(shown.to_string()),
            more if are_all_kept => Some(format!("{shown} (and {more} more like this)")),
            more => Some(format!("{shown} (and at least {more} more like this)")),
        }
    }
}
