//! What became of logins.
//!
//! Logins of one day that are alike are one record with a count, so an attack makes few records.
//! Each note gives a record the next number, so the numbers follow the time of the last login. A
//! record goes after 30 days, or earlier if there are too many.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr, ops::Bound, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Listing, State, next};
use crate::{
    Order, Page, Store, StoreError, Time,
    error::Fault,
    id::ids,
    table::{
        Faults, Grouping, Table,
        key::Name,
        tables,
        value::{records, ways},
    },
};

ids! {
    /// A record of logins.
    LoginAttemptId,
}

/// How long a record is kept after its last login.
pub const LOGIN_ATTEMPTS_KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The most records of an account, of the administrator, and of nobody. The oldest go.
pub const LOGIN_ATTEMPTS_OF_ONE: u64 = 1000;
/// The most records of all. The oldest go.
pub const LOGIN_ATTEMPTS_MAX: u64 = 50_000;

/// Whose login it is.
///
/// The journal and the index have the place in this list, so a new one goes to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LoginOf {
    /// The name belongs to nobody, or none was given.
    #[default]
    Nobody,
    /// The administrator, or a program with a key that manages the server.
    Admin,
    /// This account.
    Account(String),
}

impl LoginOf {
    /// The group in the table.
    fn group(&self) -> String {
        match self {
            Self::Nobody => "nobody".to_owned(),
            Self::Admin => "admin".to_owned(),
            Self::Account(account) => format!("account {account}"),
        }
    }
}

/// Logins of one day that are alike: with one owner, result, service, mechanism, client, network
/// and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginAttempt {
    /// The number. The store gives it, and a new one with each note.
    pub id: LoginAttemptId,
    /// Whose logins they are.
    pub of: LoginOf,
    /// What became of them: `ok`, `wrong` and the like.
    pub result: String,
    /// Where they were: `submission`, `webapi` and the like.
    pub service: String,
    /// How: `plain`, `basic` and the like.
    pub mechanism: String,
    /// What the client calls itself: in EHLO, or in the field User-Agent.
    pub client: String,
    /// The network of the client: an IPv4 address or an IPv6 /64.
    pub network: String,
    /// The name of the key that was used; empty without one.
    pub key: String,
    /// The login of the last one, as it was typed. Empty: it was no address.
    pub login: String,
    /// The address of the last one.
    pub ip: IpAddr,
    /// The version of TLS of the last one; empty: in clear, or not known.
    pub tls: String,
    /// The time of the first one.
    pub first: Time,
    /// The time of the last one.
    pub last: Time,
    /// How many there were.
    pub count: u64,
}

impl LoginAttempt {
    /// What all logins of the record have in common.
    fn name(&self) -> Name {
        let day = self.first.day().to_string();
        let group = self.of.group();
        let fields = [
            &day,
            &group,
            &self.result,
            &self.service,
            &self.mechanism,
            &self.client,
            &self.network,
            &self.key,
        ];
        // No text has a zero, or two names are the same and their logins are counted together.
        fields.map(String::as_str).join("\0").into()
    }

    /// This one with later logins that are alike.
    #[must_use]
    pub fn joined(self, later: Self) -> Self {
        Self {
            id: self.id,
            first: self.first.min(later.first),
            last: self.last.max(later.last),
            count: self.count.saturating_add(later.count),
            ..later
        }
    }
}

/// A filter for records of logins. An empty filter matches all. All given fields must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginAttemptFilter {
    /// Whose logins.
    pub of: Option<LoginOf>,
    /// What became of them.
    pub result: Option<String>,
    /// Where they were.
    pub service: Option<String>,
    /// The last one was at this time or later.
    pub since: Option<Time>,
}

impl LoginAttemptFilter {
    /// Whether logins match.
    #[must_use]
    pub fn matches(&self, attempt: &LoginAttempt) -> bool {
        let is = |wanted: &Option<String>, found: &String| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        self.of.as_ref().is_none_or(|of| *of == attempt.of)
            && is(&self.result, &attempt.result)
            && is(&self.service, &attempt.service)
            && self.since.is_none_or(|since| attempt.last >= since)
    }
}

/// How many records a group has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttemptCount(u64);

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    last: u64,
    attempts: u64,
}

records! {
    LoginAttempt: version 1,
}

ways! {
    LoginAttemptId: version 1,
    AttemptCount: version 1,
}

tables! {
    /// Logins.
    counters: Counters,
    /// The group of a record says whose logins they are.
    attempts: Table<LoginAttemptId, LoginAttempt> = Table::grouped(
        "login_attempts",
        Grouping {
            name: "login_attempt_groups",
            of: |attempt| vec![attempt.of.group()],
            has: |group, attempt| attempt.of.group() == group,
        },
    ),
    /// By the day and what all logins of a record have in common.
    by_name: Table<Name, LoginAttemptId> = Table::new("login_attempt_names"),
    /// How many records each group has.
    counts: Table<Name, AttemptCount> = Table::new("login_attempt_counts"),
}

subject!(
    counters Counters, keys 1,
    fn skip_ids(&mut self, by: u64) {
        self.counters.last = self.counters.last.saturating_add(by);
    },
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.login_attempts.remove_old(now, max)
    }
);

impl Tables {
    fn note(&mut self, attempt: LoginAttempt) -> Result<(), Fault> {
        let name = attempt.name();
        let known = match self.by_name.get(&name)? {
            Some(id) => self.take(id)?,
            None => None,
        };
        let id = LoginAttemptId(next(&mut self.counters.last));
        let attempt = match known {
            Some(known) => known.joined(attempt),
            None => attempt,
        };
        let group = attempt.of.group();
        self.by_name.put(name, id);
        self.attempts.put_new(id, LoginAttempt { id, ..attempt });
        self.counters.attempts += 1;
        let count = self.count(&group)? + 1;
        self.counts.put(group.as_str().into(), AttemptCount(count));
        if count > LOGIN_ATTEMPTS_OF_ONE {
            self.remove_first(Some(&group))?;
        }
        if self.counters.attempts > LOGIN_ATTEMPTS_MAX {
            self.remove_first(None)?;
        }
        Ok(())
    }

    fn count(&self, group: &str) -> Result<u64, Fault> {
        Ok(self.counts.get(&group.into())?.unwrap_or_default().0)
    }

    /// Removes the first record, of a group if one is given.
    fn remove_first(&mut self, group: Option<&str>) -> Result<(), Fault> {
        let first = self.attempts.scan(group, None, Order::Ascending)?.next();
        if let Some((id, _)) = first.transpose()? {
            self.take(id)?;
        }
        Ok(())
    }

    /// Removes the records of an account. Gives how many it removed.
    fn forget(&mut self, account: String) -> Result<u64, Fault> {
        let group = LoginOf::Account(account).group();
        let ids = self
            .attempts
            .scan(Some(&group), None, Order::Ascending)?
            .map(|entry| entry.map(|(id, _)| id))
            .collect::<Result<Vec<_>, Fault>>()?;
        for id in &ids {
            self.take(*id)?;
        }
        Ok(ids.len() as u64)
    }

    fn take(&mut self, id: LoginAttemptId) -> Result<Option<LoginAttempt>, Fault> {
        let Some(attempt) = self.attempts.take(&id)? else {
            return Ok(None);
        };
        self.by_name.remove(&attempt.name());
        let group = attempt.of.group();
        match self.count(&group)? {
            0 | 1 => self.counts.remove(&group.into()),
            count => self.counts.put(group.into(), AttemptCount(count - 1)),
        }
        self.counters.attempts = self.counters.attempts.saturating_sub(1);
        Ok(Some(attempt))
    }

    /// Removes at most `max` records whose time is over. They are the first ones.
    fn remove_old(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let is_old = |attempt: &LoginAttempt| attempt.last.after(LOGIN_ATTEMPTS_KEPT) <= now;
        let old = self
            .attempts
            .range(Bound::Unbounded, Bound::Unbounded)?
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .take_while(|entry| entry.as_ref().map_or(true, |(_, attempt)| is_old(attempt)))
            .map(|entry| entry.map(|(id, _)| id))
            .collect::<Result<Vec<_>, Fault>>()?;
        for id in &old {
            self.take(*id)?;
        }
        Ok(old.len() as u64)
    }
}

impl State {
    /// Compares the counts, and the ways to the records, with the records.
    pub(super) fn check_login_attempts(&self, faults: &mut Faults) -> Result<(), Fault> {
        let tables = &self.login_attempts;
        let mut total = 0;
        let mut counts = BTreeMap::<String, u64>::new();
        tables.attempts.for_each(|id, attempt| {
            total += 1;
            *counts.entry(attempt.of.group()).or_default() += 1;
            let found = tables.by_name.get(&attempt.name())? == Some(id);
            faults.check(found, || {
                format!("the logins {id} are not found by their name")
            });
            Ok(())
        })?;
        faults.compare("records of logins", tables.counters.attempts, total);
        faults.compare("records of logins by name", tables.by_name.count()?, total);
        let groups = counts.len() as u64;
        faults.compare("groups of logins", tables.counts.count()?, groups);
        for (group, count) in counts {
            faults.compare("records of a group of logins", tables.count(&group)?, count);
        }
        Ok(())
    }
}

operations! {
    LoginAttempts, version 2 since 1 weighed by weigh:
    NoteLogins -> (), Ordinary;
    ForgetLogins -> u64, Reserve;
}

/// Notes logins.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NoteLogins {
    all: Vec<LoginAttempt>,
}

/// Forgets all logins of an account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ForgetLogins {
    account: String,
}

fn weigh(op: &Op) -> usize {
    match op {
        Op::NoteLogins(note) => note.all.len(),
        Op::ForgetLogins(_) => usize::try_from(LOGIN_ATTEMPTS_OF_ONE).unwrap_or(usize::MAX),
    }
}

impl NoteLogins {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        for attempt in self.all {
            state.login_attempts.note(attempt)?;
        }
        Ok(())
    }
}

impl ForgetLogins {
    fn apply(self, state: &mut State) -> Result<u64, Fault> {
        state.login_attempts.forget(self.account)
    }
}

questions! {
    scan ListAttempts {
        filter: LoginAttemptFilter, after: Option<LoginAttemptId>, order: Order, limit: usize
    } -> Page<LoginAttempt, LoginAttemptId>,
    |this, reader| {
        let listing = Listing {
            group: this.filter.of.as_ref().map(LoginOf::group),
            after: this.after,
            order: this.order,
            limit: this.limit,
        };
        let matches = |attempt: &LoginAttempt| this.filter.matches(attempt);
        reader.page(listing, |state| &state.login_attempts.attempts, matches)
    },
    |this, model| model.login_attempts.list(this);
}

impl Store {
    /// Notes what became of logins, in the order of their last ones. A login that is like one of
    /// the same day is counted with it.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn note_logins(&self, all: Vec<LoginAttempt>) -> Result<(), StoreError> {
        self.change_by(NoteLogins { all }).await
    }

    /// Forgets all logins of an account. Gives how many records that were.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn forget_logins(&self, account: &str) -> Result<u64, StoreError> {
        let account = account.to_owned();
        self.change_by(ForgetLogins { account }).await
    }

    /// Records of logins that match, in the order of their newest logins, beginning behind `after`.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn list_logins(
        &self,
        filter: &LoginAttemptFilter,
        after: Option<LoginAttemptId>,
        order: Order,
        limit: usize,
    ) -> Result<Page<LoginAttempt, LoginAttemptId>, StoreError> {
        let filter = filter.clone();
        self.scan(ListAttempts {
            filter,
            after,
            order,
            limit,
        })
        .await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    vec![
        Op::NoteLogins(NoteLogins {
            all: vec![tests::attempt(LoginOf::Account("ann".into()), 1)],
        }),
        Op::ForgetLogins(ForgetLogins {
            account: "ann".into(),
        }),
    ]
}
