//! Reads the header fields of strangers' messages: what they mean to a reader, whatever the sender
//! did wrong.
//!
//! The parser of [`crate::mime`] finds the parts of a message. It reads the values of fields
//! wrongly in many cases: it decodes each encoded word for itself, knows few charsets, makes
//! addresses of comments, and its dates end in the next field. So it gives the bytes of a header
//! section, and this module reads them.
//!
//! | module | what it reads |
//! |---|---|
//! | here | a section as fields, a list of message ids |
//! | `charset` | bytes of a charset, also of a wrong one or of none |
//! | `word` | free text with encoded words (RFC 2047) |
//! | `mailbox` | lists of addresses (RFC 5322 §3.4) |
//! | `parameter` | values with parameters (RFC 2045 §5.1, RFC 2231) |
//! | `date` | dates (RFC 5322 §3.3 and §4.3) |
//! | `piece` | a value of addresses as quoted strings, comments, words and signs |
//!
//! Three modules write: `encode` has encoded words and encoded parameters, `ascii` gives the fields
//! of a header section a form without 8-bit bytes if they have one, and `downgraded` gives them one
//! in any case.
//!
//! All functions take any bytes, and time in proportion to their number.

mod ascii;
mod charset;
mod date;
mod downgraded;
mod encode;
mod mailbox;
mod parameter;
mod piece;
mod word;

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

pub use self::{
    ascii::{AsciiSection, in_ascii},
    charset::{decode, decode_html},
    date::date,
    downgraded::{Downgraded, downgraded},
    encode::{encoded_words, percent_encoded},
    mailbox::{Mailbox, mailboxes},
    parameter::{Parameters, parameters},
    piece::{Piece, pieces, unquoted},
    word::text,
};

/// A field of a header section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The name as written, without white space around it.
    pub name: &'a [u8],
    /// The bytes after the colon, with all line ends.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether the field has this name. Case does not matter.
    #[must_use]
    pub const fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

impl<'a> Field<'a> {
    /// Reads a field as it is written, with its continuations. None for a line that is no field.
    #[must_use]
    pub fn read(written: &'a [u8]) -> Option<Self> {
        let (name, value) = written.split_at_checked(memchr(b':', written)?)?;
        let name = name.trim_ascii();
        let value = value.get(1..).unwrap_or_default();
        (!name.is_empty() && !name.contains(&b'\n')).then_some(Self { name, value })
    }
}

/// The fields at the beginning of a text, in order, up to a blank line. A line that is no field and
/// no continuation is left out.
pub fn fields(text: &[u8]) -> impl Iterator<Item = Field<'_>> {
    written(text).filter_map(Field::read)
}

/// The fields at the beginning of a text as they are written, each with its continuations and line
/// ends, up to a blank line. A line that is no field is there too.
pub fn written(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (field, after) = rest.split_at_checked(field_end(rest)?)?;
        rest = after;
        Some(field)
    })
}

/// The length of the first field with its continuations. None at the end of the section.
fn field_end(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.starts_with(b"\n") || text.starts_with(b"\r\n") {
        return None;
    }
    let end = memchr_iter(b'\n', text)
        .map(|at| at + 1)
        .find(|next| !matches!(text.get(*next), Some(b' ' | b'\t')));
    Some(end.unwrap_or(text.len()))
}

/// A value on one line. White space around a line end becomes one space.
pub(crate) fn unfolded(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    if memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut line = Vec::with_capacity(value.len());
    let pieces = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        if !line.is_empty() {
            line.push(b' ');
        }
        line.extend_from_slice(piece);
    }
    Cow::Owned(line)
}

/// The message ids of a value, each as it is written: with its angle brackets if it has them. White
/// space separates them.
#[must_use]
pub fn ids(value: &[u8]) -> Vec<String> {
    let value = unfolded(value);
    let mut ids = Vec::new();
    let mut rest = value.trim_ascii_start();
    // A bracket that does not close is looked for once.
    let mut closes = true;
    while let Some(first) = rest.first() {
        let bracket = match first {
            b'<' if closes => memchr(b'>', rest).map(|at| at + 1),
            _ => None,
        };
        closes &= *first != b'<' || bracket.is_some();
        let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'<' && *first != b'<';
        // An id in brackets with white space in it is one id.
        let end = bracket.or_else(|| rest.iter().position(ends));
        let (id, after) = rest
            .split_at_checked(end.unwrap_or(rest.len()))
            .unwrap_or((rest, &[]));
        ids.push(decode(None, id));
        rest = after.trim_ascii_start();
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_split_at_its_lines() {
        let text = b"A: 1\r\n two\r\nno field\r\nB :\r\nC:x\n\ty\n\r\nD: body\r\n";
        let found: Vec<_> = fields(text)
            .map(|field| (field.name, field.value))
            .collect();
        assert_eq!(
            found,
            [
                (&b"A"[..], &b" 1\r\n two\r\n"[..]),
                (b"B", b"\r\n"),
                (b"C", b"x\n\ty\n"),
            ]
        );
        assert_eq!(fields(b"").count() + fields(b"\r\nA: b").count(), 0);
        assert_eq!(fields(b"A: b").count(), 1);
    }

    #[test]
    fn lines_are_joined() {
        assert_eq!(unfolded(b" a\r\n\t  b \r\n c\r\n"), &b"a b c"[..]);
    }

    #[test]
    fn message_ids_stay_in_order() {
        for (value, expected) in [
            (&b" <a@x>\r\n\t<b@x>\r\n"[..], &["<a@x>", "<b@x>"][..]),
            (b"a@x\r\n\tweird", &["a@x", "weird"]),
            (b"<a@x><b@x>", &["<a@x>", "<b@x>"]),
            (b"<a b@x> c", &["<a b@x>", "c"]),
            (b"<open it", &["<open", "it"]),
            (b"x<a@x>", &["x", "<a@x>"]),
            (b" \r\n", &[]),
        ] {
            assert_eq!(ids(value), expected);
        }
    }

    /// Time in proportion to the square of the length would be too long.
    #[test]
    fn a_long_value_is_read_once() {
        for piece in ["a ", "<a ", "<a>", "x<a>", "x<a", "<", "< ", "a<"] {
            let count = (1 << 21) / piece.len();
            let value = piece.repeat(count);
            assert!(ids(value.as_bytes()).len() <= 2 * count, "{piece}");
            assert_eq!(fields(value.as_bytes()).count(), 0);
        }
        for piece in [
            "a=b;", "a*0=b;", "a*0*=%;", "a(b)=c;", ";", "(", "\"", "a=\"b\";",
        ] {
            let value = format!("text/plain; {}", piece.repeat((1 << 17) / piece.len()));
            assert_eq!(parameters(value.as_bytes()).value, "text/plain");
        }
        for piece in ["=?", "=?a?", "=?utf-8?q?a?= ", "=?utf-8?b?a?= ", "=", "?"] {
            let value = piece.repeat((1 << 17) / piece.len());
            assert!(text(value.as_bytes()).len() <= value.len());
        }
        for piece in [
            "a ", "a, ", "\"a\" ", "(a)", "a@b, ", "<a@b>, ", "=?", ";", "a;",
        ] {
            let value = format!("{} \u{e4}", piece.repeat((1 << 17) / piece.len()));
            for name in ["To", "Subject", "Content-Type", "List-Id"] {
                let _ = in_ascii(format!("{name}: {value}\r\n").as_bytes());
            }
        }
    }
}
