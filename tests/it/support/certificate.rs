//! Certificates made by openssl for one run.

use std::path::{Path, PathBuf};

use super::tools;

/// A self-signed certificate and its RSA key, as PEM files.
#[derive(Debug)]
pub(crate) struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    /// A certificate for `localhost`, 127.0.0.1 and ::1, with a new key for each call.
    pub(crate) fn new() -> Self {
        let folder = tools::temporary_folder();
        tools::run(
            tools::command("openssl")
                .current_dir(folder.path())
                .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-sha256"])
                .args(["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "certificate.pem"])
                .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"])
                .args(["-addext", "extendedKeyUsage=serverAuth"]),
        );
        Self { folder }
    }

    /// The certificate, which is also its own authority.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// The private key (PKCS#8).
    pub(crate) fn key_path(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Writes the certificate into `folder` under the name that skopeo and docker expect in a
    /// folder of authorities.
    pub(crate) fn write_authority(&self, folder: &Path) {
        std::fs::copy(self.path(), folder.join("ca.crt")).unwrap();
    }

    /// The certificate in DER, base64 encoded, as a JWT's `x5c` wants it.
    pub(crate) fn base64(&self) -> String {
        pem_body(&self.path())
    }

    /// The private key in DER, base64 encoded.
    pub(crate) fn key_base64(&self) -> String {
        pem_body(&self.key_path())
    }
}

fn pem_body(path: &Path) -> String {
    let pem = std::fs::read_to_string(path).unwrap();
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}
