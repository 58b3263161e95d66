//! The records of a webhook call.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Event, Mail, Outcome, OutgoingEvent, Time, id::ids};

ids! {
    /// A call of a webhook. The number stays the same over all attempts.
    HookId,
}

/// The subject of a webhook call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookKind {
    /// The fate of a sent message.
    Outgoing(OutgoingEvent),
    /// A message came into a mailbox. The call keeps the text alive, so it can be made even when
    /// the message is deleted.
    Incoming(Arc<Mail>),
    /// The fate of a sent message, told in version 1.
    OutgoingV1(RecipientEvent),
}

impl HookKind {
    /// The event of a sent message. None for a received message.
    #[must_use]
    pub const fn outgoing(&self) -> Option<&OutgoingEvent> {
        match self {
            Self::Outgoing(told) | Self::OutgoingV1(RecipientEvent { told, .. }) => Some(told),
            Self::Incoming(_) => None,
        }
    }
}

/// The event of a sent message, with its recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientEvent {
    /// The recipient of the message, in Unicode form.
    pub recipient: String,
    /// The event.
    pub told: OutgoingEvent,
}

/// A call of a webhook that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The number of the call, the same over all attempts.
    pub id: HookId,
    /// The account with the webhook.
    pub account: String,
    /// The URL, as configured when the event was made.
    pub url: String,
    /// The Authorization field, as configured when the event was made; empty: none.
    pub authorization: String,
    /// The content of the call.
    pub kind: HookKind,
    /// When the event was made.
    pub submitted: Time,
    /// How many attempts began.
    pub attempts: u32,
    /// When the next attempt is due.
    pub next_attempt: Time,
    /// Goes up with every claim.
    pub fence: u64,
    /// The result of each attempt, oldest first.
    pub results: Vec<HookAttempt>,
}

/// The result of one attempt at a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookAttempt {
    /// When the attempt began.
    pub start: Time,
    /// How long the attempt took.
    pub duration: Duration,
    /// The receiver answered 2xx.
    pub success: bool,
    /// The HTTP status; 0 without one.
    pub code: u16,
    /// The error; empty on success.
    pub error: String,
    /// The first 512 bytes of the answer.
    pub response: String,
}

/// A webhook call that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredHook {
    /// The call, with all results.
    pub hook: Hook,
    /// The receiver took the call.
    pub success: bool,
    /// When it ended.
    pub last_activity: Time,
    /// When the store removes the record.
    pub keep_until: Time,
}

/// A webhook call to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of Hook"
)]
pub struct NewHook {
    pub account: String,
    pub url: String,
    pub authorization: String,
    pub kind: NewHookKind,
    pub submitted: Time,
    pub next_attempt: Time,
}

/// The subject of a new webhook call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum NewHookKind {
    /// The fate of a sent message.
    Outgoing(OutgoingEvent),
    /// The mail at this index of the same unit's `mails`.
    Incoming(u32),
    /// A mail of an earlier call. Its text must still be stored.
    Again(Box<Mail>),
    /// The fate of a sent message, told in version 1.
    OutgoingV1(RecipientEvent),
}

impl NewHook {
    /// Corrects an event that says that it suppressed the address. The address was suppressed
    /// already, so a recipient who unsubscribed did so before: None.
    pub(crate) fn not_suppressing(mut self) -> Option<Self> {
        if let NewHookKind::Outgoing(told) | NewHookKind::OutgoingV1(RecipientEvent { told, .. }) =
            &mut self.kind
        {
            if told.event == Event::Unsubscribed {
                return None;
            }
            told.suppressing = false;
        }
        Some(self)
    }

    /// The record; None if the mail that the call tells of is missing.
    pub(crate) fn hook(self, id: HookId, mail: Option<Arc<Mail>>) -> Option<Hook> {
        let kind = match self.kind {
            NewHookKind::Outgoing(outgoing) => HookKind::Outgoing(outgoing),
            NewHookKind::OutgoingV1(outgoing) => HookKind::OutgoingV1(outgoing),
            NewHookKind::Incoming(_) => HookKind::Incoming(mail?),
            NewHookKind::Again(mail) => HookKind::Incoming(Arc::from(mail)),
        };
        Some(Hook {
            id,
            account: self.account,
            url: self.url,
            authorization: self.authorization,
            kind,
            submitted: self.submitted,
            attempts: 0,
            next_attempt: self.next_attempt,
            fence: 0,
            results: Vec::new(),
        })
    }
}

/// Which due calls of webhooks are wanted.
#[derive(Clone, Debug)]
pub struct ClaimHooks {
    /// Everything that is due at this time.
    pub now: Time,
    /// At most this many in all.
    pub max: usize,
    /// At most this many of one [lane](crate::hook_lane).
    pub max_per_lane: usize,
    /// No calls of these lanes: their limits are used up.
    pub except: HashSet<String>,
}

/// The calls that a claim gives. There are never two of the same message and URL: the later waits
/// for the end of the earlier.
#[derive(Clone, Debug, Default)]
pub struct ClaimedHooks {
    /// The calls. `attempts` already counts this attempt.
    pub hooks: Vec<Hook>,
    /// As in [`Claimed`](crate::Claimed).
    pub next_due: Option<Time>,
}

/// The result of a claimed call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettleHook {
    /// The call.
    pub id: HookId,
    /// The fence of the claim.
    pub fence: u64,
    /// Added to the results of the call.
    pub attempt: HookAttempt,
    /// The outcome. `Release` gives the call back, as for messages.
    pub outcome: Outcome,
}
