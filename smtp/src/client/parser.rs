//! The reply parser: makes replies of a server's bytes, in any split and within limits.
//!
//! It forgives what real servers do:
//!
//! - a reply without text
//! - a bare LF at the end of a line
//! - a line without a code inside of a reply of several lines
//! - different codes in the lines of a reply. The last code counts
//!
//! Anything else is an error. After an error the connection is of no use.

use bytes::{Buf, BytesMut};

use crate::{EnhancedCode, Reply, ReplyCode};

/// The longest line in bytes, without its end. RFC 5321 §4.5.3.1.5 says 512. Some servers write
/// longer ones.
const LINE_MAX: usize = 2048;
/// The longest reply in bytes.
const REPLY_MAX: usize = 64 * 1024;
/// The most lines of a reply.
const LINES_MAX: usize = 512;

/// Why bytes of a server are not a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line is too long.
    #[error("reply line longer than {LINE_MAX} bytes")]
    LineTooLong,
    /// The reply has too many lines, or too much text.
    #[error("reply of more than {LINES_MAX} lines or {REPLY_MAX} bytes")]
    TooLong,
    /// The line is not SMTP. This is its beginning.
    #[error("not an SMTP reply: {0:?}")]
    Malformed(String),
}

/// Takes bytes, gives replies.
#[derive(Debug, Default)]
pub struct ReplyParser {
    buffer: BytesMut,
    /// The first bytes of the buffer have no line end. This is their number.
    scanned: usize,
    /// The lines of the reply so far, each with its `\n`.
    text: String,
    lines: usize,
    enhanced: Option<EnhancedCode>,
}

/// A parsed line.
struct ReplyLine<'a> {
    code: ReplyCode,
    last: bool,
    text: &'a [u8],
}

impl ReplyParser {
    /// A parser without bytes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes in. Call [`Self::next`] until it gives None before the next bytes, so that the
    /// buffer stays small.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Nothing is left of the bytes: neither a whole reply nor the beginning of one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.lines == 0
    }

    /// The next whole reply.
    ///
    /// # Errors
    /// The bytes are not a reply. Nothing useful follows.
    #[expect(
        clippy::should_implement_trait,
        reason = "not an iterator: None means that more bytes are needed"
    )]
    pub fn next(&mut self) -> Result<Option<Reply>, ReplyError> {
        loop {
            let unseen = self.buffer.get(self.scanned..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', unseen) else {
                self.scanned = self.buffer.len();
                return if self.scanned > LINE_MAX {
                    Err(ReplyError::LineTooLong)
                } else {
                    Ok(None)
                };
            };
            let end = self.scanned.saturating_add(end);
            self.scanned = 0;
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            if let Some(code) = self.line(line.strip_suffix(b"\r").unwrap_or(&line))? {
                return Ok(Some(self.finish(code)));
            }
        }
    }

    /// Takes a line in. Gives the code if the line ends the reply.
    fn line(&mut self, line: &[u8]) -> Result<Option<ReplyCode>, ReplyError> {
        if line.len() > LINE_MAX {
            return Err(ReplyError::LineTooLong);
        }
        let parsed = match ReplyLine::parse(line) {
            Some(parsed) => Some(parsed),
            None if self.lines > 0 => None,
            None => return Err(ReplyError::Malformed(clean(line.get(..80).unwrap_or(line)))),
        };
        let text = clean(parsed.as_ref().map_or(line, |parsed| parsed.text));
        if self.lines >= LINES_MAX || self.text.len().saturating_add(text.len()) >= REPLY_MAX {
            return Err(ReplyError::TooLong);
        }
        let (enhanced, text) = match EnhancedCode::split(&text) {
            // A code of another class than the reply code's is just text (RFC 2034 §4).
            Some((enhanced, rest))
                if parsed
                    .as_ref()
                    .is_some_and(|line| line.code.class() == enhanced.class) =>
            {
                (Some(enhanced), rest)
            }
            _ => (None, text.as_str()),
        };
        self.enhanced = self.enhanced.or(enhanced);
        self.lines += 1;
        self.text.push_str(text);
        self.text.push('\n');
        Ok(parsed.filter(|line| line.last).map(|line| line.code))
    }

    fn finish(&mut self, code: ReplyCode) -> Reply {
        let mut text = std::mem::take(&mut self.text);
        text.pop();
        self.lines = 0;
        Reply::new(code, self.enhanced.take(), text)
    }
}

impl<'a> ReplyLine<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let (code, rest) = line.split_at_checked(3)?;
        let code = code.iter().try_fold(0, |code: u16, byte| {
            byte.is_ascii_digit()
                .then(|| code * 10 + u16::from(byte - b'0'))
        })?;
        let code = ReplyCode::new(code)?;
        match rest.split_first() {
            None => Some(Self {
                code,
                last: true,
                text: b"",
            }),
            Some((b' ' | b'\t', text)) => Some(Self {
                code,
                last: true,
                text,
            }),
            Some((b'-', text)) => Some(Self {
                code,
                last: false,
                text,
            }),
            Some(_) => None,
        }
    }
}

/// The bytes as text for logs, history and DSNs.
fn clean(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if text.chars().any(char::is_control) {
        text = text.replace(char::is_control, " ");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The replies in a server's bytes, in pieces of `step` bytes, and the error at their end.
    fn parse(bytes: &[u8], step: usize) -> (Vec<Reply>, Option<ReplyError>) {
        let mut parser = ReplyParser::new();
        let mut replies = Vec::new();
        for chunk in bytes.chunks(step) {
            parser.push(chunk);
            loop {
                match parser.next() {
                    Ok(Some(reply)) => replies.push(reply),
                    Ok(None) => break,
                    Err(error) => return (replies, Some(error)),
                }
            }
        }
        (replies, None)
    }

    fn check(bytes: &str, expected: &[&str]) {
        for step in 1..=bytes.len() {
            let (replies, error) = parse(bytes.as_bytes(), step);
            let shown: Vec<_> = replies
                .iter()
                .map(|reply| {
                    let enhanced = reply
                        .enhanced()
                        .map(|code| code.to_string())
                        .unwrap_or_default();
                    format!(
                        "{}|{enhanced}|{}",
                        reply.code(),
                        reply.lines().collect::<Vec<_>>().join("/")
                    )
                })
                .collect();
            assert_eq!(
                (shown, error),
                (expected.iter().map(ToString::to_string).collect(), None)
            );
        }
    }

    #[test]
    fn as_the_rfc_says() {
        check(
            "220 mx.example.com ESMTP\r\n",
            &["220||mx.example.com ESMTP"],
        );
        check(
            "250-mx\r\n250-PIPELINING\r\n250 SIZE 1000\r\n",
            &["250||mx/PIPELINING/SIZE 1000"],
        );
        check(
            "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n",
            &["250|2.1.0|ok", "250|2.1.5|ok", "354||go"],
        );
        check(
            "550-5.7.1 blocked\r\n550 5.7.1 see http://x\r\n",
            &["550|5.7.1|blocked/see http://x"],
        );
    }

    #[test]
    fn as_real_servers_do() {
        check("250\r\n", &["250||"]);
        check("250 \r\n250-\r\n250\r\n", &["250||", "250||/"]);
        check("250 ok\n", &["250||ok"]);
        check("421\ttry later\r\n", &["421||try later"]);
        check(
            "550-your mail\r\n  was refused\r\n550 5.1.1 sorry\r\n",
            &["550|5.1.1|your mail/  was refused/sorry"],
        );
        check("451-a\r\n550 b\r\n", &["550||a/b"]);
        check("550 4.1.1 wrong class\r\n", &["550||4.1.1 wrong class"]);
        check("550 5.1.1\r\n", &["550|5.1.1|"]);
        check("250 a\0b\x1b[1mc\r\r\n", &["250||a b [1mc"]);
    }

    #[test]
    fn garbage_is_an_error() {
        for bad in [
            "\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
            "25\r\n",
            "2500 ok\r\n",
            "199 ok\r\n",
            "600 no\r\n",
            "-ERR\r\n",
        ] {
            for step in 1..=bad.len() {
                let (replies, error) = parse(bad.as_bytes(), step);
                assert!(
                    replies.is_empty() && matches!(error, Some(ReplyError::Malformed(_))),
                    "{bad}"
                );
            }
        }
    }

    #[test]
    fn everything_is_bounded() {
        let error = |bytes: &[u8]| parse(bytes, 1000).1;
        assert_eq!(error(&[b'2'; 4000]), Some(ReplyError::LineTooLong));
        assert_eq!(
            error(format!("250 {}\r\n", "x".repeat(2100)).as_bytes()),
            Some(ReplyError::LineTooLong)
        );
        assert_eq!(
            error("250-a\r\n".repeat(600).as_bytes()),
            Some(ReplyError::TooLong)
        );
        assert_eq!(
            error(
                format!("250-{}\r\n", "x".repeat(2000))
                    .repeat(40)
                    .as_bytes()
            ),
            Some(ReplyError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(bytes in "([2-5]5[0-4][- ]?[a-z5.1 \r]{0,9}\r?\n){0,8}", step in 1usize..40) {
            prop_assert_eq!(parse(bytes.as_bytes(), step), parse(bytes.as_bytes(), usize::MAX));
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3000), step in 1usize..500) {
            let _ = parse(&bytes, step);
        }

        #[test]
        fn reads_what_replies_write(code in 200u16..600, lines in proptest::collection::vec("[a-zA-Z][ -~]{0,60}[!-~]", 1..5)) {
            let code = ReplyCode::new(code).unwrap();
            let reply = Reply::new(code, Some(EnhancedCode::UNKNOWN_MAILBOX), lines.join("\n"));
            prop_assert_eq!(parse(&reply.to_bytes(), 7).0, vec![reply]);
        }
    }
}
