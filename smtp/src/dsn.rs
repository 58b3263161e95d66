//! Delivery status notifications, composed (RFC 3464; RFC 6533 for internationalised mail).
//!
//! A [`Report`] goes in, a whole message comes out. Who gets one, and for what (NOTIFY, the null reverse-path), is decided
//! elsewhere. Those of others are read in [`crate::bounce`].

use std::fmt::Write as _;

use jiff::{Timestamp, fmt::rfc2822, tz::TimeZone};

use crate::{Address, Cause, DeliveryStatus, params::utf8_addr_xtext};

/// Where lines are folded, if there is a space.
const FOLD_AT: usize = 76;
/// Where lines are cut even without one (RFC 5322 §2.1.1 allows 998 characters).
const CUT_AT: usize = 900;

/// What a DSN tells, and the identity of the message that tells it.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// The name of this server.
    pub reporting_mta: &'a str,
    /// The author of the report: postmaster of this server.
    pub from: &'a Address,
    /// Who is told: the reverse-path of the message.
    pub to: &'a Address,
    /// The Message-ID of the report, with `<` and `>`.
    pub message_id: &'a str,
    /// Its date.
    pub date: Timestamp,
    /// A MIME boundary, made at random so that it is in none of the parts: at most 60 letters and digits.
    pub boundary: &'a str,
    /// ENVID of the message, not encoded.
    pub envid: Option<&'a str>,
    /// When the message came to this server.
    pub arrival: Option<Timestamp>,
    /// The Message-ID of the message, with `<` and `>`; empty if not known.
    pub original_message_id: &'a str,
    /// The message or the report of it needs SMTPUTF8, so the sender's side is known to understand RFC 6533.
    pub smtputf8: bool,
    /// At least one.
    pub recipients: &'a [Reported<'a>],
    /// What is returned of the message.
    pub returned: Returned<'a>,
}

/// What became of the message for one recipient.
#[derive(Clone, Debug)]
pub struct Reported<'a> {
    /// The recipient, as RCPT had it.
    pub recipient: &'a Address,
    /// ORCPT as `type;address`, not encoded.
    pub orcpt: Option<&'a str>,
    /// What became of it.
    pub action: Action,
    /// And why.
    pub status: &'a DeliveryStatus,
    /// When it was last tried.
    pub last_attempt: Option<Timestamp>,
    /// Until when it will be tried; only with [`Action::Delayed`].
    pub will_retry_until: Option<Timestamp>,
}

/// What became of a message (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It could not be delivered, and will not be.
    Failed,
    /// It could not be delivered so far.
    Delayed,
    /// It is in the mailbox.
    Delivered,
    /// A server took it that does not send reports.
    Relayed,
    /// It went to several recipients.
    Expanded,
}

impl Action {
    /// As in the Action field.
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

/// What a report returns of the message (RFC 3461 §4.3).
#[derive(Clone, Copy, Debug)]
pub enum Returned<'a> {
    /// Nothing.
    Nothing,
    /// The header section of this message; what follows it is left out.
    Headers(&'a [u8]),
    /// All of this message.
    Full(&'a [u8]),
}

/// The report as a message, with CRLF line ends. It is to be sent with the null reverse-path and NOTIFY=NEVER (RFC 3461 §5.2).
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
        // It may be in any charset, so from here on these are bytes.
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
        // RFC 3834 §3.1.5: so that the sender's mail reader puts it beside the message.
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

/// What people read.
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

/// Why, in a sentence; None for a success.
fn reason(reported: &Reported<'_>) -> Option<String> {
    let status = reported.status;
    if status.is_success() {
        return None;
    }
    let server = match &status.remote {
        Some(remote) => format!("server {remote}"),
        None => "server".to_owned(),
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

/// What programs read (RFC 3464 §2): a group of fields on the message and one for each recipient.
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
    if let Some(remote) = status
        .remote
        .as_deref()
        .and_then(|remote| remote.split(' ').next())
    {
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

/// An address of the type `utf-8` has a form for where only ASCII may stand (RFC 6533 §3).
fn typed(kind: &str, address: &str, charset: Charset) -> String {
    if charset == Charset::Ascii && kind.eq_ignore_ascii_case("utf-8") {
        utf8_addr_xtext(address)
    } else {
        address.to_owned()
    }
}

/// RFC 5322 §3.3, in UTC.
fn date(time: Timestamp) -> String {
    // Only years before 0 cannot be written.
    rfc2822::to_string(&time.to_zoned(TimeZone::UTC)).unwrap_or_default()
}

/// Up to the empty line that ends it.
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

/// Text that is being written, line by line.
struct Fields {
    text: String,
}

impl Fields {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            text: String::with_capacity(capacity),
        }
    }

    /// The beginning of a MIME part.
    fn part(&mut self, boundary: &str, kind: &str, ascii: bool) {
        // Writing into a String cannot fail.
        let _ = write!(self.text, "\r\n--{boundary}\r\nContent-Type: {kind}\r\n");
        if !ascii {
            self.text.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
        self.text.push_str("\r\n");
    }

    /// A header field, folded. Nothing in the value, which may be a remote's words, can end it.
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

    /// Text for people, each line indented.
    fn paragraph(&mut self, indent: &str, text: &str) {
        let text = text.replace(char::is_control, " ");
        self.text.push_str(indent);
        self.wrap(indent.len(), indent, &text);
    }

    /// Writes words where `used` characters of the line are written; further lines begin with `indent`.
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

    /// Writes a word, cut if it is too long for any line. The length on its last line.
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
