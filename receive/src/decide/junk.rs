//! What the junk filter of an account says about a message.

use super::{
    Refusal, Suspicion, Verdict,
    end::{Case, Judged},
    ruleset::Vouched,
};
use crate::junk::{JunkFacts, JunkReason, JunkVerdict, verdict};

/// Judges a message by what the account's filter knows of it. Without that it is accepted.
pub(super) fn judge(case: &Case<'_>) -> Judged {
    let Some(facts) = &case.target.junk else {
        return Judged::plain(Verdict::Accept);
    };
    let facts = JunkFacts {
        // The administrator trusts the list, or the message is a report about our own mail.
        trusted: facts.trusted
            || case.recipient.answers_our_mail
            || Vouched::by(case) == Vouched::List,
        ..JunkFacts::clone(facts)
    };
    Judged::plain(match verdict::judge(&facts) {
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

fn suspicion(reason: &JunkReason) -> Suspicion {
    match reason {
        JunkReason::SpfFails => Suspicion::SpfFails,
        JunkReason::History | JunkReason::LeansToJunk => Suspicion::History,
        JunkReason::Content | JunkReason::CertainContent => Suspicion::Words,
        JunkReason::Listed(_) => Suspicion::Listed,
    }
}
