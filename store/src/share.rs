//! What those who read texts as a whole may take of memory, all together.
//!
//! A share is taken once, when all that it is for is there: so nobody holds memory by being slow, and none waits for another
//! that waits for it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of a permit.
const UNIT: u64 = 1024;
/// What has no more bytes counts as nothing.
const SMALL: u64 = 16 << 10;

/// So much memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    permits: Arc<Semaphore>,
    most: u32,
}

/// A part of it, given back when it is dropped.
#[derive(Debug, Default)]
#[must_use]
pub struct Share {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Memory {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let most = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        Self {
            permits: Arc::new(Semaphore::new(most as usize)),
            most,
        }
    }

    /// Waits until there are so many bytes. What takes more than there are goes alone, and what is small counts as nothing.
    pub async fn take(&self, bytes: u64) -> Share {
        if bytes <= SMALL {
            return Share::default();
        }
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.permits);
        Share {
            // It is never closed.
            _permit: permits.acquire_many_owned(units.min(self.most)).await.ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;

    /// What can be had without waiting.
    async fn at_once(memory: &Memory, bytes: u64) -> Option<Share> {
        tokio::select! {
            biased;
            share = memory.take(bytes) => Some(share),
            () = future::ready(()) => None,
        }
    }

    #[tokio::test]
    async fn shares_are_waited_for_and_what_is_too_large_goes_alone() {
        let memory = Memory::new(1 << 20);
        let small = memory.take(SMALL).await;
        let large = memory.take(u64::MAX).await;
        assert!(at_once(&memory, SMALL + 1).await.is_none());
        assert!(at_once(&memory, 1).await.is_some());
        drop(large);
        let half = at_once(&memory, 512 << 10).await.unwrap();
        let other_half = at_once(&memory, 512 << 10).await.unwrap();
        assert!(at_once(&memory, SMALL + 1).await.is_none());
        drop((half, other_half, small));
        assert!(at_once(&memory, 1 << 20).await.is_some());
    }
}
