//! The shapes of suppressions before version 2: without the reply, and without an end.

use serde::{Deserialize, Serialize};

use super::{Add, NewSuppression, Op, Remove, Suppression, SuppressionId};
use crate::{
    Time,
    table::value::{Unreadable, exactly},
};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewSuppressionV1 {
    account: String,
    base: String,
    list: String,
    original: String,
    created: Time,
    manual: bool,
    reason: String,
}

impl From<NewSuppressionV1> for NewSuppression {
    fn from(old: NewSuppressionV1) -> Self {
        Self {
            account: old.account,
            base: old.base,
            list: old.list,
            original: old.original,
            created: old.created,
            manual: old.manual,
            reason: old.reason,
            reply: None,
            until: None,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SuppressionV1 {
    id: SuppressionId,
    entry: NewSuppressionV1,
}

impl From<SuppressionV1> for Suppression {
    fn from(old: SuppressionV1) -> Self {
        NewSuppression::from(old.entry).suppression(old.id)
    }
}

#[derive(Serialize, Deserialize)]
enum OpV1 {
    Add(NewSuppressionV1),
    Remove { account: String, base: String },
}

/// Reads an operation of version 1.
pub(super) fn operation(version: u8, bytes: &[u8]) -> Result<Op, Unreadable> {
    if version != 1 {
        return Err(Unreadable::Older(version));
    }
    Ok(match exactly(bytes)? {
        OpV1::Add(new) => Op::Add(Add(new.into())),
        OpV1::Remove { account, base } => Op::Remove(Remove {
            account,
            base,
            // No entry had an end.
            now: Time(0),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::value::{Value, append};

    fn new() -> NewSuppressionV1 {
        NewSuppressionV1 {
            account: "ann".into(),
            base: "x@a.example".into(),
            list: String::new(),
            original: "X@a.example".into(),
            created: Time(1),
            manual: false,
            reason: "queue: 550".into(),
        }
    }

    #[test]
    fn entries_and_operations_of_version_1_are_read() {
        let mut bytes = vec![1];
        let old = SuppressionV1 {
            id: SuppressionId(7),
            entry: new(),
        };
        append(&old, &mut bytes);
        let entry = Suppression::decode(&bytes).unwrap();
        assert_eq!((entry.id, &*entry.reason), (SuppressionId(7), "queue: 550"));
        assert_eq!((entry.reply, entry.until), (None, None));
        let mut bytes = Vec::new();
        append(&OpV1::Add(new()), &mut bytes);
        let read = operation(1, &bytes).unwrap();
        assert!(matches!(read, Op::Add(Add(new)) if new.original == "X@a.example"));
    }
}
