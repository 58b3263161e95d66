//! Reading what comes back: delivery reports and complaints, in the forms that the real world gives them.
//!
//! - [`read`] takes a whole mail and says what it is. `fields` reads delivery reports of RFC 3464, `feedback` complaints of RFC 5965,
//!   `text` the bounces of systems that follow neither.
//! - [`classify`] says in one word what an answer of a remote means, whether it came in a report or in a session of ours.
//!
//! Precision goes before recall: an automatic reply, a read receipt or a letter about a bounce must never count as one. Nothing
//! here asks who sent the mail; whoever uses the result decides what it is worth.

mod class;
mod codes;
mod feedback;
mod fields;
mod text;

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders, PartType};

use crate::{EnhancedCode, dsn::Action, mime};

pub use class::{Class, classify};

/// How many recipients of a report are kept.
const RECIPIENTS_MAX: usize = 1000;
/// Characters of a diagnostic.
const DIAGNOSTIC_MAX: usize = 500;

/// What a mail turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It tells what became of a message.
    Report(Report),
    /// Somebody complains about a message, or says that it is none to complain about.
    Complaint(Complaint),
    /// It is meant as a delivery report, but tells nothing.
    Unusable(Fault),
    /// Anything else.
    Other,
}

/// Why a delivery report tells nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It names no recipient.
    NoRecipient,
    /// An Action outside of RFC 3464 §2.3.3, or none and no Status.
    NoAction,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How it is written.
    pub format: Format,
    /// ENVID of the message (RFC 3464 §2.2.1).
    pub envid: Option<String>,
    /// Who reports, without its type.
    pub reporting_mta: Option<String>,
    /// At least one.
    pub recipients: Vec<Recipient>,
    /// The Message-ID of the message, with `<` and `>`, from what is returned of it.
    pub original_message_id: Option<String>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// By RFC 3464.
    Dsn,
    /// In words, as this system does.
    Text(System),
}

/// Systems that report in words of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// qmail and its descendants.
    Qmail,
    /// Exim.
    Exim,
    /// Postfix without its machine-readable part.
    Postfix,
    /// Sendmail.
    Sendmail,
    /// Microsoft Exchange and its hosted form.
    Exchange,
    /// Gmail.
    Gmail,
    /// Yahoo.
    Yahoo,
    /// Mobile carriers of Japan.
    Carrier,
    /// Some other whose words are understood.
    Generic,
}

/// What became of a message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The address at the end of the way; without type.
    pub final_recipient: Option<String>,
    /// The address that the message was sent to (ORCPT); without type.
    pub original_recipient: Option<String>,
    /// What became of it.
    pub action: Action,
    /// The SMTP code; made from the status (400, 500) if there is none; 0 for what is no failure.
    pub code: u16,
    /// The enhanced status code.
    pub enhanced: Option<EnhancedCode>,
    /// Who answered, without its type.
    pub remote_mta: Option<String>,
    /// What it said, on one line.
    pub diagnostic: String,
    /// What that means.
    pub class: Class,
}

/// A complaint about a message (RFC 5965).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaint {
    /// `abuse`, `fraud`, `virus`, `not-spam` and so on, in lower case.
    pub feedback_type: String,
    /// Who made the report.
    pub user_agent: String,
    /// MAIL FROM of the message.
    pub original_mail_from: Option<String>,
    /// Its recipients, as far as they are told.
    pub original_rcpt_to: Vec<String>,
    /// Where it came from.
    pub source_ip: Option<String>,
    /// ENVID of the message.
    pub envid: Option<String>,
    /// The Message-ID of the message, with `<` and `>`.
    pub original_message_id: Option<String>,
}

/// Reads a mail. The first part of it is enough, if the reports are in that.
#[must_use]
pub fn read(message: &[u8], limits: mime::Limits) -> Reading {
    mime::parse(message, limits, |mail| {
        mail.map_or(Reading::Other, read_mail)
    })
}

fn read_mail(mail: &Message<'_>) -> Reading {
    if is_kind_of_report(mail, "disposition-notification") {
        // A read receipt (RFC 8098).
        return Reading::Other;
    }
    let returned = returned_message_id(mail);
    if let Some(part) = part_of_type(mail, &["message/feedback-report"]) {
        return Reading::Complaint(feedback::read(part.contents(), mail, returned));
    }
    let status_types = ["message/delivery-status", "message/global-delivery-status"];
    if let Some(part) = part_of_type(mail, &status_types) {
        return match fields::read(part.contents(), returned) {
            Ok(report) => Reading::Report(report),
            Err(fault) => Reading::Unusable(fault),
        };
    }
    if is_kind_of_report(mail, "delivery-status") {
        // Some send the fields as plain text.
        for part in mail.text_bodies() {
            if fields::looks_like_fields(part.contents())
                && let Ok(report) = fields::read(part.contents(), returned.clone())
            {
                return Reading::Report(report);
            }
        }
    }
    match text::read(mail, returned) {
        Some(report) => Reading::Report(report),
        None if is_kind_of_report(mail, "delivery-status") => Reading::Unusable(Fault::NoRecipient),
        None => Reading::Other,
    }
}

/// The first part of one of these types.
fn part_of_type<'a>(mail: &'a Message<'_>, types: &[&str]) -> Option<&'a MessagePart<'a>> {
    mail.parts.iter().find(|part| {
        let kind = part.content_type().map(|kind| {
            let subtype = kind.subtype().unwrap_or_default();
            format!("{}/{subtype}", kind.ctype()).to_ascii_lowercase()
        });
        kind.is_some_and(|kind| types.contains(&kind.as_str()))
    })
}

/// multipart/report of this type (RFC 6522).
fn is_kind_of_report(mail: &Message<'_>, kind: &str) -> bool {
    mail.content_type().is_some_and(|content_type| {
        let report = content_type.subtype();
        report.is_some_and(|subtype| subtype.eq_ignore_ascii_case("report"))
            && content_type
                .attribute("report-type")
                .is_some_and(|found| found.eq_ignore_ascii_case(kind))
    })
}

/// The Message-ID of the returned message or header section.
fn returned_message_id(mail: &Message<'_>) -> Option<String> {
    let with_brackets = |message: &Message<'_>| message.message_id().map(|id| format!("<{id}>"));
    for part in &mail.parts {
        if let PartType::Message(inner) = &part.body {
            return with_brackets(inner);
        }
    }
    let types = ["text/rfc822-headers", "message/global-headers"];
    let headers = part_of_type(mail, &types)?.contents();
    with_brackets(&MessageParser::default().parse_headers(headers)?)
}

/// Text on one line, without what is not to be shown, and not too long.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count >= DIAGNOSTIC_MAX {
                return line;
            }
            line.push(c);
            count += 1;
        }
    }
    line
}

/// An address as it may stand in a report: in angle brackets, with a type or a comment around it. None if it is none.
fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let inner = match (text.find('<'), text.rfind('>')) {
        (Some(from), Some(to)) if from < to => text.get(from + 1..to)?,
        _ => text.split_whitespace().next()?,
    };
    let inner = inner.trim().trim_matches(['\'', '"', ',', ';', ':', '.']);
    let (local, domain) = inner.rsplit_once('@')?;
    let fits = !local.is_empty()
        && !domain.is_empty()
        && inner.chars().count() <= 320
        && !domain.contains(|c: char| {
            c.is_whitespace() || "<>()[]\"',;".contains(c) && !domain.starts_with('[')
        })
        && !inner.contains(char::is_control);
    fits.then(|| inner.to_owned())
}
