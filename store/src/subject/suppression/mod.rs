//! Suppression lists: addresses that accounts do not mail to any more.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
pub(crate) mod older;

use std::ops::Bound;

use postrider_smtp::EnhancedCode;
use serde::{Deserialize, Serialize};

use self::older::SuppressionV1;
use super::{Listing, State, next, tag};
use crate::{
    Order, Page, Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{Grouping, Table, key::Name, tables, value::records},
};

ids! {
    /// An entry of a suppression list.
    SuppressionId,
}

/// An address that an account does not mail to any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// The number of the record.
    pub id: SuppressionId,
    /// The account of the list.
    pub account: String,
    /// The base address: it stands for all variants of the address. It is unique in the list.
    pub base: String,
    /// The application's mailing list that the entry is about; empty: all mail of the account.
    pub list: String,
    /// The address itself, in its Unicode form.
    pub original: String,
    /// When the record was made.
    pub created: Time,
    /// Somebody made the entry, not a failure.
    pub manual: bool,
    /// The reason, in words.
    pub reason: String,
    /// The reply or report that made the entry. None if there was none.
    pub reply: Option<SuppressingReply>,
    /// When the entry expires. None: never. An expired entry counts as absent. The store removes it
    /// with the records of the history whose time is over.
    pub until: Option<Time>,
}

/// The reply of a server, or the report about a reply, that put an address on a suppression list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressingReply {
    /// The SMTP reply code. 500 stands for a report with a status and without a reply. 0 for a
    /// complaint.
    pub code: u16,
    /// The enhanced status code.
    pub enhanced: Option<EnhancedCode>,
    /// The text of the reply, on one line.
    pub text: String,
    /// The host that replied, as `name [ip]` or as the report names it; empty if that is not known.
    pub host: String,
}

impl Suppression {
    /// The entry has not expired at this time.
    pub(crate) fn is_valid(&self, now: Time) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// An address to be put on a suppression list. The fields are those of
/// [`Suppression`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of Suppression"
)]
pub struct NewSuppression {
    pub account: String,
    pub base: String,
    pub list: String,
    pub original: String,
    pub created: Time,
    pub manual: bool,
    pub reason: String,
    pub reply: Option<SuppressingReply>,
    pub until: Option<Time>,
}

impl NewSuppression {
    /// The record with this number.
    pub(crate) fn suppression(self, id: SuppressionId) -> Suppression {
        Suppression {
            id,
            account: self.account,
            base: self.base,
            list: self.list,
            original: self.original,
            created: self.created,
            manual: self.manual,
            reason: self.reason,
            reply: self.reply,
            until: self.until,
        }
    }
}

/// The name of a base address in a mailing list, by which entries of suppression lists are looked
/// up. Without a list it is the base address itself.
#[must_use]
pub fn base_in_list(base: &str, list: &str) -> String {
    match list {
        "" => base.to_owned(),
        list => format!("{base}\n{list}"),
    }
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
    /// How many entries there are.
    pub(crate) entries: u64,
}

records! {
    Suppression: version 2 [1 => SuppressionV1],
    SuppressionId: version 1,
}

tables! {
    /// The suppression lists.
    counters: Counters,
    entries: Table<SuppressionId, Suppression> = Table::grouped(
        "suppressions",
        Grouping {
            name: "suppression_groups",
            of: |suppression| vec![suppression.account.clone()],
            has: |account, suppression| suppression.account == account,
        },
    ),
    /// By account and by base address as one of a mailing list.
    by_base: Table<(Name, Name), SuppressionId> = Table::new("suppressed"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        state.suppression.remove(SuppressionId(number))?;
        Ok(())
    }
);

impl Tables {
    fn remove(&mut self, id: SuppressionId) -> Result<Option<Suppression>, Fault> {
        let removed = self.entries.take(&id)?;
        if let Some(entry) = &removed {
            self.by_base
                .remove(&key(&entry.account, &entry.base, &entry.list));
            self.counters.entries -= 1;
        }
        Ok(removed)
    }

    fn find(&self, account: &str, base: &str) -> Result<Option<Suppression>, Fault> {
        if self.counters.entries == 0 {
            return Ok(None);
        }
        match self.by_base.get(&(account.into(), base.into()))? {
            Some(id) => self.entries.get(&id),
            None => Ok(None),
        }
    }

    fn in_all_lists(
        &self,
        account: &str,
        base: &str,
        now: Time,
    ) -> Result<Vec<Suppression>, Fault> {
        // A list stands behind a line end, which no address has.
        let first: (Name, Name) = (account.into(), base.into());
        let past: (Name, Name) = (account.into(), format!("{base}\u{b}").into());
        let mut entries = Vec::new();
        for found in self
            .by_base
            .range(Bound::Included(&first), Bound::Excluded(&past))?
        {
            let (_, id) = found?;
            let entry = self.entries.get(&id)?;
            entries.extend(entry.filter(|entry| entry.base == base && entry.is_valid(now)));
        }
        Ok(entries)
    }
}

fn key(account: &str, base: &str, list: &str) -> (Name, Name) {
    (account.into(), base_in_list(base, list).into())
}

impl State {
    /// Adds an entry. False if the list has a valid entry for the base address.
    pub(super) fn suppress(&mut self, new: NewSuppression) -> Result<bool, Fault> {
        let name = base_in_list(&new.base, &new.list);
        match self.suppression.find(&new.account, &name)? {
            Some(entry) if entry.is_valid(new.created) => return Ok(false),
            Some(expired) => self.unsuppress(&expired)?,
            None => {}
        }
        let tables = &mut self.suppression;
        let id = SuppressionId(next(&mut tables.counters.last));
        tables.counters.entries += 1;
        tables
            .by_base
            .put(key(&new.account, &new.base, &new.list), id);
        if let Some(until) = new.until {
            self.history.add(until, tag::suppression, id.0);
        }
        tables.entries.put_new(id, new.suppression(id));
        Ok(true)
    }

    fn unsuppress(&mut self, entry: &Suppression) -> Result<(), Fault> {
        if let Some(until) = entry.until {
            self.history.remove(until, tag::suppression, entry.id.0);
        }
        self.suppression.remove(entry.id)?;
        Ok(())
    }
}

operations! {
    Suppression, version 2 older older::operation:
    Add -> bool, Ordinary;
    Remove -> bool, Reserve;
}

/// Adds an entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Add(NewSuppression);

impl Add {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        state.suppress(self.0)
    }
}

/// Removes an entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remove {
    account: String,
    base: String,
    now: Time,
}

impl Remove {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let found = state.suppression.find(&self.account, &self.base)?;
        let Some(entry) = found else {
            return Ok(false);
        };
        state.unsuppress(&entry)?;
        Ok(entry.is_valid(self.now))
    }
}

questions! {
    ask Of<'a> { account: &'a str, base: &'a str, now: Time } -> Option<Suppression>,
    |this, state| {
        let found = state.suppression.find(this.account, this.base)?;
        Ok(found.filter(|entry| entry.is_valid(this.now)))
    },
    |this, model| {
        let found = model.suppression.find(this.account, this.base);
        found.filter(|entry| entry.is_valid(this.now)).cloned()
    };

    ask InAllLists<'a> { account: &'a str, base: &'a str, now: Time } -> Vec<Suppression>,
    |this, state| state.suppression.in_all_lists(this.account, this.base, this.now),
    |this, model| model.suppression.in_all_lists(this);

    scan List {
        account: Option<String>,
        now: Time,
        after: Option<SuppressionId>,
        order: Order,
        limit: usize
    } -> Page<Suppression, SuppressionId>,
    |this, reader| {
        let listing = Listing {
            group: this.account.clone(),
            after: this.after,
            order: this.order,
            limit: this.limit,
        };
        let valid = |entry: &Suppression| entry.is_valid(this.now);
        reader.page(listing, |state| &state.suppression.entries, valid)
    },
    |this, model| model.suppression.list(this);
}

impl Store {
    /// The entry of a suppression list. None if this base address is not on the list at this time.
    ///
    /// # Errors
    /// If it can't be read.
    #[doc(alias = "base_in_list")]
    pub async fn suppression(
        &self,
        account: &str,
        base: &str,
        now: Time,
    ) -> Result<Option<Suppression>, StoreError> {
        self.ask(Of { account, base, now }).await
    }

    /// The entries of a base address: the one for all mail of the account, and those of its mailing
    /// lists.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn suppressions_of(
        &self,
        account: &str,
        base: &str,
        now: Time,
    ) -> Result<Vec<Suppression>, StoreError> {
        self.ask(InAllLists { account, base, now }).await
    }

    /// The suppression list of an account, or of all accounts, by number in either order, as it is
    /// at this time, beginning behind `after`.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn list_suppressions(
        &self,
        account: Option<&str>,
        now: Time,
        after: Option<SuppressionId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Suppression, SuppressionId>, StoreError> {
        let account = account.map(str::to_owned);
        self.scan(List {
            account,
            now,
            after,
            order,
            limit,
        })
        .await
    }

    /// Puts an address on a suppression list. False: the address is there already, and its entry
    /// stays as it is.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn suppress(&self, suppression: NewSuppression) -> Result<bool, StoreError> {
        self.change_by(Add(suppression)).await
    }

    /// Takes a base address off a suppression list. False: the address was not there at this time.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn unsuppress(
        &self,
        account: &str,
        base: &str,
        now: Time,
    ) -> Result<bool, StoreError> {
        let (account, base) = (account.to_owned(), base.to_owned());
        self.change_by(Remove { account, base, now }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let new = NewSuppression {
        account: "ann".into(),
        base: "x@a.example".into(),
        list: "news".into(),
        original: "X+1@a.example".into(),
        created: Time(1),
        manual: true,
        reason: "asked".into(),
        reply: Some(SuppressingReply {
            code: 550,
            enhanced: Some(EnhancedCode::UNKNOWN_MAILBOX),
            text: "no such user".into(),
            host: "mx.a.example [192.0.2.1]".into(),
        }),
        until: Some(Time(2)),
    };
    vec![
        Op::Add(Add(new)),
        Op::Remove(Remove {
            account: "ann".into(),
            base: "x@a.example".into(),
            now: Time(1),
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::base_in_list;

    /// The name is a stored key: another form needs another version of the keys of this subject.
    #[test]
    fn the_key_of_an_entry_is_fixed() {
        assert_eq!(base_in_list("x@a.example", ""), "x@a.example");
        assert_eq!(base_in_list("x@a.example", "news"), "x@a.example\nnews");
    }
}
