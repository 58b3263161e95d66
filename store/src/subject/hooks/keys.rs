//! Keys that are derived from calls. They are part of the stored format: whoever changes one raises
//! [`VERSION`].

use super::Hook;
use crate::{QueueId, table::key::Name};

/// The version of these keys.
pub(crate) const VERSION: u8 = 1;

/// The lane of calls: the account and the URL. Only so many calls of a lane are made at once.
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

    /// The chain of the call: the message that it tells of, and the URL. Calls of one chain are
    /// made one after the other. None if the call may be made at any time: it tells of no sent
    /// message.
    pub(crate) fn chain(&self) -> Option<(QueueId, Name)> {
        let outgoing = self.kind.outgoing()?;
        let is_of_message = outgoing.queue_id != QueueId(0);
        is_of_message.then(|| (outgoing.queue_id, self.url.as_str().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Event, HookId,
        table::key::Key,
        tests::samples::{at, event, hook},
    };

    /// These are stored keys: other forms need another [`VERSION`].
    #[test]
    fn lanes_and_chains_are_fixed() {
        assert_eq!(VERSION, 1);
        let kind = event(Event::Delivered, QueueId(7));
        let hook = hook("http://h/", kind, at(1))
            .hook(HookId(9), None)
            .unwrap();
        assert_eq!(hook.lane(), "ann\nhttp://h/");
        let (message, url) = hook.chain().unwrap();
        let mut bytes = Vec::new();
        (message, url, hook.id).encode(&mut bytes);
        assert_eq!(bytes, b"\0\0\0\0\0\0\0\x07http://h/\0\0\0\0\0\0\0\0\0\x09");
    }
}
