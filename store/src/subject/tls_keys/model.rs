//! Keys of client certificates in the model.

use std::collections::BTreeMap;

use super::{Add, Remove, TlsKey, Use};
use crate::subject::{ModelPart, ModelState};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(super) keys: BTreeMap<String, TlsKey>,
}

impl ModelPart for Model {}

impl Add {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let keys = &mut model.tls_keys.keys;
        let is_new = !keys.contains_key(&self.0.fingerprint);
        if is_new {
            keys.insert(self.0.fingerprint.clone(), self.0);
        }
        is_new
    }
}

impl Remove {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        model.tls_keys.keys.remove(&self.fingerprint).is_some()
    }
}

impl Use {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        if let Some(key) = model.tls_keys.keys.get_mut(&self.fingerprint) {
            key.last_used = key.last_used.max(Some(self.now));
        }
    }
}
