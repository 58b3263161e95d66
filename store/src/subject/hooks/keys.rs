//! Keys that are derived from calls. They are part of the stored format: whoever changes one raises [`VERSION`].

use super::{Hook, HookKind};
use crate::{QueueId, table::key::Name};

/// The version of these keys.
pub(crate) const VERSION: u8 = 1;

/// What calls have in common that are made one after another, or only so many at once: the account and the URL.
#[must_use]
pub fn hook_lane(account: &str, url: &str) -> String {
    // Neither can have a line end.
    format!("{account}\n{url}")
}


impl Hook {
    /// The lane of the call: see [`hook_lane`].
    pub(crate) fn lane(&self) -> String {
        hook_lane(&self.account, &self.url)
    }

    /// The chain of the call: the message that it tells of, and the URL. Calls of one chain are made one after the other.
    /// None if the call may be made at any time.
    pub(crate) fn chain(&self) -> Option<(QueueId, Name)> {
        match &self.kind {
            HookKind::Outgoing(outgoing) => Some((outgoing.queue_id, self.url.as_str().into())),
            HookKind::Incoming(_) => None,
        }
    }
}
