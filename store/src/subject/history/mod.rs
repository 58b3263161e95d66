//! The history by the time when its records go. The records themselves belong to other subjects.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;

use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{Table, tables},
};

tables! {
    /// The end of each record.
    counters: (),
    /// By time, by the tag of the subject, by the number of the record.
    expiry: Table<(Time, u8, u64), ()> = Table::new("expiry"),
}

subject!(counters (), keys 1);

impl Tables {
    /// Says when a record goes.
    pub(super) fn add(&mut self, until: Time, tag: u8, number: u64) {
        self.expiry.put_new((until, tag, number), ());
    }

    /// Takes that back: the record goes now.
    pub(super) fn remove(&mut self, until: Time, tag: u8, number: u64) {
        self.expiry.remove(&(until, tag, number));
    }
}

operations! {
    History, version 1:
    Expire -> u64, Reserve;
}

/// Removes at most `max` records whose time is over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Expire {
    now: Time,
    max: u64,
}

impl Expire {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let to = (self.now, u8::MAX, u64::MAX);
        let over: Result<Vec<_>, _> = state
            .history
            .expiry
            .range(Bound::Unbounded, Bound::Included(&to))?
            .take(usize::try_from(self.max).unwrap_or(usize::MAX))
            .collect();
        let over = over?;
        for (key, ()) in &over {
            state.history.expiry.remove(key);
            state.forget(key.1, key.2)?;
        }
        let removed = over.len() as u64;
        Ok(removed + state.sweep(self.now, self.max - removed)?)
    }
}

impl Store {
    /// Removes records of the history whose time is over, at most so many, and tells how many it
    /// removed: fewer than `max` when no more are over. Each record costs the writer about as much
    /// as a message that is accepted. So remove many records in small steps with pauses.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn expire(&self, now: Time, max: u64) -> Result<u64, StoreError> {
        self.change_by(Expire { now, max }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![Op::Expire(Expire {
        now: Time(1),
        max: 2,
    })]
}
