//! Why a signature does not pass.

use super::{result::DkimOutcome, tags::TagFault};

/// Why a signature of DKIM or ARC does not pass. Its text is for the `reason` in
/// Authentication-Results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The field is no tag list.
    #[error("the signature can't be read: {0}")]
    Tags(#[from] TagFault),
    /// A tag that has to be there is not.
    #[error("the signature has no {0}=")]
    Missing(&'static str),
    /// The value of a tag can't be read, or means nothing.
    #[error("the signature has a bad {0}=")]
    Bad(&'static str),
    /// RFC 8301 §3.1 forbids this algorithm.
    #[error("rsa-sha1 is not secure")]
    Sha1,
    /// The From field is not covered (RFC 6376 §5.4).
    #[error("From is not signed")]
    FromNotSigned,
    /// The signature was valid until `x=`.
    #[error("the signature has expired")]
    Expired,
    /// `x=` is before `t=`.
    #[error("the signature expires before its own time")]
    ExpiresTooEarly,
    /// `t=` is ahead of our clock.
    #[error("the signature is from the future")]
    Future,
    /// `i=` is not in `d=`, or not exactly `d=` where the key demands that.
    #[error("i= is not in d=")]
    IdentityOutside,
    /// `d=` belongs to many organisations, such as `co.uk`.
    #[error("d= is a public suffix")]
    PublicSuffix,
    /// `l=` covers a part of the body only.
    #[error("l= leaves the end of the body open")]
    Length,
    /// The message has a Subject field, and anybody can change it.
    #[error("Subject is not signed")]
    SubjectNotSigned,
    /// `h=` has too many names.
    #[error("too many names in h=")]
    TooManyNames,
    /// The header section has too many fields.
    #[error("too many header fields")]
    TooManyFields,
    /// The message has too many signatures.
    #[error("too many signatures")]
    TooManySignatures,
    /// DNS does not answer for now.
    #[error("no answer of DNS about the key")]
    NoAnswer,
    /// There is no key of this name.
    #[error("no key")]
    NoKey,
    /// There are several keys of this name, and nobody says which is meant (RFC 6376 §3.6.2.2).
    #[error("several keys")]
    SeveralKeys,
    /// The key has been withdrawn (an empty `p=`).
    #[error("the key is revoked")]
    Revoked,
    /// The record of the key can't be read.
    #[error("the key can't be read")]
    KeySyntax,
    /// The key is for another version than DKIM1.
    #[error("the key has an unknown version")]
    KeyVersion,
    /// The type of the key is unknown, or does not fit the algorithm of the signature.
    #[error("the key has another type")]
    KeyType,
    /// The key is not for SHA-256.
    #[error("the key is not for this hash")]
    KeyHash,
    /// The key is not for mail.
    #[error("the key is not for mail")]
    KeyService,
    /// The key has less than 1024 bits (RFC 8301 §3.2).
    #[error("the key is too short")]
    KeyTooShort,
    /// The key has more than 4096 bits, so its check costs too much.
    #[error("the key is too long")]
    KeyTooLong,
    /// The body is another than the signed one.
    #[error("body hash did not verify")]
    BodyHash,
    /// The header is another than the signed one, or another key signed.
    #[error("signature did not verify")]
    Signature,
    /// The body was not hashed in the form that this signature needs.
    #[error("the body was not read")]
    BodyNotRead,
}

impl SignatureFault {
    /// The outcome of a DKIM signature with this fault.
    #[must_use]
    pub const fn outcome(self) -> DkimOutcome {
        match self {
            Self::BodyHash | Self::Signature => DkimOutcome::Fail,
            Self::NoAnswer | Self::BodyNotRead => DkimOutcome::TempError,
            Self::Length
            | Self::SubjectNotSigned
            | Self::TooManyNames
            | Self::TooManyFields
            | Self::TooManySignatures
            | Self::KeyTooLong => DkimOutcome::Policy,
            _ => DkimOutcome::PermError,
        }
    }
}
