//! Signatures and templates, in the model.

use std::collections::BTreeMap;

use super::{
    AddItem, ChangeItems, ForgetShelf, OldItem, RemoveItem, StationeryChange, StationeryId,
    StationeryItem, StationeryShelf, changed, first_version, oldest,
};
use crate::{
    Time,
    subject::{ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    items: BTreeMap<(StationeryShelf, StationeryId), StationeryItem>,
    old: BTreeMap<(StationeryId, u64), OldItem>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }
}

impl Model {
    pub(super) fn of(&self, shelf: &StationeryShelf) -> Vec<StationeryItem> {
        let items = self.items.iter().filter(|((of, _), _)| of == shelf);
        items.map(|(_, item)| item.clone()).collect()
    }

    pub(super) fn item(&self, shelf: &StationeryShelf, id: StationeryId) -> Option<StationeryItem> {
        self.items.get(&(shelf.clone(), id)).cloned()
    }

    pub(super) fn old(&self, id: StationeryId, version: u64) -> Option<OldItem> {
        self.old.get(&(id, version)).cloned()
    }

    fn change(&mut self, shelf: &StationeryShelf, change: StationeryChange, now: Time) -> bool {
        let item = self.items.get_mut(&(shelf.clone(), change.id));
        let Some(item) = item.filter(|it| it.text != change.text) else {
            return false;
        };
        let version = item.version;
        let (after, old) = changed(item.clone(), change.text, now);
        *item = after;
        self.old.insert((change.id, version), old);
        self.old
            .retain(|(id, at), _| *id != change.id || *at >= oldest(version + 1));
        true
    }

    fn remove(&mut self, shelf: &StationeryShelf, id: StationeryId) -> bool {
        let removed = self.items.remove(&(shelf.clone(), id)).is_some();
        if removed {
            self.old.retain(|(of, _), _| *of != id);
        }
        removed
    }
}

impl AddItem {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> StationeryId {
        let model = &mut model.stationery;
        if model.of(&self.shelf).len() as u64 >= self.most {
            return StationeryId(0);
        }
        for change in self.changes {
            model.change(&self.shelf, change, self.now);
        }
        let id = StationeryId(next(&mut model.last));
        let item = first_version(id, self.text, self.now);
        model.items.insert((self.shelf, id), item);
        id
    }
}

impl ChangeItems {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let model = &mut model.stationery;
        let changes = self.changes.into_iter();
        changes
            .map(|change| u64::from(model.change(&self.shelf, change, self.now)))
            .sum()
    }
}

impl RemoveItem {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.stationery.remove(&self.shelf, self.id)
    }
}

impl ForgetShelf {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> u64 {
        let model = &mut model.stationery;
        let items = model.of(&self.shelf);
        for item in &items {
            model.remove(&self.shelf, item.id);
        }
        items.len() as u64
    }
}
