//! The numbers of principals in the model.

use std::collections::BTreeMap;

use super::{Forget, NoteMade, Number, PrincipalId, PrincipalName, Rename};
use crate::{
    Time,
    subject::{ModelPart, ModelState, next},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    numbers: BTreeMap<PrincipalName, PrincipalId>,
    made: BTreeMap<PrincipalName, Time>,
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

    pub(super) fn made(&self, name: &PrincipalName) -> Option<Time> {
        self.made.get(name).copied()
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
        model.principals.made.remove(&self.0);
        model.principals.numbers.remove(&self.0).is_some()
    }
}

impl Rename {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let model = &mut model.principals;
        let Some(id) = model.numbers.remove(&self.from) else {
            return false;
        };
        if let Some(made) = model.made.remove(&self.from) {
            model.made.insert(self.to.clone(), made);
        }
        model.numbers.insert(self.to, id);
        true
    }
}

impl NoteMade {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        model.principals.made.insert(self.name, self.now);
    }
}
