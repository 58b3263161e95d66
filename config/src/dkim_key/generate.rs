//! New keys for DKIM, their files, and their records in DNS.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::pkcs8::{EncodePrivateKey as _, KeypairBytes};
use rand::Rng as _;
use rsa::{RsaPrivateKey, pkcs8::EncodePrivateKey as _, rand_core::OsRng};
use zeroize::Zeroizing;

use super::{DkimKey, RSA_CHECKED_BITS};
use crate::{
    dynamics::DkimSelector,
    values::{DkimAlgorithm, DkimHash},
};

/// The length of a line of base64 in a PEM file (RFC 7468 §2).
const LINE: usize = 64;

impl DkimKey {
    /// Makes a key: RSA with 2048 bits, or Ed25519. An RSA key takes up to some seconds of
    /// computing.
    ///
    /// # Errors
    /// If the library fails. The error is a sentence.
    pub fn generate(algorithm: DkimAlgorithm) -> Result<Self, String> {
        let (bits, der) = match algorithm {
            DkimAlgorithm::Ed25519 => {
                let mut secret = Zeroizing::new([0; 32]);
                rand::rng().fill_bytes(&mut *secret);
                // Without the public key the form is version 1, which all programs read.
                let pair = KeypairBytes {
                    secret_key: *secret,
                    public_key: None,
                };
                let der = pair.to_pkcs8_der();
                (256, der.map_err(failed)?.as_bytes().to_vec())
            }
            DkimAlgorithm::Rsa => {
                let key = RsaPrivateKey::new(&mut OsRng, RSA_CHECKED_BITS).map_err(failed)?;
                let der = key.to_pkcs8_der();
                (RSA_CHECKED_BITS, der.map_err(failed)?.as_bytes().to_vec())
            }
        };
        Ok(Self::new(algorithm, bits, der))
    }

    /// The kind of the key: `ed25519`, or `rsa-2048` with its number of bits.
    #[must_use]
    pub fn kind(&self) -> String {
        match self.algorithm {
            DkimAlgorithm::Ed25519 => self.algorithm.to_string(),
            DkimAlgorithm::Rsa => format!("{}-{}", self.algorithm, self.bits),
        }
    }

    /// The text of a file with the key: PKCS#8 in PEM (RFC 7468 §10), with `note` in a header line.
    #[must_use]
    pub fn to_pem(&self, note: &str) -> Zeroizing<String> {
        let base64 = Zeroizing::new(STANDARD.encode(self.pkcs8()));
        let mut rest = base64.as_str();
        let mut text = Zeroizing::new(String::with_capacity(base64.len() * 2 + note.len() + 100));
        text.push_str("-----BEGIN PRIVATE KEY-----\nNote: ");
        text.push_str(note);
        text.push_str("\n\n");
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(LINE));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END PRIVATE KEY-----\n");
        text
    }
}

impl DkimSelector {
    /// The text of the TXT record at `SELECTOR._domainkey.DOMAIN` (RFC 6376 §3.6.1).
    #[must_use]
    pub fn record(&self) -> String {
        let hash = match self.hash {
            DkimHash::Sha256 => "sha256",
            DkimHash::Sha1 => "sha1",
        };
        let public = self.key.public_base64();
        format!("v=DKIM1; k={}; h={hash}; p={public}", self.algorithm)
    }
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("the key library failed: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_read_from_its_file_and_has_its_public_key() {
        for (algorithm, kind, length) in [
            (DkimAlgorithm::Ed25519, "ed25519", 32),
            // A SubjectPublicKeyInfo with 2048 bits and the exponent 65537.
            (DkimAlgorithm::Rsa, "rsa-2048", 294),
        ] {
            let key = DkimKey::generate(algorithm).unwrap();
            assert_eq!(key.kind(), kind);
            let text = key.to_pem("a note: with a colon");
            assert!(text.contains("-----\nNote: a note: with a colon\n\nMI") || kind == "ed25519");
            assert!(text.lines().all(|line| line.len() <= LINE), "{}", *text);
            assert_eq!(DkimKey::from_pem(&text).unwrap(), key);
            assert_eq!(STANDARD.decode(key.public_base64()).unwrap().len(), length);
            assert_ne!(DkimKey::generate(algorithm).unwrap(), key);
        }
    }
}
