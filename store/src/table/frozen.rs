//! Tables in a checkpoint: it sets their changes apart and writes them to the index.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::{
    Base, Bytes, Faults, Grouping, Layer, Table,
    key::{Key, Name},
    value::Value,
};
use crate::error::Fault;

/// The version of everything that has one, by its name.
pub(crate) type Versions = BTreeMap<Cow<'static, str>, u8>;

/// The face of one table, or of many, to the checkpoint.
pub(crate) trait Layered {
    /// Adds the names of the tables in the index.
    #[cfg(test)]
    fn names(&self, names: &mut Vec<&'static str>);
    /// How many records could not be read.
    fn set_aside(&self) -> u64;
    /// Reads all rows of the index, and compares the groups with the records.
    fn check_rows(&self, faults: &mut Faults);
    /// Adds the versions of the tables, by their names.
    fn versions(&self, versions: &mut Versions);
    /// Makes the active layer the frozen one, and adds it if there is something in it.
    fn freeze(&mut self, frozen: &mut Vec<Box<dyn Frozen>>);
    /// Takes the index as of `transaction` as base, and drops the frozen layer. The index has that
    /// layer now.
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

    fn set_aside(&self) -> u64 {
        self.aside.count()
    }

    fn check_rows(&self, faults: &mut Faults) {
        self.check(faults);
    }

    fn versions(&self, versions: &mut Versions) {
        versions.insert(self.name.into(), V::VERSION);
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
        self.base = open(self.name, transaction)?.map(Arc::new);
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
/// The list of tables is made of the same lines as the fields, so that no table can be left out of
/// a checkpoint.
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

            fn set_aside(&self) -> u64 {
                0 $(+ self.$field.set_aside())*
            }

            fn check_rows(&self, faults: &mut $crate::table::Faults) {
                $(self.$field.check_rows(faults);)*
            }

            fn versions(&self, versions: &mut $crate::table::Versions) {
                $(self.$field.versions(versions);)*
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
        let groups = self.grouping.map(|grouping| grouping.name);
        let mut output = Output::open(transaction, self.name, groups)?;
        let (mut key_bytes, mut value_bytes) = (Vec::new(), Vec::new());
        for (key, slot) in &*self.layer {
            key_bytes.clear();
            key.encode(&mut key_bytes);
            if let Some(Grouping { of, .. }) = self.grouping {
                let now = slot.value.as_ref().map(of).unwrap_or_default();
                let of_bytes = |bytes: &[u8]| {
                    let before = V::decode(bytes);
                    before.as_ref().map(of).unwrap_or_default()
                };
                output.regroup(&key_bytes, slot.fresh, &now, &of_bytes)?;
            }
            match &slot.value {
                Some(value) => {
                    value_bytes.clear();
                    value.encode(&mut value_bytes);
                    output
                        .table
                        .insert(key_bytes.as_slice(), value_bytes.as_slice())?;
                }
                None => {
                    output.table.remove(key_bytes.as_slice())?;
                }
            }
        }
        Ok(())
    }
}

/// The target of a written layer. It knows bytes only, so that its code exists once.
struct Output<'a> {
    table: redb::Table<'a, Bytes, Bytes>,
    groups: Option<redb::Table<'a, Bytes, Bytes>>,
}

impl<'a> Output<'a> {
    fn open(
        transaction: &'a WriteTransaction,
        name: &'static str,
        groups: Option<&'static str>,
    ) -> Result<Self, redb::Error> {
        let open = |name| transaction.open_table(TableDefinition::<Bytes, Bytes>::new(name));
        Ok(Self {
            table: open(name)?,
            groups: groups.map(open).transpose()?,
        })
    }

    /// Takes a key out of the groups it was in, and puts it into the groups that it is in now. `of`
    /// gives the groups of a stored value.
    fn regroup(
        &mut self,
        key: &[u8],
        fresh: bool,
        now: &[String],
        of: &dyn Fn(&[u8]) -> Vec<String>,
    ) -> Result<(), redb::Error> {
        let Some(groups) = &mut self.groups else {
            return Ok(());
        };
        let stored = match fresh {
            true => None,
            false => self.table.get(key)?,
        };
        let before = stored.map(|stored| of(stored.value())).unwrap_or_default();
        let entry = |group: &String| {
            let mut entry = Vec::with_capacity(group.len() + 2 + key.len());
            Name::from(group.as_str()).encode(&mut entry);
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
}
