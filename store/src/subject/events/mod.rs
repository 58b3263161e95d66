//! Events: the logs of the accounts, and how many events there were by day, kind and domain.

mod keys;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
mod record;

use std::{ops::Bound, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::keys::{COUNTED_DAYS, day, event_groups, in_event_group};
pub use self::record::*;
use super::{Listing, NoOperation, PORTION, State, tag};
use crate::{
    Order, Page, Store, StoreError, Time,
    error::Fault,
    table::{Grouping, Table, key::Name, tables, value::records},
};

pub(crate) type Op = NoOperation;

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    LoggedEvent: version 1,
    u64: version 1,
}

tables! {
    /// Calls of webhooks.
    counters: Counters,
    /// The accounts' logs.
    events: Table<EventId, LoggedEvent> = Table::grouped(
        "events",
        Grouping {
            name: "event_groups",
            of: event_groups,
            has: in_event_group,
        },
    ),
    /// How many events there were, by day, account, kind and domain.
    counted: Table<(u64, Name, (u8, Name)), u64> = Table::new("counted"),
}

subject!(
    counters Counters, keys keys::VERSION,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        state.events.events.remove(&EventId(number));
        Ok(())
    },
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.events.forget_counted(now, max)
    }
);

impl Tables {
    /// Removes at most `max` numbers of days that are too long ago.
    fn forget_counted(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let Some(last) = day(now).checked_sub(COUNTED_DAYS) else {
            return Ok(0);
        };
        let to = (last, "".into(), (0, "".into()));
        let old: Result<Vec<_>, Fault> = self
            .counted
            .range(Bound::Unbounded, Bound::Excluded(&to))?
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .collect();
        let old = old?;
        for (key, _) in &old {
            self.counted.remove(key);
        }
        Ok(old.len() as u64)
    }
}

impl State {
    /// Writes an event into the log of its account, and counts it.
    pub(super) fn log(&mut self, event: NewEvent) -> Result<(), Fault> {
        let Counted {
            day,
            account,
            event: kind,
            domain,
        } = event.counted_as();
        let tables = &mut self.events;
        let key = (day, account.into(), (kind as u8, domain.into()));
        match tables.counted.get_mut(&key)? {
            Some(count) => *count += 1,
            None => tables.counted.put_new(key, 1),
        }
        let number = event.number(tables.counters.last);
        tables.counters.last = number;
        let id = EventId(number);
        self.history.add(event.keep_until, tag::events, number);
        tables.events.put_new(id, event.event(id));
        self.effects.events_changed = true;
        Ok(())
    }
}

questions! {
    scan List { filter: EventFilter, after: Option<EventId>, order: Order, limit: usize }
        -> Page<LoggedEvent, EventId>,
    |this, reader| {
        // An event's number is not below its time.
        let since = this.filter.since.filter(|_| this.order == Order::Ascending);
        let since = since.map(|since| EventId(since.0.max(1).cast_unsigned() - 1));
        let listing = Listing {
            group: this.filter.group(),
            after: this.after.max(since),
            order: this.order,
            limit: this.limit,
        };
        reader.page(listing, |state| &state.events.events, |event| this.filter.matches(event))
    },
    |this, model| model.events.list(this);

    scan CountedIn { account: String, days: RangeInclusive<u64> } -> Vec<(Counted, u64)>,
    |this, reader| {
        let mut rows = Vec::new();
        for day in this.days.clone() {
            let mut behind = None;
            loop {
                // The lock is free between two portions.
                let portion = reader.state()?.events.counted_on(day, &this.account, behind)?;
                behind = portion.last;
                rows.extend(portion.rows);
                if behind.is_none() {
                    break;
                }
            }
        }
        Ok(rows)
    },
    |this, model| model.events.counted_in(this);
}

/// The name of a number of events: day, account, kind and domain.
type CountedKey = (u64, Name, (u8, Name));

/// Some numbers of events of a day.
struct Portion {
    rows: Vec<(Counted, u64)>,
    /// Where to go on. None: there are no more.
    last: Option<CountedKey>,
}

impl Tables {
    /// Numbers of events of a day, behind a name.
    fn counted_on(
        &self,
        day: u64,
        account: &str,
        behind: Option<CountedKey>,
    ) -> Result<Portion, Fault> {
        let name: Name = account.into();
        let first = (day, Name::clone(&name), (0, "".into()));
        let past = (day, name, (u8::MAX, "".into()));
        let from = match &behind {
            None => Bound::Included(&first),
            Some(behind) => Bound::Excluded(behind),
        };
        let mut rows = Vec::new();
        let counted = self.counted.range(from, Bound::Excluded(&past))?;
        for (seen, item) in counted.enumerate() {
            let (key, count) = item?;
            let (kind, domain) = &key.2;
            if let Some(event) = Event::ALL.get(usize::from(*kind)) {
                let counted = Counted {
                    day,
                    account: account.to_owned(),
                    event: *event,
                    domain: domain.to_string(),
                };
                rows.push((counted, count));
            }
            if seen + 1 == PORTION {
                let last = Some(key);
                return Ok(Portion { rows, last });
            }
        }
        Ok(Portion { rows, last: None })
    }
}

impl Store {
    /// Events in the log of an account, or in all logs, by number in either order, beginning behind
    /// `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_events(
        &self,
        filter: &EventFilter,
        after: Option<EventId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<LoggedEvent, EventId>, StoreError> {
        let filter = filter.clone();
        self.scan(List {
            filter,
            after,
            order,
            limit,
        })
        .await
    }

    /// How many events of each kind an account had, by day and domain. A day is a number of days
    /// since 1970, in UTC. The store keeps these numbers for 400 days.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn counted_events(
        &self,
        account: &str,
        days: RangeInclusive<u64>,
    ) -> Result<Vec<(Counted, u64)>, StoreError> {
        let account = account.to_owned();
        self.scan(CountedIn { account, days }).await
    }

    /// Changes when there are more events.
    #[must_use]
    pub fn events_changed(&self) -> watch::Receiver<u64> {
        self.changes().events.subscribe()
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    Vec::new()
}
