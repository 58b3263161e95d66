//! Where connections to MX hosts come from: an address of ours with its EHLO name, or a proxy.
//!
//! The sources of a pool share the mail by weight. Which of them an account's mail to a site comes
//! from follows from a hash (weighted rendezvous), so it stays the same as long as the pool has the
//! source and it can be used. Sources whose addresses can't be used are left out for a while.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_config::{Dynamic, Pool, Socks, Static, Transport};
use postrider_smtp::Domain;
use postrider_store::Moment;
use tracing::{error, info};

/// How long a source is left out after its address could not be used. It doubles each time.
const OFF: Duration = Duration::from_secs(60);
/// The longest time.
const OFF_MAX: Duration = Duration::from_secs(60 * 60);

/// Where a connection comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) via: Via,
    /// The name in EHLO.
    pub(crate) ehlo: Domain,
}

impl Source {
    /// The source where nothing else is configured.
    pub(crate) fn any(statics: &Static) -> Self {
        Self {
            via: Via::Any,
            ehlo: statics.hostname.clone(),
        }
    }
}

/// What a connection begins at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// The system chooses the address.
    Any,
    /// An address of ours.
    Ip(IpAddr),
    /// A proxy.
    Proxy(Arc<Socks>),
}

impl Via {
    /// The address or the proxy; empty: the system chooses the address.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Any => String::new(),
            Self::Ip(ip) => ip.to_string(),
            Self::Proxy(socks) => format!("the proxy {}:{}", socks.host, socks.port),
        }
    }
}

/// The sources of the messages of an account that go to a site, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sources(Vec<Source>);

impl Sources {
    /// The one source where nothing else is configured.
    pub(crate) fn any(statics: &Static) -> Self {
        Self(vec![Source::any(statics)])
    }

    /// The sources of the messages of an account that go to the MX hosts of a site by a transport,
    /// whose name may be empty.
    pub(crate) fn of(
        statics: &Static,
        config: &Dynamic,
        transport: &str,
        account: &str,
        site: &str,
    ) -> Self {
        let pool = match statics.transports.get(transport) {
            Some(Transport::Socks(socks)) => {
                return Self(vec![Source {
                    ehlo: socks.remote_hostname.clone(),
                    via: Via::Proxy(Arc::new(socks.clone())),
                }]);
            }
            Some(Transport::Direct(direct)) if !direct.local_ips.is_empty() => {
                let unnamed = direct.local_ips.iter().map(|ip| {
                    let source = Source {
                        via: Via::Ip(*ip),
                        ehlo: statics.hostname.clone(),
                    };
                    (ip.to_string(), 1, source)
                });
                return ranked(account, site, unnamed.collect());
            }
            Some(Transport::Direct(direct)) => direct.source_pool.as_ref(),
            _ => None,
        };
        let of_account = || config.accounts.get(account)?.source_pool.as_ref();
        let pool = pool.or_else(of_account);
        let pool = pool.or(statics.delivery.source_pool.as_ref());
        match pool.and_then(|pool| statics.pools.get(pool)) {
            Some(pool) => ranked(account, site, members(statics, pool)),
            None => Self::any(statics),
        }
    }

    /// Only the source of this name. None: there is none.
    pub(crate) fn named(statics: &Static, name: &str) -> Option<Self> {
        let source = statics.sources.get(name)?;
        Some(Self(vec![Source {
            via: Via::Ip(source.ip),
            ehlo: source.ehlo.clone(),
        }]))
    }

    /// The best source for connections to an address that can be used now. None: there is none for
    /// its family.
    pub(crate) fn best(&self, to: IpAddr, off: &Off, now: Moment) -> Option<&Source> {
        let mut sources = self.0.iter();
        sources.find(|source| match &source.via {
            Via::Any => true,
            Via::Ip(ip) => ip.is_ipv4() == to.is_ipv4() && !off.is_off(*ip, now),
            // A proxy may have addresses of one family only.
            Via::Proxy(socks) => {
                let mut ips = socks.remote_ips.iter();
                socks.remote_ips.is_empty() || ips.any(|ip| ip.is_ipv4() == to.is_ipv4())
            }
        })
    }

    /// One of them has an address of this family, or none has an address.
    pub(crate) fn has_family_of(&self, to: IpAddr) -> bool {
        self.best(to, &Off::default(), Moment::default()).is_some()
    }
}

fn members(statics: &Static, pool: &Pool) -> Vec<(String, u16, Source)> {
    let members = pool.sources.iter().filter_map(|(name, weight)| {
        let source = statics.sources.get(name)?;
        let source = Source {
            via: Via::Ip(source.ip),
            ehlo: source.ehlo.clone(),
        };
        Some((name.clone(), *weight, source))
    });
    members.collect()
}

/// Sources by weighted rendezvous hash: each has a score of its own, the highest wins, and a source
/// that goes away moves only what came from it.
fn ranked(account: &str, site: &str, members: Vec<(String, u16, Source)>) -> Sources {
    let mut scored: Vec<(f64, Source)> = members
        .into_iter()
        .map(|(name, weight, source)| {
            let share = fraction(hash(&[account, site, &name]));
            (f64::from(weight) / -share.ln(), source)
        })
        .collect();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    Sources(scored.into_iter().map(|(_, source)| source).collect())
}

/// A hash that is the same in each run and on each machine: FNV-1a, and the last steps of
/// SplitMix64, so that all bits matter.
fn hash(parts: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        // No text has the byte 255.
        for byte in part.bytes().chain([255]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// A hash as a number above 0 and below 1.
#[expect(clippy::cast_precision_loss, reason = "52 bits fit")]
fn fraction(hash: u64) -> f64 {
    // 52 bits and the middle of a step are exact.
    let steps = (hash >> 12) as f64;
    (steps + 0.5) / (1_u64 << 52) as f64
}

/// The addresses of ours that could not be used lately.
#[derive(Debug, Default)]
pub(crate) struct Off(Mutex<HashMap<IpAddr, Entry>>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    until: Moment,
    pause: Duration,
}

impl Off {
    /// The lock is held for a moment, never over a wait.
    fn entries(&self) -> MutexGuard<'_, HashMap<IpAddr, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_off(&self, ip: IpAddr, now: Moment) -> bool {
        let entry = self.entries().get(&ip).copied();
        entry.is_some_and(|entry| now < entry.until)
    }

    /// No connection could be begun at this address of ours.
    pub(crate) fn failed(&self, ip: IpAddr, reason: &dyn std::fmt::Display, now: Moment) {
        let mut entries = self.entries();
        let pause = match entries.get(&ip) {
            Some(entry) if now < entry.until => return,
            Some(entry) => (entry.pause * 2).min(OFF_MAX),
            None => {
                error!(%ip, error = %reason, "this address of ours can't be used; others of its pool are taken meanwhile");
                OFF
            }
        };
        let until = now.after(pause);
        entries.insert(ip, Entry { until, pause });
    }

    /// A connection from this address was begun.
    pub(crate) fn worked(&self, ip: IpAddr) {
        if self.entries().remove(&ip).is_some() {
            info!(%ip, "this address of ours can be used again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(ip: &str) -> Source {
        Source {
            via: Via::Ip(ip.parse().unwrap()),
            ehlo: "mail.example.org".parse().unwrap(),
        }
    }

    fn pool(names: &[(&str, u16)]) -> Vec<(String, u16, Source)> {
        let members = names
            .iter()
            .map(|(ip, weight)| (ip.to_string(), *weight, source(ip)));
        members.collect()
    }

    fn first(names: &[(&str, u16)], account: &str, site: &str) -> Source {
        ranked(account, site, pool(names)).0.remove(0)
    }

    const POOL: &[(&str, u16)] = &[("192.0.2.1", 1), ("192.0.2.2", 3), ("192.0.2.3", 16)];

    #[test]
    fn the_hash_stays_the_same() {
        assert_ne!(hash(&["a", "bc"]), hash(&["ab", "c"]));
        // A changed hash would move all mail to other addresses.
        assert_eq!(hash(&["ann", "mx.test", "one"]), 0xc884_af39_e182_1c6b);
        assert!(fraction(0) > 0.0 && fraction(u64::MAX) < 1.0);
    }

    #[test]
    fn mail_is_shared_by_weight() {
        let mut counts = [0_u32; 3];
        for number in 0..20_000 {
            let chosen = first(POOL, "ann", &format!("mx{number}.test"));
            let place = POOL.iter().position(|(ip, _)| source(ip) == chosen);
            counts[place.unwrap()] += 1;
        }
        // 1, 3 and 16 of 20.
        for (count, expected) in counts.into_iter().zip([1000, 3000, 16_000]) {
            assert!(count.abs_diff(expected) < 200, "{counts:?}");
        }
    }

    #[test]
    fn a_source_that_goes_away_moves_only_its_own_mail() {
        let without = &POOL[..2];
        let mut moved = 0;
        for number in 0..1000 {
            let site = format!("mx{number}.test");
            let (before, after) = (first(POOL, "ann", &site), first(without, "ann", &site));
            if before == source("192.0.2.3") {
                moved += 1;
                // The second choice of before is the first of now.
                assert_eq!(ranked("ann", &site, pool(POOL)).0[1], after);
            } else {
                assert_eq!(before, after);
            }
        }
        assert!(moved > 700);
    }

    #[test]
    fn the_best_source_has_the_family_and_is_not_off() {
        let (off, now) = (Off::default(), Moment::default());
        let sources = Sources(vec![
            source("192.0.2.1"),
            source("2001:db8::1"),
            source("192.0.2.2"),
        ]);
        let best = |to: &str| sources.best(to.parse().unwrap(), &off, now).cloned();
        assert_eq!(best("198.51.100.1"), Some(source("192.0.2.1")));
        assert_eq!(best("2001:db8::9"), Some(source("2001:db8::1")));
        off.failed("192.0.2.1".parse().unwrap(), &"no", now);
        assert_eq!(best("198.51.100.1"), Some(source("192.0.2.2")));
        off.failed("2001:db8::1".parse().unwrap(), &"no", now);
        assert_eq!(best("2001:db8::9"), None);
        assert!(sources.has_family_of("2001:db8::9".parse().unwrap()));
    }

    #[test]
    fn a_source_is_off_for_a_minute_and_longer_each_time() {
        let (off, ip) = (Off::default(), "192.0.2.1".parse().unwrap());
        let mut now = Moment::default();
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            off.failed(ip, &"no", now);
            off.failed(ip, &"another connection failed with it", now);
            let end = now.after(Duration::from_secs(minutes * 60));
            let almost = now.after(Duration::from_secs(minutes * 60) - Duration::from_nanos(1));
            assert!(off.is_off(ip, almost), "{minutes}");
            assert!(!off.is_off(ip, end), "{minutes}");
            now = end;
        }
        off.worked(ip);
        off.failed(ip, &"no", now);
        assert!(!off.is_off(ip, now.after(OFF)));
    }
}
