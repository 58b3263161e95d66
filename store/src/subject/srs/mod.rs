//! The sender rewriting of forwards: the keys of its addresses, and the senders that are too long
//! to stand in one.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{fmt, ops::Bound};

use postrider_smtp::Address;
use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records, values},
};

/// How many senders are kept. When one more comes, the one whose time is over first goes.
pub const SRS_SENDERS_MAX: u64 = 100_000;
/// The number of the newest key. The key before it has the next number.
const NEWEST: u64 = 0;

/// A secret key, by which the server knows the addresses that it wrote.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrsKey {
    /// The random bytes of the key.
    pub secret: [u8; 32],
    /// Since when it is used.
    pub since: Time,
}

/// Hides the secret, so that no log line has it.
impl fmt::Debug for SrsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrsKey")
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

/// A sender that a short name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrsSender {
    /// The sender's address.
    pub address: Address,
    /// Until when it is kept.
    pub keep_until: Time,
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    senders: u64,
}

records! {
    SrsKey: version 1,
    SrsSender: version 1,
}

tables! {
    counters: Counters,
    /// The newest key and the one before it.
    secrets: Table<u64, SrsKey> = Table::new("srs_keys"),
    /// By name.
    senders: Table<Name, SrsSender> = Table::new("srs_senders"),
    /// The names by the time until which they are kept.
    ends: Table<(Time, Name), ()> = Table::new("srs_ends"),
}

subject!(
    counters Counters, keys 1,
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.srs.forget_old(now, max)
    }
);

operations! {
    Srs, version 1:
    Rotate -> (), Reserve;
    Keep -> (), Ordinary;
}

/// Puts a key before the newest one, if that is older than `before`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rotate {
    key: SrsKey,
    before: Time,
}

/// Keeps a sender under a name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Keep {
    name: String,
    sender: SrsSender,
}

impl Tables {
    /// Removes at most `max` senders whose time is over.
    fn forget_old(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let to = (Time(now.0.saturating_add(1)), Name::from(""));
        let old: Result<Vec<_>, Fault> = self
            .ends
            .range(Bound::Unbounded, Bound::Excluded(&to))?
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .collect();
        let old = old?;
        for (end, ()) in &old {
            self.forget(end);
        }
        Ok(old.len() as u64)
    }

    fn forget(&mut self, end: &(Time, Name)) {
        self.ends.remove(end);
        self.senders.remove(&end.1);
        self.counters.senders = self.counters.senders.saturating_sub(1);
    }
}

impl Rotate {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let tables = &mut state.srs;
        let newest = tables.secrets.get(&NEWEST)?;
        if newest.as_ref().is_some_and(|key| key.since >= self.before) {
            return Ok(());
        }
        if let Some(newest) = newest {
            tables.secrets.put(NEWEST + 1, newest);
        }
        tables.secrets.put(NEWEST, self.key);
        Ok(())
    }
}

impl Keep {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let tables = &mut state.srs;
        let name: Name = self.name.as_str().into();
        if let Some(before) = tables.senders.get(&name)? {
            tables.forget(&(before.keep_until, Name::clone(&name)));
        }
        if tables.counters.senders >= SRS_SENDERS_MAX {
            let first = tables
                .ends
                .range(Bound::Unbounded, Bound::Unbounded)?
                .next();
            if let Some((first, ())) = first.transpose()? {
                tables.forget(&first);
            }
        }
        let end = (self.sender.keep_until, Name::clone(&name));
        tables.ends.put(end, ());
        tables.senders.put(name, self.sender);
        tables.counters.senders += 1;
        Ok(())
    }
}

questions! {
    ask Keys {} -> Vec<SrsKey>,
    |_this, state| Ok(values(state.srs.secrets.all()?)),
    |_this, model| model.srs.secrets.clone();

    ask Sender<'a> { name: &'a str } -> Option<SrsSender>,
    |this, state| state.srs.senders.get(&this.name.into()),
    |this, model| model.srs.senders.get(this.name).cloned();
}

impl Store {
    /// The newest key and the one before it, as far as there are any.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn srs_keys(&self) -> Result<Vec<SrsKey>, StoreError> {
        self.ask(Keys {}).await
    }

    /// Puts a key before the newest one, if that is older than `before`. Gives the newest key and
    /// the one before it.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn rotate_srs_key(
        &self,
        key: SrsKey,
        before: Time,
    ) -> Result<Vec<SrsKey>, StoreError> {
        self.change_by(Rotate { key, before }).await?;
        self.srs_keys().await
    }

    /// Keeps a sender under a name. If the name has a sender, this one replaces it.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn keep_srs_sender(&self, name: &str, sender: SrsSender) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.change_by(Keep { name, sender }).await
    }

    /// The sender that is kept under a name.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn srs_sender(&self, name: &str) -> Result<Option<SrsSender>, StoreError> {
        self.ask(Sender { name }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::Rotate(Rotate {
            key: SrsKey {
                secret: [7; 32],
                since: Time(1),
            },
            before: Time(0),
        }),
        Op::Keep(Keep {
            name: "name".into(),
            sender: SrsSender {
                address: "a@a.example".parse().unwrap(),
                keep_until: Time(2),
            },
        }),
    ]
}
