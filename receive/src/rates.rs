//! Limits on how much comes from a network in some time: connections, messages, recipients, bytes.
//!
//! One counter type serves all of them. It counts the network of an address in three sizes, and the
//! wider ones have a multiple of the limit ([`Size::factor`](crate::network::Size::factor)).
//! Clients on this machine are not counted.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_config::Static;
use postrider_store::Moment;

use crate::network::{Network, Size};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest number of counts of a counter: about 6 MiB.
const COUNTS_MAX: usize = 100_000;
/// New connections of an address in a minute.
const CONNECTIONS: u64 = 300;
/// Messages of an address to an account in a minute, and in a day as a multiple of that.
const ACCOUNT_MESSAGES: (u64, u64) = (500, 20);
/// Bytes of an address to an account in a minute, and in a day as a multiple of that.
const ACCOUNT_BYTES: (u64, u64) = (1_000_000_000, 3);

/// A limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The network that has reached its limit.
    pub network: Network,
    /// The time until it may go on.
    pub wait: Duration,
}

/// The most that one address may bring in some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    window: Duration,
    most: u64,
}

/// Counts what networks bring, for each name apart, and for all together under no name.
#[derive(Debug)]
pub struct RateCounter {
    /// The limits for a minute and for a day.
    limits: [Limit; 2],
    /// Networks and names are kept as hashes, so that they take little memory.
    hasher: RandomState,
    counts: Mutex<HashMap<Key, Count>>,
    max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    size: Size,
    /// Of the network and the name.
    hash: u64,
}

/// What came in each of the windows.
type Count = [Window; 2];

/// What came since the start.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// In milliseconds. A moment has twice the size.
    start: u64,
    amount: u64,
}

impl Window {
    fn fresh(now: Moment) -> Self {
        let start = u64::try_from(now.0.as_millis()).unwrap_or(u64::MAX);
        Self { start, amount: 0 }
    }

    const fn start(&self) -> Moment {
        Moment(Duration::from_millis(self.start))
    }

    fn amount(&self, now: Moment, limit: Limit) -> u64 {
        match now.since(self.start()) < limit.window {
            true => self.amount,
            false => 0,
        }
    }
}

impl RateCounter {
    /// A counter with the most of an address in a minute, and in a day.
    #[must_use]
    pub fn new(minute: u64, day: u64) -> Self {
        let limit = |window, most| Limit { window, most };
        Self {
            limits: [limit(MINUTE, minute), limit(DAY, day)],
            hasher: RandomState::new(),
            counts: Mutex::default(),
            max: COUNTS_MAX,
        }
    }

    /// A counter with a limit for a minute only.
    #[must_use]
    pub fn per_minute(minute: u64) -> Self {
        Self::new(minute, u64::MAX)
    }

    /// Whether an address has reached a limit. Nothing is counted.
    ///
    /// # Errors
    /// The limit that it has reached and that takes longest to end.
    pub fn look(&self, address: IpAddr, name: Option<&str>, now: Moment) -> Result<(), Exceeded> {
        if address.to_canonical().is_loopback() {
            return Ok(());
        }
        self.reached(&self.counts(), address, name, now)
    }

    /// Counts what an address brings, unless a limit was reached before.
    ///
    /// # Errors
    /// As [`Self::look`]. Then nothing is counted.
    pub fn count(
        &self,
        address: IpAddr,
        name: Option<&str>,
        amount: u64,
        now: Moment,
    ) -> Result<(), Exceeded> {
        if address.to_canonical().is_loopback() {
            return Ok(());
        }
        let mut counts = self.counts();
        self.reached(&counts, address, name, now)?;
        if counts.len() >= self.max {
            self.make_room(&mut counts, now);
        }
        let fresh = Window::fresh(now);
        for network in Network::around(address) {
            let key = self.key(network, name);
            let count = counts.entry(key).or_insert([fresh; 2]);
            for (window, limit) in count.iter_mut().zip(self.limits) {
                if window.amount(now, limit) == 0 {
                    *window = fresh;
                }
                window.amount = window.amount.saturating_add(amount);
            }
        }
        Ok(())
    }

    fn reached(
        &self,
        counts: &HashMap<Key, Count>,
        address: IpAddr,
        name: Option<&str>,
        now: Moment,
    ) -> Result<(), Exceeded> {
        if counts.is_empty() {
            return Ok(());
        }
        let reached = Network::around(address).into_iter().filter_map(|network| {
            let count = counts.get(&self.key(network, name))?;
            let wait = self.wait(network.size(), count, now)?;
            Some(Exceeded { network, wait })
        });
        match reached.max_by_key(|exceeded| exceeded.wait) {
            Some(exceeded) => Err(exceeded),
            None => Ok(()),
        }
    }

    fn key(&self, network: Network, name: Option<&str>) -> Key {
        Key {
            size: network.size(),
            hash: self.hasher.hash_one((network, name)),
        }
    }

    /// The time until a network of this size may go on. None: it has not reached a limit.
    fn wait(&self, size: Size, count: &Count, now: Moment) -> Option<Duration> {
        let factor = u64::from(size.factor());
        let windows = count.iter().zip(self.limits);
        let reached = windows.filter_map(|(window, limit)| {
            let reached = window.amount(now, limit) >= limit.most.saturating_mul(factor);
            reached.then(|| window.start().after(limit.window).since(now))
        });
        reached.max()
    }

    /// Forgets counts whose time is over. If that is not enough, forgets counts below their limit,
    /// and then all.
    fn make_room(&self, counts: &mut HashMap<Key, Count>, now: Moment) {
        let is_over = |count: &Count| {
            let mut windows = count.iter().zip(self.limits);
            windows.all(|(window, limit)| {
                // A window without a limit keeps nothing.
                limit.most == u64::MAX || window.amount(now, limit) == 0
            })
        };
        counts.retain(|_, count| !is_over(count));
        if counts.len() >= self.max {
            counts.retain(|key, count| self.wait(key.size, count, now).is_some());
        }
        if counts.len() >= self.max {
            counts.clear();
        }
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Key, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All counters of incoming mail.
#[derive(Debug)]
pub struct Rates {
    /// New connections.
    pub connections: RateCounter,
    /// Messages to the MX.
    pub messages: RateCounter,
    /// Recipients that are named to the MX, taken or refused.
    pub recipients: RateCounter,
    /// Bytes of texts to the MX, taken or refused.
    pub bytes: RateCounter,
    /// Messages to an account.
    pub account_messages: RateCounter,
    /// Bytes to an account.
    pub account_bytes: RateCounter,
}

impl Rates {
    /// Counters with the limits of the configuration.
    #[must_use]
    pub fn new(statics: &Static) -> Self {
        let per_day = |(minute, days): (u64, u64)| RateCounter::new(minute, minute * days);
        let limits = &statics.limits;
        Self {
            connections: RateCounter::per_minute(CONNECTIONS),
            messages: RateCounter::per_minute(limits.messages_per_network.into()),
            recipients: RateCounter::per_minute(limits.recipients_per_network.into()),
            bytes: RateCounter::per_minute(limits.bytes_per_network.0),
            account_messages: per_day(ACCOUNT_MESSAGES),
            account_bytes: per_day(ACCOUNT_BYTES),
        }
    }

    /// Counts a message of this size for each of the accounts, which are named once.
    ///
    /// # Errors
    /// An account gets too much from the network. Then the message counts for none of them.
    pub fn take_message<'a>(
        &self,
        address: IpAddr,
        accounts: impl Iterator<Item = &'a str> + Clone,
        size: u64,
        now: Moment,
    ) -> Result<(), Exceeded> {
        for account in accounts.clone() {
            self.account_messages.look(address, Some(account), now)?;
            self.account_bytes.look(address, Some(account), now)?;
        }
        for account in accounts {
            self.account_messages
                .count(address, Some(account), 1, now)?;
            self.account_bytes
                .count(address, Some(account), size, now)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    /// How many of these addresses are counted before one is refused, and by which network.
    fn fill(
        counter: &RateCounter,
        addresses: impl Iterator<Item = String>,
    ) -> (usize, Option<String>) {
        for (done, address) in addresses.enumerate() {
            if let Err(exceeded) = counter.count(address.parse().unwrap(), None, 1, at(0)) {
                return (done, Some(exceeded.network.to_string()));
            }
        }
        (usize::MAX, None)
    }

    #[test]
    fn wider_networks_have_three_and_nine_times_the_limit() {
        let few = |text: fn(u32) -> String| (0..9999).map(text);
        for (addresses, most, network) in [
            (few(|_| "192.0.2.1".to_owned()), 10, "192.0.2.1"),
            (few(|n| format!("192.0.2.{}", n % 64)), 30, "192.0.2.0/26"),
            (
                few(|n| format!("192.0.{}.{}", n % 8, n / 8)),
                90,
                "192.0.0.0/21",
            ),
            (
                few(|n| format!("2001:db8:1:2::{n:x}")),
                10,
                "2001:db8:1:2::/64",
            ),
            (
                few(|n| format!("2001:db8:1:{n:x}::1")),
                30,
                "2001:db8:1::/48",
            ),
            (few(|n| format!("2001:db8:{n:x}::1")), 90, "2001:db8::/32"),
        ] {
            let counter = RateCounter::per_minute(10);
            let found = fill(&counter, addresses);
            assert_eq!(found, (most, Some(network.to_owned())));
        }
        let counter = RateCounter::per_minute(10);
        for loopback in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let found = fill(&counter, (0..99).map(|_| loopback.to_owned()));
            assert_eq!(found, (usize::MAX, None));
        }
    }

    #[test]
    fn a_limit_ends_with_its_window() {
        let counter = RateCounter::new(2, 5);
        let client = "192.0.2.1".parse().unwrap();
        let count = |name, seconds| counter.count(client, name, 1, at(seconds));
        let wait = |seconds| Duration::from_secs(seconds);
        assert!(count(None, 0).is_ok() && count(None, 50).is_ok());
        assert_eq!(count(None, 59).unwrap_err().wait, wait(1));
        // Another name is counted apart.
        assert!(count(Some("ann"), 59).is_ok());
        assert!(count(None, 60).is_ok() && count(None, 119).is_ok() && count(None, 120).is_ok());
        let exceeded = count(None, 190).unwrap_err();
        assert_eq!(exceeded.wait, DAY - wait(190));
        assert!(counter.look(client, Some("ann"), at(190)).is_ok());
        assert!(count(None, DAY.as_secs()).is_ok());
    }

    #[test]
    fn an_account_gets_so_many_messages_and_bytes() {
        let statics = "hostname = \"mx.test\"\npostmaster.account = \"a\"\n\
                       [listeners.l]\nips = [\"127.0.0.1\"]\n";
        let statics = Static::parse(statics, "postrider.conf").unwrap();
        let rates = Rates::new(&statics);
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let take = |names: &[&str], size, seconds| {
            rates.take_message(client, names.iter().copied(), size, at(seconds))
        };
        for _ in 0..500 {
            take(&["ann"], 1, 0).unwrap();
        }
        assert!(take(&["bob", "ann"], 1, 0).is_err());
        for _ in 0..500 {
            take(&["bob"], 1, 0).unwrap();
        }
        // The refused message did not count for bob, and a large one is the last.
        assert!(take(&["bob"], 1, 59).is_err());
        take(&["eve"], 1_000_000_000, 0).unwrap();
        assert!(take(&["eve"], 1, 59).is_err());
        for minute in 1..20 {
            for _ in 0..500 {
                take(&["ann"], 1, 60 * minute).unwrap();
            }
        }
        assert!(take(&["ann"], 1, 60 * 20).is_err(), "the day is full");
    }

    #[test]
    fn the_memory_is_bounded_and_those_at_their_limit_stay() {
        let counter = RateCounter {
            max: 1000,
            ..RateCounter::new(2, 2)
        };
        let bad: IpAddr = "192.0.2.1".parse().unwrap();
        for _ in 0..2 {
            counter.count(bad, None, 1, at(0)).unwrap();
        }
        for n in 0..10_000_u32 {
            let client = IpAddr::V6(((0x2001_0db8_u128 << 96) | (u128::from(n) << 64)).into());
            let _ = counter.count(client, Some(&n.to_string()), 1, at(1));
            assert!(counter.counts().len() < 1003);
        }
        assert!(counter.count(bad, None, 1, at(2)).is_err());
    }
}
