//! Signatures by a private key (RFC 6376 §3.3, RFC 8463 §3).

use aws_lc_rs::{
    digest::Digest,
    signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};

use crate::values::DkimAlgorithm;

/// A private key that can't sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the private key can't be used: aws-lc-rs signs with RSA keys of at least 2048 bits and Ed25519 keys"
)]
pub struct UnusableKey;

/// A private key that is ready to sign.
#[derive(Debug)]
pub enum SigningKey {
    /// RFC 8301.
    Rsa(RsaKeyPair),
    /// RFC 8463.
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Prepares a key in PKCS#8. None: it can't sign.
    pub(super) fn new(algorithm: DkimAlgorithm, pkcs8: &[u8]) -> Option<Self> {
        match algorithm {
            DkimAlgorithm::Rsa => RsaKeyPair::from_pkcs8(pkcs8).ok().map(Self::Rsa),
            DkimAlgorithm::Ed25519 => Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8)
                .ok()
                .map(Self::Ed25519),
        }
    }

    /// The name of the algorithm, `a=`.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "rsa-sha256",
            Self::Ed25519(_) => "ed25519-sha256",
        }
    }

    /// Signs a SHA-256 hash.
    ///
    /// # Errors
    /// If the library fails.
    pub fn sign(&self, digest: &Digest) -> Result<Vec<u8>, UnusableKey> {
        match self {
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign_digest(&RSA_PKCS1_SHA256, digest, &mut signature)
                    .map_err(|_| UnusableKey)?;
                Ok(signature)
            }
            Self::Ed25519(key) => {
                let signature = key.try_sign(digest.as_ref()).map_err(|_| UnusableKey)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use crate::{DkimAlgorithm, DkimKey};

    #[test]
    fn keys_sign() {
        for (algorithm, name) in [
            (DkimAlgorithm::Ed25519, "ed25519-sha256"),
            (DkimAlgorithm::Rsa, "rsa-sha256"),
        ] {
            let key = DkimKey::generate(algorithm).unwrap();
            let signing = key.signing().unwrap();
            assert_eq!(signing.algorithm(), name);
            assert!(!signing.sign(&digest(&SHA256, b"")).unwrap().is_empty());
        }
    }
}
