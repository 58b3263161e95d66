//! ACME in the model.

use std::collections::BTreeMap;

use super::{
    AcmeAccount, AcmeCertificate, AcmeTry, Remove, SetAccount, SetCertificate, SetTry, key,
};
use crate::{
    subject::{ModelPart, ModelState},
    table::key::Name,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) accounts: BTreeMap<String, AcmeAccount>,
    pub(crate) certificates: BTreeMap<Name, AcmeCertificate>,
    pub(crate) tries: BTreeMap<Name, AcmeTry>,
}

impl ModelPart for Model {}

impl SetAccount {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let directory = self.0.directory.clone();
        model.acme.accounts.insert(directory, self.0);
    }
}

impl SetCertificate {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let key = key(&self.0.directory, &self.0.name, &self.0.key_id);
        model.acme.tries.remove(&key);
        model.acme.certificates.insert(key, self.0);
    }
}

impl SetTry {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let key = key(&self.0.directory, &self.0.name, &self.0.key_id);
        model.acme.tries.insert(key, self.0);
    }
}

impl Remove {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let key = key(&self.directory, &self.name, &self.key_id);
        model.acme.tries.remove(&key);
        model.acme.certificates.remove(&key);
    }
}
