//! The answer to a question.

use std::time::Duration;

/// The records that answer a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// At least one record, in the order of the server.
    pub records: Vec<T>,
    /// The CNAMEs that led from the name of the question to the records, in their order. Empty if
    /// that name has the records itself.
    pub aliases: Vec<Alias>,
    /// DNSSEC validated all records, and all CNAMEs that led to them.
    pub authentic: bool,
    /// How long the answer holds from now on.
    pub ttl: Duration,
}

/// A CNAME on the way to an answer. Its own name is that of the question, or the target of the
/// alias before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The name that it leads to: in lower case, without the last dot.
    pub target: String,
    /// DNSSEC validated this CNAME.
    pub authentic: bool,
}

impl<T> Answer<T> {
    /// The same answer with other records.
    pub fn with_records<U>(self, records: Vec<U>) -> Answer<U> {
        Answer {
            records,
            aliases: self.aliases,
            authentic: self.authentic,
            ttl: self.ttl,
        }
    }

    /// The name that has the records. None if it is the name of the question.
    #[must_use]
    pub fn expanded(&self) -> Option<&str> {
        self.aliases.last().map(|alias| alias.target.as_str())
    }
}

/// The facts of an answer that says "no".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negative {
    /// DNSSEC proved that there are no records, and validated all CNAMEs that led to this.
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
    /// There is no answer now: a time-out, SERVFAIL, REFUSED, a loop of CNAMEs, or the like.
    #[error("{0}")]
    Temporary(String),
    /// DNSSEC proves the answer wrong: a signature is missing, expired, or made by another key. It
    /// may be right later, so it counts as no answer (RFC 4035 §5.5).
    #[error(
        "the answer about {name:?} is bogus: it should be signed, and DNSSEC can't validate it"
    )]
    Bogus {
        /// The name whose answer is wrong: that of the question, or one that a CNAME led to.
        name: String,
    },
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
            Self::Temporary(_) | Self::Bogus { .. } | Self::System { .. } => None,
        }
    }

    /// The same error with another TTL.
    pub(crate) fn with_ttl(self, ttl: Duration) -> Self {
        match self {
            Self::NoName(negative) => Self::NoName(Negative { ttl, ..negative }),
            Self::NoRecords(negative) => Self::NoRecords(Negative { ttl, ..negative }),
            Self::Temporary(_) | Self::Bogus { .. } | Self::System { .. } => self,
        }
    }
}
