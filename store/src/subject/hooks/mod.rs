//! Calls of webhooks: those to be made, claims on them, and the history of those that ended.
//!
//! Calls that tell of one message to one URL are a chain: a later call waits until the earlier one
//! ended. Calls of one account to one URL are a lane: only so many of a lane are made at once.

mod apply;
mod filter;
pub(crate) mod keys;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
mod read;
mod record;

use serde::{Deserialize, Serialize};

pub use self::{filter::*, keys::hook_lane, record::*};
#[cfg(any(test, feature = "memory"))]
use super::ModelState;
use super::{Applied, Operations, State};
#[cfg(any(test, feature = "memory"))]
use crate::NewText;
use crate::{
    NextAttempt, QueueId, Store, StoreError, Time,
    error::Fault,
    journal::{Space, TextPlace},
    table::{
        Grouping, Table,
        due::Due,
        key::Name,
        tables,
        value::{records, ways},
    },
};

/// Calls that are changed by one operation.
const CHANGE_MAX: usize = 200;

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
    pub(crate) hooks: u64,
    pub(crate) retired: u64,
}

// Version 2 has one kind of call more: `OutgoingV1`.
records! {
    Hook: version 2 [1 => Hook],
    RetiredHook: version 2 [1 => RetiredHook],
}

ways! {
    (Time, HookId): version 1,
}

tables! {
    /// The calls.
    counters: Counters,
    /// Calls to be made.
    hooks: Table<HookId, Hook> = Table::grouped(
        "hooks",
        Grouping {
            name: "hook_groups",
            of: |hook| vec![hook.account.clone()],
            has: |account, hook| hook.account == account,
        },
    ),
    /// The calls that are not claimed and are the first of their chain, by lane.
    due: Due<HookId> = Due::new("hooks_due", "hooks_due_lanes", "hooks_due_heads"),
    claimed: Table<HookId, ()> = Table::new("claimed_hooks"),
    /// The order of the calls of each chain.
    chains: Table<(QueueId, Name, HookId), ()> = Table::new("chains"),
    retired: Table<HookId, RetiredHook> = Table::grouped(
        "retired_hooks",
        Grouping {
            name: "retired_hook_groups",
            of: |retired| vec![retired.hook.account.clone()],
            has: |account, retired| retired.hook.account == account,
        },
    ),
}

subject!(
    counters Counters, keys keys::VERSION,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        state.hooks.retired.remove(&HookId(number));
        state.hooks.counters.retired -= 1;
        Ok(())
    }
);

/// Operations on calls alone.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    Claim {
        claimed: Vec<HookId>,
    },
    Settle(SettleHook),
    /// Moves the next attempts.
    Schedule {
        ids: Vec<HookId>,
        next: NextAttempt,
    },
    /// Ends calls that nobody makes. The history keeps each until the time beside it.
    End {
        ends: Vec<(HookId, Option<Time>)>,
        result: HookAttempt,
    },
    /// Makes calls due no more whose records can't be read: lane, time, number.
    Undue {
        entries: Vec<(String, Time, HookId)>,
    },
}

impl Operations for Op {
    /// Version 2 has one operation more: `Undue`.
    const VERSION: u8 = 2;
    const SINCE: u8 = 1;

    fn apply(self, state: &mut State, _: Option<TextPlace>) -> Result<Applied, Fault> {
        match self {
            Self::Claim { claimed } => {
                claimed
                    .into_iter()
                    .try_for_each(|id| state.hooks.claim(id))?;
                Ok(Applied::Done)
            }
            Self::Settle(settle) => Ok(Applied::Flag(state.settle_hook(settle)?)),
            Self::Schedule { ids, next } => {
                let mut count = 0;
                for id in ids {
                    count += u64::from(state.schedule_hook(id, next)?);
                }
                Ok(Applied::Count(count))
            }
            Self::End { ends, result } => {
                let mut count = 0;
                for (id, keep_until) in ends {
                    count += u64::from(state.end_hook(id, keep_until, &result)?);
                }
                Ok(Applied::Count(count))
            }
            Self::Undue { entries } => {
                for (lane, time, id) in entries {
                    state.hooks.due.remove(&lane.into(), &[(time, id)])?;
                }
                Ok(Applied::Done)
            }
        }
    }

    #[cfg(any(test, feature = "memory"))]
    fn apply_to_model(self, model: &mut ModelState, _: Option<NewText>) -> Applied {
        match self {
            // The model claims by itself, and can read all its records.
            Self::Claim { .. } | Self::Undue { .. } => Applied::Done,
            Self::Settle(settle) => Applied::Flag(model.settle_hook(settle)),
            Self::Schedule { ids, next } => Applied::Count(model.hooks.schedule(&ids, next)),
            Self::End { ends, result } => Applied::Count(model.end_hooks(&ends, &result)),
        }
    }

    fn changes(&self) -> usize {
        match self {
            Self::Claim { claimed } => claimed.len(),
            Self::Settle(_) => 1,
            Self::Schedule { ids, .. } => ids.len(),
            Self::End { ends, .. } => ends.len(),
            Self::Undue { entries } => entries.len(),
        }
    }

    fn space(&self) -> Space {
        match self {
            Self::Claim { .. }
            | Self::Settle(_)
            | Self::Schedule { .. }
            | Self::End { .. }
            | Self::Undue { .. } => Space::Reserve,
        }
    }
}

impl Store {
    /// Moves the next attempts of calls, and tells how many calls there were. A call that is being
    /// made is moved for the case that it fails, until its result says otherwise.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn schedule_hooks(
        &self,
        ids: Vec<HookId>,
        next: NextAttempt,
    ) -> Result<u64, StoreError> {
        let ops = ids.chunks(CHANGE_MAX).map(|ids| {
            let ids = ids.to_vec();
            super::Op::Hooks(Op::Schedule { ids, next })
        });
        self.count(ops.collect()).await
    }

    /// Ends calls that nobody makes at the moment, with this as their last result, and tells how
    /// many. The history keeps each until the time beside it.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn end_hooks(
        &self,
        ends: Vec<(HookId, Option<Time>)>,
        result: &HookAttempt,
    ) -> Result<u64, StoreError> {
        let ops = ends.chunks(CHANGE_MAX).map(|ends| {
            super::Op::Hooks(Op::End {
                ends: ends.to_vec(),
                result: result.clone(),
            })
        });
        self.count(ops.collect()).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let attempt = HookAttempt {
        start: Time(1),
        duration: std::time::Duration::from_millis(5),
        success: true,
        code: 200,
        error: String::new(),
        response: "ok".into(),
    };
    vec![
        Op::Claim {
            claimed: vec![HookId(1)],
        },
        Op::Settle(SettleHook {
            id: HookId(1),
            fence: 2,
            attempt: attempt.clone(),
            outcome: crate::Outcome::Release,
        }),
        Op::Schedule {
            ids: vec![HookId(1)],
            next: NextAttempt::Shift(-1),
        },
        Op::End {
            ends: vec![(HookId(1), Some(Time(3)))],
            result: attempt,
        },
        Op::Undue {
            entries: vec![("lane".into(), Time(1), HookId(1))],
        },
    ]
}
