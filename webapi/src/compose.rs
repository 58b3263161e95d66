//! Makes a message from its parts, and writes it to the store as it grows.

mod body;
mod header;

use bytes::Bytes;
use jiff::{Zoned, fmt::rfc2822};
use postrider_smtp::Address;
use postrider_store::{BodyWriter, NewBody};

use self::{
    body::{BASE64_LINE, Encoding},
    header::HeaderWriter,
};
use crate::error::{ApiError, Code};

/// How much is composed before it goes to the store. A multiple of a line of base64, to keep lines whole.
const PIECE: usize = BASE64_LINE * 1024;

/// A name and an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mailbox {
    pub(crate) name: String,
    pub(crate) address: Address,
}

impl Mailbox {
    fn pair(&self) -> (&str, &Address) {
        (&self.name, &self.address)
    }
}

/// A file that goes along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: String,
    /// Empty: found out from the data.
    pub(crate) content_type: String,
    /// With `<` and `>`; empty: none.
    pub(crate) content_id: String,
    pub(crate) data: Bytes,
}

/// A message to be composed.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) from: Mailbox,
    pub(crate) reply_to: Vec<Mailbox>,
    pub(crate) to: Vec<Mailbox>,
    pub(crate) cc: Vec<Mailbox>,
    pub(crate) subject: String,
    pub(crate) date: Zoned,
    /// With `<` and `>`.
    pub(crate) message_id: String,
    pub(crate) references: Vec<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) html: String,
    pub(crate) alternative: Vec<File>,
    pub(crate) inline: Vec<File>,
    pub(crate) attached: Vec<File>,
    /// The header may have UTF-8 as it is.
    pub(crate) smtputf8: bool,
}

/// What was composed.
#[derive(Debug)]
pub(crate) struct Composed {
    pub(crate) body: NewBody,
    /// Bytes, with the prefix.
    pub(crate) size: u64,
    /// There are bytes above 127.
    pub(crate) eight_bit: bool,
}

/// Where composed text goes.
pub(crate) struct Output {
    writer: BodyWriter,
    /// Of the message without its prefix.
    size: u64,
    max_size: u64,
    eight_bit: bool,
}

impl Output {
    /// `prefix` goes in front and does not count for `max_size`.
    pub(crate) async fn new(
        mut writer: BodyWriter,
        prefix: &[u8],
        max_size: u64,
    ) -> Result<Self, ApiError> {
        writer.write(prefix).await?;
        let eight_bit = !prefix.is_ascii();
        Ok(Self {
            writer,
            size: 0,
            max_size,
            eight_bit,
        })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ApiError> {
        self.size += bytes.len() as u64;
        if self.size > self.max_size {
            let text = format!("the message is larger than {} bytes", self.max_size);
            return Err(ApiError::new(Code::MessageTooLarge, text));
        }
        self.eight_bit = self.eight_bit || !bytes.is_ascii();
        Ok(self.writer.write(bytes).await?)
    }

    pub(crate) async fn finish(self) -> Result<Composed, ApiError> {
        let size = self.writer.len();
        let body = self.writer.finish().await?;
        Ok(Composed {
            body,
            size,
            eight_bit: self.eight_bit,
        })
    }
}

/// A part of the body: a leaf, or several with a boundary between.
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

impl Message {
    /// Refuses what would break the header.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let clean = |what: &str, text: &str| {
            if text
                .chars()
                .any(|letter| letter < ' ' || letter == '\u{7f}')
            {
                return Err(ApiError::user(format!(
                    "{what} has a control character: {text:?}"
                )));
            }
            Ok(())
        };
        let mailboxes = std::iter::once(&self.from)
            .chain(&self.reply_to)
            .chain(&self.to)
            .chain(&self.cc);
        for mailbox in mailboxes {
            clean("a name", &mailbox.name)?;
        }
        clean("Subject", &self.subject)?;
        clean("MessageID", &self.message_id)?;
        for reference in &self.references {
            clean("References", reference)?;
        }
        for (name, value) in &self.headers {
            let field_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b':');
            if !field_name {
                return Err(ApiError::user(format!(
                    "{name:?} can't be the name of a header field"
                )));
            }
            clean("a header field", value)?;
        }
        let files = self
            .alternative
            .iter()
            .chain(&self.inline)
            .chain(&self.attached);
        for file in files {
            clean("the name of a file", &file.name)?;
            for (what, text) in [
                ("ContentType", &file.content_type),
                ("ContentID", &file.content_id),
            ] {
                clean(what, text)?;
                if !text.is_ascii() {
                    return Err(ApiError::user(format!(
                        "{what} of a file must be ASCII: {text:?}"
                    )));
                }
            }
        }
        let id = self
            .message_id
            .strip_prefix('<')
            .and_then(|id| id.strip_suffix('>'));
        if id.is_none_or(|id| {
            id.is_empty() || id.contains(['<', '>', ' ']) || (!self.smtputf8 && !id.is_ascii())
        }) {
            let text = format!(
                "MessageID must be of the form <id@host>, not {:?}",
                self.message_id
            );
            return Err(ApiError::new(Code::MalformedMessageId, text));
        }
        Ok(())
    }

    /// A Bcc field, for the sender's own copy; nothing if there is no blind copy.
    pub(crate) fn bcc_field(bcc: &[Mailbox], smtputf8: bool) -> Vec<u8> {
        let mut header = HeaderWriter::new(smtputf8);
        if !bcc.is_empty() {
            header.addresses("Bcc", bcc.iter().map(Mailbox::pair));
        }
        header.into_bytes()
    }

    /// Writes the message.
    pub(crate) async fn write(
        &self,
        out: &mut Output,
        boundary: &mut (dyn FnMut() -> String + Send),
    ) -> Result<(), ApiError> {
        let mut header = self.header();
        // The parts' own fields end the header section.
        write_part(&self.body(boundary), &mut header, out).await?;
        out.write(&header).await
    }

    fn header(&self) -> Vec<u8> {
        let mut header = HeaderWriter::new(self.smtputf8);
        let lists = [
            ("From", std::slice::from_ref(&self.from)),
            ("Reply-To", &self.reply_to),
            ("To", &self.to),
            ("Cc", &self.cc),
        ];
        for (name, mailboxes) in lists {
            if !mailboxes.is_empty() {
                header.addresses(name, mailboxes.iter().map(Mailbox::pair));
            }
        }
        if !self.subject.is_empty() {
            header.text("Subject", &self.subject);
        }
        header.raw("Date", &rfc2822::to_string(&self.date).unwrap_or_default());
        header.raw("Message-Id", &self.message_id);
        if let Some(last) = self.references.last() {
            header.raw("References", &self.references.join("\r\n\t"));
            header.raw("In-Reply-To", last);
        }
        header.raw("MIME-Version", "1.0");
        for (name, value) in &self.headers {
            header.text(name, value);
        }
        let agent = |name: &str| {
            name.eq_ignore_ascii_case("User-Agent") || name.eq_ignore_ascii_case("X-Mailer")
        };
        if !self.headers.iter().any(|(name, _)| agent(name)) {
            header.raw(
                "User-Agent",
                concat!("postrider/", env!("CARGO_PKG_VERSION")),
            );
        }
        header.into_bytes()
    }

    /// The nesting: each level only where there is something for it.
    fn body(&self, boundary: &mut (dyn FnMut() -> String + Send)) -> Part<'_> {
        let mut texts = Vec::new();
        for (subtype, text) in [("plain", &self.text), ("html", &self.html)] {
            if !text.is_empty() {
                texts.push(Part::Text { subtype, text });
            }
        }
        texts.extend(self.alternative.iter().map(|file| Part::File {
            disposition: "inline",
            file,
        }));
        let mut top = match (texts.len(), texts.pop()) {
            (1, Some(only)) => only,
            (_, last) => {
                texts.extend(last);
                Part::Multi {
                    subtype: "alternative",
                    boundary: boundary(),
                    parts: texts,
                }
            }
        };
        for (subtype, disposition, files) in [
            ("related", "inline", &self.inline),
            ("mixed", "attachment", &self.attached),
        ] {
            if !files.is_empty() {
                let mut parts = vec![top];
                parts.extend(files.iter().map(|file| Part::File { disposition, file }));
                top = Part::Multi {
                    subtype,
                    boundary: boundary(),
                    parts,
                };
            }
        }
        top
    }
}

/// Writes the fields of a part, a blank line and its content behind what is in `buffer`, which is passed on when it is large.
async fn write_part(
    part: &Part<'_>,
    buffer: &mut Vec<u8>,
    out: &mut Output,
) -> Result<(), ApiError> {
    match part {
        Part::Text { subtype, text } => {
            let (lines, encoding) = body::prepare(text);
            let charset = if text.is_ascii() { "us-ascii" } else { "utf-8" };
            buffer.extend_from_slice(
                format!(
                    "Content-Type: text/{subtype}; charset={charset}\r\nContent-Transfer-Encoding: {}\r\n\r\n",
                    encoding.name()
                )
                .as_bytes(),
            );
            match encoding {
                Encoding::QuotedPrintable => {
                    buffer.extend_from_slice(&body::quoted_printable(&lines))
                }
                Encoding::SevenBit | Encoding::EightBit => {
                    buffer.extend_from_slice(lines.as_bytes())
                }
            }
            pass_on(buffer, out).await
        }
        Part::File { disposition, file } => {
            buffer.extend_from_slice(&file_header(disposition, file));
            for piece in file.data.chunks(PIECE) {
                body::base64_lines(piece, buffer);
                pass_on(buffer, out).await?;
            }
            Ok(())
        }
        Part::Multi {
            subtype,
            boundary,
            parts,
        } => {
            let field =
                format!("Content-Type: multipart/{subtype}; boundary=\"{boundary}\"\r\n\r\n");
            buffer.extend_from_slice(field.as_bytes());
            for part in parts {
                buffer.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
                Box::pin(write_part(part, buffer, out)).await?;
                buffer.extend_from_slice(b"\r\n");
            }
            buffer.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
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

fn file_header(disposition: &str, file: &File) -> Vec<u8> {
    let mut header = HeaderWriter::new(false);
    let sniffed = || body::sniff(&file.data).unwrap_or("application/octet-stream");
    let kind = if file.content_type.is_empty() {
        sniffed()
    } else {
        &file.content_type
    };
    header.raw("Content-Type", kind);
    header.raw("Content-Transfer-Encoding", "base64");
    let name = [("filename", file.name.as_str())];
    let parameters: &[(&str, &str)] = if file.name.is_empty() { &[] } else { &name };
    header.with_parameters("Content-Disposition", disposition, parameters);
    if !file.content_id.is_empty() {
        header.raw("Content-Id", &file.content_id);
    }
    let mut header = header.into_bytes();
    header.extend_from_slice(b"\r\n");
    header
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders};
    use postrider_store::Store;

    use super::*;

    fn message() -> Message {
        Message {
            from: Mailbox {
                name: "Ann".into(),
                address: "ann@example.org".parse().unwrap(),
            },
            reply_to: Vec::new(),
            to: vec![Mailbox {
                name: String::new(),
                address: "b@example.com".parse().unwrap(),
            }],
            cc: Vec::new(),
            subject: "Hi".into(),
            date: "2023-11-14T22:13:20+01:00[+01:00]".parse().unwrap(),
            message_id: "<1@example.org>".into(),
            references: Vec::new(),
            headers: Vec::new(),
            text: "Hello\n".into(),
            html: String::new(),
            alternative: Vec::new(),
            inline: Vec::new(),
            attached: Vec::new(),
            smtputf8: false,
        }
    }

    async fn composed(message: &Message) -> String {
        message.check().unwrap();
        let mut out = Output::new(
            Store::memory().body_writer(),
            b"Received: x\r\n",
            10_000_000,
        )
        .await
        .unwrap();
        let mut number = 0;
        let mut boundary = || {
            number += 1;
            format!("b{number}")
        };
        message.write(&mut out, &mut boundary).await.unwrap();
        let composed = out.finish().await.unwrap();
        let NewBody::Inline(text) = composed.body else {
            panic!("in memory")
        };
        assert_eq!(composed.size, text.len() as u64);
        assert_eq!(composed.eight_bit, !text.is_ascii());
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_plain_message() {
        let agent = concat!("postrider/", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            composed(&message()).await,
            format!(
                "Received: x\r\nFrom: Ann <ann@example.org>\r\nTo: <b@example.com>\r\nSubject: Hi\r\n\
                 Date: Tue, 14 Nov 2023 22:13:20 +0100\r\nMessage-Id: <1@example.org>\r\nMIME-Version: 1.0\r\n\
                 User-Agent: {agent}\r\nContent-Type: text/plain; charset=us-ascii\r\n\
                 Content-Transfer-Encoding: 7bit\r\n\r\nHello\r\n"
            )
        );
    }

    #[tokio::test]
    async fn all_levels() {
        let file = |name: &str, data: &[u8]| File {
            name: name.into(),
            data: Bytes::copy_from_slice(data),
            ..File::default()
        };
        let mut message = message();
        message.html = "<p>h\u{e4}</p>".into();
        message.references = vec!["<a@x>".into(), "<b@x>".into()];
        message.headers = vec![
            ("x-mailer".into(), "mine".into()),
            ("X-Any".into(), "\u{e4}".into()),
        ];
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
        assert!(
            text.contains("References: <a@x>\r\n\t<b@x>\r\nIn-Reply-To: <b@x>\r\n"),
            "{text}"
        );
        assert!(!text.contains("User-Agent"));
        let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
        let kinds: Vec<String> = parsed
            .parts
            .iter()
            .map(|part| part.content_type().unwrap().subtype().unwrap().to_owned())
            .collect();
        assert_eq!(
            kinds,
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
        assert_eq!(parsed.parts[7].contents(), [1; 200_000]);
        assert_eq!(parsed.parts[6].content_id(), Some("i@x"));
        assert_eq!(parsed.parts[7].attachment_name(), Some("a.bin"));
        assert!(text.lines().all(|line| line.len() <= 78));
    }

    #[tokio::test]
    async fn too_large_is_refused() {
        let mut out = Output::new(Store::memory().body_writer(), b"", 100)
            .await
            .unwrap();
        let error = message()
            .write(&mut out, &mut String::new)
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::MessageTooLarge);
    }

    #[test]
    fn what_would_break_the_header_is_refused() {
        let code = |change: fn(&mut Message)| {
            let mut message = message();
            change(&mut message);
            message.check().unwrap_err().code
        };
        assert_eq!(code(|message| message.subject = "a\nb".into()), Code::User);
        assert_eq!(
            code(|message| message.from.name = "\u{1}".into()),
            Code::User
        );
        assert_eq!(
            code(|message| message.references = vec!["<a>\r\nX: y".into()]),
            Code::User
        );
        assert_eq!(
            code(|message| message.headers = vec![("X-A".into(), "a\r\nb".into())]),
            Code::User
        );
        assert_eq!(
            code(|message| message.headers = vec![("X A".into(), "a".into())]),
            Code::User
        );
        assert_eq!(
            code(|message| message.attached = vec![File {
                content_type: "a\n".into(),
                ..File::default()
            }]),
            Code::User
        );
        assert_eq!(
            code(|message| message.message_id = "1@x".into()),
            Code::MalformedMessageId
        );
    }
}
