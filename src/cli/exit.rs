//! Exit codes, and the failures that lead to them.

use std::{error::Error as StdError, io};

/// How the program ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Exit {
    /// Content failed verification, or is corrupt.
    Corrupt,
    /// A newer layer removed the path.
    Deleted,
    /// All was done.
    Done,
    /// SIGINT.
    Interrupted,
    /// No such image, tag or platform.
    NoSuchImage,
    /// The image does not hold the path.
    NotFound,
    /// Any other failure, or several of different kinds.
    Other,
    /// SIGTERM.
    Terminated,
    /// Authentication or authorisation was refused.
    Unauthorized,
    /// The registry or the network did not answer.
    Unavailable,
    /// The command line makes no sense, or the reference is malformed.
    Usage,
    /// A directory, device or pipe where a file was asked for.
    WrongKind,
}

impl Exit {
    /// The process's exit status.
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
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// The exit of one library error.
    pub(crate) fn of(error: &layerslayer::Error) -> Self {
        match error {
            _ if error.is_corrupt() => Self::Corrupt,
            _ if error.is_deleted() => Self::Deleted,
            _ if error.is_no_such_image() => Self::NoSuchImage,
            _ if error.is_not_found() => Self::NotFound,
            _ if error.is_over_budget() => Self::Other,
            _ if error.is_unauthorized() => Self::Unauthorized,
            _ if error.is_unavailable() => Self::Unavailable,
            _ if error.is_usage() => Self::Usage,
            _ if error.is_wrong_kind() => Self::WrongKind,
            _ => Self::Other,
        }
    }
}

/// Why the program does not end well, in words for the user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// The exit it leads to.
    pub(crate) exit: Exit,
    /// What to print, one line each, not yet escaped. None where silence is right.
    pub(crate) messages: Vec<String>,
}

impl Failure {
    /// A failure with one message.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, messages: vec![message.into()] }
    }

    /// A failure of the command line itself.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Nothing to say about it.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self { exit, messages: Vec::new() }
    }

    /// A failure outside the library while doing `what`.
    pub(crate) fn caused(what: impl std::fmt::Display, error: &dyn StdError) -> Self {
        Self::new(Exit::Other, format!("{what}: {}", chain(error)))
    }

    /// Writing `what` failed. A reader that has seen enough is no failure.
    pub(crate) fn writing(what: impl std::fmt::Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Done),
            _ => Self::caused(format_args!("writing {what}"), error),
        }
    }

    /// Several failures at once: one kind gives its code, several give [`Exit::Other`]. None of them is no failure.
    pub(crate) fn all(failures: Vec<Self>) -> Result<(), Self> {
        let Some(exit) = failures.first().map(|failure| failure.exit) else { return Ok(()) };
        let exit = if failures.iter().all(|failure| failure.exit == exit) { exit } else { Exit::Other };
        Err(Self { exit, messages: failures.into_iter().flat_map(|failure| failure.messages).collect() })
    }

    /// The same with advice after the last message.
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
        Self::new(Exit::of(error), chain(error))
    }
}

impl From<layerslayer::Error> for Failure {
    fn from(error: layerslayer::Error) -> Self {
        Self::from(&error)
    }
}

/// An error and its causes in one line. A cause that its parent has printed already is not repeated.
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
    fn failures_of_one_kind_give_its_code_and_several_kinds_give_1() {
        let missing = || Failure::new(Exit::NotFound, "a");
        let deleted = || Failure::new(Exit::Deleted, "b");
        assert_eq!(Failure::all(vec![]), Ok(()));
        assert_eq!(Failure::all(vec![missing(), missing()]).unwrap_err().exit.code(), 3);
        let mixed = Failure::all(vec![missing(), deleted()]).unwrap_err();
        assert_eq!((mixed.exit.code(), mixed.messages), (1, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn the_codes_are_those_of_the_manual() {
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
            (Exit::Interrupted, 130),
            (Exit::Terminated, 143),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }

    #[test]
    fn a_broken_pipe_is_success_without_a_word() {
        let failure = Failure::writing("stdout", &io::ErrorKind::BrokenPipe.into());
        assert_eq!(failure, Failure::silent(Exit::Done));
        assert_eq!(Failure::writing("stdout", &io::ErrorKind::StorageFull.into()).exit, Exit::Other);
    }

    #[test]
    fn causes_follow_in_one_line_and_are_not_said_twice() {
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
