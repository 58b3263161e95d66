//! The results of the checks as plain data, and the Authentication-Results field with them.
//!
//! | module | what it has |
//! |---|---|
//! | here | all results of a message together |
//! | `field` | the Authentication-Results field (RFC 8601) |
//! | `forged` | the fields of a message that pretend to be ours |
//!
//! The result of each check stands in its own module.

mod field;
mod forged;
#[cfg(test)]
mod tests;

pub use self::forged::without_forged;
use super::{
    arc::ArcResult, dkim::DkimResult, dmarc::DmarcResult, iprev::IprevResult, spf::SpfResult,
};

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
