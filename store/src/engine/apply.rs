//! What each op does to the state.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::{
    Fault,
    key::Name,
    op::{Applied, Op, OpText},
    state::{ANSWER, EVENT, RETIRED, RETIRED_HOOK, State, next, reference_key},
    table::values,
    value::{Claimed, Place},
};
use crate::{
    Accepted, Answered, ApiKeyId, Attempt, Change, Common, Counted, EventId, HoldRule, HoldRuleId,
    Hook, HookAttempt, HookId, HookKind, Mail, MailChange, MailId, NewEvent, NewHook, NewHookKind,
    NewMail, NewMessage, NewRecipient, NewSuppression, NextAttempt, Note, Once, Outcome, Party,
    QueueId, Queued, Reference, Retired, RetiredHook, Sent, SettleHook, StoreError, SuppressionId,
    TextId, TextSource, Time,
    journal::BodyPlace,
    verb::{COUNTED_DAYS, RESULTS_MAX, SENT_HOURS, base_in_list, day, hour, known_as},
};

/// The parts that accepting and settling share.
struct Parts {
    text: Option<OpText>,
    queue: Option<NewMessage>,
    mails: Vec<NewMail>,
    hooks: Vec<NewHook>,
    notes: Vec<Note>,
    suppress: Vec<NewSuppression>,
    events: Vec<NewEvent>,
    once: Option<Box<Once>>,
}

impl State {
    /// Carries out an op whose entry has its body at `place`. A fault leaves the state half changed.
    pub(super) fn apply(&mut self, op: Op, place: Option<BodyPlace>) -> Result<Applied, Fault> {
        match op {
            Op::Accept {
                text,
                queue,
                mails,
                hooks,
                notes,
                suppress,
                events,
                once,
            } => {
                let parts = Parts {
                    text,
                    queue,
                    mails,
                    hooks,
                    notes,
                    suppress,
                    events,
                    once,
                };
                self.add(parts, place).map(accepted)
            }
            Op::Claim {
                now,
                lapsed,
                claimed,
            } => {
                self.lapse(&lapsed)?;
                self.claim(now, &claimed)?;
                Ok(Applied::Done)
            }
            Op::Settle {
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
            } => {
                let queued = self.queued.get(&id)?.filter(|queued| queued.fence == fence);
                let in_use = party == Party::Administrator && self.claimed.contains(&id)?;
                let Some(queued) = queued.filter(|_| !in_use) else {
                    self.drop_text(text);
                    return Ok(Applied::Settled(false));
                };
                let parts = Parts {
                    text,
                    queue: None,
                    mails,
                    hooks,
                    notes: Vec::new(),
                    suppress,
                    events,
                    once: None,
                };
                if let Err(error) = self.add(parts, place)? {
                    return Ok(Applied::Refused(error));
                }
                self.settle(queued, attempt, outcome, delay_told)?;
                Ok(Applied::Settled(true))
            }
            Op::ClaimHooks { claimed } => {
                claimed.into_iter().try_for_each(|id| self.claim_hook(id))?;
                Ok(Applied::Done)
            }
            Op::SettleHook(settle) => Ok(Applied::Settled(self.settle_hook(settle)?)),
            Op::SetCredential {
                account,
                credential,
            } => {
                let account: Name = account.into();
                match credential {
                    Some(credential) => self.credentials.put(account, credential),
                    None => self.credentials.remove(&account),
                }
                Ok(Applied::Done)
            }
            Op::Move { text, from } => {
                if let Some(to) = place {
                    self.move_text(text, from, to)?;
                }
                Ok(Applied::Done)
            }
            Op::Expire { now, max } => self.expire(now, max).map(Applied::Counted),
            Op::Change { ids, change } => {
                let mut count = 0;
                for id in ids {
                    count += u64::from(self.change(id, &change)?);
                }
                Ok(Applied::Counted(count))
            }
            Op::Suppress(suppression) => {
                let added = self.suppress(suppression)?;
                Ok(Applied::Counted(added.into()))
            }
            Op::Unsuppress { account, base } => {
                let removed = self.unsuppress(&account, &base)?;
                Ok(Applied::Counted(removed.into()))
            }
            Op::AddHoldRule { filter, created } => {
                let id = HoldRuleId(next(&mut self.counters.last_hold_rule));
                self.counters.hold_rules += 1;
                let rule = HoldRule {
                    id,
                    filter,
                    created,
                };
                self.hold_rules.put_new(id, rule);
                Ok(Applied::Numbered(id.0))
            }
            Op::Start => {
                self.end_claims()?;
                Ok(Applied::Done)
            }
            Op::Stage { text } => {
                let id = self.add_text(written(text, place), 1)?;
                self.staged.put_new(id, ());
                Ok(Applied::Numbered(id.0))
            }
            Op::Unstage { ids } => {
                ids.into_iter().try_for_each(|id| self.unstage(id))?;
                Ok(Applied::Done)
            }
            Op::AcceptAll { messages, once } => self.add_all(messages, once).map(accepted),
            Op::AddApiKey(key) => {
                let id = ApiKeyId(next(&mut self.counters.last_api_key));
                self.api_keys.put_new(id, key.key(id));
                Ok(Applied::Numbered(id.0))
            }
            Op::RemoveApiKey { id } => {
                let removed = self.api_keys.take(&id)?.is_some();
                Ok(Applied::Counted(removed.into()))
            }
            Op::ScheduleHooks { ids, next } => {
                let mut count = 0;
                for id in ids {
                    count += u64::from(self.schedule_hook(id, next)?);
                }
                Ok(Applied::Counted(count))
            }
            Op::EndHooks { ends, result } => {
                let mut count = 0;
                for (id, keep_until) in ends {
                    count += u64::from(self.end_hook(id, keep_until, &result)?);
                }
                Ok(Applied::Counted(count))
            }
            Op::ChangeMail {
                account,
                id,
                change,
            } => {
                let changed = self.change_mail(&account, id, &change)?;
                Ok(Applied::Counted(changed.into()))
            }
            Op::RemoveMail { account, id } => {
                let removed = self.remove_mail(&account, id)?;
                Ok(Applied::Counted(removed.into()))
            }
            Op::RemoveHoldRule { id } => {
                let removed = self.hold_rules.take(&id)?.is_some();
                self.counters.hold_rules -= u64::from(removed);
                Ok(Applied::Counted(removed.into()))
            }
        }
    }

    /// Ends all claims and drops what was staged, as the process that had them is gone.
    pub(super) fn end_claims(&mut self) -> Result<(), Fault> {
        for (id, ()) in self.staged.all()? {
            self.unstage(id)?;
        }
        let claimed = self.claimed.all()?.into_iter();
        self.lapse(&claimed.map(|(id, _)| id).collect::<Vec<_>>())?;
        for (id, ()) in self.claimed_hooks.all()? {
            self.claimed_hooks.remove(&id);
            if let Some(hook) = self.hooks.get(&id)? {
                self.make_hook_due(&hook)?;
            }
        }
        Ok(())
    }

    /// A text that came with an op that changes nothing.
    fn drop_text(&mut self, text: Option<OpText>) {
        if let Some(OpText::File(place)) = text {
            self.effects.dropped_files.push(place.file);
        }
    }

    fn add(
        &mut self,
        parts: Parts,
        place: Option<BodyPlace>,
    ) -> Result<Result<Accepted, StoreError>, Fault> {
        let Parts {
            text,
            queue,
            mails,
            hooks,
            notes,
            suppress,
            events,
            once,
        } = parts;
        if let Some(error) = self.check_new(once.as_deref(), queue.as_slice())? {
            self.drop_text(text);
            return Ok(Err(error));
        }
        let mut refs: BTreeMap<Option<TextId>, u64> = BTreeMap::new();
        {
            let queued = queue
                .iter()
                .map(|message| (message.text, message.recipients.len() as u64));
            let mailed = mails.iter().map(|mail| (mail.text, 1));
            let told = hooks.iter().filter_map(|hook| match &hook.kind {
                NewHookKind::Incoming(index) => {
                    mails.get(*index as usize).map(|mail| (mail.text, 1))
                }
                NewHookKind::Again(mail) => Some((TextSource::Existing(mail.text), 1)),
                NewHookKind::Outgoing(_) => None,
            });
            for (source, count) in queued.chain(mailed).chain(told) {
                let id = match source {
                    TextSource::New => None,
                    TextSource::Existing(id) => Some(id),
                };
                *refs.entry(id).or_default() += count;
            }
        }
        if let Some(error) =
            self.check_texts(refs.keys().flatten().map(|id| TextSource::Existing(*id)))?
        {
            self.drop_text(text);
            return Ok(Err(error));
        }
        let new_refs = refs.get(&None).copied().unwrap_or_default();
        let new = match text {
            None => TextId::default(),
            Some(text) => self.add_text(written(text, place), new_refs)?,
        };
        for (id, count) in refs {
            if let Some(id) = id {
                self.retain_text(id, count)?;
            }
        }
        let mut accepted = Accepted::default();
        if let Some(message) = queue {
            accepted.queue = self.add_message(message, new)?;
        }
        let mails: Vec<Mail> = mails
            .into_iter()
            .map(|mail| self.number_mail(mail, new))
            .collect();
        accepted.mails = mails.iter().map(|mail| mail.id).collect();
        for note in notes {
            self.note(note)?;
        }
        let mut suppressed = suppress.is_empty();
        for suppression in suppress {
            suppressed |= self.suppress(suppression)?;
        }
        for mut hook in hooks {
            if !suppressed {
                hook.not_suppressing();
            }
            let mail = match hook.kind {
                NewHookKind::Incoming(index) => mails.get(index as usize).cloned().map(Arc::new),
                NewHookKind::Outgoing(_) | NewHookKind::Again(_) => None,
            };
            let id = HookId(next(&mut self.counters.last_hook));
            if let Some(hook) = hook.hook(id, mail) {
                self.add_hook(hook)?;
            }
        }
        for mail in mails {
            self.add_mail(mail);
        }
        for event in events {
            let told = if suppressed {
                Some(event)
            } else {
                event.not_suppressing()
            };
            if let Some(event) = told {
                self.log(event)?;
            }
        }
        self.remember(once, &accepted.queue)?;
        Ok(Ok(accepted))
    }

    fn add_message(&mut self, message: NewMessage, new: TextId) -> Result<Vec<QueueId>, Fault> {
        let text = resolve(message.text, new);
        let common = Arc::new(message.common);
        let base = QueueId(self.counters.last_queued + 1);
        let rules = self.hold_rules()?;
        self.count_sent(&common, &message.recipients)?;
        let mut ids = Vec::with_capacity(message.recipients.len());
        for recipient in message.recipients {
            let id = QueueId(next(&mut self.counters.last_queued));
            let mut queued =
                recipient.queued(id, base, message.top.clone(), text, Arc::clone(&common));
            queued.hold |= rules.iter().any(|rule| rule.filter.matches(&queued));
            self.counters.queued += 1;
            for key in reference_keys(&queued) {
                self.references.put_new(key, ());
            }
            if queued.hold {
                self.counters.held += 1;
            } else {
                self.make_due(&queued)?;
            }
            self.queued.put_new(id, queued);
            ids.push(id);
        }
        Ok(ids)
    }

    fn add_all(
        &mut self,
        messages: Vec<NewMessage>,
        once: Option<Box<Once>>,
    ) -> Result<Result<Accepted, StoreError>, Fault> {
        if let Some(error) = self.check_new(once.as_deref(), &messages)? {
            return Ok(Err(error));
        }
        let texts = messages.iter().map(|message| message.text);
        if let Some(error) = self.check_texts(texts)? {
            return Ok(Err(error));
        }
        let mut accepted = Accepted::default();
        for message in messages {
            let text = resolve(message.text, TextId::default());
            self.retain_text(text, message.recipients.len() as u64)?;
            accepted.queue.extend(self.add_message(message, text)?);
            self.unstage(text)?;
        }
        self.remember(once, &accepted.queue)?;
        Ok(Ok(accepted))
    }

    fn unstage(&mut self, id: TextId) -> Result<(), Fault> {
        if self.staged.take(&id)?.is_some() {
            self.release_text(id)?;
        }
        Ok(())
    }

    /// Writes an event down in its account's log, and counts it.
    fn log(&mut self, event: NewEvent) -> Result<(), Fault> {
        let Counted {
            day,
            account,
            event: kind,
            domain,
        } = event.counted_as();
        let key = (day, account.into(), (kind as u8, domain.into()));
        match self.counted.get_mut(&key)? {
            Some(count) => *count += 1,
            None => self.counted.put_new(key, 1),
        }
        let number = event.number(self.counters.last_event);
        self.counters.last_event = number;
        self.expiry.put_new((event.keep_until, EVENT, number), ());
        let id = EventId(number);
        self.events.put_new(id, event.event(id));
        self.effects.events_changed = true;
        Ok(())
    }

    /// Drops what was counted too long ago, at most so many rows.
    fn forget_counted(&mut self, now: Time, max: usize) -> Result<u64, Fault> {
        let Some(last) = day(now).checked_sub(COUNTED_DAYS) else {
            return Ok(0);
        };
        let to = (last, "".into(), (0, "".into()));
        let old: Result<Vec<_>, Fault> = self
            .counted
            .range(Bound::Unbounded, Bound::Excluded(&to))?
            .take(max)
            .collect();
        let old = old?;
        for (key, _) in &old {
            self.counted.remove(key);
        }
        Ok(old.len() as u64)
    }

    fn is_done(&self, once: &Once) -> Result<bool, Fault> {
        let key = (once.account.as_str().into(), once.key.as_str().into());
        let answered = self.answers.get(&key)?;
        Ok(answered.is_some_and(|answered| answered.until > once.now))
    }

    /// What is done once, and the numbers that it got.
    fn remember(&mut self, once: Option<Box<Once>>, ids: &[QueueId]) -> Result<(), Fault> {
        let Some(once) = once else {
            return Ok(());
        };
        let number = next(&mut self.counters.last_answer);
        let answered = Answered {
            number,
            request: once.request,
            answer: once.answer,
            first: ids.first().copied().unwrap_or_default(),
            until: once.until,
        };
        self.expiry.put_new((once.until, ANSWER, number), ());
        let key = (once.account.as_str().into(), once.key.as_str().into());
        // One that nobody asks for any more, though its time to go has not come.
        if let Some(before) = self.answers.take(&key)? {
            self.expiry.remove(&(before.until, ANSWER, before.number));
            self.answer_names.remove(&before.number);
        }
        self.answers.put(key, answered);
        self.answer_names.put_new(number, (once.account, once.key));
        Ok(())
    }

    fn forget(&mut self, number: u64) -> Result<(), Fault> {
        if let Some((account, key)) = self.answer_names.take(&number)? {
            self.answers.remove(&(account.into(), key.into()));
        }
        Ok(())
    }

    /// Counts what an account sends, for its limits.
    fn count_sent(&mut self, common: &Common, recipients: &[NewRecipient]) -> Result<(), Fault> {
        let account: Name = common.account.as_str().into();
        let mut sent = Sent {
            recipients: recipients.len() as u64,
            first_time: 0,
        };
        for recipient in recipients {
            let key = (Arc::clone(&account), known_as(&recipient.recipient).into());
            if !self.known.contains(&key)? {
                self.known.put_new(key, ());
                sent.first_time += 1;
            }
        }
        let hour = hour(common.queued);
        let key = (Arc::clone(&account), hour);
        match self.sent.get_mut(&key)? {
            Some(before) => *before = before.plus(sent),
            None => {
                self.sent.put_new(key, sent);
                self.forget_sent(&account, hour)?;
            }
        }
        Ok(())
    }

    /// Drops what was counted too long before this hour.
    fn forget_sent(&mut self, account: &Name, hour: u64) -> Result<(), Fault> {
        let Some(last) = hour.checked_sub(SENT_HOURS) else {
            return Ok(());
        };
        let (from, to) = ((Arc::clone(account), 0), (Arc::clone(account), last));
        let old: Result<Vec<_>, Fault> = self
            .sent
            .range(Bound::Included(&from), Bound::Included(&to))?
            .collect();
        for (key, _) in old? {
            self.sent.remove(&key);
        }
        Ok(())
    }

    /// Why new messages may not be queued, if so.
    fn check_new(
        &self,
        once: Option<&Once>,
        messages: &[NewMessage],
    ) -> Result<Option<StoreError>, Fault> {
        if let Some(once) = once
            && self.is_done(once)?
        {
            return Ok(Some(StoreError::DoneBefore));
        }
        for message in messages {
            if let Some(error) = self.check_from_ids(message)? {
                return Ok(Some(error));
            }
        }
        Ok(None)
    }

    fn check_from_ids(&self, message: &NewMessage) -> Result<Option<StoreError>, Fault> {
        let mut seen = BTreeSet::new();
        for recipient in &message.recipients {
            let id = &recipient.from_id;
            if id.is_empty() {
                continue;
            }
            if !seen.insert(id) || self.is_referred(Reference::FromId(id))? {
                return Ok(Some(StoreError::FromIdInUse(id.clone())));
            }
        }
        Ok(None)
    }

    fn is_referred(&self, reference: Reference<'_>) -> Result<bool, Fault> {
        let name = reference_key(reference);
        let from = (Arc::clone(&name), "".into(), QueueId(0));
        let first = self
            .references
            .range(Bound::Included(&from), Bound::Unbounded)?
            .next()
            .transpose()?;
        Ok(first.is_some_and(|((found, _, _), ())| found == name))
    }

    /// All of them: there are few.
    pub(super) fn hold_rules(&self) -> Result<Vec<HoldRule>, Fault> {
        if self.counters.hold_rules == 0 {
            return Ok(Vec::new());
        }
        Ok(values(self.hold_rules.all()?))
    }

    fn note(&mut self, note: Note) -> Result<(), Fault> {
        if let Some(queued) = self.queued.get_mut(&note.id)? {
            if queued.results.len() < RESULTS_MAX {
                queued.results.push(note.result);
            }
        } else if let Some(retired) = self.retired.get_mut(&note.id)? {
            retired.last_activity = retired.last_activity.max(note.result.start);
            if retired.message.results.len() < RESULTS_MAX {
                retired.message.results.push(note.result);
            }
        }
        Ok(())
    }

    /// False if the base address is on the list already.
    fn suppress(&mut self, suppression: NewSuppression) -> Result<bool, Fault> {
        let key = (
            Name::from(suppression.account.as_str()),
            Name::from(base_in_list(&suppression.base, &suppression.list)),
        );
        if self.suppressed.contains(&key)? {
            return Ok(false);
        }
        let id = SuppressionId(next(&mut self.counters.last_suppression));
        self.counters.suppressions += 1;
        self.suppressed.put_new(key, id);
        self.suppressions.put_new(id, suppression.suppression(id));
        Ok(true)
    }

    fn unsuppress(&mut self, account: &str, base: &str) -> Result<bool, Fault> {
        let Some(id) = self.suppressed.take(&(account.into(), base.into()))? else {
            return Ok(false);
        };
        self.suppressions.remove(&id);
        self.counters.suppressions -= 1;
        Ok(true)
    }

    fn change(&mut self, id: QueueId, change: &Change) -> Result<bool, Fault> {
        let Some(mut queued) = self.queued.get(&id)? else {
            return Ok(false);
        };
        let claimed = self.claimed.contains(&id)?;
        let (was_held, was_next) = (queued.hold, queued.next_attempt);
        change.apply(&mut queued);
        self.counters.held -= u64::from(was_held);
        self.counters.held += u64::from(queued.hold);
        // What is claimed is in no lane, and what is held neither.
        let moved = was_next != queued.next_attempt || was_held != queued.hold;
        if moved && !claimed && !was_held {
            self.due
                .remove(&queued.destination().into(), &[(was_next, id)])?;
        }
        if moved && !claimed && !queued.hold {
            self.make_due(&queued)?;
        }
        self.queued.put(id, queued);
        Ok(true)
    }

    fn make_due(&mut self, queued: &Queued) -> Result<(), Fault> {
        self.effects.queue_changed = true;
        self.due
            .insert(&queued.destination().into(), queued.next_attempt, queued.id)
    }

    fn number_mail(&mut self, mail: NewMail, new: TextId) -> Mail {
        let id = MailId(next(&mut self.counters.last_mail));
        let text = resolve(mail.text, new);
        mail.mail(id, text)
    }

    fn add_mail(&mut self, mail: Mail) {
        let account: Name = mail.account.as_str().into();
        self.mailboxes.put_new(
            (Arc::clone(&account), mail.mailbox.as_str().into(), mail.id),
            (),
        );
        self.account_mails.put_new((account, mail.id), ());
        self.counters.mails += 1;
        self.mails.put_new(mail.id, mail);
    }

    fn change_mail(
        &mut self,
        account: &str,
        id: MailId,
        change: &MailChange,
    ) -> Result<bool, Fault> {
        let Some(mut mail) = self.mails.get(&id)?.filter(|mail| mail.account == account) else {
            return Ok(false);
        };
        let name: Name = account.into();
        let from = (Arc::clone(&name), mail.mailbox.as_str().into(), id);
        change.apply(&mut mail);
        let to = (name, mail.mailbox.as_str().into(), id);
        if from != to {
            self.mailboxes.remove(&from);
            self.mailboxes.put(to, ());
        }
        self.mails.put(id, mail);
        Ok(true)
    }

    fn remove_mail(&mut self, account: &str, id: MailId) -> Result<bool, Fault> {
        let Some(mail) = self.mails.get(&id)?.filter(|mail| mail.account == account) else {
            return Ok(false);
        };
        let account: Name = account.into();
        let mailbox = (Arc::clone(&account), mail.mailbox.as_str().into(), id);
        self.mails.remove(&id);
        self.mailboxes.remove(&mailbox);
        self.account_mails.remove(&(account, id));
        self.counters.mails -= 1;
        self.release_text(mail.text)?;
        Ok(true)
    }

    fn add_hook(&mut self, hook: Hook) -> Result<(), Fault> {
        let url: Name = hook.url.as_str().into();
        let first = match &hook.kind {
            HookKind::Incoming(_) => true,
            HookKind::Outgoing(outgoing) => {
                let first = self.first_of_chain(outgoing.queue_id, &url)?.is_none();
                self.chains
                    .put_new((outgoing.queue_id, Arc::clone(&url), hook.id), ());
                first
            }
        };
        if first {
            self.make_hook_due(&hook)?;
        }
        self.counters.hooks += 1;
        self.hooks.put_new(hook.id, hook);
        Ok(())
    }

    fn make_hook_due(&mut self, hook: &Hook) -> Result<(), Fault> {
        self.effects.hooks_changed = true;
        self.hooks_due
            .insert(&hook.lane().into(), hook.next_attempt, hook.id)
    }

    fn first_of_chain(&self, id: QueueId, url: &Name) -> Result<Option<HookId>, Fault> {
        let from = (id, Arc::clone(url), HookId(0));
        let to = (id, Arc::clone(url), HookId(u64::MAX));
        let first = self
            .chains
            .range(Bound::Included(&from), Bound::Included(&to))?
            .next()
            .transpose()?;
        Ok(first.map(|((_, _, id), ())| id))
    }

    /// Makes messages due again whose claims ran out. Their attempts count.
    fn lapse(&mut self, ids: &[QueueId]) -> Result<(), Fault> {
        for id in ids {
            if self.unclaim(*id)?.is_some()
                && let Some(queued) = self.queued.get(id)?
                && !queued.hold
            {
                self.make_due(&queued)?;
            }
        }
        Ok(())
    }

    /// Ends a claim, if there is one.
    fn unclaim(&mut self, id: QueueId) -> Result<Option<Claimed>, Fault> {
        let claimed = self.claimed.take(&id)?;
        if claimed.is_some() {
            self.counters.claimed -= 1;
        }
        Ok(claimed)
    }

    fn claim(&mut self, now: Time, ids: &[QueueId]) -> Result<(), Fault> {
        // Neighbours go to the same destination mostly; together they cost less.
        let mut lane: Option<(Name, Vec<(Time, QueueId)>)> = None;
        for id in ids {
            let Some(queued) = self.queued.get_mut(id)? else {
                continue;
            };
            let last_attempt = queued.last_attempt;
            queued.fence += 1;
            queued.attempts += 1;
            queued.last_attempt = Some(now);
            let due = (queued.next_attempt, queued.id);
            let destination = queued.destination();
            // When entries of an earlier process are replayed, it may be claimed already: nothing told of that one's end.
            let again = self.claimed.get(id)?.is_some();
            if again {
                self.claimed.put(*id, Claimed { last_attempt });
                continue;
            }
            self.claimed.put_new(*id, Claimed { last_attempt });
            self.counters.claimed += 1;
            match &mut lane {
                Some((name, entries)) if **name == *destination => entries.push(due),
                _ => {
                    if let Some((name, entries)) = lane.replace((destination.into(), vec![due])) {
                        self.due.remove(&name, &entries)?;
                    }
                }
            }
        }
        match lane {
            Some((name, entries)) => self.due.remove(&name, &entries),
            None => Ok(()),
        }
    }

    fn settle(
        &mut self,
        mut queued: Queued,
        attempt: Option<Attempt>,
        outcome: Outcome,
        delay_told: bool,
    ) -> Result<(), Fault> {
        let id = queued.id;
        let claimed = self.unclaim(id)?;
        if claimed.is_none() && !queued.hold {
            // The claim ran out and nobody else took it.
            self.due
                .remove(&queued.destination().into(), &[(queued.next_attempt, id)])?;
        }
        queued.fence += 1;
        queued.results.extend(attempt);
        queued.delay_told |= delay_told;
        match outcome {
            Outcome::Release => {
                queued.attempts = queued.attempts.saturating_sub(1);
                if let Some(claimed) = claimed {
                    queued.last_attempt = claimed.last_attempt;
                }
            }
            Outcome::Retry(time) => queued.next_attempt = time,
            Outcome::Retire {
                success,
                now,
                keep_until,
            } => {
                return self.retire(queued, success, now, keep_until);
            }
        }
        if !queued.hold {
            self.make_due(&queued)?;
        }
        self.queued.put(id, queued);
        Ok(())
    }

    fn retire(
        &mut self,
        message: Queued,
        success: bool,
        last_activity: Time,
        keep_until: Option<Time>,
    ) -> Result<(), Fault> {
        let id = message.id;
        self.queued.remove(&id);
        self.counters.queued -= 1;
        if message.hold {
            self.counters.held -= 1;
        }
        self.release_text(message.text)?;
        if let Some(keep_until) = keep_until {
            self.expiry.put_new((keep_until, RETIRED, id.0), ());
            self.counters.retired += 1;
            self.retired.put_new(
                id,
                Retired {
                    message,
                    success,
                    last_activity,
                    keep_until,
                },
            );
        } else {
            self.forget_references(&message);
        }
        Ok(())
    }

    fn forget_references(&mut self, message: &Queued) {
        for key in reference_keys(message) {
            self.references.remove(&key);
        }
    }

    /// Whether a call waits among those that are due: nobody makes it, and no earlier one of its message goes first.
    fn hook_waits(&self, hook: &Hook) -> Result<bool, Fault> {
        if self.claimed_hooks.contains(&hook.id)? {
            return Ok(false);
        }
        match &hook.kind {
            HookKind::Incoming(_) => Ok(true),
            HookKind::Outgoing(outgoing) => {
                let url: Name = hook.url.as_str().into();
                Ok(self.first_of_chain(outgoing.queue_id, &url)? == Some(hook.id))
            }
        }
    }

    fn schedule_hook(&mut self, id: HookId, next: NextAttempt) -> Result<bool, Fault> {
        let Some(mut hook) = self.hooks.get(&id)? else {
            return Ok(false);
        };
        let before = hook.next_attempt;
        hook.next_attempt = next.instead_of(before);
        if self.hook_waits(&hook)? {
            self.hooks_due
                .remove(&hook.lane().into(), &[(before, id)])?;
            self.make_hook_due(&hook)?;
        }
        self.hooks.put(id, hook);
        Ok(true)
    }

    fn end_hook(
        &mut self,
        id: HookId,
        keep_until: Option<Time>,
        result: &HookAttempt,
    ) -> Result<bool, Fault> {
        let Some(mut hook) = self.hooks.get(&id)? else {
            return Ok(false);
        };
        if self.claimed_hooks.contains(&id)? {
            return Ok(false);
        }
        if self.hook_waits(&hook)? {
            self.hooks_due
                .remove(&hook.lane().into(), &[(hook.next_attempt, id)])?;
        }
        hook.results.push(result.clone());
        self.retire_hook(hook, false, result.start, keep_until)?;
        Ok(true)
    }

    fn claim_hook(&mut self, id: HookId) -> Result<(), Fault> {
        let Some(hook) = self.hooks.get_mut(&id)? else {
            return Ok(());
        };
        hook.fence += 1;
        hook.attempts += 1;
        let (lane, time): (Name, _) = (hook.lane().into(), hook.next_attempt);
        if !self.claimed_hooks.contains(&id)? {
            self.claimed_hooks.put_new(id, ());
            self.hooks_due.remove(&lane, &[(time, id)])?;
        }
        Ok(())
    }

    fn settle_hook(&mut self, settle: SettleHook) -> Result<bool, Fault> {
        let Some(mut hook) = self
            .hooks
            .get(&settle.id)?
            .filter(|hook| hook.fence == settle.fence)
        else {
            return Ok(false);
        };
        if self.claimed_hooks.take(&hook.id)?.is_none() {
            return Ok(false);
        }
        hook.fence += 1;
        match settle.outcome {
            Outcome::Release => hook.attempts = hook.attempts.saturating_sub(1),
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
        self.hooks.put(hook.id, hook);
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
        self.hooks.remove(&id);
        self.counters.hooks -= 1;
        match &hook.kind {
            HookKind::Incoming(mail) => self.release_text(mail.text)?,
            HookKind::Outgoing(outgoing) => {
                let url: Name = hook.url.as_str().into();
                let was_first = self.first_of_chain(outgoing.queue_id, &url)? == Some(id);
                self.chains
                    .remove(&(outgoing.queue_id, Arc::clone(&url), id));
                if was_first
                    && let Some(next) = self.first_of_chain(outgoing.queue_id, &url)?
                    && let Some(next) = self.hooks.get(&next)?
                {
                    self.make_hook_due(&next)?;
                }
            }
        }
        if let Some(keep_until) = keep_until {
            self.expiry.put_new((keep_until, RETIRED_HOOK, id.0), ());
            self.counters.retired_hooks += 1;
            self.retired_hooks.put_new(
                id,
                RetiredHook {
                    hook,
                    success,
                    last_activity,
                    keep_until,
                },
            );
        }
        Ok(())
    }

    fn expire(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let to = (now, u8::MAX, u64::MAX);
        let over: Result<Vec<_>, _> = self
            .expiry
            .range(Bound::Unbounded, Bound::Included(&to))?
            .take(max)
            .collect();
        let over = over?;
        for (key, ()) in &over {
            self.expiry.remove(key);
            match key.1 {
                RETIRED => {
                    if let Some(retired) = self.retired.take(&QueueId(key.2))? {
                        self.forget_references(&retired.message);
                    }
                    self.counters.retired -= 1;
                }
                ANSWER => self.forget(key.2)?,
                EVENT => self.events.remove(&EventId(key.2)),
                _ => {
                    self.retired_hooks.remove(&HookId(key.2));
                    self.counters.retired_hooks -= 1;
                }
            }
        }
        let counted = self.forget_counted(now, max - over.len())?;
        Ok(over.len() as u64 + counted)
    }
}

/// The keys of a message in the table of references.
fn reference_keys(message: &Queued) -> impl Iterator<Item = (Name, Name, QueueId)> {
    let recipient = Name::from(message.recipient.unicode().to_lowercase());
    message
        .references()
        .map(reference_key)
        .map(|name| (name, Arc::clone(&recipient), message.id))
        .collect::<Vec<_>>()
        .into_iter()
}

fn accepted(added: Result<Accepted, StoreError>) -> Applied {
    added.map_or_else(Applied::Refused, Applied::Accepted)
}

/// Where a text is whose entry has its body at `place`.
fn written(text: OpText, place: Option<BodyPlace>) -> Place {
    match text {
        OpText::Inline => place.map_or(Place::Empty, Place::Journal),
        OpText::File(place) => Place::File(place),
    }
}

fn resolve(source: TextSource, new: TextId) -> TextId {
    match source {
        TextSource::New => new,
        TextSource::Existing(id) => id,
    }
}
