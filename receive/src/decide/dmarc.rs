//! What becomes of a message by the check of its author's domain (RFC 9989 §7).

use postrider_config::DmarcHandling;
use postrider_smtp::ReversePath;
use postrider_store::DmarcOverride as Override;

use super::{
    Refusal, Suspicion, Verdict,
    end::{Case, Differs, Judged},
    ruleset::Vouched,
};
use crate::{
    checks::{
        dkim::DkimOutcome,
        dmarc::{DmarcOutcome, DmarcPolicy, DmarcResult},
        results::AuthenticationResults,
    },
    facts::Facts,
};

/// Judges a message by its author's domain. A message that was not checked is accepted.
pub(super) fn judge(case: &Case<'_>) -> Judged {
    let facts = case.facts;
    let Some((results, dmarc)) = case
        .results
        .and_then(|results| results.dmarc.as_ref().map(|dmarc| (results, dmarc)))
    else {
        return Judged::plain(Verdict::Accept);
    };
    let never_refused = case.takes_all();
    let Some(from) = &dmarc.from else {
        let is_null = case.transaction.mail.reverse_path == ReversePath::Null;
        return Judged::plain(match is_null || never_refused {
            true => Verdict::Junk(Suspicion::FromUnclear),
            false => Verdict::Refuse(Refusal::FromUnclear),
        });
    };
    let handling = case.policy.statics.policy.dmarc;
    let vouched = Vouched::by(case);
    let believed = match vouched {
        Vouched::Forward => Some((
            Override::TrustedForwarder,
            "none: forwarded by a server of ours",
        )),
        Vouched::List => Some((Override::MailingList, "none: sent by a list")),
        // SPF might have passed where the message came in.
        _ if facts.client_is_local => Some((
            Override::TrustedForwarder,
            "none: from this machine, without SPF",
        )),
        Vouched::No | Vouched::ListUnproved => None,
    };
    if let Some((kind, why)) = believed {
        let fails = dmarc.outcome == DmarcOutcome::Fail
            && !matches!(dmarc.policy, None | Some(DmarcPolicy::None));
        return match fails {
            true => Judged::differing(Verdict::Accept, kind, why),
            false => Judged::plain(Verdict::Accept),
        };
    }
    match dmarc.outcome {
        DmarcOutcome::Pass | DmarcOutcome::None | DmarcOutcome::PermError => {
            Judged::plain(Verdict::Accept)
        }
        DmarcOutcome::Fail => {
            let of_list = vouched == Vouched::ListUnproved || is_of_list(results, facts);
            failed(case, dmarc, results, of_list)
        }
        // A policy that is not known may be any.
        DmarcOutcome::TempError
            if dmarc.from_is_validated()
                || dmarc.policy == Some(DmarcPolicy::None)
                || handling == DmarcHandling::Report =>
        {
            Judged::plain(Verdict::Accept)
        }
        DmarcOutcome::TempError if never_refused => Judged::differing(
            Verdict::Junk(Suspicion::NoAnswer),
            Override::LocalPolicy,
            NEVER_REFUSED,
        ),
        DmarcOutcome::TempError => {
            Judged::plain(Verdict::Refuse(Refusal::DmarcNoAnswer(from.clone())))
        }
    }
}

const NEVER_REFUSED: &str = "junk: the recipient takes all mail";

/// Judges a message that failed.
fn failed(
    case: &Case<'_>,
    dmarc: &DmarcResult,
    results: &AuthenticationResults,
    of_list: bool,
) -> Judged {
    let handling = case.policy.statics.policy.dmarc;
    let never_refused = case.takes_all();
    let junk = Verdict::Junk(Suspicion::DmarcFail);
    match (dmarc.policy, handling) {
        (None | Some(DmarcPolicy::None), _) => Judged::plain(Verdict::Accept),
        _ if results.arc_vouches.is_some() => Judged {
            verdict: Verdict::Accept,
            differs: results.arc_vouches.as_ref().map(|sealer| Differs {
                kind: Override::LocalPolicy,
                text: format!("none: {} saw it pass", sealer.ascii()).into(),
            }),
        },
        (_, DmarcHandling::Report) => {
            let why = "none: this server only reports";
            Judged::differing(Verdict::Accept, Override::LocalPolicy, why)
        }
        (Some(DmarcPolicy::Quarantine), _) => Judged::plain(junk),
        (Some(DmarcPolicy::Reject), _) if of_list => {
            Judged::differing(junk, Override::MailingList, "junk: sent by a list")
        }
        (Some(DmarcPolicy::Reject), _) if is_broken_on_the_way(case, results, dmarc) => {
            let why = "junk: broken on the way, and a good domain stands behind it";
            Judged::differing(junk, Override::LocalPolicy, why)
        }
        (Some(DmarcPolicy::Reject), DmarcHandling::Junk) => {
            let why = "junk: this server refuses nothing by DMARC";
            Judged::differing(junk, Override::LocalPolicy, why)
        }
        (Some(DmarcPolicy::Reject), DmarcHandling::Enforce) if never_refused => {
            Judged::differing(junk, Override::LocalPolicy, NEVER_REFUSED)
        }
        (Some(DmarcPolicy::Reject), DmarcHandling::Enforce) => {
            let domain = dmarc.record_domain.clone().unwrap_or_default();
            Judged::plain(Verdict::Refuse(Refusal::DmarcFail {
                domain,
                reason: dmarc.reason.clone(),
            }))
        }
    }
}

/// The author's domain signed the message, the signature is broken, and a domain that the account
/// knows as good stands behind the message. RFC 9989 §7.4 asks not to refuse such mail.
fn is_broken_on_the_way(
    case: &Case<'_>,
    results: &AuthenticationResults,
    dmarc: &DmarcResult,
) -> bool {
    let signed = results.dkim.iter().any(|result| {
        result.outcome == DkimOutcome::Fail
            && result.domain.is_some()
            && result.domain == dmarc.from
    });
    let junk = case.target.junk.as_ref();
    // At best, a domain without an answer for now is a good one.
    let real = case.facts.authentication.as_deref();
    let may_pass = case.at_best && real.is_some_and(AuthenticationResults::has_unanswered_domain);
    signed && junk.is_some_and(|junk| junk.good_domain_passes || may_pass)
}

/// A list passed the message on, and its domain stands behind that. RFC 9989 §7.4 asks not to
/// refuse such mail. The message failed, so each pass is one of another domain than the author's.
fn is_of_list(results: &AuthenticationResults, facts: &Facts) -> bool {
    let header = facts.header.as_ref();
    let of_list = header.is_some_and(|header| header.has("List-Id") || header.has("List-Post"));
    of_list && (results.mail_from_is_validated() || !results.dkim_domains().is_empty())
}
