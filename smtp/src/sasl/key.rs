//! The keys of client certificates: which of them may log in, and their fingerprints.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use x509_parser::{
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
        OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
    },
    parse_x509_certificate,
    public_key::PublicKey,
    x509::SubjectPublicKeyInfo,
};

/// The fewest bits of an RSA key.
const RSA_MIN: usize = 2048;
/// The most bits of an RSA key. The checks of signatures take no larger ones.
const RSA_MAX: usize = 8192;

/// The reasons why no key of a certificate may log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is not X.509.
    #[error("the certificate can't be read: its DER is not that of X.509")]
    Unreadable,
    /// The key is of a kind that is not taken.
    #[error("the key is neither RSA, ECDSA nor Ed25519")]
    Kind,
    /// The key is on a curve that is not taken.
    #[error("the curve of the key is not P-256, P-384 or P-521")]
    Curve,
    /// The RSA key is too small or too large. The number is that of its bits.
    #[error("the RSA key has {0} bits; it needs {RSA_MIN} at least, and {RSA_MAX} at most")]
    RsaSize(usize),
}

/// The key of a certificate that may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginKey {
    /// Its kind: `ed25519`, `ecdsa-p256`, `rsa-2048` and the like.
    pub kind: String,
    /// SHA-256 of its SubjectPublicKeyInfo, in base64url without padding. It is the same for all
    /// certificates of a key.
    pub fingerprint: String,
}

/// The key in a certificate.
///
/// # Errors
/// If the certificate can't be read, or the key may not log in.
pub fn login_key(certificate: &[u8]) -> Result<LoginKey, KeyError> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(|_| KeyError::Unreadable)?;
    let key = parsed.public_key();
    Ok(LoginKey {
        kind: kind(key)?,
        fingerprint: BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, key.raw)),
    })
}

fn kind(key: &SubjectPublicKeyInfo<'_>) -> Result<String, KeyError> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_SIG_ED25519 {
        return Ok("ed25519".to_owned());
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref();
        let curve = curve.and_then(|curve| curve.as_oid().ok());
        return match curve {
            Some(curve) if curve == OID_EC_P256 => Ok("ecdsa-p256".to_owned()),
            Some(curve) if curve == OID_NIST_EC_P384 => Ok("ecdsa-p384".to_owned()),
            Some(curve) if curve == OID_NIST_EC_P521 => Ok("ecdsa-p521".to_owned()),
            _ => Err(KeyError::Curve),
        };
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if *algorithm == OID_PKCS1_RSAENCRYPTION => match rsa.key_size() {
            bits if (RSA_MIN..=RSA_MAX).contains(&bits) => Ok(format!("rsa-{bits}")),
            bits => Err(KeyError::RsaSize(bits)),
        },
        _ => Err(KeyError::Kind),
    }
}

/// The [fingerprint](LoginKey::fingerprint) of the key in a certificate. None if the certificate
/// can't be read, or has a key that may not log in.
#[must_use]
pub fn key_fingerprint(certificate: &[u8]) -> Option<String> {
    Some(login_key(certificate).ok()?.fingerprint)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    #[test]
    fn a_key_that_may_not_log_in_has_no_fingerprint() {
        for (file, error) in [
            ("rsa-1024", Some(KeyError::RsaSize(1024))),
            ("secp256k1", Some(KeyError::Curve)),
            ("version-1", None),
        ] {
            let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/tls");
            let file = format!("{dir}/{file}.crt");
            let certificate = CertificateDer::from_pem_file(&file).unwrap();
            assert_eq!(login_key(&certificate).err(), error, "{file}");
            assert_eq!(
                key_fingerprint(&certificate).is_none(),
                error.is_some(),
                "{file}"
            );
        }
        assert_eq!(login_key(b"no certificate"), Err(KeyError::Unreadable));
    }
}
