//! TLS connections that go on whatever the certificate is, and tell what it was.

use std::sync::{Arc, Mutex, PoisonError};

use postrider_config::Static;
use postrider_smtp::client::TlsFault;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest, Sha256};

/// The seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// The CAs that are trusted: the system's, and those of `tls.ca_files`.
pub(super) struct Trust {
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    verifying: Arc<ClientConfig>,
}

/// The certificate of a server.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    der: CertificateDer<'static>,
    /// Whether a trusted CA issued it for the name. If not, why.
    pub(super) trusted: Result<(), String>,
}

/// Keeps the certificate of one connection.
#[derive(Debug)]
pub(super) struct Watch {
    verifier: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<Certificate>>,
}

impl Trust {
    pub(super) fn new(statics: &Static) -> Result<Self, String> {
        let verifier = postrider_queue::certificate_verifier(statics);
        let verifying = postrider_queue::https::tls_config(statics);
        Ok(Self {
            verifier: verifier.map_err(|error| error.to_string())?,
            verifying: Arc::new(verifying.map_err(|error| error.to_string())?),
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
        })
    }

    /// The TLS configuration of requests over HTTPS. It takes trusted certificates only.
    pub(super) fn verifying(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.verifying)
    }

    /// The TLS configuration of one connection, and the place of its certificate.
    pub(super) fn watch(&self) -> Result<(Arc<ClientConfig>, Arc<Watch>), String> {
        let watch = Arc::new(Watch {
            verifier: Arc::clone(&self.verifier),
            provider: Arc::clone(&self.provider),
            seen: Mutex::new(None),
        });
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder
            .with_protocol_versions(rustls::ALL_VERSIONS)
            .map_err(|error| error.to_string())?;
        let verifier: Arc<Watch> = Arc::clone(&watch);
        let config = builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok((Arc::new(config), watch))
    }
}

impl Watch {
    /// The certificate, after the handshake.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        let seen = self.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Certificate {
    /// The days until it ends. None if it can't be read.
    pub(super) fn days_left(&self, now: i64) -> Option<i64> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.der).ok()?;
        let end = parsed.validity().not_after.timestamp();
        Some(end.saturating_sub(now).div_euclid(DAY))
    }

    /// The SHA-256 digest of its public key. None if it can't be read.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        let (_, parsed) = x509_parser::parse_x509_certificate(&self.der).ok()?;
        Some(Sha256::digest(parsed.public_key().raw).into())
    }
}

impl ServerCertVerifier for Watch {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .verifier
            .verify_server_cert(end_entity, intermediates, name, ocsp, now);
        let certificate = Certificate {
            der: end_entity.clone().into_owned(),
            trusted: verified
                .map(drop)
                .map_err(|error| TlsFault::of_check(&error, end_entity).to_string()),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Some(certificate);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
