//! Values of the index: a byte that says in which version they are, then their postcard encoding.
//!
//! A type that changes gets a new version, and a branch that reads the old one.

use serde::{Deserialize, Serialize};

use crate::{
    Answered, ApiKey, Credential, HoldRule, Hook, HookId, LoggedEvent, Mail, QueueId, Queued,
    Retired, RetiredHook, Sent, Suppression, SuppressionId, TextId, Time, journal::BodyPlace,
    textfile::TextFilePlace,
};

/// What a table holds.
pub(super) trait Value: Clone + Send + Sync + 'static {
    /// Appends its bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// The value of these bytes; None if they are not of such a value, or of a later version.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// For tables of which only the keys count.
impl Value for () {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

/// Appends the postcard encoding.
pub(super) fn append(value: &impl Serialize, out: &mut Vec<u8>) {
    let buffer = std::mem::take(out);
    // Writing to memory fails only for types that postcard has no form for, of which there are none here.
    *out = postcard::to_extend(value, buffer).unwrap_or_default();
}

macro_rules! values {
    ($($value:ty,)*) => {$(
        impl Value for $value {
            fn encode(&self, out: &mut Vec<u8>) {
                out.push(1);
                append(self, out);
            }

            fn decode(bytes: &[u8]) -> Option<Self> {
                match bytes.split_first()? {
                    (1, value) => postcard::from_bytes(value).ok(),
                    _ => None,
                }
            }
        }
    )*};
}

values! {
    Queued,
    Retired,
    Hook,
    RetiredHook,
    Mail,
    Credential,
    Suppression,
    SuppressionId,
    HoldRule,
    Claimed,
    Stored,
    Segment,
    (Time, QueueId),
    (Time, HookId),
    Sent,
    ApiKey,
    Answered,
    (String, String),
    LoggedEvent,
    u64,
}

/// A message that is being attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claimed {
    /// When the attempt before began.
    pub(super) last_attempt: Option<Time>,
}

/// A text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) place: Place,
    /// Records that refer to it.
    pub(super) refs: u64,
}

/// Where a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    /// Nowhere: it has no bytes.
    Empty,
    Journal(BodyPlace),
    File(TextFilePlace),
}

impl Place {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Journal(place) => u64::from(place.len),
            Self::File(place) => place.len,
        }
    }
}

/// What of a journal segment is alive. A segment without living texts has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// Bytes of living texts.
    pub(super) bytes: u64,
    /// Living texts.
    pub(super) texts: u64,
    /// The texts in it are among those from here ...
    pub(super) first: TextId,
    /// ... to here.
    pub(super) last: TextId,
}
