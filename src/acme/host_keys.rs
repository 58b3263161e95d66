//! Host keys: private keys that stay the same when a certificate is renewed, so that the TLSA
//! records of the host (RFC 7672) stay true.

use std::{fmt, fmt::Write as _, path::Path, sync::Arc};

use anyhow::{Context, bail};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use rustls::{crypto::aws_lc_rs, pki_types::PrivateKeyDer, sign::SigningKey};
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use crate::tls::read_private_key;

/// The shortest RSA key that CAs accept.
const RSA_MIN_BITS: usize = 2048;

/// A host key.
#[derive(Clone)]
pub(super) struct HostKey {
    /// The SHA-256 of its SubjectPublicKeyInfo in hexadecimal, as the TLSA record `3 1 1` has it.
    pub(super) id: String,
    /// Signs requests for certificates.
    pub(super) pair: Arc<KeyPair>,
    /// Signs TLS handshakes.
    pub(super) signing: Arc<dyn SigningKey>,
}

impl HostKey {
    /// Reads a key from a PEM file.
    ///
    /// # Errors
    /// If the file has no RSA key of at least 2048 bits and no P-256 key.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let key = read_private_key(file)?;
        Self::of(&key).with_context(|| {
            format!(
                "{}: the key can't be used for certificates; it must be RSA of at least 2048 bits \
                 or ECDSA P-256 (openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256)",
                file.display()
            )
        })
    }

    fn of(key: &PrivateKeyDer<'_>) -> anyhow::Result<Self> {
        let signing = aws_lc_rs::sign::any_supported_type(key)?;
        let pair = KeyPair::try_from(key)?;
        let usable = [&PKCS_ECDSA_P256_SHA256, &PKCS_RSA_SHA256];
        if !usable.contains(&pair.algorithm()) {
            bail!("this kind of key is not supported");
        }
        let public = signing.public_key().context("the public half is missing")?;
        if let Some(bits) = rsa_bits(&public)
            && bits < RSA_MIN_BITS
        {
            bail!("the RSA key has only {bits} bits");
        }
        Ok(Self {
            id: hash(&public),
            pair: Arc::new(pair),
            signing,
        })
    }

    /// A new P-256 key.
    #[cfg(test)]
    pub(super) fn p256() -> Self {
        let pair = KeyPair::generate().unwrap();
        Self::of(&PrivateKeyDer::try_from(pair.serialize_der()).unwrap()).unwrap()
    }
}

/// Hides the key.
impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({})", self.id)
    }
}

/// The bits of an RSA key, given by its SubjectPublicKeyInfo.
fn rsa_bits(public: &[u8]) -> Option<usize> {
    let (_, info) = SubjectPublicKeyInfo::from_der(public).ok()?;
    match info.parsed().ok()? {
        PublicKey::RSA(key) => Some(key.key_size()),
        _ => None,
    }
}

fn hash(public: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let mut id = String::new();
    for byte in Sha256::digest(public) {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

#[cfg(test)]
mod tests {
    use rcgen::{PKCS_ED25519, RsaKeySize};

    use super::*;

    #[test]
    fn rsa_and_p256_are_read_and_others_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("host.pem");
        let read = |pair: &KeyPair| {
            postrider_config::replace_private(&file, pair.serialize_pem().as_ref()).unwrap();
            HostKey::read(&file)
        };
        let p256 = read(&KeyPair::generate().unwrap()).unwrap();
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let noted = rsa
            .serialize_pem()
            .replacen('\n', "\nNote: a host key\n\n", 1);
        postrider_config::replace_private(&file, noted.as_ref()).unwrap();
        let rsa = HostKey::read(&file).unwrap();
        assert_ne!(p256.id, rsa.id);
        assert_eq!(p256.id.len(), 64);
        let ed25519 = read(&KeyPair::generate_for(&PKCS_ED25519).unwrap());
        let error = format!("{:#}", ed25519.unwrap_err());
        assert!(
            error.contains("host.pem") && error.contains("P-256"),
            "{error}"
        );
        postrider_config::replace_private(&file, "no key".as_ref()).unwrap();
        assert!(HostKey::read(&file).is_err());
    }
}
