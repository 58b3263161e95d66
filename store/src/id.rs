//! The numbers by which records are known. Each is one increasing sequence, below 2^53 so that JSON clients can hold it.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )*};
}

ids! {
    /// One recipient's message in the queue, and later in the history: the API's `QueueMsgID`. Consecutive within one
    /// accepted unit.
    QueueId,
    /// A stored message text, shared by all records that refer to it.
    TextId,
    /// A message in a mailbox: the API's `MsgID`.
    MailId,
    /// A call of a webhook, the same over its retries.
    HookId,
    /// An entry of a suppression list.
    SuppressionId,
    /// A hold rule.
    HoldRuleId,
    /// A key for the API.
    ApiKeyId,
    /// An event in an account's log: its time in microseconds since 1970, or one more than the one before.
    EventId,
}
