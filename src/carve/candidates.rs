//! Which entries might be wanted before it is known where directories and links lead.

use globset::GlobSet;

use crate::error::{Error, Kind};

/// Entries whose content is kept as it flows past.
#[derive(Clone, Debug)]
pub(super) enum Candidates {
    /// What is below one of these paths.
    Below(Vec<Vec<u8>>),
    /// What matches, or is below a match.
    Matching(GlobSet),
    /// Only the answers themselves.
    None,
}

impl Candidates {
    /// Whether an entry at this path is a candidate.
    pub(super) fn contains(&self, path: &[u8]) -> bool {
        match self {
            Self::Below(roots) => roots.iter().any(|root| is_below(path, root)),
            Self::Matching(globs) => matches_or_below(globs, path),
            Self::None => false,
        }
    }
}

/// Whether `path` is below the directory `root`.
pub(super) fn is_below(path: &[u8], root: &[u8]) -> bool {
    root.is_empty() || path.strip_prefix(root).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Whether a path or one of the directories above it matches.
pub(super) fn matches_or_below(globs: &GlobSet, path: &[u8]) -> bool {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    ends.chain([path.len()]).any(|end| globs.is_match(as_path(path.get(..end).unwrap_or_default())))
}

/// Compiles patterns in which `*` and `?` do not cross a `/` and `**` does; a leading `/` or `./` and a trailing `/` are
/// ignored, and the root alone matches everything.
pub(super) fn compile<P: AsRef<str>>(patterns: impl IntoIterator<Item = P>) -> Result<GlobSet, Error> {
    let usage = |error| Error::caused(Kind::Usage, "reading a glob pattern", error);
    let mut globs = GlobSet::builder();
    for pattern in patterns {
        let pattern = match trimmed(pattern.as_ref()) {
            "" => "**",
            pattern => pattern,
        };
        globs.add(globset::GlobBuilder::new(pattern).literal_separator(true).build().map_err(usage)?);
    }
    globs.build().map_err(usage)
}

/// A pattern as paths are written.
fn trimmed(mut text: &str) -> &str {
    loop {
        let shorter =
            text.strip_prefix('/').or_else(|| text.strip_prefix("./")).or_else(|| text.strip_suffix('/'));
        match shorter {
            Some(shorter) => text = shorter,
            None if text == "." => return "",
            None => return text,
        }
    }
}

#[cfg(unix)]
fn as_path(path: &[u8]) -> &std::path::Path {
    std::path::Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path))
}

#[cfg(not(unix))]
fn as_path(path: &[u8]) -> std::path::PathBuf {
    String::from_utf8_lossy(path).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_around_a_pattern_are_ignored_and_the_root_matches_everything() {
        let matches =
            |pattern: &str, path: &str| matches_or_below(&compile([pattern]).unwrap(), path.as_bytes());
        for root in ["/", ".", "./", "//", "/./"] {
            assert!(matches(root, "etc") && matches(root, "etc/passwd"), "{root}");
        }
        for pattern in ["etc", "/etc/", "./etc", "//etc//", "/./etc"] {
            assert!(matches(pattern, "etc/passwd") && !matches(pattern, "usr/etc"), "{pattern}");
        }
    }
}
