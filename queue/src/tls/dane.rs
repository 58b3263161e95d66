//! The check of a certificate by the TLSA records of a host (RFC 7672 §3.2).

use std::sync::Arc;

use postrider_smtp::{
    Certificate,
    client::{TlsFault, TlsFaultKind},
    verify_tls12_by_key, verify_tls13_by_key,
};
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::tlsa::{Mismatch, TlsaSet};

/// What a certificate is checked by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DaneCheck {
    /// Not empty.
    pub(crate) records: TlsaSet,
    /// The name that the records belong to. The host is asked for its certificate by this name.
    pub(crate) base: String,
    /// The names that a certificate under a trust anchor of the records may have; `base` is one.
    pub(crate) names: Vec<String>,
}

impl DaneCheck {
    /// Checks the certificates of a server, its own first.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn check(
        &self,
        certificates: &[CertificateDer<'_>],
        now: UnixTime,
        provider: &CryptoProvider,
    ) -> Result<(), Box<TlsFault>> {
        let algorithms = &provider.signature_verification_algorithms;
        let checked = self
            .records
            .check(certificates, &self.names, now, algorithms);
        checked.map_err(|mismatch| {
            let (kind, text) = fault(&mismatch);
            let leaf = certificates.first();
            Box::new(TlsFault {
                kind,
                text,
                certificate: leaf.and_then(|leaf| Certificate::read(leaf)),
            })
        })
    }
}

fn fault(mismatch: &Mismatch) -> (TlsFaultKind, String) {
    match mismatch {
        Mismatch::NoMatch => (TlsFaultKind::NoTlsaMatch, String::new()),
        Mismatch::Names => (
            TlsFaultKind::NameMismatch,
            "a TLSA record matches its issuer".to_owned(),
        ),
        Mismatch::AnchorDates => (
            TlsFaultKind::Expired,
            "the issuer that a TLSA record matches is not valid now".to_owned(),
        ),
        Mismatch::Chain(error) => match error {
            webpki::Error::CertExpired { .. } => (TlsFaultKind::Expired, String::new()),
            webpki::Error::CertNotValidYet { .. } => (TlsFaultKind::NotYetValid, String::new()),
            // The chain does not lead to the anchor of the record.
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                (TlsFaultKind::NoTlsaMatch, String::new())
            }
            error => (TlsFaultKind::BadCertificate, error.to_string()),
        },
    }
}

/// Checks certificates by the records of one host. A record of usage 3 may match a certificate that
/// rustls can't read, so the handshake is checked by its key alone.
#[derive(Debug)]
pub(super) struct DaneVerifier {
    pub(super) check: DaneCheck,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for DaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = std::iter::once(end_entity);
        let chain: Vec<_> = leaf.chain(intermediates).cloned().collect();
        let checked = self.check.check(&chain, now, &self.provider);
        checked.map_err(|fault| Error::from(*fault))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_by_key(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_by_key(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests;
