//! Accounts that somebody works on, so that they are not removed, or made anew, meanwhile.
//!
//! Whoever gives an account something of its own holds it: a message, a suppression, deleted mail
//! that comes back. Whoever removes an account has it alone, takes it out of the configuration, and
//! then removes what it has. So nothing is left of an account that is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::Queue;

/// Above this number of known names, those that nobody holds are forgotten.
const NAMES: usize = 1000;

/// Who works on which account at this moment. Names are those of accounts that are there, were
/// there, or are to be made.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<BTreeMap<String, Arc<RwLock<()>>>>);

/// An account stays while this is there.
#[derive(Debug)]
#[must_use]
pub struct AccountHeld {
    _guard: OwnedRwLockReadGuard<()>,
}

/// While this is there, nobody else holds an account, makes it, or removes it.
#[derive(Debug)]
#[must_use]
pub struct AccountsAlone {
    _guards: Vec<OwnedRwLockWriteGuard<()>>,
}

impl Accounts {
    fn of(&self, name: &str) -> Arc<RwLock<()>> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = names.get(name) {
            return Arc::clone(lock);
        }
        if names.len() >= NAMES {
            names.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        let lock = Arc::<RwLock<()>>::default();
        names.insert(name.to_owned(), Arc::clone(&lock));
        lock
    }

    /// Waits while the account is made or removed. Whether it is there then is for the caller to
    /// see. Who holds an account must not wait for another.
    pub(crate) async fn hold(&self, name: &str) -> AccountHeld {
        AccountHeld {
            _guard: self.of(name).read_owned().await,
        }
    }

    /// Waits until nobody else holds one of the accounts.
    pub(crate) async fn alone(&self, names: impl IntoIterator<Item = &str>) -> AccountsAlone {
        // All callers take the names in one order, so that they never wait for each other.
        let names: BTreeSet<&str> = names.into_iter().collect();
        let mut guards = Vec::with_capacity(names.len());
        for name in names {
            guards.push(self.of(name).write_owned().await);
        }
        AccountsAlone { _guards: guards }
    }
}

impl Queue {
    /// Keeps an account from being removed or made while the result is there. None: there is no
    /// such account. Whoever holds one must not wait for another, and [`Queue::add`] holds it too.
    pub async fn hold_account(&self, name: &str) -> Option<AccountHeld> {
        let held = self.accounts.hold(name).await;
        let is_there = self.config.load().accounts.contains_key(name);
        is_there.then_some(held)
    }

    /// Waits until nobody holds one of these accounts, to make or remove them.
    pub async fn have_accounts_alone(
        &self,
        names: impl IntoIterator<Item = &str>,
    ) -> AccountsAlone {
        self.accounts.alone(names).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn an_account_is_held_by_many_or_by_one_alone() {
        let accounts = Accounts::default();
        let held = accounts.hold("ann").now_or_never().unwrap();
        assert!(accounts.hold("ann").now_or_never().is_some());
        let bob = accounts.alone(["bob"]).now_or_never().unwrap();
        assert!(accounts.alone(["cat", "ann"]).now_or_never().is_none());
        drop(held);
        let both = accounts.alone(["cat", "ann", "ann"]).now_or_never();
        assert!(both.is_some() && accounts.hold("ann").now_or_never().is_none());
        drop((both, bob));
        assert!(accounts.hold("ann").now_or_never().is_some());
    }

    #[test]
    fn names_that_nobody_holds_are_forgotten() {
        let accounts = Accounts::default();
        let held = accounts.hold("held").now_or_never().unwrap();
        for number in 0..=NAMES {
            drop(accounts.hold(&number.to_string()).now_or_never());
        }
        assert!(accounts.0.lock().unwrap().len() < NAMES);
        assert!(accounts.alone(["held"]).now_or_never().is_none());
        drop(held);
    }
}
