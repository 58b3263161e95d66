//! Reports to other domains: how TLS went with their hosts (TLSRPT, RFC 8460), and what DMARC said
//! of mail in their name (RFC 9990).
//!
//! | module | its job |
//! |---|---|
//! | `seen` | what a connection means for the policies of a domain, as a pure function |
//! | `gather` | counts in memory, until they are noted in the store |
//! | `schedule` | when reports are sent, as pure functions |
//! | `worker` | the loop that sends the reports that are due |
//! | `address`, `external` | to whom: the addresses of records, and the consent of others |
//! | `tls_body`, `dmarc_body` | what is in a report |
//! | `mail` | a report as a message |
//! | `preview`, `dmarc_json` | what a report that waits would say, for administrators |
//! | `bounced` | the addresses that take no reports |
//!
//! A day of UTC is counted. Some time after its end a report goes to those who ask for it then. The
//! store has the counts and the due reports, so a restart loses the counts of some seconds, and no
//! report.

mod address;
mod bounced;
mod dmarc_body;
mod dmarc_json;
mod external;
mod gather;
mod mail;
mod preview;
mod schedule;
pub(crate) mod seen;
mod tls_body;
mod worker;

use std::sync::atomic::Ordering;

use postrider_config::{Dynamic, ReportsTls};
use postrider_smtp::{Address, Domain, Host, LocalPart};
use postrider_store::{Origin, ReportKind, Time, TlsResults};
use tracing::warn;

pub(crate) use bounced::is_worn;
pub use gather::DmarcSeen;
pub(crate) use gather::Gathered;
pub use preview::{ReportPreview, ReportUri};

use crate::{Queue, deliver};

/// The URIs of the TLSRPT record among the texts of a name, as the record has them.
pub(crate) fn tls_uris(texts: &[Vec<u8>]) -> Vec<String> {
    let addresses = address::addresses(texts, address::TLSRPT).into_iter();
    addresses.map(|address| address.uri).collect()
}

/// Who sends a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sender {
    /// The domain of this server: the nearest domain of domains.conf at or above its host name.
    domain: String,
    /// The author.
    from: Address,
}

impl Sender {
    /// Whether a DKIM key signs its reports.
    fn signs(&self, config: &Dynamic, kind: ReportKind) -> bool {
        deliver::signs(config, &self.from, &Origin::Report(kind))
    }
}

/// The first and the last second of the day that a report is about. The day is the number of days
/// since 1970, in UTC.
#[must_use]
pub fn report_range(day: u32) -> (Time, Time) {
    (schedule::begin(day), schedule::last_second(day))
}

impl Queue {
    /// Whether the configuration wants reports of this kind.
    pub(crate) fn sends_reports(&self, kind: ReportKind) -> bool {
        match kind {
            ReportKind::Tls => self.statics.reports.tls != ReportsTls::None,
            ReportKind::Dmarc => self.statics.reports.dmarc,
        }
    }

    /// Whether results about TLS are told. Two servers would report to each other for ever that all
    /// is well.
    fn tells(&self, results: &TlsResults) -> bool {
        let mut counts = results.counts.iter();
        self.statics.reports.tls == ReportsTls::All || counts.any(|it| it.failures > 0)
    }

    /// The author of reports.
    fn report_author(&self, config: &Dynamic) -> Sender {
        let hostname = &self.statics.hostname;
        let domain = deliver::nearest_domain(config, hostname).map_or(hostname, |(name, _)| name);
        let from = self.statics.reports.from.clone();
        Sender {
            domain: domain.ascii().to_owned(),
            from: from.unwrap_or_else(|| postmaster(domain)),
        }
    }

    /// The sender of reports. None if its reports would not be signed: nobody believes such a
    /// report, so it is not sent (RFC 8460 §3). That is told once.
    fn report_sender(&self, config: &Dynamic, kind: ReportKind) -> Option<Sender> {
        let author = self.report_author(config);
        if author.signs(config, kind) {
            return Some(author);
        }
        if !self.unsigned_told.swap(true, Ordering::Relaxed) {
            warn!(
                from = %author.from,
                "no reports about TLS and DMARC are sent: no DKIM key signs for their sender; give \
                 its domain a key, set reports.from, or turn reports.tls and reports.dmarc off"
            );
        }
        None
    }
}

fn postmaster(domain: &Domain) -> Address {
    Address {
        local: LocalPart::postmaster(),
        host: Host::Domain(domain.clone()),
    }
}
