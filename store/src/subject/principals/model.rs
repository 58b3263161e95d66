//! The numbers of principals in the model.

use std::collections::BTreeMap;

use super::{Forget, Number, PrincipalId, PrincipalName, Rename};
use crate::subject::{ModelPart, ModelState, next};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    numbers: BTreeMap<PrincipalName, PrincipalId>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }
}

impl Model {
    pub(super) fn number(&self, name: &PrincipalName) -> Option<PrincipalId> {
        self.numbers.get(name).copied()
    }
}

impl Number {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let model = &mut model.principals;
        for name in self.0 {
            if !model.numbers.contains_key(&name) {
                let id = PrincipalId(next(&mut model.last));
                model.numbers.insert(name, id);
            }
        }
    }
}

impl Forget {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.principals.numbers.remove(&self.0).is_some()
    }
}

impl Rename {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let numbers = &mut model.principals.numbers;
        let Some(id) = numbers.remove(&self.from) else {
            return false;
        };
        numbers.insert(self.to, id);
        true
    }
}
