//! GLOB patterns.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::exit::{Exit, Failure};

/// Selects all entries, or those that match a pattern.
#[derive(Clone, Debug)]
pub(crate) struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    set: GlobSet,
    /// Whether it has matched any path.
    used: bool,
}

impl Patterns {
    /// Parses patterns. An empty list selects everything.
    pub(crate) fn new(texts: &[OsString]) -> Result<Self, Failure> {
        Ok(Self { patterns: texts.iter().map(|text| Pattern::new(text)).collect::<Result<_, _>>()? })
    }

    /// Whether every entry is selected.
    pub(crate) fn select_all(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether the entry at `path` is selected.
    pub(crate) fn select(&mut self, path: &[u8]) -> bool {
        if self.patterns.is_empty() {
            return true;
        }
        let path = Path::new(OsStr::from_bytes(path));
        // No short circuit: every pattern must record whether it matched.
        self.patterns.iter_mut().map(|pattern| pattern.select(path)).filter(|&selected| selected).count() > 0
    }

    /// The patterns that matched nothing, each with its failure of `operation`.
    pub(crate) fn unused(&self, operation: &str) -> Vec<(&str, Failure)> {
        let unused = self.patterns.iter().filter(|pattern| !pattern.used);
        let failure = |pattern: &Pattern| {
            Failure::new(Exit::NotFound, format!("{operation}: no entry matches {:?}", pattern.text))
        };
        unused.map(|pattern| (pattern.text.as_str(), failure(pattern))).collect()
    }
}

impl Pattern {
    fn new(text: &OsStr) -> Result<Self, Failure> {
        let Some(text) = text.to_str() else {
            return Err(Failure::usage(format!("pattern {text:?} is not UTF-8; use ? for any byte")));
        };
        if text.is_empty() {
            return Err(Failure::usage("pattern is empty; use / for the root"));
        }
        let whole = trimmed(text);
        let last = whole.rsplit('/').next().unwrap_or(whole);
        let mut set = GlobSetBuilder::new();
        let mut add = |pattern: &str| match GlobBuilder::new(pattern).literal_separator(true).build() {
            Ok(glob) => {
                set.add(glob);
                Ok(())
            }
            Err(error) => Err(Failure::usage(format!("malformed pattern {text:?}: {}", error.kind()))),
        };
        match whole {
            // The root selects everything.
            "" => add("**")?,
            _ => add(whole)?,
        }
        if !last.contains(['*', '?', '[']) {
            add(&format!("{whole}/**"))?;
        }
        let set = set.build().map_err(|error| Failure::usage(format!("pattern {text:?}: {error}")))?;
        Ok(Self { text: text.to_owned(), set, used: false })
    }

    fn select(&mut self, path: &Path) -> bool {
        let selected = self.set.is_match(path);
        self.used |= selected;
        selected
    }
}

/// Strips a leading `/` or `./` and a trailing `/`, as in paths of entries.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(pattern: &str, path: &str) -> bool {
        Patterns::new(&[pattern.into()]).unwrap().select(path.as_bytes())
    }

    #[test]
    fn one_star_does_not_match_a_slash_and_two_do() {
        for (pattern, path, expected) in [
            ("etc/*", "etc/passwd", true),
            ("etc/*", "etc/apt/sources.list", false),
            ("etc/*", "etc", false),
            ("etc/**", "etc/apt/sources.list", true),
            ("**/passwd", "passwd", true),
            ("**/passwd", "usr/share/passwd", true),
            ("**/*.conf", "etc/a/b.conf", true),
            ("*", ".hidden", true),
            ("etc/pass?d", "etc/passwd", true),
            ("etc/pass?d", "etc/pass/d", false),
            ("{etc,usr}/passwd", "usr/passwd", true),
            ("etc/[a-o]*", "etc/passwd", false),
        ] {
            assert_eq!(selects(pattern, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_plain_path_selects_everything_below_it() {
        for pattern in ["etc", "/etc", "./etc", "etc/", "/./etc//"] {
            assert!(selects(pattern, "etc"), "{pattern}");
            assert!(selects(pattern, "etc/apt/sources.list"), "{pattern}");
            assert!(!selects(pattern, "etcetera"), "{pattern}");
        }
        for pattern in ["/", ".", "./"] {
            assert!(selects(pattern, ""), "{pattern}");
            assert!(selects(pattern, "usr/bin"), "{pattern}");
        }
    }

    #[test]
    fn paths_that_are_not_utf8_can_match() {
        let mut patterns = Patterns::new(&["etc/*".into()]).unwrap();
        assert!(patterns.select(b"etc/\xff\xfe"));
    }

    #[test]
    fn patterns_that_match_nothing_are_reported() {
        let mut patterns = Patterns::new(&["etc".into(), "nothing".into()]).unwrap();
        assert!(patterns.select(b"etc"));
        let failure = Failure::new(Exit::NotFound, "listing image: no entry matches \"nothing\"");
        assert_eq!(patterns.unused("listing image"), [("nothing", failure)]);
        assert_eq!(Patterns::new(&[]).unwrap().unused("listing image"), []);
    }

    #[test]
    fn a_malformed_or_empty_pattern_is_a_usage_failure() {
        for pattern in ["etc/[", ""] {
            assert_eq!(Patterns::new(&[pattern.into()]).unwrap_err().exit, Exit::Usage, "{pattern}");
        }
    }
}
