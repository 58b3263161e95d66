//! Why a mail for reports has no report that counts, and the limits of all work on it.

use std::time::Duration;

/// The most bytes of a packed report.
pub const PACKED_MAX: usize = 16 << 20;
/// The most bytes of a report that is not packed.
pub const UNPACKED_MAX: usize = 32 << 20;
/// The most bytes of a mail that is read: a packed report in base64, and what stands around it.
pub const MAIL_MAX: u64 = 24 << 20;
/// The most entries of a ZIP archive, folders included.
pub const ENTRIES_MAX: usize = 4;
/// The most records of a report about DMARC, or policies and failures of one about TLS.
pub const RECORDS_MAX: usize = 100_000;
/// The most messages, or sessions, that one report may tell of. Numbers beyond make no sense, and
/// counters must never come to their end.
pub const COUNT_MAX: u64 = 4_000_000_000;
/// The most levels of elements in XML, or of objects and lists in JSON.
pub const DEPTH_MAX: usize = 16;

/// The longest time that a report about DMARC or TLS tells of. Nearly all tell of a day; a domain
/// may ask for one report a week (`ri=604800`, RFC 7489 §6.3).
pub const RANGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why a mail has no report that counts. Its text is for the list of reports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportFault {
    /// A limit on the work for one report.
    #[error("the report is over a limit: {0}")]
    Limit(Limit),
    /// No part has a report in a form that is known.
    #[error("no part of the mail has a report that can be read")]
    Missing,
    /// The packed form is damaged, or of a kind that is not read.
    #[error("the report can't be unpacked: {0}")]
    Packed(&'static str),
    /// A packed file in a packed file.
    #[error("the report is packed twice")]
    PackedTwice,
    /// A document type, and with it entities, have no place in a report.
    #[error("the report has a document type declaration")]
    DocumentType,
    /// The XML or JSON can't be read.
    #[error("the report can't be read: {0}")]
    Syntax(String),
    /// Something is missing without which a report means nothing.
    #[error("the report has no {0}")]
    Without(&'static str),
    /// The report is about a domain that is not ours.
    #[error("the report is about {0}, which is no domain of this server")]
    Foreign(String),
    /// The report tells of a time that has not come.
    #[error("the report is about a time in the future")]
    Future,
    /// The report tells of a time that is over for so long that nothing of it is kept any more.
    #[error("the report is about a time that is over for longer than reports are kept")]
    Old,
    /// The report tells of more than [`RANGE_MAX`].
    #[error("the report is about more than 7 days")]
    Long,
    /// The range ends before it begins.
    #[error("the time of the report ends before it begins")]
    Backwards,
    /// The text of the mail can't be read any more, or reading it broke off.
    #[error("the mail can't be read")]
    Unreadable,
}

/// A limit on the work for one report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// [`MAIL_MAX`].
    #[error("24 MiB of mail")]
    Mail,
    /// [`PACKED_MAX`].
    #[error("16 MiB packed")]
    PackedSize,
    /// [`UNPACKED_MAX`].
    #[error("32 MiB unpacked")]
    UnpackedSize,
    /// [`ENTRIES_MAX`].
    #[error("4 entries of an archive")]
    Entries,
    /// [`RECORDS_MAX`].
    #[error("100,000 records")]
    Records,
    /// The results and reasons of all records, or the values of a JSON text.
    #[error("the results of 100,000 records")]
    Values,
    /// [`COUNT_MAX`].
    #[error("4,000,000,000 messages or sessions")]
    Counts,
    /// [`DEPTH_MAX`].
    #[error("16 levels")]
    Depth,
    /// The domains that one report is about.
    #[error("100 domains")]
    Domains,
    /// The time for one report.
    #[error("10 seconds")]
    Time,
}

impl From<Limit> for ReportFault {
    fn from(limit: Limit) -> Self {
        Self::Limit(limit)
    }
}

/// Says whether there is time left. Nothing here reads a clock.
#[derive(Clone, Copy)]
pub struct Patience<'a>(&'a (dyn Fn() -> bool + Sync));

impl<'a> Patience<'a> {
    /// The time is over when `is_over` says so.
    #[must_use]
    pub const fn until(is_over: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self(is_over)
    }

    /// # Errors
    /// If the time is over.
    pub(crate) fn check(self) -> Result<(), ReportFault> {
        match self.0() {
            true => Err(Limit::Time.into()),
            false => Ok(()),
        }
    }
}
