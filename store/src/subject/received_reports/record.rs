//! What is kept of reports that came in.

use postrider_smtp::Address;
use serde::{Deserialize, Serialize};

use super::ReceivedReportId;
use crate::{QueueId, TextId, TextSource, Time};

/// A mail that may be a report, to be read as one later. The fields are those of
/// [`ArrivedReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of ArrivedReport"
)]
pub struct NewArrivedReport {
    pub text: TextSource,
    pub size: u64,
    pub received: Time,
    pub rcpt_to: Vec<Address>,
    pub for_reports: bool,
    pub from: Option<Address>,
    pub from_passed: bool,
    pub signed_for_tls: bool,
    pub queue_id: Option<QueueId>,
}

/// A mail that may be a report, and that nobody has read as one yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrivedReport {
    /// The number of the mail here. A report that is found in it keeps the number.
    pub id: ReceivedReportId,
    /// The text of the mail.
    pub text: TextId,
    /// The bytes of the text.
    pub size: u64,
    /// When the mail came.
    pub received: Time,
    /// The recipients here: the addresses for reports, or, if there are none of these, all.
    pub rcpt_to: Vec<Address>,
    /// The recipients are addresses for reports. Otherwise the mail says that it is a report.
    pub for_reports: bool,
    /// The author, in the From field.
    pub from: Option<Address>,
    /// DMARC passed, or this server wrote the mail as a report of its own.
    pub from_passed: bool,
    /// A DKIM signature of the author's organisation is good for reports about TLS (RFC 8460 §3),
    /// or this server wrote the mail as a report of its own.
    pub signed_for_tls: bool,
    /// The message of our queue that the mail complains about, as far as it was found.
    pub queue_id: Option<QueueId>,
}

impl NewArrivedReport {
    /// The record with this number and this text.
    pub(super) fn record(self, id: ReceivedReportId, text: TextId) -> ArrivedReport {
        ArrivedReport {
            id,
            text,
            size: self.size,
            received: self.received,
            rcpt_to: self.rcpt_to,
            for_reports: self.for_reports,
            from: self.from,
            from_passed: self.from_passed,
            signed_for_tls: self.signed_for_tls,
            queue_id: self.queue_id,
        }
    }
}

/// What a report that came in is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReceivedKind {
    /// What DMARC said of mail from a domain (RFC 7489, RFC 9990).
    Dmarc,
    /// How TLS went with the hosts of a domain (RFC 8460).
    Tls,
    /// One message: a complaint about it, for example (RFC 5965).
    Arf,
}

impl ReceivedKind {
    /// The word for it in paths, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dmarc => "dmarc",
            Self::Tls => "tls",
            Self::Arf => "arf",
        }
    }
}

/// A report that came in, or a mail that should have been one. The report itself is in the text of
/// the mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedReport {
    /// The number of the report.
    pub id: ReceivedReportId,
    /// The text of the mail.
    pub text: TextId,
    /// The bytes of the text.
    pub size: u64,
    /// When the mail came.
    pub received: Time,
    /// When the store removes the report.
    pub keep_until: Time,
    /// All else.
    pub about: ReportSummary,
}

/// What a report says, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSummary {
    /// What it is about.
    pub kind: ReceivedKind,
    /// The author of the mail, as its From field has it.
    pub from: String,
    /// The recipients here.
    pub to: Vec<String>,
    /// The subject of the mail.
    pub subject: String,
    /// Who sent it: the domain of the author, in ASCII; empty: there is none.
    pub reporter: String,
    /// The name that the reporter gives itself; empty: none.
    pub organization: String,
    /// The id that the reporter gave the report; empty: none.
    pub report_id: String,
    /// The domains that it is about, in ASCII. Of a mail in which no report was found, the domain
    /// of the address that it came to. A report about one message is about all domains of the
    /// accounts that have to do with it. None: they are too many, or the account that sent the
    /// message is gone, or a version wrote it that did not look for the accounts.
    pub domains: Vec<String>,
    /// The first moment that it is about.
    pub begin: Option<Time>,
    /// The last moment that it is about.
    pub end: Option<Time>,
    /// It is from whom it says. Reports that are not are listed, and count for nothing.
    pub verified: bool,
    /// Why it is not usable; empty: it is.
    pub error: String,
    /// The messages (DMARC) or sessions (TLS) that passed.
    pub passed: u64,
    /// The messages (DMARC) or sessions (TLS) that did not pass; for a report about one message, 1.
    pub failed: u64,
    /// The message that a report is about. None for other kinds.
    pub message: Option<ReportedMessage>,
}

impl ReportSummary {
    /// A report was found in the mail that can be read, perhaps one that is not usable. Of others
    /// nothing is known but the mail.
    #[must_use]
    pub const fn was_read(&self) -> bool {
        self.error.is_empty() || self.begin.is_some() || self.message.is_some()
    }
}

/// The message that a report is about (RFC 5965).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportedMessage {
    /// What happened to it, for example `abuse` or `auth-failure`.
    pub feedback_type: String,
    /// The address that it came from; empty: unknown.
    pub source: String,
    /// Its MAIL FROM; empty: unknown.
    pub sender: String,
    /// Its recipients.
    pub recipients: Vec<String>,
    /// Its number in our queue. None: it was not found.
    pub queue_id: Option<QueueId>,
}

/// A report that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewReceivedReport {
    /// What it says, in short.
    pub about: ReportSummary,
    /// When the store removes it.
    pub keep_until: Time,
    /// The name of the report. The store keeps one of each name. None: any number.
    pub name: Option<String>,
    /// What it adds to the sums.
    pub sums: Option<NewSums>,
}

/// The bytes that all kept reports and sums may have. Sums have a quarter of it at most: with more,
/// the oldest days go. With more reports, the oldest go: first those that are not verified, then
/// the others. A report that goes for want of room leaves no name behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRoom(pub u64);

/// What a report about DMARC adds to the sums of a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSums {
    /// The domain, in ASCII.
    pub domain: String,
    /// Days since 1970, in UTC.
    pub day: u32,
    /// Who reports: a domain, in ASCII.
    pub reporter: String,
    /// When the sums of the day go.
    pub keep_until: Time,
    /// The sums.
    pub rows: Vec<NewSum>,
}

/// What a report adds to one sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSum {
    /// The network that the messages came from, as `192.0.2.0/24`.
    pub source: String,
    /// The domain of the author, in ASCII.
    pub from: String,
    /// The messages.
    pub sum: ReportSum,
}

/// Messages, by what DMARC said and what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportSum {
    /// All of them.
    pub messages: u64,
    /// DMARC passed.
    pub passed: u64,
    /// Nothing was done by DMARC.
    pub none: u64,
    /// They were taken for suspicious.
    pub quarantined: u64,
    /// They were refused.
    pub rejected: u64,
}

impl ReportSum {
    /// Adds other messages.
    pub const fn add(&mut self, more: &Self) {
        self.messages = self.messages.saturating_add(more.messages);
        self.passed = self.passed.saturating_add(more.passed);
        self.none = self.none.saturating_add(more.none);
        self.quarantined = self.quarantined.saturating_add(more.quarantined);
        self.rejected = self.rejected.saturating_add(more.rejected);
    }
}
