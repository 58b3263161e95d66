//! Stops: whether an administrator stopped deliveries or calls of webhooks. A stop lasts until the
//! administrator ends it, over restarts too.
//!
//! While deliveries are stopped, the store gives no claim. Claims that were given before go on.
//! The store accepts messages as before.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;

use serde::{Deserialize, Serialize};

use super::State;
use crate::{Store, StoreError, Time, error::Fault, table::tables};

/// How much higher the numbers of new records are after a restore. So no number that the server
/// gave after the backup stands for another record.
pub(crate) const RESTORED_IDS: u64 = 1_000_000;

/// Work that an administrator can stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Attempts to deliver queued messages.
    Deliveries,
    /// Calls of webhooks.
    Webhooks,
}

/// The work that is stopped, and since when. None: the work goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stops {
    /// Attempts to deliver queued messages.
    pub deliveries: Option<Time>,
    /// Calls of webhooks.
    pub webhooks: Option<Time>,
}

impl Stops {
    /// Stops a kind of work at a time, or lets it go on (None). False: it was so before. The time
    /// of a stop that lasts does not change.
    fn set(&mut self, work: Work, since: Option<Time>) -> bool {
        let stop = match work {
            Work::Deliveries => &mut self.deliveries,
            Work::Webhooks => &mut self.webhooks,
        };
        let changes = stop.is_some() != since.is_some();
        if changes {
            *stop = since;
        }
        changes
    }

    /// Stops all work.
    fn set_all(&mut self, since: Time) {
        self.set(Work::Deliveries, Some(since));
        self.set(Work::Webhooks, Some(since));
    }
}

tables! {
    /// The stops stand where the counters of other subjects stand.
    counters: Stops,
}

subject!(counters Stops, keys 1);

operations! {
    Stops, version 1:
    Set -> bool, Reserve;
    Restored -> (), Reserve;
}

/// Stops a kind of work, or lets it go on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Set {
    work: Work,
    since: Option<Time>,
}

impl Set {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let changed = state.stops.counters.set(self.work, self.since);
        if changed && self.since.is_none() {
            match self.work {
                Work::Deliveries => state.effects.queue_changed = true,
                Work::Webhooks => state.effects.hooks_changed = true,
            }
        }
        Ok(changed)
    }
}

/// The store was restored from a backup.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Restored {
    now: Time,
}

impl Restored {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        state.skip_ids(RESTORED_IDS);
        state.stops.counters.set_all(self.now);
        state.mail_tokens.end_all()?;
        state.web_sessions.end_all()
    }
}

questions! {
    ask Now {} -> Stops,
    |_this, state| Ok(state.stops.counters),
    |_this, model| model.stops.stops;
}

impl Store {
    /// The work that is stopped.
    ///
    /// # Errors
    /// If the store is closed.
    pub async fn stops(&self) -> Result<Stops, StoreError> {
        self.ask(Now {}).await
    }

    /// Stops a kind of work. Attempts and calls that go on are not disturbed, and no other begins.
    /// False: the work was stopped before.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn stop(&self, work: Work, now: Time) -> Result<bool, StoreError> {
        let since = Some(now);
        self.change_by(Set { work, since }).await
    }

    /// Lets a kind of work go on. False: the work was not stopped.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn start(&self, work: Work) -> Result<bool, StoreError> {
        let since = None;
        self.change_by(Set { work, since }).await
    }

    /// Makes a copy of a store ready to take the place of the store. The numbers of new records
    /// are 10^6 higher, and deliveries and calls of webhooks are stopped: messages that went out
    /// after the copy was made would go out again. All sessions of web pages end: some ended after
    /// the copy was made.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn restored(&self, now: Time) -> Result<(), StoreError> {
        self.change_by(Restored { now }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::Set(Set {
            work: Work::Deliveries,
            since: Some(Time(1)),
        }),
        Op::Restored(Restored { now: Time(1) }),
    ]
}
