//! The policies of MTA-STS (RFC 8461) that were fetched from other domains. They survive a restart,
//! so that nobody gets our mail in clear by hiding a policy from us for a moment.

#[cfg(any(test, feature = "memory"))]
pub(crate) mod model;
#[cfg(test)]
mod tests;

use std::{ops::Bound, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::State;
use crate::{
    Store, StoreError, Time,
    error::Fault,
    table::{Table, key::Name, tables, value::records},
};

/// How many policies are kept. When one more comes, the one that was unused for longest goes.
pub const STS_POLICIES_MAX: u64 = 100_000;
/// How long a policy is kept that is not used.
const UNUSED_MAX: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// A policy of a domain, as it was fetched last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StsPolicy {
    /// The domain in its ASCII form. There is one policy for each.
    pub domain: String,
    /// The id of the record that announced the policy.
    pub id: String,
    /// The text of the policy.
    pub text: String,
    /// When it was fetched.
    pub fetched: Time,
    /// When it ends.
    pub ends: Time,
    /// When it was last used, to the day.
    pub used: Time,
    /// When it is fetched again.
    pub refresh: Time,
    /// How often fetching it failed since it was fetched.
    pub failures: u32,
}

/// Numbers that are kept with the tables.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    policies: u64,
}

records! {
    StsPolicy: version 1,
}

tables! {
    counters: Counters,
    /// By domain.
    policies: Table<Name, StsPolicy> = Table::new("sts_policies"),
    /// The domains by the time of the last use.
    uses: Table<(Time, Name), ()> = Table::new("sts_uses"),
    /// The domains by the time when their policies are fetched again.
    refreshes: Table<(Time, Name), ()> = Table::new("sts_refreshes"),
}

subject!(
    counters Counters, keys 1,
    fn sweep(state: &mut State, now: Time, max: u64) -> Result<u64, Fault> {
        state.mta_sts.forget_unused(now, max)
    }
);

operations! {
    MtaSts, version 1:
    Keep -> (), Ordinary;
    Use -> (), Reserve;
    Retry -> (), Reserve;
    Remove -> (), Reserve;
}

/// Keeps a policy in the place of the one before. The later time of use counts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Keep(StsPolicy);

/// Notes that a policy was used.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Use {
    domain: String,
    now: Time,
}

/// Notes that a policy could not be fetched, and when to fetch it again.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Retry {
    domain: String,
    refresh: Time,
}

/// Removes a policy.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remove {
    domain: String,
}

impl Tables {
    fn put(&mut self, policy: StsPolicy) -> Result<(), Fault> {
        let name: Name = policy.domain.as_str().into();
        self.take(&name)?;
        self.counters.policies += 1;
        self.uses.put_new((policy.used, Arc::clone(&name)), ());
        self.refreshes
            .put_new((policy.refresh, Arc::clone(&name)), ());
        self.policies.put_new(name, policy);
        Ok(())
    }

    fn take(&mut self, name: &Name) -> Result<Option<StsPolicy>, Fault> {
        let policy = self.policies.take(name)?;
        if let Some(policy) = &policy {
            self.counters.policies = self.counters.policies.saturating_sub(1);
            self.uses.remove(&(policy.used, Arc::clone(name)));
            self.refreshes.remove(&(policy.refresh, Arc::clone(name)));
        }
        Ok(policy)
    }

    fn change(&mut self, domain: &str, change: impl FnOnce(&mut StsPolicy)) -> Result<(), Fault> {
        match self.take(&domain.into())? {
            Some(mut policy) => {
                change(&mut policy);
                self.put(policy)
            }
            None => Ok(()),
        }
    }

    /// Removes at most `max` policies that nobody used for long.
    fn forget_unused(&mut self, now: Time, max: u64) -> Result<u64, Fault> {
        let to = (
            Time(now.before(UNUSED_MAX).0.saturating_add(1)),
            Name::from(""),
        );
        let old: Result<Vec<_>, Fault> = self
            .uses
            .range(Bound::Unbounded, Bound::Excluded(&to))?
            .take(usize::try_from(max).unwrap_or(usize::MAX))
            .collect();
        let old = old?;
        for ((_, name), ()) in &old {
            self.take(name)?;
        }
        Ok(old.len() as u64)
    }

    /// The domains whose policies are fetched again next, in order.
    fn next_refreshes(&self, max: usize) -> Result<Vec<StsPolicy>, Fault> {
        let mut policies = Vec::new();
        let refreshes = self.refreshes.range(Bound::Unbounded, Bound::Unbounded)?;
        for refresh in refreshes.take(max) {
            let ((_, name), ()) = refresh?;
            policies.extend(self.policies.get(&name)?);
        }
        Ok(policies)
    }
}

impl State {
    /// Compares the number of policies, and the times of their use and their refresh, with them.
    pub(super) fn check_mta_sts(&self, faults: &mut crate::table::Faults) -> Result<(), Fault> {
        let tables = &self.mta_sts;
        let mut count = 0;
        tables.policies.for_each(|name, policy| {
            count += 1;
            let found = tables.uses.contains(&(policy.used, Arc::clone(&name)))?
                && tables
                    .refreshes
                    .contains(&(policy.refresh, Arc::clone(&name)))?;
            faults.check(found, || {
                format!("the MTA-STS policy of {name} is missing by its times")
            });
            Ok(())
        })?;
        faults.compare("MTA-STS policies", tables.counters.policies, count);
        faults.compare("uses of MTA-STS policies", tables.uses.count()?, count);
        let refreshes = tables.refreshes.count()?;
        faults.compare("refreshes of MTA-STS policies", refreshes, count);
        Ok(())
    }
}

impl Keep {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let (tables, mut policy) = (&mut state.mta_sts, self.0);
        match tables.take(&policy.domain.as_str().into())? {
            Some(before) => policy.used = policy.used.max(before.used),
            None if tables.counters.policies >= STS_POLICIES_MAX => {
                let first = tables
                    .uses
                    .range(Bound::Unbounded, Bound::Unbounded)?
                    .next();
                if let Some(((_, first), ())) = first.transpose()? {
                    tables.take(&first)?;
                }
            }
            None => {}
        }
        tables.put(policy)
    }
}

impl Use {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let now = self.now;
        let used = |policy: &mut StsPolicy| policy.used = policy.used.max(now);
        state.mta_sts.change(&self.domain, used)
    }
}

impl Retry {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let refresh = self.refresh;
        state
            .mta_sts
            .change(&self.domain, |policy| policy.retry(refresh))
    }
}

impl Remove {
    fn apply(self, state: &mut State) -> Result<(), Fault> {
        let name: Name = self.domain.into();
        state.mta_sts.take(&name).map(drop)
    }
}

impl StsPolicy {
    const fn retry(&mut self, refresh: Time) {
        self.refresh = refresh;
        self.failures = self.failures.saturating_add(1);
    }
}

questions! {
    ask One<'a> { domain: &'a str } -> Option<StsPolicy>,
    |this, state| state.mta_sts.policies.get(&this.domain.into()),
    |this, model| model.mta_sts.policies.get(this.domain).cloned();

    ask NextRefreshes { max: usize } -> Vec<StsPolicy>,
    |this, state| state.mta_sts.next_refreshes(this.max),
    |this, model| model.mta_sts.next_refreshes(this.max);
}

impl Store {
    /// Keeps the policy of a domain in the place of the one before. The later time of use counts.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn keep_sts_policy(&self, policy: StsPolicy) -> Result<(), StoreError> {
        self.change_by(Keep(policy)).await
    }

    /// Notes that the policy of a domain was used. Nothing happens if there is none.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn use_sts_policy(&self, domain: &str, now: Time) -> Result<(), StoreError> {
        let domain = domain.to_owned();
        self.change_by(Use { domain, now }).await
    }

    /// Notes that the policy of a domain could not be fetched, and when to fetch it again.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn retry_sts_policy(&self, domain: &str, refresh: Time) -> Result<(), StoreError> {
        let domain = domain.to_owned();
        self.change_by(Retry { domain, refresh }).await
    }

    /// Removes the policy of a domain. Nothing happens if there is none.
    ///
    /// # Errors
    /// If the change can't be made durable.
    pub async fn remove_sts_policy(&self, domain: &str) -> Result<(), StoreError> {
        let domain = domain.to_owned();
        self.change_by(Remove { domain }).await
    }

    /// The policy of a domain. Its end may be over.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn sts_policy(&self, domain: &str) -> Result<Option<StsPolicy>, StoreError> {
        self.ask(One { domain }).await
    }

    /// The policies that are fetched again next, in order, `max` at most.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn next_sts_refreshes(&self, max: usize) -> Result<Vec<StsPolicy>, StoreError> {
        self.ask(NextRefreshes { max }).await
    }
}

#[cfg(test)]
pub(crate) fn samples() -> Vec<Op> {
    let domain = || "a.test".to_owned();
    vec![
        Op::Keep(Keep(tests::policy("a.test", 1))),
        Op::Use(Use {
            domain: domain(),
            now: Time(2),
        }),
        Op::Retry(Retry {
            domain: domain(),
            refresh: Time(3),
        }),
        Op::Remove(Remove { domain: domain() }),
    ]
}
