//! A parser for MIME messages of strangers, within limits.
//!
//! The parser makes a value of each part. For a message within a message it calls itself. Two kinds
//! of texts would harm it:
//!
//! - A text of 700 KB can have 20,000 messages, each within the last. No stack has room for that.
//! - A text of 30 MB can have three million parts. Their values take a hundred times the memory of
//!   the text.
//!
//! So a scan comes first. If a text has too much of either, only its header is parsed.
//!
//! The parser of dates takes the line end after a zone of one letter, and with it the next field or
//! the whole body. Received has dates too. So [`parser`] leaves these fields as they are, and
//! [`crate::field`] reads them.

use std::{cell::LazyCell, sync::LazyLock};

use aho_corasick::AhoCorasick;
use mail_parser::{HeaderName, Message, MessageParser};
use memchr::{memchr_iter, memmem};

/// The most messages within a message, one inside the other or side by side.
const MESSAGES_MAX: usize = 1000;
/// The most boundaries of a text.
const BOUNDARIES_MAX: usize = 1000;
/// The longest text with encoded messages. RFC 2046 §5.2.1 forbids such messages. The scan cannot
/// look into them, and the parser copies an encoded message for each message within it.
const ENCODED_MAX: usize = 64 << 10;
/// The most bytes of a header block before and after a word.
const HEADER_MAX: usize = 8 << 10;
/// The stack for all that an encoded message of that size can have.
const STACK: usize = 16 << 20;

/// The limits of a parsed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most parts.
    pub parts: usize,
    /// The deepest level of parts within parts.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parts: 5000,
            depth: 50,
        }
    }
}

/// The parser. It does not read dates.
pub fn parser() -> &'static MessageParser {
    static PARSER: LazyLock<MessageParser> = LazyLock::new(|| {
        MessageParser::new()
            .with_mime_headers()
            .with_address_headers()
            .with_message_ids()
            .header_text(HeaderName::Subject)
            .default_header_raw()
    });
    &PARSER
}

/// Parses a message and calls `work` with it. A message with too much in it has only its header,
/// and a text without a header is None.
pub fn parse<T: Send>(
    text: &[u8],
    limits: Limits,
    work: impl Fn(Option<&Message<'_>>) -> T + Sync,
) -> T {
    let whole = || work(parser().parse(text).as_ref());
    let header = || work(parser().parse_headers(text).as_ref());
    match look_over(text, limits.parts) {
        Contents::TooMuch => header(),
        Contents::Flat => whole(),
        // The value is dropped there too.
        Contents::Nested => std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            match thread.spawn_scoped(scope, whole) {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(_) => header(),
            }
        }),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    /// The text has no message within it.
    Flat,
    Nested,
    TooMuch,
}

fn look_over(text: &[u8], most: usize) -> Contents {
    if parts(text) > most {
        return Contents::TooMuch;
    }
    let mut messages = 0;
    let mut encoded = false;
    let Some(encodings) = ENCODINGS.as_ref() else {
        return Contents::TooMuch;
    };
    let anywhere = LazyCell::new(|| encodings.is_match(text));
    for at in memchr_iter(b'/', text) {
        if is(text.get(at.saturating_sub(7)..at), b"message") {
            messages += 1;
            encoded = encoded || is_encoded(text, at, encodings);
        } else if is(text.get(at + 1..at + 7), b"digest") {
            // The parts of a digest are messages, whatever they say.
            messages += 1;
            encoded = encoded || *anywhere;
        }
        if messages > MESSAGES_MAX {
            return Contents::TooMuch;
        }
    }
    match messages {
        0 => Contents::Flat,
        _ if encoded && text.len() > ENCODED_MAX => Contents::TooMuch,
        _ => Contents::Nested,
    }
}

fn is(text: Option<&[u8]>, word: &[u8]) -> bool {
    text.is_some_and(|text| text.eq_ignore_ascii_case(word))
}

/// The header block around a place names a transfer encoding that hides the content.
fn is_encoded(text: &[u8], at: usize, encodings: &AhoCorasick) -> bool {
    let before = text.get(at.saturating_sub(HEADER_MAX)..at);
    let before = before.unwrap_or_default();
    let begin = [&b"\r\n\r\n"[..], b"\n\n"]
        .iter()
        .filter_map(|blank| memmem::rfind(before, blank))
        .max();
    let behind = text.get(at..text.len().min(at + HEADER_MAX));
    let behind = behind.unwrap_or_default();
    let end = [&b"\r\n\r\n"[..], b"\n\n"]
        .iter()
        .filter_map(|blank| memmem::find(behind, blank))
        .min();
    let around = [
        before.get(begin.unwrap_or(0)..),
        behind.get(..end.unwrap_or(behind.len())),
    ];
    around
        .into_iter()
        .flatten()
        .any(|text| encodings.is_match(text))
}

/// The transfer encodings that hide the content of a part.
static ENCODINGS: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| finder(&["base64", "quoted-printable"]));
/// The parameter with the line between parts.
static BOUNDARY: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| finder(&["boundary"]));

fn finder<P: AsRef<[u8]>>(words: &[P]) -> Option<AhoCorasick> {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(words)
        .ok()
}

/// An upper bound of the parts that a parser finds: the number of boundary lines. Some of them may
/// be ordinary text.
fn parts(text: &[u8]) -> usize {
    let mut boundaries: Vec<Vec<u8>> = Vec::new();
    let Some(word) = BOUNDARY.as_ref() else {
        return usize::MAX;
    };
    for found in word.find_iter(text) {
        let rest = text.get(found.end()..).unwrap_or_default();
        let rest = rest.get(..rest.len().min(300)).unwrap_or_default();
        let rest = rest.trim_ascii_start();
        match rest.split_first() {
            Some((b'=', value)) => boundaries.push(delimiter(value.trim_ascii_start())),
            // A parameter in pieces (RFC 2231 §3). Whatever its value is, two dashes come before
            // it.
            Some((b'*', _)) => boundaries.push(b"--".to_vec()),
            _ => {}
        }
        if boundaries.len() > BOUNDARIES_MAX {
            return usize::MAX;
        }
    }
    if boundaries.is_empty() {
        return 1;
    }
    boundaries.sort_unstable();
    boundaries.dedup();
    finder(&boundaries).map_or(usize::MAX, |finder| finder.find_iter(text).count())
}

/// The line before each part with this boundary, or its beginning.
fn delimiter(value: &[u8]) -> Vec<u8> {
    let (value, end): (&[u8], &[u8]) = match value.split_first() {
        Some((b'"', quoted)) => (quoted, b"\"\\\r\n"),
        _ => (value, b"; \t\r\n\\("),
    };
    let length = value.iter().position(|byte| end.contains(byte));
    let name = value
        .get(..length.unwrap_or(value.len()))
        .unwrap_or_default();
    [b"--", name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "From: a@example.com\r\nSubject: deep\r\n";

    fn subject(text: &str) -> Option<String> {
        parse(text.as_bytes(), Limits::default(), |message| {
            message
                .and_then(|message| message.subject())
                .map(str::to_owned)
        })
    }

    fn parts_of(text: &str) -> usize {
        parse(text.as_bytes(), Limits::default(), |message| {
            message.map_or(0, |message| message.parts.len())
        })
    }

    #[test]
    fn no_field_takes_the_next_one() {
        let fields = ["Date:", "Resent-Date:", "Delivery-Date:", "Received: by x;"];
        let zones = ["Z", "z", "A", "M", "E", "UT", "GMT", "+", ""];
        for (field, zone) in fields
            .into_iter()
            .flat_map(|field| zones.map(|zone| (field, zone)))
        {
            let line = format!("{field} Mon, 1 Jan 2024 22:13:20 {zone}\r\n");
            let text = format!("{line}Subject: deep\r\n\r\nbody\r\n");
            assert_eq!(subject(&text).as_deref(), Some("deep"), "{text}");
            let last = format!("Subject: deep\r\n{line}\r\nbody\r\n");
            let body = parse(last.as_bytes(), Limits::default(), |message| {
                let text = message.and_then(|message| message.body_text(0));
                text.map(std::borrow::Cow::into_owned)
            });
            assert_eq!(body.as_deref(), Some("body\r\n"), "{last}");
        }
    }

    #[test]
    fn what_nests_without_end_is_read_as_far_as_its_header() {
        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(100_000);
        assert_eq!(look_over(nested.as_bytes(), 5000), Contents::TooMuch);
        assert_eq!(subject(&format!("{HEAD}{nested}x\r\n")).unwrap(), "deep");
        let digests =
            "Content-Type: multipart/DIGEST; boundary=a\r\n\r\n--a\r\n\r\n".repeat(100_000);
        assert_eq!(subject(&format!("{HEAD}{digests}")).unwrap(), "deep");
        // Few enough are read whole.
        let some = "Content-Type: message/rfc822\r\n\r\n".repeat(900);
        assert_eq!(look_over(some.as_bytes(), 5000), Contents::Nested);
        assert_eq!(subject(&format!("{HEAD}{some}x\r\n")).unwrap(), "deep");
    }

    #[test]
    fn what_is_hidden_by_an_encoding_has_a_stack_of_its_size() {
        use base64::Engine as _;

        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(1_400);
        let hidden = base64::engine::general_purpose::STANDARD.encode(&nested);
        let head = format!(
            "{HEAD}Content-Transfer-Encoding: base64\r\nContent-Type: message/rfc822\r\n\r\n"
        );
        let text = format!("{head}{hidden}\r\n");
        assert_eq!(look_over(text.as_bytes(), 5000), Contents::Nested);
        assert_eq!(subject(&text).unwrap(), "deep");
        let text = format!("{head}{hidden}{hidden}\r\n");
        assert_eq!(look_over(text.as_bytes(), 5000), Contents::TooMuch);
    }

    #[test]
    fn countless_parts_are_not_made() {
        let head = format!("{HEAD}Content-Type: multipart/mixed; boundary=");
        for (boundary, line) in [
            ("b", "--b"),
            ("\"b c\"", "--b c"),
            ("\"b\\\\c\"", "--b\\c"),
            ("=", "--="),
        ] {
            let few = format!(
                "{head}{boundary}\r\n\r\n{}",
                format!("{line}\r\n\r\n").repeat(100)
            );
            assert!(parts_of(&few) >= 100, "{boundary}: {}", parts_of(&few));
            let many = format!(
                "{head}{boundary}\r\n\r\n{}",
                format!("{line}\r\n\r\n").repeat(20_000)
            );
            assert!(parts_of(&many) <= 1, "{boundary}: {}", parts_of(&many));
        }
        // Lines that look like it are none.
        let dump = format!("{HEAD}\r\n{}", "-- a comment\r\n--b\r\n".repeat(20_000));
        assert_eq!(look_over(dump.as_bytes(), 5000), Contents::Flat);
    }
}
