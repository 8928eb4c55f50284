//! What can go wrong with a registry.

use std::fmt;

/// Why a registry did not give what was asked for. Says what was being done, to whom, what happened and what to try; holds no
/// token, password or query of a link. Cheap to clone: one failure may reach many waiters.
#[derive(Clone, Debug)]
pub(crate) struct Error {
    kind: Kind,
    doing: Box<str>,
    problem: Box<str>,
    advice: Option<Box<str>>,
}

/// What the failure means to whoever asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The registry does not know the blob.
    BlobUnknown,
    /// What came is not what was promised: wrong digest, wrong length, a `Content-Range` that lies.
    Corrupt,
    /// No such image or tag, or none that we may see.
    ManifestUnknown,
    /// Anything else: a cap, a setting, an answer that makes no sense.
    Other,
    /// More bytes than may be fetched.
    OverBudget,
    /// Authentication or authorisation refused.
    Unauthorized,
    /// Not reachable, not able, or too slow, after retries.
    Unavailable,
}

impl Error {
    /// `problem` happened while `doing` it.
    pub(super) fn new(kind: Kind, doing: impl AsRef<str>, problem: impl fmt::Display) -> Self {
        Self { kind, doing: doing.as_ref().into(), problem: problem.to_string().into(), advice: None }
    }

    pub(super) fn corrupt(doing: impl AsRef<str>, problem: impl fmt::Display) -> Self {
        Self::new(Kind::Corrupt, doing, problem)
    }

    pub(super) fn other(doing: impl AsRef<str>, problem: impl fmt::Display) -> Self {
        Self::new(Kind::Other, doing, problem)
    }

    pub(super) fn unauthorized(doing: impl AsRef<str>, problem: impl fmt::Display) -> Self {
        Self::new(Kind::Unauthorized, doing, problem)
    }

    pub(super) fn unavailable(doing: impl AsRef<str>, problem: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, doing, problem)
    }

    /// The same, with this said before what happened.
    pub(super) fn because(mut self, what: impl fmt::Display) -> Self {
        self.problem = format!("{what}: {}", self.problem).into();
        self
    }

    /// The same with what to try.
    pub(super) fn advise(mut self, advice: impl fmt::Display) -> Self {
        self.advice = Some(advice.to_string().into());
        self
    }

    /// The same of a foreign layer, which need not be in the registry.
    pub(crate) fn of_foreign_layer(self) -> Self {
        if self.kind != Kind::BlobUnknown {
            return self;
        }
        let error = Self { kind: Kind::Other, ..self };
        error.advise(
            "it is a foreign layer, which registries need not hold; other places are not asked for it",
        )
    }

    /// What the failure means.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the registry, or its token server, refuses us.
    pub(crate) fn is_unauthorized(&self) -> bool {
        self.kind == Kind::Unauthorized
    }

    /// Whether trying again later may help.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }
}

#[cfg(test)]
impl Error {
    /// Whether the registry does not know the blob.
    pub(crate) fn is_blob_unknown(&self) -> bool {
        self.kind == Kind::BlobUnknown
    }

    /// Whether what came is not what was promised.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.kind == Kind::Corrupt
    }

    /// Whether there is no such image or tag.
    pub(crate) fn is_manifest_unknown(&self) -> bool {
        self.kind == Kind::ManifestUnknown
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.problem)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

// Causes are told in the message; none is exposed as a source.
impl std::error::Error for Error {}
