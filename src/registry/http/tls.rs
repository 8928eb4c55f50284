//! Trusted certificates: those of the platform's authorities, and those that the caller adds. The cryptography is ring's; it is
//! named here and never installed as the process's default.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier as Platform;

use crate::{files::read_document, limits, registry::error::Error};

/// The TLS settings of all connections and the verifier of servers. Reads the certificates in `files` (PEM, any number in each).
pub(super) fn config(files: &[PathBuf]) -> Result<(ClientConfig, Arc<Verifier>), Error> {
    let provider = Arc::new(ring::default_provider());
    let mut extra = Vec::new();
    for file in files {
        extra.extend(certificates(file)?);
    }
    let failed = |error: TlsError| Error::other("setting up TLS", error);
    let mut roots = RootCertStore::empty();
    extra.iter().try_for_each(|certificate| roots.add(certificate.clone())).map_err(failed)?;
    let verifier = Arc::new(Verifier { extra, platform: OnceLock::new(), provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, verifier))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let operation = format!("reading the certificates in {}", file.display());
    let text =
        read_document(file, limits::CERTIFICATES_BYTES).map_err(|error| Error::other(&operation, error))?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::other(&operation, error))?;
    if certificates.is_empty() {
        return Err(Error::other(&operation, "it contains no certificate in PEM form"));
    }
    Ok(certificates)
}

/// What is wrong with a server's certificate, in words where rustls has only a name for it.
pub(super) fn certificate_detail(detail: &CertificateError) -> String {
    let text = detail.to_string();
    match detail {
        CertificateError::UnknownIssuer => "the server's certificate is from an unknown authority".into(),
        // What webpki reports first for a certificate made with `openssl req -x509`.
        CertificateError::Other(_) if text.contains("CaUsedAsEndEntity") => {
            "the server's certificate is self-signed and not trusted".into()
        }
        _ => format!("the server's certificate is not valid: {text}"),
    }
}

/// The platform's verification. In addition, an added certificate is itself valid for the names in it: many private registries
/// use one self-signed certificate, which the rules for authorities alone would refuse as a server's.
#[derive(Debug)]
pub(super) struct Verifier {
    extra: Vec<CertificateDer<'static>>,
    /// `None` if there are no authorities at all: plain HTTP still works, and HTTPS fails when it is tried.
    platform: OnceLock<Option<Platform>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// Reads the platform's authorities, on some systems hundreds of files, while the first connection is made. Clients that never
    /// use TLS do not read them.
    pub(super) fn prepare(self: &Arc<Self>) {
        if self.platform.get().is_none() {
            let verifier = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                verifier.platform();
            });
        }
    }

    fn platform(&self) -> Option<&Platform> {
        let load =
            || Platform::new_with_extra_roots(self.extra.iter().cloned(), Arc::clone(&self.provider)).ok();
        self.platform.get_or_init(load).as_ref()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if self.extra.iter().any(|known| known == end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        match self.platform() {
            Some(platform) => {
                platform.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
