//! An entry of the audit log that goes to the disk together with the change that it tells of.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{
    super::{Applied, Op, State, tag},
    NewAuditEntry,
};
use crate::{NewText as Text, Store, StoreError, error::Fault, journal::TextPlace};
#[cfg(any(test, feature = "memory"))]
use crate::{NewText, subject::ModelState};

/// A change of any subject, with the entry that tells of it. The entry is added if the change has
/// an effect.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Carry {
    entry: NewAuditEntry,
    op: Carried,
}

/// The change, encoded like an operation of the journal: with its tag and version.
#[derive(Debug)]
struct Carried(Box<Op>);

impl Serialize for Carried {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.encode().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Carried {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        // An entry carries no entry, so decoding does not nest.
        if bytes.first() == Some(&tag::audit) {
            return Err(D::Error::custom(
                "an entry of the audit log carries another",
            ));
        }
        let op = Op::decode(&bytes).map_err(D::Error::custom)?;
        Ok(Self(Box::new(op)))
    }
}

impl Carry {
    pub(crate) fn new(entry: NewAuditEntry, op: Op) -> Self {
        Self {
            entry,
            op: Carried(Box::new(op)),
        }
    }

    /// The change.
    pub(crate) fn op(&self) -> &Op {
        &self.op.0
    }

    pub(super) fn op_mut(&mut self) -> &mut Op {
        &mut self.op.0
    }

    pub(super) fn apply(
        self,
        state: &mut State,
        place: Option<TextPlace>,
    ) -> Result<Applied, Fault> {
        let applied = self.op.0.apply(state, place)?;
        if applied.has_effect() {
            state.append_audit(self.entry);
        }
        Ok(applied)
    }

    #[cfg(any(test, feature = "memory"))]
    pub(super) fn apply_to_model(self, model: &mut ModelState, text: Option<NewText>) -> Applied {
        let applied = self.op.0.apply_to_model(model, text);
        if applied.has_effect() {
            model.audit.append(self.entry);
        }
        applied
    }
}

impl Op {
    /// The change itself, if an entry of the audit log carries it.
    pub(crate) fn change(&self) -> &Self {
        match self {
            Self::Audit(super::Op::Carry(carry)) => carry.op(),
            op => op,
        }
    }
}

/// The entry that a handle of the store carries until a change has an effect.
#[derive(Debug)]
pub(crate) struct Slot(Mutex<Option<NewAuditEntry>>);

impl Slot {
    fn entry(&self) -> MutexGuard<'_, Option<NewAuditEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the entry on the first of these operations.
    pub(crate) fn load(&self, ops: &mut [(Op, Option<Text>)]) -> Option<NewAuditEntry> {
        let (first, _) = ops.first_mut()?;
        let entry = self.entry().take()?;
        // The operation is moved into the one that carries it.
        let none = Op::Audit(super::Op::Append(NewAuditEntry::default()));
        let op = std::mem::replace(first, none);
        *first = Op::Audit(super::Op::Carry(Carry::new(entry.clone(), op)));
        Some(entry)
    }

    /// Takes the entry back if the operation that carried it had no effect.
    pub(crate) fn unload(&self, entry: NewAuditEntry, applied: &Result<Vec<Applied>, StoreError>) {
        let first = applied.as_ref().ok().and_then(|applied| applied.first());
        if !first.is_some_and(Applied::has_effect) {
            *self.entry() = Some(entry);
        }
    }
}

impl Store {
    /// A handle that adds `entry` to the audit log with the first change that has an effect: both
    /// are durable, or none is. Ask [`carried_with_a_change`](Self::carried_with_a_change) when all
    /// changes are made.
    #[must_use]
    pub fn carrying(&self, entry: NewAuditEntry) -> Self {
        self.with_slot(Slot(Mutex::new(Some(entry))))
    }

    /// Whether a change had an effect, so that the entry which this handle carried is in the audit
    /// log. The handle carries none from now on.
    #[must_use]
    pub fn carried_with_a_change(&self) -> bool {
        self.slot()
            .is_some_and(|slot| slot.entry().take().is_none())
    }
}
