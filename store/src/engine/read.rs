//! Reading: look-ups and pages.
//!
//! A page is read in portions, each under the lock for a short time, so that a long listing holds nobody up. What changes
//! between two portions is seen or not.

use std::{
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

use bytes::Bytes;
use postrider_smtp::Address;
use tokio::task;

use super::{
    Durable, Fault, Shared,
    key::{Key, Name},
    state::{State, reference_key},
    table::{Table, values},
    value::{Place, Value},
};
use crate::{
    Answered, ApiKey, ApiKeyId, Counted, Credential, Event, EventFilter, EventId, Found, HoldRule,
    Hook, HookFilter, HookId, LoggedEvent, Mail, MailId, Order, Page, QueueFilter, QueueId, Queued,
    Reference, Retired, RetiredFilter, RetiredHook, RetiredHookFilter, Sent, StoreError,
    Suppression, SuppressionId, Text, TextFile, TextId, Time,
    verb::{hour, known_as},
};

/// Records that are read under the lock at once.
const PORTION: usize = 128;

impl Durable {
    pub(crate) fn text(&self, id: TextId) -> Result<Text, StoreError> {
        self.shared.text(id)
    }

    pub(crate) fn queued(&self, id: QueueId) -> Result<Option<Queued>, StoreError> {
        self.shared.queued(id)
    }

    pub(crate) fn is_claimed(&self, id: QueueId) -> Result<bool, StoreError> {
        self.shared.is_claimed(id)
    }

    pub(crate) fn retired(&self, id: QueueId) -> Result<Option<Retired>, StoreError> {
        self.shared.retired(id)
    }

    pub(crate) fn hook(&self, id: HookId) -> Result<Option<Hook>, StoreError> {
        self.shared.hook(id)
    }

    pub(crate) fn mail(&self, id: MailId) -> Result<Option<Mail>, StoreError> {
        self.shared.mail(id)
    }

    pub(crate) fn credential(&self, account: &str) -> Result<Option<Credential>, StoreError> {
        self.shared.credential(account)
    }

    pub(crate) fn beginning(&self, file: &TextFile, max: u64) -> Result<Bytes, StoreError> {
        self.shared.beginning(file, max)
    }

    pub(crate) fn suppression(
        &self,
        account: &str,
        base: &str,
    ) -> Result<Option<Suppression>, StoreError> {
        self.shared.suppression(account, base)
    }

    pub(crate) fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.shared.api_key(id)
    }

    pub(crate) fn answered(
        &self,
        account: &str,
        key: &str,
        now: Time,
    ) -> Result<Option<Answered>, StoreError> {
        self.shared.answered(account, key, now)
    }

    pub(crate) fn sent(&self, account: &str, since: Time) -> Result<Sent, StoreError> {
        self.shared.sent(account, since)
    }

    pub(crate) fn is_known(&self, account: &str, recipient: &Address) -> Result<bool, StoreError> {
        self.shared.is_known(account, recipient)
    }

    pub(crate) fn hold_rules(&self) -> Result<Vec<HoldRule>, StoreError> {
        self.shared.hold_rules()
    }
}

/// Reads that look at many records. They run on tokio's pool of blocking threads, so that they hold no task up.
impl Durable {
    async fn scan<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        // The task is cancelled only when the runtime ends.
        let done = task::spawn_blocking(move || read(&shared)).await;
        done.unwrap_or(Err(StoreError::Closed))
    }

    pub(crate) async fn list(
        &self,
        filter: &QueueFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Queued, QueueId>, StoreError> {
        let filter = filter.clone();
        self.scan(move |shared| shared.list(&filter, after, order, limit))
            .await
    }

    pub(crate) async fn list_retired(
        &self,
        filter: &RetiredFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Retired, QueueId>, StoreError> {
        let filter = filter.clone();
        self.scan(move |shared| shared.list_retired(&filter, after, order, limit))
            .await
    }

    pub(crate) async fn list_hooks(
        &self,
        filter: &HookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Hook, HookId>, StoreError> {
        let filter = filter.clone();
        self.scan(move |shared| shared.list_hooks(&filter, after, order, limit))
            .await
    }

    pub(crate) async fn list_retired_hooks(
        &self,
        filter: &RetiredHookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<RetiredHook, HookId>, StoreError> {
        let filter = filter.clone();
        self.scan(move |shared| shared.list_retired_hooks(&filter, after, order, limit))
            .await
    }

    pub(crate) async fn find(
        &self,
        reference: Reference<'_>,
        recipient: Option<&str>,
        account: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let name = reference_key(reference);
        let (recipient, account) = (recipient.map(str::to_owned), account.map(str::to_owned));
        self.scan(move |shared| shared.find(&name, recipient.as_deref(), account.as_deref(), limit))
            .await
    }

    pub(crate) async fn list_suppressions(
        &self,
        account: Option<&str>,
        after: Option<SuppressionId>,
        limit: usize,
    ) -> Result<Page<Suppression, SuppressionId>, StoreError> {
        let account = account.map(str::to_owned);
        self.scan(move |shared| shared.list_suppressions(account.as_deref(), after, limit))
            .await
    }

    pub(crate) async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.scan(Shared::api_keys).await
    }

    pub(crate) async fn list_events(
        &self,
        filter: &EventFilter,
        after: Option<EventId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<LoggedEvent, EventId>, StoreError> {
        let filter = filter.clone();
        self.scan(move |shared| shared.list_events(&filter, after, order, limit))
            .await
    }

    pub(crate) async fn counted_events(
        &self,
        account: &str,
        days: RangeInclusive<u64>,
    ) -> Result<Vec<(Counted, u64)>, StoreError> {
        let account = account.to_owned();
        self.scan(move |shared| shared.counted_events(&account, days))
            .await
    }

    pub(crate) async fn list_mails(
        &self,
        account: &str,
        mailbox: Option<&str>,
        after: Option<MailId>,
        limit: usize,
    ) -> Result<Page<Mail, MailId>, StoreError> {
        let (account, mailbox) = (account.to_owned(), mailbox.map(str::to_owned));
        self.scan(move |shared| shared.list_mails(&account, mailbox.as_deref(), after, limit))
            .await
    }
}

/// Look-ups, which are done at once, and the reads behind those above.
impl Shared {
    fn text(&self, id: TextId) -> Result<Text, StoreError> {
        // Under the lock until it is open: then it can be read even when the last record goes.
        let state = self.readable()?;
        match state.texts.get(&id)?.ok_or(StoreError::NoText(id))?.place {
            Place::Empty => Ok(Text::empty()),
            Place::Journal(place) => Ok(Text::in_journal(self.reader.body(place)?)),
            Place::File(place) => Ok(Text::in_file(self.files.read(place).map_err(read_error)?)),
        }
    }

    fn beginning(&self, file: &TextFile, max: u64) -> Result<Bytes, StoreError> {
        let place = file.place();
        let reader = self.files.read(place).map_err(read_error)?;
        reader.read(0..place.len.min(max)).map_err(read_error)
    }

    fn queued(&self, id: QueueId) -> Result<Option<Queued>, StoreError> {
        self.get(|state| state.queued.get(&id))
    }

    fn is_claimed(&self, id: QueueId) -> Result<bool, StoreError> {
        self.get(|state| state.claimed.contains(&id))
    }

    fn retired(&self, id: QueueId) -> Result<Option<Retired>, StoreError> {
        self.get(|state| state.retired.get(&id))
    }

    fn hook(&self, id: HookId) -> Result<Option<Hook>, StoreError> {
        self.get(|state| state.hooks.get(&id))
    }

    fn mail(&self, id: MailId) -> Result<Option<Mail>, StoreError> {
        self.get(|state| state.mails.get(&id))
    }

    fn credential(&self, account: &str) -> Result<Option<Credential>, StoreError> {
        self.get(|state| state.credentials.get(&account.into()))
    }

    fn get<T>(&self, get: impl FnOnce(&State) -> Result<T, Fault>) -> Result<T, StoreError> {
        Ok(get(&*self.readable()?)?)
    }

    fn list(
        &self,
        filter: &QueueFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Queued, QueueId>, StoreError> {
        self.list_of(
            &filter.ids,
            Listing {
                group: filter.group().map(|group| group.name()),
                after,
                order,
                limit,
            },
            |state| &state.queued,
            |queued| filter.matches_but_for_ids(queued),
        )
    }

    fn list_retired(
        &self,
        filter: &RetiredFilter,
        after: Option<QueueId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Retired, QueueId>, StoreError> {
        self.list_of(
            &filter.ids,
            Listing {
                group: filter.group().map(|group| group.name()),
                after,
                order,
                limit,
            },
            |state| &state.retired,
            |retired| filter.matches_but_for_ids(retired),
        )
    }

    fn list_hooks(
        &self,
        filter: &HookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Hook, HookId>, StoreError> {
        self.list_of(
            &filter.ids,
            Listing {
                group: filter.account.clone(),
                after,
                order,
                limit,
            },
            |state| &state.hooks,
            |hook| filter.matches_but_for_ids(hook),
        )
    }

    fn list_retired_hooks(
        &self,
        filter: &RetiredHookFilter,
        after: Option<HookId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<RetiredHook, HookId>, StoreError> {
        self.list_of(
            &filter.ids,
            Listing {
                group: filter.account.clone(),
                after,
                order,
                limit,
            },
            |state| &state.retired_hooks,
            |retired| filter.matches_but_for_ids(retired),
        )
    }

    fn find(
        &self,
        name: &Name,
        recipient: Option<&str>,
        account: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let wanted: Option<Name> = recipient.map(|recipient| recipient.to_lowercase().into());
        let first = wanted.clone().unwrap_or_else(|| "".into());
        let mut after = (Name::clone(name), first, QueueId(0));
        let mut found = Vec::new();
        loop {
            let state = self.readable()?;
            let mut seen = 0;
            let range = state
                .references
                .range(Bound::Excluded(&after), Bound::Unbounded)?;
            for item in range.take(PORTION) {
                let (key, ()) = item?;
                let (of, to, id) = &key;
                let other = of != name || wanted.as_ref().is_some_and(|wanted| wanted != to);
                if other || found.len() >= limit {
                    return Ok(found);
                }
                let message = match state.queued.get(id)? {
                    Some(queued) => Some(Found::Queued(queued)),
                    None => state.retired.get(id)?.map(Found::Retired),
                };
                let of_account = |found: &Found| {
                    account.is_none_or(|account| found.message().common.account == account)
                };
                found.extend(message.filter(of_account));
                seen += 1;
                after = key;
            }
            if seen < PORTION {
                return Ok(found);
            }
        }
    }

    fn suppression(&self, account: &str, base: &str) -> Result<Option<Suppression>, StoreError> {
        let state = self.readable()?;
        if state.counters.suppressions == 0 {
            return Ok(None);
        }
        match state.suppressed.get(&(account.into(), base.into()))? {
            Some(id) => Ok(state.suppressions.get(&id)?),
            None => Ok(None),
        }
    }

    fn list_suppressions(
        &self,
        account: Option<&str>,
        after: Option<SuppressionId>,
        limit: usize,
    ) -> Result<Page<Suppression, SuppressionId>, StoreError> {
        self.page(
            Listing {
                group: account.map(str::to_owned),
                ..Listing::all(after, limit)
            },
            |state| &state.suppressions,
            |_| true,
        )
    }

    fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.get(|state| state.api_keys.get(&id))
    }

    fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.get(|state| state.api_keys.all()).map(values)
    }

    fn answered(
        &self,
        account: &str,
        key: &str,
        now: Time,
    ) -> Result<Option<Answered>, StoreError> {
        let answered = self.get(|state| state.answers.get(&(account.into(), key.into())))?;
        Ok(answered.filter(|answered| answered.until > now))
    }

    fn list_events(
        &self,
        filter: &EventFilter,
        after: Option<EventId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<LoggedEvent, EventId>, StoreError> {
        // An event's number is not below its time.
        let since = filter.since.filter(|_| order == Order::Ascending);
        let since = since.map(|since| EventId(since.0.max(1).cast_unsigned() - 1));
        self.page(
            Listing {
                group: Some(filter.group()),
                after: after.max(since),
                order,
                limit,
            },
            |state| &state.events,
            |event| filter.matches(event),
        )
    }

    fn counted_events(
        &self,
        account: &str,
        days: RangeInclusive<u64>,
    ) -> Result<Vec<(Counted, u64)>, StoreError> {
        let name: Name = account.into();
        let state = self.readable()?;
        let mut rows = Vec::new();
        for day in days {
            let from = (day, Name::clone(&name), (0, "".into()));
            let to = (day, Name::clone(&name), (u8::MAX, "".into()));
            for item in state
                .counted
                .range(Bound::Included(&from), Bound::Excluded(&to))?
            {
                let ((_, _, (kind, domain)), count) = item?;
                if let Some(event) = Event::ALL.get(usize::from(kind)) {
                    let counted = Counted {
                        day,
                        account: account.to_owned(),
                        event: *event,
                        domain: domain.to_string(),
                    };
                    rows.push((counted, count));
                }
            }
        }
        Ok(rows)
    }

    fn sent(&self, account: &str, since: Time) -> Result<Sent, StoreError> {
        let account: Name = account.into();
        let state = self.readable()?;
        let (from, to) = ((Name::clone(&account), hour(since)), (account, u64::MAX));
        let mut sum = Sent::default();
        for item in state
            .sent
            .range(Bound::Included(&from), Bound::Included(&to))?
        {
            sum = sum.plus(item?.1);
        }
        Ok(sum)
    }

    fn is_known(&self, account: &str, recipient: &Address) -> Result<bool, StoreError> {
        let key = (account.into(), known_as(recipient).into());
        self.get(|state| state.known.contains(&key))
    }

    fn hold_rules(&self) -> Result<Vec<HoldRule>, StoreError> {
        self.get(State::hold_rules)
    }

    fn list_mails(
        &self,
        account: &str,
        mailbox: Option<&str>,
        after: Option<MailId>,
        limit: usize,
    ) -> Result<Page<Mail, MailId>, StoreError> {
        let account: Name = account.into();
        let last = MailId(u64::MAX);
        match mailbox {
            None => {
                let key = |id| (Name::clone(&account), id);
                self.mail_page(
                    after,
                    limit,
                    |state| &state.account_mails,
                    |key| key.1,
                    key,
                    &key(last),
                )
            }
            Some(mailbox) => {
                let mailbox: Name = mailbox.into();
                let key = |id| (Name::clone(&account), Name::clone(&mailbox), id);
                self.mail_page(
                    after,
                    limit,
                    |state| &state.mailboxes,
                    |key| key.2,
                    key,
                    &key(last),
                )
            }
        }
    }

    fn mail_page<K: Key>(
        &self,
        after: Option<MailId>,
        limit: usize,
        table: impl Fn(&State) -> &Table<K, ()>,
        id: impl Fn(&K) -> MailId,
        key: impl Fn(MailId) -> K,
        to: &K,
    ) -> Result<Page<Mail, MailId>, StoreError> {
        let mut items = Vec::new();
        let mut from = key(after.unwrap_or_default());
        loop {
            let state = self.readable()?;
            let mut seen = 0;
            for item in table(&state)
                .range(Bound::Excluded(&from), Bound::Included(to))?
                .take(PORTION)
            {
                let (key, ()) = item?;
                items.extend(state.mails.get(&id(&key))?);
                from = key;
                seen += 1;
            }
            if seen < PORTION || items.len() > limit {
                return Ok(crate::verb::page(items.into_iter(), limit, |mail| mail.id));
            }
        }
    }

    /// A page of the records with these numbers, or, if there are none, of a table.
    fn list_of<K: Key + Copy, V: Value>(
        &self,
        ids: &[K],
        listing: Listing<K>,
        table: impl Fn(&State) -> &Table<K, V>,
        matches: impl Fn(&V) -> bool,
    ) -> Result<Page<V, K>, StoreError> {
        if ids.is_empty() {
            return self.page(listing, table, matches);
        }
        let Listing {
            after,
            order,
            limit,
            ..
        } = listing;
        let mut ids: Vec<_> = ids
            .iter()
            .copied()
            .filter(|id| after.is_none_or(|after| order.follows(*id, after)))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        if order == Order::Descending {
            ids.reverse();
        }
        let mut items: Vec<(K, V)> = Vec::new();
        for id in ids {
            let item = self.get(|state| table(state).get(&id))?;
            items.extend(item.filter(&matches).map(|item| (id, item)));
            if items.len() > limit {
                items.truncate(limit);
                let next = items.last().map(|(id, _)| *id);
                return Ok(Page {
                    items: values(items),
                    next,
                });
            }
        }
        Ok(Page {
            items: values(items),
            next: None,
        })
    }

    /// A page of a table that is sorted by the records' numbers.
    fn page<K: Key, V: Value>(
        &self,
        listing: Listing<K>,
        table: impl Fn(&State) -> &Table<K, V>,
        matches: impl Fn(&V) -> bool,
    ) -> Result<Page<V, K>, StoreError> {
        let Listing {
            group,
            mut after,
            order,
            limit,
        } = listing;
        let mut items: Vec<(K, V)> = Vec::new();
        loop {
            let state = self.readable()?;
            let mut last = None;
            let mut seen = 0;
            for item in table(&state)
                .scan(group.as_deref(), after.as_ref(), order)?
                .take(PORTION)
            {
                let (key, value) = item?;
                seen += 1;
                if matches(&value) {
                    if items.len() == limit {
                        let next = items.last().map(|(key, _)| key.clone());
                        return Ok(Page {
                            items: values(items),
                            next,
                        });
                    }
                    items.push((key.clone(), value));
                }
                last = Some(key);
            }
            if seen < PORTION {
                return Ok(Page {
                    items: values(items),
                    next: None,
                });
            }
            drop(state);
            after = last;
        }
    }
}

/// What is to be listed.
struct Listing<K> {
    group: Option<String>,
    after: Option<K>,
    order: Order,
    limit: usize,
}

impl<K> Listing<K> {
    const fn all(after: Option<K>, limit: usize) -> Self {
        Self {
            group: None,
            after,
            order: Order::Ascending,
            limit,
        }
    }
}

fn read_error(error: std::io::Error) -> StoreError {
    StoreError::Read(error.into())
}
