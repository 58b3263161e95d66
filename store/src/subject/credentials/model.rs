//! Credentials in the model.

use std::collections::BTreeMap;

use super::{Credential, Set};
use crate::subject::{ModelPart, ModelState};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) credentials: BTreeMap<String, Credential>,
}

impl ModelPart for Model {}

impl Set {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let credentials = &mut model.credentials.credentials;
        match self.credential {
            Some(credential) => credentials.insert(self.account, credential),
            None => credentials.remove(&self.account),
        };
    }
}
