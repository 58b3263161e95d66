//! Public keys: their records in DNS (RFC 6376 §3.6.1, RFC 8463 §4), and the check of a signature.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::{
    digest::Digest,
    signature::{ED25519, ParsedPublicKey, RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY},
};
use futures_util::future::join_all;
use postrider_dns::DnsError;

use super::{
    SignatureFault,
    signature::Algorithm,
    tags::{Tags, base64, name_and_value, parts},
};
use crate::checks::questions::Questions;

/// The shortest and the longest RSA keys, in bits (RFC 8301 §3.2).
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=4096;

/// The longest RSA key whose check holds up no other session for a time that matters, in bits.
const RSA_SHORT: usize = 2048;

/// A public key.
#[derive(Debug)]
pub(crate) struct Key {
    algorithm: Algorithm,
    key: ParsedPublicKey,
    bits: usize,
    /// `t=y`: the domain tests its key.
    pub(crate) is_test: bool,
    /// `t=s`: the domain of `i=` has to be `d=`.
    pub(crate) is_strict: bool,
    /// `s=`: the key is for mail.
    is_for_mail: bool,
    /// `s=`: the key is for reports about TLS (RFC 8460 §3).
    pub(crate) is_for_tls_reports: bool,
}

impl Key {
    /// The key in the TXT records of a name. Records without a key are ignored.
    fn of_records(records: &[Vec<u8>]) -> Result<Self, SignatureFault> {
        let mut keys = records.iter().filter(|record| looks_like_key(record));
        let record = keys.next().ok_or(SignatureFault::NoKey)?;
        match keys.next() {
            Some(_) => Err(SignatureFault::SeveralKeys),
            None => Self::parse(record),
        }
    }

    /// Reads one record.
    fn parse(record: &[u8]) -> Result<Self, SignatureFault> {
        let tags = Tags::parse(record).map_err(|_| SignatureFault::KeySyntax)?;
        match tags.get("v") {
            None => {}
            Some(b"DKIM1") if tags.first() == b"v" => {}
            Some(_) => return Err(SignatureFault::KeyVersion),
        }
        let has = |name, wanted: &[&[u8]]| {
            let listed = tags.get(name);
            listed.is_none_or(|listed| {
                parts(listed).any(|part| wanted.iter().any(|one| part.eq_ignore_ascii_case(one)))
            })
        };
        let flag = |wanted| tags.get("t").is_some() && has("t", &[wanted]);
        let public = tags.get("p").ok_or(SignatureFault::KeySyntax)?;
        if public.is_empty() {
            return Err(SignatureFault::Revoked);
        }
        let is_ed25519 = match tags.get("k").map(<[u8]>::to_ascii_lowercase).as_deref() {
            None | Some(b"rsa") => false,
            Some(b"ed25519") => true,
            Some(_) => return Err(SignatureFault::KeyType),
        };
        if !has("h", &[b"sha256"]) {
            return Err(SignatureFault::KeyHash);
        }
        let is_for_mail = has("s", &[b"*", b"email"]);
        let is_for_tls_reports = has("s", &[b"*", b"tlsrpt"]);
        if !is_for_mail && !is_for_tls_reports {
            return Err(SignatureFault::KeyService);
        }
        let public = base64(public).ok_or(SignatureFault::KeySyntax)?;
        let (algorithm, key, bits) = match is_ed25519 {
            true => ed25519(&public)?,
            false => rsa(&public)?,
        };
        Ok(Self {
            algorithm,
            key,
            bits,
            is_test: flag(b"y"),
            is_strict: flag(b"s"),
            is_for_mail,
            is_for_tls_reports,
        })
    }

    /// Whether the key is for this algorithm.
    pub(crate) fn accepts(&self, algorithm: Algorithm) -> Result<(), SignatureFault> {
        match algorithm == self.algorithm {
            true => Ok(()),
            false => Err(SignatureFault::KeyType),
        }
    }

    /// Whether the key is for mail.
    pub(crate) const fn check_service(&self) -> Result<(), SignatureFault> {
        match self.is_for_mail {
            true => Ok(()),
            false => Err(SignatureFault::KeyService),
        }
    }

    /// Checks the signature of a header hash.
    pub(crate) fn verify(&self, digest: &Digest, signature: &[u8]) -> Result<(), SignatureFault> {
        let verified = match self.algorithm {
            Algorithm::Rsa => self.key.verify_digest_sig(digest, signature),
            // RFC 8463 §3: the message of Ed25519 is the hash.
            Algorithm::Ed25519 => self.key.verify_sig(digest.as_ref(), signature),
        };
        verified.map_err(|_| SignatureFault::Signature)
    }
}

/// Whether a TXT record is meant as a key. Such a name often has other records too, when all names
/// of a zone have them.
fn looks_like_key(record: &[u8]) -> bool {
    let specs = record.split(|byte| *byte == b';');
    let mut tags = specs.filter_map(name_and_value);
    tags.any(|(name, value)| name == b"p" || name == b"v" && value == b"DKIM1")
}

type Parsed = (Algorithm, ParsedPublicKey, usize);

fn ed25519(public: &[u8]) -> Result<Parsed, SignatureFault> {
    let key = ParsedPublicKey::new(&ED25519, public).ok();
    let key = key.filter(|_| public.len() == 32);
    let key = key.ok_or(SignatureFault::KeySyntax)?;
    Ok((Algorithm::Ed25519, key, 256))
}

fn rsa(public: &[u8]) -> Result<Parsed, SignatureFault> {
    let bits = rsa_bits(public).ok_or(SignatureFault::KeySyntax)?;
    if bits < *RSA_BITS.start() {
        return Err(SignatureFault::KeyTooShort);
    }
    if bits > *RSA_BITS.end() {
        return Err(SignatureFault::KeyTooLong);
    }
    let key = ParsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, public);
    let key = key.map_err(|_| SignatureFault::KeySyntax)?;
    Ok((Algorithm::Rsa, key, bits))
}

/// The bits of the modulus of an RSA key in DER: a SubjectPublicKeyInfo, or the bare RSAPublicKey
/// that is in it (RFC 8017 §A.1.1).
fn rsa_bits(der: &[u8]) -> Option<usize> {
    const INTEGER: u8 = 2;
    const BIT_STRING: u8 = 3;
    const SEQUENCE: u8 = 0x30;
    let (mut numbers, _) = element(der, SEQUENCE)?;
    if numbers.first() == Some(&SEQUENCE) {
        let (_, key) = element(numbers, SEQUENCE)?;
        let (key, _) = element(key, BIT_STRING)?;
        (numbers, _) = element(key.get(1..)?, SEQUENCE)?;
    }
    let (modulus, _) = element(numbers, INTEGER)?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    let zeros = modulus.get(first)?.leading_zeros() as usize;
    Some((modulus.len() - first) * 8 - zeros)
}

/// The content of the first element of a text in DER, and what comes after it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = der.split_at_checked(2)?;
    let (&[found, length], mut rest) = (head, rest) else {
        return None;
    };
    let mut length = usize::from(length);
    if length >= 0x80 {
        let (digits, after) = rest.split_at_checked(length - 0x80)?;
        rest = after;
        let digits = (digits.len() <= 2).then_some(digits)?;
        length = digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
    }
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

/// The keys of the signatures of a message, by their names in DNS.
#[derive(Debug, Default)]
pub struct Keys(BTreeMap<String, Result<Arc<Key>, SignatureFault>>);

impl Keys {
    /// Asks for the keys of these names, each name once.
    pub(crate) async fn ask<'a>(
        &mut self,
        questions: &Questions,
        names: impl Iterator<Item = &'a str>,
    ) {
        let mut new: Vec<&str> = names.filter(|name| !self.0.contains_key(*name)).collect();
        new.sort_unstable();
        new.dedup();
        let answers = join_all(new.iter().map(|name| ask(questions, name))).await;
        let names = new.into_iter().map(str::to_owned);
        self.0.extend(names.zip(answers));
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<Key>, SignatureFault> {
        let found = self.0.get(name).cloned();
        found.unwrap_or(Err(SignatureFault::NoAnswer))
    }

    /// Whether the check of a signature takes long, because a key has more than 2048 bits.
    pub(crate) fn is_long_work(&self) -> bool {
        let mut keys = self.0.values().flatten();
        keys.any(|key| key.algorithm == Algorithm::Rsa && key.bits > RSA_SHORT)
    }
}

async fn ask(questions: &Questions, name: &str) -> Result<Arc<Key>, SignatureFault> {
    match questions.ask(|dns| dns.txt(name)).await {
        Ok(answer) => Key::of_records(&answer.records).map(Arc::new),
        Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => Err(SignatureFault::NoKey),
        Err(DnsError::Temporary(_) | DnsError::Bogus { .. } | DnsError::System { .. }) => {
            Err(SignatureFault::NoAnswer)
        }
    }
}
