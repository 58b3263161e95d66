//! Records that can't be read.
//!
//! Such a record does not stop the store. It stays in the index as it is, counts as absent, and is
//! told once: in the log and in a count. Sorted ways that lead to the record lead to nothing.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// So many keys of a table are remembered. Further records are not told of.
const KEYS_MAX: usize = 1000;

/// The keys of the records of one table that could not be read since the start.
#[derive(Debug, Default)]
pub(super) struct Aside(Mutex<BTreeSet<Vec<u8>>>);

impl Aside {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    fn keys(&self) -> MutexGuard<'_, BTreeSet<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a record, if that was not done yet.
    pub(super) fn add(&self, table: &'static str, key: Vec<u8>) {
        let mut keys = self.keys();
        if keys.len() >= KEYS_MAX || keys.contains(&key) {
            return;
        }
        tracing::error!(
            table,
            key = hex(&key),
            "record set aside: it cannot be read"
        );
        keys.insert(key);
        if keys.len() == KEYS_MAX {
            tracing::error!(
                table,
                count = KEYS_MAX,
                "further records set aside are not logged"
            );
        }
    }

    /// How many records there were.
    pub(super) fn count(&self) -> u64 {
        self.keys().len() as u64
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_once() {
        let aside = Aside::new();
        for key in [[1, 255], [2, 0], [1, 255]] {
            aside.add("rooms", key.to_vec());
        }
        assert_eq!(aside.count(), 2);
        assert_eq!(hex(&[1, 255]), "01ff");
        for key in 0..2000_u16 {
            aside.add("rooms", key.to_le_bytes().to_vec());
        }
        assert_eq!(aside.count(), KEYS_MAX as u64);
    }
}
