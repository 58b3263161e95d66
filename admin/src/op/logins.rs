//! The counts of failed logins.

use std::net::IpAddr;

use postrider_receive::login::Identity;
use serde::{Deserialize, Serialize};

use super::{Listed, Single};
use crate::{AdminError, Context};

/// Forgets failed logins, so that the next login is checked. At least one field must be given.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlock {
    /// The failures of an account: its name, or one of its login addresses.
    pub account: Option<String>,
    /// The failures from the networks of this address.
    pub ip: Option<IpAddr>,
}

/// The result of [`Unlock`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlocked {
    /// The number of counts that were forgotten. A failure has a count for its account and one for
    /// all accounts, in networks of three sizes.
    pub counts: u64,
}

impl Unlock {
    /// The account whose counts are forgotten. None: those of all accounts in a network.
    fn whose(&self, context: &Context) -> Result<Option<String>, AdminError> {
        let Some(name) = &self.account else {
            let text = "name an account, a network, or both";
            let nobody = AdminError::invalid(text).at("account");
            return self.ip.map(|_| None).ok_or(nobody);
        };
        let config = context.config.load_full();
        if config.accounts.contains_key(name) {
            return Ok(Some(name.clone()));
        }
        let found = config.login(name).map(|found| found.account.to_owned());
        found.map(Some).ok_or_else(|| {
            let text = format!("{name} is no account and no login address");
            AdminError::not_found(text).at("account")
        })
    }
}

impl Single for Unlock {
    type Output = Unlocked;

    async fn answer(self, context: &Context) -> Result<Unlocked, AdminError> {
        let ip = self.ip;
        let name = match self.whose(context) {
            Ok(name) => name,
            Err(error) => {
                let target = self.account.unwrap_or_default();
                return context.record(Self::NAME, &target, &ip, Err(error)).await;
            }
        };
        let identity = name.as_deref().map(Identity::Account);
        let mut counts = context.limiter.forget(identity, ip);
        if let Some(name) = &name {
            counts += context.limiter.forget(Some(Identity::Code(name)), ip);
        }
        let target = name.as_deref().unwrap_or_default();
        context.record(Self::NAME, target, &ip, Ok(())).await?;
        Ok(Unlocked { counts })
    }
}
