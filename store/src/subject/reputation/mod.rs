//! The history of senders: what an account said about earlier mail of an address, a domain or a
//! network.
//!
//! A row has the last marks of one sender in one account. An account has at most [`HISTORY_ROWS`]
//! rows. Above that, the row whose last mark is oldest goes first.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{
        Table,
        key::Name,
        tables,
        value::{records, ways},
    },
};

/// The most marks that a row keeps.
pub const HISTORY_MARKS: usize = 50;
/// The most rows of an account.
pub const HISTORY_ROWS: u64 = 100_000;
/// No question looks at marks that are older than this.
const KEPT_DAYS: u32 = 3 * 366;
/// Rows that one operation forgets.
const FORGOTTEN_AT_ONCE: usize = 1000;

/// A kind of senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HistoryKind {
    /// The address in the From field.
    FromAddress,
    /// The domain in the From field.
    FromDomain,
    /// The organisation of that domain.
    Organisation,
    /// A domain with a valid DKIM signature.
    Dkim,
    /// A MAIL FROM address that SPF validated.
    MailFrom,
    /// The domain of such an address.
    MailFromDomain,
    /// An EHLO name that SPF validated.
    Helo,
    /// A network of the client.
    Network,
}

impl HistoryKind {
    /// The number in stored keys.
    const fn number(self) -> u8 {
        match self {
            Self::FromAddress => 1,
            Self::FromDomain => 2,
            Self::Organisation => 3,
            Self::Dkim => 4,
            Self::MailFrom => 5,
            Self::MailFromDomain => 6,
            Self::Helo => 7,
            Self::Network => 8,
        }
    }
}

/// A sender as the history knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HistoryKey {
    /// The kind.
    pub kind: HistoryKind,
    /// The address, the domain, or the network such as `192.0.2.0/26`. Addresses and domains are in
    /// their Unicode form and in lower case.
    pub name: String,
    /// The From domain of the mail was validated. For the kinds of the From field only: mail of the
    /// others always was.
    pub validated: bool,
}

/// One mail that the account judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// The day on which the mail came, in days since 1970.
    pub day: u32,
    /// The account called it junk, or not junk.
    pub junk: bool,
    /// A number that stands for the local-part of the author. It tells the authors of a domain
    /// apart.
    pub author: u32,
}

/// The marks of a sender, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row(Vec<Mark>);

impl Row {
    /// The day of the last mark.
    fn day(&self) -> u64 {
        self.0.last().map_or(0, |mark| u64::from(mark.day))
    }

    fn add(&mut self, mark: Mark) {
        let at = self.0.partition_point(|other| other.day <= mark.day);
        self.0.insert(at, mark);
        if self.0.len() > HISTORY_MARKS {
            self.0.remove(0);
        }
    }

    /// Removes one such mark. It may have gone already.
    fn remove(&mut self, mark: Mark) {
        if let Some(at) = self.0.iter().rposition(|other| *other == mark) {
            self.0.remove(at);
        }
    }
}

/// How many rows an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowCount(pub(crate) u64);

/// The kind, the name, and whether it is validated.
type Sender = (u8, Name, u8);
/// The key of a row: the account, and the sender.
type RowKey = (Name, Sender);

fn row_key(account: &Name, key: &HistoryKey) -> RowKey {
    let validated = u8::from(key.validated);
    let sender = (key.kind.number(), key.name.as_str().into(), validated);
    (Arc::clone(account), sender)
}

/// The last day on which a row without a later mark is no longer of use.
fn last_useless_day(now: Time) -> Option<u64> {
    now.day().checked_sub(KEPT_DAYS).map(u64::from)
}

records! {
    Row: version 1,
}

ways! {
    RowCount: version 1,
}

tables! {
    /// The history of senders.
    counters: (),
    /// By account and sender.
    rows: Table<RowKey, Row> = Table::new("reputation"),
    /// By the day of the last mark.
    by_day: Table<(u64, RowKey), ()> = Table::new("reputation_days"),
    /// By account and the day of the last mark.
    by_account: Table<(Name, (u64, Sender)), ()> = Table::new("reputation_account_days"),
    /// How many rows each account has.
    counts: Table<Name, RowCount> = Table::new("reputation_counts"),
}

subject!(
    counters (), keys 1,
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.reputation.forget_old(now, max)
    }
);

impl Tables {
    /// Adds a mark of a sender.
    pub(super) fn mark(
        &mut self,
        account: &Name,
        key: &HistoryKey,
        mark: Mark,
    ) -> Result<(), Fault> {
        let key = row_key(account, key);
        match self.rows.get(&key)? {
            Some(mut row) => {
                let before = row.day();
                row.add(mark);
                self.change(key, before, row);
            }
            None => {
                let row = Row(vec![mark]);
                self.lead_to(&key, row.day());
                self.rows.put_new(key, row);
                let count = self.count(account)? + 1;
                self.counts.put(Arc::clone(account), RowCount(count));
                if count > HISTORY_ROWS {
                    self.remove_oldest(account, 1)?;
                }
            }
        }
        Ok(())
    }

    /// Takes a mark back.
    pub(super) fn unmark(
        &mut self,
        account: &Name,
        key: &HistoryKey,
        mark: Mark,
    ) -> Result<(), Fault> {
        let key = row_key(account, key);
        let Some(mut row) = self.rows.get(&key)? else {
            return Ok(());
        };
        let before = row.day();
        row.remove(mark);
        match row.0.is_empty() {
            true => self.remove(&key, before)?,
            false => self.change(key, before, row),
        }
        Ok(())
    }

    fn change(&mut self, key: RowKey, before: u64, row: Row) {
        if before != row.day() {
            self.by_day.remove(&(before, key.clone()));
            self.by_account
                .remove(&(Arc::clone(&key.0), (before, key.1.clone())));
            self.lead_to(&key, row.day());
        }
        self.rows.put(key, row);
    }

    fn lead_to(&mut self, key: &RowKey, day: u64) {
        self.by_day.put((day, key.clone()), ());
        self.by_account
            .put((Arc::clone(&key.0), (day, key.1.clone())), ());
    }

    fn count(&self, account: &Name) -> Result<u64, Fault> {
        Ok(self.counts.get(account)?.unwrap_or_default().0)
    }

    fn remove(&mut self, key: &RowKey, day: u64) -> Result<(), Fault> {
        self.rows.remove(key);
        self.by_day.remove(&(day, key.clone()));
        self.by_account
            .remove(&(Arc::clone(&key.0), (day, key.1.clone())));
        match self.count(&key.0)? {
            0 | 1 => self.counts.remove(&key.0),
            count => self.counts.put(Arc::clone(&key.0), RowCount(count - 1)),
        }
        Ok(())
    }

    /// Removes rows of an account, at most so many: those whose last mark is oldest. Gives how many
    /// it removed.
    fn remove_oldest(&mut self, account: &Name, most: usize) -> Result<u64, Fault> {
        let from = (Arc::clone(account), (0, (0, "".into(), 0)));
        let rows = self
            .by_account
            .range(Bound::Included(&from), Bound::Unbounded)?;
        let of_account = |row: &Result<((Name, _), ()), Fault>| {
            row.as_ref().map_or(true, |row| row.0.0 == *account)
        };
        let oldest = rows
            .take_while(of_account)
            .take(most)
            .collect::<Result<Vec<_>, Fault>>()?;
        let count = oldest.len() as u64;
        for ((account, (day, sender)), ()) in oldest {
            self.remove(&(account, sender), day)?;
        }
        Ok(count)
    }

    /// Removes at most `max` rows that are too old to be of use.
    fn forget_old(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let Some(last) = last_useless_day(now) else {
            return Ok(0);
        };
        let to = (last + 1, ("".into(), (0, "".into(), 0)));
        let old = self
            .by_day
            .range(Bound::Unbounded, Bound::Excluded(&to))?
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .collect::<Result<Vec<_>, Fault>>()?;
        for ((day, key), ()) in &old {
            self.remove(key, *day)?;
        }
        Ok(old.len() as u64)
    }

    /// The number of rows of each account, as it should be.
    pub(super) fn check(&self, faults: &mut crate::table::Faults) -> Result<(), Fault> {
        let mut counts = std::collections::BTreeMap::<Name, u64>::new();
        let mut total = 0;
        self.rows.for_each(|key, row| {
            total += 1;
            *counts.entry(Arc::clone(&key.0)).or_default() += 1;
            let by_account = (Arc::clone(&key.0), (row.day(), key.1.clone()));
            let found = self.by_account.contains(&by_account)?
                && self.by_day.contains(&(row.day(), key.clone()))?;
            faults.check(found, || {
                format!("a sender of the account {} is not found by its day", key.0)
            });
            Ok(())
        })?;
        faults.compare("senders by day", self.by_day.count()?, total);
        faults.compare("senders by account", self.by_account.count()?, total);
        let accounts = counts.len() as u64;
        faults.compare("accounts with a history", self.counts.count()?, accounts);
        for (account, count) in counts {
            faults.compare("senders of an account", self.count(&account)?, count);
        }
        Ok(())
    }
}

operations! {
    Reputation, version 1:
    ForgetSome -> u64, Reserve;
}

/// Forgets some rows of an account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForgetSome {
    account: String,
}

impl ForgetSome {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let tables = &mut state.reputation;
        tables.remove_oldest(&self.account.into(), FORGOTTEN_AT_ONCE)
    }
}

questions! {
    ask Marks<'a> { account: &'a str, keys: &'a [HistoryKey] } -> Vec<Vec<Mark>>,
    |this, state| {
        let account: Name = this.account.into();
        let rows = this.keys.iter().map(|key| state.reputation.rows.get(&row_key(&account, key)));
        rows.map(|row| Ok(row?.unwrap_or_default().0)).collect()
    },
    |this, model| model.reputation.marks(this);
}

impl Store {
    /// The marks of each of these senders in an account, in the same order, each oldest first.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn history(
        &self,
        account: &str,
        keys: &[HistoryKey],
    ) -> Result<Vec<Vec<Mark>>, StoreError> {
        self.ask(Marks { account, keys }).await
    }

    /// Forgets what an account said about senders.
    ///
    /// # Errors
    /// If the change can't be made durable. Then a part may be forgotten.
    pub async fn forget_history(&self, account: &str) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let account = account.to_owned();
            match self.change_by(ForgetSome { account }).await? {
                0 => return Ok(forgotten),
                some => forgotten += some,
            }
        }
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![Op::ForgetSome(ForgetSome {
        account: "ann".into(),
    })]
}
