//! Makes a message from its content, and writes it to the store as it grows.
//!
//! In reading order: the header fields here, `check` refuses wrong content, `mime` nests the parts,
//! `header`, `word` and `body` encode them, `output` takes the text.

mod body;
mod check;
mod header;
mod mime;
mod output;

use postrider_smtp::Address;

use self::header::HeaderWriter;
pub(crate) use self::output::{Composed, FinishedText, Output};
use crate::{call::data::Data, error::ApiError};

/// A name and an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mailbox {
    pub(crate) name: String,
    pub(crate) address: Address,
}

/// A file of a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) name: String,
    /// Empty: detected from the data.
    pub(crate) content_type: String,
    /// With or without `<` and `>`. Empty: none.
    pub(crate) content_id: String,
    pub(crate) data: Data,
}

/// The files of a message, by their use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) alternative: Vec<File>,
    pub(crate) inline: Vec<File>,
    pub(crate) attached: Vec<File>,
}

/// The content of a message that is to be composed.
#[derive(Clone, Debug)]
pub(crate) struct MessageContent {
    pub(crate) from: Mailbox,
    pub(crate) reply_to: Vec<Mailbox>,
    pub(crate) to: Vec<Mailbox>,
    pub(crate) cc: Vec<Mailbox>,
    /// Only in the sender's copy, not in the message.
    pub(crate) bcc: Vec<Mailbox>,
    pub(crate) subject: String,
    /// In the form of the header field (RFC 5322 §3.3).
    pub(crate) date: String,
    /// With `<` and `>`.
    pub(crate) message_id: String,
    pub(crate) references: Vec<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) html: String,
    pub(crate) alternative: Vec<File>,
    pub(crate) inline: Vec<File>,
    pub(crate) attached: Vec<File>,
    /// The header may have UTF-8 without encoding.
    pub(crate) smtputf8: bool,
    /// The boundaries between parts are made from this. It is random, so that no line of the
    /// content is a boundary.
    pub(crate) boundary: String,
}

impl MessageContent {
    /// Writes the message. Its content must be [checked](Self::check).
    ///
    /// # Errors
    /// If the message is too large, or the store fails.
    pub(crate) async fn write(&self, out: &mut Output) -> Result<(), ApiError> {
        self.write_body(self.header(), out).await
    }

    /// The Bcc field for the sender's copy. Empty without blind copies.
    pub(crate) fn bcc_field(&self) -> Vec<u8> {
        let mut header = HeaderWriter::new(self.smtputf8);
        if !self.bcc.is_empty() {
            header.addresses("Bcc", &self.bcc);
        }
        header.into_bytes()
    }

    /// All header fields except those of the body.
    fn header(&self) -> Vec<u8> {
        let mut header = HeaderWriter::new(self.smtputf8);
        header.addresses("From", std::slice::from_ref(&self.from));
        for (name, mailboxes) in [
            ("Reply-To", &self.reply_to),
            ("To", &self.to),
            ("Cc", &self.cc),
        ] {
            if !mailboxes.is_empty() {
                header.addresses(name, mailboxes);
            }
        }
        if !self.subject.is_empty() {
            header.text("Subject", &self.subject);
        }
        header.raw("Date", &self.date);
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
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mail_parser::{MessageParser, MimeHeaders};
    use postrider_store::{NewText, Store};
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::error::Code;

    pub(super) fn message() -> MessageContent {
        MessageContent {
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
            bcc: Vec::new(),
            subject: "Hi".into(),
            date: "Tue, 14 Nov 2023 22:13:20 +0100".into(),
            message_id: "<1@example.org>".into(),
            references: Vec::new(),
            headers: Vec::new(),
            text: "Hello\n".into(),
            html: String::new(),
            alternative: Vec::new(),
            inline: Vec::new(),
            attached: Vec::new(),
            smtputf8: false,
            boundary: "0123456789abcdefghijkl".into(),
        }
    }

    fn string(text: FinishedText) -> String {
        let NewText::Inline(bytes) = text.body else {
            panic!("in memory")
        };
        assert_eq!(text.size, bytes.len() as u64);
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    pub(super) async fn composed(message: &MessageContent) -> String {
        message.check().unwrap();
        let store = Store::memory();
        let mut out = Output::new(store.text_writer(), b"Received: x\r\n", 10_000_000)
            .await
            .unwrap();
        let bcc = message.bcc_field();
        out.copy_to(store.text_writer(), &bcc).await.unwrap();
        message.write(&mut out).await.unwrap();
        let composed = out.finish().await.unwrap();
        let text = string(composed.text);
        assert_eq!(composed.needs.eight_bit, !text.is_ascii());
        let copy = string(composed.copy.unwrap());
        assert_eq!(
            copy.strip_prefix(std::str::from_utf8(&bcc).unwrap()),
            text.strip_prefix("Received: x\r\n")
        );
        text
    }

    #[tokio::test]
    async fn fields_have_their_order() {
        let mut message = message();
        let agent = concat!("postrider/", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            composed(&message).await,
            format!(
                "Received: x\r\nFrom: Ann <ann@example.org>\r\nTo: <b@example.com>\r\nSubject: Hi\r\n\
                 Date: Tue, 14 Nov 2023 22:13:20 +0100\r\nMessage-Id: <1@example.org>\r\nMIME-Version: 1.0\r\n\
                 User-Agent: {agent}\r\nContent-Type: text/plain; charset=us-ascii\r\n\
                 Content-Transfer-Encoding: 7bit\r\n\r\nHello\r\n"
            )
        );
        message.cc = message.to.clone();
        message.bcc = message.to.clone();
        message.reply_to = message.to.clone();
        message.to.clear();
        message.subject.clear();
        message.references = vec!["<a@x>".into(), "<b@x>".into()];
        message.headers = vec![
            ("x-mailer".into(), "mine".into()),
            ("X-Any".into(), "\u{e4}".into()),
        ];
        assert_eq!(
            composed(&message).await,
            "Received: x\r\nFrom: Ann <ann@example.org>\r\nReply-To: <b@example.com>\r\nCc: <b@example.com>\r\n\
             Date: Tue, 14 Nov 2023 22:13:20 +0100\r\nMessage-Id: <1@example.org>\r\nReferences: <a@x>\r\n\t<b@x>\r\n\
             In-Reply-To: <b@x>\r\nMIME-Version: 1.0\r\nx-mailer: mine\r\nX-Any: =?utf-8?q?=C3=A4?=\r\n\
             Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\nHello\r\n"
        );
        assert_eq!(message.bcc_field(), b"Bcc: <b@example.com>\r\n");
    }

    #[tokio::test]
    async fn too_large_is_refused() {
        let mut out = Output::new(Store::memory().text_writer(), b"", 100)
            .await
            .unwrap();
        let error = message().write(&mut out).await.unwrap_err();
        assert_eq!(error.code, Code::MessageTooLarge);
    }

    /// The text with CRLF after each line, also after the last.
    fn with_crlf(text: &str) -> String {
        let lines = text.strip_suffix('\n').unwrap_or(text);
        lines
            .split('\n')
            .map(|line| format!("{line}\r\n"))
            .collect()
    }

    proptest! {
        #[test]
        fn a_composed_message_is_read_back(
            name in "[!-~\u{e4}\u{65e5}]([ -~\u{e4}\u{65e5}]{0,120}[!-~])?",
            subject in "[!-~\u{e4}\u{1f600}]([ -~\u{e4}\u{1f600}]{0,200}[!-~\u{1f600}])?",
            text in "[ -~\n\t\u{e4}]{0,400}x",
            html in "(<p>[ -~\n\u{65e5}]{0,200})?",
            attached in vec(("[a-z\u{e4}]([a-z ;\"\u{65e5}%']{0,80}[a-z])?", vec(any::<u8>(), 0..300)), 0..3),
            smtputf8: bool,
        ) {
            let mut message = message();
            (message.from.name, message.subject, message.smtputf8) = (name, subject, smtputf8);
            (message.text, message.html) = (text, html);
            message.attached = attached
                .clone()
                .into_iter()
                .map(|(name, data)| File {
                    name,
                    content_type: "application/octet-stream".into(),
                    data: Bytes::from(data).into(),
                    ..File::default()
                })
                .collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let text = runtime.block_on(composed(&message));
            prop_assert!(text.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
            let header = text.split("\r\n\r\n").next().unwrap();
            prop_assert!(smtputf8 || header.is_ascii());
            let parsed = MessageParser::default().parse(text.as_bytes()).unwrap();
            let from = parsed.from().unwrap().first().unwrap();
            prop_assert_eq!(from.name(), Some(message.from.name.as_str()), "{}", header);
            prop_assert_eq!(from.address(), Some("ann@example.org"));
            prop_assert_eq!(parsed.subject(), Some(message.subject.as_str()), "{}", header);
            prop_assert_eq!(parsed.body_text(0).unwrap().into_owned(), with_crlf(&message.text));
            if !message.html.is_empty() {
                prop_assert_eq!(parsed.body_html(0).unwrap().into_owned(), with_crlf(&message.html));
            }
            let files: Vec<(&str, &[u8])> = parsed
                .attachments()
                .map(|part| (part.attachment_name().unwrap(), part.contents()))
                .collect();
            let sent: Vec<(&str, &[u8])> =
                attached.iter().map(|(name, data)| (name.as_str(), &data[..])).collect();
            prop_assert_eq!(files, sent);
        }
    }
}
