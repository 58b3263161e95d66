//! What requests may take of memory, all together.
//!
//! A request takes its share when it is there as a whole, so that no client holds memory by being slow, and takes it once,
//! so that none waits for another that waits for it. What is small counts as nothing.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Bytes of a permit.
const UNIT: u64 = 1024;
/// What has no more bytes counts as nothing.
pub(crate) const SMALL: u64 = 16 << 10;
/// How many copies of a text there are at most while a message is made of it: the JSON, what was read of it, its lines, and
/// their transfer encoding.
pub(crate) const COPIES: u64 = 6;
/// What a value of JSON takes besides its text, at most.
const VALUE: u64 = 128;
/// The most values in a request.
const VALUES_MAX: u64 = 1_000_000;

/// Memory for requests. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    permits: Arc<Semaphore>,
    most: u32,
}

/// A share, given back when it is dropped.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Share {
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

    /// Waits until there are so many bytes. What takes more than there are goes alone.
    pub(crate) async fn take(&self, bytes: u64) -> Share {
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

/// Counts what reading a text of JSON will take.
#[derive(Debug, Default)]
pub(crate) struct JsonSize {
    bytes: u64,
    values: u64,
}

impl JsonSize {
    /// The next piece of the text.
    pub(crate) fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        // Those within strings count too. It is an upper bound.
        let marks = piece
            .iter()
            .filter(|byte| matches!(byte, b',' | b'[' | b'{'));
        self.values += marks.count() as u64;
    }

    /// Bytes of memory.
    ///
    /// # Errors
    /// If there are more values than any request needs.
    pub(crate) fn memory(&self) -> Result<u64, ApiError> {
        if self.bytes <= SMALL {
            return Ok(0);
        }
        if self.values > VALUES_MAX {
            let text = format!("the request has more than {VALUES_MAX} values");
            return Err(ApiError::protocol(text));
        }
        Ok(self.bytes * COPIES + self.values * VALUE)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn shares_are_waited_for_and_what_is_too_large_goes_alone() {
        let memory = Memory::new(1 << 20);
        let small = memory.take(SMALL).await;
        let large = memory.take(u64::MAX).await;
        assert!(memory.take(SMALL + 1).now_or_never().is_none());
        let another_small = memory.take(1).now_or_never();
        assert!(another_small.is_some());
        drop(large);
        let half = memory.take(512 << 10).now_or_never().unwrap();
        let other_half = memory.take(512 << 10).now_or_never().unwrap();
        assert!(memory.take(SMALL + 1).now_or_never().is_none());
        drop((half, other_half, small));
        assert!(memory.take(1 << 20).now_or_never().is_some());
    }

    fn memory(text: &str) -> Result<u64, ApiError> {
        let mut size = JsonSize::default();
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        size.add(first);
        size.add(second);
        size.memory()
    }

    #[test]
    fn values_count_and_there_is_an_end_of_them() {
        assert_eq!(memory("{}").unwrap(), 0);
        assert_eq!(memory(&"\"".repeat(20_000)).unwrap(), 120_000);
        let list = "0,".repeat(20_000);
        assert_eq!(memory(&list).unwrap(), 240_000 + 2_560_000);
        assert!(memory(&",".repeat(1_000_001)).is_err());
    }
}
