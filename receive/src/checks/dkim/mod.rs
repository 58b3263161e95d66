//! DKIM: the signatures of a message (RFC 6376, RFC 8301, RFC 8463).
//!
//! The check has steps, so that its parts run while the text comes in:
//! 1. [`DkimCheck::new`] reads the signatures, as soon as the header section is whole.
//! 2. [`DkimCheck::keys`] asks for their keys. Meanwhile a [`BodyHasher`] takes the body.
//! 3. [`DkimCheck::results`] compares, without waiting for anything.
//!
//! The sender of a message writes its signatures, so all work has limits: 10 signatures of a
//! message, 100 names of a signature, 1000 header fields. The time is in proportion to the length
//! of the header section for each signature.
//!
//! | module | what it has |
//! |---|---|
//! | `tags` | tag lists |
//! | `signature` | a signature as its field says it |
//! | `key` | public keys and their records |
//! | `hash` | the hash of the header |
//! | `fault` | why a signature does not pass |
//! | `result` | the results as plain data |
//!
//! Absent on purpose: reports to signers (`r=y`), authorized third parties (`atps=`), and bodies
//! that are signed in part (`l=`).

mod fault;
pub(crate) mod hash;
pub(crate) mod key;
mod result;
pub(crate) mod signature;
pub(crate) mod tags;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use postrider_smtp::Domain;
use postrider_store::Time;

pub use postrider_smtp::canonical::{
    BodyForms, BodyHasher, BodyHashes, HeaderFields, MAX_FIELDS, MAX_NAMES,
};

pub use self::{
    fault::SignatureFault,
    key::Keys,
    result::{DkimOutcome, DkimResult},
    tags::TagFault,
};
use self::{
    hash::header_digest,
    key::Key,
    signature::{DkimSignature, Shown},
    tags::Tags,
};
use super::{dmarc::organisation_by_suffix, questions::Questions};
use crate::work::long_work;

/// The most signatures of a message that are checked.
pub const MAX_SIGNATURES: usize = 10;

/// The DKIM signatures of a message.
#[derive(Debug)]
pub struct DkimCheck {
    fields: Arc<HeaderFields>,
    signatures: Vec<(Shown, Result<DkimSignature, SignatureFault>)>,
    too_many: bool,
}

impl DkimCheck {
    /// Reads the signatures of a message: at most ten. Those of the author's domain and of its
    /// organisation come first, then the others, in their order. `from` is the domain of the From
    /// field.
    #[must_use]
    pub fn new(fields: Arc<HeaderFields>, from: Option<&Domain>, now: Time) -> Self {
        let places = fields.named(b"DKIM-Signature");
        let mut read: Vec<_> = places
            .iter()
            .map(|place| {
                let tags = Tags::parse(fields.value(*place));
                let shown = tags.as_ref().map(Shown::read).unwrap_or_default();
                (*place, tags, shown)
            })
            .collect();
        let too_many = read.len() > MAX_SIGNATURES;
        if too_many {
            read.sort_by_key(|(_, _, shown)| distance(shown.domain.as_ref(), from));
            read.truncate(MAX_SIGNATURES);
        }
        let signatures = read
            .into_iter()
            .map(|(place, tags, shown)| {
                let read = tags.map_err(SignatureFault::Tags);
                let read = read.and_then(|tags| DkimSignature::read(&fields, place, &tags, now));
                (shown, read)
            })
            .collect();
        Self {
            signatures,
            too_many,
            fields,
        }
    }

    /// Whether the message has no signature.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.signatures.is_empty()
    }

    /// The forms of the body that the signatures need.
    #[must_use]
    pub fn body_forms(&self) -> BodyForms {
        let mut forms = BodyForms::default();
        for signature in self.usable() {
            forms.add(signature.covered.body_form());
        }
        forms
    }

    /// Asks for the keys: one question for each name.
    pub async fn keys(&self, questions: &Questions) -> Keys {
        let mut keys = Keys::default();
        let names = self
            .usable()
            .map(|signature| signature.signed.key_name.as_str());
        keys.ask(questions, names).await;
        keys
    }

    /// One result for each signature, and one more if there are too many.
    #[must_use]
    pub fn results(&self, keys: &Keys, body: &BodyHashes) -> Vec<DkimResult> {
        let hashed = self.fields.size() * self.signatures.len();
        let size = if keys.is_long_work() {
            usize::MAX
        } else {
            hashed
        };
        long_work(size, || self.all_results(keys, body))
    }

    fn all_results(&self, keys: &Keys, body: &BodyHashes) -> Vec<DkimResult> {
        let checked = self.signatures.iter().map(|(shown, signature)| {
            let outcome = match signature {
                Err(fault) => Err((*fault, fault.outcome())),
                Ok(signature) => self.check(signature, keys, body),
            };
            let proves = matches!(outcome, Ok(()) | Err((SignatureFault::KeyService, _)));
            let key = signature.as_ref().ok().filter(|_| proves);
            let key = key.and_then(|signature| keys.get(&signature.signed.key_name).ok());
            DkimResult {
                for_tls_reports: key.is_some_and(|key| key.is_for_tls_reports),
                ..result(shown.clone(), outcome)
            }
        });
        let more = self.too_many.then(|| {
            let fault = SignatureFault::TooManySignatures;
            result(Shown::default(), Err((fault, fault.outcome())))
        });
        checked.chain(more).collect()
    }

    fn usable(&self) -> impl Iterator<Item = &DkimSignature> {
        self.signatures
            .iter()
            .filter_map(|(_, read)| read.as_ref().ok())
    }

    fn check(
        &self,
        signature: &DkimSignature,
        keys: &Keys,
        body: &BodyHashes,
    ) -> Result<(), (SignatureFault, DkimOutcome)> {
        let key = keys.get(&signature.signed.key_name);
        let key = key.map_err(|fault| (fault, fault.outcome()))?;
        let verified = self.verify(signature, &key, body);
        verified.map_err(|fault| match fault.outcome() {
            DkimOutcome::Fail if key.is_test => (fault, DkimOutcome::Neutral),
            outcome => (fault, outcome),
        })
    }

    fn verify(
        &self,
        signature: &DkimSignature,
        key: &Key,
        body: &BodyHashes,
    ) -> Result<(), SignatureFault> {
        if key.is_strict && signature.identity_is_below {
            return Err(SignatureFault::IdentityOutside);
        }
        let DkimSignature {
            place,
            signed,
            covered,
            ..
        } = signature;
        key.accepts(signed.algorithm)?;
        covered.check_body(body)?;
        let selected = self.fields.select(covered.names(), Some(*place));
        let own = self.fields.written(*place);
        let digest = header_digest(
            &self.fields,
            covered.header_form(),
            &selected,
            own,
            &signed.b,
        );
        key.verify(&digest, &signed.signature)?;
        // Last: such a key may be for reports.
        key.check_service()
    }
}

/// How far a signing domain is from the author's: 0 for the same, 1 for one of the same
/// organisation, 2 for others.
fn distance(signer: Option<&Domain>, author: Option<&Domain>) -> u8 {
    let (Some(signer), Some(author)) = (signer, author) else {
        return 2;
    };
    if signer == author {
        return 0;
    }
    match organisation_by_suffix(signer) == organisation_by_suffix(author) {
        true => 1,
        false => 2,
    }
}

fn result(shown: Shown, outcome: Result<(), (SignatureFault, DkimOutcome)>) -> DkimResult {
    let (outcome, reason) = match outcome {
        Ok(()) => (DkimOutcome::Pass, None),
        Err((fault, outcome)) => (outcome, Some(fault.to_string())),
    };
    DkimResult {
        outcome,
        reason,
        domain: shown.domain,
        selector: shown.selector,
        identity: shown.identity,
        algorithm: shown.algorithm,
        signature: shown.signature,
        for_tls_reports: false,
    }
}
