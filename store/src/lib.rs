//! Everything postrider keeps on disk, and every change to it as one durable value.
//!
//! A [`Store`] is asked in *verbs* ([`Accept`], [`Claim`], [`Settle`], ...): accept, claim, settle, list. Each call is one atomic unit and is answered
//! when it is durable. What lies behind is one of two engines, and nobody above can tell which: the journal with its
//! index ([`Store::open`]), or a model in memory for tests ([`Store::memory`]).
//!
//! What is absent on purpose: policy. The store does not know when a retry is due, what an event says, or whose password
//! is right to be used where; it remembers what it is told. It asks no clock for records: times are passed in.

pub mod disk;
mod engine;
mod error;
mod id;
pub mod journal;
mod memory;
mod message;
mod options;
mod record;
mod store;
#[cfg(test)]
mod tests;
mod text;
pub mod textfile;
mod time;
mod verb;

pub use error::{OpenError, StoreError};
pub use id::{ApiKeyId, EventId, HoldRuleId, HookId, MailId, QueueId, SuppressionId, TextId};
pub use message::{Message, Top};
pub use options::Options;
pub use record::{
    Answered, ApiKey, Arrival, Attempt, Common, Credential, Event, HoldFilter, HoldRule, Hook,
    HookAttempt, HookKind, LoggedEvent, Mail, Notify, OutgoingEvent, Queued, Retired, RetiredHook,
    Scope, Suppression,
};
pub use store::{Counts, Store};
pub use text::{Scratch, Text, TextWriter};
pub use textfile::TextFile;
pub use time::{Clock, ManualClock, Sleep, SystemClock, Time};
pub use verb::{
    Accept, Accepted, Change, Claim, ClaimHooks, Claimed, ClaimedHooks, Counted, Destination,
    EventFilter, Found, HookFilter, MailChange, NewApiKey, NewEvent, NewHook, NewHookKind, NewMail,
    NewMessage, NewRecipient, NewSuppression, NewText, NextAttempt, Note, Once, Order, Outcome,
    Page, Party, QueueFilter, Reference, RetiredFilter, RetiredHookFilter, Sent, Settle,
    SettleHook, TextSource, base_in_list, hook_lane,
};

/// The largest text, in bytes, that goes into the journal; a larger one gets a file of its own.
pub const INLINE_TEXT_MAX: usize = 256 * 1024;
