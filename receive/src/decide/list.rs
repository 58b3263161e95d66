//! Mailing lists: who may write to one, and which members get a copy.

use postrider_config::Target as Owner;
use postrider_smtp::Address;

use super::{Policy, Refusal, end::Case};
use crate::facts::{Facts, RecipientFacts, Resolution};

/// Refuses the author of a message to a list.
pub(super) fn refuse_author(case: &Case<'_>) -> Option<Refusal> {
    // postmaster and abuse take mail of everybody.
    let takes_all = case.target.takes_all;
    case.list_refusal.filter(|_| !takes_all).cloned()
}

/// Why a list that is not public refuses the author of a message. Members may write, and whoever
/// writes as the list itself, if the list allows that. The author is the one in From, and SPF or
/// DKIM has to stand behind it. None also if the recipient is no list.
pub(super) fn refusal(
    recipient: &RecipientFacts,
    facts: &Facts,
    policy: &Policy<'_>,
) -> Option<Refusal> {
    let Resolution::List(members) = &recipient.resolution else {
        return None;
    };
    let (list, config) = (&recipient.address, policy.config);
    let Some(Owner::Alias { alias, .. }) = config.lookup(list).map(|found| found.target) else {
        return Some(Refusal::MailboxGone);
    };
    if alias.post_public {
        return None;
    }
    let may_write = |author: &Address| {
        let owner = config.owner(author);
        let is_member = members.iter().any(|it| Some(it.account.as_str()) == owner);
        is_member || alias.allow_msg_from && config.is_same(author, list)
    };
    if !named_author(facts).is_some_and(may_write) {
        return Some(Refusal::MembersOnly(list.clone()));
    }
    if proved_author(facts, policy).is_some() {
        return None;
    }
    match has_no_answer(facts) {
        true => Some(Refusal::MemberNoAnswer(list.clone())),
        false => Some(Refusal::MembersOnly(list.clone())),
    }
}

/// DNS has no answer for now about who stands behind the author.
pub(super) fn has_no_answer(facts: &Facts) -> bool {
    let results = facts.authentication.as_deref();
    let dmarc = results.and_then(|results| results.dmarc.as_ref());
    dmarc.is_some_and(|dmarc| dmarc.unanswered)
}

/// The address in From, if there is exactly one.
fn named_author(facts: &Facts) -> Option<&Address> {
    facts.header.as_ref()?.from()
}

/// The address in From, if SPF or DKIM stands behind its domain. Our own mail needs no proof, and
/// localserve believes everybody.
pub(super) fn proved_author<'a>(facts: &'a Facts, policy: &Policy<'_>) -> Option<&'a Address> {
    let results = facts.authentication.as_deref();
    let proved = results.and_then(|results| results.validated_from());
    named_author(facts).filter(|author| {
        let is_proved = proved.is_some() && proved == author.host.domain();
        policy.simulate || facts.is_ours || is_proved
    })
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
    /// The name, for traces.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NamedBeside => "named_beside",
            Self::Author => "author",
        }
    }

    /// Whether a target gets no copy. A target that is no member of a list gets one.
    pub(super) fn of(case: &Case<'_>) -> Option<Self> {
        let member = case.target.member.as_ref()?;
        let own = (
            case.target.account.as_str(),
            case.target.destination.as_ref(),
        );
        if case.common.named.contains(&own) {
            return Some(Self::NamedBeside);
        }
        let author = case.common.author.as_ref()?;
        let member = case.policy.config.canonical(member);
        (member.as_ref() == Some(author)).then_some(Self::Author)
    }
}
