//! Which reports a list has.

use std::collections::BTreeSet;

use postrider_smtp::Address;

use super::{ReceivedKind, ReceivedReport};

/// What lists say of a report that may be from anybody.
const NOT_VERIFIED: &str = "not verified";

/// Which reports. All given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceivedFilter {
    /// What they are about.
    pub kind: Option<ReceivedKind>,
    /// This text is in what is known of them, in any case. Their numbers and their kind are found
    /// as a whole, and the time when they came by its beginning.
    pub text: Option<String>,
    /// All their domains are among these, in ASCII. Recipients of other domains are not shown, and
    /// their addresses match no text.
    pub domains: Option<BTreeSet<String>>,
    /// Only those that can be read.
    pub readable: bool,
}

impl ReceivedFilter {
    /// Whether a recipient may be known to those who asked: it is of their domains.
    pub(super) fn shows(&self, recipient: &str) -> bool {
        self.domains.as_ref().is_none_or(|domains| {
            let address = Address::parse(recipient).ok();
            let domain = address.as_ref().and_then(|address| address.host.domain());
            domain.is_some_and(|domain| domains.contains(domain.ascii()))
        })
    }

    /// Takes the recipients from a report that are not of the wanted domains. One mail may come to
    /// several.
    pub fn narrow(&self, report: &mut ReceivedReport) {
        report.about.to.retain(|to| self.shows(to));
    }

    /// Whether a report matches.
    #[must_use]
    pub fn matches(&self, report: &ReceivedReport) -> bool {
        let about = &report.about;
        let has = |text: &String| {
            let text = text.to_lowercase();
            let to = about.to.iter().filter(|to| self.shows(to));
            let message = about.message.iter();
            let of_message = message.flat_map(|message| {
                let single = [&message.feedback_type, &message.source, &message.sender];
                single.into_iter().chain(&message.recipients)
            });
            let lists = to.chain(&about.domains).chain(of_message);
            let single = [
                &about.from,
                &about.subject,
                &about.reporter,
                &about.organization,
                &about.report_id,
                &about.error,
            ];
            let mut all = single.into_iter().chain(lists);
            let is_number = |number: u64| number.to_string() == text;
            let queued = about.message.as_ref().and_then(|it| it.queue_id);
            all.any(|found| found.to_lowercase().contains(&text))
                || about.kind.as_str() == text
                || !about.verified && NOT_VERIFIED.contains(&text)
                || report
                    .received
                    .to_string()
                    .to_lowercase()
                    .starts_with(&text)
                || is_number(report.id.0)
                || queued.is_some_and(|id| is_number(id.0))
        };
        self.kind.is_none_or(|kind| kind == about.kind)
            && (!self.readable || about.was_read())
            && self.text.as_ref().is_none_or(has)
            && self.domains.as_ref().is_none_or(|domains| {
                !about.domains.is_empty() && about.domains.iter().all(|it| domains.contains(it))
            })
    }
}
