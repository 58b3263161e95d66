//! Until when the claims of this process hold. They end with the process, so they are not stored.
//!
//! They hold by monotonic time: a wall clock that is set ends no claim, so it delivers nothing
//! twice.

use std::collections::{BTreeSet, HashMap};

use crate::{Moment, QueueId};

#[derive(Debug, Default)]
pub(super) struct Leases {
    by_time: BTreeSet<(Moment, QueueId)>,
    until: HashMap<QueueId, Moment>,
}

impl Leases {
    /// Sets or prolongs a lease.
    pub(super) fn set(&mut self, id: QueueId, until: Moment) {
        self.remove(id);
        self.by_time.insert((until, id));
        self.until.insert(id, until);
    }

    pub(super) fn remove(&mut self, id: QueueId) {
        if let Some(until) = self.until.remove(&id) {
            self.by_time.remove(&(until, id));
        }
    }

    pub(super) fn contains(&self, id: QueueId) -> bool {
        self.until.contains_key(&id)
    }

    /// Takes out the leases that ran out.
    pub(super) fn lapsed(&mut self, now: Moment) -> Vec<QueueId> {
        let mut ids = Vec::new();
        while let Some((until, id)) = self
            .by_time
            .first()
            .copied()
            .filter(|(until, _)| *until <= now)
        {
            self.by_time.remove(&(until, id));
            self.until.remove(&id);
            ids.push(id);
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn moment(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn a_lease_ends_once_and_can_be_prolonged() {
        let mut leases = Leases::default();
        for id in 1..=3 {
            leases.set(QueueId(id), moment(10));
        }
        leases.set(QueueId(2), moment(20));
        leases.remove(QueueId(3));
        assert_eq!(leases.lapsed(moment(9)), []);
        assert_eq!(leases.lapsed(moment(10)), [QueueId(1)]);
        assert!(leases.contains(QueueId(2)) && !leases.contains(QueueId(1)));
        assert_eq!(leases.lapsed(moment(99)), [QueueId(2)]);
        assert_eq!(leases.lapsed(moment(99)), []);
    }
}
