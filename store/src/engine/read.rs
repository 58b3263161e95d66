//! Reading: look-ups and pages.
//!
//! A page is read in portions, each under the lock for a short time, so that a long listing holds nobody up. What changes
//! between two portions is seen or not.

use std::ops::Bound;

use super::{
    Durable, Fault,
    key::{Key, Name},
    state::State,
    table::Table,
    value::{Place, Value},
};
use crate::{
    Body, BodyId, Credential, Hook, HookId, Mail, MailId, Page, QueueFilter, QueueId, Queued,
    Retired, RetiredHook, StoreError,
};

/// Records that are read under the lock at once.
const PORTION: usize = 128;

impl Durable {
    pub(crate) fn body(&self, id: BodyId) -> Result<Body, StoreError> {
        // Under the lock until it is open: then it can be read even when the last record goes.
        let state = self.shared.readable()?;
        match state.bodies.get(&id)?.ok_or(StoreError::NoBody(id))?.place {
            Place::Empty => Ok(Body::empty()),
            Place::Journal(place) => Ok(Body::in_journal(self.shared.reader.body(place)?)),
            Place::File(place) => Ok(Body::in_file(
                self.shared.files.read(place).map_err(read_error)?,
            )),
        }
    }

    pub(crate) fn queued(&self, id: QueueId) -> Result<Option<Queued>, StoreError> {
        self.get(|state| state.queued.get(&id))
    }

    pub(crate) fn retired(&self, id: QueueId) -> Result<Option<Retired>, StoreError> {
        self.get(|state| state.retired.get(&id))
    }

    pub(crate) fn hook(&self, id: HookId) -> Result<Option<Hook>, StoreError> {
        self.get(|state| state.hooks.get(&id))
    }

    pub(crate) fn mail(&self, id: MailId) -> Result<Option<Mail>, StoreError> {
        self.get(|state| state.mails.get(&id))
    }

    pub(crate) fn credential(&self, account: &str) -> Result<Option<Credential>, StoreError> {
        self.get(|state| state.credentials.get(&account.into()))
    }

    fn get<T>(&self, get: impl FnOnce(&State) -> Result<T, Fault>) -> Result<T, StoreError> {
        Ok(get(&*self.shared.readable()?)?)
    }

    pub(crate) fn list(
        &self,
        filter: &QueueFilter,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Page<Queued, QueueId>, StoreError> {
        if !filter.ids.is_empty() {
            return self.list_ids(filter, after, limit);
        }
        self.page(
            after,
            limit,
            |state| &state.queued,
            |queued| filter.matches(queued),
        )
    }

    /// Asked for by number: no need to look at others.
    fn list_ids(
        &self,
        filter: &QueueFilter,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Page<Queued, QueueId>, StoreError> {
        let mut ids: Vec<_> = filter
            .ids
            .iter()
            .copied()
            .filter(|id| Some(*id) > after)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let mut items = Vec::new();
        for id in ids {
            items.extend(self.queued(id)?.filter(|queued| filter.matches(queued)));
            if items.len() > limit {
                break;
            }
        }
        Ok(crate::verb::page(items.into_iter(), limit, |queued| {
            queued.id
        }))
    }

    pub(crate) fn list_retired(
        &self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Page<Retired, QueueId>, StoreError> {
        self.page(after, limit, |state| &state.retired, |_| true)
    }

    pub(crate) fn list_hooks(
        &self,
        after: Option<HookId>,
        limit: usize,
    ) -> Result<Page<Hook, HookId>, StoreError> {
        self.page(after, limit, |state| &state.hooks, |_| true)
    }

    pub(crate) fn list_retired_hooks(
        &self,
        after: Option<HookId>,
        limit: usize,
    ) -> Result<Page<RetiredHook, HookId>, StoreError> {
        self.page(after, limit, |state| &state.retired_hooks, |_| true)
    }

    pub(crate) fn list_mails(
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
            let state = self.shared.readable()?;
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

    /// A page of a table that is sorted by the records' numbers.
    fn page<K: Key, V: Value>(
        &self,
        after: Option<K>,
        limit: usize,
        table: impl Fn(&State) -> &Table<K, V>,
        matches: impl Fn(&V) -> bool,
    ) -> Result<Page<V, K>, StoreError> {
        let mut items: Vec<(K, V)> = Vec::new();
        let mut after = after;
        loop {
            let state = self.shared.readable()?;
            let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut last = None;
            let mut seen = 0;
            for item in table(&state).range(from, Bound::Unbounded)?.take(PORTION) {
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

fn values<K, V>(items: Vec<(K, V)>) -> Vec<V> {
    items.into_iter().map(|(_, value)| value).collect()
}

fn read_error(error: std::io::Error) -> StoreError {
    StoreError::Read(error.into())
}
