//! What people write with: signatures and templates, as JSON whose meaning the caller knows.
//!
//! An item belongs to an owner: an account, a domain or the server. Each change gives an item a new
//! version, and the last few versions stay readable.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{State, next};
use crate::{
    Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{Faults, Table, key::Name, tables, value::records},
};

ids! {
    /// A signature or a template.
    StationeryId,
}

/// How many versions of an item are kept, with the present one.
pub const STATIONERY_VERSIONS: u64 = 10;

/// The kind of an item.
///
/// The journal has the place in this list, so a new one goes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StationeryKind {
    /// Text under a message.
    Signature,
    /// A message with places for variables.
    Template,
}

/// The owner of an item.
///
/// The journal has the place in this list, so a new one goes to its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StationeryOwner {
    /// The account of this name.
    Account(String),
    /// The accounts of a domain, which is in its ASCII form.
    Domain(String),
    /// All accounts.
    Server,
}

/// A shelf: the items of one kind that one owner has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StationeryShelf {
    /// The kind of its items.
    pub kind: StationeryKind,
    /// The owner.
    pub owner: StationeryOwner,
}

impl StationeryShelf {
    /// The key in the index. A name of an account or a domain has no space.
    fn key(&self) -> Name {
        let kind = match self.kind {
            StationeryKind::Signature => "signature",
            StationeryKind::Template => "template",
        };
        match &self.owner {
            StationeryOwner::Account(name) => format!("account {name} {kind}"),
            StationeryOwner::Domain(name) => format!("domain {name} {kind}"),
            StationeryOwner::Server => format!("server {kind}"),
        }
        .into()
    }
}

/// A signature or a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationeryItem {
    /// The number.
    pub id: StationeryId,
    /// 1 at first, and one more with each change.
    pub version: u64,
    /// The item in JSON.
    pub text: String,
    /// When it was made.
    pub created: Time,
    /// When it was last changed.
    pub changed: Time,
}

/// A version of an item that is no more the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OldItem {
    text: String,
    changed: Time,
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    StationeryItem: version 1,
    OldItem: version 1,
}

tables! {
    counters: Counters,
    /// By shelf and number.
    items: Table<(Name, StationeryId), StationeryItem> = Table::new("stationery"),
    /// By number and version.
    old: Table<(StationeryId, u64), OldItem> = Table::new("stationery_old"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    }
);

impl Tables {
    fn of(&self, shelf: &Name) -> Result<Vec<StationeryItem>, Fault> {
        let from = (Arc::clone(shelf), StationeryId(0));
        let to = (Arc::clone(shelf), StationeryId(u64::MAX));
        let range = self
            .items
            .range(Bound::Included(&from), Bound::Included(&to))?;
        range.map(|entry| entry.map(|(_, item)| item)).collect()
    }

    /// Gives an item a new text, and keeps the old one. False: it is not there, or it has the text.
    fn change(&mut self, shelf: &Name, change: StationeryChange, now: Time) -> Result<bool, Fault> {
        let key = (Arc::clone(shelf), change.id);
        let Some(before) = self.items.get(&key)?.filter(|it| it.text != change.text) else {
            return Ok(false);
        };
        let (after, old) = changed(before.clone(), change.text, now);
        if let Some(gone) = after.version.checked_sub(STATIONERY_VERSIONS) {
            self.old.remove(&(change.id, gone));
        }
        self.old.put((change.id, before.version), old);
        self.items.put(key, after);
        Ok(true)
    }

    /// Removes an item with all its versions.
    fn remove(&mut self, shelf: &Name, id: StationeryId) -> Result<bool, Fault> {
        let Some(item) = self.items.take(&(Arc::clone(shelf), id))? else {
            return Ok(false);
        };
        for version in oldest(item.version)..item.version {
            self.old.remove(&(id, version));
        }
        Ok(true)
    }
}

/// The number of the oldest version that is kept when this one is the present one.
fn oldest(present: u64) -> u64 {
    (present + 1).saturating_sub(STATIONERY_VERSIONS).max(1)
}

/// An item with a new text, and the version that it was before.
fn changed(before: StationeryItem, text: String, now: Time) -> (StationeryItem, OldItem) {
    let old = OldItem {
        text: before.text,
        changed: before.changed,
    };
    let after = StationeryItem {
        version: before.version + 1,
        text,
        changed: now,
        ..before
    };
    (after, old)
}

impl State {
    /// Compares the old versions with the items.
    pub(super) fn check_stationery(&self, faults: &mut Faults) -> Result<(), Fault> {
        let tables = &self.stationery;
        let mut expected = 0;
        tables.items.for_each(|_, item| {
            expected += item.version - oldest(item.version);
            for version in oldest(item.version)..item.version {
                let found = tables.old.contains(&(item.id, version))?;
                faults.check(found, || {
                    format!("version {version} of the stationery {} is missing", item.id)
                });
            }
            Ok(())
        })?;
        faults.compare("old versions of stationery", tables.old.count()?, expected);
        Ok(())
    }
}

operations! {
    Stationery, version 1 weighed by weigh:
    AddItem -> StationeryId, Ordinary;
    ChangeItems -> u64, Ordinary;
    RemoveItem -> bool, Reserve;
    ForgetShelf -> u64, Reserve;
}

/// How many records an operation changes, about.
fn weigh(op: &Op) -> usize {
    match op {
        Op::AddItem(_) | Op::RemoveItem(_) => 1,
        Op::ChangeItems(change) => 2 * change.changes.len(),
        Op::ForgetShelf(_) => 50,
    }
}

/// A new text of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationeryChange {
    /// The item.
    pub id: StationeryId,
    /// The item in JSON.
    pub text: String,
}

/// Adds an item, and changes others at the same time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AddItem {
    shelf: StationeryShelf,
    text: String,
    /// Others of the shelf.
    changes: Vec<StationeryChange>,
    /// The most items of the shelf.
    most: u64,
    now: Time,
}

impl AddItem {
    fn apply(self, state: &mut State) -> Result<StationeryId, Fault> {
        let tables = &mut state.stationery;
        let shelf = self.shelf.key();
        if tables.of(&shelf)?.len() as u64 >= self.most {
            return Ok(StationeryId(0));
        }
        for change in self.changes {
            tables.change(&shelf, change, self.now)?;
        }
        let id = StationeryId(next(&mut tables.counters.last));
        let item = first_version(id, self.text, self.now);
        tables.items.put_new((shelf, id), item);
        Ok(id)
    }
}

fn first_version(id: StationeryId, text: String, now: Time) -> StationeryItem {
    StationeryItem {
        id,
        version: 1,
        text,
        created: now,
        changed: now,
    }
}

/// Changes items of a shelf. Gives how many are others now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChangeItems {
    shelf: StationeryShelf,
    changes: Vec<StationeryChange>,
    now: Time,
}

impl ChangeItems {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let shelf = self.shelf.key();
        let mut count = 0;
        for change in self.changes {
            count += u64::from(state.stationery.change(&shelf, change, self.now)?);
        }
        Ok(count)
    }
}

/// Removes an item.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RemoveItem {
    shelf: StationeryShelf,
    id: StationeryId,
}

impl RemoveItem {
    fn apply(self, state: &mut State) -> Result<bool, Fault> {
        state.stationery.remove(&self.shelf.key(), self.id)
    }
}

/// Removes all items of a shelf.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForgetShelf {
    shelf: StationeryShelf,
}

impl ForgetShelf {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        let shelf = self.shelf.key();
        let items = state.stationery.of(&shelf)?;
        for item in &items {
            state.stationery.remove(&shelf, item.id)?;
        }
        Ok(items.len() as u64)
    }
}

questions! {
    scan OfShelf { shelf: StationeryShelf } -> Vec<StationeryItem>,
    |this, reader| Ok(reader.state()?.stationery.of(&this.shelf.key())?),
    |this, model| model.stationery.of(&this.shelf);

    ask OneItem<'a> { shelf: &'a StationeryShelf, id: StationeryId } -> Option<StationeryItem>,
    |this, state| state.stationery.items.get(&(this.shelf.key(), this.id)),
    |this, model| model.stationery.item(this.shelf, this.id);

    ask OldVersion { id: StationeryId, version: u64 } -> Option<OldItem>,
    |this, state| state.stationery.old.get(&(this.id, this.version)),
    |this, model| model.stationery.old(this.id, this.version);
}

impl Store {
    /// Adds an item to a shelf, and changes others of the shelf at the same time. None: the shelf
    /// has `most` items already, and nothing was changed.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn add_stationery(
        &self,
        shelf: &StationeryShelf,
        text: String,
        changes: Vec<StationeryChange>,
        most: u64,
        now: Time,
    ) -> Result<Option<StationeryId>, StoreError> {
        let shelf = shelf.clone();
        let add = AddItem {
            shelf,
            text,
            changes,
            most,
            now,
        };
        let id = self.change_by(add).await?;
        Ok((id != StationeryId(0)).then_some(id))
    }

    /// Changes items of a shelf, all at the same time. Gives how many are others now: an item that
    /// is not there stays so, and one that has the text already gets no new version.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn change_stationery(
        &self,
        shelf: &StationeryShelf,
        changes: Vec<StationeryChange>,
        now: Time,
    ) -> Result<u64, StoreError> {
        let shelf = shelf.clone();
        let change = ChangeItems {
            shelf,
            changes,
            now,
        };
        self.change_by(change).await
    }

    /// Removes an item with all its versions. False: the shelf does not have it.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn remove_stationery(
        &self,
        shelf: &StationeryShelf,
        id: StationeryId,
    ) -> Result<bool, StoreError> {
        let shelf = shelf.clone();
        self.change_by(RemoveItem { shelf, id }).await
    }

    /// Removes all items of a shelf, and tells how many there were.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn forget_stationery(&self, shelf: &StationeryShelf) -> Result<u64, StoreError> {
        let shelf = shelf.clone();
        self.change_by(ForgetShelf { shelf }).await
    }

    /// The items of a shelf, by number.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn stationery(
        &self,
        shelf: &StationeryShelf,
    ) -> Result<Vec<StationeryItem>, StoreError> {
        let shelf = shelf.clone();
        self.scan(OfShelf { shelf }).await
    }

    /// An item of a shelf, as it was in a version; None: as it is now. None: the shelf does not
    /// have it, or the version is not kept.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn stationery_item(
        &self,
        shelf: &StationeryShelf,
        id: StationeryId,
        version: Option<u64>,
    ) -> Result<Option<StationeryItem>, StoreError> {
        let item = self.ask(OneItem { shelf, id }).await?;
        let (Some(item), Some(version)) = (item.clone(), version) else {
            return Ok(item);
        };
        if version == item.version {
            return Ok(Some(item));
        }
        let old = self.ask(OldVersion { id, version }).await?;
        Ok(old.map(|old| StationeryItem {
            version,
            text: old.text,
            changed: old.changed,
            ..item
        }))
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let shelf = tests::shelf("ann", StationeryKind::Template);
    let change = StationeryChange {
        id: StationeryId(1),
        text: "{}".into(),
    };
    vec![
        Op::AddItem(AddItem {
            shelf: shelf.clone(),
            text: "{}".into(),
            changes: vec![change.clone()],
            most: 50,
            now: Time(1),
        }),
        Op::ChangeItems(ChangeItems {
            shelf: StationeryShelf {
                kind: StationeryKind::Signature,
                owner: StationeryOwner::Domain("example.org".into()),
            },
            changes: vec![change],
            now: Time(2),
        }),
        Op::RemoveItem(RemoveItem {
            shelf: StationeryShelf {
                kind: StationeryKind::Signature,
                owner: StationeryOwner::Server,
            },
            id: StationeryId(1),
        }),
        Op::ForgetShelf(ForgetShelf { shelf }),
    ]
}
