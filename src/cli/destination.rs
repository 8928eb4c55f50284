//! Where `carve` writes to.

use std::{
    io::{self, BufWriter, IsTerminal as _, Read, Write},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use file::{FILE_MODE, Replacement};
use layerslayer::Entry;

use super::{
    args::CarveArguments,
    console::{Console, Stdout},
    exit::Failure,
    progress::Display,
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
        let is_directory = output.is_some_and(Target::is_directory);
        let target = Target::of(output);
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
    /// Returns the stream that `-o` selects.
    pub(crate) fn of(output: Option<&Path>) -> Self {
        match output {
            Some(path) if path == Path::new("-") => Self::Stdout { force: true },
            Some(path) => Self::File(path.to_owned()),
            None => Self::Stdout { force: false },
        }
    }

    /// Whether `-o` names a directory.
    pub(crate) fn is_directory(path: &Path) -> bool {
        path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir()
    }

    /// Opens the stream for an archive.
    pub(crate) fn open(&self, console: &Console) -> Result<Sink, Failure> {
        self.create(console, FILE_MODE, 0)
    }

    /// Opens the stream for the content of `entry`. A file gets its permission bits, under the umask.
    pub(crate) fn open_for(&self, console: &Console, entry: &Entry) -> Result<Sink, Failure> {
        self.create(console, entry.mode, entry.size)
    }

    fn create(&self, console: &Console, mode: u32, size: u64) -> Result<Sink, Failure> {
        match self {
            Self::File(path) => {
                let file = Replacement::create(path, mode).and_then(|file| {
                    file.check_size(size)?;
                    Ok(file)
                });
                match file {
                    Ok(file) => Ok(Sink::File(BufWriter::new(file), console.display())),
                    Err(error) => Err(Failure::writing(path.display(), &error)),
                }
            }
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
    /// A file, and the display that must know when a write blocks, as on a FIFO.
    File(BufWriter<Replacement>, Arc<Display>),
    Stdout(BufWriter<Stdout>),
}

impl Sink {
    /// Completes the output.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::File(file, _) => file.into_inner().map_err(io::IntoInnerError::into_error)?.finish(),
            Self::Stdout(mut out) => out.flush(),
        }
    }

    /// Applies the owner, mode and extended attributes of `entry`; returns what could not be applied.
    pub(crate) fn apply_attributes(&self, entry: &Entry) -> io::Result<Vec<String>> {
        match self {
            Self::File(file, _) => file.get_ref().apply_attributes(entry),
            Self::Stdout(_) => Ok(Vec::new()),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file, display) => display.while_blocked(|| file.write(bytes)),
            Self::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file, display) => display.while_blocked(|| file.flush()),
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

/// Finds content that a terminal should not get: binary data and control sequences.
#[derive(Debug, Default)]
pub(crate) struct TextCheck {
    /// The start of a character that the end of the last piece cut off.
    cut: Vec<u8>,
}

impl TextCheck {
    /// Whether the next piece of the content is text without control sequences.
    pub(crate) fn is_text(&mut self, piece: &[u8]) -> bool {
        let mut bytes = std::mem::take(&mut self.cut);
        bytes.extend_from_slice(piece);
        let text = match str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let (text, rest) = bytes.split_at(error.valid_up_to());
                if error.error_len().is_some() {
                    return false;
                }
                self.cut = rest.to_vec();
                str::from_utf8(text).unwrap_or_default()
            }
        };
        !text.contains(is_control)
    }
}

/// Control characters other than those that programs use to lay out text. ESC and U+0080 to U+009F start sequences that can change
/// the title of a window, type on behalf of the user, or hide text.
fn is_control(character: char) -> bool {
    matches!(character, '\0'..='\x06' | '\x0e'..='\x1f' | '\x7f'..='\u{9f}')
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
    fn text_is_recognised_across_pieces() {
        let is_text = |pieces: &[&[u8]]| {
            let mut check = TextCheck::default();
            pieces.iter().all(|piece| check.is_text(piece))
        };
        let text: [&[&[u8]]; 4] = [
            &[b""],
            &["gr\u{fc}n\t\r\n\x08\x0c\x07".as_bytes()],
            &[b"gr\xc3", b"\xbcn"],
            &[b"\xf0", b"\x9f\x98", b"\x80"],
        ];
        for pieces in text {
            assert!(is_text(pieces), "{pieces:?}");
        }
        let binary: [&[&[u8]]; 7] = [
            &[b"\x7fELF\0"],
            &[b"gr\xfcn"],
            &[b"plain, then ", b"\x1b]0;title\x07"],
            &["\u{9b}31m".as_bytes()],
            &[b"\xc2", b"\x9b31m"],
            &[b"\x9b31m"],
            &[b"gr\xc3", b"n"],
        ];
        for pieces in binary {
            assert!(!is_text(pieces), "{pieces:?}");
        }
    }
}
