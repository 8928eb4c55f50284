//! The certificates of the tests' scripted registry: `tests/it/support/tls/README.md` says how they were made.

use std::path::PathBuf;

/// The authority, a PEM file.
pub(crate) fn authority() -> PathBuf {
    file("authority.pem")
}

/// A certificate for `localhost` and 127.0.0.1, a PEM file.
pub(crate) fn server() -> PathBuf {
    file("server.pem")
}

/// Its key, a PEM file.
pub(crate) fn server_key() -> PathBuf {
    file("server.key")
}

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/it/support/tls", name].iter().collect()
}
