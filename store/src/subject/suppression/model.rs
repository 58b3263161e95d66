//! Suppression lists in the model.

use std::collections::BTreeMap;

use super::{
    Add, InAllLists, List, NewSuppression, Remove, Suppression, SuppressionId, base_in_list,
};
use crate::{
    Page, Time,
    filter::{ordered, page},
    subject::{ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    pub(crate) entries: BTreeMap<SuppressionId, Suppression>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }

    fn history(&self) -> Vec<(Time, u64)> {
        let entries = self.entries.values();
        entries
            .filter_map(|entry| Some((entry.until?, entry.id.0)))
            .collect()
    }

    fn forget(&mut self, number: u64) {
        self.entries.remove(&SuppressionId(number));
    }
}

impl Model {
    pub(super) fn find(&self, account: &str, base: &str) -> Option<&Suppression> {
        self.entries.values().find(|known| {
            known.account == account && base_in_list(&known.base, &known.list) == base
        })
    }

    pub(crate) fn add(&mut self, new: NewSuppression) -> bool {
        let base = base_in_list(&new.base, &new.list);
        if let Some(entry) = self.find(&new.account, &base) {
            if entry.is_valid(new.created) {
                return false;
            }
            let expired = entry.id;
            self.entries.remove(&expired);
        }
        let id = SuppressionId(next(&mut self.last));
        self.entries.insert(id, new.suppression(id));
        true
    }

    pub(super) fn in_all_lists(&self, asked: &InAllLists<'_>) -> Vec<Suppression> {
        let entries = self.entries.values().filter(|entry| {
            entry.account == asked.account && entry.base == asked.base && entry.is_valid(asked.now)
        });
        let mut entries: Vec<Suppression> = entries.cloned().collect();
        entries.sort_by(|one, other| one.list.cmp(&other.list));
        entries
    }

    pub(super) fn list(&self, asked: &List) -> Page<Suppression, SuppressionId> {
        let items = self.entries.values().filter(|entry| {
            let (account, after) = (asked.account.as_ref(), asked.after);
            after.is_none_or(|after| asked.order.follows(entry.id, after))
                && entry.is_valid(asked.now)
                && account.is_none_or(|account| entry.account == *account)
        });
        page(ordered(items, asked.order), asked.limit, |entry| entry.id)
    }
}

impl Add {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.suppression.add(self.0)
    }
}

impl Remove {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let model = &mut model.suppression;
        let id = model.find(&self.account, &self.base).map(|found| found.id);
        let removed = id.and_then(|id| model.entries.remove(&id));
        removed.is_some_and(|entry| entry.is_valid(self.now))
    }
}
