//! Why an operation failed.

use std::io;

use postrider_config::EditError;
use postrider_queue::OperateError;
use postrider_store::StoreError;
use postrider_webhook::TestError;
use serde::{Deserialize, Serialize};

/// Why an operation failed, for programs (`code`, `field`) and for people (`text`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct AdminError {
    /// The kind of failure.
    pub code: Code,
    /// The field of the input that is wrong, by its name in JSON; None if no single field is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The reason, as one sentence without a full stop.
    pub text: String,
}

/// Kinds of failures. The names in JSON do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The thing that the input names does not exist.
    NotFound,
    /// The thing exists already, or its state forbids the operation.
    Conflict,
    /// A value of the input is not allowed.
    Invalid,
    /// The input asks for something that the server does not do.
    Unsupported,
    /// The server cannot do it now: the disk is full, or the server stops. The same call may
    /// succeed later.
    Unavailable,
    /// The server failed.
    Internal,
}

impl AdminError {
    fn new(code: Code, text: impl ToString) -> Self {
        let (field, text) = (None, text.to_string());
        Self { code, field, text }
    }

    /// The thing that the input names does not exist.
    pub fn not_found(text: impl ToString) -> Self {
        Self::new(Code::NotFound, text)
    }

    /// The thing exists already, or its state forbids the operation.
    pub fn conflict(text: impl ToString) -> Self {
        Self::new(Code::Conflict, text)
    }

    /// A value of the input is not allowed.
    pub fn invalid(text: impl ToString) -> Self {
        Self::new(Code::Invalid, text)
    }

    /// The server does not do this.
    pub fn unsupported(text: impl ToString) -> Self {
        Self::new(Code::Unsupported, text)
    }

    /// The server cannot do it now.
    pub fn unavailable(text: impl ToString) -> Self {
        Self::new(Code::Unavailable, text)
    }

    /// The server failed.
    pub fn internal(text: impl ToString) -> Self {
        Self::new(Code::Internal, text)
    }

    /// The same error, with the field of the input that is wrong.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        let field = Some(field.into());
        Self { field, ..self }
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full | StoreError::Closed => Self::unavailable(error),
            StoreError::NoText(_) | StoreError::NoFolder => Self::not_found(error),
            StoreError::FromIdInUse(_)
            | StoreError::DoneBefore
            | StoreError::FolderExists
            | StoreError::FolderNotEmpty
            | StoreError::FolderTooLarge => Self::conflict(error),
            StoreError::Invalid(_) => Self::invalid(error),
            StoreError::Write(_)
            | StoreError::Read(_)
            | StoreError::Corrupt(_)
            | StoreError::Newer(_)
            | StoreError::Bug(_) => Self::internal(error),
        }
    }
}

impl From<OperateError> for AdminError {
    fn from(error: OperateError) -> Self {
        match error {
            OperateError::UnknownTransport(_) => Self::invalid(error).at("transport"),
            OperateError::Store(error) => error.into(),
        }
    }
}

impl From<EditError<Self>> for AdminError {
    fn from(error: EditError<Self>) -> Self {
        match error {
            EditError::Change(refused) => refused,
            EditError::Invalid(errors) => Self::invalid(errors),
            EditError::Io { ref source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Self::unavailable(error)
                }
                _ => Self::internal(error),
            },
        }
    }
}

impl From<TestError> for AdminError {
    fn from(error: TestError) -> Self {
        match error {
            TestError::NoAccount(_) | TestError::NoWebhook { .. } => {
                Self::not_found(error).at("account")
            }
            TestError::Payload(_) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_no_fault_of_the_server() {
        for (kind, code) in [
            (io::ErrorKind::StorageFull, Code::Unavailable),
            (io::ErrorKind::QuotaExceeded, Code::Unavailable),
            (io::ErrorKind::PermissionDenied, Code::Internal),
        ] {
            let error = EditError::Io {
                path: "domains.conf".into(),
                source: kind.into(),
            };
            assert_eq!(AdminError::from(error).code, code);
        }
    }
}
