//! What the junk filter of an account says about a message.

use super::{
    Refusal, Suspicion, Verdict,
    end::{Case, Judged},
};
use crate::{
    facts::{RecipientFacts, Target},
    junk::{Acceptance, JunkFacts, JunkReason, JunkVerdict, verdict},
};

/// Judges a message by what the account's filter knows of it. Without that it is accepted.
pub(super) fn judge(case: &Case<'_>) -> Judged {
    let Some(verdict) = verdict_of(case.recipient, case.target) else {
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
                JunkReason::Content | JunkReason::CertainContent => Refusal::JunkWords(host()),
                JunkReason::History | JunkReason::SpfFails | JunkReason::LeansToJunk => {
                    Refusal::EarlierJunk(host())
                }
            })
        }
    })
}

/// How a target takes a message that it takes. Without a filter there are no doubts.
pub(super) fn acceptance(recipient: &RecipientFacts, target: &Target) -> Acceptance {
    match verdict_of(recipient, target) {
        Some(JunkVerdict::Accept(acceptance)) => acceptance,
        _ => Acceptance::Known,
    }
}

/// What the account's filter says. None: it knows nothing of the message.
fn verdict_of(recipient: &RecipientFacts, target: &Target) -> Option<JunkVerdict> {
    let facts = target.junk.as_ref()?;
    Some(verdict::judge(&JunkFacts {
        // A report about our own mail is not judged by its sender.
        trusted: facts.trusted || recipient.answers_our_mail,
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
