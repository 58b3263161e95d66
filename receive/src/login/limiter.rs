//! Limits on wrong logins.
//!
//! A wrong login counts for its account and for all accounts together, in networks of three sizes.
//! All accounts together get [`ALL_ACCOUNTS`] times the limit of one account. At loopback and
//! behind a trusted proxy many clients may share an address. So only the counts of the account are
//! looked at there, and nobody is refused for the failures of others.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_store::Time;

use crate::network::{Network, Size};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest number of counts: about 10 MiB.
const COUNTS_MAX: usize = 100_000;
/// The limit of all accounts together, as a multiple of the limit of one account.
const ALL_ACCOUNTS: u32 = 10;

/// The number of wrong logins before the next login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Within a minute.
    pub minute: u32,
    /// Within a day.
    pub day: u32,
}

impl Rate {
    /// This rate, this many times.
    #[must_use]
    pub const fn times(self, factor: u32) -> Self {
        Self {
            minute: self.minute.saturating_mul(factor),
            day: self.day.saturating_mul(factor),
        }
    }
}

/// The limits of one account for networks of three sizes. Each login counts in one network of each
/// size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginLimits {
    /// An IPv4 address, an IPv6 /64.
    pub address: Rate,
    /// An IPv4 /26, an IPv6 /48.
    pub network: Rate,
    /// An IPv4 /21, an IPv6 /32.
    pub block: Rate,
}

impl LoginLimits {
    /// Limits with this rate for an address, three times as much for a network, and nine times as
    /// much for a block.
    #[must_use]
    pub const fn of(address: Rate) -> Self {
        Self {
            address,
            network: address.times(3),
            block: address.times(9),
        }
    }
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self::of(Rate {
            minute: 10,
            day: 50,
        })
    }
}

/// The account or key that a login is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity<'a> {
    /// An account of the configuration.
    Account(&'a str),
    /// The administrator.
    Admin,
    /// A name that no account has.
    Unknown(&'a str),
    /// The API key with this number.
    Key(u64),
    /// The one-time codes of an account. Right passwords do not take their failures back.
    Code(&'a str),
}

/// The origin of a login.
#[derive(Clone, Debug)]
pub struct Source {
    /// The counts of wrong logins.
    pub limiter: Arc<LoginLimiter>,
    /// The address of the client.
    pub ip: IpAddr,
    /// A trusted proxy gave this address.
    pub behind_proxy: bool,
    /// The time of the login.
    pub now: Time,
}

/// Counts wrong logins. All protocols count together.
#[derive(Debug, Default)]
pub struct LoginLimiter {
    limits: LoginLimits,
    /// Identities are kept as hashes, so that long names take no memory.
    hasher: RandomState,
    counts: Mutex<HashMap<Key, Failures>>,
}

/// A network, and the hash of an identity. None stands for all accounts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    network: Network,
    identity: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    minute: Window,
    day: Window,
}

/// The failures since `start`.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Time,
    count: u32,
}

impl Window {
    fn count(&self, now: Time, length: Duration) -> u32 {
        // A window that begins in the future is from before the clock was set back.
        if now < self.start || now >= self.start.after(length) {
            0
        } else {
            self.count
        }
    }

    fn add(&mut self, now: Time, length: Duration) {
        if self.count(now, length) == 0 {
            *self = Self {
                start: now,
                count: 0,
            };
        }
        self.count = self.count.saturating_add(1);
    }

    /// The time until the window ends, if it has this many failures.
    fn wait(&self, now: Time, length: Duration, limit: u32) -> Option<Duration> {
        let reached = self.count(now, length) >= limit;
        reached.then(|| self.start.after(length).since(now))
    }
}

impl Failures {
    /// The time until the next login may be tried. None: it may be tried now.
    fn wait(&self, now: Time, rate: Rate) -> Option<Duration> {
        let minute = self.minute.wait(now, MINUTE, rate.minute);
        minute.max(self.day.wait(now, DAY, rate.day))
    }

    fn add(&mut self, now: Time) {
        self.minute.add(now, MINUTE);
        self.day.add(now, DAY);
    }

    const fn subtract(&mut self, minute: u32, day: u32) {
        self.minute.count = self.minute.count.saturating_sub(minute);
        self.day.count = self.day.count.saturating_sub(day);
    }
}

impl Source {
    /// Only the counts of the account are looked at.
    fn is_shared(&self) -> bool {
        self.behind_proxy || self.ip.to_canonical().is_loopback()
    }

    /// The time until a login of this identity may be tried. None: it may be tried now.
    #[must_use]
    pub fn wait(&self, identity: Identity<'_>) -> Option<Duration> {
        let id = self.limiter.id(identity);
        self.limiter.wait(&self.limiter.counts(), self, id)
    }

    /// Counts a login before it is checked. [`Self::right`] takes it back.
    ///
    /// # Errors
    /// If the login may not be tried: the time until it may. Then nothing is counted.
    pub fn begin(&self, identity: Identity<'_>) -> Result<(), Duration> {
        let limiter = &self.limiter;
        let id = limiter.id(identity);
        let mut counts = limiter.counts();
        if let Some(wait) = limiter.wait(&counts, self, id) {
            return Err(wait);
        }
        if counts.len() >= COUNTS_MAX {
            limiter.make_room(&mut counts, self.now);
        }
        let fresh = Window {
            start: self.now,
            count: 0,
        };
        for network in Network::around(self.ip) {
            for identity in [Some(id), None] {
                let counted = counts.entry(Key { network, identity }).or_insert(Failures {
                    minute: fresh,
                    day: fresh,
                });
                counted.add(self.now);
            }
        }
        Ok(())
    }

    /// The login was right: forgets the failures of its account at this address. `begun` says
    /// whether the login itself was counted.
    pub fn right(&self, identity: Identity<'_>, begun: bool) {
        let mut counts = self.limiter.counts();
        if counts.is_empty() {
            return;
        }
        let id = Some(self.limiter.id(identity));
        let [address, wider @ ..] = Network::around(self.ip);
        let own = counts.remove(&Key {
            network: address,
            identity: id,
        });
        if let Some(own) = own {
            for network in wider {
                let (minute, day) = (own.minute.count, own.day.count);
                let key = Key {
                    network,
                    identity: id,
                };
                subtract(&mut counts, &key, minute, day);
            }
        }
        if begun {
            for network in Network::around(self.ip) {
                let identity = None;
                subtract(&mut counts, &Key { network, identity }, 1, 1);
            }
        }
    }
}

fn subtract(counts: &mut HashMap<Key, Failures>, key: &Key, minute: u32, day: u32) {
    if let Some(counted) = counts.get_mut(key) {
        counted.subtract(minute, day);
        if counted.day.count == 0 {
            counts.remove(key);
        }
    }
}

impl LoginLimiter {
    /// A limiter with these limits.
    #[must_use]
    pub fn new(limits: LoginLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Forgets failures: those of an identity, those in the networks of an address, or those of an
    /// identity at an address. Gives the number of identities and networks that had some.
    pub fn forget(&self, identity: Option<Identity<'_>>, ip: Option<IpAddr>) -> u64 {
        let id = identity.map(|identity| self.id(identity));
        let around = ip.map(Network::around);
        let mut forgotten = 0;
        self.counts().retain(|key, _| {
            let named = id.is_none_or(|id| key.identity == Some(id));
            let near = around.is_none_or(|around| around.contains(&key.network));
            if named && near {
                forgotten += 1;
            }
            !(named && near)
        });
        forgotten
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Key, Failures>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, identity: Identity<'_>) -> u64 {
        match identity {
            Identity::Unknown(name) => {
                let name = name.to_lowercase();
                self.hasher.hash_one(Identity::Unknown(&name))
            }
            known => self.hasher.hash_one(known),
        }
    }

    fn wait(&self, counts: &HashMap<Key, Failures>, source: &Source, id: u64) -> Option<Duration> {
        if counts.is_empty() {
            return None;
        }
        let all = (!source.is_shared()).then_some(None);
        let identities = || std::iter::once(Some(id)).chain(all);
        Network::around(source.ip)
            .into_iter()
            .flat_map(|network| identities().map(move |identity| Key { network, identity }))
            .filter_map(|key| counts.get(&key)?.wait(source.now, self.rate(&key)))
            .max()
    }

    const fn rate(&self, key: &Key) -> Rate {
        let rate = match key.network.size() {
            Size::Address => self.limits.address,
            Size::Network => self.limits.network,
            Size::Block => self.limits.block,
        };
        match key.identity {
            Some(_) => rate,
            None => rate.times(ALL_ACCOUNTS),
        }
    }

    /// Forgets counts whose day is over. If that is not enough, forgets counts below their limit,
    /// and then all.
    fn make_room(&self, counts: &mut HashMap<Key, Failures>, now: Time) {
        counts.retain(|_, counted| counted.day.count(now, DAY) > 0);
        if counts.len() >= COUNTS_MAX {
            counts.retain(|key, counted| counted.wait(now, self.rate(key)).is_some());
        }
        if counts.len() >= COUNTS_MAX {
            counts.clear();
        }
    }
}

/// A wait in words, rounded up: `1 second`, `40 seconds`, `3 minutes`, `7 hours`.
#[must_use]
pub fn wait_in_words(wait: Duration) -> String {
    let (count, unit) = match wait.as_secs_f64() {
        seconds if seconds <= 120.0 => (seconds, "second"),
        seconds if seconds <= 7200.0 => (seconds / 60.0, "minute"),
        seconds => (seconds / 3600.0, "hour"),
    };
    let count = count.ceil().max(1.0);
    let plural = if count > 1.0 { "s" } else { "" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests;
