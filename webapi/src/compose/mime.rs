//! The parts of a message: their nesting (RFC 2046 §5.1), and how each is written.

use std::pin::pin;

use futures_util::StreamExt;
use postrider_store::StoreError;

use super::{
    File, MessageContent, Output,
    body::{self, BASE64_LINE, Encoding},
    check::bare_id,
    header::HeaderWriter,
};
use crate::{call::data::Data, error::ApiError};

/// The bytes that are composed before they are passed on. A multiple of a line of base64, so that
/// lines stay whole.
const PIECE: usize = BASE64_LINE * 1024;
/// The bytes that tell the type of a content.
const SNIFFED: u64 = 512;

/// A part of the body: a text, a file, or several parts with a boundary between them.
enum Part<'a> {
    Text {
        subtype: &'static str,
        text: &'a str,
    },
    File {
        disposition: &'static str,
        file: &'a File,
    },
    Multi {
        subtype: &'static str,
        boundary: String,
        parts: Vec<Self>,
    },
}

impl MessageContent {
    /// Writes the fields of the body after those in `header`, and the body.
    pub(super) async fn write_body(
        &self,
        mut header: Vec<u8>,
        out: &mut Output,
    ) -> Result<(), ApiError> {
        write_part(&self.body(), &mut header, out).await?;
        out.write(&header).await
    }

    /// The parts. Each level of nesting is there only if it has content.
    fn body(&self) -> Part<'_> {
        let texts = [("plain", &self.text), ("html", &self.html)];
        let texts = texts
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(subtype, text)| Part::Text { subtype, text });
        let mut parts: Vec<Part<'_>> = texts.chain(files("inline", &self.alternative)).collect();
        let mut top = match (parts.len(), parts.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                parts.extend(last);
                self.multi("alternative", parts)
            }
        };
        for (subtype, disposition, list) in [
            ("related", "inline", &self.inline),
            ("mixed", "attachment", &self.attached),
        ] {
            if !list.is_empty() {
                let parts = std::iter::once(top).chain(files(disposition, list));
                top = self.multi(subtype, parts.collect());
            }
        }
        top
    }

    /// A multipart. The boundaries of the levels differ in their first letter, so that none is the
    /// beginning of another.
    fn multi<'a>(&self, subtype: &'static str, parts: Vec<Part<'a>>) -> Part<'a> {
        let letter = subtype.get(..1).unwrap_or_default();
        Part::Multi {
            subtype,
            boundary: format!("{letter}-{}", self.boundary),
            parts,
        }
    }
}

fn files<'a>(disposition: &'static str, list: &'a [File]) -> impl Iterator<Item = Part<'a>> {
    list.iter()
        .map(move |file| Part::File { disposition, file })
}

/// Writes the fields of a part, a blank line and its content after the bytes in `buffer`. A large
/// buffer is passed on to `out`.
async fn write_part(
    part: &Part<'_>,
    buffer: &mut Vec<u8>,
    out: &mut Output,
) -> Result<(), ApiError> {
    match part {
        Part::Text { subtype, text } => {
            write_text(subtype, text, buffer);
            pass_on(buffer, out).await
        }
        Part::File { disposition, file } => {
            let kind = match file.content_type.as_str() {
                "" => sniffed(&file.data).await?,
                given => given,
            };
            write_file_header(disposition, kind, file, buffer);
            let mut pieces = pin!(file.data.pieces(PIECE as u64));
            while let Some(piece) = pieces.next().await {
                body::base64_lines(&piece?, buffer);
                pass_on(buffer, out).await?;
            }
            Ok(())
        }
        Part::Multi {
            subtype,
            boundary,
            parts,
        } => {
            push(
                buffer,
                &[
                    "Content-Type: multipart/",
                    subtype,
                    "; boundary=\"",
                    boundary,
                    "\"\r\n\r\n",
                ],
            );
            for part in parts {
                push(buffer, &["--", boundary, "\r\n"]);
                Box::pin(write_part(part, buffer, out)).await?;
                push(buffer, &["\r\n"]);
            }
            push(buffer, &["--", boundary, "--\r\n"]);
            Ok(())
        }
    }
}

async fn pass_on(buffer: &mut Vec<u8>, out: &mut Output) -> Result<(), ApiError> {
    if buffer.len() >= PIECE {
        out.write(buffer).await?;
        buffer.clear();
    }
    Ok(())
}

fn push(buffer: &mut Vec<u8>, pieces: &[&str]) {
    for piece in pieces {
        buffer.extend_from_slice(piece.as_bytes());
    }
}

fn write_text(subtype: &str, text: &str, buffer: &mut Vec<u8>) {
    let (lines, encoding) = body::prepare(text);
    push(
        buffer,
        &[
            "Content-Type: text/",
            subtype,
            if text.is_ascii() {
                "; charset=us-ascii"
            } else {
                "; charset=utf-8"
            },
            "\r\nContent-Transfer-Encoding: ",
            encoding.name(),
            "\r\n\r\n",
        ],
    );
    match encoding {
        Encoding::QuotedPrintable => body::quoted_printable(&lines, buffer),
        Encoding::SevenBit | Encoding::EightBit => buffer.extend_from_slice(lines.as_bytes()),
    }
}

/// The type of a content by its first bytes. It says UTF-8 only if all of the content is UTF-8:
/// readers trust it more than the content's own claim.
async fn sniffed(data: &Data) -> Result<&'static str, StoreError> {
    let first = data.read(0..SNIFFED).await?;
    let kind = body::sniff(&first).unwrap_or("application/octet-stream");
    Ok(match kind.strip_suffix("; charset=utf-8") {
        Some(bare) if !is_utf8(data).await? => bare,
        _ => kind,
    })
}

async fn is_utf8(data: &Data) -> Result<bool, StoreError> {
    let mut pieces = pin!(data.pieces(PIECE as u64));
    // The beginning of a character that ends in the next piece.
    let mut begun = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        begun.extend_from_slice(&piece);
        match std::str::from_utf8(&begun) {
            Ok(_) => begun.clear(),
            Err(error) if error.error_len().is_some() => return Ok(false),
            Err(error) => drop(begun.drain(..error.valid_up_to())),
        }
    }
    Ok(begun.is_empty())
}

fn write_file_header(disposition: &str, kind: &str, file: &File, buffer: &mut Vec<u8>) {
    let mut header = HeaderWriter::new(false);
    header.raw("Content-Type", kind);
    header.raw("Content-Transfer-Encoding", "base64");
    let name = Some(("filename", file.name.as_str())).filter(|_| !file.name.is_empty());
    header.with_parameter("Content-Disposition", disposition, name);
    if !file.content_id.is_empty() {
        let id = format!("<{}>", bare_id(&file.content_id));
        header.raw("Content-Id", &id);
    }
    buffer.extend_from_slice(&header.into_bytes());
    buffer.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mail_parser::{MessageParser, MimeHeaders};

    use super::{
        super::{
            File,
            tests::{composed, message},
        },
        PIECE, sniffed,
    };

    fn file(name: &str, data: &[u8]) -> File {
        File {
            name: name.into(),
            data: Bytes::copy_from_slice(data).into(),
            ..File::default()
        }
    }

    fn kinds(text: &str) -> Vec<String> {
        let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
        let kind = |part: &mail_parser::MessagePart<'_>| {
            part.content_type().unwrap().subtype().unwrap().to_owned()
        };
        parsed.parts.iter().map(kind).collect()
    }

    #[tokio::test]
    async fn levels_without_content_are_left_out() {
        let one = || vec![file("x", b"x")];
        let mut full = message();
        full.html = "<p>".into();
        assert_eq!(
            kinds(&composed(&full).await),
            ["alternative", "plain", "html"]
        );
        full.text = String::new();
        assert_eq!(kinds(&composed(&full).await), ["html"]);
        full.alternative = one();
        assert_eq!(
            kinds(&composed(&full).await),
            ["alternative", "html", "plain"]
        );
        let mut inline = message();
        inline.inline = one();
        assert_eq!(
            kinds(&composed(&inline).await),
            ["related", "plain", "plain"]
        );
        let mut attached = message();
        attached.attached = one();
        assert_eq!(
            kinds(&composed(&attached).await),
            ["mixed", "plain", "plain"]
        );
    }

    #[tokio::test]
    async fn only_utf8_is_called_utf8() {
        let long = "\u{20ac}".repeat(PIECE);
        let cut = &long.as_bytes()[..long.len() - 1];
        for (data, kind) in [
            (&b"<p>\xc3\xa4"[..], "text/html; charset=utf-8"),
            (b"<p>\xe4", "text/html"),
            (b"\xe4", "text/plain"),
            (b"\0", "application/octet-stream"),
            (long.as_bytes(), "text/plain; charset=utf-8"),
            (cut, "text/plain"),
        ] {
            let data = Bytes::copy_from_slice(data).into();
            assert_eq!(sniffed(&data).await.unwrap(), kind, "{data:?}");
        }
    }

    #[tokio::test]
    async fn all_levels() {
        let mut message = message();
        message.html = "<p>h\u{e4}</p>".into();
        message.alternative = vec![File {
            content_type: "text/calendar".into(),
            ..file("", b"BEGIN")
        }];
        message.inline = vec![File {
            content_id: "<i@x>".into(),
            ..file("i.png", b"\x89PNG\r\n\x1a\n")
        }];
        message.attached = vec![file("a.bin", &[1; 200_000])];
        let text = composed(&message).await;
        assert_eq!(
            kinds(&text),
            [
                "mixed",
                "related",
                "alternative",
                "plain",
                "html",
                "calendar",
                "png",
                "octet-stream"
            ]
        );
        let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.parts[7].contents(), [1; 200_000]);
        assert_eq!(parsed.parts[6].content_id(), Some("i@x"));
        assert_eq!(parsed.parts[7].attachment_name(), Some("a.bin"));
        assert!(text.lines().all(|line| line.len() <= 78));
        assert!(text.contains("; boundary=\"m-0123456789abcdefghijkl\"\r\n\r\n--m-"));
    }

    #[tokio::test]
    async fn content_ids_have_brackets() {
        for (given, field) in [
            ("img1", "<img1>"),
            ("<img1>", "<img1>"),
            (" i@x ", "<i@x>"),
            ("img 1", "<img 1>"),
        ] {
            let mut message = message();
            message.inline = vec![File {
                content_id: given.into(),
                ..file("i.png", b"x")
            }];
            let text = composed(&message).await;
            assert!(text.contains(&format!("Content-Id: {field}\r\n")), "{text}");
        }
    }
}
