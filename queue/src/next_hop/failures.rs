//! What failed in a row for a destination, and until when it is not tried again.

use std::{collections::HashMap, hash::Hash, time::Duration};

use postrider_smtp::DeliveryStatus;
use postrider_store::Moment;

use crate::schedule::{self, Wait};

/// How long after the time of the next try the earlier failures count.
const COUNTS_FOR: Duration = Duration::from_secs(60 * 60);
/// How many keys are remembered.
const KEYS_MAX: usize = 20_000;

/// The failures of one key in a row.
#[derive(Clone, Debug)]
struct Failure {
    times: usize,
    /// Nothing is tried before.
    until: Moment,
    status: DeliveryStatus,
    /// Our resolver seems to be out of order.
    is_ours: bool,
}

/// The failures by their keys.
#[derive(Debug)]
pub(super) struct Failures<K>(HashMap<K, Failure>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Failures<K> {
    /// A try failed. Gives when the next one is to be made. `pause` changes how long that is.
    /// `is_ours`: our resolver seems to be out of order.
    pub(super) fn failed(
        &mut self,
        key: K,
        (status, is_ours): (&DeliveryStatus, bool),
        now: Moment,
        pause: impl FnOnce(Duration) -> Duration,
    ) -> Moment {
        if self.0.len() >= KEYS_MAX {
            self.0
                .retain(|_, failure| now < failure.until.after(COUNTS_FOR));
        }
        let known = self.0.get(&key);
        let known = known.filter(|failure| now < failure.until.after(COUNTS_FOR));
        let times = known.map_or(0, |failure| failure.times);
        let until = now.after(pause(schedule::down_for(times)));
        if self.0.len() < KEYS_MAX || self.0.contains_key(&key) {
            let failure = Failure {
                times: times.saturating_add(1),
                until,
                status: status.clone(),
                is_ours,
            };
            self.0.insert(key, failure);
        }
        until
    }

    /// Until when nothing is tried, and what came of the last try.
    pub(super) fn last(&self, key: &K, now: Moment) -> Option<Wait> {
        let failure = self.0.get(key).filter(|failure| now < failure.until)?;
        Some(Wait {
            until: failure.until,
            failing: !failure.is_ours,
            status: failure.status.clone(),
        })
    }

    /// Lets some be tried again. How often they failed stays.
    pub(super) fn try_now(&mut self, which: impl Fn(&K) -> bool, now: Moment) {
        for (_, failure) in self.0.iter_mut().filter(|(key, _)| which(key)) {
            failure.until = failure.until.min(now);
        }
    }

    /// A try succeeded.
    pub(super) fn forget(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Forgets the failures while our resolver seemed to be out of order.
    pub(super) fn forget_ours(&mut self) {
        self.0.retain(|_, failure| !failure.is_ours);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use postrider_smtp::{Cause, EnhancedCode};

    use super::*;

    #[test]
    fn the_number_of_failures_is_bounded() {
        let mut failures = Failures::default();
        let code = EnhancedCode::DIRECTORY_FAILURE;
        let status = DeliveryStatus::transient(Cause::Dns, code, "no");
        let at = |seconds| Moment(Duration::from_secs(seconds));
        let mut fail = |key, now| failures.failed(key, (&status, false), now, |pause| pause);
        for number in 0..=KEYS_MAX {
            assert_eq!(fail(number, at(0)), at(60));
        }
        assert_eq!(fail(0, at(1)), at(121));
        assert_eq!(fail(KEYS_MAX, at(1)), at(61), "it was not remembered");
        fail(KEYS_MAX, at(10_000));
        assert_eq!(failures.0.len(), 1);
    }
}
