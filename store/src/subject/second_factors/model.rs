//! Second factors in the model.

use std::collections::BTreeMap;

use super::{ChangeFactor, SecondFactor};
use crate::{
    WebSessionOwner,
    subject::{ModelPart, ModelState},
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    admin: SecondFactor,
    /// Without the generators that are needed.
    accounts: BTreeMap<String, SecondFactor>,
}

impl ModelPart for Model {}

impl Model {
    pub(crate) fn forget_account(&mut self, account: &str) {
        self.accounts.remove(account);
    }
}

impl ModelState {
    pub(super) fn second_factor(&self, owner: &WebSessionOwner) -> SecondFactor {
        match owner {
            WebSessionOwner::Admin => self.second_factors.admin.clone(),
            WebSessionOwner::Account(account) => {
                let factor = self.second_factors.accounts.get(account).cloned();
                let credential = self.credentials.credentials.get(account);
                SecondFactor {
                    otp: credential.and_then(|credential| credential.otp.clone()),
                    ..factor.unwrap_or_default()
                }
            }
        }
    }
}

impl ChangeFactor {
    pub(super) fn apply_to_model(self, model: &mut ModelState) -> bool {
        let mut factor = model.second_factor(&self.owner);
        if !self.change.apply_to(&mut factor) {
            return false;
        }
        match self.owner {
            WebSessionOwner::Admin => model.second_factors.admin = factor,
            WebSessionOwner::Account(account) => {
                let otp = factor.otp.take();
                let credentials = &mut model.credentials.credentials;
                let before = credentials.get(&account).and_then(|it| it.otp.clone());
                if before != otp {
                    credentials.entry(account.clone()).or_default().otp = otp;
                }
                model.second_factors.accounts.insert(account, factor);
            }
        }
        true
    }
}
