//! A transfer that failed below HTTP's own statuses.

use std::{error::Error as StdError, fmt, net::IpAddr, sync::Arc, time::Duration};

use super::{address::TooPrivate, tls};
use crate::{
    hint::Hint,
    registry::error::{Error, Kind},
};

/// Why no complete response arrived. Names the server, never the path or query of a URL. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct TransferError {
    pub(crate) kind: TransferErrorKind,
    text: Arc<str>,
    cause: Option<Arc<reqwest::Error>>,
}

/// What failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TransferErrorKind {
    /// The server's certificate is not trusted.
    Certificate,
    /// No connection was made: name, address, timeout.
    Connect,
    /// The connection broke.
    Interrupted,
    /// What arrived is not an HTTP response, or its head exceeds a cap.
    Malformed,
    /// The server does not speak TLS.
    NotTls,
    /// More bytes than may be fetched.
    OverBudget,
    /// A setting of this machine is invalid.
    Setting,
    /// Too slow for too long.
    Stalled,
    /// The time limit of the question was reached.
    TimedOut,
    /// The address is more private than allowed.
    TooPrivate,
}

impl TransferError {
    /// `server` sent less than 1 KiB/s over `waited`.
    pub(super) fn stalled(server: &str, waited: Duration) -> Self {
        let text = format!("{server} sent less than 1 KiB/s for {} s", seconds(waited));
        Self::new(TransferErrorKind::Stalled, text)
    }

    pub(super) fn too_private(host: &str, address: IpAddr) -> Self {
        let refusal = TooPrivate { host: host.to_owned(), address };
        Self::new(TransferErrorKind::TooPrivate, refusal.to_string())
    }

    /// `bytes` more than the `fetched` ones would exceed the limit.
    pub(super) fn over_budget(bytes: u64, fetched: u64, limit: u64) -> Self {
        let bytes = if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") };
        let text = format!("{bytes} more, after {fetched}, would pass the limit of {limit} bytes");
        Self::new(TransferErrorKind::OverBudget, text)
    }

    /// A setting of this machine, such as a proxy, cannot be used.
    pub(super) fn setting(text: &str) -> Self {
        Self::new(TransferErrorKind::Setting, text)
    }

    /// The time limit was reached while waiting for `server`.
    pub(super) fn timed_out(server: &str, limit: Duration) -> Self {
        let text = format!("the time limit of {} s was reached while waiting for {server}", seconds(limit));
        Self::new(TransferErrorKind::TimedOut, text)
    }

    /// A server demanded HTTPS over plain HTTP.
    pub(crate) fn wants_https(server: &str) -> Self {
        Self::new(TransferErrorKind::Interrupted, format!("{server} demands HTTPS, and HTTPS fails"))
    }

    fn new(kind: TransferErrorKind, text: impl Into<Arc<str>>) -> Self {
        Self { kind, text: text.into(), cause: None }
    }

    /// Classifies reqwest's error. The URL is removed: it may contain the signature of a presigned link.
    pub(super) fn from_reqwest(server: &str, error: reqwest::Error) -> Self {
        let is_connect = error.is_connect();
        let is_timeout = error.is_timeout();
        let error = error.without_url();
        let (mut kind, mut text) = match is_connect {
            true => (TransferErrorKind::Connect, format!("no connection to {server}")),
            false => (TransferErrorKind::Interrupted, format!("the connection to {server} broke")),
        };
        if is_connect && is_timeout {
            text = format!("no connection to {server} within the time limit");
        }
        if let Some(found) = causes(&error).find_map(|cause| classify(server, cause)) {
            (kind, text) = found;
        }
        Self { kind, text: text.into(), cause: Some(Arc::new(error)) }
    }

    /// The failure as an error, once it is not retried.
    pub(crate) fn into_error(self, operation: &str) -> Error {
        let error = |kind| Error::new(kind, operation, &self);
        let error = match self.kind {
            TransferErrorKind::Certificate => error(Kind::Unavailable).hint(Hint::TrustCertificate),
            TransferErrorKind::Connect => error(Kind::Unavailable).hint(Hint::CheckNetwork),
            TransferErrorKind::NotTls => error(Kind::Unavailable).hint(Hint::AllowPlainHttp),
            TransferErrorKind::Interrupted | TransferErrorKind::Stalled => {
                error(Kind::Unavailable).hint(Hint::RetryLater)
            }
            TransferErrorKind::Malformed => error(Kind::Unavailable),
            TransferErrorKind::OverBudget => error(Kind::OverBudget).hint(Hint::RaiseByteLimit),
            TransferErrorKind::Setting => error(Kind::Other),
            TransferErrorKind::TimedOut => error(Kind::TimedOut).hint(Hint::RaiseTimeLimit),
            TransferErrorKind::TooPrivate => error(Kind::Unauthorized).hint(Hint::AllowHost),
        };
        error.with_source(self)
    }

    /// Whether another attempt may succeed.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self.kind,
            TransferErrorKind::Connect | TransferErrorKind::Interrupted | TransferErrorKind::Stalled
        )
    }
}

/// Seconds for a message: `30`, `0.02`.
pub(in crate::registry) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{seconds:.2}") } else { format!("{seconds:.0}") }
}

/// The causes of an error, outermost first. An I/O error hides what it carries from the chain of sources.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&cause| {
        let carried = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match carried {
            Some(carried) => Some(carried as &(dyn StdError + 'static)),
            None => cause.source(),
        }
    })
}

/// What a cause reveals beyond "it failed".
fn classify(server: &str, cause: &(dyn StdError + 'static)) -> Option<(TransferErrorKind, String)> {
    if cause.is::<TooPrivate>() {
        return Some((TransferErrorKind::TooPrivate, cause.to_string()));
    }
    if let Some(error) = cause.downcast_ref::<hyper::Error>()
        && error.is_parse()
    {
        let text = format!("{server} sent something that is not an HTTP response");
        return Some((TransferErrorKind::Malformed, text));
    }
    match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(error) => {
            Some((TransferErrorKind::Certificate, tls::certificate_detail(error)))
        }
        rustls::Error::InvalidMessage(_) => {
            Some((TransferErrorKind::NotTls, format!("{server} does not speak TLS")))
        }
        _ => None,
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for TransferError {
    /// The innermost cause: what lies between only repeats that sending failed. None where the text says it already.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if matches!(
            self.kind,
            TransferErrorKind::Certificate | TransferErrorKind::Setting | TransferErrorKind::TooPrivate
        ) {
            return None;
        }
        causes(self.cause.as_deref()?).last()
    }
}
