//! Certificates of clients: asked for, and never required.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::RawPublicKeyEntity;
use x509_parser::parse_x509_certificate;

use crate::sasl::key_fingerprint;

/// Takes any certificate of a client, from any issuer and of any date. The handshake proves that
/// the client has its key. Whether the key may log in is decided at AUTH EXTERNAL.
///
/// A certificate that can't be read, or whose key may not log in, does not break the handshake, and
/// proves nothing: it has no [fingerprint](key_fingerprint).
pub struct AnyClientCertificate {
    provider: Arc<CryptoProvider>,
}

impl AnyClientCertificate {
    /// A verifier with the algorithms of this provider.
    #[must_use]
    pub fn new(provider: Arc<CryptoProvider>) -> Arc<Self> {
        Arc::new(Self { provider })
    }
}

impl AnyClientCertificate {
    /// Checks a signature with the first `count` algorithms of its scheme. Nothing of the
    /// certificate but the key counts. So certificates of version 1 and with unknown extensions are
    /// taken, which rustls refuses.
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
        count: usize,
    ) -> Result<HandshakeSignatureValid, Error> {
        if key_fingerprint(certificate).is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let bad = |error: CertificateError| Error::InvalidCertificate(error);
        let (_, parsed) =
            parse_x509_certificate(certificate).map_err(|_| bad(CertificateError::BadEncoding))?;
        let key = SubjectPublicKeyInfoDer::from(parsed.public_key().raw);
        let key =
            RawPublicKeyEntity::try_from(&key).map_err(|_| bad(CertificateError::BadEncoding))?;
        let schemes = self.provider.signature_verification_algorithms.mapping;
        let scheme = schemes
            .iter()
            .find(|(scheme, _)| *scheme == signature.scheme);
        let algorithms = scheme.map_or([].as_slice(), |(_, algorithms)| algorithms);
        let is_right = algorithms.iter().take(count).any(|algorithm| {
            let verified = key.verify_signature(*algorithm, message, signature.signature());
            verified.is_ok()
        });
        match is_right {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(bad(CertificateError::BadSignature)),
        }
    }
}

impl fmt::Debug for AnyClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyClientCertificate")
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // A scheme of TLS 1.2 does not tell the curve.
        self.verify(message, certificate, signature, usize::MAX)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signature, 1)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
