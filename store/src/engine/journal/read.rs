//! How readers look at the state.
//!
//! A page is read in portions, each under the lock for a short time, so that a long listing holds
//! nobody up. A change between two portions is seen or not.

use std::sync::RwLockReadGuard;

use super::Shared;
use crate::{
    Order, Page, StoreError,
    subject::State,
    table::{Table, key::Key, value::Value, values},
};

/// Records that are read under the lock at once.
pub(crate) const PORTION: usize = 128;

/// Reads the state in portions.
pub(crate) struct Reader<'a> {
    shared: &'a Shared,
}

/// The records to list.
pub(crate) struct Listing<K> {
    /// Only records of this group.
    pub(crate) group: Option<String>,
    /// Only records behind this key.
    pub(crate) after: Option<K>,
    pub(crate) order: Order,
    pub(crate) limit: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(shared: &'a Shared) -> Self {
        Self { shared }
    }

    /// The state as it is now. Nothing changes while the guard lives.
    pub(crate) fn state(&self) -> Result<RwLockReadGuard<'a, State>, StoreError> {
        self.shared.readable()
    }

    /// A page of the records with these numbers, or, if there are none, of a table.
    pub(crate) fn list<K: Key + Copy, V: Value>(
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
            let item = table(&*self.state()?).get(&id)?;
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
    pub(crate) fn page<K: Key, V: Value>(
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
            let state = self.state()?;
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
