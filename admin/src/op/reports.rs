//! Reports about TLS and DMARC to other domains that wait to be sent.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use futures_util::future::try_join_all;
use postrider_queue::{ReportPreview, ReportUri, report_range};
use postrider_store::{DueReport, ReportKind, StoreError, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Operation, Single, Sink};
use crate::{AdminError, Context};

/// How many reports are read, or dropped, at once.
const PAGE: usize = 128;
/// A day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum ReportType {
    /// What DMARC said of mail from the domain.
    Dmarc,
    /// How TLS went with the hosts of the domain.
    Tls,
}

impl ReportType {
    /// The type with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "dmarc" => Some(Self::Dmarc),
            "tls" => Some(Self::Tls),
            _ => None,
        }
    }

    /// The letter in ids.
    const fn letter(self) -> char {
        match self {
            Self::Dmarc => 'd',
            Self::Tls => 't',
        }
    }
}

impl From<ReportKind> for ReportType {
    fn from(kind: ReportKind) -> Self {
        match kind {
            ReportKind::Tls => Self::Tls,
            ReportKind::Dmarc => Self::Dmarc,
        }
    }
}

impl From<ReportType> for ReportKind {
    fn from(kind: ReportType) -> Self {
        match kind {
            ReportType::Tls => Self::Tls,
            ReportType::Dmarc => Self::Dmarc,
        }
    }
}

/// The id of a report: `d!DOMAIN!POLICY!FROM!DUE`, or `t!...` for one about TLS. FROM is the
/// beginning of its day, and DUE the time when it is sent next, both in Unix seconds. POLICY is 0:
/// a report tells of all policies of a day. Type, domain and day name the report, so an id stays
/// good when another try is due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportId {
    letter: char,
    day: u32,
    domain: String,
    due: i64,
}

impl ReportId {
    fn of(report: &DueReport) -> Self {
        Self {
            letter: ReportType::from(report.kind).letter(),
            day: report.day,
            domain: report.domain.clone(),
            due: seconds(report.due),
        }
    }

    /// What orders reports in lists: type, day and domain.
    #[must_use]
    pub fn name(&self) -> (char, u32, String) {
        (self.letter, self.day, self.domain.clone())
    }

    /// The domain that the report is about.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    async fn find(&self, context: &Context) -> Result<DueReport, AdminError> {
        let kind = match self.letter {
            'd' => ReportKind::Dmarc,
            _ => ReportKind::Tls,
        };
        let found = context.store.due_report(kind, self.day, &self.domain);
        found.await?.ok_or_else(|| missing(&self.to_string()))
    }
}

impl fmt::Display for ReportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = u64::from(self.day) * DAY.as_secs();
        let Self {
            letter,
            domain,
            due,
            ..
        } = self;
        write!(f, "{letter}!{domain}!0!{from}!{due}")
    }
}

/// A text that is no id of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of a report is d!DOMAIN!POLICY!FROM!DUE or t!DOMAIN!POLICY!FROM!DUE")]
pub struct NoReportId;

impl FromStr for ReportId {
    type Err = NoReportId;

    fn from_str(text: &str) -> Result<Self, NoReportId> {
        let mut parts = text.split('!');
        let mut part = || parts.next().ok_or(NoReportId);
        let (letter, domain) = (part()?, part()?);
        let (policy, from, due) = (part()?, part()?, part()?);
        let letter = match letter {
            "d" => 'd',
            "t" => 't',
            _ => return Err(NoReportId),
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoReportId);
        number(policy)?;
        let from = number(from)?;
        let day = u32::try_from(from / DAY.as_secs()).map_err(|_| NoReportId)?;
        if parts.next().is_some() || domain.is_empty() || from % DAY.as_secs() != 0 {
            return Err(NoReportId);
        }
        Ok(Self {
            letter,
            day,
            domain: domain.to_ascii_lowercase(),
            due: due.parse().map_err(|_| NoReportId)?,
        })
    }
}

fn seconds(time: Time) -> i64 {
    time.timestamp().as_second()
}

fn missing(id: &str) -> AdminError {
    AdminError::not_found(format!("no report {id} waits to be sent")).at("id")
}

/// A report that waits to be sent. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[cfg_attr(test, schema(as = WaitingReportItem))]
pub struct ReportItem {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: ReportType,
    /// Its id, as `d!DOMAIN!POLICY!FROM!DUE`, or `t!...`.
    pub id: String,
    /// The domain that it is about, in ASCII.
    pub domain: String,
    /// The first second of its day.
    pub range_from: String,
    /// The last second of its day.
    pub range_to: String,
    /// When it is sent, or tried again.
    pub due: String,
    /// How often sending it failed.
    pub attempts: u32,
    /// The addresses that have it, or that do not take it, as the record of the domain names them.
    pub done: Vec<String>,
}

impl From<&DueReport> for ReportItem {
    fn from(report: &DueReport) -> Self {
        let (first, last) = report_range(report.day);
        Self {
            kind: report.kind.into(),
            id: ReportId::of(report).to_string(),
            domain: report.domain.clone(),
            range_from: first.to_string(),
            range_to: last.to_string(),
            due: report.due.to_string(),
            attempts: report.attempts,
            done: report.done.clone(),
        }
    }
}

/// A report that waits to be sent, as it would be sent now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct WaitingReport {
    #[serde(flatten)]
    #[cfg_attr(test, schema(inline))]
    #[expect(missing_docs, reason = "its fields have them")]
    pub item: ReportItem,
    /// What it says: the JSON of RFC 8460, or an aggregate report about DMARC.
    #[cfg_attr(test, schema(value_type = Object))]
    pub report: Value,
    /// Those who ask for it now.
    pub rua: Vec<ReportReceiver>,
    /// Why it would not be sent now; None: it would be.
    pub obstacle: Option<String>,
}

/// Who gets a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum ReportReceiver {
    /// For a report about DMARC.
    Dmarc {
        /// The address.
        uri: String,
        /// The largest report that it takes, in bytes; 0: there is no limit.
        max_size: u64,
    },
    /// For a report about TLS.
    Tls(TlsReceiver),
}

/// Who gets a report about TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub enum TlsReceiver {
    /// An address.
    Mail(String),
    /// The URL of a receiver over HTTPS.
    Http(String),
}

impl ReportReceiver {
    fn new(kind: ReportType, ReportUri { uri, size_max }: ReportUri) -> Self {
        let scheme = uri.get(.."mailto:".len()).unwrap_or_default();
        let is_mail = scheme.eq_ignore_ascii_case("mailto:");
        let address = match is_mail {
            true => uri.get(scheme.len()..).unwrap_or_default().to_owned(),
            false => uri,
        };
        match kind {
            ReportType::Dmarc => Self::Dmarc {
                uri: address,
                max_size: size_max.unwrap_or(0),
            },
            ReportType::Tls if is_mail => Self::Tls(TlsReceiver::Mail(address)),
            ReportType::Tls => Self::Tls(TlsReceiver::Http(address)),
        }
    }
}

/// Which reports. All given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportFilter {
    /// The domain has this text, in any case.
    pub domain: Option<String>,
    /// The type.
    #[serde(rename = "type")]
    pub kind: Option<ReportType>,
    /// The domain is one of these, in ASCII; None: any.
    pub domains: Option<BTreeSet<String>>,
}

impl ReportFilter {
    fn matches(&self, report: &DueReport) -> bool {
        let has = |text: &String| report.domain.contains(&text.to_ascii_lowercase());
        self.domain.as_ref().is_none_or(has)
            && self.kind.is_none_or(|kind| kind == report.kind.into())
            && (self.domains.as_ref()).is_none_or(|domains| domains.contains(&report.domain))
    }
}

/// Reads the waiting reports that match, page by page.
struct Walk<'a> {
    filter: &'a ReportFilter,
    after: Option<DueReport>,
}

impl<'a> Walk<'a> {
    const fn new(filter: &'a ReportFilter) -> Self {
        let after = None;
        Self { filter, after }
    }

    /// The next reports. It may have none. None: that was all.
    async fn next(&mut self, context: &Context) -> Result<Option<Vec<DueReport>>, StoreError> {
        let mut page = context
            .store
            .list_reports(self.after.as_ref(), PAGE)
            .await?;
        let Some(last) = page.last() else {
            return Ok(None);
        };
        self.after = Some(last.clone());
        page.retain(|report| self.filter.matches(report));
        Ok(Some(page))
    }
}

/// Lists the reports that wait to be sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// The reports.
    pub filter: ReportFilter,
}

impl Operation for List {
    type Item = ReportItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<ReportItem>,
    ) -> Result<(), AdminError> {
        let mut walk = Walk::new(&self.filter);
        while let Some(page) = walk.next(context).await? {
            items
                .send(page.iter().map(ReportItem::from).collect())
                .await?;
        }
        Ok(())
    }
}

/// Shows a report as it would be sent now. Asks DNS who wants it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The id.
    pub id: String,
}

impl Single for Show {
    type Output = WaitingReport;

    async fn answer(self, context: &Context) -> Result<WaitingReport, AdminError> {
        let id: ReportId = self.id.parse().map_err(|_| missing(&self.id))?;
        let due = id.find(context).await?;
        let preview = context.queue.preview_report(&due).await?;
        let ReportPreview {
            report,
            addresses,
            obstacle,
        } = preview.ok_or_else(|| missing(&self.id))?;
        let item = ReportItem::from(&due);
        let addresses = addresses.into_iter();
        let rua = addresses.map(|uri| ReportReceiver::new(item.kind, uri));
        Ok(WaitingReport {
            rua: rua.collect(),
            item,
            report,
            obstacle,
        })
    }
}

/// Drops a report with the results of its day. What is seen later on that day makes a new one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drop {
    /// The id.
    pub id: String,
}

impl Single for Drop {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let context = &context.carrying("queue_report.drop", &self.id, &());
        let dropped = self.drop(context).await;
        context
            .record("queue_report.drop", &self.id, &(), dropped)
            .await
    }
}

impl Drop {
    async fn drop(&self, context: &Context) -> Result<(), AdminError> {
        let id: ReportId = self.id.parse().map_err(|_| missing(&self.id))?;
        let due = id.find(context).await?;
        if !context.store.finish_report(&due).await? {
            return Err(missing(&self.id));
        }
        Ok(())
    }
}

/// Drops all reports that match, with their results.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DropAll {
    /// The reports.
    pub filter: ReportFilter,
}

/// How many reports were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The number.
    pub dropped: u64,
}

impl Single for DropAll {
    type Output = Dropped;

    async fn answer(self, context: &Context) -> Result<Dropped, AdminError> {
        let context = &context.carrying("queue_report.drop_all", "reports", &self);
        let dropped = self.drop(context).await;
        context
            .record("queue_report.drop_all", "reports", &self, dropped)
            .await
    }
}

impl DropAll {
    async fn drop(&self, context: &Context) -> Result<Dropped, AdminError> {
        let mut dropped = 0;
        let mut walk = Walk::new(&self.filter);
        while let Some(page) = walk.next(context).await? {
            let ended = page
                .iter()
                .map(|report| context.store.finish_report(report));
            let ended = try_join_all(ended).await?;
            dropped += ended.into_iter().filter(|known| *known).count() as u64;
        }
        Ok(Dropped { dropped })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_names_type_domain_and_day() {
        let report = DueReport::new(
            ReportKind::Dmarc,
            20_000,
            "a.test",
            Time(1_728_100_000_000_000),
        );
        let id = ReportId::of(&report);
        let text = id.to_string();
        assert_eq!(text, "d!a.test!0!1728000000!1728100000");
        assert_eq!(text.parse(), Ok(id));
        let later: ReportId = "d!A.test!77!1728000000!1".parse().unwrap();
        assert_eq!(later.name(), ('d', 20_000, "a.test".to_owned()));
        for wrong in [
            "",
            "d!a.test",
            "x!a.test!0!1728000000!1",
            "d!!0!1728000000!1",
            "d!a.test!x!1728000000!1",
            "d!a.test!0!1728000001!1",
            "d!a.test!0!99999999999999999999!1",
            "d!a.test!0!9999999999999936000!1",
            "d!a.test!0!1728000000!y",
            "d!a.test!0!1728000000!1!",
        ] {
            assert_eq!(wrong.parse::<ReportId>(), Err(NoReportId), "{wrong}");
        }
    }

    #[test]
    fn receivers_have_the_form_of_their_type() {
        for (kind, uri, size_max, expected) in [
            (
                ReportType::Dmarc,
                "mailto:a@b.test",
                Some(9),
                json!({"uri": "a@b.test", "max_size": 9}),
            ),
            (
                ReportType::Dmarc,
                "MailTo:a@b.test",
                None,
                json!({"uri": "a@b.test", "max_size": 0}),
            ),
            (
                ReportType::Tls,
                "mailto:a@b.test",
                None,
                json!({"Mail": "a@b.test"}),
            ),
            (
                ReportType::Tls,
                "https://b.test/x",
                None,
                json!({"Http": "https://b.test/x"}),
            ),
        ] {
            let uri = ReportUri {
                uri: uri.to_owned(),
                size_max,
            };
            let shown = serde_json::to_value(ReportReceiver::new(kind, uri)).unwrap();
            assert_eq!(shown, expected);
            serde_json::from_value::<ReportReceiver>(shown).unwrap();
        }
    }
}
