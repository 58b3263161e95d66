//! Keys for the API in the model.

use std::collections::BTreeMap;

use super::{Add, ApiKey, ApiKeyId, Remove};
use crate::subject::{ModelPart, ModelState, next};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    last: u64,
    pub(crate) keys: BTreeMap<ApiKeyId, ApiKey>,
}

impl ModelPart for Model {
    fn skip_ids(&mut self, by: u64) {
        self.last = self.last.saturating_add(by);
    }
}

impl Add {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> ApiKeyId {
        let id = ApiKeyId(next(&mut model.keys.last));
        model.keys.keys.insert(id, self.0.key(id));
        id
    }
}

impl Remove {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.keys.keys.remove(&self.id).is_some()
    }
}
