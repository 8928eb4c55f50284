//! Credentials: what they are and where they are found.

pub(crate) mod credential;
pub(crate) mod docker_config;

pub use credential::Credential;

/// Why stored credentials could not be read. Never shows any of what the file holds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An entry's `auth` is not what docker writes.
    #[error("{path}: the entry of {key:?} has an `auth` that is not base64 of user:password; log in again")]
    Auth {
        /// The file.
        path: String,
        /// The entry's key.
        key: String,
    },
    /// The file is larger than any real one.
    #[error("{path} is larger than {} bytes", crate::limits::DOCKER_CONFIG_BYTES)]
    Large {
        /// The file.
        path: String,
    },
    /// The file cannot be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not the JSON that docker writes. The parser's message is left out: it quotes values.
    #[error("{path} is not docker's configuration: line {line}, column {column}")]
    Syntax {
        /// The file.
        path: String,
        /// Line of the first mistake, from 1.
        line: usize,
        /// Column of the first mistake, from 1.
        column: usize,
    },
}
