//! Looking at every row of the tables, and at the keys that follow from records.

use std::{collections::BTreeSet, ops::Bound};

use redb::{ReadableTable, ReadableTableMetadata};

use super::{
    Base, Table,
    key::{self, Key, Name},
    value::Value,
};
use crate::error::Fault;

/// So many faults are told one by one.
const FAULTS_MAX: usize = 100;

/// The faults that a check found.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    found: Vec<String>,
    more: u64,
}

impl Faults {
    /// Adds a fault, as a sentence without a full stop.
    pub(crate) fn add(&mut self, fault: String) {
        match self.found.len() < FAULTS_MAX {
            true => self.found.push(fault),
            false => self.more += 1,
        }
    }

    /// Adds the fault if the condition does not hold.
    pub(crate) fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.add(fault());
        }
    }

    /// Compares a counter with what was counted.
    pub(crate) fn compare(&mut self, name: &str, counter: u64, counted: u64) {
        self.check(counter == counted, || {
            format!("the counter of {name} is {counter}, and there are {counted}")
        });
    }

    /// All sentences.
    pub(crate) fn into_sentences(mut self) -> Vec<String> {
        if self.more > 0 {
            self.found.push(format!("{} more faults", self.more));
        }
        self.found
    }
}

impl<K: Key, V: Value> Table<K, V> {
    /// Reads every row of the index's table, and compares the table of groups with the records.
    pub(super) fn check(&self, faults: &mut Faults) {
        if let Err(fault) = self.check_base(faults) {
            faults.add(fault.to_string());
        }
    }

    fn check_base(&self, faults: &mut Faults) -> Result<(), Fault> {
        let Some(base) = &self.base else {
            return Ok(());
        };
        let name = self.name;
        let groups = self.groups.as_ref();
        let (mut row, mut grouped) = (0_u64, 0_u64);
        for item in base.iter()? {
            let (key_bytes, value_bytes) = item?;
            row += 1;
            let key: Option<K> = key::decode(key_bytes.value());
            faults.check(key.is_some(), || {
                format!("row {row} of the table {name} has a key that makes no sense")
            });
            let value = match V::decode(value_bytes.value()) {
                Ok(value) => value,
                Err(error) => {
                    faults.add(format!("row {row} of the table {name} has {error}"));
                    continue;
                }
            };
            let Some(groups) = groups else {
                continue;
            };
            let names: BTreeSet<String> = (groups.grouping.of)(&value).into_iter().collect();
            for group in &names {
                grouped += 1;
                let mut entry = Vec::new();
                Name::from(group.as_str()).encode(&mut entry);
                entry.extend(key_bytes.value());
                let of = groups.grouping.name;
                faults.check(has(groups.base.as_ref(), &entry)?, || {
                    format!("row {row} of the table {name} is missing in the table {of}")
                });
            }
        }
        if let Some(groups) = groups {
            let rows = match &groups.base {
                Some(base) => base.len()?,
                None => 0,
            };
            faults.compare(&format!("rows of {}", groups.grouping.name), rows, grouped);
        }
        Ok(())
    }

    /// How many rows there are.
    pub(crate) fn count(&self) -> Result<u64, Fault> {
        let mut count = 0;
        for item in self.range(Bound::Unbounded, Bound::Unbounded)? {
            item?;
            count += 1;
        }
        Ok(count)
    }

    /// Calls `each` with every row.
    pub(crate) fn for_each(
        &self,
        mut each: impl FnMut(K, V) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        for item in self.range(Bound::Unbounded, Bound::Unbounded)? {
            let (key, value) = item?;
            each(key, value)?;
        }
        Ok(())
    }
}

fn has(base: Option<&Base>, key: &[u8]) -> Result<bool, Fault> {
    match base {
        Some(base) => Ok(base.get(key)?.is_some()),
        None => Ok(false),
    }
}
