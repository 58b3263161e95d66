//! The counts of failed logins.

use std::net::IpAddr;

use postrider_receive::login::Identity;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::Single;
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

impl Single for Unlock {
    type Output = Unlocked;

    async fn answer(self, context: &Context) -> Result<Unlocked, AdminError> {
        let Self { account, ip } = self;
        if account.is_none() && ip.is_none() {
            let text = "name an account, a network, or both";
            return Err(AdminError::invalid(text).at("account"));
        }
        let config = context.config.load_full();
        let name = account.map(|name| {
            if config.accounts.contains_key(&name) {
                return Ok(name);
            }
            let found = config.login(&name).map(|found| found.account.to_owned());
            found.ok_or_else(|| {
                let text = format!("{name} is no account and no login address");
                AdminError::not_found(text).at("account")
            })
        });
        let name = name.transpose()?;
        let identity = name.as_deref().map(Identity::Account);
        let mut counts = context.limiter.forget(identity, ip);
        if let Some(name) = &name {
            counts += context.limiter.forget(Some(Identity::Code(name)), ip);
        }
        let target = name.as_deref().unwrap_or_default();
        context.record("login.unlock", target, &ip, Ok(())).await?;
        info!(
            account = name,
            ?ip,
            counts,
            "failed logins forgotten by an administrator"
        );
        Ok(Unlocked { counts })
    }
}
