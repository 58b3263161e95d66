//! Reports about TLS (RFC 8460 §4.4).
//!
//! Servers differ in small things: a host is a text or a list of texts, a count is a number or a
//! text, and dates have any form of RFC 3339, or no zone. All of it is read, and written as the
//! standard says. A look over the whole text comes before it is parsed, since the parser makes a
//! value of each part, and its only limit is the size.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::json::Parts;

use super::fault::{COUNT_MAX, DEPTH_MAX, Limit, Patience, RECORDS_MAX, ReportFault};

/// The most bytes of a value that are kept.
const VALUE_MAX: usize = 1024;
/// The most texts of a list that are kept.
const TEXTS_MAX: usize = 100;
/// The most objects: a policy has three, a failure is one.
const OBJECTS_MAX: usize = 3 * RECORDS_MAX;
/// The most values, by their commas.
const VALUES_MAX: usize = 20 * RECORDS_MAX;
/// So many bytes are looked over between two looks at the time.
const PIECE: usize = 1 << 20;

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Report {
    /// The name of the reporter.
    #[serde(deserialize_with = "text")]
    pub organization_name: String,
    /// The time that the report is about.
    #[serde(deserialize_with = "object")]
    pub date_range: DateRange,
    /// The address of the reporter.
    #[serde(deserialize_with = "text")]
    pub contact_info: String,
    /// The id of the report, given by the reporter.
    #[serde(deserialize_with = "text")]
    pub report_id: String,
    /// One for each policy under which connections were made.
    #[serde(deserialize_with = "list")]
    pub policies: Vec<Policy>,
}

/// A time, in the dates of RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct DateRange {
    /// The first moment.
    #[serde(deserialize_with = "text")]
    pub start_datetime: String,
    /// The last moment.
    #[serde(deserialize_with = "text")]
    pub end_datetime: String,
}

/// The connections under one policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Policy {
    /// The policy.
    #[serde(deserialize_with = "object")]
    pub policy: PolicyDetails,
    /// How many connections.
    #[serde(deserialize_with = "object")]
    pub summary: Summary,
    /// What went wrong.
    #[serde(deserialize_with = "list")]
    pub failure_details: Vec<FailureDetails>,
}

/// A policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PolicyDetails {
    /// `tlsa`, `sts` or `no-policy-found`.
    #[serde(deserialize_with = "text")]
    pub policy_type: String,
    /// The policy as it was found, line by line.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub policy_string: Vec<String>,
    /// The domain.
    #[serde(deserialize_with = "text")]
    pub policy_domain: String,
    /// The hosts that the policy names.
    #[serde(deserialize_with = "texts", skip_serializing_if = "Vec::is_empty")]
    pub mx_host: Vec<String>,
}

/// How many connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Summary {
    /// Those with TLS.
    #[serde(deserialize_with = "count")]
    pub total_successful_session_count: u64,
    /// Those that failed.
    #[serde(deserialize_with = "count")]
    pub total_failure_session_count: u64,
}

/// Connections that failed in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct FailureDetails {
    /// The kind, as RFC 8460 §4.3 names it.
    #[serde(deserialize_with = "text")]
    pub result_type: String,
    /// The address that connected.
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    pub sending_mta_ip: String,
    /// The host.
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    pub receiving_mx_hostname: String,
    /// Its name in its greeting.
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    pub receiving_mx_helo: String,
    /// Its address.
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    pub receiving_ip: String,
    /// How many connections.
    #[serde(deserialize_with = "count")]
    pub failed_session_count: u64,
    /// More about it, or where to find it.
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    pub additional_information: String,
    /// The reason, as the reporter calls it.
    #[serde(deserialize_with = "text", skip_serializing_if = "String::is_empty")]
    pub failure_reason_code: String,
}

impl Report {
    /// The connections with TLS, and those that failed.
    #[must_use]
    pub fn sessions(&self) -> (u64, u64) {
        let add = |(good, bad): (u64, u64), policy: &Policy| {
            let summary = policy.summary;
            (
                good.saturating_add(summary.total_successful_session_count),
                bad.saturating_add(summary.total_failure_session_count),
            )
        };
        self.policies.iter().fold((0, 0), add)
    }
}

/// Reads a report.
///
/// # Errors
/// If it can't be read, is over a limit, or has no policies or time.
pub fn parse(json: &[u8], patience: Patience<'_>) -> Result<Report, ReportFault> {
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
    look_over(json, patience)?;
    let report: Report = serde_json::from_slice(json).map_err(|error| {
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(200));
        ReportFault::Syntax(text)
    })?;
    patience.check()?;
    let records = report
        .policies
        .iter()
        .map(|it| 1 + it.failure_details.len());
    if records.sum::<usize>() > RECORDS_MAX {
        return Err(Limit::Records.into());
    }
    if report.policies.is_empty() {
        return Err(ReportFault::Without("policies"));
    }
    let (good, bad) = report.sessions();
    let mut failures = report.policies.iter().flat_map(|it| &it.failure_details);
    let is_over = good.saturating_add(bad) > COUNT_MAX
        || failures.any(|failure| failure.failed_session_count > COUNT_MAX);
    match is_over {
        true => Err(Limit::Counts.into()),
        false => Ok(report),
    }
}

/// Counts levels, objects and values before anybody makes values of them.
fn look_over(json: &[u8], patience: Patience<'_>) -> Result<(), ReportFault> {
    let mut parts = Parts::default();
    for piece in json.chunks(PIECE) {
        patience.check()?;
        parts.read(piece);
        if parts.levels > DEPTH_MAX {
            return Err(Limit::Depth.into());
        }
        if parts.objects > OBJECTS_MAX {
            return Err(Limit::Records.into());
        }
        if parts.commas > VALUES_MAX {
            return Err(Limit::Values.into());
        }
    }
    Ok(())
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(VALUE_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

/// Reads a text, and anything else as well as it can be a text.
struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(cut(text))
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<String, A::Error> {
        let first: Option<Text> = items.next_element()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(first.unwrap_or_default().0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(String::new())
    }
}

#[derive(Default)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Self)
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Text::deserialize(deserializer).map(|text| text.0)
}

/// Reads a list of texts, or one text.
struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![cut(text)])
    }

    fn visit_unit<E>(self) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while texts.len() < TEXTS_MAX {
            let Some(Text(text)) = items.next_element()? else {
                return Ok(texts);
            };
            texts.push(text);
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(texts)
    }
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(TextsVisitor)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = text(deserializer)?;
    let whole = text.split('.').next().unwrap_or_default();
    match whole.trim() {
        "" => Ok(0),
        digits => digits
            .parse()
            .map_err(|_| de::Error::custom("a count is no number")),
    }
}

/// Reads an object; null is an empty one.
fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads a list; null is an empty one.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
