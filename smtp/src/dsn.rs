//! Our delivery status notifications (RFC 3464; RFC 6533 for internationalised mail).
//!
//! A [`Report`] goes in, and a whole message comes out. The queue decides who gets a report and for
//! which events. [`crate::bounce`] reads the reports of other systems.

use std::{fmt::Write as _, net::IpAddr};

use jiff::{Timestamp, fmt::rfc2822, tz::TimeZone};

use crate::{Address, Cause, DeliveryStatus, Domain, params::utf8_addr};

/// A line is folded at a space before this column.
const FOLD_AT: usize = 76;
/// A line without a space is cut at this column. RFC 5322 §2.1.1 allows 998 characters.
const CUT_AT: usize = 900;

/// The content of a DSN, and the identity of its message.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The name of this server.
    pub reporting_mta: &'a str,
    /// The author of the report: postmaster of this server.
    pub from: &'a Address,
    /// The recipient of the report: the reverse-path of the message.
    pub to: &'a Address,
    /// The Message-ID of the report, with `<` and `>`.
    pub message_id: &'a str,
    /// The date of the report.
    pub date: Timestamp,
    /// A random MIME boundary of at most 60 letters and digits. It must not be in any of the parts.
    pub boundary: &'a str,
    /// ENVID of the message, not encoded.
    pub envid: Option<&'a str>,
    /// The time when the message came to this server.
    pub arrival: Option<Timestamp>,
    /// The Message-ID of the message, with `<` and `>`. Empty if it is unknown.
    pub original_message_id: &'a str,
    /// The message or its report needs SMTPUTF8. So the sender's side understands RFC 6533.
    pub smtputf8: bool,
    /// The recipients: one or more.
    pub recipients: &'a [Reported<'a>],
    /// The part of the message that goes back.
    pub returned: Returned<'a>,
}

/// The result of the message for one recipient.
#[derive(Clone, Debug)]
pub struct Reported<'a> {
    /// The recipient in RCPT.
    pub recipient: &'a Address,
    /// ORCPT as `type;address`, not encoded.
    pub orcpt: Option<&'a str>,
    /// The action.
    pub action: Action,
    /// The reason of the action.
    pub status: &'a DeliveryStatus,
    /// The time of the last attempt.
    pub last_attempt: Option<Timestamp>,
    /// The end of the attempts. Only [`Action::Delayed`] has one.
    pub will_retry_until: Option<Timestamp>,
}

/// The action of a mail system on a message (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The message could not be delivered, and nobody tries again.
    Failed,
    /// The message could not be delivered so far.
    Delayed,
    /// The message is in the mailbox.
    Delivered,
    /// A server without reports took the message.
    Relayed,
    /// The message went on to several recipients.
    Expanded,
}

impl Action {
    /// The word in the Action field.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }

    const fn headline(self) -> &'static str {
        match self {
            Self::Failed => "could not be delivered to:",
            Self::Delayed => "has not been delivered yet to:",
            Self::Delivered => "was delivered to:",
            Self::Relayed => "was passed on to a server that sends no further reports, for:",
            Self::Expanded => "was passed on to the members of:",
        }
    }

    const fn subject(self) -> &'static str {
        match self {
            Self::Failed => "Your message could not be delivered",
            Self::Delayed => "Your message is delayed",
            Self::Delivered => "Your message was delivered",
            Self::Relayed | Self::Expanded => "Your message was passed on",
        }
    }

    const ALL: [Self; 5] = [
        Self::Failed,
        Self::Delayed,
        Self::Delivered,
        Self::Relayed,
        Self::Expanded,
    ];
}

/// The part of the message that a report returns (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug)]
pub enum Returned<'a> {
    /// Nothing.
    Nothing,
    /// The header section of this message.
    Headers(&'a [u8]),
    /// This whole message.
    Full(&'a [u8]),
}

/// The report as a message with CRLF line ends. Send it with the null reverse-path and NOTIFY=NEVER
/// (RFC 3461 §5.2).
#[must_use]
pub fn compose(report: &Report<'_>) -> Vec<u8> {
    let utf8 = report.smtputf8
        || !report.to.is_ascii()
        || report.recipients.iter().any(|r| !r.recipient.is_ascii());
    let charset = if utf8 { Charset::Utf8 } else { Charset::Ascii };
    let human = human_part(report);
    let machine = machine_part(report, charset);
    let returned = match report.returned {
        Returned::Nothing => None,
        Returned::Headers(message) => Some((header_section(message), false)),
        Returned::Full(message) => Some((message, true)),
    };
    let size = returned.map_or(0, |(bytes, _)| bytes.len());
    let mut out = Fields::with_capacity(human.len() + machine.len() + size + 2048);
    let all_ascii = human.is_ascii()
        && machine.is_ascii()
        && returned.is_none_or(|(bytes, _)| bytes.is_ascii());
    header(report, charset, all_ascii, &mut out);
    out.part(
        report.boundary,
        "text/plain; charset=utf-8",
        human.is_ascii(),
    );
    out.text.push_str(&human);
    let kind = if utf8 {
        "message/global-delivery-status"
    } else {
        "message/delivery-status"
    };
    out.part(report.boundary, kind, machine.is_ascii());
    out.text.push_str(&machine);
    if let Some((bytes, full)) = returned {
        let kind = match (full, utf8) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        };
        out.part(report.boundary, kind, bytes.is_ascii());
        // The message may have any charset. So from here on the report is bytes.
        let mut out = out.text.into_bytes();
        out.extend_from_slice(bytes);
        if !bytes.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(format!("\r\n--{}--\r\n", report.boundary).as_bytes());
        return out;
    }
    out.text
        .push_str(&format!("\r\n--{}--\r\n", report.boundary));
    out.text.into_bytes()
}

fn header(report: &Report<'_>, charset: Charset, all_ascii: bool, out: &mut Fields) {
    let mut actions = Action::ALL
        .into_iter()
        .filter(|action| report.recipients.iter().any(|r| r.action == *action));
    let subject = match (actions.next(), actions.next()) {
        (Some(action), None) => action.subject(),
        _ => "What became of your message",
    };
    out.field(
        "From",
        &format!("Mail Delivery System <{}>", report.from),
        charset,
    );
    out.field("To", &format!("<{}>", report.to), charset);
    out.field("Subject", subject, charset);
    out.field("Date", &date(report.date), charset);
    out.field("Message-ID", report.message_id, charset);
    if !report.original_message_id.is_empty() {
        // RFC 3834 §3.1.5: a mail reader shows the report beside the message.
        out.field("In-Reply-To", report.original_message_id, charset);
        out.field("References", report.original_message_id, charset);
    }
    out.field("Auto-Submitted", "auto-replied", charset);
    out.field("MIME-Version", "1.0", charset);
    let kind = format!(
        "multipart/report; report-type=delivery-status; boundary=\"{}\"",
        report.boundary
    );
    out.field("Content-Type", &kind, charset);
    if !all_ascii {
        out.field("Content-Transfer-Encoding", "8bit", charset);
    }
    out.text
        .push_str("\r\nThis is a delivery report in several parts (RFC 3464).\r\n");
}

/// The part for people.
fn human_part(report: &Report<'_>) -> String {
    let mut out = Fields::with_capacity(512);
    out.paragraph(
        "",
        &format!("This is the mail server at {}.", report.reporting_mta),
    );
    for action in Action::ALL {
        let mut recipients = report
            .recipients
            .iter()
            .filter(|r| r.action == action)
            .peekable();
        if recipients.peek().is_none() {
            continue;
        }
        let of = report
            .arrival
            .map(|arrival| format!(" of {}", date(arrival)))
            .unwrap_or_default();
        out.text.push_str("\r\n");
        out.paragraph("", &format!("Your message{of} {}", action.headline()));
        let mut until = None;
        for recipient in recipients {
            out.text.push_str("\r\n");
            out.paragraph("  ", &recipient.recipient.unicode());
            if let Some(reason) = reason(recipient) {
                out.paragraph("    ", &reason);
            }
            until = until.max(recipient.will_retry_until);
        }
        let end = match (action, until) {
            (Action::Failed, _) => "This was the last attempt. You may send the message again once the cause is removed.".to_owned(),
            (Action::Delayed, Some(until)) => {
                format!("It will be tried again until {}. There is no need to send it again.", date(until))
            }
            (Action::Delayed, None) => "It will be tried again. There is no need to send it again.".to_owned(),
            _ => continue,
        };
        out.text.push_str("\r\n");
        out.paragraph("", &end);
    }
    out.text
}

/// The reason in a sentence. None for a success.
fn reason(reported: &Reported<'_>) -> Option<String> {
    let status = reported.status;
    if status.is_success() {
        return None;
    }
    let server = match (&status.remote, remote_mta(status)) {
        (Some(remote), Some(_)) => format!("server {remote}"),
        _ => "server".to_owned(),
    };
    if let Some(answer) = status.diagnostic() {
        let to = status
            .command
            .as_deref()
            .map(|command| format!(" to {command}"));
        return Some(format!(
            "The {server} answered{}: {answer}",
            to.unwrap_or_default()
        ));
    }
    let what = match status.cause {
        Cause::Dns => "The domain could not be looked up".to_owned(),
        Cause::Connect => format!("The {server} could not be reached"),
        Cause::Tls => format!("No secure connection could be made to the {server}"),
        Cause::Timeout => format!("The {server} took too long"),
        Cause::Lost => format!("The connection to the {server} broke"),
        Cause::Protocol => format!("The {server} gave an answer that was not understood"),
        Cause::Reply | Cause::Local => "It was not sent".to_owned(),
    };
    Some(format!("{what}: {}", status.text))
}

/// The server in the form of the type `dns` (RFC 3464 §2.3.5): a domain, or an address in brackets.
/// None for a server at a Unix socket: its path is nobody's business elsewhere.
fn remote_mta(status: &DeliveryStatus) -> Option<String> {
    let name = status.remote.as_deref()?.split(' ').next()?;
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Some(format!("[{ip}]")),
        Ok(IpAddr::V6(ip)) => Some(format!("[IPv6:{ip}]")),
        Err(_) => Domain::parse(name).ok().map(|_| name.to_owned()),
    }
}

/// The part for programs (RFC 3464 §2): a group of fields for the message, and one for each
/// recipient.
fn machine_part(report: &Report<'_>, charset: Charset) -> String {
    let mut out = Fields::with_capacity(512);
    if let Some(envid) = report.envid.filter(|envid| !envid.is_empty()) {
        out.field("Original-Envelope-Id", envid, charset);
    }
    out.field(
        "Reporting-MTA",
        &format!("dns; {}", report.reporting_mta),
        charset,
    );
    if let Some(arrival) = report.arrival {
        out.field("Arrival-Date", &date(arrival), charset);
    }
    for reported in report.recipients {
        out.text.push_str("\r\n");
        recipient_fields(reported, charset, &mut out);
    }
    out.text
}

fn recipient_fields(reported: &Reported<'_>, charset: Charset, out: &mut Fields) {
    let status = reported.status;
    if let Some((kind, address)) = reported.orcpt.and_then(|orcpt| orcpt.split_once(';')) {
        out.field(
            "Original-Recipient",
            &format!("{kind}; {}", typed(kind, address, charset)),
            charset,
        );
    }
    let (kind, address) = match reported.recipient.is_ascii() {
        true => ("rfc822", reported.recipient.to_string()),
        false => ("utf-8", reported.recipient.unicode()),
    };
    out.field(
        "Final-Recipient",
        &format!("{kind}; {}", typed(kind, &address, charset)),
        charset,
    );
    out.field("Action", reported.action.name(), charset);
    out.field("Status", &status.status().to_string(), charset);
    if let Some(remote) = remote_mta(status) {
        out.field("Remote-MTA", &format!("dns; {remote}"), charset);
    }
    match status.diagnostic() {
        Some(diagnostic) => out.field("Diagnostic-Code", &format!("smtp; {diagnostic}"), charset),
        None if status.text.is_empty() => {}
        None => out.field(
            "Diagnostic-Code",
            &format!("X-Postrider; {}", status.text),
            charset,
        ),
    }
    if let Some(last_attempt) = reported.last_attempt {
        out.field("Last-Attempt-Date", &date(last_attempt), charset);
    }
    if let Some(until) = reported
        .will_retry_until
        .filter(|_| reported.action == Action::Delayed)
    {
        out.field("Will-Retry-Until", &date(until), charset);
    }
}

/// The address. An address of the type `utf-8` has another form where only ASCII may stand (RFC
/// 6533 §3).
fn typed(kind: &str, address: &str, charset: Charset) -> String {
    if charset == Charset::Ascii && kind.eq_ignore_ascii_case("utf-8") {
        utf8_addr::encode(address)
    } else {
        address.to_owned()
    }
}

/// A date of RFC 5322 §3.3, in UTC.
fn date(time: Timestamp) -> String {
    // Only years before 0 have no form.
    rfc2822::to_string(&time.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

/// The message up to its first empty line.
fn header_section(message: &[u8]) -> &[u8] {
    if message.starts_with(b"\r\n") {
        return b"";
    }
    let end = memchr::memmem::find(message, b"\r\n\r\n")
        .map_or(message.len(), |end| end.saturating_add(2));
    message.get(..end).unwrap_or(message)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Charset {
    Ascii,
    Utf8,
}

/// A text that is written line by line.
struct Fields {
    text: String,
}

impl Fields {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            text: String::with_capacity(capacity),
        }
    }

    /// Writes the beginning of a MIME part.
    fn part(&mut self, boundary: &str, kind: &str, ascii: bool) {
        // Writing into a String cannot fail.
        let _ = write!(self.text, "\r\n--{boundary}\r\nContent-Type: {kind}\r\n");
        if !ascii {
            self.text.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
        self.text.push_str("\r\n");
    }

    /// Writes a folded header field. The value may come from a server. Nothing in it ends the
    /// field.
    fn field(&mut self, name: &str, value: &str, charset: Charset) {
        let value: String = value
            .chars()
            .map(|c| match c {
                c if c.is_control() => ' ',
                c if !c.is_ascii() && charset == Charset::Ascii => '?',
                c => c,
            })
            .collect();
        self.text.push_str(name);
        self.text.push_str(": ");
        self.wrap(name.len() + 2, " ", &value);
    }

    /// Writes text for people with an indent on each line.
    fn paragraph(&mut self, indent: &str, text: &str) {
        let text = text.replace(char::is_control, " ");
        self.text.push_str(indent);
        self.wrap(indent.len(), indent, &text);
    }

    /// Writes words after `used` characters of the line. Further lines begin with `indent`.
    fn wrap(&mut self, used: usize, indent: &str, text: &str) {
        let mut used = used;
        for (i, word) in text.split_ascii_whitespace().enumerate() {
            if i > 0 && used + 1 + word.len() > FOLD_AT {
                self.text.push_str("\r\n");
                self.text.push_str(indent);
                used = indent.len();
            } else if i > 0 {
                self.text.push(' ');
                used += 1;
            }
            used += self.word(word, indent);
        }
        self.text.push_str("\r\n");
    }

    /// Writes a word, and cuts it if it is too long for a line. Gives its length on the last line.
    fn word(&mut self, word: &str, indent: &str) -> usize {
        let mut rest = word;
        while rest.len() > CUT_AT {
            let (head, tail) = rest.split_at(rest.floor_char_boundary(CUT_AT));
            self.text.push_str(head);
            self.text.push_str("\r\n");
            self.text.push_str(indent);
            rest = tail;
        }
        self.text.push_str(rest);
        rest.len()
    }
}
