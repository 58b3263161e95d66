//! Where connections to MX hosts come from: an address of ours with its EHLO name, or a proxy.
//!
//! The sources of a pool share the mail by weight. Which of them an account's mail to a site comes
//! from follows from a hash (weighted rendezvous), so it stays the same as long as the pool has the
//! source and it can be used.
//!
//! | the best source | its mail |
//! |---|---|
//! | has an address that can't be used, or one of IPv6 without a name | goes from the next one |
//! | has sent what its warm-up allows for the day | goes from the next one, or waits |
//! | is blocked by the site | waits, or with `on_block = "switch"` goes from the next one |
//! | has used up a rate | waits |

pub(crate) mod names;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_config::{
    Day, Dynamic, OnBlock, OutgoingSource, Pool, Rate, Socks, Static, Transport,
};
use postrider_smtp::Domain;
use postrider_store::Moment;
use tracing::{error, info};

use crate::{
    next_hop::Plan,
    schedule::{Bar, Barred},
};

/// How long a source is left out after its address could not be used. It doubles each time.
const OFF: Duration = Duration::from_secs(60);
/// The longest time.
const OFF_MAX: Duration = Duration::from_secs(60 * 60);

/// Where a connection comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its name in the configuration, or what [`Via::shown`] says.
    pub(crate) name: String,
    pub(crate) via: Via,
    /// The name in EHLO.
    pub(crate) ehlo: Domain,
    pub(crate) terms: Terms,
}

/// What an administrator wants of a source, at each site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The most messages in a time.
    pub(crate) rate: Option<Rate>,
    /// The day on which its warm-up begins.
    pub(crate) warm_up: Option<Day>,
}

/// Whether mail to MX hosts may come from several sources. Else nothing has to be known of each.
pub(crate) fn matter(statics: &Static) -> bool {
    let mut transports = statics.transports.values();
    !statics.pools.is_empty()
        || transports.any(|transport| match transport {
            Transport::Direct(direct) => !direct.local_ips.is_empty(),
            Transport::Socks(_) => true,
            _ => false,
        })
}

impl Source {
    /// The source where nothing else is configured.
    pub(crate) fn any(statics: &Static) -> Self {
        Self::at(Via::Any, statics.hostname.clone())
    }

    /// A source without a name and terms.
    fn at(via: Via, ehlo: Domain) -> Self {
        Self {
            name: via.shown(),
            via,
            ehlo,
            terms: Terms::default(),
        }
    }

    fn configured(name: &str, source: &OutgoingSource) -> Self {
        Self {
            name: name.to_owned(),
            via: Via::Ip(source.ip),
            ehlo: source.ehlo.clone(),
            terms: Terms {
                rate: source.rate,
                warm_up: source.warm_up,
            },
        }
    }

    /// The source of this name. None: there is none.
    pub(crate) fn named(statics: &Static, name: &str) -> Option<Self> {
        let source = statics.sources.get(name)?;
        Some(Self::configured(name, source))
    }

    /// Whether it may have an address of the family of another one.
    fn has_family_of(&self, to: IpAddr) -> bool {
        match &self.via {
            Via::Any => true,
            Via::Ip(ip) => ip.is_ipv4() == to.is_ipv4(),
            // A proxy may have addresses of one family only.
            Via::Proxy(socks) => {
                let mut ips = socks.remote_ips.iter();
                socks.remote_ips.is_empty() || ips.any(|ip| ip.is_ipv4() == to.is_ipv4())
            }
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
pub(crate) struct Sources {
    ranked: Vec<Source>,
    /// What becomes of messages whose source is blocked.
    pub(crate) on_block: OnBlock,
}

/// What may be done with a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may be used.
    Free,
    /// It can't be used.
    Out,
    /// It may be used later.
    Barred(Barred),
}

/// The source of messages for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice<'a> {
    /// This one.
    Take(&'a Source),
    /// None now, for this reason.
    Wait(Barred),
    /// None of the family can be used.
    None,
}

impl Sources {
    /// The one source where nothing else is configured.
    pub(crate) fn any(statics: &Static) -> Self {
        Self::one(statics, Source::any(statics))
    }

    fn one(statics: &Static, source: Source) -> Self {
        Self {
            ranked: vec![source],
            on_block: statics.delivery.on_block,
        }
    }

    /// The sources of the messages of an account that go to the MX hosts of a plan. The pool is
    /// that of the plan's transport, else of the account, else of the provider, else of `delivery`.
    pub(crate) fn of(statics: &Static, config: &Dynamic, account: &str, plan: &Plan) -> Self {
        let site = plan.site.as_str();
        let pool = match statics.transports.get(&plan.transport) {
            Some(Transport::Socks(socks)) => {
                let via = Via::Proxy(Arc::new(socks.clone()));
                return Self::one(statics, Source::at(via, socks.remote_hostname.clone()));
            }
            Some(Transport::Direct(direct)) if !direct.local_ips.is_empty() => {
                let ips = direct.local_ips.iter();
                let unnamed = ips.map(|ip| (Source::at(Via::Ip(*ip), statics.hostname.clone()), 1));
                return Self {
                    ranked: ranked(account, site, unnamed.collect()),
                    on_block: statics.delivery.on_block,
                };
            }
            Some(Transport::Direct(direct)) => direct.source_pool.as_ref(),
            _ => None,
        };
        let of_account = || config.accounts.get(account)?.source_pool.as_ref();
        let pool = pool.or_else(of_account);
        let pool = pool.or(plan.provider.source_pool.as_ref());
        let pool = pool.or(statics.delivery.source_pool.as_ref());
        match pool.and_then(|pool| statics.pools.get(pool)) {
            Some(pool) => Self {
                ranked: ranked(account, site, members(statics, pool)),
                on_block: pool.on_block.unwrap_or(statics.delivery.on_block),
            },
            None => Self::any(statics),
        }
    }

    /// Only the source of this name. None: there is none.
    pub(crate) fn named(statics: &Static, name: &str) -> Option<Self> {
        let source = Source::named(statics, name)?;
        Some(Self::one(statics, source))
    }

    /// The source for an address.
    pub(crate) fn choose(&self, to: IpAddr, standing: impl Fn(&Source) -> Standing) -> Choice<'_> {
        let mut first = None;
        for source in self.ranked.iter().filter(|it| it.has_family_of(to)) {
            match standing(source) {
                Standing::Free => return Choice::Take(source),
                Standing::Out => {}
                Standing::Barred(barred) => {
                    let goes_elsewhere = match barred.bar {
                        Bar::WarmUp => true,
                        Bar::Blocked => self.on_block == OnBlock::Switch,
                        Bar::Rate | Bar::ConnectRate => false,
                    };
                    first = Some(barred.sooner(first));
                    if !goes_elsewhere {
                        break;
                    }
                }
            }
        }
        first.map_or(Choice::None, Choice::Wait)
    }

    /// One of them has an address of this family, or none has an address.
    pub(crate) fn has_family_of(&self, to: IpAddr) -> bool {
        self.ranked.iter().any(|source| source.has_family_of(to))
    }
}

fn members(statics: &Static, pool: &Pool) -> Vec<(Source, u16)> {
    let members = pool.sources.iter();
    members
        .filter_map(|(name, weight)| Some((Source::named(statics, name)?, *weight)))
        .collect()
}

/// Sources by weighted rendezvous hash: each has a score of its own, the highest wins, and a source
/// that goes away moves only what came from it.
fn ranked(account: &str, site: &str, members: Vec<(Source, u16)>) -> Vec<Source> {
    let mut scored: Vec<(f64, Source)> = members
        .into_iter()
        .map(|(source, weight)| {
            let share = fraction(hash(&[account, site, &source.name]));
            (f64::from(weight) / -share.ln(), source)
        })
        .collect();
    scored.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    scored.into_iter().map(|(_, source)| source).collect()
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
        self.off_until(ip, now).is_some()
    }

    /// Until when an address of ours is left out. None: it is not.
    pub(crate) fn off_until(&self, ip: IpAddr, now: Moment) -> Option<Moment> {
        let until = self.entries().get(&ip)?.until;
        (now < until).then_some(until)
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
    use postrider_smtp::Cause;

    use super::*;

    fn source(ip: &str) -> Source {
        let ehlo = "mail.example.org".parse().unwrap();
        Source::at(Via::Ip(ip.parse().unwrap()), ehlo)
    }

    fn pool(names: &[(&str, u16)]) -> Vec<(Source, u16)> {
        let members = names.iter().map(|(ip, weight)| (source(ip), *weight));
        members.collect()
    }

    fn first(names: &[(&str, u16)], account: &str, site: &str) -> Source {
        ranked(account, site, pool(names)).remove(0)
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
                assert_eq!(ranked("ann", &site, pool(POOL))[1], after);
            } else {
                assert_eq!(before, after);
            }
        }
        assert!(moved > 700);
    }

    /// The source for an address of IPv4 or IPv6, and when there is one if there is none now.
    fn choose(
        sources: &Sources,
        ipv6: bool,
        standings: &[(&str, Standing)],
    ) -> (Option<String>, Option<u64>) {
        let to = if ipv6 { "2001:db8::9" } else { "198.51.100.1" };
        let chosen = sources.choose(to.parse().unwrap(), |source| {
            let mut standings = standings.iter();
            let found = standings.find(|(name, _)| *name == source.name);
            found.map_or(Standing::Free, |(_, standing)| standing.clone())
        });
        match chosen {
            Choice::Take(source) => (Some(source.name.clone()), None),
            Choice::Wait(barred) => (None, Some(barred.until.0.as_secs())),
            Choice::None => (None, None),
        }
    }

    fn barred(bar: Bar, until: u64) -> Standing {
        let code = postrider_smtp::EnhancedCode::SYSTEM_TRANSIENT;
        let status = postrider_smtp::DeliveryStatus::transient(Cause::Local, code, "waits");
        Standing::Barred(Barred {
            bar,
            until: Moment(Duration::from_secs(until)),
            status,
        })
    }

    #[test]
    fn the_best_source_has_the_family_and_may_be_used() {
        let sources = |on_block| Sources {
            ranked: ["192.0.2.1", "2001:db8::1", "192.0.2.2"]
                .map(source)
                .to_vec(),
            on_block,
        };
        let take = |name: &str| (Some(name.to_owned()), None);
        let wait = |until| (None, Some(until));
        let (defer, switch) = (sources(OnBlock::Defer), sources(OnBlock::Switch));
        let (one, two, six) = ("192.0.2.1", "192.0.2.2", "2001:db8::1");
        let (out, rate) = (Standing::Out, barred(Bar::Rate, 3));
        let (blocked, warm_up) = (barred(Bar::Blocked, 9), barred(Bar::WarmUp, 5));
        assert_eq!(choose(&defer, false, &[]), take(one));
        assert_eq!(choose(&defer, true, &[]), take(six));
        assert_eq!(choose(&defer, false, &[(one, out.clone())]), take(two));
        assert_eq!(choose(&defer, true, &[(six, out)]), (None, None));
        assert!(defer.has_family_of(six.parse().unwrap()));
        // A warm-up lets others take the rest. A rate keeps the mail, and so does a block.
        for (standing, defers, switches) in [
            (rate.clone(), wait(3), wait(3)),
            (barred(Bar::ConnectRate, 4), wait(4), wait(4)),
            (warm_up.clone(), take(two), take(two)),
            (blocked.clone(), wait(9), take(two)),
        ] {
            let standings = [(one, standing)];
            assert_eq!(choose(&defer, false, &standings), defers);
            assert_eq!(choose(&switch, false, &standings), switches);
        }
        let both = [(one, blocked), (two, warm_up)];
        assert_eq!(choose(&switch, false, &both), wait(5), "the first to end");
        let both = [(one, barred(Bar::WarmUp, 2)), (two, rate)];
        assert_eq!(choose(&defer, false, &both), wait(2));
    }

    #[test]
    fn the_pool_is_that_of_transport_account_provider_or_delivery() {
        let sources = "[sources.t]\nip = \"192.0.2.1\"\n[sources.a]\nip = \"192.0.2.2\"\n\
                       [sources.p]\nip = \"192.0.2.3\"\n[sources.d]\nip = \"192.0.2.4\"\n\
                       [pools.t.sources]\nt = 1\n[pools.a.sources]\na = 1\n\
                       [pools.p.sources]\np = 1\n[pools.d]\nsources.d = 1\non_block = \"fail\"\n\
                       [transports.out.direct]\nsource_pool = \"t\"\n";
        let statics = |delivery: &str| {
            let text = format!(
                "hostname = \"mail.example.org\"\npostmaster.account = \"ann\"\n\
                 listeners.l.ips = [\"127.0.0.1\"]\n{sources}[delivery]\non_block = \"switch\"\n\
                 {delivery}"
            );
            Static::parse(&text, "postrider.conf").unwrap()
        };
        let statics = [statics("source_pool = \"d\"\n"), statics("")];
        let config = "[domains.\"example.org\"]\n[accounts.ann]\ndomain = \"example.org\"\n\
                      destinations.\"ann@example.org\" = {}\nsource_pool = \"a\"\n\
                      [providers.x]\ndomains = [\"x.test\"]\nsource_pool = \"p\"\n";
        let of = |with_delivery: bool, transport: &str, account: &str, domain: &str| {
            let statics = &statics[usize::from(!with_delivery)];
            let config = Dynamic::parse(config, "domains.conf", statics).unwrap();
            let mut plan = crate::schedule::local_plan("x.test");
            transport.clone_into(&mut plan.transport);
            let found = config.providers.find(&domain.parse().unwrap(), &[]);
            plan.provider = Arc::clone(found);
            let sources = Sources::of(statics, &config, account, &plan);
            format!("{} {}", sources.ranked[0].name, sources.on_block)
        };
        assert_eq!(of(true, "out", "ann", "x.test"), "t switch");
        assert_eq!(of(true, "", "ann", "x.test"), "a switch");
        assert_eq!(of(true, "", "", "x.test"), "p switch");
        assert_eq!(of(true, "", "", "y.test"), "d fail");
        assert_eq!(of(false, "", "", "y.test"), " switch");
        assert!(matter(&statics[1]));
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
