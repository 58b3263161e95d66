//! Which messages an administrator lists or changes, and what is changed of them.

use std::sync::Arc;

use postrider_smtp::{Address, Domain};
use serde::{Deserialize, Serialize};

use super::{QueueId, Queued, Retired, keys::Group};
use crate::{
    Time,
    filter::{is, is_among, is_between},
};

/// Which queued messages are listed. An empty filter matches all; given fields must all match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueFilter {
    /// One of these numbers; empty: any.
    pub ids: Vec<QueueId>,
    /// Of this account.
    pub account: Option<String>,
    /// The reverse-path, in its Unicode form, has this substring. `@example.com` asks for a domain.
    pub from: Option<String>,
    /// The recipient, in its Unicode form, has this substring.
    pub to: Option<String>,
    /// With this Message-ID, with `<` and `>`.
    pub message_id: Option<String>,
    /// The subject has this substring, in any case.
    pub subject: Option<String>,
    /// Held, or not.
    pub hold: Option<bool>,
    /// Forced to this transport.
    pub transport: Option<String>,
    /// Queued before this time.
    pub submitted_before: Option<Time>,
    /// Queued after this time.
    pub submitted_after: Option<Time>,
    /// Next attempt before this time.
    pub next_attempt_before: Option<Time>,
    /// Next attempt after this time.
    pub next_attempt_after: Option<Time>,
}

/// Which messages of the history are listed. An empty filter matches all; given fields must all
/// match.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RetiredFilter {
    /// One of these numbers; empty: any.
    pub ids: Vec<QueueId>,
    /// Of this account.
    pub account: Option<String>,
    /// The reverse-path, in its Unicode form, has this substring. `@example.com` asks for a domain.
    pub from: Option<String>,
    /// The recipient, in its Unicode form, has this substring.
    pub to: Option<String>,
    /// To exactly this recipient, in its Unicode form.
    pub recipient: Option<String>,
    /// With this Message-ID, with `<` and `>`.
    pub message_id: Option<String>,
    /// The subject has this substring, in any case.
    pub subject: Option<String>,
    /// Forced to this transport.
    pub transport: Option<String>,
    /// The next hop accepted it, or not.
    pub success: Option<bool>,
    /// Queued before this time.
    pub submitted_before: Option<Time>,
    /// Queued after this time.
    pub submitted_after: Option<Time>,
    /// Last activity before this time.
    pub last_activity_before: Option<Time>,
    /// Last activity after this time.
    pub last_activity_after: Option<Time>,
}

/// The change of an administrator to queued messages. None leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Change {
    /// Held or not.
    pub hold: Option<bool>,
    /// The time of the next attempt.
    pub next_attempt: Option<NextAttempt>,
    /// Forced transport; empty: by routes.
    pub transport: Option<String>,
    /// As [`Common::require_tls`](super::Common::require_tls).
    pub require_tls: Option<Option<bool>>,
}

/// A new time for the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextAttempt {
    /// At this time.
    At(Time),
    /// Later by this many microseconds; earlier if negative.
    Shift(i64),
}

impl NextAttempt {
    /// The time of the next attempt of a message that was due at `before`.
    #[must_use]
    pub const fn instead_of(self, before: Time) -> Time {
        match self {
            Self::At(time) => time,
            Self::Shift(micros) => Time(before.0.saturating_add(micros)),
        }
    }
}

impl Change {
    /// Makes the change at `now`.
    pub(crate) fn apply(&self, queued: &mut Queued, now: Time) {
        if let Some(hold) = self.hold {
            queued.set_hold(hold, now);
        }
        if let Some(next) = self.next_attempt {
            queued.set_next_attempt(next.instead_of(queued.next_attempt));
        }
        if let Some(transport) = &self.transport {
            queued.transport.clone_from(transport);
        }
        if let Some(require_tls) = self.require_tls {
            Arc::make_mut(&mut queued.common).require_tls = require_tls;
        }
    }
}

impl QueueFilter {
    /// Whether a message matches.
    #[must_use]
    pub fn matches(&self, queued: &Queued) -> bool {
        is_among(&self.ids, queued.id) && self.matches_but_for_ids(queued)
    }

    /// Whether a message matches, when its number is known to be wanted.
    pub(crate) fn matches_but_for_ids(&self, queued: &Queued) -> bool {
        let (account, transport) = (self.account.as_ref(), self.transport.as_ref());
        is_sent(queued, account, transport)
            && is_from_to(queued, self.from.as_ref(), self.to.as_ref())
            && is_called(queued, self.message_id.as_ref(), self.subject.as_ref())
            && is(self.hold.as_ref(), |hold| queued.hold == *hold)
            && is_between(
                queued.common.queued,
                self.submitted_after,
                self.submitted_before,
            )
            && is_between(
                queued.next_attempt,
                self.next_attempt_after,
                self.next_attempt_before,
            )
    }

    /// The smallest group with all messages that match. None: only the table of all messages has
    /// them.
    pub(crate) fn group(&self) -> Option<Group> {
        in_domain(self.to.as_ref(), Group::ToDomain)
            .or_else(|| in_domain(self.from.as_ref(), Group::FromDomain))
            .or_else(|| self.hold?.then_some(Group::Held))
            .or_else(|| forced_to(self.transport.as_ref()))
            .or_else(|| self.account.clone().map(Group::Account))
    }

    /// The part of the filter that an index answers: the messages that the store reads to find
    /// those that match.
    #[must_use]
    pub fn indexed(&self) -> Self {
        let mut only = Self {
            ids: self.ids.clone(),
            message_id: self.message_id.clone(),
            ..Self::default()
        };
        match self.group() {
            Some(Group::ToDomain(_)) => only.to.clone_from(&self.to),
            Some(Group::FromDomain(_)) => only.from.clone_from(&self.from),
            Some(Group::Held) => only.hold = self.hold,
            Some(Group::Transport(_)) => only.transport.clone_from(&self.transport),
            Some(Group::Account(_)) => only.account.clone_from(&self.account),
            Some(Group::Recipient(_) | Group::Failed) | None => {}
        }
        only
    }
}

impl RetiredFilter {
    /// Whether a message matches.
    #[must_use]
    pub fn matches(&self, retired: &Retired) -> bool {
        is_among(&self.ids, retired.message.id) && self.matches_but_for_ids(retired)
    }

    /// Whether a message matches, when its number is known to be wanted.
    pub(crate) fn matches_but_for_ids(&self, retired: &Retired) -> bool {
        let message = &retired.message;
        let (account, transport) = (self.account.as_ref(), self.transport.as_ref());
        is_sent(message, account, transport)
            && is(self.success.as_ref(), |success| retired.success == *success)
            && is_between(
                message.common.queued,
                self.submitted_after,
                self.submitted_before,
            )
            && is_between(
                retired.last_activity,
                self.last_activity_after,
                self.last_activity_before,
            )
            && is(self.recipient.as_ref(), |recipient| {
                message.recipient.unicode() == *recipient
            })
            && is_from_to(message, self.from.as_ref(), self.to.as_ref())
            && is_called(message, self.message_id.as_ref(), self.subject.as_ref())
    }

    /// The smallest group with all messages that match.
    pub(crate) fn group(&self) -> Option<Group> {
        self.recipient
            .clone()
            .map(Group::Recipient)
            .or_else(|| in_domain(self.to.as_ref(), Group::ToDomain))
            .or_else(|| in_domain(self.from.as_ref(), Group::FromDomain))
            .or_else(|| forced_to(self.transport.as_ref()))
            .or_else(|| (self.success == Some(false)).then_some(Group::Failed))
            .or_else(|| self.account.clone().map(Group::Account))
    }

    /// The part of the filter that an index answers: the messages that the store reads to find
    /// those that match.
    #[must_use]
    pub fn indexed(&self) -> Self {
        let mut only = Self {
            ids: self.ids.clone(),
            message_id: self.message_id.clone(),
            ..Self::default()
        };
        match self.group() {
            Some(Group::Recipient(_)) => only.recipient.clone_from(&self.recipient),
            Some(Group::ToDomain(_)) => only.to.clone_from(&self.to),
            Some(Group::FromDomain(_)) => only.from.clone_from(&self.from),
            Some(Group::Transport(_)) => only.transport.clone_from(&self.transport),
            Some(Group::Failed) => only.success = self.success,
            Some(Group::Account(_)) => only.account.clone_from(&self.account),
            Some(Group::Held) | None => {}
        }
        only
    }
}

/// The group of a pattern that asks for a whole domain.
fn in_domain(pattern: Option<&String>, group: fn(String) -> Group) -> Option<Group> {
    let domain: Domain = pattern?.strip_prefix('@')?.parse().ok()?;
    Some(group(domain.ascii().to_owned()))
}

fn forced_to(transport: Option<&String>) -> Option<Group> {
    transport
        .filter(|transport| !transport.is_empty())
        .cloned()
        .map(Group::Transport)
}

fn is_sent(message: &Queued, account: Option<&String>, transport: Option<&String>) -> bool {
    is(account, |account| message.common.account == *account)
        && is(transport, |transport| message.transport == *transport)
}

fn is_from_to(message: &Queued, from: Option<&String>, to: Option<&String>) -> bool {
    is(from, |from| {
        address_matches(message.reverse_path.address(), from)
    }) && is(to, |to| address_matches(Some(&message.recipient), to))
}

fn is_called(message: &Queued, message_id: Option<&String>, subject: Option<&String>) -> bool {
    is(message_id, |id| message.common.message_id == *id)
        && is(subject, |part| {
            let subject = message.common.subject.to_lowercase();
            subject.contains(&part.to_lowercase())
        })
}

fn address_matches(address: Option<&Address>, part: &str) -> bool {
    let text = address.map(Address::unicode).unwrap_or_default();
    if part.starts_with('@') {
        text.ends_with(part)
    } else {
        text.contains(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indexed_part_is_one_that_an_index_answers() {
        let text = |text: &str| Some(text.to_owned());
        let filter = QueueFilter {
            ids: vec![QueueId(7)],
            account: text("app"),
            from: text("@from.example"),
            to: text("@to.example"),
            message_id: text("<1@from.example>"),
            subject: text("Hello"),
            hold: Some(true),
            transport: text("slow"),
            submitted_before: Some(Time(1)),
            ..QueueFilter::default()
        };
        let none = QueueFilter {
            ids: filter.ids.clone(),
            message_id: filter.message_id.clone(),
            ..QueueFilter::default()
        };
        // Each time, what is indexed is taken away, and the next index serves.
        let mut rest = filter.clone();
        rest.to = text("part@7");
        let (to, from) = (filter.to.clone(), filter.from.clone());
        let by = |change: fn(&mut QueueFilter, &QueueFilter)| {
            let mut only = none.clone();
            change(&mut only, &filter);
            only
        };
        assert_eq!(
            filter.indexed(),
            by(|only, all| only.to.clone_from(&all.to))
        );
        assert_eq!(
            rest.indexed(),
            by(|only, all| only.from.clone_from(&all.from))
        );
        // No domain is called so, therefore no group is.
        (rest.to, rest.from) = (text("@7"), text("from"));
        assert_eq!(rest.indexed(), by(|only, all| only.hold = all.hold));
        rest.hold = Some(false);
        let transport = by(|only, all| only.transport.clone_from(&all.transport));
        assert_eq!(rest.indexed(), transport);
        rest.transport = text("");
        assert_eq!(
            rest.indexed(),
            by(|only, all| only.account.clone_from(&all.account))
        );
        rest.account = None;
        assert_eq!(rest.indexed(), none);

        let mut retired = RetiredFilter {
            recipient: text("x@to.example"),
            to,
            from,
            success: Some(false),
            account: text("app"),
            subject: text("Hello"),
            ..RetiredFilter::default()
        };
        let parts = |filter: &RetiredFilter| {
            let it = filter.indexed();
            assert_eq!(it.subject, None);
            [
                it.recipient,
                it.to,
                it.from,
                it.success.map(|it| it.to_string()),
                it.account,
            ]
        };
        let [no, yes] = [None, text("false")];
        let only = |place: usize, value: &str| {
            let mut all = [const { None }; 5];
            all[place] = text(value);
            all
        };
        assert_eq!(parts(&retired), only(0, "x@to.example"));
        retired.recipient.clone_from(&no);
        assert_eq!(parts(&retired), only(1, "@to.example"));
        retired.to = text("@7");
        assert_eq!(parts(&retired), only(2, "@from.example"));
        retired.from = text("from.example");
        assert_eq!(parts(&retired)[3], yes);
        retired.success = Some(true);
        assert_eq!(parts(&retired), only(4, "app"));
        retired.account = None;
        assert_eq!(parts(&retired), [const { None }; 5]);
    }
}
