//! The answer of an outside program, of whatever kind.

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
    };

    /// The answer with this vote and no change.
    #[must_use]
    pub const fn of(vote: Vote) -> Self {
        Self {
            vote,
            changes: Vec::new(),
            closes: false,
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
