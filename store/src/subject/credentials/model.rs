//! Credentials in the model.

use std::collections::BTreeMap;

use super::{Amend, Credential, Derive, Keep, Secret, Set, TakeStep, Use, note_use, take};
use crate::{
    WebSessionOwner,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) credentials: BTreeMap<String, Credential>,
    pub(super) secrets: BTreeMap<String, Secret>,
}

impl ModelPart for Model {}

impl Set {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let owner = WebSessionOwner::Account(self.account.clone());
        model.web_sessions.end_of(&owner, None);
        model.mail_tokens.end_of(&self.account);
        model.second_factors.forget_account(&self.account);
        let credentials = &mut model.credentials.credentials;
        match self.credential {
            Some(credential) => credentials.insert(self.account, credential),
            None => credentials.remove(&self.account),
        };
    }
}

impl Amend {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let credentials = &mut model.credentials.credentials;
        let before = credentials.get(&self.account).cloned();
        let mut after = before.unwrap_or_default();
        let sets_password = self.change.argon2.is_some();
        let sets_otp = self.change.otp.is_some();
        let is_made = self.change.apply_to(&mut after, self.now);
        if is_made {
            credentials.insert(self.account.clone(), after);
        }
        if is_made && sets_otp {
            model.second_factors.forget_account(&self.account);
        }
        if is_made && sets_password {
            model.mail_tokens.end_of(&self.account);
            let owner = WebSessionOwner::Account(self.account);
            model.web_sessions.end_of(&owner, None);
        }
        is_made
    }
}

impl TakeStep {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let credentials = &mut model.credentials.credentials;
        let credential = credentials.get_mut(&self.account);
        credential.is_some_and(|credential| take(credential, self.step))
    }
}

impl Use {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        if let Some(credential) = model.credentials.credentials.get_mut(&self.account) {
            note_use(credential, &self.name, self.now);
        }
    }
}

impl Derive {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let credentials = &mut model.credentials.credentials;
        let credential = credentials.get_mut(&self.account);
        credential
            .is_some_and(|credential| credential.take_keys(&self.password, self.salts, self.keys))
    }
}

impl Keep {
    pub(super) fn apply_to_model(self, model: &mut ModelState) {
        let secrets = &mut model.credentials.secrets;
        secrets.entry(self.used_for).or_insert(self.secret);
    }
}
