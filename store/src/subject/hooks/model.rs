//! Calls of webhooks in the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Hook, HookAttempt, HookId, HookKind, NewHook, NewHookKind, RetiredHook, SettleHook,
    read::{List, ListRetired},
};
use crate::{
    ClaimHooks, ClaimedHooks, MailId, NextAttempt, Outcome, Page, TextId, Time,
    filter::{ordered, page},
    subject::{ModelPart, ModelState, next, queue::model::choose},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    pub(crate) hooks: BTreeMap<HookId, Hook>,
    claimed: BTreeSet<HookId>,
    pub(crate) retired: BTreeMap<HookId, RetiredHook>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn uses(&self, text: TextId) -> bool {
        let mut kinds = self.hooks.values().map(|hook| &hook.kind);
        kinds.any(|kind| matches!(kind, HookKind::Incoming(mail) if mail.text == text))
    }

    fn history(&self) -> Vec<(Time, u64)> {
        let retired = self.retired.iter();
        retired.map(|(id, it)| (it.keep_until, id.0)).collect()
    }

    fn forget(&mut self, number: u64) {
        self.retired.remove(&HookId(number));
    }
}

impl Model {
    pub(crate) fn end_claims(&mut self) {
        self.claimed.clear();
    }

    pub(super) fn schedule(&mut self, ids: &[HookId], next: NextAttempt) -> u64 {
        let mut count = 0;
        for id in ids {
            if let Some(hook) = self.hooks.get_mut(id) {
                hook.next_attempt = next.instead_of(hook.next_attempt);
                count += 1;
            }
        }
        count
    }

    pub(super) fn list(&self, asked: &List) -> Page<Hook, HookId> {
        let items = self.hooks.values().filter(|hook| {
            let after = asked.after;
            after.is_none_or(|after| asked.order.follows(hook.id, after))
                && asked.filter.matches(hook)
        });
        page(ordered(items, asked.order), asked.limit, |hook| hook.id)
    }

    pub(super) fn list_retired(&self, asked: &ListRetired) -> Page<RetiredHook, HookId> {
        let items = self.retired.values().filter(|retired| {
            let after = asked.after;
            after.is_none_or(|after| asked.order.follows(retired.hook.id, after))
                && asked.filter.matches(retired)
        });
        page(ordered(items, asked.order), asked.limit, |retired| {
            retired.hook.id
        })
    }

    pub(crate) fn claim(&mut self, claim: &ClaimHooks) -> ClaimedHooks {
        let mut lanes: BTreeMap<String, Vec<(Time, HookId)>> = BTreeMap::new();
        let mut chains = BTreeSet::new();
        for hook in self.hooks.values() {
            let first = hook.chain().is_none_or(|chain| chains.insert(chain));
            if first && !self.claimed.contains(&hook.id) && !claim.except.contains(&hook.lane()) {
                lanes
                    .entry(hook.lane())
                    .or_default()
                    .push((hook.next_attempt, hook.id));
            }
        }
        let (chosen, next_due) = choose(lanes, claim.now, claim.max, claim.max_per_lane);
        let mut hooks = Vec::new();
        for id in chosen {
            let Some(hook) = self.hooks.get_mut(&id) else {
                continue;
            };
            self.claimed.insert(id);
            hook.fence += 1;
            hook.attempts += 1;
            hooks.push(hook.clone());
        }
        ClaimedHooks { hooks, next_due }
    }
}

impl ModelState {
    pub(crate) fn add_hooks(&mut self, hooks: Vec<NewHook>, mails: &[MailId]) {
        for hook in hooks {
            let mail = match hook.kind {
                NewHookKind::Incoming(index) => {
                    let id = mails.get(index as usize);
                    id.and_then(|id| self.mail.mails.get(id))
                }
                NewHookKind::Outgoing(_) | NewHookKind::OutgoingV1(_) | NewHookKind::Again(_) => {
                    None
                }
            };
            let mail = mail.cloned().map(Arc::new);
            let id = HookId(next(&mut self.hooks.last));
            if let Some(hook) = hook.hook(id, mail) {
                self.hooks.hooks.insert(id, hook);
            }
        }
    }

    pub(super) fn settle_hook(&mut self, settle: SettleHook) -> bool {
        let hook = self.hooks.hooks.get_mut(&settle.id);
        let Some(hook) = hook.filter(|hook| hook.fence == settle.fence) else {
            return false;
        };
        self.hooks.claimed.remove(&settle.id);
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
                self.retire_hook(settle.id, success, now, keep_until);
            }
        }
        true
    }

    pub(super) fn end_hooks(
        &mut self,
        ends: &[(HookId, Option<Time>)],
        result: &HookAttempt,
    ) -> u64 {
        let mut count = 0;
        for (id, keep_until) in ends {
            if self.hooks.claimed.contains(id) {
                continue;
            }
            if let Some(hook) = self.hooks.hooks.get_mut(id) {
                hook.results.push(result.clone());
                self.retire_hook(*id, false, result.start, *keep_until);
                count += 1;
            }
        }
        count
    }

    fn retire_hook(&mut self, id: HookId, success: bool, now: Time, keep_until: Option<Time>) {
        let Some(hook) = self.hooks.hooks.remove(&id) else {
            return;
        };
        if let HookKind::Incoming(mail) = &hook.kind {
            self.drop_unused(mail.text);
        }
        if let Some(keep_until) = keep_until {
            self.hooks.retired.insert(
                id,
                RetiredHook {
                    hook,
                    success,
                    last_activity: now,
                    keep_until,
                },
            );
        }
    }
}
