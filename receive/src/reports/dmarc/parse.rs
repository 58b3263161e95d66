//! The parser of reports about DMARC.

use std::borrow::Cow;

use encoding_rs::Encoding;
use quick_xml::{
    events::{BytesStart, Event},
    reader::Reader,
};

use super::{
    ActionDisposition, Alignment, DKIMAuthResult, Discovery, Disposition, DkimResult, DmarcResult,
    Extension, PolicyOverride, PolicyOverrideReason, Record, Report, SPFAuthResult, SPFDomainScope,
    SpfResult,
};
use crate::reports::fault::{COUNT_MAX, DEPTH_MAX, Limit, Patience, RECORDS_MAX, ReportFault};

/// The most bytes of a value that are kept.
const VALUE_MAX: usize = 1024;
/// The most errors and extensions of a report, and extensions of a record, that are kept.
const FEW: usize = 100;
/// The most results and reasons of all records together.
const RESULTS_MAX: usize = 4 * RECORDS_MAX;
/// So many events are read between two looks at the time.
const EVENTS: usize = 4096;

/// Declares the elements by their names.
macro_rules! elements {
    ($($element:ident = $($name:literal)|+,)*) => {
        /// An element of a report.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Element {
            $($element,)*
            /// Any other one. What is in it means nothing.
            Unknown,
        }

        impl Element {
            /// The element of this name. Namespaces do not count.
            fn named(name: &str) -> Self {
                match name.to_ascii_lowercase().as_str() {
                    $($($name)|+ => Self::$element,)*
                    _ => Self::Unknown,
                }
            }
        }
    };
}

elements! {
    Feedback = "feedback",
    Version = "version",
    Metadata = "report_metadata",
    OrgName = "org_name",
    Email = "email",
    ExtraContactInfo = "extra_contact_info",
    ReportId = "report_id",
    DateRange = "date_range",
    Begin = "begin",
    End = "end",
    Error = "error",
    Generator = "generator",
    Policy = "policy_published",
    Domain = "domain",
    VersionPublished = "version_published",
    Adkim = "adkim",
    Aspf = "aspf",
    P = "p",
    Sp = "sp",
    Np = "np",
    Testing = "testing",
    DiscoveryMethod = "discovery_method",
    Fo = "fo",
    Record = "record",
    Row = "row",
    SourceIp = "source_ip",
    Count = "count",
    Evaluated = "policy_evaluated",
    Disposition = "disposition",
    Dkim = "dkim",
    Spf = "spf",
    Reason = "reason",
    Type = "type",
    Comment = "comment",
    // A draft of RFC 7489 had another name.
    Identifiers = "identifiers" | "identities",
    EnvelopeTo = "envelope_to",
    EnvelopeFrom = "envelope_from",
    HeaderFrom = "header_from",
    AuthResults = "auth_results",
    Selector = "selector",
    Scope = "scope",
    Result = "result",
    HumanResult = "human_result",
    Extensions = "extensions" | "extension_list",
    Extension = "extension",
}

/// Reads a report. `is_text` says that the bytes are UTF-8, whatever the text says of itself.
///
/// # Errors
/// If it can't be read, is over a limit, or has no domain or time.
pub fn parse(xml: &[u8], is_text: bool, patience: Patience<'_>) -> Result<Report, ReportFault> {
    let text = match is_text {
        true => String::from_utf8_lossy(xml),
        false => decoded(xml),
    };
    let mut reader = Reader::from_str(&text);
    reader.config_mut().expand_empty_elements = true;
    let mut reading = Reading::default();
    for read in 1_usize.. {
        if read % EVENTS == 0 {
            patience.check()?;
        }
        let event = reader.read_event();
        match event.map_err(|error| syntax(&error))? {
            Event::Start(start) => reading.start(&start)?,
            Event::End(_) => reading.end()?,
            Event::Text(text) => reading.text(&text.into_inner()),
            Event::CData(text) => reading.text(&text.into_inner()),
            Event::GeneralRef(reference) => {
                let known = match &*reference {
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "amp" => Some('&'),
                    "apos" => Some('\''),
                    "quot" => Some('"'),
                    _ => reference.resolve_char_ref().ok().flatten(),
                };
                // Without a document type no other entity is there.
                let known = known.ok_or_else(|| ReportFault::Syntax("unknown entity".into()))?;
                reading.text(known.encode_utf8(&mut [0; 4]));
            }
            Event::DocType(_) => return Err(ReportFault::DocumentType),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) | Event::Empty(_) => {}
            Event::Eof => break,
        }
    }
    reading.finish()
}

fn syntax(error: &quick_xml::Error) -> ReportFault {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(200));
    ReportFault::Syntax(text)
}

/// The text of an XML file: by its byte order mark, or else as it says itself.
fn decoded(xml: &[u8]) -> Cow<'_, str> {
    let encoding = match Encoding::for_bom(xml) {
        Some((encoding, _)) => encoding,
        None => declared(xml).unwrap_or(encoding_rs::UTF_8),
    };
    encoding.decode(xml).0
}

/// The encoding in the XML declaration.
fn declared(xml: &[u8]) -> Option<&'static Encoding> {
    let head = xml.trim_ascii_start().strip_prefix(b"<?xml")?;
    let end = memchr::memmem::find(head, b"?>").filter(|end| *end < 200)?;
    let head = head.get(..end)?;
    let value = head.get(memchr::memmem::find(head, b"encoding")? + 8..)?;
    let value = value
        .trim_ascii_start()
        .strip_prefix(b"=")?
        .trim_ascii_start();
    let (quote, value) = value.split_first()?;
    let end = memchr::memchr(*quote, value)?;
    let found = Encoding::for_label(value.get(..end)?)?;
    // A text that has this line in ASCII is in no such encoding.
    Some(found).filter(|it| *it != encoding_rs::UTF_16LE && *it != encoding_rs::UTF_16BE)
}

/// A report, as far as it was read.
#[derive(Default)]
struct Reading {
    /// The open elements.
    open: Vec<Element>,
    /// The text of the innermost element, if it has no elements in it.
    value: String,
    report: Report,
    /// The root was closed.
    is_whole: bool,
    results: usize,
}

impl Reading {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), ReportFault> {
        use Element as E;
        let element = Element::named(start.local_name().as_ref());
        if self.open.is_empty() && (element != E::Feedback || self.is_whole) {
            return Err(ReportFault::Syntax("the root is not <feedback>".into()));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Limit::Depth.into());
        }
        self.open.push(element);
        self.value.clear();
        let records = &mut self.report.record;
        match self.open.as_slice() {
            [_, E::Record] => {
                if records.len() >= RECORDS_MAX {
                    return Err(Limit::Records.into());
                }
                let mut record = Record::default();
                // A row stands for one message at least.
                record.row.count = 1;
                records.push(record);
            }
            [_, E::Record, E::AuthResults, E::Dkim] => {
                self.count_result()?;
                let results = self.record().map(|record| &mut record.auth_results.dkim);
                results
                    .into_iter()
                    .for_each(|it| it.push(DKIMAuthResult::default()));
            }
            [_, E::Record, E::AuthResults, E::Spf] => {
                self.count_result()?;
                let results = self.record().map(|record| &mut record.auth_results.spf);
                results
                    .into_iter()
                    .for_each(|it| it.push(SPFAuthResult::default()));
            }
            [_, E::Record, E::Row, E::Evaluated, E::Reason] => {
                self.count_result()?;
                let record = self.record();
                let reasons = record.map(|record| &mut record.row.policy_evaluated.reason);
                let new = PolicyOverrideReason::default();
                reasons.into_iter().for_each(|it| it.push(new.clone()));
            }
            [_, E::Extensions, E::Extension] => {
                add_extension(&mut self.report.extensions, start);
            }
            [_, E::Record, E::Extensions, E::Extension] => {
                if let Some(record) = self.record() {
                    add_extension(&mut record.extensions, start);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn count_result(&mut self) -> Result<(), ReportFault> {
        self.results += 1;
        match self.results > RESULTS_MAX {
            true => Err(Limit::Values.into()),
            false => Ok(()),
        }
    }

    /// The record that is open.
    fn record(&mut self) -> Option<&mut Record> {
        self.report.record.last_mut()
    }

    fn text(&mut self, text: &str) {
        let room = VALUE_MAX.saturating_sub(self.value.len());
        let end = text.floor_char_boundary(room);
        self.value.push_str(text.get(..end).unwrap_or_default());
    }

    fn end(&mut self) -> Result<(), ReportFault> {
        let value = std::mem::take(&mut self.value);
        self.set(value.trim())?;
        self.open.pop();
        self.is_whole |= self.open.is_empty();
        Ok(())
    }

    /// Takes the value of the innermost element.
    fn set(&mut self, value: &str) -> Result<(), ReportFault> {
        use Element as E;
        let [_, inner @ ..] = self.open.as_slice() else {
            return Ok(());
        };
        match inner {
            [E::Version] => self.report.version = version(value).unwrap_or_default(),
            [E::Metadata, rest @ ..] => set_metadata(&mut self.report, rest, value)?,
            [E::Policy, E::VersionPublished] => {
                self.report.policy_published.version_published = version(value);
            }
            [E::Policy, field] => set_policy(&mut self.report, *field, value),
            [E::Record, rest @ ..] => {
                if let Some(record) = self.report.record.last_mut() {
                    set_record(record, rest, value);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Report, ReportFault> {
        let report = self.report;
        if !self.is_whole {
            return Err(ReportFault::Syntax("it is cut off".into()));
        }
        if report.policy_published.domain.is_empty() {
            return Err(ReportFault::Without("policy_published with a domain"));
        }
        let range = report.report_metadata.date_range;
        if range.begin == 0 || range.end == 0 {
            return Err(ReportFault::Without("date_range"));
        }
        let messages = report.record.iter().map(|it| u64::from(it.row.count));
        match messages.sum::<u64>() > COUNT_MAX {
            true => Err(Limit::Counts.into()),
            false => Ok(report),
        }
    }
}

fn add_extension(extensions: &mut Vec<Extension>, start: &BytesStart<'_>) {
    let attribute = |name: &str| {
        let found = start.try_get_attribute(name).ok().flatten();
        let mut value = found.map(|it| it.value.into_owned()).unwrap_or_default();
        value.truncate(value.floor_char_boundary(VALUE_MAX));
        value
    };
    if extensions.len() < FEW {
        extensions.push(Extension {
            name: attribute("name"),
            definition: attribute("definition"),
        });
    }
}

fn given(value: &str) -> Option<String> {
    Some(value.to_owned()).filter(|value| !value.is_empty())
}

fn set_metadata(report: &mut Report, path: &[Element], value: &str) -> Result<(), ReportFault> {
    use Element as E;
    let metadata = &mut report.report_metadata;
    match path {
        [E::OrgName] => value.clone_into(&mut metadata.org_name),
        [E::Email] => value.clone_into(&mut metadata.email),
        [E::ExtraContactInfo] => metadata.extra_contact_info = given(value),
        [E::ReportId] => value.clone_into(&mut metadata.report_id),
        [E::DateRange, E::Begin] => metadata.date_range.begin = seconds(value)?,
        [E::DateRange, E::End] => metadata.date_range.end = seconds(value)?,
        [E::Error] if metadata.error.len() < FEW => metadata.error.extend(given(value)),
        [E::Generator] => metadata.generator = given(value),
        _ => {}
    }
    Ok(())
}

fn set_policy(report: &mut Report, field: Element, value: &str) {
    use Element as E;
    let policy = &mut report.policy_published;
    match field {
        E::Domain => value.clone_into(&mut policy.domain),
        E::Adkim => policy.adkim = Alignment::named(value),
        E::Aspf => policy.aspf = Alignment::named(value),
        E::P => policy.p = Disposition::named(value),
        E::Sp => policy.sp = Disposition::named(value),
        E::Np => policy.np = Disposition::named(value),
        E::Testing => policy.testing = value.eq_ignore_ascii_case("y"),
        E::DiscoveryMethod => policy.discovery_method = Discovery::named(value),
        E::Fo => policy.fo = given(value),
        _ => {}
    }
}

fn set_record(record: &mut Record, path: &[Element], value: &str) {
    use Element as E;
    let row = &mut record.row;
    let evaluated = &mut row.policy_evaluated;
    let identifiers = &mut record.identifiers;
    let results = &mut record.auth_results;
    match path {
        [E::Row, E::SourceIp] => row.source_ip = value.parse().ok(),
        [E::Row, E::Count] => {
            if let Ok(count) = value.parse::<u64>() {
                row.count = u32::try_from(count).unwrap_or(u32::MAX);
            }
        }
        [E::Row, E::Evaluated, E::Disposition] => {
            evaluated.disposition = ActionDisposition::named(value);
        }
        [E::Row, E::Evaluated, E::Dkim] => evaluated.dkim = DmarcResult::named(value),
        [E::Row, E::Evaluated, E::Spf] => evaluated.spf = DmarcResult::named(value),
        [E::Row, E::Evaluated, E::Reason, field] => {
            if let Some(reason) = evaluated.reason.last_mut() {
                match field {
                    E::Type => reason.kind = PolicyOverride::named(value),
                    E::Comment => reason.comment = given(value),
                    _ => {}
                }
            }
        }
        [E::Identifiers, E::EnvelopeTo] => identifiers.envelope_to = given(value),
        [E::Identifiers, E::EnvelopeFrom] => value.clone_into(&mut identifiers.envelope_from),
        [E::Identifiers, E::HeaderFrom] => value.clone_into(&mut identifiers.header_from),
        [E::AuthResults, E::Dkim, field] => {
            if let Some(result) = results.dkim.last_mut() {
                set_dkim(result, *field, value);
            }
        }
        [E::AuthResults, E::Spf, field] => {
            if let Some(result) = results.spf.last_mut() {
                set_spf(result, *field, value);
            }
        }
        _ => {}
    }
}

fn set_dkim(result: &mut DKIMAuthResult, field: Element, value: &str) {
    match field {
        Element::Domain => value.clone_into(&mut result.domain),
        Element::Selector => value.clone_into(&mut result.selector),
        Element::Result => result.result = DkimResult::named(value),
        Element::HumanResult => result.human_result = given(value),
        _ => {}
    }
}

fn set_spf(result: &mut SPFAuthResult, field: Element, value: &str) {
    match field {
        Element::Domain => value.clone_into(&mut result.domain),
        Element::Scope => result.scope = SPFDomainScope::named(value),
        Element::Result => result.result = SpfResult::named(value),
        Element::HumanResult => result.human_result = given(value),
        _ => {}
    }
}

/// A version. Rust also reads `NaN` and `inf`, which JSON does not have.
fn version(value: &str) -> Option<f32> {
    value
        .parse()
        .ok()
        .filter(|version: &f32| version.is_finite())
}

/// A date in Unix seconds. Some write fractions, milliseconds, or a date for people.
fn seconds(value: &str) -> Result<u64, ReportFault> {
    /// The year 2286, or 1970 in milliseconds.
    const SECONDS_MAX: u64 = 9_999_999_999;
    let whole = value.split_once('.').map_or(value, |(whole, _)| whole);
    let seconds = match whole.parse::<u64>() {
        Ok(seconds) if seconds > SECONDS_MAX => Some(seconds / 1000),
        Ok(seconds) => Some(seconds),
        Err(_) => written_date(value),
    };
    let seconds = seconds.filter(|seconds| *seconds <= SECONDS_MAX);
    seconds.ok_or(ReportFault::Without("date_range with dates"))
}

/// A date such as `2024-01-31T00:00:00Z` or `2024-01-31 00:00:00`, in UTC unless it says otherwise.
fn written_date(value: &str) -> Option<u64> {
    let timestamp = value.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = value.parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    u64::try_from(timestamp.as_second()).ok()
}
