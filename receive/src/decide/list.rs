//! Mailing lists: who may write to one, and which members get a copy.

use postrider_config::Target as Owner;
use postrider_smtp::Address;

use super::{Policy, Refusal, end::Case};
use crate::{checks::dmarc::DmarcOutcome, facts::Facts};

/// Refuses the author of a message to a list that is not public. Members may write, and whoever
/// writes as the list itself, if the list allows that. The author is the one in From, and SPF or
/// DKIM has to stand behind it.
pub(super) fn refuse_author(case: &Case<'_>) -> Option<Refusal> {
    let list = &case.recipient.address;
    let config = case.policy.config;
    // postmaster and abuse take mail of everybody.
    if case.target.member.is_none() || case.target.takes_all {
        return None;
    }
    let Some(Owner::Alias { alias, .. }) = config.lookup(list).map(|found| found.target) else {
        return Some(Refusal::MailboxGone);
    };
    if alias.post_public {
        return None;
    }
    let may_write = |author: &Address| {
        let owner = config.owner(author);
        let is_member = owner.is_some()
            && alias
                .addresses
                .iter()
                .any(|member| config.owner(member) == owner);
        is_member || alias.allow_msg_from && config.is_same(author, list)
    };
    if !named_author(case.facts).is_some_and(may_write) {
        return Some(Refusal::MembersOnly(list.clone()));
    }
    if author_is_proved(case.facts, case.policy) {
        return None;
    }
    match has_no_answer(case.facts) {
        true => Some(Refusal::MemberNoAnswer(list.clone())),
        false => Some(Refusal::MembersOnly(list.clone())),
    }
}

/// DNS has no answer for now about who stands behind the author.
pub(super) fn has_no_answer(facts: &Facts) -> bool {
    let results = facts.authentication.as_ref();
    let dmarc = results.and_then(|results| results.dmarc.as_ref());
    dmarc.is_some_and(|dmarc| dmarc.outcome == DmarcOutcome::TempError)
}

/// The address in From, if there is exactly one.
fn named_author(facts: &Facts) -> Option<&Address> {
    facts.header.as_ref()?.from()
}

/// SPF or DKIM stands behind the domain in From. Localserve believes everybody.
fn author_is_proved(facts: &Facts, policy: &Policy<'_>) -> bool {
    let results = facts.authentication.as_ref();
    let proved = results.and_then(|results| results.validated_from());
    let author = named_author(facts).and_then(|author| author.host.domain());
    policy.simulate || proved.is_some() && proved == author
}

/// Why a member of a list gets no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The transaction names the member beside the list.
    NamedBeside,
    /// The member wrote the message.
    Author,
}

impl Skip {
    /// Whether a target gets no copy. A target that is no member of a list gets one.
    pub(super) fn of(case: &Case<'_>) -> Option<Self> {
        let member = case.target.member.as_ref()?;
        let same_as = |other: &crate::facts::Target| {
            other.member.is_none()
                && other.account == case.target.account
                && other.destination == case.target.destination
        };
        let mut others = case.facts.recipients.iter();
        if others.any(|other| other.targets().iter().any(same_as)) {
            return Some(Self::NamedBeside);
        }
        let author = named_author(case.facts)?;
        let config = case.policy.config;
        let is_author = author_is_proved(case.facts, case.policy)
            && config.canonical(author).is_some()
            && config.canonical(author) == config.canonical(member);
        is_author.then_some(Self::Author)
    }
}
