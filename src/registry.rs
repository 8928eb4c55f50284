//! Registries over HTTP (OCI distribution specification, version 1.1): sessions, tokens, redirects, retries.

mod authorization;
pub(crate) mod blob;
mod challenge;
pub(crate) mod device;
pub(crate) mod error;
#[cfg(feature = "internals")]
pub(crate) mod held;
mod hints;
pub(crate) mod http;
mod message;
mod redirect;
mod retry;
#[cfg(test)]
#[path = "../tests/it/support/registry.rs"]
pub(crate) mod scripted;
pub(crate) mod session;
mod token;
mod transfers;
mod wait_budget;

pub(crate) use authorization::NO_TOKEN_SERVER;
pub(crate) use error::{Error, Kind};
pub(crate) use hints::RegistryHints;
pub use http::policy::AddressPolicy;
pub(crate) use http::transfer_error::TransferError;
pub(crate) use http::{Http, HttpBuilder};
pub(crate) use session::Session;
pub(crate) use transfers::{RangeTransfer, Transfers};

/// A repository of a registry. Both parts are well-formed: they come from a parsed reference.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Repository {
    /// Host of the registry's API, with its port unless it is the scheme's default: `registry-1.docker.io`, `[::1]:5000`.
    pub(crate) host: String,
    /// Name within the registry: `library/nginx`.
    pub(crate) name: String,
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.name, self.host)
    }
}

/// Locks a mutex whose value stays valid across a panic.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
