//! Replies for failures of our own, which no decision is about.

use std::borrow::Cow;

use postrider_smtp::{EnhancedCode, Reply, ReplyCode};
use postrider_store::StoreError;
use tracing::error;

use crate::{intake::IntakeError, refusals::reason, shape::ShapeError};

/// A reply with this code. The class of the enhanced code follows the class of the reply code.
#[must_use]
pub(crate) fn reply(
    code: u16,
    enhanced: EnhancedCode,
    text: impl Into<Cow<'static, str>>,
) -> Reply {
    let code = ReplyCode::new(code).unwrap_or(ReplyCode::LOCAL_ERROR);
    Reply::new(code, Some(enhanced), text)
}

/// The reply to a failure of the store: the client tries again (RFC 5321 §4.2.2: 452, 451).
#[must_use]
pub(crate) fn store_reply(error: &StoreError) -> Reply {
    match error {
        StoreError::Full => Reply::new(
            ReplyCode::INSUFFICIENT_STORAGE,
            Some(EnhancedCode::SYSTEM_FULL),
            "not enough storage just now, try again later",
        )
        .because(reason::DISK_FULL),
        other => {
            error!(error = %other, "failed to store a message");
            Reply::new(
                ReplyCode::LOCAL_ERROR,
                Some(EnhancedCode::SYSTEM_TRANSIENT),
                "could not store the message, try again later",
            )
            .because(reason::STORE)
        }
    }
}

impl From<IntakeError> for Reply {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::HeaderTooLarge { max } => Self::new(
                ReplyCode::STORAGE_EXCEEDED,
                Some(EnhancedCode::TOO_BIG),
                format!("the header section is larger than {max} bytes"),
            )
            .because(reason::HEADER_SIZE),
            IntakeError::NoMemory => Self::fixed(
                ReplyCode::INSUFFICIENT_STORAGE,
                Some(EnhancedCode::SYSTEM_FULL),
                "too many messages arrive just now, try again later",
            )
            .because(reason::TEXT_MEMORY),
            // The same codes as for a text that has to be made of lines.
            error @ IntakeError::NoLines(_) => Self::new(
                ReplyCode::TRANSACTION_FAILED,
                Some(EnhancedCode::SYNTAX),
                error.to_string(),
            )
            .because(reason::HEADER_LINES),
            IntakeError::Shape(error) => Self::new(
                ReplyCode::TRANSACTION_FAILED,
                Some(EnhancedCode::CONTENT),
                error.to_string(),
            )
            .because(match error {
                ShapeError::Fields => reason::HEADER_FIELDS,
                ShapeError::Parts(_) | ShapeError::Depth(_) => reason::MIME,
            }),
            IntakeError::Store(error) => store_reply(&error),
        }
    }
}

/// The reply to a text that nobody began to take. A session never gets here.
#[must_use]
pub(crate) fn no_message_reply() -> Reply {
    Reply::new(
        ReplyCode::LOCAL_ERROR,
        Some(EnhancedCode::SYSTEM_TRANSIENT),
        "the message was lost on its way in, try again",
    )
    .because(reason::MESSAGE_LOST)
}
