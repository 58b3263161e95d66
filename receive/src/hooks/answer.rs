//! The answer of an outside program, of whatever kind.

use std::fmt;

use bytes::Bytes;
use postrider_smtp::{Address, EnhancedCode, Reply, ReplyCode, ReversePath};

use super::edit::Edit;

/// What a program says to a command or to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What becomes of the command or the message.
    pub vote: Vote,
    /// The changes of the message, in their order. Empty but at the end of the message.
    pub changes: Vec<Change>,
    /// The connection closes behind the reply.
    pub closes: bool,
    /// The reply to a message that goes to quarantine, with a 2xx code. None: the usual one.
    pub reply: Option<Reply>,
}

/// What a program wants to become of a command or of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// The command goes on, and the next program is asked.
    Accept,
    /// The client gets this reply, with a 4xx or 5xx code. No other program is asked.
    Refuse(Reply),
    /// The client gets this reply, with a 2xx code. The message is dropped.
    Discard(Reply),
    /// The message is taken, and nobody gets it as good mail. The text is the program's reason.
    Quarantine(String),
    /// The message is taken as junk, for the junk mailbox. The text is the program's reason.
    Junk(String),
}

/// A change of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another reverse-path. The parameters are those of MAIL. None: the DSN parameters of the
    /// client go.
    Sender(ReversePath, Option<String>),
    /// One more recipient, unless it is there already. The parameters are those of RCPT.
    AddRecipient(Address, Option<String>),
    /// The recipient with this address goes. Case does not matter.
    DeleteRecipient(String),
    /// A change of the header section.
    Header(Edit),
    /// Another body, in lines that end in CRLF.
    Body(Bytes),
}

impl Answer {
    /// The program has nothing against it.
    pub const ACCEPT: Self = Self {
        vote: Vote::Accept,
        changes: Vec::new(),
        closes: false,
        reply: None,
    };

    /// The answer with this vote and no change.
    #[must_use]
    pub const fn of(vote: Vote) -> Self {
        Self {
            vote,
            changes: Vec::new(),
            closes: false,
            reply: None,
        }
    }
}

impl Vote {
    /// The refusal of a program that gave no reply of its own.
    #[must_use]
    pub const fn reject() -> Self {
        Self::Refuse(Reply::fixed(
            ReplyCode::MAILBOX_UNAVAILABLE,
            Some(EnhancedCode::NOT_AUTHORIZED),
            "Message rejected.",
        ))
    }

    /// The refusal for now of a program that can't answer.
    #[must_use]
    pub const fn tempfail() -> Self {
        Self::Refuse(Reply::fixed(
            ReplyCode::LOCAL_ERROR,
            Some(EnhancedCode::MISCONFIGURED),
            "Unable to accept message at this time.",
        ))
    }

    /// The answer to a message that is dropped, of a program that gave no reply of its own.
    #[must_use]
    pub const fn discard() -> Self {
        Self::Discard(Reply::fixed(
            ReplyCode::OK,
            Some(EnhancedCode::OK),
            "Message queued for delivery.",
        ))
    }
}

/// The most changes of one answer.
pub const CHANGES_MAX: usize = 5000;
/// The most bytes of the text of a failure.
const FAILURE_MAX: usize = 300;

/// Why a program gave no answer that counts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The program can't be reached, or says that it can't work now.
    #[error("{0}")]
    Unavailable(String),
    /// The answer did not come in time.
    #[error("no answer in time")]
    Timeout,
    /// The answer makes no sense.
    #[error("{0}")]
    Invalid(String),
}

impl Failure {
    /// An answer that makes no sense, for this reason. The reason may have text of the answer in
    /// it.
    #[must_use]
    pub fn invalid(reason: impl fmt::Display) -> Self {
        Self::Invalid(shown(&reason.to_string(), FAILURE_MAX))
    }

    /// A program that says that it can't work now, for this reason of its own.
    #[must_use]
    pub fn unavailable(reason: impl fmt::Display) -> Self {
        Self::Unavailable(shown(&reason.to_string(), FAILURE_MAX))
    }

    /// Fails for an answer of more than [`CHANGES_MAX`] changes.
    ///
    /// # Errors
    /// If there are so many.
    pub fn check_changes(number: usize) -> Result<(), Self> {
        match number > CHANGES_MAX {
            true => Err(Self::invalid(format_args!(
                "its answer has {number} changes, and may have {CHANGES_MAX}"
            ))),
            false => Ok(()),
        }
    }
}

/// A text of a program on one line, with at most so many bytes.
#[must_use]
pub fn shown(text: &str, max: usize) -> String {
    let end = text.floor_char_boundary(max);
    let text = text.get(..end).unwrap_or_default();
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_a_short_text_on_one_line() {
        let failure = Failure::invalid(format_args!("a\r\nb\u{9b}{}", "\u{e9}".repeat(200)));
        let text = failure.to_string();
        assert!(text.starts_with("a  b \u{e9}"), "{text}");
        assert_eq!(text.len(), 299);
    }

    #[test]
    fn changes_have_a_limit() {
        assert_eq!(Failure::check_changes(CHANGES_MAX), Ok(()));
        let failure = Failure::check_changes(CHANGES_MAX + 1).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "its answer has 5001 changes, and may have 5000"
        );
    }
}
