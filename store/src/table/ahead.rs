//! Looking ahead: places of the index are read before the writer needs them.
//!
//! The writer looks records up under the lock that everybody waits for. A record that is not in the
//! cache of the index would make all of them wait for the disk. So the caller of a change first
//! reads the same places, without any lock. It throws away what it reads: the pages are in the
//! cache then. The change does the same work as without this, so nothing depends on it.

use std::{marker::PhantomData, ops::Bound, sync::Arc};

use redb::{AccessGuard, ReadableTableMetadata};

use super::{
    Base, Bytes, Table,
    key::{self, Key},
    scan::base_range,
    value::Value,
};
use crate::error::Fault;

/// A table with fewer records is in the cache of the index anyway.
const SMALL: u64 = if cfg!(test) { 1000 } else { 20_000 };

/// The part of a table that is in the index.
pub(crate) struct Ahead<K, V> {
    base: Arc<Base>,
    of: PhantomData<fn(K) -> V>,
}

impl<K, V> Clone for Ahead<K, V> {
    fn clone(&self) -> Self {
        Self {
            base: Arc::clone(&self.base),
            of: PhantomData,
        }
    }
}

impl<K: Key, V: Value> Table<K, V> {
    /// The part of the table that is in the index. None if there is none.
    pub(crate) fn ahead(&self) -> Option<Ahead<K, V>> {
        self.base.as_ref().map(|base| Ahead {
            base: Arc::clone(base),
            of: PhantomData,
        })
    }

    /// Whether a layer in memory decides about a key.
    pub(super) fn in_memory(&self, key: &K) -> Option<Option<&V>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.get(key));
        let slot = self.active.get(key).or_else(frozen)?;
        Some(slot.value.as_ref())
    }
}

impl<K: Key, V: Value> Ahead<K, V> {
    /// The same if the table is so large that looking ahead pays.
    pub(crate) fn if_large(self) -> Option<Self> {
        let large = self.base.len().is_ok_and(|len| len >= SMALL);
        large.then_some(self)
    }

    /// Reads the place of a key. None: there is no record that can be read.
    pub(crate) fn look(&self, key: &K) -> Result<Option<V>, Fault> {
        let value = self.bytes(key)?;
        Ok(value.and_then(|value| V::decode(value.value()).ok()))
    }

    /// Reads the place of a key. The record itself is not needed.
    pub(crate) fn touch(&self, key: &K) -> Result<(), Fault> {
        self.bytes(key).map(drop)
    }

    fn bytes(&self, key: &K) -> Result<Option<AccessGuard<'static, Bytes>>, Fault> {
        let mut bytes = Vec::with_capacity(32);
        key.encode(&mut bytes);
        Ok(self.base.get(bytes.as_slice())?)
    }

    /// The keys from one on.
    pub(super) fn keys(&self, from: &K) -> Result<impl Iterator<Item = Result<K, Fault>>, Fault> {
        let mut bytes = Vec::with_capacity(32);
        from.encode(&mut bytes);
        let range = base_range(&self.base, Bound::Included(bytes), Bound::Unbounded)?;
        Ok(range.filter_map(|item| match item {
            Ok((bytes, _)) => key::decode(bytes.value()).map(Ok),
            Err(error) => Some(Err(error.into())),
        }))
    }
}
