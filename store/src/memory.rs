//! The model: what a store does, in the plainest way, in memory.
//!
//! It looks at everything to find something, keeps no index and shares no code with the engine, so that the two can be
//! held against each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use postrider_smtp::Address;
use tokio::sync::watch;

use crate::{
    Accept, Accepted, Answered, ApiKey, ApiKeyId, Change, Claim, ClaimHooks, Claimed, ClaimedHooks,
    Common, Counted, Counts, Credential, EventFilter, EventId, Found, HoldFilter, HoldRule,
    HoldRuleId, Hook, HookAttempt, HookFilter, HookId, HookKind, LoggedEvent, Mail, MailChange,
    MailId, NewApiKey, NewEvent, NewHook, NewHookKind, NewMail, NewMessage, NewRecipient,
    NewSuppression, NewText, NextAttempt, Note, Once, Order, Outcome, Page, Party, QueueFilter,
    QueueId, Queued, Reference, Retired, RetiredFilter, RetiredHook, RetiredHookFilter, Sent,
    Settle, SettleHook, StoreError, Suppression, SuppressionId, Text, TextId, TextSource, Time,
    verb::{COUNTED_DAYS, RESULTS_MAX, base_in_list, day, hour, known_as, page},
};

#[derive(Debug)]
pub(crate) struct Model {
    state: Mutex<State>,
    queue_changed: watch::Sender<u64>,
    hooks_changed: watch::Sender<u64>,
    events_changed: watch::Sender<u64>,
}

#[derive(Clone, Debug, Default)]
struct State {
    closed: bool,
    last_queued: u64,
    last_text: u64,
    last_mail: u64,
    last_hook: u64,
    texts: BTreeMap<TextId, Bytes>,
    queued: BTreeMap<QueueId, Queued>,
    claimed: BTreeMap<QueueId, Lease>,
    retired: BTreeMap<QueueId, Retired>,
    hooks: BTreeMap<HookId, Hook>,
    claimed_hooks: BTreeSet<HookId>,
    retired_hooks: BTreeMap<HookId, RetiredHook>,
    mails: BTreeMap<MailId, Mail>,
    sent: BTreeMap<(String, u64), Sent>,
    staged: BTreeSet<TextId>,
    api_keys: BTreeMap<ApiKeyId, ApiKey>,
    last_api_key: u64,
    answers: BTreeMap<(String, String), Answered>,
    last_answer: u64,
    events: BTreeMap<EventId, LoggedEvent>,
    last_event: u64,
    counted: BTreeMap<Counted, u64>,
    known: BTreeSet<(String, String)>,
    credentials: BTreeMap<String, Credential>,
    last_suppression: u64,
    suppressions: BTreeMap<SuppressionId, Suppression>,
    last_hold_rule: u64,
    hold_rules: BTreeMap<HoldRuleId, HoldRule>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    until: Time,
    /// When the attempt before began.
    last_attempt: Option<Time>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            queue_changed: watch::Sender::new(0),
            hooks_changed: watch::Sender::new(0),
            events_changed: watch::Sender::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.state();
        if state.closed {
            Err(StoreError::Closed)
        } else {
            Ok(state)
        }
    }

    fn tell(&self) {
        self.queue_changed.send_modify(|count| *count += 1);
        self.hooks_changed.send_modify(|count| *count += 1);
        self.events_changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    /// What a crash does: it ends all claims, and what was staged goes.
    #[cfg(test)]
    pub(crate) fn crash(&self) {
        let mut state = self.state();
        state.claimed.clear();
        state.claimed_hooks.clear();
        for id in std::mem::take(&mut state.staged) {
            state.sweep(id);
        }
    }

    /// The last number that a text got.
    #[cfg(test)]
    pub(crate) fn last_text(&self) -> u64 {
        self.state().last_text
    }

    /// Another one that is as this one is now.
    #[cfg(test)]
    pub(crate) fn fork(&self) -> Self {
        Self {
            state: Mutex::new(self.state().clone()),
            ..Self::new()
        }
    }

    pub(crate) fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        let accepted = self.open()?.accept(accept)?;
        self.tell();
        Ok(accepted)
    }

    pub(crate) fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        Ok(self.open()?.claim(claim))
    }

    pub(crate) fn renew(
        &self,
        claims: &[(QueueId, u64)],
        until: Time,
    ) -> Result<Vec<bool>, StoreError> {
        let mut state = self.open()?;
        Ok(claims
            .iter()
            .map(|(id, fence)| state.renew(*id, *fence, until))
            .collect())
    }

    pub(crate) fn settle(&self, settles: Vec<Settle>) -> Result<Vec<bool>, StoreError> {
        let results: Vec<_> = {
            let mut state = self.open()?;
            settles
                .into_iter()
                .map(|settle| state.settle(settle))
                .collect()
        };
        self.tell();
        results.into_iter().collect()
    }

    pub(crate) fn claim_hooks(&self, claim: &ClaimHooks) -> Result<ClaimedHooks, StoreError> {
        Ok(self.open()?.claim_hooks(claim))
    }

    pub(crate) fn settle_hooks(&self, settles: Vec<SettleHook>) -> Result<Vec<bool>, StoreError> {
        let results = {
            let mut state = self.open()?;
            settles
                .into_iter()
                .map(|settle| state.settle_hook(settle))
                .collect()
        };
        self.tell();
        Ok(results)
    }

    pub(crate) fn queue_changed(&self) -> watch::Receiver<u64> {
        self.queue_changed.subscribe()
    }

    pub(crate) fn hooks_changed(&self) -> watch::Receiver<u64> {
        self.hooks_changed.subscribe()
    }

    pub(crate) fn text(&self, id: TextId) -> Result<Text, StoreError> {
        self.open()?
            .texts
            .get(&id)
            .cloned()
            .map(Text::of_bytes)
            .ok_or(StoreError::NoText(id))
    }

    pub(crate) fn queued(&self, id: QueueId) -> Result<Option<Queued>, StoreError> {
        Ok(self.open()?.queued.get(&id).cloned())
    }

    pub(crate) fn is_claimed(&self, id: QueueId) -> Result<bool, StoreError> {
        Ok(self.open()?.claimed.contains_key(&id))
    }

    pub(crate) fn list(
        &self,
        filter: &QueueFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Queued, QueueId>, StoreError> {
        let state = self.open()?;
        let items = state.queued.values().filter(|queued| {
            after.is_none_or(|after| order.follows(queued.id, after)) && filter.matches(queued)
        });
        Ok(page(ordered(items, order), limit, |queued| queued.id))
    }

    pub(crate) fn find(
        &self,
        reference: Reference<'_>,
        recipient: Option<&str>,
        account: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let state = self.open()?;
        let wanted = recipient.map(str::to_lowercase);
        let called = |message: &Queued| {
            account.is_none_or(|account| message.common.account == account)
                && message.references().any(|name| name == reference)
                && wanted
                    .as_ref()
                    .is_none_or(|wanted| *wanted == message.recipient.unicode().to_lowercase())
        };
        let queued = state.queued.values().filter(|queued| called(queued));
        let retired = state.retired.values();
        let retired = retired.filter(|retired| called(&retired.message));
        let found = queued
            .cloned()
            .map(Found::Queued)
            .chain(retired.cloned().map(Found::Retired));
        Ok(found.take(limit).collect())
    }

    pub(crate) fn change(&self, ids: &[QueueId], change: &Change) -> Result<u64, StoreError> {
        let mut count = 0;
        {
            let mut state = self.open()?;
            for id in ids {
                if let Some(queued) = state.queued.get_mut(id) {
                    change.apply(queued);
                    count += 1;
                }
            }
        }
        self.tell();
        Ok(count)
    }

    pub(crate) fn suppression(
        &self,
        account: &str,
        base: &str,
    ) -> Result<Option<Suppression>, StoreError> {
        Ok(self.open()?.suppression(account, base).cloned())
    }

    pub(crate) fn list_suppressions(
        &self,
        account: Option<&str>,
        after: Option<SuppressionId>,
        limit: usize,
    ) -> Result<Page<Suppression, SuppressionId>, StoreError> {
        let state = self.open()?;
        let items = state.suppressions.values().filter(|suppression| {
            Some(suppression.id) > after
                && account.is_none_or(|account| suppression.account == account)
        });
        Ok(page(items.cloned(), limit, |suppression| suppression.id))
    }

    pub(crate) fn suppress(&self, suppression: NewSuppression) -> Result<bool, StoreError> {
        Ok(self.open()?.suppress(suppression))
    }

    pub(crate) fn unsuppress(&self, account: &str, base: &str) -> Result<bool, StoreError> {
        let mut state = self.open()?;
        let id = state.suppression(account, base).map(|found| found.id);
        Ok(id.is_some_and(|id| state.suppressions.remove(&id).is_some()))
    }

    pub(crate) fn change_mail(
        &self,
        account: &str,
        id: MailId,
        change: &MailChange,
    ) -> Result<bool, StoreError> {
        let mut state = self.open()?;
        let mail = state.mails.get_mut(&id);
        let Some(mail) = mail.filter(|mail| mail.account == account) else {
            return Ok(false);
        };
        change.apply(mail);
        Ok(true)
    }

    pub(crate) fn remove_mail(&self, account: &str, id: MailId) -> Result<bool, StoreError> {
        let mut state = self.open()?;
        if state
            .mails
            .get(&id)
            .is_none_or(|mail| mail.account != account)
        {
            return Ok(false);
        }
        if let Some(mail) = state.mails.remove(&id) {
            state.sweep(mail.text);
        }
        Ok(true)
    }

    pub(crate) fn was_mail(&self, id: MailId) -> bool {
        id.0 > 0 && id.0 <= self.state().last_mail
    }

    pub(crate) fn stage(&self, text: NewText) -> Result<TextId, StoreError> {
        let NewText::Inline(text) = text else {
            return Err(StoreError::Invalid("a file of another store"));
        };
        let mut state = self.open()?;
        let id = TextId(next(&mut state.last_text));
        state.texts.insert(id, text);
        state.staged.insert(id);
        Ok(id)
    }

    pub(crate) fn unstage(&self, ids: &[TextId]) -> Result<(), StoreError> {
        let mut state = self.open()?;
        for id in ids {
            if state.staged.remove(id) {
                state.sweep(*id);
            }
        }
        Ok(())
    }

    pub(crate) fn accept_all(
        &self,
        messages: Vec<NewMessage>,
        once: Option<Once>,
    ) -> Result<Vec<QueueId>, StoreError> {
        let queue = self.open()?.accept_all(messages, once)?;
        self.tell();
        Ok(queue)
    }

    pub(crate) fn add_api_key(&self, key: NewApiKey) -> Result<ApiKeyId, StoreError> {
        let mut state = self.open()?;
        let id = ApiKeyId(next(&mut state.last_api_key));
        state.api_keys.insert(id, key.key(id));
        Ok(id)
    }

    pub(crate) fn remove_api_key(&self, id: ApiKeyId) -> Result<bool, StoreError> {
        Ok(self.open()?.api_keys.remove(&id).is_some())
    }

    pub(crate) fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        Ok(self.open()?.api_keys.get(&id).cloned())
    }

    pub(crate) fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        Ok(self.open()?.api_keys.values().cloned().collect())
    }

    pub(crate) fn answered(
        &self,
        account: &str,
        key: &str,
        now: Time,
    ) -> Result<Option<Answered>, StoreError> {
        let state = self.open()?;
        let answered = state.answers.get(&(account.to_owned(), key.to_owned()));
        Ok(answered.filter(|answered| answered.until > now).cloned())
    }

    pub(crate) fn list_events(
        &self,
        filter: &EventFilter,
        after: Option<EventId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<LoggedEvent, EventId>, StoreError> {
        let state = self.open()?;
        let items = state.events.values().filter(|event| {
            after.is_none_or(|after| order.follows(event.id, after)) && filter.matches(event)
        });
        Ok(page(ordered(items, order), limit, |event| event.id))
    }

    pub(crate) fn counted_events(
        &self,
        account: &str,
        days: &RangeInclusive<u64>,
    ) -> Result<Vec<(Counted, u64)>, StoreError> {
        let state = self.open()?;
        let rows = state.counted.iter();
        let rows = rows.filter(|(row, _)| row.account == account && days.contains(&row.day));
        Ok(rows.map(|(row, count)| (row.clone(), *count)).collect())
    }

    pub(crate) fn events_changed(&self) -> watch::Receiver<u64> {
        self.events_changed.subscribe()
    }

    pub(crate) fn sent(&self, account: &str, since: Time) -> Result<Sent, StoreError> {
        let state = self.open()?;
        let from = (account.to_owned(), hour(since));
        let counted = state.sent.range(from..);
        let counted = counted.take_while(|((of, _), _)| of == account);
        Ok(counted.fold(Sent::default(), |sum, (_, sent)| sum.plus(*sent)))
    }

    pub(crate) fn is_known(&self, account: &str, recipient: &Address) -> Result<bool, StoreError> {
        let key = (account.to_owned(), known_as(recipient));
        Ok(self.open()?.known.contains(&key))
    }

    pub(crate) fn hold_rules(&self) -> Result<Vec<HoldRule>, StoreError> {
        Ok(self.open()?.hold_rules.values().cloned().collect())
    }

    pub(crate) fn add_hold_rule(
        &self,
        filter: HoldFilter,
        created: Time,
    ) -> Result<HoldRuleId, StoreError> {
        let mut state = self.open()?;
        let id = HoldRuleId(next(&mut state.last_hold_rule));
        let rule = HoldRule {
            id,
            filter,
            created,
        };
        state.hold_rules.insert(id, rule);
        Ok(id)
    }

    pub(crate) fn remove_hold_rule(&self, id: HoldRuleId) -> Result<bool, StoreError> {
        Ok(self.open()?.hold_rules.remove(&id).is_some())
    }

    pub(crate) fn retired(&self, id: QueueId) -> Result<Option<Retired>, StoreError> {
        Ok(self.open()?.retired.get(&id).cloned())
    }

    pub(crate) fn list_retired(
        &self,
        filter: &RetiredFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Retired, QueueId>, StoreError> {
        let state = self.open()?;
        let items = state.retired.values().filter(|retired| {
            after.is_none_or(|after| order.follows(retired.message.id, after))
                && filter.matches(retired)
        });
        Ok(page(ordered(items, order), limit, |retired| {
            retired.message.id
        }))
    }

    pub(crate) fn hook(&self, id: HookId) -> Result<Option<Hook>, StoreError> {
        Ok(self.open()?.hooks.get(&id).cloned())
    }

    pub(crate) fn list_hooks(
        &self,
        filter: &HookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Hook, HookId>, StoreError> {
        let state = self.open()?;
        let items = state.hooks.values().filter(|hook| {
            after.is_none_or(|after| order.follows(hook.id, after)) && filter.matches(hook)
        });
        Ok(page(ordered(items, order), limit, |hook| hook.id))
    }

    pub(crate) fn list_retired_hooks(
        &self,
        filter: &RetiredHookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<RetiredHook, HookId>, StoreError> {
        let state = self.open()?;
        let items = state.retired_hooks.values().filter(|retired| {
            after.is_none_or(|after| order.follows(retired.hook.id, after))
                && filter.matches(retired)
        });
        Ok(page(ordered(items, order), limit, |retired| {
            retired.hook.id
        }))
    }

    pub(crate) fn schedule_hooks(
        &self,
        ids: &[HookId],
        next: NextAttempt,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        {
            let mut state = self.open()?;
            for id in ids {
                if let Some(hook) = state.hooks.get_mut(id) {
                    hook.next_attempt = next.instead_of(hook.next_attempt);
                    count += 1;
                }
            }
        }
        self.tell();
        Ok(count)
    }

    pub(crate) fn end_hooks(
        &self,
        ends: &[(HookId, Option<Time>)],
        result: &HookAttempt,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        {
            let mut state = self.open()?;
            for (id, keep_until) in ends {
                if state.claimed_hooks.contains(id) {
                    continue;
                }
                if let Some(hook) = state.hooks.get_mut(id) {
                    hook.results.push(result.clone());
                    state.retire_hook(*id, false, result.start, *keep_until);
                    count += 1;
                }
            }
        }
        self.tell();
        Ok(count)
    }

    pub(crate) fn mail(&self, id: MailId) -> Result<Option<Mail>, StoreError> {
        Ok(self.open()?.mails.get(&id).cloned())
    }

    pub(crate) fn list_mails(
        &self,
        account: &str,
        mailbox: Option<&str>,
        after: Option<MailId>,
        limit: usize,
    ) -> Result<Page<Mail, MailId>, StoreError> {
        let state = self.open()?;
        let items = state.mails.values().filter(|mail| {
            Some(mail.id) > after
                && mail.account == account
                && mailbox.is_none_or(|mailbox| mail.mailbox == mailbox)
        });
        Ok(page(items.cloned(), limit, |mail| mail.id))
    }

    pub(crate) fn credential(&self, account: &str) -> Result<Option<Credential>, StoreError> {
        Ok(self.open()?.credentials.get(account).cloned())
    }

    pub(crate) fn set_credential(
        &self,
        account: &str,
        credential: Option<Credential>,
    ) -> Result<(), StoreError> {
        let mut state = self.open()?;
        match credential {
            Some(credential) => state.credentials.insert(account.to_owned(), credential),
            None => state.credentials.remove(account),
        };
        Ok(())
    }

    pub(crate) fn expire(&self, now: Time, max: u64) -> Result<u64, StoreError> {
        let mut state = self.open()?;
        let messages = state
            .retired
            .iter()
            .map(|(id, it)| (it.keep_until, 0, id.0));
        let hooks = state.retired_hooks.iter();
        let hooks = hooks.map(|(id, it)| (it.keep_until, 1, id.0));
        let answers = state.answers.iter();
        let answers = answers.map(|(_, it)| (it.until, 2, it.number));
        let events = state.events.iter();
        let events = events.map(|(id, it)| (it.keep_until, 3, id.0));
        let mut over: Vec<_> = messages
            .chain(hooks)
            .chain(answers)
            .chain(events)
            .filter(|(until, ..)| *until <= now)
            .collect();
        over.sort_unstable();
        over.truncate(usize::try_from(max).unwrap_or(usize::MAX));
        for (_, kind, id) in &over {
            match kind {
                0 => drop(state.retired.remove(&QueueId(*id))),
                3 => drop(state.events.remove(&EventId(*id))),
                2 => state.answers.retain(|_, answered| answered.number != *id),
                _ => drop(state.retired_hooks.remove(&HookId(*id))),
            }
        }
        let left = usize::try_from(max).unwrap_or(usize::MAX) - over.len();
        let last = day(now).saturating_sub(COUNTED_DAYS);
        let old = state.counted.keys().filter(|row| row.day < last);
        let old: Vec<_> = old.take(left).cloned().collect();
        for row in &old {
            state.counted.remove(row);
        }
        Ok((over.len() + old.len()) as u64)
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state();
        Counts {
            queued: state.queued.len() as u64,
            held: state.queued.values().filter(|queued| queued.hold).count() as u64,
            claimed: state.claimed.len() as u64,
            retired: state.retired.len() as u64,
            hooks: state.hooks.len() as u64,
            retired_hooks: state.retired_hooks.len() as u64,
            mails: state.mails.len() as u64,
            suppressions: state.suppressions.len() as u64,
            hold_rules: state.hold_rules.len() as u64,
            journal_bytes: 0,
            text_bytes: state.texts.values().map(|text| text.len() as u64).sum(),
        }
    }
}

fn ordered<'a, T: Clone + 'a>(
    items: impl DoubleEndedIterator<Item = &'a T> + 'a,
    order: Order,
) -> Box<dyn Iterator<Item = T> + 'a> {
    match order {
        Order::Ascending => Box::new(items.cloned()),
        Order::Descending => Box::new(items.rev().cloned()),
    }
}

fn next(last: &mut u64) -> u64 {
    *last += 1;
    *last
}

impl State {
    fn accept(&mut self, accept: Accept) -> Result<Accepted, StoreError> {
        self.check_once(accept.once.as_ref())?;
        self.check_from_ids(accept.queue.as_ref())?;
        for hook in &accept.hooks {
            if let NewHookKind::Again(mail) = &hook.kind
                && !self.texts.contains_key(&mail.text)
            {
                return Err(StoreError::NoText(mail.text));
            }
        }
        let new = self.bring(accept.text, accept.queue.as_ref(), &accept.mails)?;
        let mut accepted = Accepted::default();
        if let Some(message) = accept.queue {
            accepted.queue = self.add_message(message, new);
        }
        accepted.mails = self.add_mails(accept.mails, new);
        for note in accept.notes {
            self.note(note);
        }
        self.suppress_and_tell(
            accept.suppress,
            accept.hooks,
            accept.events,
            &accepted.mails,
        );
        if let Some(new) = new {
            self.sweep(new);
        }
        self.remember(accept.once, &accepted.queue);
        Ok(accepted)
    }

    fn accept_all(
        &mut self,
        messages: Vec<NewMessage>,
        once: Option<Once>,
    ) -> Result<Vec<QueueId>, StoreError> {
        self.check_once(once.as_ref())?;
        for message in &messages {
            self.check_from_ids(Some(message))?;
        }
        for message in &messages {
            self.bring(None, Some(message), &[])?;
        }
        let mut ids = Vec::new();
        for message in messages {
            let text = resolve(message.text, None);
            ids.extend(self.add_message(message, None));
            self.staged.remove(&text);
        }
        self.remember(once, &ids);
        Ok(ids)
    }

    fn check_once(&self, once: Option<&Once>) -> Result<(), StoreError> {
        let Some(once) = once else {
            return Ok(());
        };
        let before = self.answers.get(&(once.account.clone(), once.key.clone()));
        match before.is_some_and(|answered| answered.until > once.now) {
            true => Err(StoreError::DoneBefore),
            false => Ok(()),
        }
    }

    fn remember(&mut self, once: Option<Once>, queue: &[QueueId]) {
        if let Some(once) = once {
            let answered = Answered {
                number: next(&mut self.last_answer),
                request: once.request,
                answer: once.answer,
                first: queue.first().copied().unwrap_or_default(),
                until: once.until,
            };
            self.answers.insert((once.account, once.key), answered);
        }
    }

    /// Checks that the texts referred to are there, then stores the new one.
    fn bring(
        &mut self,
        text: Option<NewText>,
        queue: Option<&NewMessage>,
        mails: &[NewMail],
    ) -> Result<Option<TextId>, StoreError> {
        for source in queue
            .map(|message| message.text)
            .into_iter()
            .chain(mails.iter().map(|mail| mail.text))
        {
            match source {
                TextSource::Existing(id) if !self.texts.contains_key(&id) => {
                    return Err(StoreError::NoText(id));
                }
                _ => {}
            }
        }
        match text {
            None => Ok(None),
            Some(NewText::File(_)) => Err(StoreError::Invalid("a file of another store")),
            Some(NewText::Inline(text)) => {
                let id = TextId(next(&mut self.last_text));
                self.texts.insert(id, text);
                Ok(Some(id))
            }
        }
    }

    fn add_message(&mut self, message: NewMessage, new: Option<TextId>) -> Vec<QueueId> {
        let common = Arc::new(message.common);
        let base = QueueId(self.last_queued + 1);
        let mut ids = Vec::new();
        self.count_sent(&common, &message.recipients);
        for recipient in message.recipients {
            let id = QueueId(next(&mut self.last_queued));
            let mut queued = recipient.queued(
                id,
                base,
                message.top.clone(),
                resolve(message.text, new),
                Arc::clone(&common),
            );
            if self
                .hold_rules
                .values()
                .any(|rule| rule.filter.matches(&queued))
            {
                queued.hold = true;
            }
            self.queued.insert(id, queued);
            ids.push(id);
        }
        ids
    }

    fn count_sent(&mut self, common: &Common, recipients: &[NewRecipient]) {
        let hour = hour(common.queued);
        let account = &common.account;
        let first_time = recipients
            .iter()
            .filter(|new| {
                let key = (account.clone(), known_as(&new.recipient));
                self.known.insert(key)
            })
            .count() as u64;
        let recipients = recipients.len() as u64;
        let of_hour = self.sent.entry((account.clone(), hour));
        let of_hour = of_hour.or_default();
        *of_hour = of_hour.plus(Sent {
            recipients,
            first_time,
        });
    }

    fn add_mails(&mut self, mails: Vec<NewMail>, new: Option<TextId>) -> Vec<MailId> {
        let mut ids = Vec::new();
        for mail in mails {
            let id = MailId(next(&mut self.last_mail));
            let text = resolve(mail.text, new);
            self.mails.insert(id, mail.mail(id, text));
            ids.push(id);
        }
        ids
    }

    fn check_from_ids(&self, message: Option<&NewMessage>) -> Result<(), StoreError> {
        let known = self
            .queued
            .values()
            .chain(self.retired.values().map(|retired| &retired.message));
        let mut seen: BTreeSet<&String> = known.map(|message| &message.from_id).collect();
        let recipients = message.map(|message| message.recipients.as_slice());
        let mut ids = recipients
            .unwrap_or_default()
            .iter()
            .map(|recipient| &recipient.from_id)
            .filter(|id| !id.is_empty());
        match ids.find(|id| !seen.insert(id)) {
            Some(id) => Err(StoreError::FromIdInUse(id.clone())),
            None => Ok(()),
        }
    }

    fn note(&mut self, note: Note) {
        let results = if let Some(queued) = self.queued.get_mut(&note.id) {
            &mut queued.results
        } else if let Some(retired) = self.retired.get_mut(&note.id) {
            retired.last_activity = retired.last_activity.max(note.result.start);
            &mut retired.message.results
        } else {
            return;
        };
        if results.len() < RESULTS_MAX {
            results.push(note.result);
        }
    }

    fn suppression(&self, account: &str, base: &str) -> Option<&Suppression> {
        self.suppressions.values().find(|known| {
            known.account == account && base_in_list(&known.base, &known.list) == base
        })
    }

    fn suppress(&mut self, new: NewSuppression) -> bool {
        let base = base_in_list(&new.base, &new.list);
        if self.suppression(&new.account, &base).is_some() {
            return false;
        }
        let id = SuppressionId(next(&mut self.last_suppression));
        self.suppressions.insert(id, new.suppression(id));
        true
    }

    fn suppress_and_tell(
        &mut self,
        suppress: Vec<NewSuppression>,
        mut hooks: Vec<NewHook>,
        events: Vec<NewEvent>,
        mails: &[MailId],
    ) {
        let asked = !suppress.is_empty();
        let added = suppress
            .into_iter()
            .filter(|new| self.suppress(new.clone()))
            .count();
        let suppressed = !asked || added > 0;
        if !suppressed {
            hooks.iter_mut().for_each(NewHook::not_suppressing);
        }
        self.add_hooks(hooks, mails);
        for event in events {
            let told = if suppressed {
                Some(event)
            } else {
                event.not_suppressing()
            };
            let Some(event) = told else { continue };
            *self.counted.entry(event.counted_as()).or_default() += 1;
            self.last_event = event.number(self.last_event);
            let id = EventId(self.last_event);
            self.events.insert(id, event.event(id));
        }
    }

    fn add_hooks(&mut self, hooks: Vec<NewHook>, mails: &[MailId]) {
        for hook in hooks {
            let mail = match hook.kind {
                NewHookKind::Incoming(index) => {
                    mails.get(index as usize).and_then(|id| self.mails.get(id))
                }
                NewHookKind::Outgoing(_) | NewHookKind::Again(_) => None,
            };
            let mail = mail.cloned().map(Arc::new);
            let id = HookId(next(&mut self.last_hook));
            if let Some(hook) = hook.hook(id, mail) {
                self.hooks.insert(id, hook);
            }
        }
    }

    /// Drops a text that nothing refers to.
    fn sweep(&mut self, text: TextId) {
        let used = self.staged.contains(&text)
            || self.queued.values().any(|queued| queued.text == text)
            || self.mails.values().any(|mail| mail.text == text)
            || self
                .hooks
                .values()
                .any(|hook| matches!(&hook.kind, HookKind::Incoming(mail) if mail.text == text));
        if !used {
            self.texts.remove(&text);
        }
    }

    fn claim(&mut self, claim: &Claim) -> Claimed {
        self.claimed.retain(|_, lease| lease.until > claim.now);
        let mut destinations: BTreeMap<String, Vec<(Time, QueueId)>> = BTreeMap::new();
        for queued in self.queued.values() {
            let destination = queued.destination();
            if !queued.hold
                && !self.claimed.contains_key(&queued.id)
                && !claim.except.contains(&destination)
                && claim.only.as_ref().is_none_or(|only| *only == destination)
            {
                destinations
                    .entry(destination)
                    .or_default()
                    .push((queued.next_attempt, queued.id));
            }
        }
        let (chosen, next_due) = choose(
            destinations,
            claim.now,
            claim.max,
            claim.max_per_destination,
        );
        let mut messages = Vec::new();
        for id in chosen {
            let Some(queued) = self.queued.get_mut(&id) else {
                continue;
            };
            let lease = Lease {
                until: claim.now.after(claim.lease),
                last_attempt: queued.last_attempt,
            };
            self.claimed.insert(id, lease);
            queued.fence += 1;
            queued.attempts += 1;
            queued.last_attempt = Some(claim.now);
            messages.push(queued.clone());
        }
        Claimed { messages, next_due }
    }

    fn renew(&mut self, id: QueueId, fence: u64, until: Time) -> bool {
        let current = self
            .queued
            .get(&id)
            .is_some_and(|queued| queued.fence == fence);
        match self.claimed.get_mut(&id) {
            Some(lease) if current => {
                lease.until = until;
                true
            }
            _ => false,
        }
    }

    fn settle(&mut self, settle: Settle) -> Result<bool, StoreError> {
        let Some(mut queued) = self
            .queued
            .get(&settle.id)
            .filter(|queued| queued.fence == settle.fence)
            .cloned()
        else {
            return Ok(false);
        };
        if settle.party == Party::Administrator && self.claimed.contains_key(&settle.id) {
            return Ok(false);
        }
        let new = self.bring(settle.text, None, &settle.mails)?;
        let mails = self.add_mails(settle.mails, new);
        self.suppress_and_tell(settle.suppress, settle.hooks, settle.events, &mails);
        let lease = self.claimed.remove(&settle.id);
        self.queued.remove(&settle.id);
        queued.fence += 1;
        queued.results.extend(settle.attempt);
        queued.delay_told |= settle.delay_told;
        let text = queued.text;
        match settle.outcome {
            Outcome::Release => {
                queued.attempts = queued.attempts.saturating_sub(1);
                if let Some(lease) = lease {
                    queued.last_attempt = lease.last_attempt;
                }
                self.queued.insert(queued.id, queued);
            }
            Outcome::Retry(time) => {
                queued.next_attempt = time;
                self.queued.insert(queued.id, queued);
            }
            Outcome::Retire {
                success,
                now,
                keep_until,
            } => {
                if let Some(keep_until) = keep_until {
                    let retired = Retired {
                        message: queued,
                        success,
                        last_activity: now,
                        keep_until,
                    };
                    self.retired.insert(settle.id, retired);
                }
            }
        }
        self.sweep(text);
        if let Some(new) = new {
            self.sweep(new);
        }
        Ok(true)
    }

    fn claim_hooks(&mut self, claim: &ClaimHooks) -> ClaimedHooks {
        let mut lanes: BTreeMap<String, Vec<(Time, HookId)>> = BTreeMap::new();
        let mut chains = BTreeSet::new();
        for hook in self.hooks.values() {
            let first = hook.chain().is_none_or(|chain| chains.insert(chain));
            if first
                && !self.claimed_hooks.contains(&hook.id)
                && !claim.except.contains(&hook.lane())
            {
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
            self.claimed_hooks.insert(id);
            hook.fence += 1;
            hook.attempts += 1;
            hooks.push(hook.clone());
        }
        ClaimedHooks { hooks, next_due }
    }

    fn settle_hook(&mut self, settle: SettleHook) -> bool {
        let Some(hook) = self
            .hooks
            .get_mut(&settle.id)
            .filter(|hook| hook.fence == settle.fence)
        else {
            return false;
        };
        self.claimed_hooks.remove(&settle.id);
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
                self.retire_hook(settle.id, success, now, keep_until);
            }
        }
        true
    }

    fn retire_hook(&mut self, id: HookId, success: bool, now: Time, keep_until: Option<Time>) {
        let Some(hook) = self.hooks.remove(&id) else {
            return;
        };
        if let HookKind::Incoming(mail) = &hook.kind {
            self.sweep(mail.text);
        }
        if let Some(keep_until) = keep_until {
            self.retired_hooks.insert(
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

fn resolve(source: TextSource, new: Option<TextId>) -> TextId {
    match source {
        TextSource::New => new.unwrap_or_default(),
        TextSource::Existing(id) => id,
    }
}

/// Picks what is due: lanes (destinations or URLs) in the order of their earliest, a limited number of each. Also tells
/// when the earliest of the rest is due.
fn choose<Id: Ord + Copy>(
    lanes: BTreeMap<String, Vec<(Time, Id)>>,
    now: Time,
    max: usize,
    max_per_lane: usize,
) -> (Vec<Id>, Option<Time>) {
    let mut lanes: Vec<_> = lanes.into_iter().collect();
    for (_, lane) in &mut lanes {
        lane.sort_unstable();
    }
    lanes.sort_by(|(a, lane_a), (b, lane_b)| {
        (lane_a.first().map(|d| d.0), a).cmp(&(lane_b.first().map(|d| d.0), b))
    });
    let mut chosen = Vec::new();
    let mut next_due = None;
    for (_, lane) in lanes {
        let due = lane.iter().take_while(|(time, _)| *time <= now).count();
        let take = due.min(max_per_lane).min(max - chosen.len());
        let (taken, rest) = lane.split_at(take);
        chosen.extend(taken.iter().map(|(_, id)| *id));
        let first = rest.first().map(|(time, _)| *time);
        next_due = match (next_due, first) {
            (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
            (a, b) => a.or(b),
        };
    }
    (chosen, next_due)
}
