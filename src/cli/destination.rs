//! Where `carve` writes to.

use std::{
    io::{self, BufWriter, IsTerminal as _, Read, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use file::Replacement;
use layerslayer::Entry;

use super::{
    args::CarveArguments,
    console::{Console, Stdout},
    exit::Failure,
};

pub(crate) mod archive;
pub(crate) mod attributes;
pub(crate) mod file;
mod holes;
pub(crate) mod temporary;
pub(crate) mod tree;

/// Where `carve` writes to, and in which form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Destination {
    /// A tar archive.
    Archive(Target),
    /// Files below a directory.
    Directory(PathBuf),
    /// The content of a single file.
    Single(Target),
}

/// A single output stream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// A file.
    File(PathBuf),
    /// Stdout; `force` (from `-o -`) allows binary content on a terminal.
    Stdout { force: bool },
}

impl Destination {
    /// Returns the destination that the arguments select.
    pub(crate) fn of(arguments: &CarveArguments) -> Result<Self, Failure> {
        if arguments.paths.iter().any(|path| path.is_empty()) {
            return Err(Failure::usage("PATH is empty; use / for the root"));
        }
        let output = arguments.output.as_deref();
        let is_directory =
            output.is_some_and(|path| path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir());
        let target = match output {
            Some(path) if path == Path::new("-") => Target::Stdout { force: true },
            Some(path) => Target::File(path.to_owned()),
            None => Target::Stdout { force: false },
        };
        let writes_json = arguments.common.json;
        match (arguments.tar, is_directory, target) {
            (_, _, Target::Stdout { .. }) if writes_json => Err(Failure::usage(
                "--json prints a description to stdout; add -o FILE or -o DIR/ for the content",
            )),
            (_, _, Target::Stdout { .. }) if arguments.same_permissions => {
                Err(Failure::usage("--same-permissions requires -o FILE or -o DIR/"))
            }
            (true, true, _) => {
                Err(Failure::usage("--tar writes a single archive; use -o FILE, or drop --tar for -o DIR/"))
            }
            (true, false, target) => Ok(Self::Archive(target)),
            (false, true, Target::File(path)) => Ok(Self::Directory(path)),
            (false, _, target) => Self::single(target, arguments),
        }
    }

    fn single(target: Target, arguments: &CarveArguments) -> Result<Self, Failure> {
        if arguments.paths.len() == 1 {
            return Ok(Self::Single(target));
        }
        let what = if arguments.globs.is_empty() { "several PATHs" } else { "--glob" };
        let advice = match target {
            Target::File(path) => {
                format!("{} is not a directory; use -o {0}/ to create it", path.display())
            }
            Target::Stdout { .. } => "add -o DIR/ or --tar".to_owned(),
        };
        Err(Failure::usage(format!("{what} cannot be written to a single stream: {advice}")))
    }
}

impl Target {
    /// Opens the stream for writing.
    pub(crate) fn open(&self, console: &Console) -> Result<Sink, Failure> {
        match self {
            Self::File(path) => match Replacement::create(path) {
                Ok(file) => Ok(Sink::File(BufWriter::new(file))),
                Err(error) => Err(Failure::writing(path.display(), &error)),
            },
            Self::Stdout { .. } => console.stdout().map(Sink::Stdout),
        }
    }

    /// Whether this is a terminal that must not get binary content.
    pub(crate) fn is_guarded_terminal(&self) -> bool {
        matches!(self, Self::Stdout { force: false }) && io::stdout().is_terminal()
    }

    /// Turns a write error into a failure.
    pub(crate) fn failure(&self, error: &io::Error) -> Failure {
        match self {
            Self::File(path) => Failure::writing(path.display(), error),
            Self::Stdout { .. } => Failure::writing("stdout", error),
        }
    }
}

/// An open output stream. Dropping an unfinished file keeps the previous one.
pub(crate) enum Sink {
    File(BufWriter<Replacement>),
    Stdout(BufWriter<Stdout>),
}

impl Sink {
    /// Completes the output.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::File(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?.finish(),
            Self::Stdout(mut out) => out.flush(),
        }
    }

    /// Applies the owner, mode and extended attributes of `entry`; returns what could not be applied.
    pub(crate) fn apply_attributes(&self, entry: &Entry) -> io::Result<Vec<String>> {
        match self {
            Self::File(file) => file.get_ref().apply_attributes(entry),
            Self::Stdout(_) => Ok(Vec::new()),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Stdout(out) => out.flush(),
        }
    }
}

/// Copies exactly `size` bytes; fewer are an error.
fn copy_exactly(content: impl Read, out: &mut impl Write, size: u64) -> io::Result<()> {
    let copied = io::copy(&mut content.take(size), out)?;
    match size - copied {
        0 => Ok(()),
        missing => Err(io::Error::other(format!("the content is {missing} bytes short"))),
    }
}

/// Whether content that starts like this should not be printed on a terminal.
pub(crate) fn is_binary(beginning: &[u8]) -> bool {
    // The end of the piece may cut a character in two.
    let is_text = match str::from_utf8(beginning) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(),
    };
    !is_text || beginning.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{self, Command, Invocation};

    fn destination(arguments: &[&str]) -> Result<Destination, Failure> {
        let all = ["layerslayer", "carve", "image"].iter().chain(arguments).map(Into::into);
        let Invocation::Image(Command::Carve(arguments)) = args::parse(all).unwrap().invocation else {
            panic!("not carve")
        };
        Destination::of(&arguments)
    }

    #[test]
    fn arguments_select_the_destination() {
        let stdout = |force| Target::Stdout { force };
        let file = || Target::File("no/such".into());
        let cases: [(&[&str], Destination); 8] = [
            (&["a"], Destination::Single(stdout(false))),
            (&["a", "-o", "-"], Destination::Single(stdout(true))),
            (&["a", "-o", "no/such"], Destination::Single(file())),
            (&["a", "-o", "no/such/"], Destination::Directory("no/such/".into())),
            (&["a", "b", "-o", "/"], Destination::Directory("/".into())),
            (&["a", "b", "--tar"], Destination::Archive(stdout(false))),
            (&["--glob", "a", "--tar", "-o", "no/such"], Destination::Archive(file())),
            (&["a", "--json", "-o", "no/such"], Destination::Single(file())),
        ];
        for (arguments, expected) in cases {
            assert_eq!(destination(arguments), Ok(expected), "{arguments:?}");
        }
    }

    #[test]
    fn combinations_that_cannot_be_written_are_usage_failures() {
        let cases: [&[&str]; 10] = [
            &[""],
            &["a", "", "-o", "/"],
            &["a", "--same-permissions", "-o", "-"],
            &["a", "b"],
            &["a", "b", "-o", "-"],
            &["a", "b", "-o", "no/such"],
            &["--glob", "a"],
            &["a", "--tar", "-o", "/"],
            &["a", "--json"],
            &["a", "--json", "--tar"],
        ];
        for arguments in cases {
            assert_eq!(destination(arguments).unwrap_err().exit.code(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn a_cut_character_does_not_make_text_binary() {
        assert!(!is_binary(b""));
        assert!(!is_binary("gr\u{fc}n\n".as_bytes()));
        assert!(!is_binary(b"gr\xc3"));
        assert!(is_binary(b"\x7fELF\0"));
        assert!(is_binary(b"gr\xfcn"));
    }
}
