//! What those who work for accounts may use at the same time, all together, and one account of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a permit.
const UNIT: u64 = 1024;
/// How many accounts are known before it is looked which of them use nothing.
const ACCOUNTS: usize = 1000;

/// Places for work. Clones share them.
#[derive(Clone, Debug)]
pub struct Room {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    all: Arc<Semaphore>,
    /// Places of an account.
    each: u32,
    accounts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// Places that are taken, given back when it is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Share {
    _permits: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

impl Room {
    /// So many places, of which an account has `each` at most.
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

    /// Waits until an account has so many more; what is more than it may ever have counts as all that it may. Who has some
    /// must not wait for more: others may wait for what it has.
    pub async fn take(&self, account: &str, places: u32) -> Share {
        let places = places.min(self.shared.each);
        let own = self.of(account).acquire_many_owned(places).await;
        let all = Arc::clone(&self.shared.all);
        let all = all.acquire_many_owned(places).await;
        Share {
            // They are never closed.
            _permits: own.ok().zip(all.ok()),
        }
    }

    /// So many more for an account, if they are to be had now.
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

/// Memory for those who read texts as a whole. A share is taken when all that it is for is there: so nobody holds memory by
/// being slow. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    room: Room,
}

impl Memory {
    /// What has no more bytes counts as nothing.
    pub const SMALL: u64 = 16 << 10;

    /// So many bytes, of which an account has a half at most.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let all = units(bytes);
        Self {
            room: Room::new(all, all / 2),
        }
    }

    /// Waits until an account has so many bytes, as [`Room::take`]. What is small counts as nothing.
    pub async fn take(&self, account: &str, bytes: u64) -> Share {
        if bytes <= Self::SMALL {
            return Share::default();
        }
        self.room.take(account, units(bytes)).await
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;

    /// What can be had without waiting.
    async fn at_once(memory: &Memory, account: &str, bytes: u64) -> Option<Share> {
        tokio::select! {
            biased;
            share = memory.take(account, bytes) => Some(share),
            () = future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn shares_are_waited_for_and_no_account_has_all() {
        let memory = Memory::new(1 << 20);
        let small = memory.take("ann", Memory::SMALL).await;
        let large = memory.take("ann", u64::MAX).await;
        assert!(at_once(&memory, "ann", Memory::SMALL + 1).await.is_none());
        assert!(at_once(&memory, "ann", 1).await.is_some());
        let other = at_once(&memory, "bob", 512 << 10).await.unwrap();
        assert!(at_once(&memory, "carl", Memory::SMALL + 1).await.is_none());
        drop((large, small));
        assert!(at_once(&memory, "carl", 256 << 10).await.is_some());
        drop(other);
        assert!(at_once(&memory, "bob", 512 << 10).await.is_some());
    }

    #[test]
    fn places_that_are_not_there_are_not_given() {
        let room = Room::new(3, 2);
        let (first, second) = (room.try_take("ann", 1), room.try_take("ann", 1));
        assert!(first.is_some() && second.is_some() && room.try_take("ann", 1).is_none());
        let third = room.try_take("bob", 1);
        assert!(third.is_some() && room.try_take("bob", 1).is_none());
        drop(first);
        assert!(room.try_take("bob", 1).is_some() && room.try_take("ann", 2).is_none());
    }

    #[test]
    fn accounts_that_use_nothing_are_forgotten() {
        let room = Room::new(u32::MAX / 16, 1);
        let kept = room.try_take("kept", 1);
        for account in 0..2 * ACCOUNTS {
            assert!(room.try_take(&account.to_string(), 1).is_some());
        }
        assert!(room.shared.accounts.lock().unwrap().len() <= ACCOUNTS);
        assert!(room.try_take("kept", 1).is_none());
        drop(kept);
        assert!(room.try_take("kept", 1).is_some());
    }
}
