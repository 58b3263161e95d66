//! Hold rules in the model.

use std::collections::BTreeMap;

use super::{Add, HoldRule, HoldRuleId, Remove};
use crate::subject::{ModelPart, ModelState, next};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    pub(crate) rules: BTreeMap<HoldRuleId, HoldRule>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }
}

impl Add {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> HoldRuleId {
        let model = &mut model.hold_rules;
        let id = HoldRuleId(next(&mut model.last));
        let Self { filter, created } = self;
        model.rules.insert(
            id,
            HoldRule {
                id,
                filter,
                created,
            },
        );
        id
    }
}

impl Remove {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.hold_rules.rules.remove(&self.id).is_some()
    }
}
