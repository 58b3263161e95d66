//! What a report that waits would say if it was sent now.

use postrider_store::{DueReport, ReportKind, StoreError};
use serde_json::Value;

use super::{Sender, address::ReportAddress, dmarc_json, tls_body, worker::ReportError};
use crate::Queue;

/// A report that waits, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportPreview {
    /// What it would say: the JSON of RFC 8460, or an aggregate report about DMARC in the form of
    /// JSON that clients of Stalwart know.
    pub report: Value,
    /// Those who ask for it now, and agree to get it.
    pub addresses: Vec<ReportUri>,
    /// Why it would not be sent now. None: it would be.
    pub obstacle: Option<String>,
}

/// Who gets a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportUri {
    /// The URI, as the record has it, without its size.
    pub uri: String,
    /// The largest report that it takes, in bytes. None: the record has no limit.
    pub size_max: Option<u64>,
}

impl From<ReportAddress> for ReportUri {
    fn from(address: ReportAddress) -> Self {
        Self {
            uri: address.uri,
            size_max: address.size_max,
        }
    }
}

impl Queue {
    /// What a report would say if it was sent now, and to whom. Asks DNS who wants it. None: there
    /// are no results for it.
    ///
    /// # Errors
    /// If the store can't be read.
    pub async fn preview_report(
        &self,
        report: &DueReport,
    ) -> Result<Option<ReportPreview>, StoreError> {
        let config = self.config.load_full();
        let author = self.report_author(&config);
        let id = self.report_id(report, &author);
        let (day, domain) = (report.day, report.domain.as_str());
        let mut told = true;
        let content = match report.kind {
            ReportKind::Tls => {
                let results = self.store.tls_results(day, domain).await?;
                told = results.as_ref().is_some_and(|it| self.tells(it));
                results.map(|results| tls_body::report(&results, &author, &id))
            }
            ReportKind::Dmarc => {
                let results = self.store.dmarc_results(day, domain).await?;
                results.map(|results| dmarc_json::report((day, domain), &results, &author, &id))
            }
        };
        let Some(content) = content else {
            return Ok(None);
        };
        let (addresses, failure) = match self.report_addresses(report).await {
            Ok(addresses) => (addresses, None),
            Err(ReportError::Store(error)) => return Err(error),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let addresses: Vec<ReportUri> = addresses.into_iter().map(ReportUri::from).collect();
        let obstacle = self.obstacle(report.kind, &author, told).or(failure);
        let obstacle = obstacle.or_else(|| {
            let nobody = addresses.is_empty();
            nobody.then(|| format!("no record of {domain} asks for reports"))
        });
        Ok(Some(ReportPreview {
            report: content,
            addresses,
            obstacle,
        }))
    }

    /// Why this server sends no such report. `told`: its results are told.
    fn obstacle(&self, kind: ReportKind, author: &Sender, told: bool) -> Option<String> {
        if !self.sends_reports(kind) {
            let key = match kind {
                ReportKind::Tls => "reports.tls",
                ReportKind::Dmarc => "reports.dmarc",
            };
            return Some(format!("{key} turns such reports off"));
        }
        if !author.signs(&self.config.load(), kind) {
            return Some(format!("no DKIM key signs for {}", author.from));
        }
        let text = "no connection failed, and reports.tls is \"failures\"";
        (!told).then(|| text.to_owned())
    }
}
