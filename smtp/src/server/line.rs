//! The lines of a client: commands, and what it says in an authentication exchange.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use crate::{EnhancedCode, Reply, ReplyCode, reason};

/// Why bytes are not a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineError {
    /// The limit is reached, and no line end is in sight.
    Endless,
    /// The line is longer than the limit.
    TooLong,
    /// The line does not end with CRLF, or has another CR, or a NUL.
    Characters,
    /// The line is not UTF-8.
    Encoding,
}

impl LineError {
    pub(super) const fn reply(self) -> Reply {
        let (text, reason) = match self {
            Self::Endless => ("the line is too long, closing", reason::LINE_TOO_LONG),
            Self::TooLong => ("the line is too long", reason::LINE_TOO_LONG),
            Self::Characters => (
                "a line ends with CRLF and has no other CR, LF or NUL",
                reason::SYNTAX,
            ),
            Self::Encoding => ("the line is not UTF-8", reason::SYNTAX),
        };
        Reply::fixed(ReplyCode::SYNTAX_ERROR, Some(EnhancedCode::SYNTAX), text).because(reason)
    }
}

/// Takes the first line off the input, with its line end. None if the input has no whole line yet.
pub(super) fn take(input: &mut BytesMut, max: usize) -> Result<Option<Bytes>, LineError> {
    match memchr(b'\n', input) {
        Some(end) => Ok(Some(input.split_to(end + 1).freeze())),
        None if input.len() < max => Ok(None),
        None => Err(LineError::Endless),
    }
}

/// The text of a line without its CRLF.
pub(super) fn text(line: &[u8], max: usize) -> Result<&str, LineError> {
    let text = line
        .strip_suffix(b"\r\n")
        .filter(|text| memchr::memchr2(b'\r', 0, text).is_none())
        .ok_or(LineError::Characters)?;
    if line.len() > max {
        return Err(LineError::TooLong);
    }
    std::str::from_utf8(text).map_err(|_| LineError::Encoding)
}
