//! Units: changes of several subjects in one operation.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Attempt, Lane, MailId, Moment, NewArrivedReport, NewEvent, NewHook, NewHookKind, NewMail,
    NewMessage, NewReject, NewSuppression, Note, Once, QueueId, Queued, StoreError, TakenMail,
    TextFile, TextId, Time,
};

/// A message text to be stored.
#[derive(Debug)]
pub enum NewText {
    /// A text in memory, to be appended to the journal: at most [`crate::INLINE_TEXT_MAX`] bytes.
    Inline(Bytes),
    /// A text that is written to a file of its own, and synced.
    File(TextFile),
}

/// Which text a new record refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextSource {
    /// The text that comes with the unit.
    New,
    /// A text that is stored already, and that some record refers to.
    Existing(TextId),
}

/// Mail, messages to be sent and events that come into being together, or not at all.
#[derive(Debug, Default)]
pub struct Accept {
    /// A new text. None if no record of the unit refers to one.
    pub text: Option<NewText>,
    /// Messages to be sent. A staged text that one of them refers to is staged no more.
    pub queue: Vec<NewMessage>,
    /// Mail for mailboxes.
    pub mails: Vec<NewMail>,
    /// Calls of webhooks.
    pub hooks: Vec<NewHook>,
    /// News of messages that were sent earlier.
    pub notes: Vec<Note>,
    /// Addresses for suppression lists. An address that is on the list keeps its entry.
    pub suppress: Vec<NewSuppression>,
    /// Events for the logs of accounts.
    pub events: Vec<NewEvent>,
    /// For a unit that is done once. If it was done before, nothing happens, and the error is
    /// [`StoreError::DoneBefore`].
    pub once: Option<Once>,
    /// Mail that accounts refuse, to be kept apart.
    pub rejects: Vec<NewReject>,
    /// Names of the mail. Refused mail of these names goes.
    pub taken: Vec<TakenMail>,
    /// The mail as something that may be a report, to be read as one later.
    pub reports: Vec<NewArrivedReport>,
}

/// The numbers of the new records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// One for each recipient, in their order.
    pub queue: Vec<QueueId>,
    /// One for each mail, in their order.
    pub mails: Vec<MailId>,
    /// The refused mails that are kept. An account keeps none that it has already.
    pub rejects: Vec<MailId>,
}

/// Which due messages are wanted.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Everything that is due at this time.
    pub now: Time,
    /// At most this many in all.
    pub max: usize,
    /// At most this many of one lane.
    pub max_per_lane: usize,
    /// Where to look.
    pub which: Which,
    /// The moment of the claim. Claims whose time is over by then end.
    pub moment: Moment,
    /// How long the claim holds, unless renewed. A claim of a process that died ends with it.
    pub lease: Duration,
}

/// The messages among which a claim looks for due ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of all lanes, in the order of their heads.
    All,
    /// Those of these lanes, in this order.
    Lanes(Vec<Lane>),
    /// Those with these numbers.
    Messages(Vec<QueueId>),
}

/// The messages that a claim gives.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The messages, by lane and in the order of their times. `attempts` already counts this
    /// attempt.
    pub messages: Vec<Queued>,
}

/// The result of a claimed message.
#[derive(Debug)]
pub struct Settle {
    /// The message.
    pub id: QueueId,
    /// The fence of the claim; for [`Party::Administrator`] the present fence. A settlement with an
    /// older fence changes nothing.
    pub fence: u64,
    /// The party that settles the message.
    pub party: Party,
    /// Added to the results of the message. None when no attempt was made (see
    /// [`Outcome::Release`]).
    pub attempt: Option<Attempt>,
    /// The outcome for the message.
    pub outcome: Outcome,
    /// The name of the transport that the routes give the next attempt; empty: none. None: that of
    /// before.
    pub route: Option<String>,
    /// A "delayed" DSN goes out with this.
    pub delay_told: bool,
    /// A new text: that of a DSN.
    pub text: Option<NewText>,
    /// Messages to be sent: a DSN to a sender elsewhere.
    pub queue: Vec<NewMessage>,
    /// Mail that the result causes: a DSN, or the delivery of localserve.
    pub mails: Vec<NewMail>,
    /// Calls of webhooks that tell of the result.
    pub hooks: Vec<NewHook>,
    /// As in [`Accept`].
    pub suppress: Vec<NewSuppression>,
    /// As in [`Accept`].
    pub events: Vec<NewEvent>,
    /// As in [`Accept`].
    pub reports: Vec<NewArrivedReport>,
}

/// The party that settles a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Party {
    /// The one who claimed the message.
    #[default]
    Claimant,
    /// An administrator. A message that somebody has claimed stays as it is.
    Administrator,
}

/// The outcome for a claimed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The message goes back as it was and is due at once. The attempt does not count.
    Release,
    /// The next attempt is at this time.
    Retry(Time),
    /// The message leaves the queue.
    Retire {
        /// The next hop accepted the message.
        success: bool,
        /// When it ended.
        now: Time,
        /// Until when the history keeps the message; None: not at all.
        keep_until: Option<Time>,
    },
    /// The message goes back as it was, and is due at this time. The attempt does not count.
    Postpone(Time),
}

impl Accept {
    /// Checks that the parts refer to each other as they should.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let refused = self.rejects.iter().map(|reject| reject.mail.text);
        let reports = self.reports.iter().map(|report| report.text);
        check(
            self.text.as_ref(),
            &self.queue,
            refused.chain(reports),
            &self.mails,
            &self.hooks,
        )
    }
}

impl Settle {
    /// Checks the same.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        check(
            self.text.as_ref(),
            &self.queue,
            self.reports.iter().map(|report| report.text),
            &self.mails,
            &self.hooks,
        )
    }
}

fn check(
    text: Option<&NewText>,
    queued: &[NewMessage],
    others: impl Iterator<Item = TextSource>,
    mails: &[NewMail],
    hooks: &[NewHook],
) -> Result<(), StoreError> {
    if queued.iter().any(|message| message.recipients.is_empty()) {
        return Err(StoreError::Invalid("a message without recipients"));
    }
    let queued = queued.iter().map(|message| message.text);
    let others = queued.chain(others);
    let mut sources = others.chain(mails.iter().map(|mail| mail.text));
    if text.is_none() && sources.any(|source| source == TextSource::New) {
        return Err(StoreError::Invalid(
            "a record refers to a new text, but there is none",
        ));
    }
    let outside = |hook: &NewHook| matches!(hook.kind, NewHookKind::Incoming(index) if index as usize >= mails.len());
    if hooks.iter().any(outside) {
        return Err(StoreError::Invalid(
            "an event tells of a mail that is not there",
        ));
    }
    Ok(())
}
