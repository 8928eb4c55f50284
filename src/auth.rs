//! Credentials: what they are, where they are kept and where else they are found.
//!
//! ```text
//! environment ▸ DOCKER_AUTH_CONFIG ▸ own stores ▸ REGISTRY_AUTH_FILE, or containers' files ▸ docker's   (sources)
//!                                    │            └ and helpers, as registries.conf has them in order   (registries_conf)
//!                                    keyring ▸ encrypted file ▸ plain file                              (store)
//! ```

pub(crate) mod auth_file;
pub(crate) mod credential;
mod error;
pub(crate) mod helper;
pub(crate) mod key;
#[cfg(feature = "stores")]
pub(crate) mod migrate;
#[cfg(feature = "stores")]
pub(crate) mod passphrase;
pub(crate) mod places;
#[cfg(feature = "stores")]
mod registries_conf;
#[cfg(feature = "stores")]
pub(crate) mod serve;
pub(crate) mod sources;
pub(crate) mod store;

pub use credential::{Credential, CredentialKind};
pub use error::CredentialError;
pub use key::RegistryKey;
pub use sources::{Candidate, CredentialSources};
pub use store::{CredentialStore, StoredEntry};
