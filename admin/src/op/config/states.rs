//! What accounts have used of their limits, and how they log in.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::missing_account;
use crate::{
    AdminError, Context,
    op::{Operation, Sink},
};

/// The time that limits are about.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Asks what accounts have used of their limits, and how they log in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct States {
    /// The accounts.
    pub accounts: Vec<String>,
}

/// What an account has used of its limits, and how it logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// The account.
    pub account: String,
    /// Its recipients in the last 24 hours.
    pub recipients: u64,
    /// The most recipients in 24 hours.
    pub max_recipients: u64,
    /// Those of the last 24 hours that it never wrote to before.
    pub first_time: u64,
    /// The most of them.
    pub max_first_time: u64,
    /// The bytes of its mail.
    pub mail_bytes: u64,
    /// The largest size of all its mail; None: no limit.
    pub quota: Option<u64>,
    /// Whether it has a password.
    pub has_password: bool,
    /// When the password was set, RFC 3339; None: never.
    pub password_set: Option<String>,
    /// Whether the password needs one-time codes.
    pub otp_enabled: bool,
    /// How many app passwords it has.
    pub app_passwords: usize,
    /// Whether its page offers generated passwords only.
    pub no_custom_password: bool,
}

impl Operation for States {
    type Item = AccountState;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<AccountState>,
    ) -> Result<(), AdminError> {
        let config = context.config.load_full();
        let since = context.clock.now().before(DAY);
        for name in self.accounts {
            let account = config.accounts.get(&name);
            let account = account.ok_or_else(|| missing_account(&config, &name))?;
            let sent = context.store.sent(&name, since).await?;
            let usage = context.store.mail_usage(&name).await?;
            let credential = context.store.credential(&name).await?.unwrap_or_default();
            let has_password = !credential.argon2.is_empty();
            let state = AccountState {
                recipients: sent.recipients,
                max_recipients: account.max_outgoing_messages_per_day.into(),
                first_time: sent.first_time,
                max_first_time: account.max_first_time_recipients_per_day.into(),
                mail_bytes: usage.bytes,
                quota: account.quota.map(|quota| quota.0),
                has_password,
                password_set: has_password.then(|| credential.set.to_string()),
                otp_enabled: credential.otp.is_some(),
                app_passwords: credential.app_passwords.len(),
                no_custom_password: account.no_custom_password,
                account: name,
            };
            items.send(vec![state]).await?;
        }
        Ok(())
    }
}
