//! Exit codes and the failures that cause them.

use std::{error::Error as StdError, io};

/// The exit status of the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// Content failed verification, or is corrupt.
    Corrupt,
    /// A newer layer removed the path.
    Deleted,
    /// Success.
    Done,
    /// The terminal was closed (SIGHUP).
    HungUp,
    /// Interrupted by SIGINT.
    Interrupted,
    /// No such image, tag or platform.
    NoSuchImage,
    /// The path is not in the image.
    NotFound,
    /// Any other failure, or several of different kinds.
    Other,
    /// Ended by SIGQUIT.
    Quit,
    /// Terminated by SIGTERM.
    Terminated,
    /// Authentication or authorisation was refused.
    Unauthorized,
    /// The registry or the network is unavailable.
    Unavailable,
    /// The command line or the reference is malformed.
    Usage,
    /// A directory, device or FIFO where a file is required.
    WrongKind,
}

impl Exit {
    /// The process exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Deleted => 4,
            Self::WrongKind => 5,
            Self::Unauthorized => 6,
            Self::Unavailable => 7,
            Self::Corrupt => 8,
            Self::NoSuchImage => 9,
            Self::HungUp => 129,
            Self::Interrupted => 130,
            Self::Quit => 131,
            Self::Terminated => 143,
        }
    }

    /// The exit status for an error of the library.
    pub(crate) fn of(error: &layerslayer::Error) -> Self {
        match error {
            _ if error.is_corrupt() => Self::Corrupt,
            _ if error.is_deleted() => Self::Deleted,
            _ if error.is_no_such_image() => Self::NoSuchImage,
            _ if error.is_not_found() => Self::NotFound,
            _ if error.is_over_budget() || error.is_timed_out() => Self::Other,
            _ if error.is_unauthorized() => Self::Unauthorized,
            _ if error.is_unavailable() => Self::Unavailable,
            _ if error.is_usage() => Self::Usage,
            _ if error.is_wrong_kind() => Self::WrongKind,
            _ => Self::Other,
        }
    }
}

/// A failure of the program, with messages for the user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) exit: Exit,
    /// The messages to print, one per line, not yet escaped. May be empty.
    pub(crate) messages: Vec<String>,
}

impl Failure {
    /// Creates a failure with one message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, messages: vec![message.into()] }
    }

    /// Creates a usage failure.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Creates a failure without a message.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, messages: Vec::new() }
    }

    /// Creates a failure of `operation`, with its cause.
    pub(crate) fn caused(operation: impl std::fmt::Display, error: &dyn StdError) -> Self {
        Self::new(Exit::Other, format!("{operation}: {}", chain(error)))
    }

    /// Creates a failure to write `what`. A closed pipe counts as success.
    pub(crate) fn writing(what: impl std::fmt::Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Done),
            _ => Self::caused(format_args!("writing {what}"), error),
        }
    }

    /// Combines failures: failures of one kind keep their exit status, different kinds give [`Exit::Other`], none is success.
    pub(crate) fn all(failures: Vec<Self>) -> Result<(), Self> {
        let Some(exit) = failures.first().map(|failure| failure.exit) else { return Ok(()) };
        let exit = if failures.iter().all(|failure| failure.exit == exit) { exit } else { Exit::Other };
        Err(Self { exit, messages: failures.into_iter().flat_map(|failure| failure.messages).collect() })
    }

    /// Appends advice to the last message.
    #[must_use]
    pub(crate) fn advise(mut self, advice: &str) -> Self {
        if let Some(message) = self.messages.last_mut() {
            message.push_str("; ");
            message.push_str(advice);
        }
        self
    }
}

impl From<&layerslayer::Error> for Failure {
    fn from(error: &layerslayer::Error) -> Self {
        let failure = Self::new(Exit::of(error), chain(error));
        match error.hint() {
            Some(hint) => failure.advise(&super::hints::advice(hint)),
            None => failure,
        }
    }
}

impl From<layerslayer::Error> for Failure {
    fn from(error: layerslayer::Error) -> Self {
        Self::from(&error)
    }
}

/// Formats an error and its causes in one line. Skips a cause that its parent already includes.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_one_kind_keep_its_code_and_mixed_failures_give_1() {
        let missing = || Failure::new(Exit::NotFound, "a");
        let deleted = || Failure::new(Exit::Deleted, "b");
        assert_eq!(Failure::all(vec![]), Ok(()));
        assert_eq!(Failure::all(vec![missing(), missing()]).unwrap_err().exit.code(), 3);
        let mixed = Failure::all(vec![missing(), deleted()]).unwrap_err();
        assert_eq!((mixed.exit.code(), mixed.messages), (1, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn exit_codes_match_the_documentation() {
        let codes = [
            (Exit::Done, 0),
            (Exit::Other, 1),
            (Exit::Usage, 2),
            (Exit::NotFound, 3),
            (Exit::Deleted, 4),
            (Exit::WrongKind, 5),
            (Exit::Unauthorized, 6),
            (Exit::Unavailable, 7),
            (Exit::Corrupt, 8),
            (Exit::NoSuchImage, 9),
            (Exit::HungUp, 129),
            (Exit::Interrupted, 130),
            (Exit::Quit, 131),
            (Exit::Terminated, 143),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn a_broken_pipe_is_silent_success() {
        let failure = Failure::writing("stdout", &io::ErrorKind::BrokenPipe.into());
        assert_eq!(failure, Failure::silent(Exit::Done));
        assert_eq!(Failure::writing("stdout", &io::ErrorKind::StorageFull.into()).exit, Exit::Other);
    }

    #[test]
    fn causes_are_printed_in_one_line_without_repetition() {
        #[derive(Debug, thiserror::Error)]
        #[error("reading: {0}")]
        struct Repeats(#[source] io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("carving")]
        struct Plain(#[source] Repeats);
        let error = Plain(Repeats(io::Error::other("cut")));
        assert_eq!(chain(&error), "carving: reading: cut");
    }
}
