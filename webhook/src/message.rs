//! Describes a received message as the v0 contract does: addresses, texts, structure.

use std::collections::BTreeMap;

use mail_parser::{
    Address, DateTime, Encoding, HeaderValue, Message, MessageParser, MessagePart, MimeHeaders,
    PartType,
    decoders::{base64::base64_decode, quoted_printable::quoted_printable_decode},
};
use postrider_smtp::mime::{self, Limits};
use serde::{Deserialize, Serialize};

/// The most bytes of a text in a description.
const TEXT_MAX: usize = 1 << 20;

/// A name and an address from the header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NameAddress {
    /// Decoded. Empty without a name.
    pub name: String,
    /// `user@host`.
    pub address: String,
}

/// A part of a message, with the parts inside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Structure {
    /// Lower-case, for example `text/plain`.
    pub content_type: String,
    /// The names are lower-case.
    pub content_type_params: BTreeMap<String, String>,
    /// As in the header.
    #[serde(rename = "ContentID")]
    pub content_id: String,
    /// Lower-case. Empty without the field.
    pub content_disposition: String,
    /// The name in the disposition, else the name in the type. Decoded.
    pub filename: String,
    /// Bytes without transfer encoding. 0 for a multipart.
    pub decoded_size: i64,
    /// The parts of a multipart, in order.
    pub parts: Vec<Self>,
}

/// The description of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[expect(missing_docs, reason = "the names are those of the header fields")]
pub struct Parsed {
    pub from: Vec<NameAddress>,
    pub to: Vec<NameAddress>,
    #[serde(rename = "CC")]
    pub cc: Vec<NameAddress>,
    #[serde(rename = "BCC")]
    pub bcc: Vec<NameAddress>,
    pub reply_to: Vec<NameAddress>,
    pub subject: String,
    /// With `<` and `>`.
    #[serde(rename = "MessageID")]
    pub message_id: String,
    /// With `<` and `>`.
    pub in_reply_to: String,
    /// With `<` and `>`, oldest first.
    pub references: Vec<String>,
    /// RFC 3339.
    pub date: Option<String>,
    /// The readable text, with LF as line end. Cut at 1 MiB.
    pub text: String,
    /// The readable HTML, with LF as line end. Cut at 1 MiB.
    #[serde(rename = "HTML")]
    pub html: String,
    /// The parts.
    pub structure: Structure,
}

/// Describes a message. Fields that can't be read are empty.
#[must_use]
pub fn parse(text: &[u8], limits: Limits) -> Parsed {
    let parsed = |message: Option<&Message<'_>>| {
        message.map_or_else(Parsed::default, |message| parsed(message, limits.depth))
    };
    mime::parse(text, limits, parsed)
}

fn parsed(message: &Message<'_>, depth: usize) -> Parsed {
    let texts = readable(message, 0, depth);
    Parsed {
        from: addresses(message.from()),
        to: addresses(message.to()),
        cc: addresses(message.cc()),
        bcc: addresses(message.bcc()),
        reply_to: addresses(message.reply_to()),
        subject: message.subject().unwrap_or_default().to_owned(),
        message_id: message.message_id().map(bracketed).unwrap_or_default(),
        in_reply_to: ids(message.in_reply_to())
            .into_iter()
            .next()
            .unwrap_or_default(),
        references: ids(message.references()),
        date: message.date().and_then(date),
        text: texts.text.map(shown).unwrap_or_default(),
        html: texts.html.map(shown).unwrap_or_default(),
        structure: structure(message, 0, depth),
    }
}

/// The content of a part, without its transfer encoding but with its charset and line ends. None if
/// there is no such part.
///
/// `path` has the places, from 0, in [`Structure::parts`]. The empty path is the body of the whole
/// message.
#[must_use]
pub fn part(text: &[u8], path: &[usize], limits: Limits) -> Option<Vec<u8>> {
    mime::parse(text, limits, |message| {
        let message = message?;
        let mut part = message.parts.first()?;
        for at in path {
            let PartType::Multipart(parts) = &part.body else {
                return None;
            };
            part = message.parts.get(*parts.get(*at)? as usize)?;
        }
        Some(decoded(message, part))
    })
}

/// Whether the header says that a program wrote the message: a mailing list, a report, an automatic
/// reply.
#[must_use]
pub(crate) fn is_automated(text: &[u8]) -> bool {
    let Some(message) = MessageParser::default().parse_headers(text) else {
        return false;
    };
    let report = message.content_type().is_some_and(|kind| {
        kind.ctype().eq_ignore_ascii_case("multipart")
            && kind
                .subtype()
                .is_some_and(|kind| kind.eq_ignore_ascii_case("report"))
    });
    let program = |(name, value): (&str, &str)| {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "list-id" | "list-unsubscribe" | "list-unsubscribe-post" | "precedence" => {
                !value.is_empty()
            }
            "auto-submitted" => {
                let word = value.split(';').next().unwrap_or_default().trim();
                !word.is_empty() && !word.eq_ignore_ascii_case("no")
            }
            _ => false,
        }
    };
    report || message.headers_raw().any(program)
}

/// RFC 3339. None for a date that no calendar has: readers of the description would refuse it.
fn date(date: &DateTime) -> Option<String> {
    let text = date.to_rfc3339();
    (date.is_valid() && text.parse::<jiff::Timestamp>().is_ok()).then_some(text)
}

fn addresses(field: Option<&Address<'_>>) -> Vec<NameAddress> {
    let list = field.into_iter().flat_map(Address::iter);
    list.map(|address| NameAddress {
        name: address.name().unwrap_or_default().to_owned(),
        address: address.address().unwrap_or_default().to_owned(),
    })
    .collect()
}

fn bracketed(id: &str) -> String {
    format!("<{id}>")
}

fn ids(value: &HeaderValue<'_>) -> Vec<String> {
    match value {
        HeaderValue::Text(id) => vec![bracketed(id)],
        HeaderValue::TextList(ids) => ids.iter().map(|id| bracketed(id)).collect(),
        _ => Vec::new(),
    }
}

#[derive(Default)]
struct Readable<'a> {
    text: Option<&'a str>,
    html: Option<&'a str>,
}

/// The first text for people. Only a multipart/alternative has the same text in both forms.
fn readable<'a>(message: &'a Message<'_>, at: usize, depth: usize) -> Readable<'a> {
    let Some(part) = message.parts.get(at) else {
        return Readable::default();
    };
    let attached = part
        .content_disposition()
        .is_some_and(|disposition| disposition.ctype().eq_ignore_ascii_case("attachment"));
    match &part.body {
        PartType::Text(text) if !attached && is_plain(part) => Readable {
            text: Some(text),
            html: None,
        },
        PartType::Html(html) if !attached => Readable {
            text: None,
            html: Some(html),
        },
        PartType::Multipart(parts) if depth > 0 => {
            let alternative = part
                .content_type()
                .and_then(|kind| kind.subtype())
                .is_some_and(|kind| kind.eq_ignore_ascii_case("alternative"));
            let mut found = Readable::default();
            for at in parts {
                let next = readable(message, *at as usize, depth - 1);
                found.text = found.text.or(next.text);
                found.html = found.html.or(next.html);
                if !alternative && (found.text.is_some() || found.html.is_some()) {
                    break;
                }
            }
            found
        }
        _ => Readable::default(),
    }
}

fn is_plain(part: &MessagePart<'_>) -> bool {
    part.content_type().is_none_or(|kind| {
        kind.ctype().eq_ignore_ascii_case("text")
            && kind
                .subtype()
                .is_none_or(|kind| kind.eq_ignore_ascii_case("plain"))
    })
}

/// With LF as line end, and cut between two characters.
fn shown(text: &str) -> String {
    let mut text = text.replace("\r\n", "\n");
    if text.len() > TEXT_MAX {
        let mut end = TEXT_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

fn structure(message: &Message<'_>, at: usize, depth: usize) -> Structure {
    let Some(part) = message.parts.get(at) else {
        return Structure::default();
    };
    let kind = part.content_type();
    let content_type = kind.map_or_else(
        || match part.body {
            // The default in a multipart/digest.
            PartType::Message(_) => "message/rfc822".to_owned(),
            _ => "text/plain".to_owned(),
        },
        |kind| match kind.subtype() {
            Some(subtype) => format!("{}/{subtype}", kind.ctype()).to_ascii_lowercase(),
            None => kind.ctype().to_ascii_lowercase(),
        },
    );
    let parameters = kind.and_then(|kind| kind.attributes.as_ref());
    let content_type_params = parameters
        .into_iter()
        .flatten()
        .map(|parameter| {
            (
                parameter.name.to_ascii_lowercase(),
                parameter.value.to_string(),
            )
        })
        .collect();
    let parts = match &part.body {
        PartType::Multipart(parts) if depth > 0 => parts
            .iter()
            .map(|at| structure(message, *at as usize, depth - 1))
            .collect(),
        // An attached message is one part, whatever it contains. Paths lead through multiparts
        // only.
        _ => Vec::new(),
    };
    Structure {
        content_type,
        content_type_params,
        content_id: part.content_id().map(bracketed).unwrap_or_default(),
        content_disposition: part
            .content_disposition()
            .map(|disposition| disposition.ctype().to_ascii_lowercase())
            .unwrap_or_default(),
        filename: part.attachment_name().unwrap_or_default().to_owned(),
        decoded_size: decoded_size(message, part),
        parts,
    }
}

fn decoded_size(message: &Message<'_>, part: &MessagePart<'_>) -> i64 {
    let size = match (&part.body, part.encoding) {
        (PartType::Multipart(_), _) => 0,
        // The parser decoded these.
        (PartType::Binary(bytes) | PartType::InlineBinary(bytes), _) => bytes.len(),
        (_, Encoding::None) => raw(message, part).len(),
        _ => decoded(message, part).len(),
    };
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// The bytes of a part after its header, unchanged.
fn raw<'a>(message: &'a Message<'_>, part: &MessagePart<'_>) -> &'a [u8] {
    let range = part.offset_body as usize..part.offset_end as usize;
    message.raw_message.get(range).unwrap_or_default()
}

/// The bytes of a part after its header, without their transfer encoding. For a multipart these are
/// all its parts.
fn decoded(message: &Message<'_>, part: &MessagePart<'_>) -> Vec<u8> {
    let raw = || raw(message, part);
    match (&part.body, part.encoding) {
        (PartType::Multipart(_), _) | (_, Encoding::None) => raw().to_vec(),
        (PartType::Binary(bytes) | PartType::InlineBinary(bytes), _) => bytes.to_vec(),
        (_, Encoding::Base64) => base64_decode(raw()).unwrap_or_default(),
        (_, Encoding::QuotedPrintable) => quoted_printable_decode(raw()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_of(text: &[u8]) -> Parsed {
        parse(text, Limits::default())
    }

    #[test]
    fn the_number_and_depth_of_parts_is_limited() {
        let whole = shown_of(MIXED.as_bytes());
        let flat = Limits {
            depth: 1,
            ..Limits::default()
        };
        let shown = parse(MIXED.as_bytes(), flat);
        assert_eq!(shown.structure.parts.len(), whole.structure.parts.len());
        assert!(!whole.structure.parts[0].parts.is_empty());
        assert!(shown.structure.parts[0].parts.is_empty());
        let few = Limits {
            parts: 2,
            ..Limits::default()
        };
        let shown = parse(MIXED.as_bytes(), few);
        assert_eq!((shown.subject, shown.text.as_str()), (whole.subject, ""));
        assert_eq!(part(MIXED.as_bytes(), &[1], few), None);
    }

    const MIXED: &str = "From: =?utf-8?q?J=C3=B6rg?= <j@example.com>, b@example.com\r\nTo: c@example.org\r\nSubject: hi\r\n\
        Date: Tue, 14 Nov 2023 22:13:20 +0100\r\nMessage-ID: <1@x>\r\nIn-Reply-To: <0@x>\r\nReferences: <a@x>\r\n <0@x>\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n\
        Content-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\nh=E4\r\nyou\r\n--a\r\nContent-Type: text/html\r\n\r\n<p>h</p>\r\n--a--\r\n\
        --m\r\nContent-Type: image/PNG; name=\"a.png\"\r\nContent-Disposition: Attachment\r\nContent-ID: <i@x>\r\n\
        Content-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n--m\r\nContent-Type: text/plain\r\n\r\nfooter\r\n--m--\r\n";

    #[test]
    fn a_message_with_parts() {
        let parsed = shown_of(MIXED.as_bytes());
        assert_eq!(parsed.from.len(), 2);
        assert_eq!(parsed.from[0].name, "J\u{f6}rg");
        assert_eq!(parsed.from[1].address, "b@example.com");
        assert_eq!(
            (parsed.message_id.as_str(), parsed.in_reply_to.as_str()),
            ("<1@x>", "<0@x>")
        );
        assert_eq!(parsed.references, ["<a@x>", "<0@x>"]);
        assert_eq!(parsed.date.as_deref(), Some("2023-11-14T22:13:20+01:00"));
        assert_eq!(parsed.text, "h\u{e4}\nyou");
        assert_eq!(parsed.html, "<p>h</p>");
        let top = &parsed.structure;
        assert_eq!(
            (top.content_type.as_str(), top.decoded_size),
            ("multipart/mixed", 0)
        );
        assert_eq!(top.content_type_params["boundary"], "m");
        assert_eq!(top.parts.len(), 3);
        let plain = &top.parts[0].parts[0];
        assert_eq!(
            (plain.content_type.as_str(), plain.decoded_size),
            ("text/plain", 7)
        );
        let image = &top.parts[1];
        assert_eq!(image.content_type, "image/png");
        assert_eq!(
            (image.content_disposition.as_str(), image.filename.as_str()),
            ("attachment", "a.png")
        );
        assert_eq!(
            (image.content_id.as_str(), image.decoded_size),
            ("<i@x>", 5)
        );
    }

    #[test]
    fn parts_by_path() {
        let part = |path: &[usize]| part(MIXED.as_bytes(), path, Limits::default());
        assert_eq!(part(&[0, 0]).unwrap(), b"h\xe4\r\nyou");
        assert_eq!(part(&[0, 1]).unwrap(), b"<p>h</p>");
        assert_eq!(part(&[1]).unwrap(), [0, 1, 2, 3, 4]);
        assert_eq!(part(&[2]).unwrap(), b"footer");
        assert!(part(&[]).unwrap().starts_with(b"--m\r\n"));
        assert!(part(&[0]).unwrap().starts_with(b"--a\r\n"));
        for none in [&[3][..], &[1, 0], &[0, 2], &[usize::MAX]] {
            assert_eq!(part(none), None);
        }
    }

    #[test]
    fn a_message_without_mime_and_an_empty_message() {
        let parsed = shown_of(b"Subject: x\r\n\r\nbody\r\n");
        assert_eq!(parsed.text, "body\n");
        assert_eq!(parsed.structure.content_type, "text/plain");
        assert_eq!(parsed.structure.decoded_size, 6);
        assert_eq!(parsed.date, None);
        assert_eq!(shown_of(b"").text, "");
    }

    /// A message with this type and these lines, which end with `\n`.
    fn mime(content_type: &str, rest: &str) -> String {
        format!("MIME-Version: 1.0\nContent-Type: {content_type}\n{rest}").replace('\n', "\r\n")
    }

    #[test]
    fn structures_as_json() {
        let table = [
            (
                mime("Text/HTML; Charset=UTF-8; format=Flowed", "\n<p>\n"),
                r#"{"ContentType":"text/html","ContentTypeParams":{"charset":"UTF-8","format":"Flowed"},"ContentID":"","ContentDisposition":"","Filename":"","DecodedSize":5,"Parts":[]}"#,
            ),
            (
                // The name in the disposition wins. Encoded words and the extended form are
                // decoded.
                mime(
                    "application/pdf; name=\"b.pdf\"",
                    "Content-Disposition: INLINE; filename*=utf-8''%C3%A4.pdf\nContent-ID: <1@x>\nContent-Transfer-Encoding: base64\n\nAAEC\nAw==\n",
                ),
                r#"{"ContentType":"application/pdf","ContentTypeParams":{"name":"b.pdf"},"ContentID":"\u003c1@x\u003e","ContentDisposition":"inline","Filename":"ä.pdf","DecodedSize":4,"Parts":[]}"#,
            ),
            (
                mime(
                    "image/png; name=\"=?utf-8?q?=C3=B6?=.png\"",
                    "Content-Transfer-Encoding: base64\n\nAAEC\n",
                ),
                r#"{"ContentType":"image/png","ContentTypeParams":{"name":"ö.png"},"ContentID":"","ContentDisposition":"","Filename":"ö.png","DecodedSize":3,"Parts":[]}"#,
            ),
            (
                // The parts of an attached message are not listed.
                mime(
                    "multipart/mixed; boundary=m",
                    "\n--m\nContent-Type: message/rfc822\nContent-Disposition: attachment\n\nSubject: in\n\nHi\n\n--m--\n",
                ),
                r#"{"ContentType":"multipart/mixed","ContentTypeParams":{"boundary":"m"},"ContentID":"","ContentDisposition":"","Filename":"","DecodedSize":0,"Parts":[{"ContentType":"message/rfc822","ContentTypeParams":{},"ContentID":"","ContentDisposition":"attachment","Filename":"","DecodedSize":19,"Parts":[]}]}"#,
            ),
        ];
        for (text, json) in table {
            let found = crate::json::to_vec(&shown_of(text.as_bytes()).structure).unwrap();
            assert_eq!(String::from_utf8(found).unwrap(), json, "{text}");
        }
    }

    #[test]
    fn the_readable_texts() {
        let plain = |text: &str| format!("Content-Type: text/plain\n\n{text}\n");
        let html = |text: &str| format!("Content-Type: text/html\n\n{text}\n");
        let multi = |kind: &str, parts: &[String]| {
            let parts: String = parts
                .iter()
                .map(|part| format!("--{kind}\n{part}"))
                .collect();
            format!("Content-Type: multipart/{kind}; boundary={kind}\n\n{parts}--{kind}--\n")
        };
        let attached =
            "Content-Type: text/plain\nContent-Disposition: attachment\n\nfile\n".to_owned();
        let message = format!("Content-Type: message/rfc822\n\n{}", plain("inner"));
        let table = [
            (plain("a"), "a\n", ""),
            (html("a"), "", "a\n"),
            ("Content-Type: text/calendar\n\na\n".to_owned(), "", ""),
            (multi("alternative", &[plain("a"), html("b")]), "a", "b"),
            (multi("alternative", &[html("b"), plain("a")]), "a", "b"),
            (
                multi("alternative", &[plain("a"), plain("b"), html("c")]),
                "a",
                "c",
            ),
            // In other multiparts the first text counts, and later texts are something else.
            (multi("mixed", &[plain("a"), html("b")]), "a", ""),
            (
                multi("mixed", &[attached.clone(), html("b"), plain("a")]),
                "",
                "b",
            ),
            (multi("mixed", &[message, plain("a")]), "a", ""),
            (
                multi(
                    "mixed",
                    &[multi("alternative", &[plain("a"), html("b")]), plain("c")],
                ),
                "a",
                "b",
            ),
            (
                multi(
                    "alternative",
                    &[plain("a"), multi("related", &[html("b"), attached])],
                ),
                "a",
                "b",
            ),
        ];
        for (text, plain, html) in table {
            let parsed = shown_of(text.replace('\n', "\r\n").as_bytes());
            assert_eq!(
                (parsed.text.as_str(), parsed.html.as_str()),
                (plain, html),
                "{text}"
            );
        }
    }

    #[test]
    fn dates_that_no_calendar_has() {
        for (field, date) in [
            (
                "Thu, 29 Feb 2024 23:59:59 -0030",
                Some("2024-02-29T23:59:59-00:30"),
            ),
            ("Fri, 1 Mar 2024 00:00:00 GMT", Some("2024-03-01T00:00:00Z")),
            ("Wed, 29 Feb 2023 10:00:00 +0000", None),
            ("Fri, 1 Mar 2024 24:00:00 +0000", None),
            ("Fri, 1 Mar 2024 10:00:60 +0000", None),
            ("1 Mar 99999 10:00:00 +0000", None),
            ("yesterday", None),
        ] {
            let parsed = shown_of(format!("Date: {field}\r\n\r\n").as_bytes());
            assert_eq!(parsed.date.as_deref(), date, "{field}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = format!(
            "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nx{}",
            "\u{e4}".repeat(600_000)
        );
        let parsed = shown_of(text.as_bytes());
        assert_eq!(parsed.text.len(), TEXT_MAX - 1);
    }

    #[test]
    fn automatic_messages_are_recognized() {
        for field in [
            "List-Id: <l.example.org>",
            "List-Unsubscribe: <mailto:x@example.org>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
            "Precedence: bulk",
            "Auto-Submitted: auto-replied",
            "Content-Type: multipart/report; report-type=delivery-status; boundary=x",
        ] {
            assert!(
                is_automated(format!("{field}\r\n\r\n").as_bytes()),
                "{field}"
            );
        }
        for field in [
            "Subject: x",
            "Auto-Submitted: no",
            "Auto-Submitted: No; x=y",
            "Precedence:",
        ] {
            assert!(
                !is_automated(format!("{field}\r\n\r\n").as_bytes()),
                "{field}"
            );
        }
    }
}
