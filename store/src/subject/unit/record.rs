//! What comes into being together, or changes together: units of several subjects.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Attempt, Destination, MailId, NewEvent, NewHook, NewHookKind, NewMail, NewMessage, NewSuppression, Note, Once,
    QueueId, Queued, StoreError, TextFile, TextId, Time,
};

/// A message text to be stored.
#[derive(Debug)]
pub enum NewText {
    /// Held in memory and appended to the journal: at most [`crate::INLINE_TEXT_MAX`] bytes.
    Inline(Bytes),
    /// Already written to a file of its own, and synced.
    File(TextFile),
}

/// Which text a new record refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextSource {
    /// The one that this unit brings along.
    New,
    /// One that is stored already and alive.
    Existing(TextId),
}

/// Mail, messages to be sent and events that come into being together, or not at all.
#[derive(Debug, Default)]
pub struct Accept {
    /// The text; None if nothing here refers to a new one.
    pub text: Option<NewText>,
    /// To be sent.
    pub queue: Option<NewMessage>,
    /// To be put in mailboxes.
    pub mails: Vec<NewMail>,
    /// Events.
    pub hooks: Vec<NewHook>,
    /// What is heard of messages sent earlier.
    pub notes: Vec<Note>,
    /// Addresses not to be mailed any more. Those that are on the list already stay as they are.
    pub suppress: Vec<NewSuppression>,
    /// What is written down in the accounts' logs.
    pub events: Vec<NewEvent>,
    /// If it is to be done once. When it was done before, nothing happens, and the error is [`StoreError::DoneBefore`].
    pub once: Option<Once>,
}

/// The numbers given to what was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// One for each recipient, in their order.
    pub queue: Vec<QueueId>,
    /// One for each mail, in their order.
    pub mails: Vec<MailId>,
}

/// Which due messages are wanted.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What is due at this time.
    pub now: Time,
    /// At most this many in all.
    pub max: usize,
    /// At most this many of one destination.
    pub max_per_destination: usize,
    /// Only of this destination.
    pub only: Option<Destination>,
    /// None of these (their limits are used up).
    pub except: HashSet<Destination>,
    /// How long the claim holds, unless renewed. A claim of a process that died ends with it.
    pub lease: Duration,
}

/// What a claim gives.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    /// The messages, those of one destination together, due ones first. `attempts` already counts this attempt.
    pub messages: Vec<Queued>,
    /// When the next message that is not in `except` and not claimed falls due; in the past if there was no room for it.
    pub next_due: Option<Time>,
}

/// What became of a claimed message.
#[derive(Debug)]
pub struct Settle {
    /// The message.
    pub id: QueueId,
    /// That of the claim, or the present one for [`Party::Administrator`]. A settlement with an older one changes nothing.
    pub fence: u64,
    /// Who settles it.
    pub party: Party,
    /// Recorded in its results. None when no attempt was made (see [`Outcome::Release`]).
    pub attempt: Option<Attempt>,
    /// What happens to it.
    pub outcome: Outcome,
    /// A "delayed" DSN goes out with this.
    pub delay_told: bool,
    /// A text that comes along (a DSN).
    pub text: Option<NewText>,
    /// Mail that comes into being with it: a DSN, or the delivery of localserve, which refers to the message's own text.
    pub mails: Vec<NewMail>,
    /// Events that tell of it.
    pub hooks: Vec<NewHook>,
    /// As in [`Accept`].
    pub suppress: Vec<NewSuppression>,
    /// As in [`Accept`].
    pub events: Vec<NewEvent>,
}

/// Who settles a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Party {
    /// Who claimed it.
    #[default]
    Claimant,
    /// An administrator, who ends it while nobody has it claimed; one that is claimed stays as it is.
    Administrator,
}

/// What happens to a claimed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Given back as it was, due at once; the attempt does not count.
    Release,
    /// Tried again at this time.
    Retry(Time),
    /// Its end.
    Retire {
        /// The next hop accepted it.
        success: bool,
        /// When it ended.
        now: Time,
        /// Until when it is kept in the history; None: not kept.
        keep_until: Option<Time>,
    },
}

impl Accept {
    /// Whether its parts refer to each other as they should.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self
            .queue
            .as_ref()
            .is_some_and(|message| message.recipients.is_empty())
        {
            return Err(StoreError::Invalid("a message without recipients"));
        }
        let queued = self.queue.iter().map(|message| message.text);
        check(self.text.as_ref(), queued, &self.mails, &self.hooks)
    }
}

impl Settle {
    /// Likewise.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        check(
            self.text.as_ref(),
            std::iter::empty(),
            &self.mails,
            &self.hooks,
        )
    }
}

fn check(
    text: Option<&NewText>,
    queued: impl Iterator<Item = TextSource>,
    mails: &[NewMail],
    hooks: &[NewHook],
) -> Result<(), StoreError> {
    let mut sources = queued.chain(mails.iter().map(|mail| mail.text));
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

