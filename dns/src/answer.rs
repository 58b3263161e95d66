//! The answer to a question.

use std::time::Duration;

/// The records that answer a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// At least one record, in the order of the server.
    pub records: Vec<T>,
    /// DNSSEC validated all records, and all CNAMEs that led to them.
    pub authentic: bool,
    /// How long the answer holds from now on.
    pub ttl: Duration,
}

/// The facts of an answer that says "no".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negative {
    /// DNSSEC proved that there are no records.
    pub authentic: bool,
    /// How long the answer holds from now on.
    pub ttl: Duration,
}

/// Why a question has no records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist.
    #[error("the name does not exist")]
    NoName(Negative),
    /// The name exists, but has no records of this type.
    #[error("the name has no such records")]
    NoRecords(Negative),
    /// There is no answer now: a time-out, SERVFAIL, REFUSED, or an answer that DNSSEC proves
    /// wrong.
    #[error("{0}")]
    Temporary(String),
    /// No server could be asked, as the system of this machine says by this error: no file
    /// descriptor is free, no way leads to the server, or the like.
    #[error("{text}")]
    System {
        /// The number of the error (`errno`).
        errno: i32,
        /// The error in words.
        text: String,
    },
}

impl DnsError {
    /// The facts of a negative answer. None if there was no answer.
    #[must_use]
    pub const fn negative(&self) -> Option<Negative> {
        match self {
            Self::NoName(negative) | Self::NoRecords(negative) => Some(*negative),
            Self::Temporary(_) | Self::System { .. } => None,
        }
    }

    /// The same error with another TTL.
    pub(crate) fn with_ttl(self, ttl: Duration) -> Self {
        match self {
            Self::NoName(negative) => Self::NoName(Negative { ttl, ..negative }),
            Self::NoRecords(negative) => Self::NoRecords(Negative { ttl, ..negative }),
            Self::Temporary(_) | Self::System { .. } => self,
        }
    }
}
