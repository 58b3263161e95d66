//! The delivery reports and complaints of other systems.
//!
//! - [`read`] takes a whole mail and says what it is.
//! - [`classify()`] gives the meaning of a server's reply in one word, and [`blame`] says whether
//!   the reply blames the recipient's address. The reply may be in a report, or may have come in a
//!   session of ours.
//!
//! In reading order:
//!
//! | module | what it reads |
//! |---|---|
//! | `letter` | the header section: may a mailer daemon be the author? |
//! | `fields` | the delivery reports of RFC 3464 |
//! | `feedback` | the complaints of RFC 5965 |
//! | `text` | the bounces of systems that follow neither |
//! | `returned` | the returned message, in a part or in the text |
//! | `recipients` | the failed recipients in a text |
//! | `codes` | reply codes and enhanced codes in a text |
//! | `phrases`, `words` | the words of bounces and of replies, from files (`rules`) |
//! | `class`, `classify` | the meaning of a reply |
//!
//! Precision goes before recall: an automatic reply, a read receipt or a letter about a bounce must
//! never count as a bounce. This module does not check the sender of the mail. Its callers do.

mod class;
mod classify;
mod codes;
mod feedback;
mod fields;
mod letter;
mod phrases;
mod recipients;
mod returned;
mod rules;
mod text;
mod words;

use mail_parser::{Message, MessagePart, MimeHeaders};

use crate::{EnhancedCode, ReversePath, Stage, dsn::Action, mime};

use letter::{Letter, Origin};
use text::Text;

pub use class::{Blame, Class};
pub use classify::{Said, blame, blame_as, classify};

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
    /// The statement of the server, for [`classify()`] and [`blame`].
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
    /// other addresses: the recipient may be an alias or a list. The address itself counts first.
    /// Of several others, the mildest result counts: a delivery before a delay, and a delay before
    /// a failure. Of several failures, the one that blames its address least counts. So one dead
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
    /// The type in lower case, like `abuse`, `fraud`, `virus` or `not-spam`. Never `auth-failure`:
    /// such a report is no complaint.
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

/// Reads a mail. The beginning of a mail is enough if it has the reports. The topmost Return-Path
/// counts as the reverse-path of the envelope.
#[must_use]
pub fn read(message: &[u8], limits: mime::Limits) -> Reading {
    mime::parse(message, limits, |mail| {
        mail.map_or(Reading::Other, |mail| read_mail(mail, None))
    })
}

/// Reads a mail with this reverse-path of its envelope. Return-Path fields of the mail do not
/// count, since their author may be anyone.
#[must_use]
pub fn read_with_path(path: &ReversePath, message: &[u8], limits: mime::Limits) -> Reading {
    mime::parse(message, limits, |mail| {
        mail.map_or(Reading::Other, |mail| read_mail(mail, Some(path)))
    })
}

fn read_mail(mail: &Message<'_>, path: Option<&ReversePath>) -> Reading {
    if is_kind_of_report(mail, "disposition-notification") {
        // A read receipt (RFC 8098).
        return Reading::Other;
    }
    if let Some(part) = parts_of_type(mail, &["message/feedback-report"]).next() {
        let complaint = feedback::read(part.contents(), letter::in_parts(mail));
        return complaint.map_or(Reading::Other, Reading::Complaint);
    }
    let letter = Letter::new(mail, path);
    let has_status = parts_of_type(mail, &STATUS_TYPES).next().is_some();
    let is_report =
        is_kind_of_report(mail, "delivery-status") || has_status && is_untyped_report(mail);
    let may_be = is_report || letter.origin != Origin::Other;
    let mut status = Vec::new();
    for part in parts_of_type(mail, &STATUS_TYPES) {
        status.extend_from_slice(part.contents());
        status.extend_from_slice(b"\n\n");
    }
    if !status.is_empty() && may_be {
        return read_fields(&letter, &status);
    }
    let in_text = fields_in_text(mail).filter(|_| may_be);
    if let Some(report) = in_text.and_then(|fields| fields_only(&letter, fields)) {
        return Reading::Report(report);
    }
    let in_raw = || fields::in_raw(mail.raw_message()).filter(|_| may_be);
    if is_report && let Some(report) = in_raw().and_then(|fields| fields_only(&letter, fields)) {
        // The boundary is wrong.
        return Reading::Report(report);
    }
    let report = Text::of(&letter).report(&letter, is_report);
    match report.or_else(|| fields_only(&letter, in_raw()?)) {
        Some(report) => Reading::Report(report),
        None if is_report => Reading::Unusable(Fault::NoRecipient),
        None => Reading::Other,
    }
}

const STATUS_TYPES: [&str; 4] = [
    "message/delivery-status",
    "message/global-delivery-status",
    "message/x-delivery-status",
    "message/xdelivery-status",
];

/// The fields of a report, with what its text adds.
fn read_fields(letter: &Letter<'_>, status: &[u8]) -> Reading {
    let words = Text::of(letter);
    match fields::read(status, words.message_id()) {
        Ok(mut report) => {
            words.add_to(&mut report.recipients);
            Reading::Report(report)
        }
        Err(Fault::NoAction) => {
            let report = words.report(letter, true).filter(|_| words.has_reasons());
            report.map_or(Reading::Unusable(Fault::NoAction), Reading::Report)
        }
        Err(fault) => {
            let (head, only) = fields::without_address(status);
            let Some(mut report) = words.report(letter, true) else {
                return Reading::Unusable(fault);
            };
            report.format = head.format;
            report.envid = head.envid;
            report.reporting_mta = head.reporting_mta;
            if let (Some(result), [recipient]) = (only, report.recipients.as_mut_slice()) {
                text::complete(recipient, result);
            }
            Reading::Report(report)
        }
    }
}

/// Some systems send the fields as plain text.
fn fields_in_text<'a>(mail: &'a Message<'_>) -> Option<&'a [u8]> {
    let mut bodies = mail.text_bodies().map(|part| part.contents());
    bodies.find_map(|body| fields::in_raw(body).filter(|fields| fields::looks_like_fields(fields)))
}

fn fields_only(letter: &Letter<'_>, fields: &[u8]) -> Option<Report> {
    let words = Text::of(letter);
    let mut report = fields::read(fields, words.message_id()).ok()?;
    words.add_to(&mut report.recipients);
    Some(report)
}

/// The parts with one of these types.
fn parts_of_type<'a>(
    mail: &'a Message<'_>,
    types: &'a [&str],
) -> impl Iterator<Item = &'a MessagePart<'a>> {
    mail.parts.iter().filter(|part| {
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

/// The mail is a multipart/report that does not name its type.
fn is_untyped_report(mail: &Message<'_>) -> bool {
    mail.content_type().is_some_and(|kind| {
        let subtype = kind.subtype().unwrap_or_default();
        subtype.eq_ignore_ascii_case("report") && kind.attribute("report-type").is_none()
    })
}

/// The first bytes of a text.
fn cut_at(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or(text)
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

/// The address in a text of a report, which may have angle brackets, a name or a comment around it.
/// None without an address.
fn address(text: &str) -> Option<String> {
    let text = text.trim();
    let quoted = text.trim_start_matches('<').strip_prefix('"');
    let first = match quoted.and_then(|quoted| quoted.split_once("\"@")) {
        // A quoted local-part may have spaces.
        Some((local, rest)) if !local.contains('@') => {
            let domain = rest.split(char::is_whitespace).next().unwrap_or_default();
            format!("\"{local}\"@{}", domain.trim_end_matches('>'))
        }
        _ => text.split(char::is_whitespace).next()?.to_owned(),
    };
    let bracketed = match (text.find('<'), text.rfind('>')) {
        (Some(from), Some(to)) if from < to => text.get(from + 1..to),
        _ => None,
    };
    let inner = match bracketed {
        Some(inner) if !first.contains('@') || first.starts_with('<') => inner,
        _ => &first,
    };
    let inner = inner
        .trim()
        .trim_matches(['\'', ',', ';', ':', '.', '<', '>']);
    let inner = match inner
        .strip_prefix('"')
        .and_then(|inner| inner.strip_suffix('"'))
    {
        Some(unquoted) => unquoted,
        None => inner,
    };
    let (local, domain) = inner.rsplit_once('@')?;
    let fits = !local.is_empty()
        && !domain.is_empty()
        && inner.chars().count() <= 320
        && !local.contains(['<', '>'])
        && !domain.contains(|c: char| {
            c.is_whitespace() || "<>()[]\"',;".contains(c) && !domain.starts_with('[')
        })
        && !inner.contains(char::is_control);
    fits.then(|| inner.to_owned())
}
