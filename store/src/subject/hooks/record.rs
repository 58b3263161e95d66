//! What the store keeps of a call of a webhook.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Mail, Outcome, OutgoingEvent, Time, id::ids};

ids! {
    /// A call of a webhook. The number stays the same over all attempts.
    HookId,
}

/// What a webhook call is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookKind {
    /// What became of a sent message.
    Outgoing(OutgoingEvent),
    /// A message came into a mailbox. The hook holds the text, so it can be told even when the message is deleted meanwhile.
    Incoming(Arc<Mail>),
}

/// A call of a webhook that is to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The same over all attempts.
    pub id: HookId,
    /// Whose webhook.
    pub account: String,
    /// As configured when the event was made.
    pub url: String,
    /// As configured when the event was made; empty: none.
    pub authorization: String,
    /// What it tells.
    pub kind: HookKind,
    /// When the event was made.
    pub submitted: Time,
    /// Calls begun.
    pub attempts: u32,
    /// When the next call is due.
    pub next_attempt: Time,
    /// Goes up with every claim.
    pub fence: u64,
    /// What came of each call, oldest first.
    pub results: Vec<HookAttempt>,
}

/// The result of one call of a webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookAttempt {
    /// When it began.
    pub start: Time,
    /// How long it took.
    pub duration: Duration,
    /// The receiver answered 2xx.
    pub success: bool,
    /// The HTTP status; 0 without one.
    pub code: u16,
    /// What went wrong; empty on success.
    pub error: String,
    /// The first 512 bytes of the answer.
    pub response: String,
}

/// A webhook call that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredHook {
    /// As it was, with all results.
    pub hook: Hook,
    /// The receiver took it.
    pub success: bool,
    /// When it ended.
    pub last_activity: Time,
    /// When the record goes.
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

/// What a new webhook call is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum NewHookKind {
    /// What became of a sent message.
    Outgoing(OutgoingEvent),
    /// The mail at this index of the same unit's `mails`.
    Incoming(u32),
    /// A mail that was told of before, and whose text is still there.
    Again(Box<Mail>),
}

impl NewHook {
    /// Of an event that says that it put the address on the suppression list: that it did not, as it was there.
    pub(crate) fn not_suppressing(&mut self) {
        if let NewHookKind::Outgoing(outgoing) = &mut self.kind {
            outgoing.suppressing = false;
        }
    }

    /// The record that it becomes; None if the mail that it tells of is missing.
    pub(crate) fn hook(self, id: HookId, mail: Option<Arc<Mail>>) -> Option<Hook> {
        let kind = match self.kind {
            NewHookKind::Outgoing(outgoing) => HookKind::Outgoing(outgoing),
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

/// Which due webhook calls are wanted.
#[derive(Clone, Debug)]
pub struct ClaimHooks {
    /// What is due at this time.
    pub now: Time,
    /// At most this many in all.
    pub max: usize,
    /// At most this many of an account to one URL.
    pub max_per_lane: usize,
    /// None of these [lanes](hook_lane) (their limits are used up).
    pub except: HashSet<String>,
}

/// What a claim of webhook calls gives. Never two of the same message and URL: the later waits for the end of the earlier.
#[derive(Clone, Debug, Default)]
pub struct ClaimedHooks {
    /// The calls. `attempts` already counts this one.
    pub hooks: Vec<Hook>,
    /// As in [`Claimed`].
    pub next_due: Option<Time>,
}

/// What became of a claimed webhook call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettleHook {
    /// The call.
    pub id: HookId,
    /// That of the claim.
    pub fence: u64,
    /// Recorded in its results.
    pub attempt: HookAttempt,
    /// `Release` gives it back, as for messages.
    pub outcome: Outcome,
}
