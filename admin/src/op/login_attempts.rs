//! What became of logins.

use std::net::IpAddr;

use postrider_store::{LoginAttempt, LoginAttemptFilter, LoginAttemptId, LoginOf, Order, Time};
use serde::{Deserialize, Serialize};

use super::{
    Operation, Single, Sink,
    pages::{Part, Searched, search, send_pages_behind},
};
use crate::{AdminError, Context};

/// Logins of one day that are alike. Times are RFC 3339. Texts that are not known are empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct LoginItem {
    /// The number. There is another one after each further login of the same day.
    pub id: u64,
    /// `nobody`, `admin` or `account`.
    pub kind: String,
    /// The account. None: the login is that of the administrator, or of nobody.
    pub account: Option<String>,
    /// `ok`, `wrong`, `disabled`, `weak` (the password is not enough, as there are one-time codes),
    /// `limited`, `unavailable` or `malformed`.
    pub result: String,
    /// How many there were.
    pub count: u64,
    /// The time of the last one.
    pub last: String,
    /// The time of the first one.
    pub first: String,
    /// The address of the last one, as it was typed.
    pub login: String,
    /// `submission`, `webapi`, `mailbox`, `admin` or `account`.
    pub service: String,
    /// `plain`, `scram-sha-256`, `basic`, `bearer` and the like.
    pub mechanism: String,
    /// What the client calls itself: in EHLO, or in the field User-Agent.
    pub client: String,
    /// The address of the client of the last one.
    #[cfg_attr(test, schema(value_type = String))]
    pub ip: IpAddr,
    /// The network of all of them: an IPv4 address, or an IPv6 /64.
    pub network: String,
    /// The version of TLS of the last one.
    pub tls: String,
    /// The name of the key, or the fingerprint of the certificate.
    pub key: String,
}

impl From<&LoginAttempt> for LoginItem {
    fn from(attempt: &LoginAttempt) -> Self {
        let (kind, account) = match &attempt.of {
            LoginOf::Nobody => ("nobody", None),
            LoginOf::Admin => ("admin", None),
            LoginOf::Account(account) => ("account", Some(account.clone())),
        };
        Self {
            id: attempt.id.0,
            kind: kind.to_owned(),
            account,
            result: attempt.result.clone(),
            count: attempt.count,
            last: attempt.last.to_string(),
            first: attempt.first.to_string(),
            login: attempt.login.clone(),
            service: attempt.service.clone(),
            mechanism: attempt.mechanism.clone(),
            client: attempt.client.clone(),
            ip: attempt.ip,
            network: attempt.network.clone(),
            tls: attempt.tls.clone(),
            key: attempt.key.clone(),
        }
    }
}

/// Whose logins are listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Those of the administrator and of keys that manage the server.
    Admin,
    /// Those whose name belongs to nobody.
    Nobody,
    /// Those of this account.
    Account(String),
}

/// Lists logins, those with the newest one first. All given fields must match.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct List {
    /// `admin`, `nobody` or `{"account": NAME}`; None: all.
    pub of: Option<Whose>,
    /// What became of them, for example `wrong`.
    pub result: Option<String>,
    /// Where they were, for example `submission`.
    pub service: Option<String>,
    /// The last one was at this time or later.
    pub since: Option<Time>,
    /// The list begins behind the item with this number; None: with the first one.
    pub after: Option<u64>,
    /// The largest number of items; None: all.
    pub limit: Option<usize>,
}

impl List {
    /// The logins.
    fn filter(self, context: &Context) -> Result<LoginAttemptFilter, AdminError> {
        let of = match self.of {
            None => None,
            Some(Whose::Admin) => Some(LoginOf::Admin),
            Some(Whose::Nobody) => Some(LoginOf::Nobody),
            Some(Whose::Account(account)) => {
                context.check_account(&account)?;
                Some(LoginOf::Account(account))
            }
        };
        Ok(LoginAttemptFilter {
            of,
            result: self.result,
            service: self.service,
            since: self.since,
        })
    }
}

impl Operation for List {
    type Item = LoginItem;

    async fn run(
        self,
        context: &Context,
        items: &mut impl Sink<LoginItem>,
    ) -> Result<(), AdminError> {
        let (after, limit) = (self.after.map(LoginAttemptId), self.limit);
        let filter = self.filter(context)?;
        // Whoever looks sees the last seconds too.
        context.logins.write_attempts().await;
        send_pages_behind(after, limit, items, |after, count| {
            context
                .store
                .list_logins(&filter, after, Order::Descending, count)
        })
        .await
    }
}

/// Finds logins. The search ends after 40 ms or 20,000 of them, and tells how far it came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Find {
    /// The logins, behind which one the search begins, and how many at most.
    pub which: List,
    /// By number, ascending or descending.
    pub order: Order,
    /// The address of the client of the last one.
    pub ip: Option<IpAddr>,
}

impl Single for Find {
    type Output = Searched<LoginItem>;

    async fn answer(self, context: &Context) -> Result<Searched<LoginItem>, AdminError> {
        let part = Part {
            after: self.which.after.map(LoginAttemptId),
            limit: self.which.limit.unwrap_or(usize::MAX),
        };
        let (order, ip) = (self.order, self.ip);
        let filter = self.which.filter(context)?;
        // The store has an index of whose they are.
        let read = LoginAttemptFilter {
            of: filter.of.clone(),
            ..LoginAttemptFilter::default()
        };
        context.logins.write_attempts().await;
        let logins = |after, count| context.store.list_logins(&read, after, order, count);
        let place = |login: &LoginAttempt| (login.id.0, login.last);
        let matches =
            |login: &LoginAttempt| filter.matches(login) && ip.is_none_or(|ip| login.ip == ip);
        let found = search(part, logins, place, matches).await?;
        Ok(found.within(order, filter.since, None))
    }
}
