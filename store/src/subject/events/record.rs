//! The records of events, and the filter of listed events.

use std::collections::BTreeMap;

use postrider_smtp::EnhancedCode;
use serde::{Deserialize, Serialize};

use super::keys::{day, event_group};
use crate::{QueueId, Time, id::ids};

ids! {
    /// An event in an account's log. The number is the event's time in microseconds since 1970, or
    /// one more than that of the event before.
    EventId,
}

/// The events of outgoing webhooks, as in the v0 contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Event {
    /// The next hop accepted the message, or a DSN says so.
    Delivered,
    /// The recipient is on the suppression list.
    Suppressed,
    /// An attempt failed and another is planned.
    Delayed,
    /// The delivery failed for good.
    Failed,
    /// A DSN says that a host without DSN support took the message.
    Relayed,
    /// A DSN says that the message went to several recipients.
    Expanded,
    /// An administrator dropped the message.
    Canceled,
    /// A mail came to the fromid address that is not a usable DSN.
    Unrecognized,
    /// The recipient unsubscribed from a mailing list. Version 0 of the webhooks does not have this
    /// event.
    Unsubscribed,
    /// The recipient complained. Version 0 of the webhooks does not have this event either.
    Complained,
    /// The recipient opened a tracked message. Version 0 of the webhooks does not have this event.
    Opened,
    /// The recipient followed a tracked link. Version 0 of the webhooks does not have this event.
    Clicked,
}

impl Event {
    /// All events: those of the contract in its order, then the others.
    pub const ALL: [Self; 12] = [
        Self::Delivered,
        Self::Suppressed,
        Self::Delayed,
        Self::Failed,
        Self::Relayed,
        Self::Expanded,
        Self::Canceled,
        Self::Unrecognized,
        Self::Unsubscribed,
        Self::Complained,
        Self::Opened,
        Self::Clicked,
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
            Self::Complained => "complained",
            Self::Opened => "opened",
            Self::Clicked => "clicked",
        }
    }

    /// The event with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.name() == name)
    }
}

/// The event of a sent message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingEvent {
    /// The kind of the event.
    pub event: Event,
    /// The event comes from an incoming DSN.
    pub dsn: bool,
    /// This failure put the address on the suppression list.
    pub suppressing: bool,
    /// The message.
    pub queue_id: QueueId,
    /// The fromid of the message; empty when not used.
    pub from_id: String,
    /// The Message-ID of the message with `<` and `>`.
    pub message_id: String,
    /// The subject of the message.
    pub subject: String,
    /// When the event was made.
    pub queued: Time,
    /// The SMTP code of an error; 0 without one.
    pub code: u16,
    /// The enhanced code of an error.
    pub enhanced: Option<EnhancedCode>,
    /// The text of an error; empty without one.
    pub error: String,
    /// The application's own data, as submitted.
    pub extra: BTreeMap<String, String>,
}

/// An event in the log of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// The number of the record.
    pub id: EventId,
    /// The account.
    pub account: String,
    /// The recipient of the message, in Unicode form.
    pub recipient: String,
    /// The kind of the event.
    pub told: OutgoingEvent,
    /// When the store removes the record.
    pub keep_until: Time,
}

/// An event for the log of an account. The fields are those of [`LoggedEvent`].
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

/// By what the store counts events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Counted {
    /// Days since 1970, in UTC.
    pub day: u64,
    /// The account.
    pub account: String,
    /// The kind of event.
    pub event: Event,
    /// The recipients' domain, in Unicode form.
    pub domain: String,
}

/// Which events are listed. Given fields must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    /// The account; None: all accounts.
    pub account: Option<String>,
    /// Events of these kinds; empty: any.
    pub events: Vec<Event>,
    /// Events of messages to this recipient, in Unicode form.
    pub recipient: Option<String>,
    /// Events of messages with this Message-ID.
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
        self.account
            .as_ref()
            .is_none_or(|account| *account == event.account)
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

    /// The smallest group with all events that match. None: events of any group match.
    pub(crate) fn group(&self) -> Option<String> {
        let account = self.account.as_ref()?;
        Some(match (&self.message_id, &self.recipient) {
            (Some(id), _) => event_group('m', account, id),
            (None, Some(recipient)) => event_group('r', account, recipient),
            (None, None) => event_group('a', account, ""),
        })
    }
}

impl NewEvent {
    /// The event when the suppressions of its unit were there already. It does not say that it
    /// suppressed the address. An event of somebody who unsubscribed again is left out.
    pub(crate) fn not_suppressing(mut self) -> Option<Self> {
        self.told.suppressing = false;
        (self.told.event != Event::Unsubscribed).then_some(self)
    }

    /// The record with this number.
    pub(crate) fn event(self, id: EventId) -> LoggedEvent {
        LoggedEvent {
            id,
            account: self.account,
            recipient: self.recipient,
            told: self.told,
            keep_until: self.keep_until,
        }
    }

    /// The number of the event when this is the last number.
    pub(crate) fn number(&self, last: u64) -> u64 {
        last.saturating_add(1)
            .max(self.told.queued.0.max(0).cast_unsigned())
    }

    /// The row that counts the event.
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
