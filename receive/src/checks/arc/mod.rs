//! ARC: the chain of servers that passed a message on and vouch for it (RFC 8617).
//!
//! Each server adds a set of three fields: the results of its checks, a signature of the message,
//! and a seal over all sets so far. [`ArcChain::new`] reads the sets without any question to DNS.
//! [`ArcChain::verify`] checks signatures and seals, [`ArcChain::vouching_set`] says whether a
//! trusted server saw the message pass, and [`ArcChain::seal`] adds our own set.
//!
//! | module | what it has |
//! |---|---|
//! | here | the chain and its verification |
//! | `set` | the sets as their fields say them |
//! | `reported` | the results that a set reports |
//! | `seal` | our own set |
//! | `result` | the result as plain data |

mod reported;
mod result;
mod seal;
mod set;
#[cfg(test)]
mod suite;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use postrider_smtp::{Domain, canonical::Form};
use postrider_store::Time;

use self::{
    reported::Reported,
    set::{MessageSignature, Set},
};
pub use self::{
    result::{ArcOutcome, ArcResult},
    seal::{SealError, SealKey, Sealer, names_to_sign},
    set::{ArcFault, MAX_SETS},
};
use super::{
    dkim::{
        BodyForms, BodyHashes, HeaderFields, Keys, SignatureFault,
        hash::{append_unsigned, header_digest},
    },
    dmarc::Identifier,
    questions::Questions,
};
use crate::work::long_work;

/// The ARC sets of a message.
#[derive(Debug)]
pub struct ArcChain {
    fields: Arc<HeaderFields>,
    /// The sets from instance 1 on.
    sets: Result<Vec<Set>, ArcFault>,
}

impl ArcChain {
    /// Reads the sets of a message.
    #[must_use]
    pub fn new(fields: Arc<HeaderFields>) -> Self {
        let sets = set::read(&fields);
        Self { fields, sets }
    }

    /// The fields of the message.
    pub(crate) fn fields(&self) -> &HeaderFields {
        &self.fields
    }

    fn sets(&self) -> &[Set] {
        self.sets.as_deref().unwrap_or_default()
    }

    /// The domains that sealed, from the first on. None of a chain that can't be read. Before the
    /// chain is verified, anybody may have written them.
    pub fn sealers(&self) -> impl Iterator<Item = &Domain> {
        self.sets().iter().map(|set| &set.seal.signed.domain)
    }

    /// The forms of the body that the signatures need.
    #[must_use]
    pub fn body_forms(&self) -> BodyForms {
        let mut forms = BodyForms::default();
        for set in self.sets() {
            forms.add(set.message.covered.body_form());
        }
        forms
    }

    /// Verifies the chain (RFC 8617 §5.2). A chain that can't be read asks nothing. The newest set
    /// comes first: as long as it does not verify, the other sets ask nothing.
    pub async fn verify(&self, questions: &Questions, body: &BodyHashes, now: Time) -> ArcResult {
        match &self.sets {
            Ok(sets) if sets.is_empty() => ArcResult::new(ArcOutcome::None, None),
            Ok(sets) => match self.verify_sets(sets, questions, body, now).await {
                Ok(oldest_pass) => ArcResult {
                    oldest_pass: Some(oldest_pass),
                    ..ArcResult::new(ArcOutcome::Pass, None)
                },
                Err(fault) => ArcResult::new(fault.outcome(), Some(fault.to_string())),
            },
            Err(fault) => ArcResult::new(fault.outcome(), Some(fault.to_string())),
        }
    }

    /// Gives `oldest-pass`: the instance of the oldest message signature that passes with all newer
    /// ones, or zero if all pass.
    async fn verify_sets(
        &self,
        sets: &[Set],
        questions: &Questions,
        body: &BodyHashes,
        now: Time,
    ) -> Result<u32, ArcFault> {
        let Some((newest, older)) = sets.split_last() else {
            return Ok(0);
        };
        let mut keys = Keys::default();
        keys.ask(questions, newest.key_names().into_iter()).await;
        self.check_message(&newest.message, &keys, body, now)
            .map_err(|fault| ArcFault::Message(sets.len(), fault))?;
        self.check_seals(sets, &keys, sets.len() - 1)?;
        let seals = older.iter().map(|set| set.seal.signed.key_name.as_str());
        keys.ask(questions, seals).await;
        self.check_seals(sets, &keys, 0)?;
        for (index, set) in older.iter().enumerate().rev() {
            let name = set.message.signed.key_name.as_str();
            keys.ask(questions, std::iter::once(name)).await;
            let checked = self.check_message(&set.message, &keys, body, now);
            if checked.is_err() {
                return Ok(u32::try_from(index + 2).unwrap_or(u32::MAX));
            }
        }
        Ok(0)
    }

    fn check_message(
        &self,
        message: &MessageSignature,
        keys: &Keys,
        body: &BodyHashes,
        now: Time,
    ) -> Result<(), SignatureFault> {
        let MessageSignature {
            place,
            signed,
            covered,
        } = message;
        covered.check_time(now)?;
        covered.acceptable()?;
        let key = keys.get(&signed.key_name)?;
        key.check_service()?;
        key.accepts(signed.algorithm)?;
        covered.check_body(body)?;
        long_work(self.work(keys), || {
            let selected = self.fields.select(covered.names(), Some(*place));
            let own = self.fields.written(*place);
            let form = covered.header_form();
            let digest = header_digest(&self.fields, form, &selected, own, &signed.b);
            key.verify(&digest, &signed.signature)
        })
    }

    /// Checks the seals from the one at `first` on. A seal covers the sets before it and its own
    /// set (RFC 8617 §5.1.1). All seals are hashed in one pass.
    fn check_seals(&self, sets: &[Set], keys: &Keys, first: usize) -> Result<(), ArcFault> {
        long_work(self.work(keys), || {
            let mut before = Context::new(&SHA256);
            for (index, set) in sets.iter().enumerate() {
                let seal = &set.seal;
                let own = self.fields.written(seal.place);
                let mut covered = Vec::new();
                for place in [set.results.place, set.message.place] {
                    let written = self.fields.written(place);
                    postrider_smtp::canonical::field(Form::Relaxed, written, &mut covered);
                }
                before.update(&covered);
                if index >= first {
                    let mut context = before.clone();
                    covered.clear();
                    append_unsigned(Form::Relaxed, own, &seal.signed.b, &mut covered);
                    context.update(&covered);
                    let checked = keys.get(&seal.signed.key_name).and_then(|key| {
                        key.check_service()?;
                        key.accepts(seal.signed.algorithm)?;
                        key.verify(&context.finish(), &seal.signed.signature)
                    });
                    checked.map_err(|fault| ArcFault::Seal(index + 1, fault))?;
                }
                covered.clear();
                postrider_smtp::canonical::field(Form::Relaxed, own, &mut covered);
                before.update(&covered);
            }
            Ok(())
        })
    }

    fn work(&self, keys: &Keys) -> usize {
        match keys.is_long_work() {
            true => usize::MAX,
            false => self.fields.size(),
        }
    }

    /// The instance of the set by which a chain that passed overrides a failed DMARC check: the
    /// oldest set that reports a pass for the author's domain, if it and all newer sets have seals
    /// of trusted domains. For a chain without an answer of DNS: the set that may do so. `from` is
    /// the domain of the From field. `is_aligned` says whether a domain is aligned with it in the
    /// sense of DMARC.
    #[must_use]
    pub fn vouching_set(
        &self,
        result: &ArcResult,
        from: &Domain,
        is_trusted: &dyn Fn(&Domain) -> bool,
        is_aligned: &dyn Fn(Identifier, &Domain) -> bool,
    ) -> Option<u32> {
        if !matches!(result.outcome, ArcOutcome::Pass | ArcOutcome::TempError) {
            return None;
        }
        let vouching = self.trusted(is_trusted).filter(|(_, set)| {
            let reported = self.reported(set);
            reported.iter().any(|one| one.passes(from, is_aligned))
        });
        let (index, _) = vouching.last()?;
        u32::try_from(index + 1).ok()
    }

    /// The domains for which SPF or DKIM passed, as the sets say that
    /// [`vouching_set`](Self::vouching_set) looks at. Each is there once.
    pub fn passed(&self, is_trusted: &dyn Fn(&Domain) -> bool) -> Vec<(Identifier, Domain)> {
        let mut passed = Vec::new();
        for (_, set) in self.trusted(is_trusted) {
            let reported = self.reported(set);
            for found in reported.iter().filter_map(Reported::identifier) {
                if !passed.contains(&found) {
                    passed.push(found);
                }
            }
        }
        passed
    }

    /// The newest sets, as long as trusted domains sealed them. The newest comes first.
    fn trusted(&self, is_trusted: &dyn Fn(&Domain) -> bool) -> impl Iterator<Item = (usize, &Set)> {
        let newest_first = self.sets().iter().enumerate().rev();
        newest_first.take_while(move |(_, set)| is_trusted(&set.seal.signed.domain))
    }

    fn reported(&self, set: &Set) -> Vec<Reported> {
        let value = self.fields.value(set.results.place);
        Reported::read(value.get(set.results.begins..).unwrap_or_default())
    }
}
