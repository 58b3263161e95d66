//! Fair shares of places and memory among accounts.
//!
//! [`Places`] counts places for work, [`MemoryBudget`] counts bytes. Both have a limit for all
//! accounts together and a smaller one for each account, so that no account takes everything.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that one permit of a memory budget stands for.
const UNIT: u64 = 1024;
/// The number of known accounts above which idle accounts are forgotten.
const ACCOUNTS: usize = 1000;

/// Places for work that accounts share. Clones count the same places.
#[derive(Clone, Debug)]
pub struct Places {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    all: Arc<Semaphore>,
    /// The most places of one account.
    each: u32,
    accounts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Places, or bytes of memory, that an account holds. They are free again when the share is
/// dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Share {
    _permits: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Places {
    /// `all` places, of which one account has at most `each`.
    #[must_use]
    pub fn new(all: u32, each: u32) -> Self {
        Self {
            shared: Arc::new(Shared {
                all: Arc::new(Semaphore::new(all as usize)),
                each: each.min(all),
                accounts: Mutex::default(),
            }),
        }
    }

    fn of(&self, account: &str) -> Arc<Semaphore> {
        let accounts = self.shared.accounts.lock();
        let mut accounts = accounts.unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = accounts.get(account) {
            return Arc::clone(own);
        }
        if accounts.len() >= ACCOUNTS {
            accounts.retain(|_, own| Arc::strong_count(own) > 1);
        }
        let own = Arc::new(Semaphore::new(self.shared.each as usize));
        accounts.insert(account.to_owned(), Arc::clone(&own));
        own
    }

    /// Waits for `places` more places for an account. A number above the account's limit counts as
    /// the limit.
    ///
    /// A caller that holds a share must not wait for a second one: others may wait for the first.
    pub async fn take(&self, account: &str, places: u32) -> Share {
        let places = places.min(self.shared.each);
        let own = self.of(account).acquire_many_owned(places).await;
        let all = Arc::clone(&self.shared.all);
        let all = all.acquire_many_owned(places).await;
        Share {
            // The semaphores are never closed, so both are there.
            _permits: own.ok().zip(all.ok()),
        }
    }

    /// How many places are free.
    #[must_use]
    pub fn free(&self) -> u32 {
        u32::try_from(self.shared.all.available_permits()).unwrap_or(u32::MAX)
    }

    /// Takes `places` more places for an account. None if they are not free now.
    #[must_use]
    pub fn try_take(&self, account: &str, places: u32) -> Option<Share> {
        let own = self.of(account).try_acquire_many_owned(places).ok()?;
        let all = Arc::clone(&self.shared.all);
        let all = all.try_acquire_many_owned(places).ok()?;
        Some(Share {
            _permits: Some((own, all)),
        })
    }
}

/// Memory for texts that are read as a whole. Clones count the same memory.
///
/// A caller takes its share after all its input is there, so a slow client holds no memory.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    permits: Places,
}

impl MemoryBudget {
    /// Up to this number of bytes a share is free of charge.
    pub const SMALL: u64 = 16 << 10;

    /// A budget of `bytes`, of which one account has at most half.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let all = units(bytes);
        Self {
            permits: Places::new(all, all / 2),
        }
    }

    /// Waits for `bytes` more bytes for an account, with the rules of [`Places::take`]. Up to
    /// [`SMALL`](Self::SMALL) bytes count as none.
    pub async fn take(&self, account: &str, bytes: u64) -> Share {
        if bytes <= Self::SMALL {
            return Share::default();
        }
        self.permits.take(account, units(bytes)).await
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;

    /// A share that is free now.
    async fn at_once(memory: &MemoryBudget, account: &str, bytes: u64) -> Option<Share> {
        tokio::select! {
            biased;
            share = memory.take(account, bytes) => Some(share),
            () = future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn callers_wait_for_shares_and_no_account_has_all() {
        let memory = MemoryBudget::new(1 << 20);
        let small = memory.take("ann", MemoryBudget::SMALL).await;
        let large = memory.take("ann", u64::MAX).await;
        assert!(
            at_once(&memory, "ann", MemoryBudget::SMALL + 1)
                .await
                .is_none()
        );
        assert!(at_once(&memory, "ann", 1).await.is_some());
        let other = at_once(&memory, "bob", 512 << 10).await.unwrap();
        assert!(
            at_once(&memory, "carl", MemoryBudget::SMALL + 1)
                .await
                .is_none()
        );
        drop((large, small));
        assert!(at_once(&memory, "carl", 256 << 10).await.is_some());
        drop(other);
        assert!(at_once(&memory, "bob", 512 << 10).await.is_some());
    }

    #[test]
    fn taken_places_are_not_given_again() {
        let places = Places::new(3, 2);
        let (first, second) = (places.try_take("ann", 1), places.try_take("ann", 1));
        assert!(first.is_some() && second.is_some() && places.try_take("ann", 1).is_none());
        let third = places.try_take("bob", 1);
        assert!(third.is_some() && places.try_take("bob", 1).is_none());
        drop(first);
        assert!(places.try_take("bob", 1).is_some() && places.try_take("ann", 2).is_none());
    }

    #[test]
    fn idle_accounts_are_forgotten() {
        let places = Places::new(u32::MAX / 16, 1);
        let kept = places.try_take("kept", 1);
        for account in 0..2 * ACCOUNTS {
            assert!(places.try_take(&account.to_string(), 1).is_some());
        }
        assert!(places.shared.accounts.lock().unwrap().len() <= ACCOUNTS);
        assert!(places.try_take("kept", 1).is_none());
        drop(kept);
        assert!(places.try_take("kept", 1).is_some());
    }
}
