//! The addresses where TLS works only in part, so that each connection does not fail first.
//!
//! | what failed | what is done | for how long |
//! |---|---|---|
//! | the handshake, where plain text is allowed | plain text | [`PLAIN_FOR`] |
//! | a first message with a post-quantum key share | without it | [`CLASSICAL_FOR`] |

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_smtp::client::TlsFault;
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
    plain: Mutex<Until<K, Arc<TlsFault>>>,
    classical: Mutex<Until<K, ()>>,
}

impl<K: Clone + Eq + Hash> Habits<K> {
    pub(crate) fn new() -> Self {
        Self {
            plain: Mutex::new(Until::new(PLAIN_FOR)),
            classical: Mutex::new(Until::new(CLASSICAL_FOR)),
        }
    }

    /// TLS failed there lately by this fault, and plain text did not.
    pub(crate) fn plain_after(&self, address: &K, now: Moment) -> Option<Arc<TlsFault>> {
        lock(&self.plain).get(address, now)
    }

    /// Plain text worked after TLS failed by this fault.
    pub(crate) fn was_plain(&self, address: K, fault: Arc<TlsFault>, now: Moment) {
        lock(&self.plain).note(address, fault, now);
    }

    /// TLS works there without a post-quantum key share, and did not with one.
    pub(crate) fn is_classical(&self, address: &K, now: Moment) -> bool {
        lock(&self.classical).get(address, now).is_some()
    }

    /// TLS worked without a post-quantum key share after it failed with one.
    pub(crate) fn was_classical(&self, address: K, now: Moment) {
        lock(&self.classical).note(address, (), now);
    }
}

/// The lock is held for a moment, never over a wait.
fn lock<K, V>(until: &Mutex<Until<K, V>>) -> MutexGuard<'_, Until<K, V>> {
    until.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys that are remembered for one length of time, each with a value. So they end in the order in
/// which they came.
#[derive(Debug)]
struct Until<K, V> {
    length: Duration,
    ends: HashMap<K, (Moment, V)>,
    order: VecDeque<(Moment, K)>,
}

impl<K: Clone + Eq + Hash, V: Clone> Until<K, V> {
    fn new(length: Duration) -> Self {
        Self {
            length,
            ends: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    fn get(&self, key: &K, now: Moment) -> Option<V> {
        let (end, value) = self.ends.get(key)?;
        (now < *end).then(|| value.clone())
    }

    fn note(&mut self, key: K, value: V, now: Moment) {
        while let Some((end, first)) = self.order.front()
            && (*end <= now || self.order.len() >= MAX)
        {
            // A key that came again has a later end.
            if self.ends.get(first).is_some_and(|(known, _)| known == end) {
                self.ends.remove(first);
            }
            self.order.pop_front();
        }
        let end = now.after(self.length);
        self.ends.insert(key.clone(), (end, value));
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
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure);
        let fault = Arc::new(TlsFault::of_check(&alert, &[]));
        habits.was_plain("a", Arc::clone(&fault), at(0));
        habits.was_classical("a", at(0));
        assert_eq!(habits.plain_after(&"a", at(3599)), Some(fault));
        assert_eq!(habits.plain_after(&"b", at(0)), None);
        assert_eq!(habits.plain_after(&"a", at(3600)), None);
        let week = 7 * 24 * 3600;
        assert!(habits.is_classical(&"a", at(week - 1)));
        assert!(!habits.is_classical(&"a", at(week)));
    }

    #[test]
    fn an_address_that_comes_again_begins_anew() {
        let mut until = Until::new(Duration::from_secs(100));
        until.note("a", 1, at(0));
        until.note("a", 2, at(50));
        until.note("b", 3, at(101));
        assert_eq!(
            (until.get(&"a", at(149)), until.get(&"a", at(150))),
            (Some(2), None)
        );
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let mut until = Until::new(Duration::from_secs(100));
        for number in 0..2 * MAX {
            until.note(number, (), at(0));
        }
        assert!(until.ends.len() <= MAX && until.order.len() <= MAX);
        assert_eq!(until.get(&(2 * MAX - 1), at(0)), Some(()));
        assert_eq!(until.get(&0, at(0)), None);
    }
}
