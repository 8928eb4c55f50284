//! What can go wrong with a registry.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::{
    auth::redact::Redactor,
    hint::Hint,
    registry::http::{
        StatusCode,
        transfer_error::{TransferError, seconds},
    },
};

/// Why a registry request failed: the operation, what went wrong, its cause and a typed hint. It contains no token, password or
/// query of a link. Cheap to clone, because one failure may reach many waiting tasks.
#[derive(Clone, Debug)]
pub(crate) struct Error(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    kind: Kind,
    operation: Box<str>,
    detail: Box<str>,
    hint: Option<Hint>,
    status: Option<u16>,
    retry_after: Option<Duration>,
    is_invalid_grant: bool,
    source: Option<TransferError>,
}

/// What a failure means to the caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The registry does not know the blob.
    BlobUnknown,
    /// The content differs from what was promised: wrong digest, wrong length, a false `Content-Range`.
    Corrupt,
    /// No such image or tag, or none that the caller may see.
    ManifestUnknown,
    /// Anything else: a cap, a setting, a response that makes no sense.
    Other,
    /// More bytes than may be fetched.
    OverBudget,
    /// The time limit of the question was reached.
    TimedOut,
    /// Authentication or authorisation refused.
    Unauthorized,
    /// Unreachable, failing or too slow, after retries.
    Unavailable,
}

impl Error {
    /// `operation` failed because of `detail`.
    pub(super) fn new(kind: Kind, operation: impl AsRef<str>, detail: impl fmt::Display) -> Self {
        Self(Arc::new(Inner {
            kind,
            operation: operation.as_ref().into(),
            detail: detail.to_string().into(),
            hint: None,
            status: None,
            retry_after: None,
            is_invalid_grant: false,
            source: None,
        }))
    }

    pub(super) fn corrupt(operation: impl AsRef<str>, detail: impl fmt::Display) -> Self {
        Self::new(Kind::Corrupt, operation, detail)
    }

    pub(super) fn other(operation: impl AsRef<str>, detail: impl fmt::Display) -> Self {
        Self::new(Kind::Other, operation, detail)
    }

    pub(super) fn unauthorized(operation: impl AsRef<str>, detail: impl fmt::Display) -> Self {
        Self::new(Kind::Unauthorized, operation, detail)
    }

    /// Trying again later may help; other hints replace that one.
    pub(super) fn unavailable(operation: impl AsRef<str>, detail: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, operation, detail).hint(Hint::RetryLater)
    }

    /// Prefixes the detail with `what`.
    pub(super) fn because(self, what: impl fmt::Display) -> Self {
        self.with(|inner| inner.detail = format!("{what}: {}", inner.detail).into())
    }

    /// Appends what was done about it.
    pub(super) fn after(self, what: impl fmt::Display) -> Self {
        self.with(|inner| inner.detail = format!("{}; {what}", inner.detail).into())
    }

    /// Turns into the failure that the question reached its time limit.
    pub(super) fn timed_out(self, limit: Duration) -> Self {
        let limit = format!("the time limit of {} s was reached", seconds(limit));
        let error = self.after(limit).hint(Hint::RaiseTimeLimit);
        error.with(|inner| inner.kind = Kind::TimedOut)
    }

    /// Adds what the user can do about it.
    pub(super) fn hint(self, hint: Hint) -> Self {
        self.with(|inner| inner.hint = Some(hint))
    }

    /// Records that the token server no longer accepts the identity token.
    pub(super) fn invalid_grant(self) -> Self {
        self.with(|inner| inner.is_invalid_grant = true)
    }

    /// Whether the token server no longer accepts the identity token.
    pub(super) fn is_invalid_grant(&self) -> bool {
        self.0.is_invalid_grant
    }

    /// Removes secrets that a peer may have brought in.
    pub(super) fn redacted(self, redactor: &Redactor) -> Self {
        self.with(|inner| inner.detail = redactor.redact(&inner.detail).into())
    }

    /// Records the HTTP status that the server sent.
    pub(super) fn with_status(self, status: StatusCode) -> Self {
        self.with(|inner| inner.status = Some(status.as_u16()))
    }

    /// Records how long the server asked to wait.
    pub(super) fn with_retry_after(self, wait: Duration) -> Self {
        self.with(|inner| inner.retry_after = Some(wait))
    }

    /// Records the transfer that failed; its own text is the detail, its cause becomes the source.
    pub(super) fn with_source(self, source: TransferError) -> Self {
        self.with(|inner| inner.source = Some(source))
    }

    /// Adds that a foreign layer need not be in the registry.
    pub(crate) fn of_foreign_layer(self) -> Self {
        if self.kind() != Kind::BlobUnknown {
            return self;
        }
        self.with(|inner| {
            inner.kind = Kind::Other;
            inner.hint = Some(Hint::ForeignLayer);
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// What the failure means.
    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What the user can do about it.
    pub(crate) fn to_hint(&self) -> Option<Hint> {
        self.0.hint.clone()
    }

    /// The transfer that failed, if that is the reason.
    pub(crate) fn cause(&self) -> Option<TransferError> {
        self.0.source.clone()
    }

    /// The HTTP status that the server sent, if the failure is about one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// How long the server asked to wait.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the registry, or its token server, refuses access.
    pub(crate) fn is_unauthorized(&self) -> bool {
        self.kind() == Kind::Unauthorized
    }

    /// Whether trying again later may help.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.kind() == Kind::Unavailable
    }
}

#[cfg(test)]
impl Error {
    /// Whether the registry does not know the blob.
    pub(crate) fn is_blob_unknown(&self) -> bool {
        self.kind() == Kind::BlobUnknown
    }

    /// Whether the content differs from what was promised.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.kind() == Kind::Corrupt
    }

    /// Whether there is no such image or tag.
    pub(crate) fn is_manifest_unknown(&self) -> bool {
        self.kind() == Kind::ManifestUnknown
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.operation, self.0.detail)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref()?.source()
    }
}
