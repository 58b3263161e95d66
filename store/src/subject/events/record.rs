//! What the store keeps of events, and which events are listed.

use std::collections::BTreeMap;

use postrider_smtp::EnhancedCode;
use serde::{Deserialize, Serialize};

use super::keys::{day, event_group};
use crate::{QueueId, Time, id::ids};

ids! {
    /// An event in an account's log. The number is the event's time in microseconds since 1970, or one more than that of the event
    /// before.
    EventId,
}

/// What an outgoing webhook tells of (the v0 contract's events).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Event {
    /// The next hop accepted it, or a DSN says so.
    Delivered,
    /// The recipient is on the suppression list.
    Suppressed,
    /// An attempt failed and another is planned.
    Delayed,
    /// It failed for good.
    Failed,
    /// A DSN says that a host without DSN support took it.
    Relayed,
    /// A DSN says that it went to several recipients.
    Expanded,
    /// An administrator dropped it.
    Canceled,
    /// A mail to the fromid address that is not a usable DSN.
    Unrecognized,
    /// The recipient unsubscribed from a mailing list. In the log only: the contract of webhooks has none of it.
    Unsubscribed,
}

impl Event {
    /// All, in the order of the contract, and what it does not have behind it.
    pub const ALL: [Self; 9] = [
        Self::Delivered,
        Self::Suppressed,
        Self::Delayed,
        Self::Failed,
        Self::Relayed,
        Self::Expanded,
        Self::Canceled,
        Self::Unrecognized,
        Self::Unsubscribed,
    ];

    /// The name on the wire and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Suppressed => "suppressed",
            Self::Delayed => "delayed",
            Self::Failed => "failed",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
            Self::Canceled => "canceled",
            Self::Unrecognized => "unrecognized",
            Self::Unsubscribed => "unsubscribed",
        }
    }

    /// The event of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// What happened to a sent message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingEvent {
    /// What happened.
    pub event: Event,
    /// It came from an incoming DSN.
    pub dsn: bool,
    /// This failure put the address on the suppression list.
    pub suppressing: bool,
    /// The message.
    pub queue_id: QueueId,
    /// Its fromid; empty when not used.
    pub from_id: String,
    /// Its Message-ID with `<` and `>`.
    pub message_id: String,
    /// Its subject.
    pub subject: String,
    /// When the event was made.
    pub queued: Time,
    /// The SMTP code of an error; 0 without one.
    pub code: u16,
    /// The enhanced code of an error.
    pub enhanced: Option<EnhancedCode>,
    /// The text of an error; empty without one.
    pub error: String,
    /// As submitted.
    pub extra: BTreeMap<String, String>,
}

/// An event in the log of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Its number.
    pub id: EventId,
    /// Whose.
    pub account: String,
    /// To whom the message was, in Unicode form.
    pub recipient: String,
    /// What happened.
    pub told: OutgoingEvent,
    /// When the record goes.
    pub keep_until: Time,
}

/// An event for the log of an account. The fields are those of [`LoggedEvent`](crate::LoggedEvent).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of LoggedEvent"
)]
pub struct NewEvent {
    pub account: String,
    pub recipient: String,
    pub told: OutgoingEvent,
    pub keep_until: Time,
}

/// What events are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counted {
    /// Days since 1970, in UTC.
    pub day: u64,
    /// Whose.
    pub account: String,
    /// Of which kind.
    pub event: Event,
    /// The recipients' domain, in Unicode form.
    pub domain: String,
}

/// Which events of an account's log are listed. Given fields must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Whose.
    pub account: String,
    /// Of these kinds; empty: any.
    pub events: Vec<Event>,
    /// About messages to this recipient, in Unicode form.
    pub recipient: Option<String>,
    /// About messages with this Message-ID.
    pub message_id: Option<String>,
    /// Made at this time or later.
    pub since: Option<Time>,
    /// Made before this time.
    pub before: Option<Time>,
}

impl EventFilter {
    /// Whether it matches an event.
    #[must_use]
    pub fn matches(&self, event: &LoggedEvent) -> bool {
        let told = &event.told;
        event.account == self.account
            && (self.events.is_empty() || self.events.contains(&told.event))
            && self
                .recipient
                .as_ref()
                .is_none_or(|recipient| *recipient == event.recipient)
            && self
                .message_id
                .as_ref()
                .is_none_or(|id| *id == told.message_id)
            && self.since.is_none_or(|since| told.queued >= since)
            && self.before.is_none_or(|before| told.queued < before)
    }

    /// The events that are looked at for it.
    pub(crate) fn group(&self) -> String {
        match (&self.message_id, &self.recipient) {
            (Some(id), _) => event_group('m', &self.account, id),
            (None, Some(recipient)) => event_group('r', &self.account, recipient),
            (None, None) => event_group('a', &self.account, ""),
        }
    }
}

impl NewEvent {
    /// What is told when the suppressions that came with it were there already: not that it was this one that suppressed, and
    /// nothing of one who unsubscribed again.
    pub(crate) fn not_suppressing(mut self) -> Option<Self> {
        self.told.suppressing = false;
        (self.told.event != Event::Unsubscribed).then_some(self)
    }

    /// The record that it becomes.
    pub(crate) fn event(self, id: EventId) -> LoggedEvent {
        LoggedEvent {
            id,
            account: self.account,
            recipient: self.recipient,
            told: self.told,
            keep_until: self.keep_until,
        }
    }

    /// The number that it gets behind this one.
    pub(crate) fn number(&self, last: u64) -> u64 {
        last.saturating_add(1)
            .max(self.told.queued.0.max(0).cast_unsigned())
    }

    /// Where it is counted.
    pub(crate) fn counted_as(&self) -> Counted {
        Counted {
            day: day(self.told.queued),
            account: self.account.clone(),
            event: self.told.event,
            domain: self
                .recipient
                .rsplit_once('@')
                .map_or("", |(_, domain)| domain)
                .to_owned(),
        }
    }
}
