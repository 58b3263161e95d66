//! What a trace tells those who listen.

use std::collections::BTreeSet;

use super::{Building, Trace};
use crate::trace::Record;

/// What those who listen know of a trace.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How many events they may know.
    total: u64,
    /// How often somebody had begun to listen when all events were told. 0: never.
    begun: u64,
    /// Nothing is told.
    is_quiet: bool,
    /// The trace is not kept: another one takes its place.
    pub(super) is_preview: bool,
}

impl Trace {
    /// The same, which is told to those who listen, and is not kept.
    pub(in crate::trace) fn not_kept(mut self) -> Self {
        if let Some(inner) = &mut self.inner {
            inner.told.is_preview = true;
        }
        self
    }

    /// The same, whose first events were told by another one. That one has no end.
    pub(in crate::trace) fn in_place_of(mut self, mut preview: Self) -> Self {
        if let (Some(inner), Some(mut before)) = (&mut self.inner, preview.inner.take()) {
            inner.told.total = before.told.total;
            inner.told.begun = before.told.begun;
            before.told.is_quiet = true;
            before.end();
        }
        self
    }

    /// Whether the trace belongs to these accounts, and to no others.
    #[must_use]
    pub fn is_of(&self, accounts: &BTreeSet<&str>) -> bool {
        self.inner.as_ref().is_some_and(|inner| {
            let owners = &inner.record.owners;
            owners.len() == accounts.len() && owners.iter().all(|it| accounts.contains(&**it))
        })
    }

    /// Adds events that those who listen know already.
    pub fn quietly<T>(&mut self, add: impl FnOnce(&mut Self) -> T) -> T {
        let set = |trace: &mut Self, is_quiet| {
            if let Some(inner) = &mut trace.inner {
                inner.told.is_quiet = is_quiet;
            }
        };
        set(self, true);
        let added = add(self);
        set(self, false);
        added
    }
}

impl Building {
    /// An event was added, with so many bytes at the end.
    pub(super) fn told(&mut self, length: usize) {
        if !self.told.is_quiet {
            self.told.total += 1;
            if self.shared.live.is_heard() {
                self.tell(length);
            }
        }
    }

    /// Tells those who listen that the trace ends.
    pub(super) fn tell_end(&self) {
        if self.told.total > 0 && !self.told.is_quiet && self.shared.live.is_heard() {
            self.tell_events(Vec::new(), self.told.total, true);
        }
    }

    /// Tells those who listen of the last event, which has so many bytes. Who began to listen since
    /// the last time gets all events.
    #[cold]
    fn tell(&mut self, length: usize) {
        let live = &self.shared.live;
        let begun = live.begun();
        // Without memory, all its events are told with a later one.
        let is_whole = self.told.begun != begun && live.has_memory();
        let mut events = Vec::new();
        if is_whole {
            self.told.begun = begun;
            events.extend_from_slice(&self.record.events);
            self.end_of_events(&mut events);
        } else {
            let newest = match self.head_is_full {
                true => &self.tail,
                false => &self.record.events,
            };
            let newest = newest.get(newest.len().saturating_sub(length)..);
            events.extend_from_slice(newest.unwrap_or_default());
        }
        let after = match is_whole {
            true => 0,
            false => self.told.total.saturating_sub(1),
        };
        self.tell_events(events, after, false);
    }

    fn tell_events(&self, events: Vec<u8>, after: u64, has_ended: bool) {
        let of = &self.record;
        let record = Record {
            ended: of.ended,
            session: of.session.clone(),
            owners: of.owners.clone(),
            domains: of.domains.clone(),
            has_more_domains: of.has_more_domains,
            queues: of.queues.clone(),
            events,
            ..Record::new(of.kind, of.span, of.started)
        };
        let live = &self.shared.live;
        live.tell(record, after..self.told.total, has_ended);
    }
}
