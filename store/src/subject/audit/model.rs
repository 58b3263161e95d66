//! The audit log in the model.

use std::collections::BTreeMap;

use super::{AuditEntry, AuditId, ListEntries, NewAuditEntry};
use crate::{
    Page, Time,
    filter::{ordered, page},
    subject::{ModelPart, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    entries: BTreeMap<AuditId, AuditEntry>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn history(&self) -> Vec<(Time, u64)> {
        let entries = self.entries.values();
        entries
            .map(|entry| (entry.keep_until, entry.id.0))
            .collect()
    }

    fn forget(&mut self, number: u64) {
        self.entries.remove(&AuditId(number));
    }
}

impl Model {
    pub(super) fn list(&self, asked: &ListEntries) -> Page<AuditEntry, AuditId> {
        let order = asked.order;
        let items = self.entries.values().filter(|entry| {
            let after = asked.after;
            after.is_none_or(|after| order.follows(entry.id, after)) && asked.filter.matches(entry)
        });
        page(ordered(items, order), asked.limit, |entry| entry.id)
    }

    pub(super) fn append(&mut self, entry: NewAuditEntry) -> AuditId {
        let id = AuditId(next(&mut self.last));
        self.entries.insert(id, entry.entry(id));
        id
    }
}
