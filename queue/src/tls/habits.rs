//! The addresses where TLS works only in part, so that each connection does not fail first.
//!
//! | what failed | what is done | for how long |
//! |---|---|---|
//! | the handshake, where plain text is allowed | plain text | [`PLAIN_FOR`] |
//! | a first message with a post-quantum key share | without it | [`CLASSICAL_FOR`] |

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_store::Moment;

/// How long plain text goes to an address after a failed handshake.
const PLAIN_FOR: Duration = Duration::from_secs(60 * 60);
/// How long an address gets no post-quantum key share.
const CLASSICAL_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How many addresses are remembered for each.
const MAX: usize = 10_000;

/// What is known of addresses `K`.
#[derive(Debug)]
pub(crate) struct Habits<K> {
    plain: Mutex<Until<K>>,
    classical: Mutex<Until<K>>,
}

impl<K: Clone + Eq + Hash> Habits<K> {
    pub(crate) fn new() -> Self {
        Self {
            plain: Mutex::new(Until::new(PLAIN_FOR)),
            classical: Mutex::new(Until::new(CLASSICAL_FOR)),
        }
    }

    /// TLS failed there lately, and plain text did not.
    pub(crate) fn is_plain(&self, address: &K, now: Moment) -> bool {
        lock(&self.plain).holds(address, now)
    }

    /// Plain text worked after TLS failed.
    pub(crate) fn was_plain(&self, address: K, now: Moment) {
        lock(&self.plain).note(address, now);
    }

    /// TLS works there without a post-quantum key share, and did not with one.
    pub(crate) fn is_classical(&self, address: &K, now: Moment) -> bool {
        lock(&self.classical).holds(address, now)
    }

    /// TLS worked without a post-quantum key share after it failed with one.
    pub(crate) fn was_classical(&self, address: K, now: Moment) {
        lock(&self.classical).note(address, now);
    }
}

/// The lock is held for a moment, never over a wait.
fn lock<K>(until: &Mutex<Until<K>>) -> MutexGuard<'_, Until<K>> {
    until.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys that are remembered for one length of time. So they end in the order in which they came.
#[derive(Debug)]
struct Until<K> {
    length: Duration,
    ends: HashMap<K, Moment>,
    order: VecDeque<(Moment, K)>,
}

impl<K: Clone + Eq + Hash> Until<K> {
    fn new(length: Duration) -> Self {
        Self {
            length,
            ends: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn holds(&self, key: &K, now: Moment) -> bool {
        self.ends.get(key).is_some_and(|end| now < *end)
    }

    fn note(&mut self, key: K, now: Moment) {
        while let Some((end, first)) = self.order.front()
            && (*end <= now || self.order.len() >= MAX)
        {
            // A key that came again has a later end.
            if self.ends.get(first) == Some(end) {
                self.ends.remove(first);
            }
            self.order.pop_front();
        }
        let end = now.after(self.length);
        self.ends.insert(key.clone(), end);
        self.order.push_back((end, key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_known_of_an_address_ends() {
        let habits = Habits::new();
        habits.was_plain("a", at(0));
        habits.was_classical("a", at(0));
        assert!(habits.is_plain(&"a", at(3599)) && !habits.is_plain(&"b", at(0)));
        assert!(!habits.is_plain(&"a", at(3600)));
        let week = 7 * 24 * 3600;
        assert!(habits.is_classical(&"a", at(week - 1)));
        assert!(!habits.is_classical(&"a", at(week)));
    }

    #[test]
    fn an_address_that_comes_again_begins_anew() {
        let mut until = Until::new(Duration::from_secs(100));
        until.note("a", at(0));
        until.note("a", at(50));
        until.note("b", at(101));
        assert!(until.holds(&"a", at(149)) && !until.holds(&"a", at(150)));
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let mut until = Until::new(Duration::from_secs(100));
        for number in 0..2 * MAX {
            until.note(number, at(0));
        }
        assert!(until.ends.len() <= MAX && until.order.len() <= MAX);
        assert!(until.holds(&(2 * MAX - 1), at(0)) && !until.holds(&0, at(0)));
    }
}
