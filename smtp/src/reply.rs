//! Replies of a server: the three-digit code (RFC 5321 §4.2), the enhanced status code (RFC 3463, RFC 2034) and the text.

use std::{borrow::Cow, fmt, str::FromStr};

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest reply line that is written, CRLF included (RFC 5321 §4.5.3.1.5).
const LINE_MAX: usize = 512;

/// A reply code: 200 to 599 (RFC 5321 §4.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// System status, or help.
    pub const STATUS: Self = Self(211);
    /// Help message.
    pub const HELP: Self = Self(214);
    /// Service ready: the greeting, and the go-ahead for STARTTLS.
    pub const READY: Self = Self(220);
    /// Closing the connection.
    pub const CLOSING: Self = Self(221);
    /// Authentication succeeded (RFC 4954).
    pub const AUTHENTICATED: Self = Self(235);
    /// Done.
    pub const OK: Self = Self(250);
    /// Will be forwarded elsewhere.
    pub const WILL_FORWARD: Self = Self(251);
    /// Cannot verify the user, but will take the message.
    pub const CANNOT_VERIFY: Self = Self(252);
    /// A challenge of the authentication exchange (RFC 4954).
    pub const CHALLENGE: Self = Self(334);
    /// Start of mail input.
    pub const START_DATA: Self = Self(354);
    /// Service not available; the connection closes.
    pub const UNAVAILABLE: Self = Self(421);
    /// Mailbox unavailable for now.
    pub const MAILBOX_BUSY: Self = Self(450);
    /// Local error in processing.
    pub const LOCAL_ERROR: Self = Self(451);
    /// Not enough storage, or too many recipients (RFC 5321 §4.5.3.1.10).
    pub const INSUFFICIENT_STORAGE: Self = Self(452);
    /// Authentication failed for a temporary reason (RFC 4954), or TLS is not available for now (RFC 3207).
    pub const TEMPORARY_FAILURE: Self = Self(454);
    /// Parameters cannot be accommodated for now.
    pub const PARAMETERS_BUSY: Self = Self(455);
    /// Syntax error: command not recognised.
    pub const SYNTAX_ERROR: Self = Self(500);
    /// Syntax error in parameters.
    pub const PARAMETER_ERROR: Self = Self(501);
    /// Command not implemented.
    pub const NOT_IMPLEMENTED: Self = Self(502);
    /// Bad sequence of commands.
    pub const BAD_SEQUENCE: Self = Self(503);
    /// Parameter not implemented.
    pub const PARAMETER_NOT_IMPLEMENTED: Self = Self(504);
    /// Authentication required (RFC 4954), or STARTTLS required first (RFC 3207).
    pub const AUTHENTICATION_REQUIRED: Self = Self(530);
    /// Wrong credentials (RFC 4954).
    pub const AUTHENTICATION_FAILED: Self = Self(535);
    /// Encryption is required for the mechanism (RFC 4954).
    pub const ENCRYPTION_REQUIRED: Self = Self(538);
    /// Mailbox unavailable, or refused for policy.
    pub const MAILBOX_UNAVAILABLE: Self = Self(550);
    /// User not local.
    pub const NOT_LOCAL: Self = Self(551);
    /// Size or storage allocation exceeded.
    pub const STORAGE_EXCEEDED: Self = Self(552);
    /// Mailbox name not allowed.
    pub const NAME_NOT_ALLOWED: Self = Self(553);
    /// Transaction failed; as a greeting: no SMTP service here.
    pub const TRANSACTION_FAILED: Self = Self(554);
    /// MAIL or RCPT parameters not recognised or not implemented.
    pub const PARAMETERS_UNKNOWN: Self = Self(555);
    /// The domain does not accept mail (RFC 7504).
    pub const NO_MAIL: Self = Self(556);

    /// None outside of 200 to 599.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        if code >= 200 && code < 600 {
            Some(Self(code))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The first digit, 2 to 5.
    #[must_use]
    pub const fn class(self) -> u8 {
        match self.0 / 100 {
            2 => 2,
            3 => 3,
            4 => 4,
            _ => 5,
        }
    }

    /// 2xx: done.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.class() == 2
    }

    /// 3xx: more is awaited.
    #[must_use]
    pub const fn is_intermediate(self) -> bool {
        self.class() == 3
    }

    /// 4xx: may succeed later.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        self.class() == 4
    }

    /// 5xx: the same request will fail again.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        self.class() == 5
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u16> for ReplyCode {
    type Error = InvalidCode;

    fn try_from(code: u16) -> Result<Self, InvalidCode> {
        Self::new(code).ok_or(InvalidCode)
    }
}

impl<'de> Deserialize<'de> for ReplyCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(u16::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A number or text that is no reply code or enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid status code")]
pub struct InvalidCode;

/// An enhanced status code (RFC 3463; registry of RFC 5248). Serialized as text, like `5.1.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedCode {
    /// 2 success, 4 transient, 5 permanent.
    pub class: u8,
    /// What it is about: 1 addressing, 2 mailbox, 3 mail system, 4 network and routing, 5 protocol, 6 content, 7 policy.
    pub subject: u16,
    /// The particular condition.
    pub detail: u16,
}

/// The codes in common use. The name of each is that of its condition; those of both classes come in pairs.
impl EnhancedCode {
    /// 2.0.0
    pub const OK: Self = Self::success(0, 0);
    /// 2.1.0: sender fine.
    pub const SENDER_OK: Self = Self::success(1, 0);
    /// 2.1.5: destination address valid.
    pub const RECIPIENT_OK: Self = Self::success(1, 5);
    /// 2.6.0: content fine.
    pub const CONTENT_OK: Self = Self::success(6, 0);
    /// 2.7.0: authenticated.
    pub const SECURITY_OK: Self = Self::success(7, 0);
    /// 4.0.0
    pub const TRANSIENT: Self = Self::transient(0, 0);
    /// 5.0.0
    pub const PERMANENT: Self = Self::permanent(0, 0);
    /// 5.1.1: no such mailbox.
    pub const UNKNOWN_MAILBOX: Self = Self::permanent(1, 1);
    /// 5.1.2: no such domain.
    pub const UNKNOWN_SYSTEM: Self = Self::permanent(1, 2);
    /// 5.1.3: recipient address syntax.
    pub const BAD_RECIPIENT_SYNTAX: Self = Self::permanent(1, 3);
    /// 5.1.7: sender address syntax.
    pub const BAD_SENDER_SYNTAX: Self = Self::permanent(1, 7);
    /// 5.1.8: the sender's system cannot get mail.
    pub const BAD_SENDER_SYSTEM: Self = Self::permanent(1, 8);
    /// 5.1.10: the recipient's domain has a null MX (RFC 7505).
    pub const NULL_MX: Self = Self::permanent(1, 10);
    /// 5.2.1: mailbox disabled.
    pub const MAILBOX_DISABLED: Self = Self::permanent(2, 1);
    /// 4.2.2: mailbox full.
    pub const MAILBOX_FULL: Self = Self::transient(2, 2);
    /// 4.3.0: other mail system status.
    pub const SYSTEM_TRANSIENT: Self = Self::transient(3, 0);
    /// 4.3.1: storage full.
    pub const SYSTEM_FULL: Self = Self::transient(3, 1);
    /// 4.3.2: system not accepting network messages.
    pub const NOT_ACCEPTING: Self = Self::transient(3, 2);
    /// 5.3.4: message too big for the system.
    pub const TOO_BIG: Self = Self::permanent(3, 4);
    /// 4.4.1: no answer from the host.
    pub const NO_ANSWER: Self = Self::transient(4, 1);
    /// 4.4.2: bad connection.
    pub const BAD_CONNECTION: Self = Self::transient(4, 2);
    /// 4.4.3: directory server failure.
    pub const DIRECTORY_FAILURE: Self = Self::transient(4, 3);
    /// 4.4.4: unable to route.
    pub const NO_ROUTE_TRANSIENT: Self = Self::transient(4, 4);
    /// 5.4.4: unable to route.
    pub const NO_ROUTE: Self = Self::permanent(4, 4);
    /// 5.4.6: routing loop.
    pub const LOOP: Self = Self::permanent(4, 6);
    /// 4.4.7: delivery time expired; with class 5 once given up.
    pub const EXPIRED: Self = Self::transient(4, 7);
    /// 5.5.0: other protocol status.
    pub const PROTOCOL: Self = Self::permanent(5, 0);
    /// 5.5.1: invalid command.
    pub const INVALID_COMMAND: Self = Self::permanent(5, 1);
    /// 5.5.2: syntax error.
    pub const SYNTAX: Self = Self::permanent(5, 2);
    /// 4.5.3: too many recipients.
    pub const TOO_MANY_RECIPIENTS: Self = Self::transient(5, 3);
    /// 5.5.4: invalid command arguments.
    pub const INVALID_ARGUMENTS: Self = Self::permanent(5, 4);
    /// 5.6.0: other content status.
    pub const CONTENT: Self = Self::permanent(6, 0);
    /// 5.6.3: conversion required but not supported.
    pub const CONVERSION: Self = Self::permanent(6, 3);
    /// 5.6.7: non-ASCII addresses not permitted (RFC 6531).
    pub const NON_ASCII_ADDRESS: Self = Self::permanent(6, 7);
    /// 5.7.0: other security status.
    pub const SECURITY: Self = Self::permanent(7, 0);
    /// 4.7.0: other security status.
    pub const SECURITY_TRANSIENT: Self = Self::transient(7, 0);
    /// 5.7.1: delivery not authorised.
    pub const NOT_AUTHORIZED: Self = Self::permanent(7, 1);
    /// 5.7.8: credentials invalid (RFC 4954).
    pub const BAD_CREDENTIALS: Self = Self::permanent(7, 8);
    /// 4.7.10: encryption needed, not there for now.
    pub const ENCRYPTION_NEEDED_TRANSIENT: Self = Self::transient(7, 10);
    /// 5.7.10: encryption needed.
    pub const ENCRYPTION_NEEDED: Self = Self::permanent(7, 10);
    /// 5.7.11: encryption required for the mechanism.
    pub const ENCRYPTION_REQUIRED: Self = Self::permanent(7, 11);
    /// 5.7.30: REQUIRETLS support required (RFC 8689).
    pub const REQUIRETLS_NEEDED: Self = Self::permanent(7, 30);

    /// A code of class 2.
    #[must_use]
    pub const fn success(subject: u16, detail: u16) -> Self {
        Self {
            class: 2,
            subject,
            detail,
        }
    }

    /// A code of class 4.
    #[must_use]
    pub const fn transient(subject: u16, detail: u16) -> Self {
        Self {
            class: 4,
            subject,
            detail,
        }
    }

    /// A code of class 5.
    #[must_use]
    pub const fn permanent(subject: u16, detail: u16) -> Self {
        Self {
            class: 5,
            subject,
            detail,
        }
    }

    /// The same condition in another class.
    #[must_use]
    pub const fn with_class(self, class: u8) -> Self {
        Self { class, ..self }
    }

    /// The code at the beginning of a reply's text, and what follows it and white space.
    pub(crate) fn split(text: &str) -> Option<(Self, &str)> {
        let (first, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        Some((first.parse().ok()?, rest.trim_start_matches([' ', '\t'])))
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl FromStr for EnhancedCode {
    type Err = InvalidCode;

    /// RFC 3463 §2: class 2, 4 or 5; subject and detail of one to three digits.
    fn from_str(text: &str) -> Result<Self, InvalidCode> {
        let number = |part: Option<&str>| -> Result<u16, InvalidCode> {
            let part = part.filter(|part| {
                (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
            });
            part.and_then(|part| part.parse().ok()).ok_or(InvalidCode)
        };
        let mut parts = text.split('.');
        let class = match parts.next() {
            Some("2") => 2,
            Some("4") => 4,
            Some("5") => 5,
            _ => return Err(InvalidCode),
        };
        let code = Self {
            class,
            subject: number(parts.next())?,
            detail: number(parts.next())?,
        };
        if parts.next().is_some() {
            Err(InvalidCode)
        } else {
            Ok(code)
        }
    }
}

impl Serialize for EnhancedCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EnhancedCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = EnhancedCode;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an enhanced status code like 5.1.1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<EnhancedCode, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A reply. The enhanced code always has the class of the reply code, and there is none with a 3xx.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    code: ReplyCode,
    enhanced: Option<EnhancedCode>,
    text: Cow<'static, str>,
}

impl Reply {
    /// A reply whose text is lines separated by `\n`. The class of `enhanced` is made that of `code`, so that a 5xx never
    /// says 4.x.x; pass None for the greeting, the answers to HELO and EHLO, and 3xx (RFC 2034 §4).
    #[must_use]
    pub fn new(
        code: ReplyCode,
        enhanced: Option<EnhancedCode>,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            text: text.into(),
            ..Self::fixed(code, enhanced, "")
        }
    }

    /// As [`Self::new`], for a constant.
    #[must_use]
    pub const fn fixed(
        code: ReplyCode,
        enhanced: Option<EnhancedCode>,
        text: &'static str,
    ) -> Self {
        let enhanced = match enhanced {
            Some(enhanced) if !code.is_intermediate() => Some(enhanced.with_class(code.class())),
            _ => None,
        };
        Self {
            code,
            enhanced,
            text: Cow::Borrowed(text),
        }
    }

    /// 250 with 2.0.0.
    #[must_use]
    pub fn ok(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ReplyCode::OK, Some(EnhancedCode::OK), text)
    }

    /// The reply code.
    #[must_use]
    pub const fn code(&self) -> ReplyCode {
        self.code
    }

    /// The enhanced status code.
    #[must_use]
    pub const fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text without codes; its lines are separated by `\n`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The lines of the text without codes: at least one.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// Appends the reply in wire form, in ASCII: other characters become `?` (RFC 6531 §3.7.4.1 wants UTF-8 only after SMTPUTF8).
    pub fn write_to(&self, out: &mut BytesMut) {
        self.write(out, Charset::Ascii);
    }

    /// Appends the reply in wire form; for commands with the SMTPUTF8 parameter (RFC 6531 §3.7.4.1).
    pub fn write_utf8_to(&self, out: &mut BytesMut) {
        self.write(out, Charset::Utf8);
    }

    /// The wire form in ASCII.
    #[must_use]
    pub fn to_bytes(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(self.text.len().saturating_add(32));
        self.write_to(&mut out);
        out
    }

    fn write(&self, out: &mut BytesMut, charset: Charset) {
        let code = self.code.to_string();
        let enhanced = self
            .enhanced
            .map(|enhanced| format!("{enhanced} "))
            .unwrap_or_default();
        // Code, separator and CRLF go off what a line may hold.
        let room = LINE_MAX - 6 - enhanced.len();
        let mut pieces = self
            .lines()
            .flat_map(|line| Pieces { rest: line, room })
            .peekable();
        while let Some(piece) = pieces.next() {
            out.put_slice(code.as_bytes());
            out.put_u8(if pieces.peek().is_some() { b'-' } else { b' ' });
            out.put_slice(enhanced.as_bytes());
            put_text(out, piece, charset);
            out.put_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    /// On one line, with codes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        self.lines().try_for_each(|line| write!(f, " {line}"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Charset {
    Ascii,
    Utf8,
}

/// A text may have come from elsewhere (a hook, a configuration): nothing in it may end the line or be a control character.
fn put_text(out: &mut BytesMut, text: &str, charset: Charset) {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        out.put_slice(text.as_bytes());
        return;
    }
    for c in text.chars() {
        match c {
            '\t' | '\r' => out.put_u8(b' '),
            c if c.is_control() || (!c.is_ascii() && charset == Charset::Ascii) => out.put_u8(b'?'),
            c => out.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Splits a line into pieces of at most `room` bytes, at a space where there is one; at least one piece, maybe empty.
struct Pieces<'a> {
    rest: &'a str,
    room: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.room == 0 {
            return None;
        }
        if self.rest.len() <= self.room {
            self.room = 0;
            return Some(self.rest);
        }
        let end = self.rest.floor_char_boundary(self.room);
        let (head, _) = self.rest.split_at(end);
        let (piece, rest) = match head.rfind(' ').filter(|at| *at > 0) {
            Some(at) => (head.split_at(at).0, self.rest.split_at(at + 1).1),
            None => self.rest.split_at(end),
        };
        self.rest = rest;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(reply: &Reply) -> String {
        String::from_utf8(reply.to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn enhanced_codes_as_text() {
        for good in ["2.0.0", "5.1.1", "4.7.30", "5.999.999"] {
            assert_eq!(good.parse::<EnhancedCode>().unwrap().to_string(), good);
        }
        for bad in [
            "", "5", "5.1", "5.1.", "5.1.1.1", "3.1.1", "5.1.1000", "5.+1.1", "5. 1.1", "x.1.1",
        ] {
            assert!(bad.parse::<EnhancedCode>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_classes_of_both_codes_agree() {
        let reply = Reply::new(
            ReplyCode::MAILBOX_UNAVAILABLE,
            Some(EnhancedCode::transient(1, 1)),
            "no",
        );
        assert_eq!(reply.enhanced(), Some(EnhancedCode::UNKNOWN_MAILBOX));
        assert_eq!(
            Reply::new(ReplyCode::START_DATA, Some(EnhancedCode::OK), "go").enhanced(),
            None
        );
    }

    #[test]
    fn wire_form() {
        assert_eq!(wire(&Reply::ok("queued")), "250 2.0.0 queued\r\n");
        assert_eq!(wire(&Reply::new(ReplyCode::READY, None, "")), "220 \r\n");
        let lines = Reply::new(
            ReplyCode::TRANSACTION_FAILED,
            Some(EnhancedCode::NOT_AUTHORIZED),
            "one\ntwo",
        );
        assert_eq!(wire(&lines), "554-5.7.1 one\r\n554 5.7.1 two\r\n");
        assert_eq!(lines.to_string(), "554 5.7.1 one two");
    }

    #[test]
    fn a_text_cannot_break_out_of_its_line() {
        assert_eq!(
            wire(&Reply::ok("a\r\n250 b\0\u{e9}")),
            "250-2.0.0 a \r\n250 2.0.0 250 b??\r\n"
        );
        let mut out = BytesMut::new();
        Reply::ok("\u{e9}").write_utf8_to(&mut out);
        assert_eq!(out, "250 2.0.0 \u{e9}\r\n");
    }

    proptest! {
        #[test]
        fn lines_are_well_formed(text in "(\\PC|\n){0,2000}") {
            let wire = wire(&Reply::ok(text));
            let body = wire.strip_suffix("\r\n").unwrap();
            let lines: Vec<_> = body.split("\r\n").collect();
            for (i, line) in lines.iter().enumerate() {
                prop_assert!(line.len() + 2 <= LINE_MAX && line.is_ascii());
                let start = if i + 1 == lines.len() { "250 2.0.0" } else { "250-2.0.0" };
                prop_assert!(line.starts_with(start));
            }
        }
    }
}
