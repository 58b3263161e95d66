//! The delivery reports and complaints of other systems.
//!
//! - [`read`] takes a whole mail and says what it is. `fields` reads the delivery reports of RFC
//!   3464, `feedback` the complaints of RFC 5965, and `text` the bounces of systems that follow
//!   neither.
//! - [`classify`] gives the meaning of a server's reply in one word, and [`blame`] says whether the
//!   reply blames the recipient's address. The reply may be in a report, or may have come in a
//!   session of ours.
//!
//! Precision goes before recall: an automatic reply, a read receipt or a letter about a bounce must
//! never count as a bounce. This module does not check the sender of the mail. Its callers do.

mod class;
mod classify;
mod codes;
mod feedback;
mod fields;
mod text;
mod words;

use mail_parser::{Message, MessagePart, MimeHeaders, PartType};

use crate::{EnhancedCode, Stage, dsn::Action, mime};

pub use class::{Blame, Class};
pub use classify::{Said, blame, classify};

/// The most recipients of a report.
const RECIPIENTS_MAX: usize = 1000;
/// The most characters of a diagnostic.
const DIAGNOSTIC_MAX: usize = 500;

/// The kind of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A delivery report.
    Report(Report),
    /// A complaint about a message, or the remark that there is no reason for one.
    Complaint(Complaint),
    /// A delivery report without a result.
    Unusable(Fault),
    /// Any other mail.
    Other,
}

/// The reason why a delivery report has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The report names no recipient.
    NoRecipient,
    /// The Action is unknown to RFC 3464 §2.3.3, or Action and Status are missing.
    NoAction,
}

/// A delivery report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The format of the report.
    pub format: Format,
    /// ENVID of the message (RFC 3464 §2.2.1).
    pub envid: Option<String>,
    /// The reporting server, without its type.
    pub reporting_mta: Option<String>,
    /// The recipients: one or more.
    pub recipients: Vec<Recipient>,
    /// The Message-ID of the message, with `<` and `>`. It comes from the returned part of the
    /// message.
    pub original_message_id: Option<String>,
}

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The fields of RFC 3464.
    Dsn,
    /// The words of this system.
    Text(System),
}

/// A system that reports in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// qmail, and the systems derived from it.
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
    /// The mobile carriers of Japan.
    Carrier,
    /// Another system with known words.
    Generic,
}

/// The result of a message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The final address, without its type.
    pub final_recipient: Option<String>,
    /// The address that the sender wrote to (ORCPT), without its type.
    pub original_recipient: Option<String>,
    /// The action.
    pub action: Action,
    /// The reply code. 400 or 500, by the status, if there is none. 0 without a failure.
    pub code: u16,
    /// The enhanced status code.
    pub enhanced: Option<EnhancedCode>,
    /// The server that replied, without its type.
    pub remote_mta: Option<String>,
    /// The stage of the session with that server, if the report names it.
    pub stage: Option<Stage>,
    /// The text of the reply, on one line.
    pub diagnostic: String,
    /// The meaning of the reply.
    pub class: Class,
}

impl Recipient {
    /// The statement of the server, for [`classify`] and [`blame`].
    #[must_use]
    pub fn said(&self) -> Said<'_> {
        Said {
            stage: self.stage,
            code: self.code,
            enhanced: self.enhanced,
            text: &self.diagnostic,
        }
    }

    /// The report names this address for the recipient. Case does not matter.
    fn has_address(&self, address: &str) -> bool {
        let address = address.to_lowercase();
        [&self.original_recipient, &self.final_recipient]
            .into_iter()
            .flatten()
            .any(|named| named.to_lowercase() == address)
    }
}

impl Report {
    /// The result for a message that went to this one recipient, whatever addresses the report
    /// names. `recipient` is its address in Unicode form.
    ///
    /// A report that came to the fromid of a message is about that message alone, even if it names
    /// other addresses: the recipient may be an alias or a list. The address itself counts first. Of
    /// several others, the mildest result counts: a delivery before a delay, and a delay before a
    /// failure. Of several failures, the one that blames its address least counts. So one dead
    /// member never gets a whole list suppressed.
    #[must_use]
    pub fn result_for(&self, recipient: &str) -> Option<&Recipient> {
        let same = |named: &&Recipient| named.has_address(recipient);
        self.recipients.iter().find(same).or_else(|| {
            self.recipients.iter().min_by_key(|named| {
                let action = match named.action {
                    Action::Delivered => 0,
                    Action::Relayed => 1,
                    Action::Expanded => 2,
                    Action::Delayed => 3,
                    Action::Failed => 4,
                };
                let blame = match blame(&named.said()) {
                    Blame::No => 0,
                    Blame::OnThird => 1,
                    Blame::Yes => 2,
                };
                (action, blame)
            })
        })
    }
}

/// A complaint about a message (RFC 5965).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaint {
    /// The type in lower case, like `abuse`, `fraud`, `virus` or `not-spam`.
    pub feedback_type: String,
    /// The program that made the report.
    pub user_agent: String,
    /// The MAIL FROM of the message.
    pub original_mail_from: Option<String>,
    /// The recipients that the complaint names.
    pub original_rcpt_to: Vec<String>,
    /// The IP address that the message came from.
    pub source_ip: Option<String>,
    /// ENVID of the message.
    pub envid: Option<String>,
    /// The Message-ID of the message, with `<` and `>`.
    pub original_message_id: Option<String>,
}

/// Reads a mail. The beginning of a mail is enough if it has the reports.
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
        // Some systems send the fields as plain text.
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

/// The first part with one of these types.
fn part_of_type<'a>(mail: &'a Message<'_>, types: &[&str]) -> Option<&'a MessagePart<'a>> {
    mail.parts.iter().find(|part| {
        let kind = part.content_type().map(|kind| {
            let subtype = kind.subtype().unwrap_or_default();
            format!("{}/{subtype}", kind.ctype()).to_ascii_lowercase()
        });
        kind.is_some_and(|kind| types.contains(&kind.as_str()))
    })
}

/// The mail is a multipart/report of this type (RFC 6522).
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
    with_brackets(&mime::parser().parse_headers(headers)?)
}

/// The text on one line, without control characters, and not too long.
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

/// The address in a text of a report, which may have angle brackets or a comment around it. None
/// without an address.
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
