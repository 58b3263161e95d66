//! The header section of a message: the facts that we need, and the fields that we add.

use std::{fmt, net::IpAddr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{fmt::rfc2822, tz::TimeZone};
use mail_parser::HeaderName;
use postrider_smtp::{
    Address, field, mime,
    server::{Client, Transaction},
};
use postrider_store::Time;
use rand::Rng;

/// Facts of a header section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    names: Vec<String>,
    from: Option<Address>,
    message_id: String,
    is_ascii: bool,
    subject: String,
    received: usize,
    delivered_to: Vec<Address>,
    report: bool,
    feedback: bool,
    waives_tls: bool,
}

/// The field by which a sender says that the delivery counts more than TLS (RFC 8689 §5). Its only
/// value is `No`.
pub const TLS_REQUIRED: &str = "TLS-Required";

/// The most Delivered-To fields that are read. Each server puts its field on top, so those of a
/// loop are among the first.
const DELIVERED_TO_MAX: usize = 100;

impl Header {
    /// Reads a header section, with or without the blank line after it. Fields that can't be read
    /// count as absent.
    #[must_use]
    pub fn scan(section: &[u8]) -> Self {
        let Some(message) = mime::parser().parse_headers(section) else {
            return Self::default();
        };
        let names: Vec<String> = message
            .headers()
            .iter()
            .map(|header| header.name().to_ascii_lowercase())
            .collect();
        // Two authors or two From fields are not one author.
        let from = message
            .from()
            .filter(|_| names.iter().filter(|name| *name == "from").count() == 1);
        let from = from
            .filter(|from| from.iter().count() == 1)
            .and_then(|from| from.first());
        let first = |name| {
            let mut fields = field::fields(section);
            fields.find(|field| field.is(name)).map(|field| field.value)
        };
        Self {
            is_ascii: section.is_ascii(),
            from: from
                .and_then(|from| from.address())
                .and_then(|address| Address::parse(address).ok()),
            message_id: message
                .message_id()
                .map(|id| format!("<{id}>"))
                .unwrap_or_default(),
            subject: first("Subject").map(field::text).unwrap_or_default(),
            received: message
                .headers()
                .iter()
                .filter(|header| header.name == HeaderName::Received)
                .count(),
            delivered_to: delivered_to(section),
            report: first("Content-Type").is_some_and(is_dsn),
            feedback: first("Content-Type").is_some_and(is_feedback),
            waives_tls: first(TLS_REQUIRED)
                .is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"No")),
            names,
        }
    }

    /// Whether there is a field of this name. Case does not matter.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Whether the section has ASCII characters only. One that can't be read has.
    #[must_use]
    pub const fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    /// The author's address. None without an author, and with several.
    #[must_use]
    pub const fn from(&self) -> Option<&Address> {
        self.from.as_ref()
    }

    /// The Message-ID with `<` and `>`. Empty without one.
    #[must_use]
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// The decoded subject. Empty without one.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// How many Received fields there are: one for each server on the way.
    #[must_use]
    pub const fn received_count(&self) -> usize {
        self.received
    }

    /// The addresses to which servers on the way delivered the message: those of the first 100
    /// Delivered-To fields that can be read.
    #[must_use]
    pub fn delivered_to(&self) -> &[Address] {
        &self.delivered_to
    }

    /// Whether the field [`TLS_REQUIRED`] says `No`.
    #[must_use]
    pub const fn waives_tls(&self) -> bool {
        self.waives_tls
    }

    /// Whether the message is a DSN by its type. A read receipt (RFC 8098) and a complaint (RFC
    /// 5965) are other reports.
    #[must_use]
    pub const fn is_report(&self) -> bool {
        self.report
    }

    /// Whether the message is a report about another message by its type, such as a complaint (RFC
    /// 5965).
    #[must_use]
    pub const fn is_feedback(&self) -> bool {
        self.feedback
    }
}

/// What the sender of a message asks of TLS, for its record in the queue. REQUIRETLS in MAIL
/// (`requires`) counts more than the field `TLS-Required: No` (`waives`; RFC 8689 §5).
#[must_use]
pub const fn requested_tls(requires: bool, waives: bool) -> Option<bool> {
    match (requires, waives) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    }
}

fn delivered_to(section: &[u8]) -> Vec<Address> {
    let fields = field::fields(section).filter(|field| field.is("Delivered-To"));
    fields
        .take(DELIVERED_TO_MAX)
        .filter_map(|field| Address::parse(field::decode(None, field.value).trim()).ok())
        .collect()
}

/// A multipart/report about a delivery (RFC 6522 §3). Some systems do not say what it is about.
fn is_dsn(content_type: &[u8]) -> bool {
    let kind = field::parameters(content_type);
    let about = kind.get("report-type").unwrap_or("delivery-status");
    kind.value == "multipart/report" && about.eq_ignore_ascii_case("delivery-status")
}

/// A multipart/report about a message (RFC 5965 §2).
fn is_feedback(content_type: &[u8]) -> bool {
    let kind = field::parameters(content_type);
    let about = kind.get("report-type").unwrap_or_default();
    kind.value == "multipart/report" && about.eq_ignore_ascii_case("feedback-report")
}

/// The header section at the beginning of a message, with the CRLF of its last field.
#[must_use]
pub fn section(text: &[u8]) -> &[u8] {
    if text.starts_with(b"\r\n") {
        return &[];
    }
    let end = text
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 2);
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// A new Message-ID with `<` and `>`: 16 random bytes at this host.
pub fn message_id(rng: &mut impl Rng, hostname: &str) -> String {
    format!("<{}@{hostname}>", random_id(rng))
}

/// 16 random bytes as 22 letters, digits, `-` and `_`.
pub fn random_id(rng: &mut impl Rng) -> String {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// 22 characters as of [`random_id`]. The first eight are the time in milliseconds, the rest are 80
/// random bits. So nobody can guess an id, and ids of one time are neighbours in an ordered table.
pub fn timed_id(rng: &mut impl Rng, now: Time) -> String {
    let mut bytes = [0; 16];
    let (time, random) = bytes.split_at_mut(6);
    let milliseconds = (now.0 / 1000).to_be_bytes();
    time.copy_from_slice(milliseconds.get(2..).unwrap_or(&[0; 6]));
    rng.fill_bytes(random);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A date as in the Date field (RFC 5322 §3.3), in UTC.
#[must_use]
pub fn date(time: Time) -> String {
    rfc2822::to_string(&time.timestamp().to_zoned(TimeZone::UTC)).unwrap_or_default()
}

/// A Received field (RFC 5321 §4.4).
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// The client's name for itself, and its address. None for a message that came by HTTP.
    pub from: Option<(&'a str, IpAddr)>,
    /// Our name.
    pub by: &'a str,
    /// The protocol (RFC 3848): `ESMTPS` and so on.
    pub with: &'static str,
    /// An id that the log has too.
    pub id: String,
    /// The TLS version and cipher suite.
    pub tls: Option<(&'a str, &'a str)>,
    /// The only recipient. None if there are several: they must not learn of each other (RFC 5321
    /// §7.2).
    pub recipient: Option<&'a Address>,
    /// The time of arrival.
    pub time: Time,
}

impl<'a> Received<'a> {
    /// The field for an SMTP transaction.
    #[must_use]
    pub fn smtp(
        by: &'a str,
        client: &'a Client,
        transaction: &'a Transaction,
        id: String,
        time: Time,
    ) -> Self {
        let recipient = match transaction.recipients.as_slice() {
            [only] => only.forward_path.address(),
            _ => None,
        };
        let utf8 = transaction.mail.smtputf8;
        let with = match (client.esmtp, client.tls.is_some(), client.login.is_some()) {
            (false, ..) => "SMTP",
            (true, false, false) if utf8 => "UTF8SMTP",
            (true, true, false) if utf8 => "UTF8SMTPS",
            (true, false, true) if utf8 => "UTF8SMTPA",
            (true, true, true) if utf8 => "UTF8SMTPSA",
            (true, false, false) => "ESMTP",
            (true, true, false) => "ESMTPS",
            (true, false, true) => "ESMTPA",
            (true, true, true) => "ESMTPSA",
        };
        Self {
            from: Some((
                client.helo.as_deref().unwrap_or("unknown"),
                client.remote.ip().to_canonical(),
            )),
            by,
            with,
            id,
            tls: client
                .tls
                .as_ref()
                .map(|tls| (tls.version.as_str(), tls.cipher.as_str())),
            recipient,
            time,
        }
    }
}

/// The whole field, folded, with its CRLF.
impl fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some((name, IpAddr::V4(ip))) => {
                write!(f, "Received: from {name} ([{ip}])\r\n\tby {}", self.by)?
            }
            Some((name, IpAddr::V6(ip))) => {
                write!(f, "Received: from {name} ([IPv6:{ip}])\r\n\tby {}", self.by)?
            }
            None => write!(f, "Received: from {0} by {0}", self.by)?,
        }
        write!(f, "\r\n\twith {} id {}", self.with, self.id)?;
        if let Some((version, cipher)) = self.tls {
            write!(f, "\r\n\t(TLS {version} {cipher})")?;
        }
        if let Some(recipient) = self.recipient {
            write!(f, "\r\n\tfor <{recipient}>")?;
        }
        write!(f, ";\r\n\t{}\r\n", date(self.time))
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn facts_are_found() {
        let header = Header::scan(
            b"Received: a\r\nReceived: b\r\nFROM: =?utf-8?q?J=C3=B6rg?= <j@example.com>\r\nsubject: =?utf-8?q?h=C3=A4?=\r\n folded\r\nMessage-ID: <1@x>\r\nContent-Type: multipart/report; boundary=x\r\n",
        );
        assert_eq!(header.from().unwrap().to_string(), "j@example.com");
        assert_eq!(
            (header.message_id(), header.subject()),
            ("<1@x>", "h\u{e4} folded")
        );
        assert_eq!(header.received_count(), 2);
        assert!(header.is_report() && header.has("From") && !header.has("Date"));
    }

    #[test]
    fn addresses_of_deliveries_are_found() {
        let section = "delivered-to: a@x.example\r\nDelivered-To:\r\n\t\"b c\"@X.example \r\n\
                       Delivered-To: nobody\r\nX-Delivered-To: d@x.example\r\n";
        let shown = |section: &str| -> Vec<String> {
            let header = Header::scan(section.as_bytes());
            header
                .delivered_to()
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        assert_eq!(shown(section), ["a@x.example", "\"b c\"@x.example"]);
        assert_eq!(shown(&section.repeat(40)).len(), 67);
    }

    #[test]
    fn a_sender_may_waive_tls() {
        for (section, expected) in [
            ("TLS-Required: No\r\n", Some(false)),
            ("tls-required:\r\n no \r\n", Some(false)),
            ("TLS-Required: Yes\r\n", None),
            ("X-TLS-Required: No\r\n", None),
            ("", None),
        ] {
            let header = Header::scan(section.as_bytes());
            let waives = header.waives_tls();
            assert_eq!(requested_tls(false, waives), expected, "{section:?}");
            assert_eq!(requested_tls(true, waives), Some(true), "{section:?}");
        }
    }

    #[test]
    fn an_author_must_be_one_and_readable() {
        for section in [
            "",
            "From: a@x.example, b@x.example\r\n",
            "From: nobody\r\n",
            "From: a@x.example\r\nFrom: b@x.example\r\n",
            "\r\nFrom: a@x.example\r\n",
        ] {
            assert_eq!(Header::scan(section.as_bytes()).from(), None, "{section:?}");
        }
    }

    #[test]
    fn only_reports_about_deliveries_are_dsns() {
        for (kind, expected) in [
            ("multipart/report; boundary=x", true),
            (
                "Multipart/Report; Report-Type=Delivery-Status; boundary=x",
                true,
            ),
            (
                "multipart/report; report-type=disposition-notification",
                false,
            ),
            ("multipart/report; report-type=\"feedback-report\"", false),
            ("multipart/mixed; report-type=delivery-status", false),
        ] {
            let header = Header::scan(format!("Content-Type: {kind}\r\n").as_bytes());
            assert_eq!(header.is_report(), expected, "{kind}");
            let is_feedback = kind.to_ascii_lowercase().contains("feedback-report");
            assert_eq!(header.is_feedback(), is_feedback, "{kind}");
        }
    }

    #[test]
    fn a_date_does_not_take_the_next_field() {
        let header = Header::scan(
            b"Date: 1 Jan 2024 1:2:3 Z\r\nMessage-ID: <1@x>\r\nSubject: =?utf-8?q?=C3?= =?utf-8?q?=A4?=\r\n",
        );
        assert_eq!((header.message_id(), header.subject()), ("<1@x>", "\u{e4}"));
    }

    #[test]
    fn sections_end_at_the_blank_line() {
        assert_eq!(section(b"A: b\r\n\r\nbody"), b"A: b\r\n");
        assert_eq!(section(b"\r\nbody"), b"");
        assert_eq!(section(b"A: b\r\n"), b"A: b\r\n");
    }

    #[test]
    fn ids_and_dates() {
        let rng = &mut StdRng::seed_from_u64(1);
        let (first, second) = (timed_id(rng, Time(0)), timed_id(rng, Time(0)));
        assert!(first.len() == 22 && first.starts_with("AAAAAAAA") && first != second);
        let id = message_id(&mut StdRng::seed_from_u64(1), "mail.example.org");
        assert_eq!(id.len(), 22 + 2 + 17, "{id}");
        assert_eq!(date(Time(0)), "Thu, 1 Jan 1970 00:00:00 +0000");
    }

    #[test]
    fn received_says_how_it_came() {
        let address = Address::parse("b@example.org").unwrap();
        let field = Received {
            from: Some(("client.example", "2001:db8::1".parse().unwrap())),
            by: "mx.example.org",
            with: "ESMTPS",
            id: "7".into(),
            tls: Some(("TLSv1.3", "TLS_AES_128_GCM_SHA256")),
            recipient: Some(&address),
            time: Time(0),
        };
        assert_eq!(
            field.to_string(),
            "Received: from client.example ([IPv6:2001:db8::1])\r\n\tby mx.example.org\r\n\twith ESMTPS id 7\r\n\t(TLS TLSv1.3 TLS_AES_128_GCM_SHA256)\r\n\tfor <b@example.org>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
    }
}
