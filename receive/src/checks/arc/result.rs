//! The result of a chain as plain data.

use std::net::IpAddr;

/// The result of an ARC chain (RFC 8617 §5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArcResult {
    /// The outcome.
    pub outcome: ArcOutcome,
    /// Why the chain did not pass, in words. None for a pass.
    pub reason: Option<String>,
    /// The instance of the oldest message signature that passes with all newer ones; zero if all
    /// pass (RFC 8617 §5.2). None for a chain that does not pass.
    pub oldest_pass: Option<u32>,
    /// The address of the client that sent us the message (RFC 8617 §10.2). The check does not know
    /// it.
    pub remote_ip: Option<IpAddr>,
}

impl ArcResult {
    pub(crate) const fn new(outcome: ArcOutcome, reason: Option<String>) -> Self {
        Self {
            outcome,
            reason,
            oldest_pass: None,
            remote_ip: None,
        }
    }
}

/// The outcome of an ARC chain (RFC 8617 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArcOutcome {
    /// There is no chain.
    None,
    /// The chain is whole, and its seals and its newest message signature verified.
    Pass,
    /// The chain is broken.
    Fail,
    /// DNS has no answer about a key for now.
    TempError,
}

impl ArcOutcome {
    /// The word in Authentication-Results and in `cv=`. ARC has no word for a chain without an
    /// answer of DNS: it counts as broken (RFC 8617 §5.2.2).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail | Self::TempError => "fail",
        }
    }
}
