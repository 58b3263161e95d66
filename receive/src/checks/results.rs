//! The results of the checks as plain data, and the Authentication-Results field with them.
//!
//! | module | what it has |
//! |---|---|
//! | here | all results of a message together |
//! | `field` | the Authentication-Results field (RFC 8601) |
//! | `forged` | the fields of a message that pretend to be ours |
//!
//! The result of each check stands in its own module.

mod field;
mod forged;
#[cfg(test)]
mod tests;

use postrider_dns::is_within;
use postrider_smtp::Domain;

pub use self::forged::without_forged;
use super::{
    arc::ArcResult,
    dkim::{DkimOutcome, DkimResult},
    dmarc::{DmarcOutcome, DmarcResult},
    iprev::IprevResult,
    spf::{SpfOutcome, SpfResult},
};

/// The results of all checks of a message. An absent result means that the check was not made.
#[derive(Clone, Debug, Default)]
pub struct AuthenticationResults {
    /// The names of the client's address.
    pub iprev: Option<IprevResult>,
    /// The SPF result of MAIL FROM; for a null reverse-path, that of HELO.
    pub spf: Option<SpfResult>,
    /// One result for each DKIM signature, in the order of the check.
    pub dkim: Vec<DkimResult>,
    /// The ARC chain.
    pub arc: Option<ArcResult>,
    /// DMARC.
    pub dmarc: Option<DmarcResult>,
    /// A trusted server that passed the message on, and that says by its ARC seal that the message
    /// passed there. None if there is none, or the chain is broken.
    pub arc_vouches: Option<Domain>,
    /// The same, of a chain about which DNS has no answer for now.
    pub arc_may_vouch: Option<Domain>,
}

impl AuthenticationResults {
    /// SPF passed for MAIL FROM.
    #[must_use]
    pub fn mail_from_is_validated(&self) -> bool {
        let spf = self.spf.as_ref();
        spf.is_some_and(SpfResult::validates_mail_from)
    }

    /// The domain of the author, if SPF or DKIM stands behind it.
    #[must_use]
    pub fn validated_from(&self) -> Option<&Domain> {
        let dmarc = self.dmarc.as_ref()?;
        dmarc.from.as_ref().filter(|_| dmarc.from_is_validated())
    }

    /// SPF or DKIM passed for a domain that is this one, or below it. SPF counts for MAIL FROM, and
    /// for the name in EHLO if the reverse-path is null.
    #[must_use]
    pub fn verifies(&self, domain: &Domain) -> bool {
        let spf = self.spf.as_ref();
        let spf = spf.filter(|spf| spf.outcome == SpfOutcome::Pass);
        let by_spf = spf.and_then(|spf| spf.domain.as_ref());
        let mut verified = by_spf.into_iter().chain(self.dkim_domains());
        verified.any(|verified| is_within(verified.ascii(), domain.ascii()))
    }

    /// SPF or a DKIM signature has no answer of DNS for now.
    #[must_use]
    pub fn has_unanswered_domain(&self) -> bool {
        let spf = self.spf.as_ref().map(|spf| spf.outcome);
        let mut dkim = self.dkim.iter().map(|result| result.outcome);
        spf == Some(SpfOutcome::TempError) || dkim.any(|it| it == DkimOutcome::TempError)
    }

    /// The results at best, once DNS answers: all that has no answer for now passes. None if
    /// nothing lacks an answer.
    #[must_use]
    pub fn at_best(&self) -> Option<Self> {
        let is_open = |dmarc: &DmarcResult| dmarc.unanswered;
        let lacks = self.has_unanswered_domain()
            || self.arc_may_vouch.is_some()
            || self.dmarc.as_ref().is_some_and(is_open);
        let mut best = lacks.then(|| self.clone())?;
        let spf = best.spf.iter_mut();
        for spf in spf.filter(|spf| spf.outcome == SpfOutcome::TempError) {
            spf.outcome = SpfOutcome::Pass;
        }
        let dkim = best.dkim.iter_mut();
        for result in dkim.filter(|result| result.outcome == DkimOutcome::TempError) {
            result.outcome = DkimOutcome::Pass;
        }
        if let Some(dmarc) = best.dmarc.as_mut().filter(|dmarc| dmarc.unanswered) {
            dmarc.dkim_aligned = true;
            if dmarc.outcome == DmarcOutcome::TempError {
                dmarc.outcome = DmarcOutcome::Pass;
            }
        }
        best.arc_vouches = best.arc_vouches.or_else(|| best.arc_may_vouch.take());
        Some(best)
    }

    /// The domains whose DKIM signatures passed, each once, in the order of the check.
    #[must_use]
    pub fn dkim_domains(&self) -> Vec<&Domain> {
        let passed = self
            .dkim
            .iter()
            .filter(|result| result.outcome == DkimOutcome::Pass);
        let mut domains = Vec::new();
        for domain in passed.filter_map(|result| result.domain.as_ref()) {
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        domains
    }
}
