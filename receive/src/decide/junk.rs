//! What the junk filter of an account says about a message.

use super::{
    Refusal, Suspicion, Verdict,
    end::{Case, Judged},
    ruleset::Vouched,
};
use crate::junk::{Acceptance, JunkFacts, JunkReason, JunkVerdict, verdict};

/// Judges a message by what the account's filter knows of it. Without that it is accepted.
pub(super) fn judge(case: &Case<'_>) -> Judged {
    let Some(verdict) = verdict_of(case) else {
        return Judged::plain(Verdict::Accept);
    };
    Judged::plain(match verdict {
        JunkVerdict::Accept(_) => Verdict::Accept,
        JunkVerdict::Junk(reason) => Verdict::Junk(suspicion(&reason)),
        JunkVerdict::Refuse(reason) if case.takes_all() => Verdict::Junk(suspicion(&reason)),
        JunkVerdict::Refuse(reason) => {
            let host = || case.recipient.address.host.clone();
            Verdict::Refuse(match reason {
                JunkReason::Listed(listed) => Refusal::Listed(listed),
                JunkReason::History
                | JunkReason::SpfFails
                | JunkReason::LeansToJunk
                | JunkReason::Content
                | JunkReason::CertainContent => Refusal::EarlierJunk(host()),
            })
        }
    })
}

/// How a target takes a message that it takes. Without a filter there are no doubts.
pub(super) fn acceptance(case: &Case<'_>) -> Acceptance {
    match verdict_of(case) {
        Some(JunkVerdict::Accept(acceptance)) => acceptance,
        _ => Acceptance::Known,
    }
}

/// What the account's filter says. None: it knows nothing of the message.
fn verdict_of(case: &Case<'_>) -> Option<JunkVerdict> {
    let facts = case.target.junk.as_ref()?;
    // A report about our own mail is not judged by its sender, nor is mail of a list that a ruleset
    // trusts.
    let trusted = case.recipient.answers_our_mail || Vouched::by(case) == Vouched::List;
    Some(verdict::judge(&JunkFacts {
        trusted: facts.trusted || trusted,
        ..JunkFacts::clone(facts)
    }))
}

fn suspicion(reason: &JunkReason) -> Suspicion {
    match reason {
        JunkReason::SpfFails => Suspicion::SpfFails,
        JunkReason::History | JunkReason::LeansToJunk => Suspicion::History,
        JunkReason::Content | JunkReason::CertainContent => Suspicion::Words,
        JunkReason::Listed(_) => Suspicion::Listed,
    }
}
