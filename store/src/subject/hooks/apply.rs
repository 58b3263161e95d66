//! The effect of operations on webhook calls.

use std::{ops::Bound, sync::Arc};

use super::{Hook, HookAttempt, HookId, HookKind, NewHook, RetiredHook, SettleHook, Tables};
use crate::{
    Mail, NextAttempt, Outcome, QueueId, Time,
    error::Fault,
    subject::{State, next, tag},
    table::key::Name,
};

impl Tables {
    /// The call of a chain that is to be made first.
    fn first_of(&self, chain: &(QueueId, Name)) -> Result<Option<HookId>, Fault> {
        let from = (chain.0, Arc::clone(&chain.1), HookId(0));
        let to = (chain.0, Arc::clone(&chain.1), HookId(u64::MAX));
        let first = self
            .chains
            .range(Bound::Included(&from), Bound::Included(&to))?
            .next()
            .transpose()?;
        Ok(first.map(|((_, _, id), ())| id))
    }

    /// Whether a call waits among those that are due: nobody makes it, and no earlier call of its
    /// chain goes first.
    pub(in crate::subject) fn waits(&self, hook: &Hook) -> Result<bool, Fault> {
        if self.claimed.contains(&hook.id)? {
            return Ok(false);
        }
        match hook.chain() {
            None => Ok(true),
            Some(chain) => Ok(self.first_of(&chain)? == Some(hook.id)),
        }
    }

    pub(super) fn claim(&mut self, id: HookId) -> Result<(), Fault> {
        let Some(hook) = self.hooks.get_mut(&id)? else {
            return Ok(());
        };
        hook.fence += 1;
        hook.attempts += 1;
        let (lane, time): (Name, _) = (hook.lane().into(), hook.next_attempt);
        if !self.claimed.contains(&id)? {
            self.claimed.put_new(id, ());
            self.due.remove(&lane, &[(time, id)])?;
        }
        Ok(())
    }
}

impl State {
    /// Adds a call. One that tells of a mail is not added without that mail.
    pub(in crate::subject) fn add_new_hook(
        &mut self,
        new: NewHook,
        mail: Option<Arc<Mail>>,
    ) -> Result<(), Fault> {
        let id = HookId(next(&mut self.hooks.counters.last));
        match new.hook(id, mail) {
            Some(hook) => self.add_hook(hook),
            None => Ok(()),
        }
    }

    fn add_hook(&mut self, hook: Hook) -> Result<(), Fault> {
        let first = match hook.chain() {
            None => true,
            Some(chain) => {
                let first = self.hooks.first_of(&chain)?.is_none();
                self.hooks.chains.put_new((chain.0, chain.1, hook.id), ());
                first
            }
        };
        if first {
            self.make_hook_due(&hook)?;
        }
        self.hooks.counters.hooks += 1;
        self.hooks.hooks.put_new(hook.id, hook);
        Ok(())
    }

    fn make_hook_due(&mut self, hook: &Hook) -> Result<(), Fault> {
        self.effects.hooks_changed = true;
        let lane = hook.lane().into();
        self.hooks.due.insert(&lane, hook.next_attempt, hook.id)
    }

    /// Ends all claims, since the process that had them is gone.
    pub(in crate::subject) fn end_claims_of_hooks(&mut self) -> Result<(), Fault> {
        for (id, ()) in self.hooks.claimed.all()? {
            self.hooks.claimed.remove(&id);
            if let Some(hook) = self.hooks.hooks.get(&id)? {
                self.make_hook_due(&hook)?;
            }
        }
        Ok(())
    }

    pub(super) fn schedule_hook(&mut self, id: HookId, next: NextAttempt) -> Result<bool, Fault> {
        let Some(mut hook) = self.hooks.hooks.get(&id)? else {
            return Ok(false);
        };
        let before = hook.next_attempt;
        hook.next_attempt = next.instead_of(before);
        if self.hooks.waits(&hook)? {
            let lane = hook.lane().into();
            self.hooks.due.remove(&lane, &[(before, id)])?;
            self.make_hook_due(&hook)?;
        }
        self.hooks.hooks.put(id, hook);
        Ok(true)
    }

    pub(super) fn end_hook(
        &mut self,
        id: HookId,
        keep_until: Option<Time>,
        result: &HookAttempt,
    ) -> Result<bool, Fault> {
        let Some(mut hook) = self.hooks.hooks.get(&id)? else {
            return Ok(false);
        };
        if self.hooks.claimed.contains(&id)? {
            return Ok(false);
        }
        if self.hooks.waits(&hook)? {
            let lane = hook.lane().into();
            self.hooks.due.remove(&lane, &[(hook.next_attempt, id)])?;
        }
        hook.results.push(result.clone());
        self.retire_hook(hook, false, result.start, keep_until)?;
        Ok(true)
    }

    pub(super) fn settle_hook(&mut self, settle: SettleHook) -> Result<bool, Fault> {
        let hook = self.hooks.hooks.get(&settle.id)?;
        let Some(mut hook) = hook.filter(|hook| hook.fence == settle.fence) else {
            return Ok(false);
        };
        if self.hooks.claimed.take(&hook.id)?.is_none() {
            return Ok(false);
        }
        hook.fence += 1;
        match settle.outcome {
            Outcome::Release => hook.attempts = hook.attempts.saturating_sub(1),
            Outcome::Postpone(time) => {
                hook.attempts = hook.attempts.saturating_sub(1);
                hook.next_attempt = time;
            }
            Outcome::Retry(time) => {
                hook.results.push(settle.attempt);
                hook.next_attempt = time;
            }
            Outcome::Retire {
                success,
                now,
                keep_until,
            } => {
                hook.results.push(settle.attempt);
                self.retire_hook(hook, success, now, keep_until)?;
                return Ok(true);
            }
        }
        self.make_hook_due(&hook)?;
        self.hooks.hooks.put(hook.id, hook);
        Ok(true)
    }

    fn retire_hook(
        &mut self,
        hook: Hook,
        success: bool,
        last_activity: Time,
        keep_until: Option<Time>,
    ) -> Result<(), Fault> {
        let id = hook.id;
        self.hooks.hooks.remove(&id);
        self.hooks.counters.hooks -= 1;
        if let HookKind::Incoming(mail) = &hook.kind {
            self.release_text(mail.text)?;
        }
        if let Some(chain) = hook.chain() {
            let was_first = self.hooks.first_of(&chain)? == Some(id);
            let key = (chain.0, Arc::clone(&chain.1), id);
            self.hooks.chains.remove(&key);
            if was_first
                && let Some(next) = self.hooks.first_of(&chain)?
                && let Some(next) = self.hooks.hooks.get(&next)?
            {
                self.make_hook_due(&next)?;
            }
        }
        if let Some(keep_until) = keep_until {
            self.history.add(keep_until, tag::hooks, id.0);
            self.hooks.counters.retired += 1;
            let retired = RetiredHook {
                hook,
                success,
                last_activity,
                keep_until,
            };
            self.hooks.retired.put_new(id, retired);
        }
        Ok(())
    }
}
