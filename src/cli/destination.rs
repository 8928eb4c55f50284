//! Where carved content goes.

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

/// Where carved content goes, and in which form.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Destination {
    /// As a tar archive.
    Archive(Target),
    /// As files below a directory.
    Directory(PathBuf),
    /// As the content of one file.
    Single(Target),
}

/// One stream of bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// A file.
    File(PathBuf),
    /// Stdout, with `-` even if it is a terminal.
    Stdout { insist: bool },
}

impl Destination {
    /// The destination that the command line names.
    pub(crate) fn of(arguments: &CarveArguments) -> Result<Self, Failure> {
        if arguments.paths.iter().any(|path| path.is_empty()) {
            return Err(Failure::usage("a PATH is empty; / is the root"));
        }
        let output = arguments.output.as_deref();
        let is_directory =
            output.is_some_and(|path| path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir());
        let target = match output {
            Some(path) if path == Path::new("-") => Target::Stdout { insist: true },
            Some(path) => Target::File(path.to_owned()),
            None => Target::Stdout { insist: false },
        };
        let writes_json = arguments.common.json;
        match (arguments.tar, is_directory, target) {
            (_, _, Target::Stdout { .. }) if writes_json => Err(Failure::usage(
                "--json describes what was carved, on stdout; the content needs -o FILE or -o DIR/",
            )),
            (_, _, Target::Stdout { .. }) if arguments.same_permissions => {
                Err(Failure::usage("--same-permissions is for files; use -o FILE or -o DIR/"))
            }
            (true, true, _) => {
                Err(Failure::usage("--tar writes one archive; use -o FILE, or -o DIR/ without --tar"))
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
                format!("{} is not a directory; -o {0}/ makes one", path.display())
            }
            Target::Stdout { .. } => "add -o DIR/ or --tar".to_owned(),
        };
        Err(Failure::usage(format!("{what} cannot go to a single stream: {advice}")))
    }
}

impl Target {
    /// Begins to write.
    pub(crate) fn open(&self, console: &Console) -> Result<Sink, Failure> {
        match self {
            Self::File(path) => match Replacement::create(path) {
                Ok(file) => Ok(Sink::File(BufWriter::new(file))),
                Err(error) => Err(Failure::writing(path.display(), &error)),
            },
            Self::Stdout { .. } => console.stdout().map(Sink::Stdout),
        }
    }

    /// Whether nobody insisted that this terminal gets whatever comes.
    pub(crate) fn is_shy_terminal(&self) -> bool {
        matches!(self, Self::Stdout { insist: false }) && io::stdout().is_terminal()
    }

    /// A failure to write here.
    pub(crate) fn failure(&self, error: &io::Error) -> Failure {
        match self {
            Self::File(path) => Failure::writing(path.display(), error),
            Self::Stdout { .. } => Failure::writing("stdout", error),
        }
    }
}

/// A stream being written. A file that is dropped unfinished leaves what was there before.
pub(crate) enum Sink {
    File(BufWriter<Replacement>),
    Stdout(BufWriter<Stdout>),
}

impl Sink {
    /// All has been written.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::File(file) => file.into_inner().map_err(io::IntoInnerError::into_error)?.finish(),
            Self::Stdout(mut out) => out.flush(),
        }
    }

    /// Gives the file the owner, mode and extended attributes of `entry`; returns what could not be kept.
    pub(crate) fn keep_attributes(&self, entry: &Entry) -> io::Result<Vec<String>> {
        match self {
            Self::File(file) => file.get_ref().keep_attributes(entry),
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

/// Copies `size` bytes of content; that there are fewer is an error.
fn copy_exactly(content: impl Read, out: &mut impl Write, size: u64) -> io::Result<()> {
    let copied = io::copy(&mut content.take(size), out)?;
    match size - copied {
        0 => Ok(()),
        missing => Err(io::Error::other(format!("the content ends {missing} bytes too early"))),
    }
}

/// Whether a terminal should not get content that begins like this.
pub(crate) fn is_binary(beginning: &[u8]) -> bool {
    // A character that the end of the piece cuts is no sign of anything.
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
    fn the_output_decides_where_content_goes() {
        let stdout = |insist| Target::Stdout { insist };
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
    fn what_cannot_be_written_so_is_a_usage_failure() {
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
    fn text_is_told_from_binary_even_where_a_character_is_cut() {
        assert!(!is_binary(b""));
        assert!(!is_binary("gr\u{fc}n\n".as_bytes()));
        assert!(!is_binary(b"gr\xc3"));
        assert!(is_binary(b"\x7fELF\0"));
        assert!(is_binary(b"gr\xfcn"));
    }
}
