//! The changes of state as values: what the journal's entries are.
//!
//! What an op does follows from the state and the op alone, so that replaying gives the same state again. New ops are
//! added at the end; one that changes its shape becomes a new one, or [`VERSION`] goes up and [`decode`] reads both.

use serde::{Deserialize, Serialize};

use super::value::append;
use crate::{
    Accept, Accepted, ApiKeyId, Change, Credential, HoldFilter, HoldRuleId, HookAttempt, HookId,
    MailChange, MailId, NewApiKey, NewEvent, NewHook, NewMail, NewMessage, NewSuppression, NewText,
    NextAttempt, Note, Once, Outcome, Party, QueueId, Settle, SettleHook, StoreError, TextId, Time,
    textfile::TextFilePlace,
};

/// Of the encoding.
pub(super) const VERSION: u8 = 1;

/// A change of state.
#[derive(Debug, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all operations are the large one, so a box would cost an allocation per message"
)]
pub(super) enum Op {
    Accept {
        text: Option<OpText>,
        queue: Option<NewMessage>,
        mails: Vec<NewMail>,
        hooks: Vec<NewHook>,
        notes: Vec<Note>,
        suppress: Vec<NewSuppression>,
        events: Vec<NewEvent>,
        once: Option<Box<Once>>,
    },
    /// Claims that ran out, and new ones.
    Claim {
        now: Time,
        lapsed: Vec<QueueId>,
        claimed: Vec<QueueId>,
    },
    Settle {
        id: QueueId,
        fence: u64,
        party: Party,
        attempt: Option<crate::Attempt>,
        outcome: Outcome,
        delay_told: bool,
        text: Option<OpText>,
        mails: Vec<NewMail>,
        hooks: Vec<NewHook>,
        suppress: Vec<NewSuppression>,
        events: Vec<NewEvent>,
    },
    ClaimHooks {
        claimed: Vec<HookId>,
    },
    SettleHook(SettleHook),
    SetCredential {
        account: String,
        credential: Option<Credential>,
    },
    /// A text that was copied out of this segment, to where this entry is.
    Move {
        text: TextId,
        from: u64,
    },
    /// At most this many records of the history.
    Expire {
        now: Time,
        max: u64,
    },
    /// What an administrator changes.
    Change {
        ids: Vec<QueueId>,
        change: Change,
    },
    Suppress(NewSuppression),
    Unsuppress {
        account: String,
        base: String,
    },
    AddHoldRule {
        filter: HoldFilter,
        created: Time,
    },
    RemoveHoldRule {
        id: HoldRuleId,
    },
    /// A process began, so the claims of the one before ended.
    Start,
    ChangeMail {
        account: String,
        id: MailId,
        change: MailChange,
    },
    RemoveMail {
        account: String,
        id: MailId,
    },
    /// A text that nothing refers to yet. It goes when the process ends.
    Stage {
        text: OpText,
    },
    Unstage {
        ids: Vec<TextId>,
    },
    /// Messages whose texts are staged, all of them or none. Their texts are staged no more then.
    AcceptAll {
        messages: Vec<NewMessage>,
        once: Option<Box<Once>>,
    },
    AddApiKey(NewApiKey),
    RemoveApiKey {
        id: ApiKeyId,
    },
    /// Moves the next calls of webhooks.
    ScheduleHooks {
        ids: Vec<HookId>,
        next: NextAttempt,
    },
    /// Ends calls of webhooks that are not being made; each is kept in the history until the time beside it.
    EndHooks {
        ends: Vec<(HookId, Option<Time>)>,
        result: HookAttempt,
    },
}

/// The text that comes with an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum OpText {
    /// It is the body of the entry.
    Inline,
    File(TextFilePlace),
}

/// What an op did.
#[derive(Debug)]
pub(super) enum Applied {
    Accepted(Accepted),
    /// Whether the claim was the last one, so that anything was changed.
    Settled(bool),
    /// Records removed or changed.
    Counted(u64),
    /// A number was given.
    Numbered(u64),
    Done,
    /// It makes no sense in this state, so nothing was changed.
    Refused(StoreError),
}

impl Op {
    pub(super) fn accept(accept: Accept) -> (Self, Option<NewText>) {
        let Accept {
            text,
            queue,
            mails,
            hooks,
            notes,
            suppress,
            events,
            once,
        } = accept;
        (
            Self::Accept {
                text: text.as_ref().map(OpText::of),
                queue,
                mails,
                hooks,
                notes,
                suppress,
                events,
                once: once.map(Box::new),
            },
            text,
        )
    }

    pub(super) fn settle(settle: Settle) -> (Self, Option<NewText>) {
        let Settle {
            id,
            fence,
            party,
            attempt,
            outcome,
            delay_told,
            text,
            mails,
            hooks,
            suppress,
            events,
        } = settle;
        let source = text.as_ref().map(OpText::of);
        (
            Self::Settle {
                id,
                fence,
                party,
                attempt,
                outcome,
                delay_told,
                text: source,
                mails,
                hooks,
                suppress,
                events,
            },
            text,
        )
    }

    /// Its text is in a file.
    pub(super) fn set_file(&mut self, place: TextFilePlace) {
        match self {
            Self::Accept { text, .. } | Self::Settle { text, .. } => {
                *text = Some(OpText::File(place));
            }
            Self::Stage { text } => *text = OpText::File(place),
            _ => {}
        }
    }

    /// How many records it changes, about.
    pub(super) fn changes(&self) -> usize {
        match self {
            Self::Change { ids, .. } => ids.len(),
            Self::AcceptAll { messages, .. } => messages.len(),
            Self::Expire { max, .. } => usize::try_from(*max).unwrap_or(usize::MAX),
            _ => 1,
        }
    }

    /// When there is no room: whether it is refused then, or goes on.
    pub(super) const fn needs_room(&self) -> bool {
        matches!(self, Self::Accept { .. } | Self::Move { .. })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        append(self, &mut bytes);
        bytes
    }
}

impl OpText {
    pub(super) fn of(text: &NewText) -> Self {
        match text {
            NewText::Inline(_) => Self::Inline,
            NewText::File(file) => Self::File(file.place()),
        }
    }
}

/// Why an entry of the journal can't be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("an entry of version {0}")]
    Newer(u8),
    #[error("an entry that makes no sense")]
    Senseless,
}

/// The op that was encoded in this version.
pub(super) fn decode(version: u8, bytes: &[u8]) -> Result<Op, Unreadable> {
    match version {
        VERSION => postcard::from_bytes(bytes).map_err(|_| Unreadable::Senseless),
        version => Err(Unreadable::Newer(version)),
    }
}
