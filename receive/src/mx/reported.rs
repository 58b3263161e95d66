//! What a report to the author's domain says of a message (RFC 9990): facts and decision in, one
//! row out.

use postrider_config::Dynamic;
use postrider_queue::DmarcSeen;
use postrider_smtp::server::{Client, Transaction};
use postrider_store::{DmarcAction, DmarcOverride, DmarcRow, DmarcSignature};

use super::MxSession;
use crate::{
    checks::{
        dkim::{DkimOutcome, DkimResult},
        dmarc::{DmarcOutcome, DmarcPolicy, DmarcResult},
        results::AuthenticationResults,
    },
    decide::{Delivery, EndDecision, Outcome, Refusal, Role, Suspicion},
    facts::Facts,
    resolve::reports_to,
};

/// How many signatures of a message a row has.
const SIGNATURES_MAX: usize = 10;
/// The longest comment of a row, in bytes.
const COMMENT_MAX: usize = 200;

impl MxSession {
    /// What a report says of the message. None if there is nothing to report: the author's domain
    /// has no policy, the client is on this machine, the client will send the message again, or the
    /// message is a report itself. Two servers would report the reports of each other for ever.
    pub(super) fn reported(
        &self,
        client: &Client,
        transaction: &Transaction,
        decision: &EndDecision,
        config: &Dynamic,
    ) -> Option<DmarcSeen> {
        let facts = &self.facts;
        let policy = self.context.policy(Role::Mx, config);
        let is_for_reports = |address| reports_to(address, &policy).any();
        let mut recipients = facts.recipients.iter();
        let is_report = recipients.all(|recipient| is_for_reports(&recipient.address));
        if is_report || facts.client_is_local {
            return None;
        }
        seen(client, transaction, facts, decision)
    }

    /// Counts the message for a report.
    pub(super) fn count_for_report(&self, seen: Option<DmarcSeen>) {
        if let Some(seen) = seen {
            self.context.queue.count_dmarc(seen);
        }
    }
}

fn seen(
    client: &Client,
    transaction: &Transaction,
    facts: &Facts,
    decision: &EndDecision,
) -> Option<DmarcSeen> {
    let results = facts.authentication.as_deref()?;
    let dmarc = results.dmarc.as_ref()?;
    let (from, published) = (dmarc.from.as_ref()?, dmarc.published.clone()?);
    let again = |refusal: &Refusal| refusal.reply().code().is_transient();
    if decision.refusal.as_ref().is_some_and(again) {
        return None;
    }
    let disposition = disposition(dmarc, decision);
    let first = facts.recipients.first();
    let envelope_to = first.map(|recipient| recipient.address.host.ascii());
    let path = transaction.mail.reverse_path.address();
    let spf = results.spf.as_ref().and_then(|spf| {
        let domain = spf.domain.as_ref()?.ascii().to_owned();
        Some((domain, spf.outcome.as_str().to_owned()))
    });
    Some(DmarcSeen {
        domain: dmarc.record_domain.clone()?,
        row: DmarcRow {
            source: client.remote.ip().to_canonical(),
            disposition,
            dkim_aligned: dmarc.dkim_aligned,
            spf_aligned: dmarc.spf_aligned,
            overrides: overrides(dmarc, disposition, decision, published.testing),
            header_from: from.ascii().to_owned(),
            envelope_from: path.map(|path| path.host.ascii()).unwrap_or_default(),
            envelope_to: envelope_to.unwrap_or_default(),
            dkim: signatures(results, dmarc),
            spf,
        },
        published,
    })
}

/// What was done by DMARC. If it was not the same for all recipients, the least counts: somebody
/// got the message.
fn disposition(dmarc: &DmarcResult, decision: &EndDecision) -> DmarcAction {
    let by_dmarc = |refusal: &Refusal| matches!(refusal, Refusal::DmarcFail { .. });
    let refusal = decision.refusal.as_ref();
    let done = match refusal {
        Some(refusal) if by_dmarc(refusal) => DmarcAction::Reject,
        Some(_) => DmarcAction::None,
        None => {
            let done = decision.deliveries.iter().filter_map(done_for);
            done.min().unwrap_or(DmarcAction::None)
        }
    };
    let passed = dmarc.outcome == DmarcOutcome::Pass;
    let asks = dmarc.policy > Some(DmarcPolicy::None);
    match done {
        DmarcAction::None if passed && asks && refusal.is_none() => DmarcAction::Pass,
        done => done,
    }
}

/// None: it is no recipient of its own.
fn done_for(delivery: &Delivery) -> Option<DmarcAction> {
    Some(match &delivery.outcome {
        Outcome::Skipped(_) => return None,
        Outcome::Mailbox { junk, .. } | Outcome::Lmtp { junk, .. } => match junk {
            Some(Suspicion::DmarcFail) => DmarcAction::Quarantine,
            _ => DmarcAction::None,
        },
        Outcome::Rejects { refusal, .. } | Outcome::Refused(refusal) => match refusal {
            Refusal::DmarcFail { .. } => DmarcAction::Reject,
            _ => DmarcAction::None,
        },
        Outcome::Forward(_) | Outcome::Relay(_) | Outcome::Held => DmarcAction::None,
    })
}

/// Why something else was done with a message that failed than its policy says.
fn overrides(
    dmarc: &DmarcResult,
    disposition: DmarcAction,
    decision: &EndDecision,
    testing: bool,
) -> Vec<(DmarcOverride, String)> {
    let mut overrides = Vec::new();
    let asked = dmarc.policy.map_or(DmarcAction::None, DmarcPolicy::action);
    if dmarc.outcome == DmarcOutcome::Pass {
        return overrides;
    }
    if testing {
        overrides.push((DmarcOverride::PolicyTestMode, String::new()));
    }
    if disposition == asked {
        return overrides;
    }
    let mut deliveries = decision.deliveries.iter();
    let differs = deliveries.find_map(|delivery| delivery.differs.as_ref());
    overrides.push(match differs {
        Some(differs) => {
            let end = differs.text.floor_char_boundary(COMMENT_MAX);
            let comment = differs.text.get(..end).unwrap_or_default();
            (differs.kind, comment.to_owned())
        }
        None => (DmarcOverride::LocalPolicy, String::new()),
    });
    overrides
}

/// The signatures: first those that pass for the author's domain, then the others that pass (RFC
/// 9990 §3.3).
fn signatures(results: &AuthenticationResults, dmarc: &DmarcResult) -> Vec<DmarcSignature> {
    let mut signatures: Vec<&DkimResult> = results.dkim.iter().collect();
    let rank = |result: &DkimResult| match (result.outcome, result.domain == dmarc.from) {
        (DkimOutcome::Pass, true) => 0,
        (DkimOutcome::Pass, false) => 1,
        (_, true) => 2,
        (_, false) => 3,
    };
    signatures.sort_by_key(|result| rank(result));
    let signatures = signatures.into_iter().filter_map(|result| {
        Some(DmarcSignature {
            domain: result.domain.as_ref()?.ascii().to_owned(),
            selector: result.selector.clone()?,
            result: result.outcome.as_str().to_owned(),
        })
    });
    signatures.take(SIGNATURES_MAX).collect()
}
