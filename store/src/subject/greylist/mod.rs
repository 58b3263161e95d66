//! The greylist: the senders whose first attempt was refused, and those that came again.
//!
//! A row is about a sender and a recipient, or about a network. The store knows their hashes only.
//! A sender passes when it tries again after a minute, and from then on. A network with two such
//! senders is known, and all of its senders pass.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{ops::Bound, time::Duration};

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{Table, tables, value::records},
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a sender has to wait until it passes.
const WAIT: Duration = MINUTE;
/// How long after its first attempt a sender may come again.
const COME_AGAIN: Duration = DAY.saturating_mul(2);
/// How long a row lasts after its last use.
const LASTS: Duration = DAY.saturating_mul(36);
/// A use is written down once in so long.
const USED_WITHIN: Duration = DAY;
/// The passes that make a network known.
const KNOWN: u32 = 2;

/// One attempt of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GreyAttempt {
    /// A keyed hash of the sender and the recipient ([`Store::greylist_secret`]).
    pub sender: u64,
    /// A keyed hash of the sender's network.
    pub network: u64,
    /// The time of the attempt.
    pub now: Time,
    /// The most rows that the store keeps. The oldest go.
    pub max_rows: u64,
}

/// What the greylist says about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greyness {
    /// The sender has to come again.
    Waits,
    /// The sender came again after its time, and passes for the first time.
    Passes,
    /// The sender or its network passed before.
    Known,
}

/// A sender or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The first attempt.
    first: Time,
    /// 0: the sender has to wait. A network has as many passes as its senders together.
    passes: u32,
    /// When the store removes the row.
    until: Time,
}

/// The answer to an attempt, with the change that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The sender waits since now.
    Begin,
    /// The sender goes on waiting.
    Wait,
    /// The sender passes for the first time.
    PassFirst,
    /// The sender passes because of its own row, or of that of its network.
    Pass {
        by_network: bool,
        /// The row has to last longer.
        renew: bool,
    },
}

impl Answer {
    /// The answer to an attempt, from the rows of its sender and its network.
    fn new(sender: Option<Row>, network: Option<Row>, now: Time) -> Self {
        let lasting = |row: Option<Row>| row.filter(|row| now < row.until);
        let renew = |row: Row| row.until < now.after(LASTS).before(USED_WITHIN);
        let network = lasting(network).filter(|row| row.passes >= KNOWN);
        match (network, lasting(sender)) {
            (Some(row), _) => Self::Pass {
                by_network: true,
                renew: renew(row),
            },
            (None, Some(row)) if row.passes > 0 => Self::Pass {
                by_network: false,
                renew: renew(row),
            },
            (None, Some(row)) if now.since(row.first) >= WAIT => Self::PassFirst,
            (None, Some(_)) => Self::Wait,
            (None, None) => Self::Begin,
        }
    }

    const fn passes(self) -> bool {
        matches!(self, Self::Pass { .. } | Self::PassFirst)
    }

    const fn changes(self) -> bool {
        !matches!(self, Self::Wait | Self::Pass { renew: false, .. })
    }
}

/// The rows that an attempt changes: their hashes, and what they become.
fn changed(
    attempt: GreyAttempt,
    sender: Option<Row>,
    network: Option<Row>,
) -> (bool, Vec<(u64, Row)>) {
    let now = attempt.now;
    let row = |first, passes, lasts| Row {
        first,
        passes,
        until: now.after(lasts),
    };
    let kept = |row: Option<Row>| row.filter(|row| now < row.until);
    let answer = Answer::new(sender, network, now);
    let rows = match answer {
        Answer::Wait | Answer::Pass { renew: false, .. } => Vec::new(),
        Answer::Begin => vec![(attempt.sender, row(now, 0, COME_AGAIN))],
        Answer::PassFirst => {
            let first = kept(sender).map_or(now, |row| row.first);
            let (met, passes) = kept(network).map_or((now, 0), |row| (row.first, row.passes));
            vec![
                (attempt.sender, row(first, 1, LASTS)),
                (attempt.network, row(met, passes.saturating_add(1), LASTS)),
            ]
        }
        Answer::Pass { by_network, .. } => {
            let (hash, used) = match by_network {
                true => (attempt.network, network),
                false => (attempt.sender, sender),
            };
            let used = used.map(|used| row(used.first, used.passes, LASTS));
            used.map(|used| (hash, used)).into_iter().collect()
        }
    };
    (answer.passes(), rows)
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    rows: u64,
    /// The key of the hashes. None: no attempt was made yet.
    secret: Option<[u8; 16]>,
}

records! {
    Row: version 1,
}

tables! {
    /// The greylist.
    counters: Counters,
    /// By hash.
    rows: Table<u64, Row> = Table::new("greylist"),
    /// The hashes by the time when their rows go.
    ends: Table<(Time, u64), ()> = Table::new("greylist_ends"),
}

subject!(
    counters Counters, keys 1,
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.greylist.remove_first(Bound::Included(&(now, u64::MAX)), max)
    }
);

impl Tables {
    fn put(&mut self, hash: u64, row: Row) -> Result<(), Fault> {
        match self.rows.get(&hash)? {
            Some(before) => self.ends.remove(&(before.until, hash)),
            None => self.counters.rows += 1,
        }
        self.ends.put((row.until, hash), ());
        self.rows.put(hash, row);
        Ok(())
    }

    /// Removes at most `max` rows that go first, up to `to`. Gives how many it removed.
    fn remove_first(&mut self, to: Bound<&(Time, u64)>, max: u64) -> Result<u64, Fault> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let old: Result<Vec<_>, Fault> = self.ends.range(Bound::Unbounded, to)?.take(max).collect();
        let old = old?;
        for (key, ()) in &old {
            self.ends.remove(key);
            self.rows.remove(&key.1);
        }
        let removed = old.len() as u64;
        self.counters.rows = self.counters.rows.saturating_sub(removed);
        Ok(removed)
    }
}

impl State {
    /// Compares the number of rows, and the times when they go, with the rows.
    pub(super) fn check_greylist(&self, faults: &mut crate::table::Faults) -> Result<(), Fault> {
        let mut rows = 0;
        self.greylist.rows.for_each(|hash, row| {
            rows += 1;
            let found = self.greylist.ends.contains(&(row.until, hash))?;
            faults.check(found, || {
                format!("the row {hash} of the greylist never ends")
            });
            Ok(())
        })?;
        faults.compare("rows of the greylist", self.greylist.counters.rows, rows);
        faults.compare("ends of the greylist", self.greylist.ends.count()?, rows);
        Ok(())
    }
}

operations! {
    Greylist, version 1:
    Try -> bool, Ordinary;
    SetSecret -> (), Ordinary;
}

/// Answers an attempt, and remembers it. True: the sender passes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Try(GreyAttempt);

impl Try {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let tables = &mut state.greylist;
        let (sender, network) = (self.0.sender, self.0.network);
        let (sender, network) = (tables.rows.get(&sender)?, tables.rows.get(&network)?);
        let (passes, rows) = changed(self.0, sender, network);
        for (hash, row) in rows {
            tables.put(hash, row)?;
        }
        let over = tables.counters.rows.saturating_sub(self.0.max_rows);
        tables.remove_first(Bound::Unbounded, over)?;
        Ok(passes)
    }
}

/// Sets the key of the hashes, once.
#[derive(Serialize, Deserialize)]
pub(crate) struct SetSecret([u8; 16]);

/// Hides the key, so that no log line has it.
impl std::fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetSecret").finish_non_exhaustive()
    }
}

impl SetSecret {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        state.greylist.counters.secret.get_or_insert(self.0);
        Ok(())
    }
}

questions! {
    /// The rows of a sender and its network.
    ask Rows { sender: u64, network: u64 } -> [Option<Row>; 2],
    |this, state| {
        let rows = &state.greylist.rows;
        Ok([rows.get(&this.sender)?, rows.get(&this.network)?])
    },
    |this, model| [this.sender, this.network].map(|hash| model.greylist.row(hash));

    /// The key of the hashes.
    ask Secret {} -> Option<[u8; 16]>,
    |_this, state| Ok(state.greylist.counters.secret),
    |_this, model| model.greylist.secret;
}

impl Store {
    /// Whether a sender passes the greylist, and why. The attempt is remembered.
    ///
    /// # Errors
    /// If the rows can't be read, or the attempt can't be made durable.
    pub async fn try_greylist(&self, attempt: GreyAttempt) -> Result<Greyness, StoreError> {
        let GreyAttempt {
            sender, network, ..
        } = attempt;
        let [known, around] = self.ask(Rows { sender, network }).await?;
        let answer = Answer::new(known, around, attempt.now);
        let passes = match answer.changes() {
            false => answer.passes(),
            true => self.change_by(Try(attempt)).await?,
        };
        Ok(match (passes, answer) {
            (false, _) => Greyness::Waits,
            (true, Answer::Pass { .. }) => Greyness::Known,
            (true, _) => Greyness::Passes,
        })
    }

    /// The key of the hashes of the greylist. The first call sets it to `fresh`, which is random.
    ///
    /// # Errors
    /// If it can't be read, or made durable.
    pub async fn greylist_secret(&self, fresh: [u8; 16]) -> Result<[u8; 16], StoreError> {
        if let Some(secret) = self.ask(Secret {}).await? {
            return Ok(secret);
        }
        self.change_by(SetSecret(fresh)).await?;
        Ok(self.ask(Secret {}).await?.unwrap_or(fresh))
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let attempt = GreyAttempt {
        sender: 1,
        network: 2,
        now: Time(3),
        max_rows: 4,
    };
    vec![Op::Try(Try(attempt)), Op::SetSecret(SetSecret([7; 16]))]
}
