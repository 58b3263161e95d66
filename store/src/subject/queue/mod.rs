//! The queue: messages to be sent, claims on them, and the history of those that left.
//!
//! - `record`: what is kept. `lane`: which messages wait for the same thing. `filter`: which
//!   messages are listed or changed. `keys`: how messages are found.
//! - `apply`: what operations do. `read`: questions. `model`: the same in the model.

mod apply;
mod filter;
pub(crate) mod keys;
mod lane;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
pub(crate) mod older;
mod read;
mod record;

use serde::{Deserialize, Serialize};

use self::keys::{Group, names};
use self::older::{
    OpV2, QueuedV1, QueuedV2, QueuedV3, QueuedV5, RetiredV1, RetiredV2, RetiredV3, RetiredV5,
};
pub use self::{filter::*, keys::Reference, lane::*, read::LaneCount, record::*};
#[cfg(any(test, feature = "memory"))]
use super::ModelState;
use super::{Applied, Operations, State};
#[cfg(any(test, feature = "memory"))]
use crate::NewText;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    journal::{Space, TextPlace},
    table::{
        Grouping, Table,
        due::Due,
        key::Name,
        tables,
        value::{Unreadable, exactly, records, ways},
    },
};

/// Messages that are changed by one operation.
const CHANGE_MAX: usize = 200;

/// A message that is being attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InWork {
    /// When the attempt before began.
    last_attempt: Option<Time>,
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
    pub(crate) queued: u64,
    pub(crate) held: u64,
    pub(crate) claimed: u64,
    pub(crate) retired: u64,
}

records! {
    Queued: version 6
        [1 => QueuedV1, 2 => QueuedV2, 3 => QueuedV3, 4 => QueuedV5, 5 => QueuedV5],
    Retired: version 6
        [1 => RetiredV1, 2 => RetiredV2, 3 => RetiredV3, 4 => RetiredV5, 5 => RetiredV5],
    InWork: version 1,
}

ways! {
    (Time, QueueId): version 1,
}

tables! {
    /// The queue and its history.
    counters: Counters,
    /// Messages to be sent.
    queued: Table<QueueId, Queued> = Table::grouped(
        "queued",
        Grouping {
            name: "queued_groups",
            of: |queued| names(&Group::of_queued(queued)),
            has: Group::has_queued,
        },
    ),
    /// The messages that are neither held nor claimed, by lane.
    due: Due<QueueId> = Due::telling("due", "due_lanes", "due_heads"),
    claimed: Table<QueueId, InWork> = Table::new("claimed"),
    retired: Table<QueueId, Retired> = Table::grouped(
        "retired",
        Grouping {
            name: "retired_groups",
            of: |retired| names(&Group::of_retired(retired)),
            has: Group::has_retired,
        },
    ),
    /// Messages in the queue and in the history, by reference and recipient.
    references: Table<(Name, Name, QueueId), ()> = Table::new("references"),
}

subject!(
    counters Counters, keys keys::VERSION,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        state.transcripts.forget_message(QueueId(number))?;
        state.queue.forget_retired(QueueId(number))
    },
    const KEYS_SINCE: u8 = 1;,
    fn renew_keys(state: &mut State) -> Result<(), Fault> {
        state.queue.renew_lanes()
    }
);

/// Operations on the queue alone.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Ends claims that ran out, and begins new ones.
    Claim {
        now: Time,
        lapsed: Vec<QueueId>,
        claimed: Vec<QueueId>,
    },
    /// Makes the change of an administrator.
    Change {
        ids: Vec<QueueId>,
        change: Change,
        now: Time,
    },
    /// Makes messages due no more whose records can't be read: lane, time, number.
    Undue {
        entries: Vec<(String, Time, QueueId)>,
    },
    /// Keeps the ENVIDs of transactions that are about to begin.
    Begin { transactions: Vec<Transaction> },
    /// Gives messages that wait other routes.
    Reroute { messages: Vec<Reroute> },
    /// Removes messages from the history before their time.
    Forget { ids: Vec<QueueId> },
}

impl Operations for Op {
    /// Version 2 has one operation more: `Undue`. Version 3 has `Begin`, and the time of `Change`.
    /// Version 4 has `Reroute`. Version 5 has `Forget`.
    const VERSION: u8 = 5;
    const SINCE: u8 = 3;

    fn older(version: u8, bytes: &[u8]) -> Result<Self, Unreadable> {
        match version {
            1 | 2 => exactly(bytes).map(|old: OpV2| old.into()),
            _ => Err(Unreadable::Older(version)),
        }
    }

    fn apply(self, state: &mut State, _: Option<TextPlace>) -> Result<Applied, Fault> {
        match self {
            Self::Claim {
                now,
                lapsed,
                claimed,
            } => {
                state.lapse(&lapsed)?;
                state.queue.claim(now, &claimed)?;
                Ok(Applied::Done)
            }
            Self::Change { ids, change, now } => {
                let mut count = 0;
                for id in ids {
                    count += u64::from(state.change(id, &change, now)?);
                }
                Ok(Applied::Count(count))
            }
            Self::Undue { entries } => {
                for (lane, time, id) in entries {
                    state.queue.due.remove(&lane.into(), &[(time, id)])?;
                }
                Ok(Applied::Done)
            }
            Self::Begin { transactions } => {
                state.queue.begin(&transactions)?;
                Ok(Applied::Done)
            }
            Self::Reroute { messages } => {
                let mut count = 0;
                for to in messages {
                    count += u64::from(state.reroute(to)?);
                }
                Ok(Applied::Count(count))
            }
            Self::Forget { ids } => {
                let mut count = 0;
                for id in ids {
                    count += u64::from(state.forget_ended(id)?);
                }
                Ok(Applied::Count(count))
            }
        }
    }

    #[cfg(any(test, feature = "memory"))]
    fn apply_to_model(self, model: &mut ModelState, _: Option<NewText>) -> Applied {
        match self {
            // The model does these by itself, and can read all its records.
            Self::Claim { .. } | Self::Undue { .. } | Self::Begin { .. } => Applied::Done,
            Self::Change { ids, change, now } => {
                Applied::Count(model.queue.change(&ids, &change, now))
            }
            Self::Reroute { messages } => Applied::Count(model.queue.reroute(messages)),
            Self::Forget { ids } => Applied::Count(model.forget_ended(&ids)),
        }
    }

    fn changes(&self) -> usize {
        match self {
            Self::Claim { claimed, .. } => claimed.len(),
            Self::Change { ids, .. } => ids.len(),
            Self::Undue { entries } => entries.len(),
            Self::Reroute { messages } => messages.len(),
            Self::Forget { ids } => ids.len(),
            Self::Begin { transactions } => {
                let messages = transactions.iter();
                messages.map(|begun| begun.messages.len()).sum()
            }
        }
    }

    fn space(&self) -> Space {
        match self {
            Self::Claim { .. }
            | Self::Change { .. }
            | Self::Undue { .. }
            | Self::Begin { .. }
            | Self::Reroute { .. }
            | Self::Forget { .. } => Space::Reserve,
        }
    }
}

impl Store {
    /// Changes queued messages at `now`, and tells how many of them there were. The store changes
    /// each message as a whole, but not all messages at one moment.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn change(
        &self,
        ids: Vec<QueueId>,
        change: &Change,
        now: Time,
    ) -> Result<u64, StoreError> {
        let ops = ids.chunks(CHANGE_MAX).map(|ids| {
            super::Op::Queue(Op::Change {
                ids: ids.to_vec(),
                change: change.clone(),
                now,
            })
        });
        self.count(ops.collect()).await
    }

    /// Gives messages that wait other routes, and tells how many of them there were. Each moves to
    /// the lane of its new route, and keeps its time. Messages that are claimed, or were claimed
    /// since they had the given fence, stay as they are.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn reroute(&self, messages: Vec<Reroute>) -> Result<u64, StoreError> {
        let ops = messages.chunks(CHANGE_MAX).map(|messages| {
            super::Op::Queue(Op::Reroute {
                messages: messages.to_vec(),
            })
        });
        self.count(ops.collect()).await
    }

    /// Removes messages from the history before their time, and tells how many of them there were.
    /// Messages in the queue stay.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn forget_retired(&self, ids: Vec<QueueId>) -> Result<u64, StoreError> {
        let ops = ids
            .chunks(CHANGE_MAX)
            .map(|ids| super::Op::Queue(Op::Forget { ids: ids.to_vec() }));
        self.count(ops.collect()).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::Claim {
            now: Time(1),
            lapsed: vec![QueueId(1)],
            claimed: vec![QueueId(2)],
        },
        Op::Change {
            ids: vec![QueueId(1)],
            change: Change::default(),
            now: Time(1),
        },
        Op::Undue {
            entries: vec![("a.example".into(), Time(1), QueueId(1))],
        },
        Op::Begin {
            transactions: vec![Transaction {
                envid: "own".into(),
                messages: vec![QueueId(1), QueueId(2)],
            }],
        },
        Op::Reroute {
            messages: vec![Reroute {
                id: QueueId(1),
                fence: 2,
                route: "relay".into(),
            }],
        },
        Op::Forget {
            ids: vec![QueueId(1)],
        },
    ]
}
