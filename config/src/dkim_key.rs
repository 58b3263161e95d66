//! Private keys for DKIM in files: PKCS#8 in PEM, with or without header lines.

mod generate;
mod sign;

use std::{fmt, sync::OnceLock};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;

pub use self::sign::{SigningKey, UnusableKey};
use crate::values::DkimAlgorithm;

/// The smallest key that verifiers must accept (RFC 8301 §3.2).
const RSA_MIN_BITS: usize = 1024;

/// The shortest RSA key that the library checks as a whole. Of shorter keys only the form is
/// checked.
const RSA_CHECKED_BITS: usize = 2048;

/// A checked private key. Its `Debug` form hides it.
pub struct DkimKey {
    algorithm: DkimAlgorithm,
    bits: usize,
    der: PrivatePkcs8KeyDer<'static>,
    /// Made with the first signature. None inside: the key can't sign.
    signing: OnceLock<Option<SigningKey>>,
}

impl PartialEq for DkimKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.der == other.der
    }
}

impl Eq for DkimKey {}

impl DkimKey {
    fn new(algorithm: DkimAlgorithm, bits: usize, der: Vec<u8>) -> Self {
        Self {
            algorithm,
            bits,
            der: der.into(),
            signing: OnceLock::new(),
        }
    }

    /// Reads the text of a PEM file. Header lines such as `Note: ...` are skipped, as is all text
    /// before and after the first key.
    ///
    /// # Errors
    /// A sentence that can follow the name of the file.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        let der = pkcs8_of_pem(text)?;
        if Ed25519KeyPair::from_pkcs8(&der).is_ok() {
            return Ok(Self::new(DkimAlgorithm::Ed25519, 256, der));
        }
        let bits = rsa_bits(&der)
            .filter(|bits| *bits < RSA_CHECKED_BITS || RsaKeyPair::from_pkcs8(&der).is_ok())
            .ok_or(
                "holds neither an RSA nor an Ed25519 key in PKCS#8; make one: openssl genpkey \
                -algorithm ed25519 -out FILE",
            )?;
        if bits < RSA_MIN_BITS {
            return Err(format!(
                "holds an RSA key of {bits} bits; verifiers do not accept it; make a key of 2048 bits"
            ));
        }
        Ok(Self::new(DkimAlgorithm::Rsa, bits, der))
    }

    /// The key, ready to sign.
    ///
    /// # Errors
    /// The library does not sign with such a key.
    pub fn signing(&self) -> Result<&SigningKey, UnusableKey> {
        let signing = self
            .signing
            .get_or_init(|| SigningKey::new(self.algorithm, self.pkcs8()));
        signing.as_ref().ok_or(UnusableKey)
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

    /// The public key in base64, as the `p=` of its record has it: SubjectPublicKeyInfo of an RSA
    /// key (RFC 6376 §3.6.1), the bare bytes of an Ed25519 key (RFC 8463 §4.2).
    #[must_use]
    pub fn public_base64(&self) -> String {
        use base64::Engine as _;

        let public = match self.algorithm {
            DkimAlgorithm::Ed25519 => Ed25519KeyPair::from_pkcs8(self.pkcs8())
                .map(|pair| pair.public_key().as_ref().to_vec())
                .ok(),
            DkimAlgorithm::Rsa => rsa_public(self.pkcs8()),
        };
        // Such a key was checked when it was read.
        base64::engine::general_purpose::STANDARD.encode(public.unwrap_or_default())
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

/// The bytes of the first `PRIVATE KEY` block of a PEM file: a private key as PKCS#8 in DER. Header
/// lines such as `Note: ...` are skipped.
///
/// # Errors
/// A sentence that can follow the name of the file.
pub fn pkcs8_of_pem(text: &str) -> Result<Vec<u8>, String> {
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

/// The identifier of the algorithm rsaEncryption (RFC 8017 Appendix C).
const RSA_ENCRYPTION: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The number of bits in the modulus of an RSA key in PKCS#8. None if the bytes are no such key.
fn rsa_bits(pkcs8: &[u8]) -> Option<usize> {
    let (modulus, _) = rsa_numbers(pkcs8)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let modulus = modulus.get(zeros..)?;
    Some(modulus.len() * 8 - modulus.first()?.leading_zeros() as usize)
}

/// The public half of an RSA key in PKCS#8, as SubjectPublicKeyInfo in DER (RFC 5280 §4.1).
fn rsa_public(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (modulus, exponent) = rsa_numbers(pkcs8)?;
    let key = [made(INTEGER, modulus), made(INTEGER, exponent)].concat();
    let algorithm = [made(IDENTIFIER, RSA_ENCRYPTION), made(NULL, b"")].concat();
    // The first byte of a BIT STRING is the number of unused bits.
    let key = [vec![0], made(SEQUENCE, &key)].concat();
    let info = [made(SEQUENCE, &algorithm), made(BIT_STRING, &key)].concat();
    Some(made(SEQUENCE, &info))
}

/// The modulus and the public exponent of an RSA key in PKCS#8, as DER has them. None if the bytes
/// are no such key.
fn rsa_numbers(pkcs8: &[u8]) -> Option<(&[u8], &[u8])> {
    // PrivateKeyInfo (RFC 5208 §5): version, algorithm, key.
    let (info, end) = element(pkcs8, SEQUENCE)?;
    let (_version, info) = element(info, INTEGER)?;
    let (algorithm, info) = element(info, SEQUENCE)?;
    let (identifier, _) = element(algorithm, IDENTIFIER)?;
    let (key, _) = element(info, OCTET_STRING)?;
    if !end.is_empty() || identifier != RSA_ENCRYPTION {
        return None;
    }
    // RSAPrivateKey (RFC 8017 Appendix A.1.2): version, modulus, and more.
    let (key, _) = element(key, SEQUENCE)?;
    let (_version, key) = element(key, INTEGER)?;
    let (modulus, key) = element(key, INTEGER)?;
    let (exponent, key) = element(key, INTEGER)?;
    // Private exponent, two primes, two exponents and a coefficient follow.
    let mut rest = key;
    for _ in 0..5 {
        (_, rest) = element(rest, INTEGER)?;
    }
    Some((modulus, exponent))
}

/// An element in DER. Its content is shorter than 64 KiB, as that of any key.
fn made(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let mut der = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    der.extend_from_slice(content);
    der
}

/// The first element of some DER (X.690), which must have this tag, and the bytes behind it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    if found != tag {
        return None;
    }
    // A length up to 127 is one byte. Else the byte says how many bytes hold the length.
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(file: &str) -> Vec<u8> {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../testdata/config/dynamic/keys"
        );
        let text = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
        pkcs8_of_pem(&text).unwrap()
    }

    #[test]
    fn the_bits_of_rsa_keys() {
        for (file, bits) in [
            ("rsa512.pem", 512),
            ("rsa1024.pem", 1024),
            ("rsa2048.pem", 2048),
        ] {
            assert_eq!(rsa_bits(&der(file)), Some(bits));
        }
        assert_eq!(rsa_bits(&der("ed25519.pem")), None);
    }

    #[test]
    fn the_public_keys_of_records() {
        // openssl pkey -in FILE -pubout -outform DER | base64
        for (file, public) in [
            (
                "rsa1024.pem",
                "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDVfMUj56f5xa7ZJUZbVL5Z3rMPFWUkacyRJ0ta
                 hLou+uxa5JLNjHlZcdCsGBQ+wvadEsJog4F/AzPDQ4OnqXKyLDRg0A5Y0UUwSPTcJEW4baOK9wjj
                 0o6NPdGc/4RiKdZFlaBF7Lq/5mGQkKtMfKzxB6vw/YRTe9Q4vdz3dhz5AwIDAQAB",
            ),
            (
                "rsa2048.pem",
                "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAplm8ygLWS+FE5gqMUoCY4NYUSRp0REzO
                 a+sOeMk5FHJIiaxwO9kZnrPYo/JdUsNERDPe3Qqc2WMg/IX4jhniyeDuCtW73bLHOiXJzUWl2lw4
                 PwOIZVIx+aZT3oMekSdce+5IGLAyCa7xgyTSHnPsUl23yETPyfr51YQucjVXWimK5kAoDGcc4x8D
                 Js4m48dSJ9mJ6GADj0NjqpPeudK4Hq0agi+yfvLUd5BywzU1b80B8f6etmJLEZ9WlFFoRyaYR+GZ
                 j0uQ6Vg+5iUqs/Or7LcIgI/i7lbBFpyAtq8YGreGfG1SsIvyZncVRf7IYeyAxzk7kRUMC/uwmKil
                 lYdI3wIDAQAB",
            ),
        ] {
            let public = public.replace(['\n', ' '], "");
            let key = DkimKey::new(DkimAlgorithm::Rsa, 0, der(file));
            assert_eq!(key.public_base64(), public, "{file}");
        }
        let key = DkimKey::new(DkimAlgorithm::Ed25519, 256, der("ed25519.pem"));
        // The last 32 bytes of the same.
        assert_eq!(
            key.public_base64(),
            "uLD5FFdvT0iuA8VT0obG1X+pXHOfeq1D6/QlpDZwOHU="
        );
    }

    #[test]
    fn a_damaged_key_is_no_key() {
        let key = der("rsa2048.pem");
        for cut in 0..key.len() {
            assert_eq!(rsa_bits(&key[..cut]), None, "{cut}");
        }
        assert_eq!(rsa_bits(&[&key[..], b"x"].concat()), None);
        for at in 0..30 {
            let mut damaged = key.clone();
            damaged[at] ^= 0x40;
            // Any result is fine, a panic is not.
            let _ = rsa_bits(&damaged);
        }
    }
}
