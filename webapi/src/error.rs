//! Errors and their codes in the contract.

use serde::Serialize;

/// The code of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Code {
    /// The form or its JSON is wrong.
    Protocol,
    /// The server failed.
    Server,
    /// The server has too much to do at the moment.
    #[serde(rename = "server")]
    Busy,
    /// Another error of the caller.
    User,
    /// An address is wrong.
    BadAddress,
    /// The message has neither Text nor HTML.
    MissingBody,
    /// The message has more than one From.
    MultipleFrom,
    /// From is no address of the account.
    BadFrom,
    /// The domain of From is disabled.
    DomainDisabled,
    /// The message has no recipient.
    NoRecipients,
    /// The account has sent to its most recipients of a day.
    MessageLimitReached,
    /// The account has sent to its most new recipients of a day.
    RecipientLimitReached,
    /// The message is larger than the listener allows.
    MessageTooLarge,
    /// The Message-ID has no `<` and `>`.
    #[serde(rename = "malformedMessageID")]
    MalformedMessageId,
    /// The message is queued, but its copy for Sent was not stored.
    SentOverQuota,
    /// A failure without a code of its own.
    Error,
    /// The idempotency key was used for another request.
    IdempotencyConflict,
    /// The account has no such message.
    MessageNotFound,
    /// The message has no such part.
    PartNotFound,
}

impl Code {
    /// The code as the contract writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Server | Self::Busy => "server",
            Self::User => "user",
            Self::BadAddress => "badAddress",
            Self::MissingBody => "missingBody",
            Self::MultipleFrom => "multipleFrom",
            Self::BadFrom => "badFrom",
            Self::DomainDisabled => "domainDisabled",
            Self::NoRecipients => "noRecipients",
            Self::MessageLimitReached => "messageLimitReached",
            Self::RecipientLimitReached => "recipientLimitReached",
            Self::MessageTooLarge => "messageTooLarge",
            Self::MalformedMessageId => "malformedMessageID",
            Self::SentOverQuota => "sentOverQuota",
            Self::Error => "error",
            Self::IdempotencyConflict => "idempotencyConflict",
            Self::MessageNotFound => "messageNotFound",
            Self::PartNotFound => "partNotFound",
        }
    }
}

/// The answer to a call that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "PascalCase")]
#[error("{message}")]
pub struct ApiError {
    /// The code, for programs.
    pub code: Code,
    /// The error in words, for people.
    pub message: String,
}

impl ApiError {
    /// An error with this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// Another error of the caller.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        Self::new(Code::User, message)
    }

    /// An error in the form or its JSON.
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
            assert_eq!(format!("{:?}", code.name()), expected);
        }
    }
}
