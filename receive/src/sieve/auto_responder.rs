//! The auto-responder of the mailbox API: one answer to everybody who writes, within some time. It
//! becomes a script.
//!
//! Who gets an answer at all is decided by [`vacation::decide`](super::vacation::decide), with the
//! audience of the responder.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use postrider_smtp::{Address, Domain};
use serde_json::{Map, Value, json};

use super::{
    Script,
    fields::{FieldError, Fields},
    quote::{list, quoted},
    vacation::{Audience, DAYS, DAYS_MAX, entity},
};

/// The most addresses and domains that get no answer.
const EXCLUDE_MAX: usize = 100;
/// The most bytes of a subject.
const SUBJECT_MAX: usize = 500;

const AUDIENCES: &[(&str, Audience)] = &[
    ("all", Audience::All),
    ("contacts", Audience::Contacts),
    ("internal", Audience::Internal),
];

/// An auto-responder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoResponder {
    /// A responder that is not enabled does nothing.
    pub enabled: bool,
    /// The subject. None: it is made of that of the message.
    pub subject: Option<String>,
    /// The answer as plain text. It may be empty if there is HTML.
    pub plain: String,
    /// The answer as HTML. It may be empty if there is plain text.
    pub html: String,
    /// The first moment at which answers go out.
    pub start: Option<Moment>,
    /// The last moment at which answers go out.
    pub end: Option<Moment>,
    /// A sender gets one answer in these days.
    pub days: u8,
    /// The senders who get answers.
    pub only: Audience,
    /// The senders who get none: addresses, and domains as `@example.org`.
    pub exclude: Vec<String>,
}

/// A bound of the time of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A whole day in the zone of the server.
    Day(Date),
    /// A moment.
    Instant(Timestamp),
}

impl Moment {
    /// Reads `2027-01-31` or `2027-01-31T08:00:00Z`.
    fn read(text: &str) -> Option<Self> {
        let day = || (text.len() == 10).then(|| text.parse().ok().map(Self::Day))?;
        day().or_else(|| text.parse().ok().map(Self::Instant))
    }

    fn written(self) -> String {
        match self {
            Self::Day(date) => date.to_string(),
            Self::Instant(instant) => instant.to_string(),
        }
    }

    /// The test that holds before this moment, or after it.
    fn test(self, relation: &str) -> String {
        match self {
            Self::Day(date) => format!("currentdate :value {relation:?} \"date\" \"{date}\""),
            // Texts of this form, all in one zone, have the order of time.
            Self::Instant(instant) => {
                let utc = instant.to_zoned(TimeZone::UTC);
                let utc = utc.strftime("%Y-%m-%dT%H:%M:%S+00:00");
                format!("currentdate :zone \"+0000\" :value {relation:?} \"iso8601\" \"{utc}\"")
            }
        }
    }

    /// Whether this bound is after another. A day and a moment are compared by their days in UTC.
    fn is_after(self, other: Self) -> bool {
        let day = |moment: Self| match moment {
            Self::Day(date) => date,
            Self::Instant(instant) => instant.to_zoned(TimeZone::UTC).date(),
        };
        match (self, other) {
            (Self::Instant(a), Self::Instant(b)) => a > b,
            _ => day(self) > day(other),
        }
    }
}

impl AutoResponder {
    /// Reads a responder. Fields that a responder has not are ignored.
    ///
    /// # Errors
    /// All faults, each with its field.
    pub fn read(value: &Value) -> Result<Self, Vec<FieldError>> {
        let mut fields = Fields::new(value, String::new());
        let responder = Self {
            enabled: fields.boolean("enabled", true),
            subject: fields
                .text("subject")
                .filter(|subject| !subject.trim().is_empty()),
            plain: fields.text("plain").unwrap_or_default(),
            html: fields.text("html").unwrap_or_default(),
            start: moment(&mut fields, "start"),
            end: moment(&mut fields, "end"),
            days: days(&mut fields),
            only: fields.word("only", AUDIENCES).unwrap_or_default(),
            exclude: exclude(&mut fields),
        };
        let subject = responder.subject.as_deref().unwrap_or_default();
        if subject.len() > SUBJECT_MAX {
            let detail = format!("It has more than {SUBJECT_MAX} bytes. Make it shorter.");
            fields.error("subject", detail);
        }
        let is_empty = responder.plain.trim().is_empty() && responder.html.trim().is_empty();
        if is_empty && fields.errors.is_empty() {
            fields.error("plain", "The answer is empty. Send plain or html.");
        }
        if let (Some(start), Some(end)) = (responder.start, responder.end)
            && start.is_after(end)
        {
            fields.error("end", "It is before the start. Send a later end.");
        }
        if !fields.errors.is_empty() {
            return Err(fields.errors);
        }
        // Only the size can be wrong now.
        match Script::compile(responder.script().as_bytes()) {
            Ok(_) => Ok(responder),
            Err(fault) => Err(vec![FieldError {
                field: String::new(),
                detail: fault.text,
            }]),
        }
    }

    /// The responder as it is read.
    #[must_use]
    pub fn json(&self) -> Value {
        let only = AUDIENCES
            .iter()
            .find(|(_, audience)| *audience == self.only);
        let mut object = Map::new();
        let mut add = |name: &str, value: Value| object.insert(name.to_owned(), value);
        add("enabled", json!(self.enabled));
        add(
            "subject",
            json!(self.subject.as_deref().unwrap_or_default()),
        );
        add("plain", json!(self.plain));
        add("html", json!(self.html));
        add("start", json!(self.start.map(Moment::written)));
        add("end", json!(self.end.map(Moment::written)));
        add("days", json!(self.days));
        add("only", json!(only.map(|(word, _)| *word)));
        add("exclude", json!(self.exclude));
        Value::Object(object)
    }

    /// The responder as a script. That of a responder that is not enabled does nothing.
    #[must_use]
    pub fn script(&self) -> String {
        if !self.enabled {
            return "# The auto-responder is not enabled.\n".to_owned();
        }
        let mut script =
            "require [\"vacation\", \"date\", \"relational\", \"envelope\"];\n\n".to_owned();
        let bounds = [(self.start, "lt"), (self.end, "gt")];
        for (bound, relation) in bounds {
            if let Some(bound) = bound {
                script.push_str(&format!("if {} {{ stop; }}\n", bound.test(relation)));
            }
        }
        script.push_str(&self.exclusions());
        let subject = self.subject.as_ref();
        let subject = subject.map_or(String::new(), |text| format!(" :subject {}", quoted(text)));
        let (mime, answer) = match self.html.trim() {
            "" => ("", self.plain.clone()),
            _ => (" :mime", self.alternatives()),
        };
        let answer = quoted(&answer);
        script.push_str(&format!(
            "vacation :days {}{subject}{mime}\n{answer};\n",
            self.days
        ));
        script
    }

    fn exclusions(&self) -> String {
        let (domains, addresses): (Vec<&str>, Vec<&str>) = self
            .exclude
            .iter()
            .map(String::as_str)
            .partition(|text| text.starts_with('@'));
        let domains = domains
            .into_iter()
            .map(|domain| domain.trim_start_matches('@'));
        let domains: Vec<&str> = domains.collect();
        let mut script = String::new();
        for (part, texts) in [(":all", addresses), (":domain", domains)] {
            if !texts.is_empty() {
                let texts = list(texts);
                script.push_str(&format!(
                    "if envelope {part} :is \"from\" {texts} {{ stop; }}\n"
                ));
            }
        }
        script
    }

    /// The answer as HTML, and as plain text if there is one.
    fn alternatives(&self) -> String {
        let html = entity("text/html", &self.html);
        if self.plain.trim().is_empty() {
            return html;
        }
        // In base64 no line of a part begins with hyphens.
        let plain = entity("text/plain", &self.plain);
        format!(
            "Content-Type: multipart/alternative; boundary=\"--part\"\r\n\r\n\
             ----part\r\n{plain}\r\n----part\r\n{html}\r\n----part--\r\n"
        )
    }
}

fn moment(fields: &mut Fields<'_>, name: &str) -> Option<Moment> {
    let text = fields.text(name).filter(|text| !text.is_empty())?;
    let moment = Moment::read(&text);
    if moment.is_none() {
        fields.error(
            name,
            "It is no date. Send 2027-01-31 or 2027-01-31T08:00:00Z.",
        );
    }
    moment
}

fn days(fields: &mut Fields<'_>) -> u8 {
    let Some(days) = fields.integer("days") else {
        return DAYS;
    };
    match u8::try_from(days) {
        Ok(days) if (1..=DAYS_MAX).contains(&days) => days,
        _ => {
            fields.error(
                "days",
                format!("It is not within 1 and {DAYS_MAX}. Send another number."),
            );
            DAYS
        }
    }
}

fn exclude(fields: &mut Fields<'_>) -> Vec<String> {
    let mut exclude = Vec::new();
    for (number, entry) in fields.array("exclude", EXCLUDE_MAX).iter().enumerate() {
        let text = entry.as_str().unwrap_or_default();
        // A script compares with the form of an envelope that people read.
        let read = match text.strip_prefix('@') {
            Some(domain) => Domain::parse(domain)
                .ok()
                .map(|domain| format!("@{}", domain.unicode())),
            None => Address::parse(text).ok().map(|address| address.unicode()),
        };
        match read {
            Some(text) => exclude.push(text),
            None => {
                let detail = "It is no address and no domain. Send a@example.org or @example.org.";
                fields.error(&format!("exclude[{number}]"), detail);
            }
        }
    }
    exclude
}
