//! DMARC: whether the author's domain stands behind the message, and what its owner wants to happen
//! if not (RFC 9989).
//!
//! | module | what it has |
//! |---|---|
//! | here | alignment, and the result |
//! | `record` | DMARC records |
//! | `walk` | the walk up from a domain, which finds records and organisations |
//!
//! The check decides nothing: whether a policy is followed is a decision over all facts. Only a
//! message whose author has no DMARC record is measured by the public suffix list.

mod record;
#[cfg(test)]
mod tests;
mod walk;

use postrider_dns::{is_within, organisation};
use postrider_smtp::Domain;
use postrider_store::{DmarcAction, DmarcPublished};

pub use self::walk::Records;
use self::{
    record::{Author, Record},
    walk::{Walk, Walker},
};
use super::{
    questions::Questions,
    spf::{SpfOutcome, SpfResult},
};

/// What the owner of a domain wants to happen with mail that fails (RFC 9989 §4.7), from the least
/// to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DmarcPolicy {
    /// Nothing.
    None,
    /// The mail is suspicious.
    Quarantine,
    /// The mail is not wanted.
    Reject,
}

impl DmarcPolicy {
    /// The word in records, in Authentication-Results and in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }

    /// The same as an action of a report.
    pub(crate) const fn action(self) -> DmarcAction {
        match self {
            Self::None => DmarcAction::None,
            Self::Quarantine => DmarcAction::Quarantine,
            Self::Reject => DmarcAction::Reject,
        }
    }

    /// The policy one step lower, for a domain that only tests (`t=y`).
    const fn lowered(self) -> Self {
        match self {
            Self::None | Self::Quarantine => Self::None,
            Self::Reject => Self::Quarantine,
        }
    }
}

/// The outcome of the check (RFC 8601 §2.7.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DmarcOutcome {
    /// The author's domain has no record.
    None,
    /// SPF or DKIM passed for a domain that is aligned with the author's.
    Pass,
    /// Neither did.
    Fail,
    /// There is no answer of DNS for now, and nothing aligned passed.
    TempError,
    /// The message has no author domain to check.
    PermError,
}

impl DmarcOutcome {
    /// The word in Authentication-Results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// The check that proves a domain of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// SPF, for the domain of MAIL FROM.
    Spf,
    /// DKIM, for the domain of a signature.
    Dkim,
}

/// What the check needs to know about a message.
#[derive(Clone, Copy, Debug)]
pub struct DmarcInput<'a> {
    /// The SPF result of MAIL FROM, which for a null reverse-path is that of HELO (RFC 7208 §2.4).
    /// None if it was not checked.
    pub spf: Option<&'a SpfResult>,
    /// The domains, `d=`, of the DKIM signatures that passed.
    pub dkim_passed: &'a [Domain],
    /// The domains of the DKIM signatures about which there is no answer for now.
    pub dkim_unanswered: &'a [Domain],
}

/// The result of the check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DmarcResult {
    /// The outcome.
    pub outcome: DmarcOutcome,
    /// The author's domain. None if the message has not exactly one.
    pub from: Option<Domain>,
    /// The domain whose record counts. None without a record.
    pub record_domain: Option<String>,
    /// The policy for a message that fails; lowered by one if the domain only tests. None without a
    /// record.
    pub policy: Option<DmarcPolicy>,
    /// What that record says. None without a record, and if it says nothing valid.
    pub published: Option<DmarcPublished>,
    /// SPF passed for an aligned domain.
    pub spf_aligned: bool,
    /// A DKIM signature passed for an aligned domain.
    pub dkim_aligned: bool,
    /// Neither did, and there is no answer of DNS for now about one of them, or about which domains
    /// are aligned.
    pub unanswered: bool,
    /// Why the outcome is so, in words.
    pub reason: String,
}

impl DmarcResult {
    /// SPF or DKIM stands behind the author's domain. If that domain has no record, alignment is
    /// relaxed, and the public suffix list tells the organisation.
    #[must_use]
    pub const fn from_is_validated(&self) -> bool {
        self.spf_aligned || self.dkim_aligned
    }
}

/// The organisation of a domain by the public suffix list: the public suffix and one label more. A
/// public suffix is its own organisation.
#[must_use]
pub fn organisation_by_suffix(domain: &Domain) -> &str {
    organisation(domain.ascii())
}

/// The result for a message without an author's domain.
fn no_author() -> DmarcResult {
    DmarcResult {
        outcome: DmarcOutcome::PermError,
        from: None,
        record_domain: None,
        policy: None,
        published: None,
        spf_aligned: false,
        dkim_aligned: false,
        unanswered: false,
        reason: "the message has not exactly one author domain".to_owned(),
    }
}

/// Checks a message. `alignment` is that with the author's domain; None if the message has not
/// exactly one. Both together ask at most eight questions for the author's domain, one whether that
/// domain exists, and eight for each other domain that may be aligned with it.
pub async fn check(input: DmarcInput<'_>, alignment: Option<&mut Alignment<'_>>) -> DmarcResult {
    let Some(alignment) = alignment else {
        return no_author();
    };
    let known = alignment
        .record()
        .map(|(name, record)| (name.to_owned(), record.clone()));
    let mut check = Check { input, alignment };
    match known {
        Some((name, record)) => check.with_record(&name, &record).await,
        None => check.without_record(),
    }
}

/// Which domains are aligned with an author's.
#[derive(Debug)]
pub struct Alignment<'a> {
    from: &'a Domain,
    walk: Walk,
    walker: Walker<'a>,
}

/// A check under way.
struct Check<'a, 'b> {
    input: DmarcInput<'a>,
    alignment: &'a mut Alignment<'b>,
}

/// Whether a domain is aligned with the author's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aligned {
    Yes,
    No,
    /// There is no answer of DNS for now.
    Unanswered,
}

impl<'a> Alignment<'a> {
    /// The alignment with a domain, which is walked up from. `known` has records that were asked
    /// for before.
    pub async fn new(questions: &'a Questions, known: Records, from: &'a Domain) -> Self {
        let mut walker = Walker::new(questions, known);
        let walk = walker.walk(from.ascii()).await;
        Self { from, walk, walker }
    }

    /// The author's domain.
    pub(super) const fn from(&self) -> &'a Domain {
        self.from
    }

    /// The record that counts, and its name. Without an answer on the way, only the own record is
    /// known to count.
    fn record(&self) -> Option<(&str, &Record)> {
        let known = self.walk.has_own() || self.walk.unanswered.is_none();
        self.walk.policy_record().filter(|_| known)
    }

    /// Whether a domain that passed is aligned. None is without a record.
    pub(super) async fn of(&mut self, identifier: Identifier, domain: &Domain) -> Aligned {
        match self.record() {
            Some((_, record)) => {
                let strict = record.is_strict(identifier);
                self.aligned(strict, domain).await
            }
            None => Aligned::No,
        }
    }

    /// Whether a domain is aligned (RFC 9989 §4.4). Asks only for a domain that is another one, and
    /// can have the same organisation.
    async fn aligned(&mut self, strict: bool, domain: &Domain) -> Aligned {
        if domain == self.from {
            return Aligned::Yes;
        }
        if strict || !share_parent(domain.ascii(), self.from.ascii()) {
            return Aligned::No;
        }
        if self.walk.unanswered.is_some() {
            return Aligned::Unanswered;
        }
        let organisation = self.walk.organisation();
        if !is_within(domain.ascii(), organisation) {
            return Aligned::No;
        }
        let other = self.walker.walk(domain.ascii()).await;
        match other.unanswered {
            Some(_) => Aligned::Unanswered,
            None if other.organisation() == organisation => Aligned::Yes,
            None => Aligned::No,
        }
    }
}

impl Check<'_, '_> {
    fn result(&self, outcome: DmarcOutcome, reason: String) -> DmarcResult {
        DmarcResult {
            outcome,
            from: Some(self.alignment.from.clone()),
            record_domain: None,
            policy: None,
            published: None,
            spf_aligned: false,
            dkim_aligned: false,
            unanswered: false,
            reason,
        }
    }

    /// The domain for which SPF has this outcome.
    fn spf_domain(&self, outcome: SpfOutcome) -> Option<&Domain> {
        let spf = self.input.spf.filter(|spf| spf.outcome == outcome)?;
        spf.domain.as_ref()
    }

    /// There is no record, or it says nothing, or it is not known whether there is one.
    fn without_record(&self) -> DmarcResult {
        let Alignment { from, walk, .. } = &*self.alignment;
        let organisation = organisation_by_suffix(from);
        let aligned = |domain: &Domain| match &walk.unanswered {
            // The record might demand it.
            Some(_) => domain == *from,
            None => organisation_by_suffix(domain) == organisation,
        };
        let spf_aligned = self.spf_domain(SpfOutcome::Pass).is_some_and(aligned);
        let dkim_aligned = self.input.dkim_passed.iter().any(aligned);
        let is_open = walk.unanswered.is_some()
            || self.spf_domain(SpfOutcome::TempError).is_some_and(aligned)
            || self.input.dkim_unanswered.iter().any(aligned);
        let (outcome, reason) = match &walk.unanswered {
            Some(error) => (
                DmarcOutcome::TempError,
                format!("no answer about the DMARC record: {error}"),
            ),
            None => (DmarcOutcome::None, format!("{from} has no DMARC record")),
        };
        DmarcResult {
            spf_aligned,
            dkim_aligned,
            unanswered: is_open && !spf_aligned && !dkim_aligned,
            ..self.result(outcome, reason)
        }
    }

    async fn with_record(&mut self, name: &str, record: &Record) -> DmarcResult {
        let mut unanswered = false;
        let from = self.alignment.from.ascii();
        let author = match name == from {
            true => Author::Here,
            false if !record.asks_for_existence() => Author::Below,
            false => match self.alignment.walker.questions.ask(|dns| dns.a(from)).await {
                Err(postrider_dns::DnsError::NoName(_)) => Author::Missing,
                Err(error) if error.negative().is_none() => {
                    unanswered = true;
                    Author::Below
                }
                _ => Author::Below,
            },
        };
        let Some(policy) = record.policy_for(author) else {
            let nothing = self.without_record();
            return DmarcResult {
                outcome: DmarcOutcome::None,
                reason: format!("the DMARC record of {name} has no valid policy"),
                ..nothing
            };
        };
        let spf = self.spf_domain(SpfOutcome::Pass).cloned();
        let spf = self.any(Identifier::Spf, spf.as_slice()).await;
        let dkim = self.any(Identifier::Dkim, self.input.dkim_passed).await;
        let found = DmarcResult {
            record_domain: Some(name.to_owned()),
            policy: Some(policy),
            published: Some(record.published()),
            spf_aligned: spf == Aligned::Yes,
            dkim_aligned: dkim == Aligned::Yes,
            ..self.result(DmarcOutcome::Fail, String::new())
        };
        let by = match (found.spf_aligned, found.dkim_aligned) {
            (true, true) => "SPF and DKIM",
            (true, false) => "SPF",
            (false, true) => "DKIM",
            (false, false) => "",
        };
        if !by.is_empty() {
            return DmarcResult {
                outcome: DmarcOutcome::Pass,
                reason: format!("{by} passed for an aligned domain"),
                ..found
            };
        }
        unanswered |= spf == Aligned::Unanswered || dkim == Aligned::Unanswered;
        unanswered = unanswered || self.is_open().await;
        match unanswered {
            true => DmarcResult {
                outcome: DmarcOutcome::TempError,
                unanswered: true,
                reason: "there is no answer for now about an aligned domain".to_owned(),
                ..found
            },
            false => DmarcResult {
                reason: self.failure(),
                ..found
            },
        }
    }

    /// SPF or DKIM have no answer for a domain that is aligned, or that may be.
    async fn is_open(&mut self) -> bool {
        let spf = self.spf_domain(SpfOutcome::TempError).cloned();
        let dkim = self.input.dkim_unanswered;
        self.any(Identifier::Spf, spf.as_slice()).await != Aligned::No
            || self.any(Identifier::Dkim, dkim).await != Aligned::No
    }

    /// Whether one of the domains is aligned.
    async fn any(&mut self, identifier: Identifier, domains: &[Domain]) -> Aligned {
        let mut found = Aligned::No;
        for domain in domains {
            match self.alignment.of(identifier, domain).await {
                Aligned::Yes => return Aligned::Yes,
                Aligned::Unanswered => found = Aligned::Unanswered,
                Aligned::No => {}
            }
        }
        found
    }

    /// What failed, in words.
    fn failure(&self) -> String {
        let spf = match self.input.spf {
            Some(spf) if spf.outcome == SpfOutcome::Pass => "SPF not aligned".to_owned(),
            Some(spf) => format!("SPF {}", spf.outcome),
            None => "no SPF".to_owned(),
        };
        format!("{spf}, no aligned DKIM signature")
    }
}

/// Both names have the same last label, so that they can have the same organisation.
fn share_parent(a: &str, b: &str) -> bool {
    a.rsplit('.').next() == b.rsplit('.').next()
}
