//! Places for questions: how many are asked at once, and how many wait for that.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::DnsError;

/// How many questions are asked at once. Each may need a socket.
pub(crate) const ASKED_MAX: usize = 256;

/// How many questions wait for a place. With more of them, few of the last would get a place before
/// their time is over.
const WAITING_MAX: usize = 16_384;

/// The places of one kind of callers. Those who wait get them in the order in which they came.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            free: Arc::new(Semaphore::new(ASKED_MAX)),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }
}

impl Places {
    /// Waits for a place.
    ///
    /// # Errors
    /// [`DnsError::Temporary`] if too many wait.
    pub(crate) async fn take(&self) -> Result<OwnedSemaphorePermit, DnsError> {
        if let Ok(place) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(place);
        }
        let too_many = || DnsError::Temporary("too many DNS questions are open".to_owned());
        let _waits = self.waiting.try_acquire().map_err(|_| too_many())?;
        let place = Arc::clone(&self.free).acquire_owned().await;
        place.map_err(|_| too_many())
    }

    /// How many places are free, and how many questions wait for one.
    #[cfg(test)]
    pub(crate) fn free_and_waiting(&self) -> (usize, usize) {
        let waiting = WAITING_MAX - self.waiting.available_permits();
        (self.free.available_permits(), waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let places = Places::default();
        let mut taken = Vec::new();
        for _ in 0..ASKED_MAX {
            taken.push(places.take().await.unwrap());
        }
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(places.take())).collect();
        for one in &mut waiting {
            let polled = std::future::poll_fn(|cx| Poll::Ready(one.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
        }
        assert!(matches!(places.take().await, Err(DnsError::Temporary(_))));
        // Who gives up leaves its place to the next one.
        waiting.pop();
        assert_eq!(places.free_and_waiting(), (0, WAITING_MAX - 1));
        taken.pop();
        let first = waiting.remove(0).await;
        assert!(first.is_ok());
        drop((waiting, taken, first));
        assert_eq!(places.free_and_waiting(), (ASKED_MAX, 0));
    }
}
