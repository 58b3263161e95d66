//! Errors as the contract answers them.

use serde::Serialize;

/// What an error is called on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Code {
    /// The form or its JSON can't be read.
    Protocol,
    /// The server failed.
    Server,
    /// ... for now: it has too much to do.
    #[serde(rename = "server")]
    Busy,
    /// The caller's fault, without a code of its own.
    User,
    /// An address does not parse.
    BadAddress,
    /// Neither Text nor HTML.
    MissingBody,
    /// More than one From.
    MultipleFrom,
    /// From is not the account's.
    BadFrom,
    /// The domain of From is disabled.
    DomainDisabled,
    /// Nobody to send to.
    NoRecipients,
    /// More recipients in a day than the account may have.
    MessageLimitReached,
    /// More new recipients in a day than the account may have.
    RecipientLimitReached,
    /// Larger than the listener takes.
    MessageTooLarge,
    /// Without `<` and `>`.
    #[serde(rename = "malformedMessageID")]
    MalformedMessageId,
    /// Queued, but the copy for Sent was not stored.
    SentOverQuota,
    /// A failure without a code of its own.
    Error,
    /// The idempotency key was used for something else.
    IdempotencyConflict,
    /// The account has no such message.
    MessageNotFound,
    /// The message has no such part.
    PartNotFound,
}

/// The answer to a call that failed; HTTP status 400.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "PascalCase")]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl ApiError {
    /// An error of this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The caller's fault.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self::new(Code::User, message)
    }

    /// The form or its JSON.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::new(Code::Protocol, message)
    }
}

impl From<postrider_store::StoreError> for ApiError {
    fn from(error: postrider_store::StoreError) -> Self {
        tracing::error!(%error, "the store failed a call of the webapi");
        Self::new(Code::Server, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_contract() {
        let name = |code: Code| serde_json::to_string(&code).unwrap();
        for (code, expected) in [
            (Code::Protocol, "\"protocol\""),
            (Code::Server, "\"server\""),
            (Code::Busy, "\"server\""),
            (Code::User, "\"user\""),
            (Code::BadAddress, "\"badAddress\""),
            (Code::MissingBody, "\"missingBody\""),
            (Code::MultipleFrom, "\"multipleFrom\""),
            (Code::BadFrom, "\"badFrom\""),
            (Code::DomainDisabled, "\"domainDisabled\""),
            (Code::NoRecipients, "\"noRecipients\""),
            (Code::MessageLimitReached, "\"messageLimitReached\""),
            (Code::RecipientLimitReached, "\"recipientLimitReached\""),
            (Code::MessageTooLarge, "\"messageTooLarge\""),
            (Code::MalformedMessageId, "\"malformedMessageID\""),
            (Code::SentOverQuota, "\"sentOverQuota\""),
            (Code::Error, "\"error\""),
            (Code::IdempotencyConflict, "\"idempotencyConflict\""),
            (Code::MessageNotFound, "\"messageNotFound\""),
            (Code::PartNotFound, "\"partNotFound\""),
        ] {
            assert_eq!(name(code), expected);
        }
    }
}
