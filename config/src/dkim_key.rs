//! Private keys for DKIM in files: PKCS#8 in PEM, with or without header lines.

use std::fmt;

use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use rsa::{pkcs8::DecodePrivateKey as _, traits::PublicKeyParts as _};
use rustls::pki_types::PrivatePkcs8KeyDer;

use crate::values::DkimAlgorithm;

/// The smallest key that verifiers must accept (RFC 8301 §3.2).
const RSA_MIN_BITS: usize = 1024;

/// A private key, checked. Its `Debug` form hides it.
#[derive(PartialEq, Eq)]
pub struct DkimKey {
    algorithm: DkimAlgorithm,
    bits: usize,
    der: PrivatePkcs8KeyDer<'static>,
}

impl DkimKey {
    /// Reads the text of a PEM file. Header lines such as `Note: ...` are skipped, as is all text
    /// before and after the first key.
    ///
    /// # Errors
    /// A sentence that can follow the name of the file.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        let der = first_private_key(text)?;
        if let Ok(key) = ed25519_dalek::SigningKey::from_pkcs8_der(&der) {
            let bits = key.to_bytes().len() * 8;
            return Ok(Self {
                algorithm: DkimAlgorithm::Ed25519,
                bits,
                der: der.into(),
            });
        }
        let key = rsa::RsaPrivateKey::from_pkcs8_der(&der).map_err(|_| {
            "holds neither an RSA nor an Ed25519 key in PKCS#8; make one: openssl genpkey \
            -algorithm ed25519 -out FILE"
                .to_owned()
        })?;
        let bits = key.n().bits();
        if bits < RSA_MIN_BITS {
            return Err(format!(
                "holds an RSA key of {bits} bits; verifiers do not accept it; make a key of 2048 bits"
            ));
        }
        Ok(Self {
            algorithm: DkimAlgorithm::Rsa,
            bits,
            der: der.into(),
        })
    }

    /// The algorithm of the key.
    #[must_use]
    pub const fn algorithm(&self) -> DkimAlgorithm {
        self.algorithm
    }

    /// The bits of the modulus. 256 for Ed25519.
    #[must_use]
    pub const fn bits(&self) -> usize {
        self.bits
    }

    /// The key as PKCS#8 in DER.
    #[must_use]
    pub fn pkcs8(&self) -> &[u8] {
        self.der.secret_pkcs8_der()
    }
}

impl fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DkimKey({}, {} bits)", self.algorithm, self.bits)
    }
}

/// The bytes of the first `PRIVATE KEY` block.
fn first_private_key(text: &str) -> Result<Vec<u8>, String> {
    let mut lines = text.lines().map(str::trim);
    let label = lines
        .by_ref()
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .ok_or("is not a PEM file: no line \"-----BEGIN PRIVATE KEY-----\"")?;
    if label != "PRIVATE KEY" {
        return Err(format!(
            "starts with a block of type {label:?}; a key in PKCS#8, of type \"PRIVATE KEY\", is needed \
             (\"openssl pkcs8 -topk8 -nocrypt\" makes one of another private key)"
        ));
    }
    let end = format!("-----END {label}-----");
    let mut base64 = String::new();
    let mut ended = false;
    for line in lines {
        if line == end {
            ended = true;
            break;
        }
        // Skip RFC 1421 header fields. RFC 7468 parsers refuse them. Base64 has no colon. A
        // continuation line of a field would count as base64 and then be an error, but nobody
        // writes such lines.
        if !line.contains(':') {
            base64.push_str(line);
        }
    }
    if !ended {
        return Err(format!("is cut off: no line {end:?}"));
    }
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(base64)
        .map_err(|error| format!("is damaged: {error}"))
}
