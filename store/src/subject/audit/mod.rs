//! The audit log: the changes that actors made, and the refused ones.

mod carry;
#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub(crate) use self::carry::{Carry, Slot};
#[cfg(any(test, feature = "memory"))]
use super::ModelState;
use super::{Applied, Listing, Operations, Output as _, State, next, tag};
#[cfg(any(test, feature = "memory"))]
use crate::NewText;
use crate::{
    Order, Page, Store, StoreError, Time,
    error::Fault,
    id::ids,
    journal::{Space, TextPlace},
    table::{Grouping, Table, tables, value::records},
    textfile::TextFilePlace,
};

ids! {
    /// An entry of the audit log.
    AuditId,
}

/// The kinds of actors that change something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// A person or a program with the control socket.
    #[default]
    Socket,
    /// An administrator with the admin password.
    Admin,
    /// A program with a key of the management API.
    Key,
    /// The holder of an account.
    Account,
}

/// An entry of the audit log: one change that an actor made or tried to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The number of the entry.
    pub id: AuditId,
    /// The time of the change.
    pub time: Time,
    /// The kind of the actor.
    pub actor: Actor,
    /// The name of the actor: a login, the name of a key or a system user.
    pub name: String,
    /// The address of the actor. None: the actor used this machine.
    pub from: Option<IpAddr>,
    /// The name of the operation, for example `hold_rule.add`.
    pub operation: String,
    /// The thing that the operation changed, for example an account or a hold rule.
    pub target: String,
    /// The changed fields before the change, as JSON without secrets; empty if there were none.
    pub before: String,
    /// The changed fields after the change, as JSON without secrets; empty if there are none.
    pub after: String,
    /// The reason why the server refused the change; empty if the change was made.
    pub refusal: String,
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
    pub actor: Actor,
    pub name: String,
    pub from: Option<IpAddr>,
    pub operation: String,
    pub target: String,
    pub before: String,
    pub after: String,
    pub refusal: String,
    pub keep_until: Time,
}

/// A filter for entries of the audit log. An empty filter matches all. All given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Changes by the actor with this name.
    pub name: Option<String>,
    /// Changes by this operation, such as `queue.end`, or by all whose names begin with it and a
    /// dot, such as `queue`.
    pub operation: Option<String>,
    /// Changes of this target.
    pub target: Option<String>,
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
        let is_operation = |wanted: &String| {
            let rest = entry.operation.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        is(&self.name, &entry.name)
            && self.operation.as_ref().is_none_or(is_operation)
            && is(&self.target, &entry.target)
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
            name: self.name,
            from: self.from,
            operation: self.operation,
            target: self.target,
            before: self.before,
            after: self.after,
            refusal: self.refusal,
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
    /// The group of an entry is its target.
    entries: Table<AuditId, AuditEntry> = Table::grouped(
        "audit",
        Grouping {
            name: "audit_groups",
            of: |entry| vec![entry.target.clone()],
            has: |target, entry| entry.target == target,
        },
    ),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn forget(state: &mut State, number: u64) -> Result<(), Fault> {
        state.audit.entries.remove(&AuditId(number));
        Ok(())
    }
);

/// The operations on the audit log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Adds an entry.
    Append(NewAuditEntry),
    /// Adds an entry together with the change that it tells of.
    Carry(Carry),
}

impl Operations for Op {
    const VERSION: u8 = 2;
    /// Version 1 has no [`Op::Carry`].
    const SINCE: u8 = 1;

    fn apply(self, state: &mut State, place: Option<TextPlace>) -> Result<Applied, Fault> {
        match self {
            Self::Append(entry) => Ok(state.append_audit(entry).into_applied()),
            Self::Carry(carry) => carry.apply(state, place),
        }
    }

    #[cfg(any(test, feature = "memory"))]
    fn apply_to_model(self, model: &mut ModelState, text: Option<NewText>) -> Applied {
        match self {
            Self::Append(entry) => model.audit.append(entry).into_applied(),
            Self::Carry(carry) => carry.apply_to_model(model, text),
        }
    }

    fn changes(&self) -> usize {
        match self {
            Self::Append(_) => 1,
            Self::Carry(carry) => 1 + carry.op().changes(),
        }
    }

    fn space(&self) -> Space {
        match self {
            Self::Append(_) => Space::Reserve,
            Self::Carry(carry) => carry.op().space(),
        }
    }

    fn set_file(&mut self, place: TextFilePlace) {
        if let Self::Carry(carry) = self {
            carry.op_mut().set_file(place);
        }
    }
}

impl State {
    fn append_audit(&mut self, entry: NewAuditEntry) -> AuditId {
        let id = AuditId(next(&mut self.audit.counters.last));
        self.history.add(entry.keep_until, tag::audit, id.0);
        self.audit.entries.put_new(id, entry.entry(id));
        id
    }
}

questions! {
    scan ListEntries {
        filter: AuditFilter, after: Option<AuditId>, order: Order, limit: usize
    } -> Page<AuditEntry, AuditId>,
    |this, reader| {
        let listing = Listing {
            group: this.filter.target.clone(),
            after: this.after,
            order: this.order,
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
        let op = super::Op::Audit(Op::Append(entry));
        self.change_one(op, None).await?.output()
    }

    /// Entries of the audit log that match, beginning behind `after`. A filter for a target looks
    /// at the entries of that target only.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_audit(
        &self,
        filter: &AuditFilter,
        after: Option<AuditId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<AuditEntry, AuditId>, StoreError> {
        let filter = filter.clone();
        self.scan(ListEntries {
            filter,
            after,
            order,
            limit,
        })
        .await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let entry = NewAuditEntry {
        time: Time(1),
        name: "admin".into(),
        keep_until: Time(2),
        ..NewAuditEntry::default()
    };
    let mut samples = vec![Op::Append(entry.clone())];
    let keys = super::keys::samples().into_iter().map(super::Op::Keys);
    samples.extend(keys.map(|op| Op::Carry(Carry::new(entry.clone(), op))));
    samples
}
