//! The result of one signature as plain data.

use postrider_smtp::Domain;

/// The result of one DKIM signature (RFC 6376 §6, RFC 8601 §2.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimResult {
    /// The outcome. Only a pass counts.
    pub outcome: DkimOutcome,
    /// Why the signature did not pass, in words. None for a pass.
    pub reason: Option<String>,
    /// The domain that signed, `d=`. None if it can't be read.
    pub domain: Option<Domain>,
    /// The selector, `s=`. None if it can't be read.
    pub selector: Option<String>,
    /// The identity, `i=`, as the signature has it. None if it has none.
    pub identity: Option<String>,
    /// The algorithm, `a=`, as the signature has it. None if it can't be read.
    pub algorithm: Option<String>,
    /// The first 64 characters of `b=`, without white space. Empty if it can't be read.
    pub signature: String,
    /// The signature is right, and its key is for reports about TLS (RFC 8460 §3). Such a key need
    /// not be for mail.
    pub for_tls_reports: bool,
}

/// The outcome of a DKIM signature (RFC 8601 §2.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DkimOutcome {
    /// The signature verified.
    Pass,
    /// The signature or the body hash is wrong.
    Fail,
    /// The signature is wrong, and its domain only tests its key.
    Neutral,
    /// A rule of ours does not accept the signature.
    Policy,
    /// The signature or its key can't be used.
    PermError,
    /// DNS does not answer for now.
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
