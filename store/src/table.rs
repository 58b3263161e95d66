//! One logical table: the changes since the last checkpoint, in memory, over the table of the
//! index.
//!
//! Three layers, the upper hiding the lower: *active* (being changed), *frozen* (a checkpoint is
//! writing it), and *base* (the index as of the last finished checkpoint). A removed key is a
//! tombstone in its layer, unless it was *fresh*: then no layer below has it, and it leaves no
//! trace.
//!
//! A table may be *grouped*: then the index has a second table with the keys of each group, which a
//! checkpoint brings up to date. So a record that comes and goes between two checkpoints costs
//! nothing for its groups. Whoever asks for a group looks through the layers in memory.

use std::{
    collections::{BTreeMap, btree_map},
    ops::Bound,
    sync::Arc,
};

use redb::ReadOnlyTable;

mod ahead;
mod aside;
mod check;
pub(crate) mod due;
mod frozen;
pub(crate) mod key;
mod scan;
pub(crate) mod value;

pub(crate) use ahead::Ahead;
pub(crate) use check::Faults;
pub(crate) use frozen::{Frozen, Layered, Versions, tables};

use crate::error::Fault;
use aside::Aside;
use key::Key;
use value::{Unreadable, Value};

type Bytes = &'static [u8];
type Base = ReadOnlyTable<Bytes, Bytes>;
type Layer<K, V> = BTreeMap<K, Slot<V>>;

#[derive(Clone, Debug)]
struct Slot<V> {
    /// None: removed.
    value: Option<V>,
    /// No layer below has the key.
    fresh: bool,
}

/// A table of the store's state.
pub(crate) struct Table<K, V> {
    name: &'static str,
    active: Layer<K, V>,
    frozen: Option<Arc<Layer<K, V>>>,
    /// None: the index does not have the table yet.
    base: Option<Arc<Base>>,
    groups: Option<Groups<V>>,
    /// The records that could not be read.
    aside: Aside,
}

/// How a table's values are grouped.
#[derive(Debug)]
pub(crate) struct Grouping<V> {
    /// The name of the table of groups.
    pub(crate) name: &'static str,
    /// The groups a value belongs to.
    pub(crate) of: fn(&V) -> Vec<String>,
    /// Whether a value belongs to this group.
    pub(crate) has: fn(&str, &V) -> bool,
}

impl<V> Clone for Grouping<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Grouping<V> {}

/// The groups of a table's values.
struct Groups<V> {
    grouping: Grouping<V>,
    base: Option<Base>,
}

impl<K: Key, V: Value> Table<K, V> {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name,
            active: BTreeMap::new(),
            frozen: None,
            base: None,
            groups: None,
            aside: Aside::new(),
        }
    }

    /// A grouped table. The keys of the groups are in another table.
    pub(crate) fn grouped(name: &'static str, grouping: Grouping<V>) -> Self {
        Self {
            groups: Some(Groups {
                grouping,
                base: None,
            }),
            ..Self::new(name)
        }
    }

    fn damaged(&self, what: &'static str) -> Fault {
        Fault::Record {
            table: self.name,
            what,
        }
    }

    /// The value of these bytes of the index. None: it is a record that makes no sense. It is set
    /// aside: it stays where it is, and counts as absent.
    fn decode(&self, key: &K, bytes: &[u8]) -> Result<Option<V>, Fault> {
        match V::decode(bytes) {
            Ok(value) => Ok(Some(value)),
            Err(Unreadable::Senseless) if !V::IS_WAY => {
                let mut key_bytes = Vec::new();
                key.encode(&mut key_bytes);
                self.aside.add(self.name, key_bytes);
                Ok(None)
            }
            Err(unreadable) => Err(unreadable.in_table(self.name)),
        }
    }

    fn below(&self, key: &K) -> Result<Option<V>, Fault> {
        if let Some(slot) = self.frozen.as_ref().and_then(|frozen| frozen.get(key)) {
            return Ok(slot.value.clone());
        }
        let Some(base) = &self.base else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(32);
        key.encode(&mut bytes);
        let Some(value) = base.get(bytes.as_slice())? else {
            return Ok(None);
        };
        self.decode(key, value.value())
    }

    pub(crate) fn get(&self, key: &K) -> Result<Option<V>, Fault> {
        match self.active.get(key) {
            Some(slot) => Ok(slot.value.clone()),
            None => self.below(key),
        }
    }

    pub(crate) fn contains(&self, key: &K) -> Result<bool, Fault> {
        if let Some(slot) = self.active.get(key) {
            return Ok(slot.value.is_some());
        }
        if let Some(slot) = self.frozen.as_ref().and_then(|frozen| frozen.get(key)) {
            return Ok(slot.value.is_some());
        }
        let Some(base) = &self.base else {
            return Ok(false);
        };
        let mut bytes = Vec::with_capacity(32);
        key.encode(&mut bytes);
        Ok(base.get(bytes.as_slice())?.is_some())
    }

    /// Sets a key that may be there.
    pub(crate) fn put(&mut self, key: K, value: V) {
        self.set(key, value, false);
    }

    /// Sets a key that is not there. The caller has to know that.
    pub(crate) fn put_new(&mut self, key: K, value: V) {
        self.set(key, value, true);
    }

    fn set(&mut self, key: K, value: V, fresh: bool) {
        match self.active.entry(key) {
            btree_map::Entry::Vacant(entry) => {
                entry.insert(Slot {
                    value: Some(value),
                    fresh,
                });
            }
            // The layers below are as they were.
            btree_map::Entry::Occupied(mut entry) => entry.get_mut().value = Some(value),
        }
    }

    /// Removes a key that is there.
    pub(crate) fn remove(&mut self, key: &K) {
        match self.active.get_mut(key) {
            Some(slot) if slot.fresh => {
                self.active.remove(key);
            }
            Some(slot) => slot.value = None,
            None => {
                self.active.insert(
                    key.clone(),
                    Slot {
                        value: None,
                        fresh: false,
                    },
                );
            }
        }
    }

    /// Removes a key and gives its value.
    pub(crate) fn take(&mut self, key: &K) -> Result<Option<V>, Fault> {
        match self.active.get_mut(key) {
            Some(slot) if slot.fresh => Ok(self.active.remove(key).and_then(|slot| slot.value)),
            Some(slot) => Ok(slot.value.take()),
            None => {
                let value = self.below(key)?;
                if value.is_some() {
                    self.remove(key);
                }
                Ok(value)
            }
        }
    }

    /// The value of a key, to be changed; None if it is not there.
    pub(crate) fn get_mut(&mut self, key: &K) -> Result<Option<&mut V>, Fault> {
        if !self.active.contains_key(key) {
            let Some(value) = self.below(key)? else {
                return Ok(None);
            };
            self.put(key.clone(), value);
        }
        Ok(self
            .active
            .get_mut(key)
            .and_then(|slot| slot.value.as_mut()))
    }

    /// All of it, in order; for tables that stay small.
    pub(crate) fn all(&self) -> Result<Vec<(K, V)>, Fault> {
        self.range(Bound::Unbounded, Bound::Unbounded)?.collect()
    }
}

/// Without the keys.
pub(crate) fn values<K, V>(items: Vec<(K, V)>) -> Vec<V> {
    items.into_iter().map(|(_, value)| value).collect()
}
