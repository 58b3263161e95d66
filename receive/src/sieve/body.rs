//! The texts of a message's body (RFC 5173).

use std::cell::OnceCell;

use mail_parser::{Message, MessagePart, MimeHeaders, PartType, decoders::html::html_to_text};
use memchr::memmem;
use postrider_smtp::{
    field,
    mime::{self, Limits},
};

use super::text::cut;

/// The deepest level of messages within messages that is read.
const DEPTH_MAX: usize = 10;

/// The body of a message.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// The body as it is written.
    pub(super) raw: String,
    /// The parts with their decoded texts.
    parts: Vec<Part>,
    shown: OnceCell<Vec<String>>,
}

#[derive(Debug)]
struct Part {
    /// The type and the subtype, in lower case.
    kind: (String, String),
    text: String,
}

impl Body {
    /// Reads the body of a message. `most` bounds the bytes of all decoded texts together.
    pub(super) fn read(message: &[u8], most: usize) -> Self {
        let parts = mime::parse(message, Limits::default(), |parsed| {
            let mut reader = Reader {
                left: most,
                parts: Vec::new(),
            };
            if let Some(parsed) = parsed {
                reader.message(parsed, DEPTH_MAX);
            }
            reader.parts
        });
        let raw = field::decode(None, raw(message));
        Self {
            raw,
            parts,
            shown: OnceCell::new(),
        }
    }

    /// The decoded texts of the parts with one of these types. A type is `type/subtype`, `type` for
    /// all its subtypes, or empty for all types.
    pub(super) fn of_types(&self, types: &[impl AsRef<str>]) -> Vec<&str> {
        let parts = self.parts.iter();
        let parts = parts.filter(|part| types.iter().any(|kind| part.is(kind.as_ref())));
        parts.map(|part| part.text.as_str()).collect()
    }

    /// The texts that a reader sees. HTML is turned into text once.
    pub(super) fn shown(&self) -> &[String] {
        self.shown.get_or_init(|| {
            let parts = self.parts.iter().filter(|part| part.kind.0 == "text");
            parts
                .map(|part| match part.kind.1.as_str() {
                    "html" => html_to_text(&part.text),
                    _ => part.text.clone(),
                })
                .collect()
        })
    }
}

impl Part {
    fn is(&self, kind: &str) -> bool {
        if kind.is_empty() {
            return true;
        }
        let (main, sub) = match kind.split_once('/') {
            Some((main, sub)) => (main, Some(sub)),
            None => (kind, None),
        };
        self.kind.0.eq_ignore_ascii_case(main)
            && sub.is_none_or(|sub| self.kind.1.eq_ignore_ascii_case(sub))
    }
}

/// The bytes behind the header section.
fn raw(message: &[u8]) -> &[u8] {
    for begin in [&b"\r\n"[..], b"\n"] {
        if let Some(body) = message.strip_prefix(begin) {
            return body;
        }
    }
    let blank = |line: &[u8]| memmem::find(message, line).map(|at| (at, line.len()));
    let first = [blank(b"\n\r\n"), blank(b"\n\n")]
        .into_iter()
        .flatten()
        .min();
    first.map_or(&[], |(at, length)| {
        message.get(at + length..).unwrap_or_default()
    })
}

struct Reader {
    /// The bytes of decoded texts that are still taken.
    left: usize,
    parts: Vec<Part>,
}

impl Reader {
    fn message(&mut self, message: &Message<'_>, depth: usize) {
        for part in &message.parts {
            match &part.body {
                PartType::Text(text) => self.add(kind(part, "text", "plain"), text),
                PartType::Html(text) => self.add(kind(part, "text", "html"), text),
                PartType::Binary(bytes) | PartType::InlineBinary(bytes) => {
                    let bytes = bytes.get(..self.left).unwrap_or(bytes);
                    let text = String::from_utf8_lossy(bytes);
                    self.add(kind(part, "application", "octet-stream"), &text);
                }
                PartType::Message(inner) => {
                    let header = inner.parts.first().and_then(|root| {
                        let begin = usize::try_from(root.offset_header).ok()?;
                        let end = usize::try_from(root.offset_body).ok()?;
                        inner.raw_message.get(begin..end)
                    });
                    let text = field::decode(None, header.unwrap_or_default());
                    self.add(kind(part, "message", "rfc822"), &text);
                    if depth > 0 {
                        self.message(inner, depth - 1);
                    }
                }
                PartType::Multipart(_) => {}
            }
        }
    }

    fn add(&mut self, kind: (String, String), text: &str) {
        let text = cut(text.to_owned(), self.left);
        self.left -= text.len();
        self.parts.push(Part { kind, text });
    }
}

/// The type of a part, or the default for a part that names none.
fn kind(part: &MessagePart<'_>, main: &str, sub: &str) -> (String, String) {
    let named = part.content_type();
    let found = named.and_then(|kind| Some((kind.ctype(), kind.subtype()?)));
    let (main, sub) = found.unwrap_or((main, sub));
    (main.to_ascii_lowercase(), sub.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        pre\r\n--b\r\n\r\nplain\r\n--b\r\nContent-Type: text/html\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\n<p>h=3D<b>t</b>ml</p>\r\n\
        --b\r\nContent-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\nYmlu\r\n\
        --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntext within\r\n--b--\r\n";

    #[test]
    fn parts_are_found_by_their_types() {
        let body = Body::read(MESSAGE.as_bytes(), 1 << 16);
        assert!(body.raw.starts_with("pre\r\n--b\r\n"), "{}", body.raw);
        assert_eq!(body.of_types(&["text/html"]), ["<p>h=<b>t</b>ml</p>"]);
        assert_eq!(body.of_types(&["APPLICATION"]), ["bin"]);
        let texts: Vec<_> = body
            .of_types(&["text"])
            .iter()
            .map(|text| text.trim())
            .collect();
        assert_eq!(texts, ["plain", "<p>h=<b>t</b>ml</p>", "text within"]);
        assert!(body.of_types(&["message/rfc822"])[0].starts_with("Subject: inner"));
        assert_eq!(body.of_types(&[""]).len(), 5);
        assert!(body.of_types(&["text/"]).is_empty() && body.of_types(&["/"]).is_empty());
        assert!(body.shown()[1].contains("h=tml"), "{:?}", body.shown());
    }

    #[test]
    fn any_text_has_a_body() {
        for (message, expected) in [
            ("", ""),
            ("A: b", ""),
            ("A: b\r\n\r\nc", "c"),
            ("A: b\n\nc\r\n\r\n", "c\r\n\r\n"),
            ("\r\nc", "c"),
            ("\nc", "c"),
        ] {
            assert_eq!(
                Body::read(message.as_bytes(), 100).raw,
                expected,
                "{message:?}"
            );
        }
        let body = Body::read(b"A: b\r\n\r\ntext", 2);
        assert_eq!(body.of_types(&["text"]), ["te"]);
    }
}
