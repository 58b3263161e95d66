//! When keys were used last, by what is known of logins.

use std::{
    collections::HashSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use postrider_store::{LoginAttempt, LoginAttemptFilter, LoginOf, Order};
use serde::{Deserialize, Serialize};

use super::{Operation, Sink};
use crate::{AdminError, Context};

/// The most records of logins that are looked at, and how many are read at once.
const LOOKED_MAX: usize = 20_000;
const PAGE: usize = 500;
/// How long they are looked at.
const TIME: Duration = Duration::from_millis(40);

/// Finds the last use of each key, by the names of keys. It looks at the newest records of logins,
/// which are of 30 days at most: up to 20,000 of them, and for 40 ms.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The account that the keys act for; None: all keys.
    pub account: Option<String>,
}

/// The last use of the keys with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// The account that the keys acted for; empty: they managed the server.
    pub account: String,
    /// The name of the keys.
    pub key: String,
    /// The time, RFC 3339.
    pub last: String,
    /// The address of the client.
    pub ip: IpAddr,
}

impl From<LoginAttempt> for KeyUse {
    fn from(login: LoginAttempt) -> Self {
        Self {
            account: match login.of {
                LoginOf::Account(account) => account,
                LoginOf::Admin | LoginOf::Nobody => String::new(),
            },
            key: login.key,
            last: login.last.to_string(),
            ip: login.ip,
        }
    }
}

impl Operation for List {
    type Item = KeyUse;

    async fn run(self, context: &Context, items: &mut impl Sink<KeyUse>) -> Result<(), AdminError> {
        if let Some(account) = &self.account {
            context.check_account(account)?;
        }
        let filter = LoginAttemptFilter {
            of: self.account.map(LoginOf::Account),
            result: Some("ok".to_owned()),
            ..LoginAttemptFilter::default()
        };
        // Whoever looks sees the last seconds too.
        context.logins.write_attempts().await;
        let (begun, mut looked, mut after) = (Instant::now(), 0, None);
        let (mut uses, mut seen) = (Vec::new(), HashSet::new());
        while looked < LOOKED_MAX && begun.elapsed() < TIME {
            let store = &context.store;
            let page = store.list_logins(&filter, after, Order::Descending, PAGE);
            let page = page.await?;
            looked += page.items.len();
            let by_key = page.items.into_iter().filter(|login| !login.key.is_empty());
            // The newest use of a key comes first.
            let new = |used: &KeyUse| seen.insert((used.account.clone(), used.key.clone()));
            uses.extend(by_key.map(KeyUse::from).filter(new));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        items.send(uses).await
    }
}
