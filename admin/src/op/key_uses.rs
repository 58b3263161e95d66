//! When keys were used last, by what is known of logins.

use std::net::IpAddr;

use postrider_store::{LoginAttemptFilter, LoginOf, Order};
use serde::{Deserialize, Serialize};

use super::{Operation, Sink};
use crate::{AdminError, Context};

/// The most records of logins that are looked at.
const LOOKED_MAX: usize = 2000;

/// Finds the last use of each key, by the names of keys. It looks at the newest 2000 records of
/// logins, which are of 30 days at most.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The account that the keys act for; None: keys that manage the server.
    pub account: Option<String>,
}

/// The last use of the keys with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// The name of the keys.
    pub key: String,
    /// The time, RFC 3339.
    pub last: String,
    /// The address of the client.
    pub ip: IpAddr,
}

impl Operation for List {
    type Item = KeyUse;

    async fn run(self, context: &Context, items: &mut impl Sink<KeyUse>) -> Result<(), AdminError> {
        let of = match self.account {
            None => LoginOf::Admin,
            Some(account) => {
                context.check_account(&account)?;
                LoginOf::Account(account)
            }
        };
        let filter = LoginAttemptFilter {
            of: Some(of),
            ..LoginAttemptFilter::default()
        };
        // Whoever looks sees the last seconds too.
        context.logins.write_attempts().await;
        let logins = context
            .store
            .list_logins(&filter, None, Order::Descending, LOOKED_MAX)
            .await?;
        let mut uses: Vec<KeyUse> = Vec::new();
        for login in logins.items {
            let is_use = !login.key.is_empty() && login.result == "ok";
            // The newest one comes first.
            if is_use && !uses.iter().any(|known| known.key == login.key) {
                uses.push(KeyUse {
                    last: login.last.to_string(),
                    key: login.key,
                    ip: login.ip,
                });
            }
        }
        items.send(uses).await
    }
}
