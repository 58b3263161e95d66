//! Which mails may be reports, and who stands behind them.

use postrider_config::{Dynamic, Static};
use postrider_queue::header::Header;
use postrider_smtp::Address;
use postrider_store::{NewArrivedReport, QueueId, TextSource, Time};

use crate::{
    checks::{
        dkim::DkimResult,
        dmarc::{DmarcOutcome, organisation_by_suffix},
        results::AuthenticationResults,
    },
    facts::{Facts, RecipientFacts},
    resolve::reports_at,
};

/// The note that a mail may be a report: if one of the `recipients` that took it is an address for
/// reports, or if it says that it is a report about a message. `size` is that of its text, and
/// `queue_id` the message of ours that it complains about.
pub(crate) fn arrived<'a>(
    (statics, config): (&Static, &Dynamic),
    facts: &Facts,
    recipients: impl Iterator<Item = &'a RecipientFacts> + Clone,
    size: u64,
    queue_id: Option<QueueId>,
    received: Time,
) -> Option<NewArrivedReport> {
    let is_for_reports = |recipient: &&RecipientFacts| {
        // Only these are looked up among all domains.
        recipient.targets().iter().any(|target| target.takes_all)
            && reports_at(&recipient.address, statics, config).any()
    };
    let addresses = |recipients: &mut dyn Iterator<Item = &'a RecipientFacts>| {
        let mut addresses: Vec<Address> = Vec::new();
        for recipient in recipients {
            if !addresses.contains(&recipient.address) {
                addresses.push(recipient.address.clone());
            }
        }
        addresses
    };
    let mut rcpt_to = addresses(&mut recipients.clone().filter(is_for_reports));
    let for_reports = !rcpt_to.is_empty();
    let header = facts.header.as_ref();
    if !for_reports {
        if !header.is_some_and(Header::is_feedback) {
            return None;
        }
        let mut all = recipients;
        rcpt_to = addresses(&mut all);
    }
    if rcpt_to.is_empty() {
        return None;
    }
    let from = header.and_then(Header::from).cloned();
    let results = facts.authentication.as_deref();
    Some(NewArrivedReport {
        text: TextSource::New,
        size,
        received,
        rcpt_to,
        for_reports,
        // A login proves an account, and no reporter: it is no reason to believe a report.
        from_passed: facts.is_our_report || results.is_some_and(dmarc_passed),
        signed_for_tls: facts.is_our_report
            || results.is_some_and(|results| is_signed_for_tls(results, from.as_ref())),
        from,
        queue_id,
    })
}

fn dmarc_passed(results: &AuthenticationResults) -> bool {
    let dmarc = results.dmarc.as_ref();
    dmarc.is_some_and(|dmarc| dmarc.outcome == DmarcOutcome::Pass)
}

/// RFC 8460 §3: the author's organisation signed the whole report, with a key that may do so.
fn is_signed_for_tls(results: &AuthenticationResults, from: Option<&Address>) -> bool {
    let Some(author) = from.and_then(|from| from.host.domain()) else {
        return false;
    };
    let author = organisation_by_suffix(author);
    let is_by_author = |result: &&DkimResult| {
        let domain = result.domain.as_ref();
        domain.is_some_and(|domain| organisation_by_suffix(domain) == author)
    };
    let mut signed = results.dkim.iter().filter(|it| it.for_tls_reports);
    signed.any(|result| is_by_author(&result))
}
