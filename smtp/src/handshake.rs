//! The signatures of TLS handshakes, checked by nothing but the key of a certificate.
//!
//! The functions of rustls read the whole certificate first. They refuse one of version 1, or with
//! an extension that they do not know, though its key is as good as any.

use rustls::{
    CertificateError, DigitallySignedStruct, Error,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
};
use webpki::RawPublicKeyEntity;
use x509_parser::parse_x509_certificate;

/// Checks the signature of a handshake of TLS 1.2 (RFC 5246 §7.4.3, §7.4.8).
///
/// # Errors
/// If the certificate has no key that can be read, or the signature is not by it.
pub fn verify_tls12_by_key(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = key(certificate)?;
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
    let mut schemes = algorithms.mapping.iter();
    let scheme = schemes.find(|(scheme, _)| *scheme == signature.scheme);
    // A scheme of TLS 1.2 does not tell the curve, so it has more than one algorithm.
    let mut fitting = scheme.iter().flat_map(|(_, algorithms)| algorithms.iter());
    let is_right = fitting.any(|algorithm| {
        let verified = key.verify_signature(*algorithm, message, signature.signature());
        verified.is_ok()
    });
    match is_right {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

/// Checks the signature of a handshake of TLS 1.3 (RFC 8446 §4.4.3).
///
/// # Errors
/// If the certificate has no key that can be read, or the signature is not by it.
pub fn verify_tls13_by_key(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature_with_raw_key(message, &key(certificate)?, signature, algorithms)
}

fn key<'a>(certificate: &'a CertificateDer<'_>) -> Result<SubjectPublicKeyInfoDer<'a>, Error> {
    let (_, parsed) =
        parse_x509_certificate(certificate).map_err(|_| CertificateError::BadEncoding)?;
    Ok(SubjectPublicKeyInfoDer::from(
        parsed.tbs_certificate.subject_pki.raw,
    ))
}
