//! The verdict of the junk filter about a mail for one account: facts in, verdict out.

use std::net::IpAddr;

use postrider_smtp::Domain;

use super::{
    content::Content,
    history::{Basis, History, Opinion},
};
use crate::checks::{iprev::IprevOutcome, results::AuthenticationResults, spf::SpfOutcome};

/// A mail above this probability is refused if there are [doubts](Doubts::are_grave) too.
const CERTAIN: f64 = 0.999;

/// The weak signs of junk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// The names of the client do not lead back to it, or there is no answer.
    pub iprev_not_pass: bool,
    /// The names of the client do not lead back to it, or it has none.
    pub iprev_fails: bool,
    /// The mail came without TLS.
    pub no_tls: bool,
    /// The recipient is neither in To nor in Cc.
    pub not_addressed: bool,
}

impl Doubts {
    /// The doubts about a client, by the results of the checks.
    #[must_use]
    pub fn of_client(results: &AuthenticationResults) -> Self {
        let iprev = results.iprev.as_ref().map(|iprev| iprev.outcome);
        Self {
            iprev_not_pass: iprev.is_some_and(|outcome| outcome != IprevOutcome::Pass),
            iprev_fails: matches!(iprev, Some(IprevOutcome::Fail | IprevOutcome::PermError)),
            ..Self::default()
        }
    }

    /// One of the signs lowers the threshold of the content filter.
    #[must_use]
    pub const fn lower_the_threshold(self) -> bool {
        self.iprev_fails || self.no_tls || self.not_addressed
    }

    /// Two of the signs are there.
    #[must_use]
    pub fn are_grave(self) -> bool {
        let signs = [self.iprev_not_pass, self.no_tls, self.not_addressed];
        signs.into_iter().filter(|sign| *sign).count() >= 2
    }
}

/// A client that stands in a block list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The zone of the list.
    pub zone: Domain,
    /// The address of the client.
    pub address: IpAddr,
}

/// The facts about a mail for one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JunkFacts {
    /// A ruleset trusts the list that the mail comes from, and its domain is verified; or the mail
    /// is a valid report at its address.
    pub trusted: bool,
    /// What earlier mail says.
    pub history: History,
    /// A domain that DKIM or SPF validated has a good history, whoever the author is.
    pub good_domain_passes: bool,
    /// SPF or DKIM stands behind the author.
    pub author_validated: bool,
    /// Another server of ours forwards the mail. So its client says nothing about it.
    pub forwarded: bool,
    /// The SPF result. None: it was not checked.
    pub spf: Option<SpfOutcome>,
    /// The weak signs of junk.
    pub doubts: Doubts,
    /// What the words say. None: the filter is off, or has not learnt enough.
    pub content: Option<Content>,
    /// The client stands in a block list. None also if nobody looked.
    pub listed: Option<Listed>,
}

/// What the filter says about a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JunkVerdict {
    /// The mail is taken.
    Accept(Acceptance),
    /// The mail is taken into the junk mailbox.
    Junk(JunkReason),
    /// The mail is refused, and kept in the mailbox for rejects.
    Refuse(JunkReason),
}

/// Why a mail is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// The sender is known to be good, or the client is a server of ours. No more questions.
    Known,
    /// Nothing speaks against the mail. A block list still may.
    Unsure,
    /// As [`Self::Unsure`], and there is no history: the client waits a while.
    Stranger,
}

/// Why a mail is taken for junk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JunkReason {
    /// Earlier mail of the sender was junk.
    History,
    /// Nothing but a name or a network is known, and SPF fails.
    SpfFails,
    /// Earlier mail of the sender leans to junk, and iprev does not pass.
    LeansToJunk,
    /// The words.
    Content,
    /// The words, and weak signs beside them.
    CertainContent,
    /// A block list has the client.
    Listed(Listed),
}

impl JunkReason {
    /// The reason in words, for the log.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::History => "earlier mail of the sender was junk",
            Self::SpfFails => "SPF fails for a sender without a good history",
            Self::LeansToJunk => "the sender's history leans to junk, and iprev does not pass",
            Self::Content => "the words are those of junk",
            Self::CertainContent => "the words are those of junk, and the client is doubtful",
            Self::Listed(_) => "the client stands in a block list",
        }
    }
}

/// Judges a mail.
#[must_use]
pub fn judge(facts: &JunkFacts) -> JunkVerdict {
    let history = facts.history;
    if facts.trusted || history.is_conclusive(Opinion::Good) {
        return JunkVerdict::Accept(Acceptance::Known);
    }
    if history.is_conclusive(Opinion::Junk) {
        return JunkVerdict::Refuse(JunkReason::History);
    }
    let weak = match history.basis {
        Basis::Validated | Basis::Network | Basis::Nothing => true,
        // Who wrote the mail is only said.
        Basis::WroteToAuthor | Basis::WroteToDomain => !facts.author_validated,
        Basis::Author | Basis::Domain => false,
    };
    let spf_fails = matches!(facts.spf, Some(SpfOutcome::Fail | SpfOutcome::SoftFail));
    if weak && spf_fails {
        return JunkVerdict::Junk(JunkReason::SpfFails);
    }
    if history.opinion == Opinion::Junk && facts.doubts.iprev_not_pass {
        return JunkVerdict::Junk(JunkReason::LeansToJunk);
    }
    if let Some(content) = facts.content.filter(|content| content.is_junk()) {
        let certain = content.probability > CERTAIN && facts.doubts.are_grave();
        return match certain {
            true => JunkVerdict::Refuse(JunkReason::CertainContent),
            false => JunkVerdict::Junk(JunkReason::Content),
        };
    }
    if facts.forwarded {
        return JunkVerdict::Accept(Acceptance::Known);
    }
    if let Some(listed) = &facts.listed {
        return JunkVerdict::Refuse(JunkReason::Listed(listed.clone()));
    }
    JunkVerdict::Accept(match history.basis {
        Basis::Nothing => Acceptance::Stranger,
        _ => Acceptance::Unsure,
    })
}

#[cfg(test)]
impl JunkFacts {
    /// A stranger about whom nothing is known.
    pub(crate) fn of_stranger() -> Self {
        Self {
            trusted: false,
            history: History::NONE,
            good_domain_passes: false,
            author_validated: false,
            forwarded: false,
            spf: None,
            doubts: Doubts::default(),
            content: None,
            listed: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(basis: Basis, opinion: Opinion, conclusive: bool) -> History {
        History {
            basis,
            opinion,
            conclusive,
        }
    }

    fn content(probability: f64) -> Option<Content> {
        Some(Content {
            probability,
            threshold: 0.95,
        })
    }

    fn listed() -> Listed {
        Listed {
            zone: "bl.example".parse().unwrap(),
            address: [192, 0, 2, 1].into(),
        }
    }

    /// All that can speak against a mail, but its history.
    fn dreadful() -> JunkFacts {
        JunkFacts {
            spf: Some(SpfOutcome::Fail),
            doubts: Doubts {
                iprev_not_pass: true,
                iprev_fails: true,
                no_tls: true,
                not_addressed: true,
            },
            content: content(1.0),
            listed: Some(listed()),
            ..JunkFacts::of_stranger()
        }
    }

    #[test]
    fn a_trusted_list_and_a_good_sender_are_taken_whatever_else() {
        let known = JunkVerdict::Accept(Acceptance::Known);
        let mut facts = dreadful();
        facts.history = history(Basis::Domain, Opinion::Good, true);
        assert_eq!(judge(&facts), known);
        facts.history = history(Basis::Author, Opinion::Junk, true);
        assert_eq!(judge(&facts), JunkVerdict::Refuse(JunkReason::History));
        facts.trusted = true;
        assert_eq!(judge(&facts), known);
    }

    #[test]
    fn spf_fails_only_against_senders_that_are_hardly_known() {
        use Basis as By;
        let weak = [By::Validated, By::Network, By::Nothing];
        // Whom the account wrote to counts as far as somebody stands behind the author.
        let wrote = [By::WroteToAuthor, By::WroteToDomain];
        let strong = [By::Author, By::Domain];
        for basis in weak.into_iter().chain(wrote).chain(strong) {
            for (spf, author_validated) in [
                (SpfOutcome::Fail, false),
                (SpfOutcome::SoftFail, false),
                (SpfOutcome::SoftFail, true),
            ] {
                let facts = JunkFacts {
                    history: history(basis, Opinion::Open, false),
                    spf: Some(spf),
                    author_validated,
                    ..JunkFacts::of_stranger()
                };
                let junk = judge(&facts) == JunkVerdict::Junk(JunkReason::SpfFails);
                let expected = weak.contains(&basis) || wrote.contains(&basis) && !author_validated;
                assert_eq!(junk, expected, "{basis:?}");
            }
        }
        for spf in [SpfOutcome::Pass, SpfOutcome::Neutral, SpfOutcome::TempError] {
            let facts = JunkFacts {
                spf: Some(spf),
                ..JunkFacts::of_stranger()
            };
            assert_eq!(judge(&facts), JunkVerdict::Accept(Acceptance::Stranger));
        }
    }

    #[test]
    fn a_history_that_leans_to_junk_needs_a_client_without_a_name() {
        let mut facts = JunkFacts {
            history: history(Basis::Author, Opinion::Junk, false),
            ..JunkFacts::of_stranger()
        };
        assert_eq!(judge(&facts), JunkVerdict::Accept(Acceptance::Unsure));
        facts.doubts.iprev_not_pass = true;
        assert_eq!(judge(&facts), JunkVerdict::Junk(JunkReason::LeansToJunk));
        facts.history.opinion = Opinion::Open;
        assert_eq!(judge(&facts), JunkVerdict::Accept(Acceptance::Unsure));
    }

    #[test]
    fn words_make_junk_and_refuse_only_with_two_doubts() {
        let doubts = |iprev_not_pass, no_tls, not_addressed| Doubts {
            iprev_not_pass,
            iprev_fails: false,
            no_tls,
            not_addressed,
        };
        let of = |probability, doubts| {
            judge(&JunkFacts {
                content: content(probability),
                doubts,
                ..JunkFacts::of_stranger()
            })
        };
        let junk = JunkVerdict::Junk(JunkReason::Content);
        let refused = JunkVerdict::Refuse(JunkReason::CertainContent);
        let taken = JunkVerdict::Accept(Acceptance::Stranger);
        assert_eq!(of(0.95, doubts(true, true, true)), taken);
        assert_eq!(of(0.96, doubts(true, true, true)), junk);
        assert_eq!(of(0.999, doubts(true, true, true)), junk);
        assert_eq!(of(0.9995, doubts(true, false, false)), junk);
        assert_eq!(of(0.9995, doubts(true, true, false)), refused);
        assert_eq!(of(0.9995, doubts(false, true, true)), refused);
    }

    /// The words and the block lists are still asked, and nobody waits.
    #[test]
    fn an_unproved_author_whom_the_account_wrote_to_is_not_taken_whatever_else() {
        let mut facts = JunkFacts {
            history: history(Basis::WroteToAuthor, Opinion::Good, false),
            ..JunkFacts::of_stranger()
        };
        assert_eq!(judge(&facts), JunkVerdict::Accept(Acceptance::Unsure));
        facts.content = content(0.97);
        assert_eq!(judge(&facts), JunkVerdict::Junk(JunkReason::Content));
        facts.content = None;
        facts.listed = Some(listed());
        let refused = JunkVerdict::Refuse(JunkReason::Listed(listed()));
        assert_eq!(judge(&facts), refused);
    }

    #[test]
    fn no_block_list_counts_for_mail_that_a_server_of_ours_forwards_and_nobody_waits() {
        let mut facts = JunkFacts {
            forwarded: true,
            listed: Some(listed()),
            ..JunkFacts::of_stranger()
        };
        assert_eq!(judge(&facts), JunkVerdict::Accept(Acceptance::Known));
        facts.content = content(0.97);
        assert_eq!(judge(&facts), JunkVerdict::Junk(JunkReason::Content));
    }

    #[test]
    fn a_block_list_comes_last() {
        let mut facts = JunkFacts {
            listed: Some(listed()),
            ..JunkFacts::of_stranger()
        };
        let refused = JunkVerdict::Refuse(JunkReason::Listed(listed()));
        assert_eq!(judge(&facts), refused);
        facts.content = content(0.97);
        assert_eq!(judge(&facts), JunkVerdict::Junk(JunkReason::Content));
    }

    #[test]
    fn one_doubt_lowers_the_threshold() {
        let none = Doubts::default();
        assert!(!none.lower_the_threshold());
        let no_answer = Doubts {
            iprev_not_pass: true,
            ..none
        };
        assert!(!no_answer.lower_the_threshold(), "iprev may have no answer");
        for doubts in [
            Doubts {
                iprev_fails: true,
                ..none
            },
            Doubts {
                no_tls: true,
                ..none
            },
            Doubts {
                not_addressed: true,
                ..none
            },
        ] {
            assert!(doubts.lower_the_threshold());
        }
    }
}
