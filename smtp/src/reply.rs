//! Replies of a server: reply code, enhanced status code (RFC 2034) and text.

use std::{borrow::Cow, fmt};

use bytes::{BufMut, BytesMut};

use crate::code::{EnhancedCode, ReplyCode};

/// The longest line of a written reply, with its CRLF (RFC 5321 §4.5.3.1.5).
const LINE_MAX: usize = 512;

/// A reply. Its enhanced code has the class of the reply code. A 3xx reply has no enhanced code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reply {
    code: ReplyCode,
    enhanced: Option<EnhancedCode>,
    text: Cow<'static, str>,
    reason: Option<&'static str>,
    closes: bool,
}

impl Reply {
    /// A reply with lines of text, separated by `\n`. `enhanced` gets the class of `code`, so that
    /// a 5xx reply never has 4.x.x. The greeting, the replies to HELO and EHLO, and 3xx have none
    /// (RFC 2034 §4).
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

    /// A reply with a constant text. As [`Self::new`].
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
            reason: None,
            closes: false,
        }
    }

    /// The same reply of a server, with the name of the reason for which it refuses. The client
    /// does not see the name.
    #[must_use]
    pub const fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The same reply of a server, which closes the connection behind it. A 421 always does.
    #[must_use]
    pub const fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The same reply with the name of the session or the transaction at its end, in parentheses.
    /// By that name the log and the traces tell what led to the reply.
    #[must_use]
    pub(crate) fn named(&self, name: impl fmt::Display) -> Self {
        Self {
            text: format!("{} ({name})", self.text).into(),
            ..self.clone()
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

    /// The name of the reason for which a server refuses, for counters and the log. None: the reply
    /// refuses nothing, or comes from another server.
    #[must_use]
    pub const fn reason(&self) -> Option<&'static str> {
        self.reason
    }

    /// Whether the connection closes behind the reply, whatever its code.
    #[must_use]
    pub const fn closes(&self) -> bool {
        self.closes
    }

    /// The text without codes. `\n` separates its lines.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The lines of the text without codes. There is at least one.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// Appends the reply in wire form and in ASCII. Other characters become `?`, since RFC 6531
    /// §3.7.4.1 allows UTF-8 only after SMTPUTF8.
    pub fn write_to(&self, out: &mut BytesMut) {
        self.write(out, Charset::Ascii);
    }

    /// Appends the reply in wire form and in UTF-8. It is for transactions with the SMTPUTF8
    /// parameter (RFC 6531 §3.7.4.1).
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
        // The code, the separator and CRLF take 6 bytes of each line.
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

/// Appends a text of any origin, for example of a configuration. Nothing in it ends the line, and
/// control characters become `?` or a space.
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

/// Splits a line into pieces of at most `room` bytes, at a space if there is one. There is at least
/// one piece. It may be empty.
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
