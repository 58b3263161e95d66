//! Reports that came in: about DMARC, about TLS, and about single messages.

use std::collections::BTreeSet;

use postrider_receive::reports::find::Found;
use postrider_store::{
    OTHER_SOURCES, Order, ReceivedFilter, ReceivedKind, ReceivedReport, ReceivedReportId,
    ReportSum, SumGroup, SumsFilter, Time,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::info;

use super::{
    Operation, Single, Sink,
    pages::{Pages, send_pages},
    queue::{Piece, send_pieces},
};
use crate::{AdminError, Context};

/// How many rows of one report are shown.
const ROWS_MAX: usize = 10_000;

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = ReceivedReportType))]
#[serde(rename_all = "lowercase")]
pub enum ReceivedType {
    /// What DMARC said of mail from a domain.
    Dmarc,
    /// How TLS went with the hosts of a domain.
    Tls,
    /// One message, for example a complaint about it.
    Arf,
}

impl ReceivedType {
    /// The type with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "dmarc" => Some(Self::Dmarc),
            "tls" => Some(Self::Tls),
            "arf" => Some(Self::Arf),
            _ => None,
        }
    }
}

impl From<ReceivedType> for ReceivedKind {
    fn from(kind: ReceivedType) -> Self {
        match kind {
            ReceivedType::Dmarc => Self::Dmarc,
            ReceivedType::Tls => Self::Tls,
            ReceivedType::Arf => Self::Arf,
        }
    }
}

impl From<ReceivedKind> for ReceivedType {
    fn from(kind: ReceivedKind) -> Self {
        match kind {
            ReceivedKind::Dmarc => Self::Dmarc,
            ReceivedKind::Tls => Self::Tls,
            ReceivedKind::Arf => Self::Arf,
        }
    }
}

/// A report that came in, in short. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ReceivedReportItem {
    /// Its number.
    pub id: u64,
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: ReceivedType,
    /// When its mail came.
    pub received: String,
    /// When it is removed.
    pub expires: String,
    /// The author of the mail.
    pub from: String,
    /// The recipients here.
    pub to: Vec<String>,
    /// The subject of the mail.
    pub subject: String,
    /// Who sent it: the domain of the author, in ASCII.
    pub reporter: String,
    /// The name that the reporter gives itself.
    pub organization: String,
    /// The id that the reporter gave it.
    pub report_id: String,
    /// The domains that it is about, in ASCII.
    pub domains: Vec<String>,
    /// The first moment that it is about; None: unknown.
    pub begin: Option<String>,
    /// The last moment that it is about; None: unknown.
    pub end: Option<String>,
    /// It is from whom it says.
    pub verified: bool,
    /// Why it is not usable; None: it is.
    pub error: Option<String>,
    /// The messages or sessions that passed.
    pub passed: u64,
    /// The messages or sessions that did not pass.
    pub failed: u64,
    /// The message that it is about; None: it is about many.
    pub message: Option<ReportedMessageItem>,
}

/// The message that a report is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ReportedMessageItem {
    /// What happened to it, for example `abuse`.
    pub feedback_type: String,
    /// The address that it came from; empty: unknown.
    pub source: String,
    /// Its MAIL FROM; empty: unknown.
    pub sender: String,
    /// Its recipients.
    pub recipients: Vec<String>,
    /// Its number in the queue; None: it was not found there.
    pub queue_id: Option<u64>,
}

fn shown(time: Time) -> String {
    time.to_string()
}

impl From<&ReceivedReport> for ReceivedReportItem {
    fn from(report: &ReceivedReport) -> Self {
        let about = report.about.clone();
        let message = about.message.map(|message| ReportedMessageItem {
            feedback_type: message.feedback_type,
            source: message.source,
            sender: message.sender,
            recipients: message.recipients,
            queue_id: message.queue_id.map(|id| id.0),
        });
        Self {
            id: report.id.0,
            kind: about.kind.into(),
            received: shown(report.received),
            expires: shown(report.keep_until),
            from: about.from,
            to: about.to,
            subject: about.subject,
            reporter: about.reporter,
            organization: about.organization,
            report_id: about.report_id,
            domains: about.domains,
            begin: about.begin.map(shown),
            end: about.end.map(shown),
            verified: about.verified,
            error: Some(about.error).filter(|error| !error.is_empty()),
            passed: about.passed,
            failed: about.failed,
            message,
        }
    }
}

/// Which reports. All given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReceivedSelection {
    /// What they are about.
    #[serde(rename = "type")]
    pub kind: Option<ReceivedType>,
    /// This text is in their addresses, subject, names, id, domains or error, in any case. Their
    /// number and type are found as a whole, and their time by its beginning.
    pub text: Option<String>,
    /// All their domains are among these, in ASCII; None: any.
    pub domains: Option<BTreeSet<String>>,
    /// Only those that can be read. Others have an error, and nothing to show.
    pub readable: bool,
}

impl From<ReceivedSelection> for ReceivedFilter {
    fn from(selection: ReceivedSelection) -> Self {
        Self {
            kind: selection.kind.map(ReceivedKind::from),
            text: selection.text,
            domains: selection.domains,
            readable: selection.readable,
        }
    }
}

/// Lists reports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// The reports.
    pub filter: ReceivedSelection,
    /// The list begins behind the report with this number; None: with the first.
    pub after: Option<u64>,
    /// The order; newest first by default.
    pub order: Order,
    /// The largest number of reports; None: all.
    pub limit: Option<usize>,
}

impl Default for List {
    fn default() -> Self {
        Self {
            filter: ReceivedSelection::default(),
            after: None,
            order: Order::Descending,
            limit: None,
        }
    }
}

impl Operation for List {
    type Item = ReceivedReportItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<ReceivedReportItem>,
    ) -> Result<(), AdminError> {
        let filter = ReceivedFilter::from(self.filter);
        let begin = self.after.map(ReceivedReportId);
        send_pages(self.limit, items, |after, count| {
            let after = after.or(begin);
            context
                .store
                .received_reports(&filter, after, self.order, count)
        })
        .await
    }
}

fn missing(id: u64) -> AdminError {
    AdminError::not_found(format!("there is no report {id}")).at("id")
}

/// Finds a report that a caller may see.
async fn find(
    context: &Context,
    id: u64,
    filter: &ReceivedSelection,
) -> Result<ReceivedReport, AdminError> {
    let found = context.store.received_report(ReceivedReportId(id)).await?;
    let filter = ReceivedFilter::from(filter.clone());
    let found = found.filter(|report| filter.matches(report));
    let mut found = found.ok_or_else(|| missing(id))?;
    filter.narrow(&mut found);
    Ok(found)
}

/// Shows a report.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// Its number.
    pub id: u64,
    /// It has to match this.
    #[serde(default)]
    pub filter: ReceivedSelection,
}

/// A report that came in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ShownReport {
    #[serde(flatten)]
    #[cfg_attr(test, schema(inline))]
    #[expect(missing_docs, reason = "its fields have them")]
    pub item: ReceivedReportItem,
    /// What it says. About DMARC and single messages it has the fields of the standards in snake
    /// case, about TLS it is the JSON of RFC 8460. Null: it can't be read.
    #[cfg_attr(test, schema(value_type = Option<Object>))]
    pub report: Value,
    /// So many rows are left out at the end of the report.
    pub left_out: u64,
}

impl Single for Show {
    type Output = ShownReport;

    async fn answer(self, context: &Context) -> Result<ShownReport, AdminError> {
        let report = find(context, self.id, &self.filter).await?;
        let found = context.reports.open(&report).await?;
        let (found, left_out) = found.map_or((None, 0), |found| {
            let (found, left_out) = cut(found);
            (Some(found), left_out)
        });
        let value = match found {
            None => Ok(Value::Null),
            Some(Found::Dmarc(report)) => serde_json::to_value(report),
            Some(Found::Tls(report)) => serde_json::to_value(report),
            Some(Found::Arf(report)) => serde_json::to_value(report),
        };
        let value = value.map_err(|error| AdminError::internal(error.to_string()))?;
        Ok(ShownReport {
            item: ReceivedReportItem::from(&report),
            report: value,
            left_out,
        })
    }
}

/// Cuts a report that has too many rows. Gives how many were cut off.
fn cut(found: Found) -> (Found, u64) {
    match found {
        Found::Dmarc(mut report) => {
            let over = report.record.len().saturating_sub(ROWS_MAX);
            report.record.truncate(ROWS_MAX);
            (Found::Dmarc(report), over as u64)
        }
        Found::Tls(mut report) => {
            let (mut room, mut over) = (ROWS_MAX, 0);
            over += report.policies.len().saturating_sub(room);
            report.policies.truncate(room);
            for policy in &mut report.policies {
                let details = &mut policy.failure_details;
                over += details.len().saturating_sub(room);
                details.truncate(room);
                room -= details.len();
            }
            (Found::Tls(report), over as u64)
        }
        Found::Arf(report) => (Found::Arf(report), 0),
    }
}

/// Reads the mail of a report, as it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The number of the report.
    pub id: u64,
    /// It has to match this.
    #[serde(default)]
    pub filter: ReceivedSelection,
}

impl Operation for Raw {
    type Item = Piece;

    async fn run(self, context: &Context, items: &mut impl Sink<Piece>) -> Result<(), AdminError> {
        let report = find(context, self.id, &self.filter).await?;
        let text = context.store.text(report.text).await?;
        send_pieces(text.into(), report.size, items).await
    }
}

/// Removes a report. What it added to the sums stays.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Its number.
    pub id: u64,
    /// It has to match this.
    #[serde(default)]
    pub filter: ReceivedSelection,
}

impl Single for Remove {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = self.id.to_string();
        let context = &context.carrying("report.remove", &target, &());
        let removed = self.remove(context).await;
        context.record("report.remove", &target, &(), removed).await
    }
}

impl Remove {
    async fn remove(&self, context: &Context) -> Result<(), AdminError> {
        let report = find(context, self.id, &self.filter).await?;
        if !context.store.remove_received_report(report.id).await? {
            return Err(missing(self.id));
        }
        info!(id = self.id, "report removed by an administrator");
        Ok(())
    }
}

/// Removes all reports that match.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoveAll {
    /// The reports.
    pub filter: ReceivedSelection,
}

/// How many reports were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The number.
    pub removed: u64,
}

impl Single for RemoveAll {
    type Output = Removed;

    async fn answer(self, context: &Context) -> Result<Removed, AdminError> {
        let context = &context.carrying("report.remove_all", "reports", &self);
        let removed = self.remove(context).await;
        context
            .record("report.remove_all", "reports", &self, removed)
            .await
    }
}

impl RemoveAll {
    async fn remove(&self, context: &Context) -> Result<Removed, AdminError> {
        let filter = ReceivedFilter::from(self.filter.clone());
        let mut removed = 0;
        let mut pages = Pages::new(None);
        while let Some((after, count)) = pages.next() {
            let page = context
                .store
                .received_reports(&filter, after, Order::Descending, count)
                .await?;
            for report in pages.pass(page) {
                removed += u64::from(context.store.remove_received_report(report.id).await?);
            }
        }
        info!(removed, "reports removed by an administrator");
        Ok(Removed { removed })
    }
}

/// What sums are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SumsBy {
    /// The network that messages came from, and the domain of their author.
    #[default]
    Source,
    /// The day.
    Day,
    /// Who reports.
    Reporter,
}

impl SumsBy {
    /// The way with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "source" => Some(Self::Source),
            "day" => Some(Self::Day),
            "reporter" => Some(Self::Reporter),
            _ => None,
        }
    }
}

impl From<SumsBy> for postrider_store::SumsBy {
    fn from(by: SumsBy) -> Self {
        match by {
            SumsBy::Source => Self::Source,
            SumsBy::Day => Self::Day,
            SumsBy::Reporter => Self::Reporter,
        }
    }
}

/// The messages of one network, day or reporter, over all verified reports about DMARC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ReportSumItem {
    /// The day, as `2026-11-28`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The network that the messages came from: /24 or /64, or `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The domain of their author; empty for `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The domain of those who report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporter: Option<String>,
    /// All messages.
    pub messages: u64,
    /// Those for which DMARC passed.
    pub passed: u64,
    /// Those for which it did not.
    pub failed: u64,
    /// Those with which nothing was done by DMARC.
    pub none: u64,
    /// Those that were taken for suspicious.
    pub quarantined: u64,
    /// Those that were refused.
    pub rejected: u64,
}

impl ReportSumItem {
    fn new(group: SumGroup, sum: ReportSum, by: SumsBy) -> Self {
        let is = |wanted: SumsBy, text: String| (by == wanted).then_some(text);
        Self {
            day: group.day.map(date),
            source: is(SumsBy::Source, group.source),
            from: is(SumsBy::Source, group.from),
            reporter: is(SumsBy::Reporter, group.reporter),
            messages: sum.messages,
            passed: sum.passed,
            failed: sum.messages.saturating_sub(sum.passed),
            none: sum.none,
            quarantined: sum.quarantined,
            rejected: sum.rejected,
        }
    }

    /// All that could not be told apart stands last.
    pub(crate) fn is_rest(&self) -> bool {
        let names = [&self.source, &self.reporter];
        names
            .into_iter()
            .flatten()
            .any(|name| name == OTHER_SOURCES)
    }
}

/// The date of a day.
fn date(day: u32) -> String {
    let time = Time(i64::from(day) * 86_400_000_000);
    time.timestamp().strftime("%Y-%m-%d").to_string()
}

/// Sums the verified reports about DMARC. Days come in their order, all else by its messages.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sums {
    /// The domain, in ASCII; None: all.
    pub domain: Option<String>,
    /// The domain is one of these; None: any.
    pub domains: Option<BTreeSet<String>>,
    /// From the day with this time on.
    pub since: Option<Time>,
    /// Days that begin before this time.
    pub before: Option<Time>,
    /// What sums are told apart by.
    pub by: SumsBy,
}

impl Operation for Sums {
    type Item = ReportSumItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<ReportSumItem>,
    ) -> Result<(), AdminError> {
        let domains = match (self.domain, self.domains) {
            (None, domains) => domains,
            (Some(domain), None) => Some(BTreeSet::from([domain])),
            (Some(domain), Some(domains)) => {
                Some(domains.into_iter().filter(|it| *it == domain).collect())
            }
        };
        let filter = SumsFilter {
            domains,
            first: self.since.map_or(0, Time::day),
            last: match self.before {
                None => u32::MAX,
                Some(Time(..=0)) => return Ok(()),
                Some(Time(before)) => Time(before - 1).day(),
            },
        };
        let sums = context.store.report_sums(filter, self.by.into()).await?;
        let sums = sums.into_iter();
        let mut sums: Vec<ReportSumItem> = sums
            .map(|(group, sum)| ReportSumItem::new(group, sum, self.by))
            .collect();
        if self.by != SumsBy::Day {
            sums.sort_by_key(|sum| (sum.is_rest(), std::cmp::Reverse(sum.messages)));
        }
        items.send(sums).await
    }
}
