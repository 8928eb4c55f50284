//! Which entries to collect.

use globset::GlobSet;

use super::candidates::{self, Candidates};
use crate::{error::Error, tar};

/// What to collect from an image.
///
/// ```
/// use layerslayer::Selection;
///
/// let paths = Selection::paths(["/etc/passwd", "/usr/share/doc/"]);
/// let globs = Selection::globs(["etc/*.conf", "**/passwd"])?;
/// # let _ = (paths, globs);
/// # Ok::<(), layerslayer::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Selection {
    pub(super) kind: SelectionKind,
}

#[derive(Clone, Debug)]
pub(super) enum SelectionKind {
    /// One path that must lead to a file: directories are not listed.
    File(Vec<Vec<u8>>),
    Globs(GlobSet),
    Paths(Vec<Vec<u8>>),
}

impl Selection {
    /// These paths, taken literally; a directory includes everything below it.
    ///
    /// ```
    /// let selection = layerslayer::Selection::paths(["/etc/passwd", "/usr/share/doc"]);
    /// # let _ = selection;
    /// ```
    pub fn paths<P: AsRef<[u8]>>(paths: impl IntoIterator<Item = P>) -> Self {
        let paths = paths.into_iter().map(|path| path.as_ref().to_vec()).collect();
        Self { kind: SelectionKind::Paths(paths) }
    }

    /// Everything that matches one of these patterns, and everything below a directory that does. `*` and `?` do not match `/`, `**` does;
    /// a leading `/` is ignored. Links are not followed.
    ///
    /// # Errors
    ///
    /// [`Error::is_usage`] for a malformed pattern.
    ///
    /// ```
    /// use layerslayer::Selection;
    ///
    /// assert!(Selection::globs(["etc/*.conf", "**/passwd"]).is_ok());
    /// assert!(Selection::globs(["etc/{"]).is_err_and(|error| error.is_usage()));
    /// ```
    pub fn globs<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        Ok(Self { kind: SelectionKind::Globs(candidates::compile(patterns)?) })
    }

    /// One path that must lead to a file.
    pub(super) fn file(path: &[u8]) -> Self {
        Self { kind: SelectionKind::File(vec![path.to_vec()]) }
    }

    /// Its paths; empty for patterns.
    pub(super) fn targets(&self) -> &[Vec<u8>] {
        match &self.kind {
            SelectionKind::Globs(_) => &[],
            SelectionKind::File(paths) | SelectionKind::Paths(paths) => paths,
        }
    }

    /// Which entries may be wanted.
    pub(super) fn candidates(&self) -> Candidates {
        match &self.kind {
            SelectionKind::File(_) => Candidates::None,
            SelectionKind::Globs(globs) => Candidates::Matching(globs.clone()),
            SelectionKind::Paths(paths) => {
                Candidates::Below(paths.iter().map(|path| tar::normalise(path)).collect())
            }
        }
    }
}
