//! Suppression lists: addresses that accounts do not mail to any more.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;

use serde::{Deserialize, Serialize};

use super::{Listing, State, next};
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
    Suppression: version 1,
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

subject!(counters Counters, keys 1);

impl Tables {
    /// Adds an entry. False if the base address is on the list already.
    pub(crate) fn add(&mut self, new: NewSuppression) -> Result<bool, Fault> {
        let key = (
            Name::from(new.account.as_str()),
            Name::from(base_in_list(&new.base, &new.list)),
        );
        if self.by_base.contains(&key)? {
            return Ok(false);
        }
        let id = SuppressionId(next(&mut self.counters.last));
        self.counters.entries += 1;
        self.by_base.put_new(key, id);
        self.entries.put_new(id, new.suppression(id));
        Ok(true)
    }
}

operations! {
    Suppression, version 1:
    Add -> bool, Ordinary;
    Remove -> bool, Reserve;
}

/// Adds an entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Add(NewSuppression);

impl Add {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        state.suppression.add(self.0)
    }
}

/// Removes an entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remove {
    account: String,
    base: String,
}

impl Remove {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        let tables = &mut state.suppression;
        let key = (self.account.into(), self.base.into());
        let Some(id) = tables.by_base.take(&key)? else {
            return Ok(false);
        };
        tables.entries.remove(&id);
        tables.counters.entries -= 1;
        Ok(true)
    }
}

questions! {
    ask Of<'a> { account: &'a str, base: &'a str } -> Option<Suppression>,
    |this, state| {
        let tables = &state.suppression;
        if tables.counters.entries == 0 {
            return Ok(None);
        }
        match tables.by_base.get(&(this.account.into(), this.base.into()))? {
            Some(id) => tables.entries.get(&id),
            None => Ok(None),
        }
    },
    |this, model| model.suppression.find(this.account, this.base).cloned();

    scan List { account: Option<String>, after: Option<SuppressionId>, limit: usize }
        -> Page<Suppression, SuppressionId>,
    |this, reader| {
        let listing = Listing {
            group: this.account.clone(),
            after: this.after,
            order: Order::Ascending,
            limit: this.limit,
        };
        reader.page(listing, |state| &state.suppression.entries, |_| true)
    },
    |this, model| model.suppression.list(this);
}

impl Store {
    /// The entry of a suppression list. None if this base address is not on the list.
    ///
    /// # Errors
    /// If it can't be read.
    #[doc(alias = "base_in_list")]
    pub async fn suppression(
        &self,
        account: &str,
        base: &str,
    ) -> Result<Option<Suppression>, StoreError> {
        self.ask(Of { account, base }).await
    }

    /// The suppression list of an account, or of all accounts, by number.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn list_suppressions(
        &self,
        account: Option<&str>,
        after: Option<SuppressionId>,
        limit: usize,
    ) -> Result<Page<Suppression, SuppressionId>, StoreError> {
        let account = account.map(str::to_owned);
        self.scan(List {
            account,
            after,
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

    /// Takes a base address off a suppression list. False: the address was not there.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn unsuppress(&self, account: &str, base: &str) -> Result<bool, StoreError> {
        let (account, base) = (account.to_owned(), base.to_owned());
        self.change_by(Remove { account, base }).await
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
    };
    vec![
        Op::Add(Add(new)),
        Op::Remove(Remove {
            account: "ann".into(),
            base: "x@a.example".into(),
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
