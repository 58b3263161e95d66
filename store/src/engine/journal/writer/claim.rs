//! Claims: answered from the state as it is.

use super::{WEIGHT, Writer, now};
use crate::{
    Claim, ClaimHooks, Claimed, ClaimedHooks, QueueId, Time,
    error::Fault,
    subject::{Op, hooks, queue},
    table::due::Pick,
};

impl Writer {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Claimed, Fault> {
        let mut state = self.shared.state_mut();
        let lapsed = self.leases.lapsed(claim.now);
        if !lapsed.is_empty() {
            let op = Op::Queue(queue::Op::Claim {
                now: claim.now,
                lapsed,
                claimed: Vec::new(),
            });
            self.riders.push(op.encode());
            self.weight += WEIGHT;
            op.apply(&mut state, None)?;
        }
        let ids = state.queue.due.pick(&Pick {
            now: claim.now,
            max: claim.max,
            max_per_lane: claim.max_per_destination,
            only: claim.only.as_deref(),
            except: &claim.except,
        })?;
        let mut messages = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let until = claim.now.after(claim.lease);
            for id in &ids {
                self.leases.set(*id, until);
            }
            let op = Op::Queue(queue::Op::Claim {
                now: claim.now,
                lapsed: Vec::new(),
                claimed: ids.clone(),
            });
            self.riders.push(op.encode());
            self.weight += ids.len() * WEIGHT;
            op.apply(&mut state, None)?;
            for id in &ids {
                messages.extend(state.queue.queued.get(id)?);
            }
        }
        let next_due = state.queue.due.next(claim.only.as_deref(), &claim.except)?;
        drop(state);
        self.board();
        Ok(Claimed { messages, next_due })
    }

    pub(super) fn claim_hooks(&mut self, claim: &ClaimHooks) -> Result<ClaimedHooks, Fault> {
        let mut state = self.shared.state_mut();
        let ids = state.hooks.due.pick(&Pick {
            now: claim.now,
            max: claim.max,
            max_per_lane: claim.max_per_lane,
            only: None,
            except: &claim.except,
        })?;
        let mut hooks = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let op = Op::Hooks(hooks::Op::Claim {
                claimed: ids.clone(),
            });
            self.riders.push(op.encode());
            self.weight += ids.len() * WEIGHT;
            op.apply(&mut state, None)?;
            for id in &ids {
                hooks.extend(state.hooks.hooks.get(id)?);
            }
        }
        let next_due = state.hooks.due.next(None, &claim.except)?;
        drop(state);
        self.board();
        Ok(ClaimedHooks { hooks, next_due })
    }

    pub(super) fn board(&mut self) {
        if !self.riders.is_empty() {
            self.riders_since.get_or_insert_with(now);
        }
    }

    pub(super) fn renew(
        &mut self,
        claims: &[(QueueId, u64)],
        until: Time,
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
