//! The audit log: which changes administrators made.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::{Listing, State, next, tag};
use crate::{
    Order, Page, Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{Grouping, Table, tables, value::records},
};

ids! {
    /// An entry of the audit log.
    AuditId,
}

/// An entry of the audit log: one change that an administrator made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The number of the entry.
    pub id: AuditId,
    /// When the change was made.
    pub time: Time,
    /// Who made it: a login, a key or a system user.
    pub actor: String,
    /// The way in and the address, for example `http 192.0.2.1`.
    pub origin: String,
    /// The name of the operation.
    pub operation: String,
    /// What was changed, for example an account or a hold rule.
    pub subject: String,
    /// The state before the change; empty if there was none.
    pub before: String,
    /// The state after the change; empty if there is none.
    pub after: String,
    /// When the store removes the entry.
    pub keep_until: Time,
}

/// A new entry of the audit log. The fields are those of [`AuditEntry`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "each is described at the field of the same name of AuditEntry"
)]
pub struct NewAuditEntry {
    pub time: Time,
    pub actor: String,
    pub origin: String,
    pub operation: String,
    pub subject: String,
    pub before: String,
    pub after: String,
    pub keep_until: Time,
}

/// Which entries of the audit log are listed. An empty filter matches all; given fields must all
/// match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Changes by this actor.
    pub actor: Option<String>,
    /// Changes by this operation.
    pub operation: Option<String>,
    /// Changes of this subject.
    pub subject: Option<String>,
    /// Changes at this time or later.
    pub since: Option<Time>,
    /// Changes before this time.
    pub before: Option<Time>,
}

impl AuditFilter {
    /// Whether an entry matches.
    #[must_use]
    pub fn matches(&self, entry: &AuditEntry) -> bool {
        let is = |wanted: &Option<String>, found: &String| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&self.actor, &entry.actor)
            && is(&self.operation, &entry.operation)
            && is(&self.subject, &entry.subject)
            && self.since.is_none_or(|since| entry.time >= since)
            && self.before.is_none_or(|before| entry.time < before)
    }
}

impl NewAuditEntry {
    /// The record with this number.
    fn entry(self, id: AuditId) -> AuditEntry {
        AuditEntry {
            id,
            time: self.time,
            actor: self.actor,
            origin: self.origin,
            operation: self.operation,
            subject: self.subject,
            before: self.before,
            after: self.after,
            keep_until: self.keep_until,
        }
    }
}

/// Numbers that are kept with the table.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
}

records! {
    AuditEntry: version 1,
}

tables! {
    /// The audit log.
    counters: Counters,
    /// The group of an entry is its subject.
    entries: Table<AuditId, AuditEntry> = Table::grouped(
        "audit",
        Grouping {
            name: "audit_groups",
            of: |entry| vec![entry.subject.clone()],
            has: |subject, entry| entry.subject == subject,
        },
    ),
}

subject!(
    counters Counters, keys 1,
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        state.audit.entries.remove(&AuditId(number));
        Ok(())
    }
);

operations! {
    Audit, version 1:
    Append -> AuditId,
}

/// Adds an entry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Append(NewAuditEntry);

impl Append {
    fn apply(self, state: &mut State) -> Result<AuditId, Fault> {
        let id = AuditId(next(&mut state.audit.counters.last));
        state.history.add(self.0.keep_until, tag::audit, id.0);
        state.audit.entries.put_new(id, self.0.entry(id));
        Ok(id)
    }
}

questions! {
    scan ListEntries { filter: AuditFilter, after: Option<AuditId>, limit: usize }
        -> Page<AuditEntry, AuditId>,
    |this, reader| {
        let listing = Listing {
            group: this.filter.subject.clone(),
            after: this.after,
            order: Order::Descending,
            limit: this.limit,
        };
        reader.page(listing, |state| &state.audit.entries, |entry| this.filter.matches(entry))
    },
    |this, model| model.audit.list(this);
}

impl Store {
    /// Adds an entry to the audit log.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn audit(&self, entry: NewAuditEntry) -> Result<AuditId, StoreError> {
        self.change_by(Append(entry)).await
    }

    /// Entries of the audit log that match, newest first, beginning behind `after`. A filter for a
    /// subject looks at the entries of that subject only.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_audit(
        &self,
        filter: &AuditFilter,
        after: Option<AuditId>,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditId>, StoreError> {
        let filter = filter.clone();
        self.scan(ListEntries {
            filter,
            after,
            limit,
        })
        .await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![Op::Append(Append(NewAuditEntry {
        time: Time(1),
        actor: "admin".into(),
        keep_until: Time(2),
        ..NewAuditEntry::default()
    }))]
}
