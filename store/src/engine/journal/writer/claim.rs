//! Claims and beginnings of transactions: answered from the state as it is.
//!
//! A claim is given only if there is room for what becomes of it. Else a message could be delivered
//! again and again, because its result can't be stored.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{Dead, WEIGHT, Writer, now};
use crate::{
    Claim, ClaimHooks, Claimed, ClaimedHooks, HookId, Moment, QueueId, StoreError, Time,
    Transaction, Which,
    error::Fault,
    subject::{Op, State, hooks, queue},
    table::{
        due::{Lanes, Pick},
        key::Name,
    },
};

/// Bytes of the journal that the claim of one message or call, the ENVID of its transaction and its
/// settlement take at most: a block in a batch of its own, each. A longer settlement waits for
/// room.
pub(super) const CLAIM_BYTES: u64 = 3 * 4096;

impl Writer {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Result<Claimed, StoreError>, Dead> {
        let max = match self.may_claim() {
            Ok(max) => max.min(claim.max),
            Err(error) => return Ok(Err(error)),
        };
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state_mut();
        let claimed = self.claim_in(&mut state, claim, max);
        let claimed = shared.sound(claimed)?;
        let heads = state.queue.due.take_changed();
        drop(state);
        // Whoever has the answer finds the heads of the lanes as they are now.
        shared.changes.lanes.tell(heads);
        self.board();
        Ok(Ok(claimed))
    }

    fn claim_in(&mut self, state: &mut State, claim: &Claim, max: usize) -> Result<Claimed, Fault> {
        let lapsed = self.leases.lapsed(claim.moment);
        if !lapsed.is_empty() {
            let op = Op::Queue(queue::Op::Claim {
                now: claim.now,
                lapsed,
                claimed: Vec::new(),
            });
            self.ride_with(state, op, 1)?;
        }
        if state.stops.counters.deliveries.is_some() {
            return Ok(Claimed::default());
        }
        let ids = picked(state, claim, max)?;
        let mut messages = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let until = claim.moment.after(claim.lease);
            for id in &ids {
                self.leases.set(*id, until);
            }
            let op = Op::Queue(queue::Op::Claim {
                now: claim.now,
                lapsed: Vec::new(),
                claimed: ids.clone(),
            });
            self.ride_with(state, op, ids.len())?;
            for id in &ids {
                messages.extend(state.queue.queued.get(id)?);
            }
        }
        if messages.len() < ids.len() {
            let unread = unread(&ids, messages.iter().map(|queued| queued.id));
            unread.iter().for_each(|id| self.leases.remove(*id));
            let entries = pick_with(&claim.which, claim, max, |pick| {
                state.queue.due.entries(pick)
            });
            let entries = named(entries?, &unread);
            self.ride_with(state, Op::Queue(queue::Op::Undue { entries }), 1)?;
        }
        Ok(Claimed { messages })
    }

    pub(super) fn claim_hooks(
        &mut self,
        claim: &ClaimHooks,
    ) -> Result<Result<ClaimedHooks, StoreError>, Dead> {
        let max = match self.may_claim() {
            Ok(max) => max.min(claim.max),
            Err(error) => return Ok(Err(error)),
        };
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state_mut();
        let claimed = self.claim_hooks_in(&mut state, claim, max);
        let claimed = shared.sound(claimed)?;
        drop(state);
        self.claimed_hooks += claimed.hooks.len() as u64;
        self.board();
        Ok(Ok(claimed))
    }

    fn claim_hooks_in(
        &mut self,
        state: &mut State,
        claim: &ClaimHooks,
        max: usize,
    ) -> Result<ClaimedHooks, Fault> {
        if state.stops.counters.webhooks.is_some() {
            return Ok(ClaimedHooks::default());
        }
        let pick = Pick {
            now: claim.now,
            max,
            max_per_lane: claim.max_per_lane,
            lanes: Lanes::AllBut(&claim.except),
        };
        let ids = state.hooks.due.pick(&pick)?;
        let mut hooks = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let op = Op::Hooks(hooks::Op::Claim {
                claimed: ids.clone(),
            });
            self.ride_with(state, op, ids.len())?;
            for id in &ids {
                hooks.extend(state.hooks.hooks.get(id)?);
            }
        }
        if hooks.len() < ids.len() {
            let unread: BTreeSet<HookId> = unread(&ids, hooks.iter().map(|hook| hook.id));
            let entries = named(state.hooks.due.entries(&pick)?, &unread);
            self.ride_with(state, Op::Hooks(hooks::Op::Undue { entries }), 1)?;
        }
        let next_due = state.hooks.due.next(&claim.except)?;
        Ok(ClaimedHooks { hooks, next_due })
    }

    /// Keeps the ENVIDs of transactions. What follows from a transaction is in the journal behind
    /// its ENVID, since riders go in front.
    pub(super) fn begin(&mut self, transactions: Vec<Transaction>) -> Result<(), Dead> {
        let op = Op::Queue(queue::Op::Begin { transactions });
        let changes = op.changes();
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state_mut();
        let kept = self.ride_with(&mut state, op, changes);
        shared.sound(kept)?;
        drop(state);
        self.board();
        Ok(())
    }

    /// How many more messages and calls may be claimed. An error says why none may be.
    fn may_claim(&mut self) -> Result<usize, StoreError> {
        if let Some(error) = &self.unstored {
            let error = error.clone();
            if self.riders.is_empty() {
                // A claim of nothing finds out whether the journal takes something again.
                let op = Op::Queue(queue::Op::Claim {
                    now: Time(0),
                    lapsed: Vec::new(),
                    claimed: Vec::new(),
                });
                self.riders.push(op.encode());
                self.board();
            }
            return Err(error);
        }
        let Some(left) = self.journal.room_left() else {
            return Ok(usize::MAX);
        };
        let more = (left / CLAIM_BYTES).saturating_sub(self.in_work());
        match usize::try_from(more).unwrap_or(usize::MAX) {
            0 => Err(StoreError::Full),
            more => Ok(more),
        }
    }

    /// How many messages and calls are claimed.
    pub(super) fn in_work(&self) -> u64 {
        self.shared.state().queue.counters.claimed + self.claimed_hooks
    }

    /// Applies an operation that goes to the journal with the next batch.
    fn ride_with(&mut self, state: &mut State, op: Op, changes: usize) -> Result<(), Fault> {
        self.riders.push(op.encode());
        self.weight += changes * WEIGHT;
        op.apply(state, None).map(drop)
    }

    pub(super) fn board(&mut self) {
        if !self.riders.is_empty() {
            self.riders_since.get_or_insert_with(now);
        }
    }

    pub(super) fn renew(
        &mut self,
        claims: &[(QueueId, u64)],
        until: Moment,
    ) -> Result<Vec<bool>, Fault> {
        let state = self.shared.state();
        let mut renewed = Vec::with_capacity(claims.len());
        for (id, fence) in claims {
            let holds = self.leases.contains(*id)
                && state
                    .queue
                    .queued
                    .get(id)?
                    .is_some_and(|queued| queued.fence == *fence);
            if holds {
                self.leases.set(*id, until);
            }
            renewed.push(holds);
        }
        Ok(renewed)
    }
}

/// Looks for due messages among those of all lanes or of some lanes.
pub(in super::super) fn pick_with<T>(
    which: &Which,
    claim: &Claim,
    max: usize,
    look: impl FnOnce(&Pick<'_>) -> T,
) -> T {
    let except = HashSet::new();
    let names: Vec<Name>;
    let lanes = match which {
        Which::Lanes(lanes) => {
            names = lanes.iter().map(|lane| Arc::clone(lane.name())).collect();
            Lanes::Only(&names)
        }
        Which::All => Lanes::AllBut(&except),
        Which::Messages(_) => Lanes::Only(&[]),
    };
    look(&Pick {
        now: claim.now,
        max,
        max_per_lane: claim.max_per_lane,
        lanes,
    })
}

/// The messages that a claim gets.
fn picked(state: &State, claim: &Claim, max: usize) -> Result<Vec<QueueId>, Fault> {
    let Which::Messages(wanted) = &claim.which else {
        return pick_with(&claim.which, claim, max, |pick| state.queue.due.pick(pick));
    };
    let mut ids = Vec::new();
    for id in wanted {
        if ids.len() >= max {
            break;
        }
        let Some(queued) = state.queue.queued.get(id)? else {
            continue;
        };
        let (lane, time) = (queued.lane_name(), queued.next_attempt);
        let is_due = time <= claim.now && state.queue.due.contains(&lane, time, *id)?;
        if is_due && !ids.contains(id) {
            ids.push(*id);
        }
    }
    Ok(ids)
}

/// The numbers whose records could not be read.
fn unread<Id: Ord + Copy>(all: &[Id], read: impl Iterator<Item = Id>) -> BTreeSet<Id> {
    let read: BTreeSet<Id> = read.collect();
    let unread = all.iter().filter(|id| !read.contains(id));
    unread.copied().collect()
}

/// The entries of these numbers, as an operation names them.
fn named<Id: Ord>(entries: Vec<(Name, Time, Id)>, ids: &BTreeSet<Id>) -> Vec<(String, Time, Id)> {
    let entries = entries.into_iter().filter(|(_, _, id)| ids.contains(id));
    entries
        .map(|(lane, time, id)| (lane.as_ref().to_owned(), time, id))
        .collect()
}
