//! Credentials: their types, our own stores, and the other places on a machine that hold them.
//!
//! ```text
//! environment ▸ DOCKER_AUTH_CONFIG ▸ own stores ▸ REGISTRY_AUTH_FILE, or podman's files ▸ docker's   (credentials)
//!                                    │            └ and helpers, in the order of registries.conf       (registries_conf)
//!                                    keyring ▸ encrypted file ▸ plain file                             (store)
//! ```

pub(crate) mod auth_file;
pub(crate) mod credential;
pub(crate) mod credentials;
mod error;
mod go_json;
pub(crate) mod helper;
#[cfg(feature = "stores")]
pub(crate) mod helper_server;
pub(crate) mod key;
pub(crate) mod locations;
#[cfg(feature = "stores")]
pub(crate) mod migrate;
#[cfg(feature = "stores")]
pub(crate) mod passphrase;
pub(crate) mod provider;
pub(crate) mod redact;
#[cfg(feature = "stores")]
mod registries_conf;
pub(crate) mod store;

pub use credential::{Credential, CredentialKind};
pub use credentials::{Candidate, Credentials};
pub use error::CredentialError;
pub use key::RegistryKey;
pub use provider::{CredentialProvider, CredentialQuery};
pub use store::{CredentialStore, StoredEntry};
