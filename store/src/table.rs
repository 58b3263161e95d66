//! One logical table: what came since the last checkpoint, in memory, over what the index has.
//!
//! Three layers, the upper hiding the lower: *active* (being changed), *frozen* (a checkpoint is writing it), and *base*
//! (the index as of the last finished checkpoint). A removed key is a tombstone in its layer, unless it was *fresh*: then
//! no layer below has it, and it leaves no trace.
//!
//! A table may be *grouped*: then the index has a second table with the keys of each group, which a checkpoint brings up to
//! date. So what comes and goes between two checkpoints costs nothing for it; those who ask look through the layers in memory.

use std::{
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    ops::Bound,
    sync::Arc,
};

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction,
};

pub(crate) mod due;
pub(crate) mod key;
pub(crate) mod value;

use crate::{Order, error::Fault};
use key::{Key, Name};
use value::Value;

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
    base: Option<Base>,
    groups: Option<Groups<V>>,
}

/// How a table's values are grouped.
#[derive(Debug)]
pub(crate) struct Grouping<V> {
    /// Of the table of groups.
    pub(crate) name: &'static str,
    /// The groups a value belongs to.
    pub(crate) of: fn(&V) -> Vec<String>,
    /// Whether it belongs to this one.
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
        }
    }

    /// One that is grouped, with the keys of the groups in another table.
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

    fn decode(&self, bytes: &[u8]) -> Result<V, Fault> {
        V::decode(bytes).map_err(|unreadable| unreadable.in_table(self.name))
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
        self.decode(value.value()).map(Some)
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

    /// Sets a key that the caller knows not to be there.
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
            // What is below did not change by what was done above it.
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

    /// Removes a key and gives what it had.
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

    /// What is there from one key to another, in order.
    pub(crate) fn range(&self, from: Bound<&K>, to: Bound<&K>) -> Result<Merge<'_, K, V>, Fault> {
        let mut merge = Merge {
            table: self,
            active: None,
            frozen: None,
            base: None,
            next: None,
        };
        if !is_range(from, to) {
            return Ok(merge);
        }
        merge.active = Some(self.active.range((from, to)).peekable());
        merge.frozen = self
            .frozen
            .as_ref()
            .map(|frozen| frozen.range((from, to)).peekable());
        if let Some(base) = &self.base {
            let from = from.map(bytes);
            let to = to.map(bytes);
            let range = (
                from.as_ref().map(Vec::as_slice),
                to.as_ref().map(Vec::as_slice),
            );
            merge.base = Some(base.range::<&[u8]>(range)?);
            merge.advance_base()?;
        }
        Ok(merge)
    }
}

/// Without the keys.
pub(crate) fn values<K, V>(items: Vec<(K, V)>) -> Vec<V> {
    items.into_iter().map(|(_, value)| value).collect()
}

type Keys<'a, K> = Peekable<Box<dyn Iterator<Item = Result<K, Fault>> + 'a>>;

impl<K: Key, V: Value> Table<K, V> {
    /// What is there behind a key, in either order; only of a group, if one is given.
    pub(crate) fn scan<'a>(
        &'a self,
        group: Option<&'a str>,
        after: Option<&K>,
        order: Order,
    ) -> Result<Scan<'a, K, V>, Fault> {
        let mut layers = vec![self.layer_keys(&self.active, group, after, order)];
        if let Some(frozen) = &self.frozen {
            layers.push(self.layer_keys(frozen, group, after, order));
        }
        layers.extend(self.base_keys(group, after, order)?);
        Ok(Scan {
            table: self,
            layers,
            group,
            order,
        })
    }

    fn layer_keys<'a>(
        &'a self,
        layer: &'a Layer<K, V>,
        group: Option<&'a str>,
        after: Option<&K>,
        order: Order,
    ) -> Keys<'a, K> {
        let bounds = bounds(after, order);
        let range = layer.range((bounds.0.as_ref(), bounds.1.as_ref()));
        let wanted = move |(key, slot): (&'a K, &'a Slot<V>)| {
            let value = slot.value.as_ref()?;
            self.is_in(value, group).then(|| Ok(key.clone()))
        };
        let keys: Box<dyn Iterator<Item = _>> = match order {
            Order::Ascending => Box::new(range.filter_map(wanted)),
            Order::Descending => Box::new(range.rev().filter_map(wanted)),
        };
        keys.peekable()
    }

    fn base_keys<'a>(
        &'a self,
        group: Option<&'a str>,
        after: Option<&K>,
        order: Order,
    ) -> Result<Option<Keys<'a, K>>, Fault> {
        let (base, prefix) = match group {
            None => (self.base.as_ref(), Vec::new()),
            Some(group) => (
                self.groups.as_ref().and_then(|groups| groups.base.as_ref()),
                bytes(&Name::from(group)),
            ),
        };
        let Some(base) = base else {
            return Ok(None);
        };
        let (from, to) = bounds(after, order);
        let with_prefix = |key: K| {
            let mut bytes = prefix.clone();
            key.encode(&mut bytes);
            bytes
        };
        // A prefix is a name, whose bytes are the beginning of no other's.
        let mut past = prefix.clone();
        past.push(0xff);
        let from = match from.map(with_prefix) {
            Bound::Unbounded => Bound::Included(prefix.clone()),
            bound => bound,
        };
        let to = match to.map(with_prefix) {
            Bound::Unbounded if group.is_none() => Bound::Unbounded,
            Bound::Unbounded => Bound::Excluded(past),
            bound => bound,
        };
        let range = base.range::<&[u8]>((
            from.as_ref().map(Vec::as_slice),
            to.as_ref().map(Vec::as_slice),
        ))?;
        let skip = prefix.len();
        let key =
            move |item: Result<(redb::AccessGuard<'static, Bytes>, _), redb::StorageError>| {
                let (bytes, _) = item?;
                let bytes = bytes.value().get(skip..).unwrap_or_default();
                key::decode(bytes).ok_or_else(|| self.damaged("key"))
            };
        let keys: Box<dyn Iterator<Item = _>> = match order {
            Order::Ascending => Box::new(range.map(key)),
            Order::Descending => Box::new(range.rev().map(key)),
        };
        Ok(Some(keys.peekable()))
    }

    fn is_in(&self, value: &V, group: Option<&str>) -> bool {
        match (group, &self.groups) {
            (None, _) => true,
            (Some(group), Some(groups)) => (groups.grouping.has)(group, value),
            (Some(_), None) => false,
        }
    }
}

/// From where to where, for what lies behind a key.
fn bounds<K: Clone>(after: Option<&K>, order: Order) -> (Bound<K>, Bound<K>) {
    let after = after.cloned().map_or(Bound::Unbounded, Bound::Excluded);
    match order {
        Order::Ascending => (after, Bound::Unbounded),
        Order::Descending => (Bound::Unbounded, after),
    }
}

/// What [`Table::scan`] gives. Each value is looked up when its turn comes, in the uppermost layer that has it.
pub(crate) struct Scan<'a, K, V> {
    table: &'a Table<K, V>,
    layers: Vec<Keys<'a, K>>,
    group: Option<&'a str>,
    order: Order,
}

impl<K: Key, V: Value> Scan<'_, K, V> {
    /// The next key of all layers, which then all are behind it.
    fn next_key(&mut self) -> Result<Option<K>, Fault> {
        let mut next: Option<K> = None;
        for layer in &mut self.layers {
            if matches!(layer.peek(), Some(Err(_)))
                && let Some(Err(fault)) = layer.next()
            {
                return Err(fault);
            }
            if let Some(Ok(key)) = layer.peek() {
                let nearer = next.as_ref().is_none_or(|next| match self.order {
                    Order::Ascending => key < next,
                    Order::Descending => key > next,
                });
                if nearer {
                    next = Some(key.clone());
                }
            }
        }
        if let Some(next) = &next {
            for layer in &mut self.layers {
                let _ = layer.next_if(|key| key.as_ref().is_ok_and(|key| key == next));
            }
        }
        Ok(next)
    }

    fn step(&mut self) -> Result<Option<(K, V)>, Fault> {
        while let Some(key) = self.next_key()? {
            if let Some(value) = self.table.get(&key)?
                && self.table.is_in(&value, self.group)
            {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }
}

impl<K: Key, V: Value> Iterator for Scan<'_, K, V> {
    type Item = Result<(K, V), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

fn bytes<K: Key>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    key.encode(&mut bytes);
    bytes
}

/// A map takes no other for a range.
fn is_range<K: Ord>(from: Bound<&K>, to: Bound<&K>) -> bool {
    use Bound::{Excluded, Included, Unbounded};
    match (from, to) {
        (Unbounded, _) | (_, Unbounded) => true,
        (Included(from), Included(to)) => from <= to,
        (Included(from) | Excluded(from), Included(to) | Excluded(to)) => from < to,
    }
}

type LayerRange<'a, K, V> = Option<Peekable<btree_map::Range<'a, K, Slot<V>>>>;
type Guard = redb::AccessGuard<'static, Bytes>;

/// The layers of a table, merged.
pub(crate) struct Merge<'a, K: Key, V: Value> {
    table: &'a Table<K, V>,
    active: LayerRange<'a, K, V>,
    frozen: LayerRange<'a, K, V>,
    base: Option<redb::Range<'static, Bytes, Bytes>>,
    /// The next of `base`.
    next: Option<(K, Guard)>,
}

impl<K: Key, V: Value> Merge<'_, K, V> {
    fn advance_base(&mut self) -> Result<(), Fault> {
        self.next = match self.base.as_mut().and_then(Iterator::next).transpose()? {
            None => None,
            Some((key, value)) => {
                let key = key::decode(key.value()).ok_or_else(|| self.table.damaged("key"))?;
                Some((key, value))
            }
        };
        Ok(())
    }

    fn step(&mut self) -> Result<Option<(K, V)>, Fault> {
        loop {
            let active = self
                .active
                .as_mut()
                .and_then(Peekable::peek)
                .map(|(key, _)| *key);
            let frozen = self
                .frozen
                .as_mut()
                .and_then(Peekable::peek)
                .map(|(key, _)| *key);
            let base = self.next.as_ref().map(|(key, _)| key);
            let Some(least) = [active, frozen, base].into_iter().flatten().min().cloned() else {
                return Ok(None);
            };
            // All layers that have the key go on; the uppermost tells what it is.
            let mut found: Option<Option<V>> = None;
            for layer in [&mut self.active, &mut self.frozen] {
                if let Some((_, slot)) = layer
                    .as_mut()
                    .and_then(|layer| layer.next_if(|(key, _)| **key == least))
                    && found.is_none()
                {
                    found = Some(slot.value.clone());
                }
            }
            if self.next.as_ref().is_some_and(|(key, _)| *key == least) {
                if found.is_none()
                    && let Some((_, guard)) = &self.next
                {
                    found = Some(Some(self.table.decode(guard.value())?));
                }
                self.advance_base()?;
            }
            if let Some(Some(value)) = found {
                return Ok(Some((least, value)));
            }
        }
    }
}

impl<K: Key, V: Value> Iterator for Merge<'_, K, V> {
    type Item = Result<(K, V), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// What the checkpoint sees of one table, or of many.
pub(crate) trait Layered {
    /// Adds the names of the tables in the index.
    #[cfg(test)]
    fn names(&self, names: &mut Vec<&'static str>);
    /// Makes the active layer the frozen one, and adds it if there is something in it.
    fn freeze(&mut self, frozen: &mut Vec<Box<dyn Frozen>>);
    /// Takes the index as of `transaction` as base, and drops the frozen layer. The index has that layer now.
    fn rebase(&mut self, transaction: &ReadTransaction) -> Result<(), Fault>;
    /// Lets go of the index.
    fn unbase(&mut self);
}

/// A frozen layer.
pub(crate) trait Frozen: Send + Sync {
    /// Writes the layer to the index.
    fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error>;
}

impl<K: Key, V: Value> Layered for Table<K, V> {
    #[cfg(test)]
    fn names(&self, names: &mut Vec<&'static str>) {
        names.push(self.name);
        names.extend(self.groups.as_ref().map(|groups| groups.grouping.name));
    }

    fn freeze(&mut self, frozen: &mut Vec<Box<dyn Frozen>>) {
        if self.active.is_empty() {
            return;
        }
        let layer = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(Arc::clone(&layer));
        frozen.push(Box::new(FrozenTable {
            name: self.name,
            layer,
            grouping: self.groups.as_ref().map(|groups| groups.grouping),
        }));
    }

    fn rebase(&mut self, transaction: &ReadTransaction) -> Result<(), Fault> {
        self.base = open(self.name, transaction)?;
        if let Some(groups) = &mut self.groups {
            groups.base = open(groups.grouping.name, transaction)?;
        }
        self.frozen = None;
        Ok(())
    }

    fn unbase(&mut self) {
        self.base = None;
        if let Some(groups) = &mut self.groups {
            groups.base = None;
        }
    }
}

/// Declares the tables of a subject, and its counters.
///
/// The list of tables is made of the same lines as the fields, so that no table can be left out of a checkpoint.
macro_rules! tables {
    (
        $(#[$doc:meta])*
        counters: $counters:ty,
        $($(#[$field_doc:meta])* $field:ident: $table:ty = $new:expr,)*
    ) => {
        $(#[$doc])*
        pub(crate) struct Tables {
            pub(crate) counters: $counters,
            $($(#[$field_doc])* pub(crate) $field: $table,)*
        }

        impl Tables {
            pub(crate) fn new() -> Self {
                Self { counters: <$counters>::default(), $($field: $new,)* }
            }
        }

        #[allow(unused_variables, reason = "a subject may have no table")]
        impl $crate::table::Layered for Tables {
            #[cfg(test)]
            fn names(&self, names: &mut Vec<&'static str>) {
                $(self.$field.names(names);)*
            }

            fn freeze(&mut self, frozen: &mut Vec<Box<dyn $crate::table::Frozen>>) {
                $(self.$field.freeze(frozen);)*
            }

            fn rebase(
                &mut self,
                transaction: &redb::ReadTransaction,
            ) -> Result<(), $crate::error::Fault> {
                $(self.$field.rebase(transaction)?;)*
                Ok(())
            }

            fn unbase(&mut self) {
                $(self.$field.unbase();)*
            }
        }
    };
}
pub(crate) use tables;

fn open(name: &'static str, transaction: &ReadTransaction) -> Result<Option<Base>, Fault> {
    match transaction.open_table(TableDefinition::<Bytes, Bytes>::new(name)) {
        Ok(base) => Ok(Some(base)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(TableError::Storage(error)) => Err(error.into()),
        Err(_) => Err(Fault::Record {
            table: name,
            what: "type",
        }),
    }
}

struct FrozenTable<K, V> {
    name: &'static str,
    layer: Arc<Layer<K, V>>,
    grouping: Option<Grouping<V>>,
}

impl<K: Key, V: Value> Frozen for FrozenTable<K, V> {
    fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut table = transaction.open_table(TableDefinition::<Bytes, Bytes>::new(self.name))?;
        let mut groups = match self.grouping {
            None => None,
            Some(Grouping { name, of, .. }) => {
                let table = transaction.open_table(TableDefinition::<Bytes, Bytes>::new(name))?;
                Some((table, of))
            }
        };
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        for (key, slot) in &*self.layer {
            key_bytes.clear();
            key.encode(&mut key_bytes);
            if let Some((groups, of)) = &mut groups {
                let before = if slot.fresh {
                    None
                } else {
                    table.get(key_bytes.as_slice())?
                };
                let before = before.and_then(|before| V::decode(before.value()).ok());
                let before = before.as_ref().map(*of).unwrap_or_default();
                let now = slot.value.as_ref().map(*of).unwrap_or_default();
                regroup(groups, &before, &now, &key_bytes)?;
            }
            match &slot.value {
                Some(value) => {
                    value_bytes.clear();
                    value.encode(&mut value_bytes);
                    table.insert(key_bytes.as_slice(), value_bytes.as_slice())?;
                }
                None => {
                    table.remove(key_bytes.as_slice())?;
                }
            }
        }
        Ok(())
    }
}

/// Takes a key out of the groups it was in, and puts it into those that it is in now.
fn regroup(
    groups: &mut redb::Table<'_, Bytes, Bytes>,
    before: &[String],
    now: &[String],
    key: &[u8],
) -> Result<(), redb::Error> {
    let entry = |group: &String| {
        let mut entry = bytes(&Name::from(group.as_str()));
        entry.extend(key);
        entry
    };
    for group in before.iter().filter(|group| !now.contains(group)) {
        groups.remove(entry(group).as_slice())?;
    }
    for group in now.iter().filter(|group| !before.contains(group)) {
        groups.insert(entry(group).as_slice(), [].as_slice())?;
    }
    Ok(())
}
