//! Events in the model.

use std::collections::BTreeMap;

use super::{
    Counted, CountedIn, EventId, List, LoggedEvent, NewEvent,
    keys::{COUNTED_DAYS, day},
};
use crate::{
    Page, Time,
    filter::{ordered, page},
    subject::ModelPart,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    events: BTreeMap<EventId, LoggedEvent>,
    counted: BTreeMap<Counted, u64>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn history(&self) -> Vec<(Time, u64)> {
        let events = self.events.values();
        events.map(|event| (event.keep_until, event.id.0)).collect()
    }

    fn forget(&mut self, number: u64) {
        self.events.remove(&EventId(number));
    }

    fn sweep(&mut self, now: Time, max: u64) -> u64 {
        let last = day(now).saturating_sub(COUNTED_DAYS);
        let old = self.counted.keys().filter(|row| row.day < last);
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let old: Vec<_> = old.take(max).cloned().collect();
        for row in &old {
            self.counted.remove(row);
        }
        old.len() as u64
    }
}

impl Model {
    pub(crate) fn log(&mut self, event: NewEvent) {
        *self.counted.entry(event.counted_as()).or_default() += 1;
        self.last = event.number(self.last);
        let id = EventId(self.last);
        self.events.insert(id, event.event(id));
    }

    pub(super) fn list(&self, asked: &List) -> Page<LoggedEvent, EventId> {
        let items = self.events.values().filter(|event| {
            let after = asked.after;
            after.is_none_or(|after| asked.order.follows(event.id, after))
                && asked.filter.matches(event)
        });
        page(ordered(items, asked.order), asked.limit, |event| event.id)
    }

    pub(super) fn counted_in(&self, asked: &CountedIn) -> Vec<(Counted, u64)> {
        let rows = self.counted.iter();
        let rows =
            rows.filter(|(row, _)| row.account == asked.account && asked.days.contains(&row.day));
        rows.map(|(row, count)| (row.clone(), *count)).collect()
    }
}
