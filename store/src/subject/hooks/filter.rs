//! Which calls of webhooks are listed or changed.

use serde::{Deserialize, Serialize};

use super::{Hook, HookId, RetiredHook};
use crate::{
    QueueId, Time,
    filter::{is_among, is_between},
};

/// Which webhook calls to be made are listed or changed. An empty filter matches all; given fields
/// must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookFilter {
    /// One of these numbers; empty: any.
    pub ids: Vec<HookId>,
    /// Of this account.
    pub account: Option<String>,
    /// The name of an event, or `incoming`.
    pub event: Option<String>,
    /// Of events of this message.
    pub message: Option<QueueId>,
    /// Made before this time.
    pub submitted_before: Option<Time>,
    /// Made after this time.
    pub submitted_after: Option<Time>,
    /// Next call before this time.
    pub next_attempt_before: Option<Time>,
    /// Next call after this time.
    pub next_attempt_after: Option<Time>,
    /// An attempt failed (true), or none did (false).
    pub failed: Option<bool>,
}

impl HookFilter {
    /// Whether it matches a call.
    #[must_use]
    pub fn matches(&self, hook: &Hook) -> bool {
        is_among(&self.ids, hook.id) && self.matches_but_for_ids(hook)
    }

    /// Whether a call matches, when its number is known to be wanted.
    pub(crate) fn matches_but_for_ids(&self, hook: &Hook) -> bool {
        let (account, event) = (self.account.as_ref(), self.event.as_ref());
        is_of(hook, account, event, self.message)
            && is_between(hook.submitted, self.submitted_after, self.submitted_before)
            && is_between(
                hook.next_attempt,
                self.next_attempt_after,
                self.next_attempt_before,
            )
            && self
                .failed
                .is_none_or(|failed| failed != hook.results.is_empty())
    }
}

/// Which webhook calls of the history are listed. An empty filter matches all; given fields must
/// all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetiredHookFilter {
    /// One of these numbers; empty: any.
    pub ids: Vec<HookId>,
    /// Of this account.
    pub account: Option<String>,
    /// The name of an event, or `incoming`.
    pub event: Option<String>,
    /// Of events of this message.
    pub message: Option<QueueId>,
    /// The receiver took it, or not.
    pub success: Option<bool>,
    /// Made before this time.
    pub submitted_before: Option<Time>,
    /// Made after this time.
    pub submitted_after: Option<Time>,
    /// Ended before this time.
    pub last_activity_before: Option<Time>,
    /// Ended after this time.
    pub last_activity_after: Option<Time>,
}

impl RetiredHookFilter {
    /// Whether it matches a call.
    #[must_use]
    pub fn matches(&self, retired: &RetiredHook) -> bool {
        is_among(&self.ids, retired.hook.id) && self.matches_but_for_ids(retired)
    }

    /// Whether a call matches, when its number is known to be wanted.
    pub(crate) fn matches_but_for_ids(&self, retired: &RetiredHook) -> bool {
        let hook = &retired.hook;
        let (account, event) = (self.account.as_ref(), self.event.as_ref());
        is_of(hook, account, event, self.message)
            && self
                .success
                .is_none_or(|success| success == retired.success)
            && is_between(hook.submitted, self.submitted_after, self.submitted_before)
            && is_between(
                retired.last_activity,
                self.last_activity_after,
                self.last_activity_before,
            )
    }
}

fn is_of(
    hook: &Hook,
    account: Option<&String>,
    event: Option<&String>,
    message: Option<QueueId>,
) -> bool {
    let (name, about) = match hook.kind.outgoing() {
        Some(outgoing) => (outgoing.event.name(), Some(outgoing.queue_id)),
        None => ("incoming", None),
    };
    account.is_none_or(|account| *account == hook.account)
        && event.is_none_or(|event| event == name)
        && (message.is_none() || message == about)
}
