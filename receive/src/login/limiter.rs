//! Limits on wrong logins, by network.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_store::Time;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The largest number of counted networks: about 10 MiB.
const NETWORKS_MAX: usize = 100_000;

/// The number of wrong logins before the next login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Within a minute.
    pub minute: u32,
    /// Within a day.
    pub day: u32,
}

/// The limits for networks of three sizes. Each login counts in one network of each size. Loopback
/// is no exception: localserve and tests pass other limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginLimits {
    /// An IPv4 address, an IPv6 /64.
    pub address: Rate,
    /// An IPv4 /26, an IPv6 /48.
    pub network: Rate,
    /// An IPv4 /21, an IPv6 /32.
    pub block: Rate,
}

impl Default for LoginLimits {
    fn default() -> Self {
        Self {
            address: Rate {
                minute: 10,
                day: 50,
            },
            network: Rate {
                minute: 30,
                day: 150,
            },
            block: Rate {
                minute: 90,
                day: 450,
            },
        }
    }
}

/// Counts wrong logins. All protocols count together.
#[derive(Debug, Default)]
pub struct LoginLimiter {
    limits: LoginLimits,
    failures: Mutex<HashMap<Network, Failures>>,
}

/// The length of a prefix, and its bits. IPv4 and IPv6 prefixes have different lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network(u8, u128);

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
}

impl Failures {
    fn reached(&self, now: Time, rate: Rate) -> bool {
        self.minute.count(now, MINUTE) >= rate.minute || self.day.count(now, DAY) >= rate.day
    }
}

impl LoginLimiter {
    /// A limiter with these limits.
    #[must_use]
    pub fn new(limits: LoginLimits) -> Self {
        Self {
            limits,
            failures: Mutex::default(),
        }
    }

    /// A login from this address may be tried. Callers ask this before they check the password.
    #[must_use]
    pub fn allowed(&self, ip: IpAddr, now: Time) -> bool {
        let failures = self.failures();
        self.rates(ip).iter().all(|(network, rate)| {
            failures
                .get(network)
                .is_none_or(|failures| !failures.reached(now, *rate))
        })
    }

    /// Counts a wrong login.
    pub fn failed(&self, ip: IpAddr, now: Time) {
        let mut failures = self.failures();
        if failures.len() >= NETWORKS_MAX {
            self.make_room(&mut failures, now);
        }
        for (network, _) in self.rates(ip) {
            let fresh = Window {
                start: now,
                count: 0,
            };
            let counted = failures.entry(network).or_insert(Failures {
                minute: fresh,
                day: fresh,
            });
            counted.minute.add(now, MINUTE);
            counted.day.add(now, DAY);
        }
    }

    /// Forgets the failures of this address after a right login.
    pub fn succeeded(&self, ip: IpAddr) {
        let mut failures = self.failures();
        let [(address, _), wider @ ..] = self.rates(ip);
        let Some(counted) = failures.remove(&address) else {
            return;
        };
        for (network, _) in wider {
            if let Some(wide) = failures.get_mut(&network) {
                wide.minute.count = wide.minute.count.saturating_sub(counted.minute.count);
                wide.day.count = wide.day.count.saturating_sub(counted.day.count);
            }
        }
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Network, Failures>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rates(&self, ip: IpAddr) -> [(Network, Rate); 3] {
        let (bits, size, [narrow, middle, wide]) = match ip.to_canonical() {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32, [32, 26, 21]),
            IpAddr::V6(ip) => (ip.to_bits(), 128, [64, 48, 32]),
        };
        // The added number tells the families apart.
        let family = if size == 128 { 100 } else { 0 };
        let network = |length: u8| Network(length + family, bits >> (size - length));
        let LoginLimits {
            address,
            network: near,
            block,
        } = self.limits;
        [
            (network(narrow), address),
            (network(middle), near),
            (network(wide), block),
        ]
    }

    /// Forgets networks whose day is over. If that is not enough, forgets networks below their
    /// limit, and then all.
    fn make_room(&self, failures: &mut HashMap<Network, Failures>, now: Time) {
        failures.retain(|_, counted| counted.day.count(now, DAY) > 0);
        if failures.len() >= NETWORKS_MAX {
            let Rate { minute, day } = self.limits.address;
            failures.retain(|_, counted| counted.reached(now, Rate { minute, day }));
        }
        if failures.len() >= NETWORKS_MAX {
            failures.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(limiter: &LoginLimiter, text: &str, times: u32, now: Time) {
        for _ in 0..times {
            limiter.failed(ip(text), now);
        }
    }

    #[test]
    fn ten_in_a_minute_and_fifty_in_a_day() {
        let limiter = LoginLimiter::default();
        let mut now = Time(0);
        for round in 0..5 {
            fail(&limiter, "192.0.2.1", 9, now);
            assert!(limiter.allowed(ip("192.0.2.1"), now), "{round}");
            fail(&limiter, "192.0.2.1", 1, now);
            assert!(!limiter.allowed(ip("192.0.2.1"), now), "{round}");
            assert!(limiter.allowed(ip("192.0.2.2"), now), "{round}");
            now = now.after(MINUTE);
        }
        assert!(!limiter.allowed(ip("192.0.2.1"), now));
        assert!(limiter.allowed(ip("192.0.2.1"), Time(0).after(DAY)));
    }

    #[test]
    fn networks_have_their_own_limits() {
        let limiter = LoginLimiter::default();
        for host in 1..=10 {
            fail(&limiter, &format!("192.0.2.{host}"), 3, Time(0));
        }
        assert!(!limiter.allowed(ip("192.0.2.60"), Time(0)));
        assert!(limiter.allowed(ip("192.0.2.64"), Time(0)));
        for net in 0..30 {
            fail(&limiter, &format!("2001:db8:{net:x}::1"), 3, Time(0));
        }
        assert!(!limiter.allowed(ip("2001:db8:ffff::1"), Time(0)));
        assert!(limiter.allowed(ip("2001:db9::1"), Time(0)));
    }

    #[test]
    fn an_ipv6_network_is_one_and_a_mapped_address_is_ipv4() {
        let limiter = LoginLimiter::default();
        fail(&limiter, "2001:db8::1", 5, Time(0));
        fail(&limiter, "2001:db8::ffff:1", 5, Time(0));
        assert!(!limiter.allowed(ip("2001:db8::2"), Time(0)));
        fail(&limiter, "::ffff:192.0.2.1", 10, Time(0));
        assert!(!limiter.allowed(ip("192.0.2.1"), Time(0)));
    }

    #[test]
    fn a_right_login_takes_back_what_its_address_did() {
        let limiter = LoginLimiter::default();
        fail(&limiter, "192.0.2.1", 9, Time(0));
        fail(&limiter, "192.0.2.2", 9, Time(0));
        limiter.succeeded(ip("192.0.2.1"));
        fail(&limiter, "192.0.2.1", 9, Time(0));
        assert!(limiter.allowed(ip("192.0.2.1"), Time(0)));
        assert!(limiter.allowed(ip("192.0.2.3"), Time(0)));
        fail(&limiter, "192.0.2.3", 9, Time(0));
        fail(&limiter, "192.0.2.4", 3, Time(0));
        assert!(
            !limiter.allowed(ip("192.0.2.5"), Time(0)),
            "30 of the network"
        );
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = LoginLimiter::default();
        fail(&limiter, "192.0.2.1", 10, Time(0));
        for n in 0..NETWORKS_MAX as u128 {
            limiter.failed(IpAddr::V6((n << 64).into()), Time(0));
        }
        assert!(limiter.failures().len() <= NETWORKS_MAX + 2);
        assert!(!limiter.allowed(ip("192.0.2.1"), Time(0)));
    }
}
