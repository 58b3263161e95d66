//! Refuses content that would break a message.

use super::{File, MessageContent};
use crate::error::{ApiError, Code};

/// The most bytes of a word that is not encoded. Such a word can't be folded, and no line may have
/// more than 998 bytes (RFC 5322 §2.1.1).
const WORD_MAX: usize = 900;

impl MessageContent {
    /// Refuses content that would break the header.
    ///
    /// # Errors
    /// [`Code::User`] or [`Code::MalformedMessageId`].
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let lists = [&self.reply_to, &self.to, &self.cc, &self.bcc];
        for mailbox in std::iter::once(&self.from).chain(lists.into_iter().flatten()) {
            clean("a name", &mailbox.name)?;
        }
        clean("Subject", &self.subject)?;
        clean("MessageID", &self.message_id)?;
        for reference in &self.references {
            word("a reference", reference)?;
        }
        for (name, value) in &self.headers {
            if let Some(instead) = instead_of(name) {
                return Err(ApiError::user(format!(
                    "Headers may not have {}{instead}",
                    name.trim()
                )));
            }
            field_name(name)?;
            clean("a header field", value)?;
        }
        let lists = [&self.alternative, &self.inline, &self.attached];
        lists.into_iter().flatten().try_for_each(file)?;
        self.check_message_id()
    }

    fn check_message_id(&self) -> Result<(), ApiError> {
        let id = self
            .message_id
            .strip_prefix('<')
            .and_then(|id| id.strip_suffix('>'));
        let right = id.is_some_and(|id| {
            (1..=WORD_MAX).contains(&id.len())
                && !id.contains(['<', '>', ' '])
                && (self.smtputf8 || id.is_ascii())
        });
        if right {
            return Ok(());
        }
        let text = format!(
            "MessageID must be of the form <id@host>, not {:?}",
            self.message_id
        );
        Err(ApiError::new(Code::MalformedMessageId, text))
    }
}

/// What to do instead of giving this field in Headers. None for a field that may stand there.
///
/// A message has these fields once, and we write them. A second From or Bcc would even be another
/// author, or tell the recipients of blind copies.
fn instead_of(name: &str) -> Option<&'static str> {
    let name = name.trim().to_ascii_lowercase();
    Some(match name.as_str() {
        "from" => "; set From",
        "to" => "; set To",
        "cc" => "; set CC",
        "bcc" | "resent-bcc" => "; set BCC",
        "reply-to" => "; set ReplyTo",
        "subject" => "; set Subject",
        "date" => "; set Date",
        "message-id" => "; set MessageID",
        "references" | "in-reply-to" => "; set References",
        "mime-version"
        | "content-type"
        | "content-transfer-encoding"
        | "content-disposition"
        | "content-id" => ": it follows from the texts and files",
        "dkim-signature" | "received" | "return-path" => ": servers add it",
        other if other.starts_with("arc-") => ": servers add it",
        _ => return None,
    })
}

fn clean(what: &str, text: &str) -> Result<(), ApiError> {
    let control = |byte: u8| byte < b' ' || byte == 0x7f;
    if text.bytes().any(control) {
        return Err(ApiError::user(format!(
            "{what} has a control character: {text:?}"
        )));
    }
    Ok(())
}

fn word(what: &str, text: &str) -> Result<(), ApiError> {
    clean(what, text)?;
    if text.len() > WORD_MAX {
        return Err(ApiError::user(format!(
            "{what} is longer than {WORD_MAX} bytes"
        )));
    }
    Ok(())
}

/// A wrong name would end the header section, or continue the field before.
fn field_name(name: &str) -> Result<(), ApiError> {
    word("the name of a header field", name)?;
    let right = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b':');
    if right {
        return Ok(());
    }
    Err(ApiError::user(format!(
        "{name:?} can't be the name of a header field"
    )))
}

/// A content id without the angle brackets around it.
pub(super) fn bare_id(id: &str) -> &str {
    let id = id.trim();
    let inner = id.strip_prefix('<').and_then(|id| id.strip_suffix('>'));
    inner.unwrap_or(id)
}

fn file(file: &File) -> Result<(), ApiError> {
    clean("the name of a file", &file.name)?;
    for (what, text) in [
        ("ContentType of a file", &file.content_type),
        ("ContentID of a file", &file.content_id),
    ] {
        word(what, text)?;
        if !text.is_ascii() {
            return Err(ApiError::user(format!("{what} must be ASCII: {text:?}")));
        }
    }
    if bare_id(&file.content_id).contains(['<', '>']) {
        return Err(ApiError::user(format!(
            "ContentID of a file has a bracket within it: {:?}",
            file.content_id
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::message, *};

    #[test]
    fn content_that_would_break_the_header_is_refused() {
        type Change = fn(&mut MessageContent);
        let bad_file = |change: fn(&mut File)| {
            let mut file = File::default();
            change(&mut file);
            vec![file]
        };
        let changes: [(Change, Code); 12] = [
            (|message| message.subject = "a\nb".into(), Code::User),
            (|message| message.from.name = "\u{1}".into(), Code::User),
            (
                |message| message.to[0].name = "a\r\nX: b".into(),
                Code::User,
            ),
            (
                |message| {
                    message.bcc = message.to.clone();
                    message.bcc[0].name = "a\r\nX: b".into();
                },
                Code::User,
            ),
            (
                |message| message.references = vec!["<a>\r\nX: y".into()],
                Code::User,
            ),
            (
                |message| message.references = vec!["x".repeat(1000)],
                Code::User,
            ),
            (
                |message| message.headers = vec![("X-A".into(), "a\r\nb".into())],
                Code::User,
            ),
            (
                |message| message.headers = vec![("X A".into(), "a".into())],
                Code::User,
            ),
            (
                |message| message.headers = vec![(String::new(), "a".into())],
                Code::User,
            ),
            (
                |message| message.message_id = "1@x".into(),
                Code::MalformedMessageId,
            ),
            (
                |message| message.message_id = "<>".into(),
                Code::MalformedMessageId,
            ),
            (
                |message| message.message_id = "<\u{e4}@x>".into(),
                Code::MalformedMessageId,
            ),
        ];
        for (number, (change, code)) in changes.into_iter().enumerate() {
            let mut message = message();
            message.check().unwrap();
            change(&mut message);
            assert_eq!(message.check().unwrap_err().code, code, "{number}");
        }
        for files in [
            bad_file(|file| file.name = "a\nb".into()),
            bad_file(|file| file.content_type = "text/plain\n".into()),
            bad_file(|file| file.content_type = "text/\u{e4}".into()),
            bad_file(|file| file.content_id = "<a\0>".into()),
            bad_file(|file| file.content_id = "<a><b>".into()),
            bad_file(|file| file.content_id = "a>".into()),
        ] {
            let mut message = message();
            message.inline = files;
            assert_eq!(message.check().unwrap_err().code, Code::User);
        }
    }

    #[test]
    fn fields_that_we_write_are_refused_with_their_names() {
        for name in [
            "From",
            "To",
            "Cc",
            "Bcc",
            "Reply-To",
            "Subject",
            "Date",
            "Message-ID",
            "References",
            "In-Reply-To",
            "MIME-Version",
            "Content-Type",
            "Content-Transfer-Encoding",
            "Content-Disposition",
            "Content-ID",
            "DKIM-Signature",
            "Received",
            "Return-Path",
            "ARC-Seal",
            "Resent-Bcc",
            " subject ",
            "SUBJECT",
        ] {
            let mut message = message();
            message.headers = vec![(name.into(), "x".into())];
            let error = message.check().unwrap_err();
            assert_eq!(error.code, Code::User);
            assert!(error.message.contains(name.trim()), "{error}");
        }
        let mut message = message();
        let others = [
            "X-Mailer",
            "List-Unsubscribe",
            "Content-Language",
            "Sender",
            "X-To",
        ];
        message.headers = others.map(|name| (name.into(), "x".into())).to_vec();
        message.check().unwrap();
    }
}
