//! The checks of certificates. A check that refuses a certificate says why, and which one it is.
//!
//! [`AnyCertificate`](postrider_smtp::client::AnyCertificate) of the client refuses none.

use std::sync::Arc;

use postrider_config::Static;
use postrider_smtp::client::TlsFault;
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::Verifier;

use crate::QueueSetupError;

/// The check of certificates of other servers: the system's CAs and those of `tls.ca_files` are
/// trusted. Its errors carry a [`TlsFault`].
///
/// # Errors
/// If a file of `tls.ca_files` or the system's CAs can't be used.
pub fn certificate_verifier(
    statics: &Static,
) -> Result<Arc<dyn ServerCertVerifier>, QueueSetupError> {
    let mut extra = Vec::new();
    for path in &statics.tls.ca_files {
        let failed = |reason: String| QueueSetupError::CaFile {
            path: path.display().to_string(),
            reason,
        };
        let certificates =
            CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        for certificate in certificates {
            extra.push(certificate.map_err(|error| failed(error.to_string()))?);
        }
    }
    let provider = provider();
    let inner = match extra.is_empty() {
        true => Verifier::new(provider)?,
        false => Verifier::new_with_extra_roots(extra, provider)?,
    };
    Ok(Arc::new(Pkix(inner)))
}

/// The cryptography of TLS.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// PKIX (RFC 5280) with the host's name.
#[derive(Debug)]
struct Pkix(Verifier);

impl ServerCertVerifier for Pkix {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self
            .0
            .verify_server_cert(end_entity, intermediates, name, ocsp, now);
        checked.map_err(|error| TlsFault::refusal(&error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
