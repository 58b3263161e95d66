//! The results of the checks as plain data, and the Authentication-Results field with them.
//!
//! | module | what it has |
//! |---|---|
//! | here | the results of DKIM and ARC, and all results of a message together |
//! | `field` | the Authentication-Results field (RFC 8601) |
//! | `forged` | the fields of a message that pretend to be ours |
//!
//! The results of SPF, iprev and DMARC stand in their own modules.

mod field;
mod forged;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use postrider_smtp::Domain;

pub use self::forged::without_forged;
use super::{dmarc::DmarcResult, iprev::IprevResult, spf::SpfResult};

/// The results of all checks of a message. An absent result means that the check was not made.
#[derive(Clone, Debug, Default)]
pub struct AuthenticationResults {
    /// The names of the client's address.
    pub iprev: Option<IprevResult>,
    /// The SPF result of MAIL FROM; for a null reverse-path, that of HELO.
    pub spf: Option<SpfResult>,
    /// One result for each DKIM signature, in the order of the check.
    pub dkim: Vec<DkimResult>,
    /// The ARC chain.
    pub arc: Option<ArcResult>,
    /// DMARC.
    pub dmarc: Option<DmarcResult>,
    /// A word about why our decision differs from the DMARC policy, for example `junk: sent by a
    /// list`. None if it does not differ.
    pub dmarc_override: Option<String>,
    /// The client logged in under this address. For submissions only.
    pub auth: Option<String>,
}

/// The result of one DKIM signature (RFC 6376 §6, RFC 8601 §2.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimResult {
    /// The outcome. Only a pass counts.
    pub outcome: DkimOutcome,
    /// Why the signature did not pass, in words. None for a pass.
    pub reason: Option<String>,
    /// The signing domain, `d=`. None if it can't be read.
    pub domain: Option<Domain>,
    /// The selector, `s=`. None if it can't be read.
    pub selector: Option<String>,
    /// The identity, `i=`, as the signature has it. None if the signature has none.
    pub identity: Option<String>,
    /// The algorithm, `a=`, as the signature has it. None if it can't be read.
    pub algorithm: Option<String>,
    /// The signature, `b=`, in base64 without white space. It may be cut after 64 characters. Empty
    /// if it can't be read.
    pub signature: String,
}

/// The outcome of a DKIM signature (RFC 8601 §2.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DkimOutcome {
    /// The signature verified.
    Pass,
    /// The signature or the body hash is wrong.
    Fail,
    /// The signature is wrong, and the key is there for tests only.
    Neutral,
    /// The signature is not acceptable by a rule of ours.
    Policy,
    /// The signature or its key can't be used.
    PermError,
    /// There is no answer of DNS for now.
    TempError,
}

impl DkimOutcome {
    /// The word in Authentication-Results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Neutral => "neutral",
            Self::Policy => "policy",
            Self::PermError => "permerror",
            Self::TempError => "temperror",
        }
    }
}

/// The result of an ARC chain (RFC 8617 §5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcResult {
    /// The outcome.
    pub outcome: ArcOutcome,
    /// Why the chain did not pass, in words. None for a pass.
    pub reason: Option<String>,
    /// The instance of the oldest message signature that passes; zero if all pass (RFC 8617 §5.2).
    /// None for a chain that does not pass.
    pub oldest_pass: Option<u32>,
    /// The address of the client that sent us the message. It goes into the field of a message that
    /// is sealed (RFC 8617 §10.2).
    pub remote_ip: Option<IpAddr>,
}

/// The outcome of an ARC chain (RFC 8617 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArcOutcome {
    /// There is no chain.
    None,
    /// The chain is whole, and its seals and its newest message signature verified.
    Pass,
    /// The chain is broken, or could not be verified.
    Fail,
}

impl ArcOutcome {
    /// The word in Authentication-Results and in `cv=`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
        }
    }
}
