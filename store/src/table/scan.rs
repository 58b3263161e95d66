//! Reading many entries of a table: ranges of keys, and the records of a group.

use std::{collections::btree_map, iter::Peekable, ops::Bound};

use super::{
    Base, Bytes, Layer, Slot, Table,
    key::{self, Key, Name},
    value::Value,
};
use crate::{Order, error::Fault};

impl<K: Key, V: Value> Table<K, V> {
    /// The entries from one key to another, in order.
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
            merge.base = Some(base_range(base, from.map(bytes), to.map(bytes))?);
            merge.advance_base()?;
        }
        Ok(merge)
    }
}

type Keys<'a, K> = Peekable<Box<dyn Iterator<Item = Result<K, Fault>> + 'a>>;

impl<K: Key, V: Value> Table<K, V> {
    /// The entries behind a key, in either order; only those of a group, if one is given.
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
            None => (self.base.as_deref(), Vec::new()),
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
        let range = base_range(base, from, to)?;
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

/// The bounds of the keys behind a key.
fn bounds<K: Clone>(after: Option<&K>, order: Order) -> (Bound<K>, Bound<K>) {
    let after = after.cloned().map_or(Bound::Unbounded, Bound::Excluded);
    match order {
        Order::Ascending => (after, Bound::Unbounded),
        Order::Descending => (Bound::Unbounded, after),
    }
}

/// The entries that [`Table::scan`] gives. Each value is looked up when its turn comes, in the
/// uppermost layer that has it.
pub(crate) struct Scan<'a, K, V> {
    table: &'a Table<K, V>,
    layers: Vec<Keys<'a, K>>,
    group: Option<&'a str>,
    order: Order,
}

impl<K: Key, V: Value> Scan<'_, K, V> {
    /// The next key of all layers. Then all layers stand behind it.
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

/// The entries of a table of the index. Not generic, so that its code exists once.
pub(super) fn base_range(
    base: &Base,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
) -> Result<redb::Range<'static, Bytes, Bytes>, Fault> {
    Ok(base.range::<&[u8]>((
        from.as_ref().map(Vec::as_slice),
        to.as_ref().map(Vec::as_slice),
    ))?)
}

fn bytes<K: Key>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    key.encode(&mut bytes);
    bytes
}

/// Whether a map accepts the bounds.
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
            // All layers that have the key go on. The uppermost decides the value.
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
                    found = Some(self.table.decode(&least, guard.value())?);
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
