//! Our own set, for a message that is forwarded (RFC 8617 §5.1).

use aws_lc_rs::digest::{Digest, SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use postrider_config::{DkimSelector, SigningKey, UnusableKey};
use postrider_smtp::{
    Domain,
    canonical::{self, Form, TagLines},
};
use postrider_store::Time;

use super::{ArcChain, ArcOutcome, ArcResult, MAX_SETS};
use crate::checks::dkim::{BodyHashes, HeaderFields, MAX_NAMES};

/// Why a message can't be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The private key can't be used.
    #[error(transparent)]
    Key(#[from] UnusableKey),
    /// The body was not hashed in the relaxed form.
    #[error("the body was not hashed in the relaxed form")]
    BodyNotRead,
}

/// A private key that seals.
pub trait SealKey {
    /// The name of the algorithm, `a=`.
    fn algorithm(&self) -> &'static str;

    /// Signs a hash.
    ///
    /// # Errors
    /// The key can't sign.
    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SealError>;
}

impl SealKey for SigningKey {
    fn algorithm(&self) -> &'static str {
        self.algorithm()
    }

    fn sign(&self, digest: &Digest) -> Result<Vec<u8>, SealError> {
        Ok(self.sign(digest)?)
    }
}

/// Who seals, and what.
pub struct Sealer<'a> {
    /// The domain that seals, `d=`.
    pub domain: &'a Domain,
    /// The selector of its key, `s=`.
    pub selector: &'a Domain,
    /// The private key.
    pub key: &'a dyn SealKey,
    /// The names of the fields that the message signature covers, `h=`.
    pub names: &'a [String],
}

/// The names that the message signature covers: those that the domain's DKIM signatures cover, and
/// DKIM-Signature. Results of checks are not among them, since the next server removes ours, nor
/// the fields of ARC.
#[must_use]
pub fn names_to_sign(selector: &DkimSelector, fields: &HeaderFields) -> Vec<String> {
    let mut names = selector.names_to_sign(fields);
    let signatures = fields.named(b"DKIM-Signature").len();
    names.extend(std::iter::repeat_n("DKIM-Signature".to_owned(), signatures));
    names.truncate(MAX_NAMES);
    names
}

impl ArcChain {
    /// Our own set: three fields with CRLFs that go in front of the message. None if the chain does
    /// not pass, or is full. `verified` is the result of [`verify`](Self::verify). `results` is the
    /// value of our Authentication-Results field.
    ///
    /// # Errors
    /// The key can't be used, or the body was not hashed.
    pub fn seal(
        &self,
        verified: &ArcResult,
        sealer: &Sealer<'_>,
        results: &str,
        body: &BodyHashes,
        now: Time,
    ) -> Result<Option<Vec<u8>>, SealError> {
        let validation = match verified.outcome {
            ArcOutcome::None => "none",
            ArcOutcome::Pass => "pass",
            ArcOutcome::Fail | ArcOutcome::TempError => return Ok(None),
        };
        let instance = self.sets().len() + 1;
        if instance > MAX_SETS {
            return Ok(None);
        }
        let body = body.of(Form::Relaxed).ok_or(SealError::BodyNotRead)?;
        let time = now.0.max(0) / 1_000_000;
        let (domain, selector) = (sealer.domain, sealer.selector);
        let results = format!(
            "ARC-Authentication-Results: i={instance}; {}\r\n",
            results.trim()
        );

        // The tags are in the order of the alphabet.
        let head = format!("ARC-Message-Signature: a={};", sealer.key.algorithm());
        let mut tail = TagLines::default();
        tail.tag(&format!("bh={};", STANDARD.encode(body)));
        tail.tag("c=relaxed/relaxed;");
        tail.tag(&format!("d={domain};"));
        tail.names(sealer.names);
        for tag in [
            format!("i={instance};"),
            format!("s={selector};"),
            format!("t={time}"),
        ] {
            tail.tag(&tag);
        }
        let mut covered = Vec::new();
        let names = sealer.names.iter().map(String::as_bytes);
        for place in self.fields.select(names, None) {
            canonical::field(Form::Relaxed, self.fields.written(place), &mut covered);
        }
        let message = signed(sealer.key, covered, &head, tail.as_str())?;

        let head = format!("ARC-Seal: a={};", sealer.key.algorithm());
        let mut tail = TagLines::default();
        for tag in [
            format!("cv={validation};"),
            format!("d={domain};"),
            format!("i={instance};"),
            format!("s={selector};"),
            format!("t={time}"),
        ] {
            tail.tag(&tag);
        }
        let mut covered = Vec::new();
        for set in self.sets() {
            for place in [set.results.place, set.message.place, set.seal.place] {
                canonical::field(Form::Relaxed, self.fields.written(place), &mut covered);
            }
        }
        for own in [&results, &message] {
            canonical::field(Form::Relaxed, own.as_bytes(), &mut covered);
        }
        let seal = signed(sealer.key, covered, &head, tail.as_str())?;
        Ok(Some([seal, message, results].concat().into_bytes()))
    }
}

/// A field with its signature. `covered` are the canonical fields before it, and the signature
/// stands between `head` and `tail`.
fn signed(
    key: &dyn SealKey,
    mut covered: Vec<u8>,
    head: &str,
    tail: &str,
) -> Result<String, SealError> {
    let unsigned = format!("{head} b=;{tail}\r\n");
    canonical::field(Form::Relaxed, unsigned.as_bytes(), &mut covered);
    covered.truncate(covered.len().saturating_sub(2));
    let signature = STANDARD.encode(key.sign(&digest(&SHA256, &covered))?);
    // The signature is in one piece, so that a server on the way finds no place to fold it.
    Ok(format!("{head}\r\n\tb={signature};{tail}\r\n"))
}
