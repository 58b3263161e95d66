//! The names of our IPv6 addresses: an address of the internet needs a name that leads back to it,
//! or many servers take no mail from it over IPv6.
//!
//! A source is looked up when its mail is due, and then once a day. One without a name is left out
//! of its pool, and looked up again each hour. A look-up without an answer proves nothing. Loopback
//! and private addresses, and those of documentation (`postrider_config::is_public`), are not
//! looked up: nobody on the internet sees them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postrider_config::is_public;
use postrider_dns::{DnsError, Resolver};
use postrider_store::Moment;
use tracing::{error, info};

use super::{Source, Sources, Via};
use crate::{Queue, schedule::Pace};

/// How long it counts that a name leads back.
const PASS_HOLDS: Duration = Duration::from_secs(24 * 60 * 60);
/// How long it counts that none does.
const FAIL_HOLDS: Duration = Duration::from_secs(60 * 60);
/// How long after a look-up without an answer the next one is made.
const UNANSWERED_HOLDS: Duration = Duration::from_secs(5 * 60);
/// How many names of an address are looked up.
const NAMES_MAX: usize = 5;

/// What is known of our addresses.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<IpAddr, Entry>>);

#[derive(Clone, Debug)]
struct Entry {
    /// It is looked up again then.
    until: Moment,
    /// Why no name leads back to the address. None: one does, or nothing is known.
    fault: Option<String>,
}

/// What a look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// A name leads back to the address.
    Name,
    /// None does.
    Fault(String),
    /// There was no answer.
    Nothing,
}

impl Names {
    /// The lock is held for a moment, never over a wait.
    fn entries(&self) -> MutexGuard<'_, HashMap<IpAddr, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why an address of ours is left out. None: it is not.
    pub(crate) fn fault(&self, ip: IpAddr) -> Option<String> {
        self.entries().get(&ip)?.fault.clone()
    }

    fn is_due(&self, ip: IpAddr, now: Moment) -> bool {
        let entries = self.entries();
        entries.get(&ip).is_none_or(|entry| entry.until <= now)
    }

    fn note(&self, ip: IpAddr, found: Found, now: Moment) {
        let mut entries = self.entries();
        let before = entries.get(&ip).and_then(|entry| entry.fault.clone());
        let (fault, holds) = match found {
            Found::Name => (None, PASS_HOLDS),
            Found::Fault(fault) => (Some(fault), FAIL_HOLDS),
            Found::Nothing => (before.clone(), UNANSWERED_HOLDS),
        };
        match (&before, &fault) {
            (None, Some(reason)) => {
                error!(%ip, reason, "no mail is sent from this address of ours, since no name leads back to it");
            }
            (Some(_), None) => info!(%ip, "a name leads back to this address of ours again"),
            _ => {}
        }
        let until = now.after(holds);
        entries.insert(ip, Entry { until, fault });
    }
}

impl Source {
    /// The address that needs a name. None: it needs none.
    fn named_ip(&self) -> Option<IpAddr> {
        match &self.via {
            Via::Ip(ip) => Some(*ip).filter(|ip| ip.is_ipv6() && is_public(*ip)),
            Via::Any | Via::Proxy(_) => None,
        }
    }

    /// Why the source is left out, since no name leads back to its address.
    pub(crate) fn name_fault(&self, names: &Names) -> Option<String> {
        names.fault(self.named_ip()?)
    }
}

impl Queue {
    /// Leaves out the sources without a name. If there is no other one, they stay, and can't be
    /// used.
    pub(crate) async fn leave_out_nameless(&self, sources: &mut Sources, pace: &Pace) {
        let ips: Vec<IpAddr> = sources.ranked.iter().filter_map(Source::named_ip).collect();
        if ips.is_empty() {
            return;
        }
        for ip in ips {
            if self.names.is_due(ip, self.clock.moment()) {
                let found = look_up(&*self.resolver, ip).await;
                self.names.note(ip, found, self.clock.moment());
            }
        }
        let is_out = |source: &Source| source.name_fault(&self.names).is_some();
        for source in sources.ranked.iter().filter(|source| is_out(source)) {
            pace.left_out(source);
        }
        if !sources.ranked.iter().all(is_out) {
            sources.ranked.retain(|source| !is_out(source));
        }
    }
}

/// Whether a name of an address leads back to it.
async fn look_up(resolver: &dyn Resolver, ip: IpAddr) -> Found {
    let nothing = |error: &DnsError| error.negative().is_none();
    let names = match resolver.ptr(ip).await {
        Ok(answer) => answer.records,
        Err(error) if nothing(&error) => return Found::Nothing,
        Err(_) => return Found::Fault("the address has no name".to_owned()),
    };
    let mut unanswered = false;
    for name in names.iter().take(NAMES_MAX) {
        match resolver.aaaa(name).await {
            Ok(answer) if answer.records.iter().any(|found| *found == ip) => return Found::Name,
            Err(error) if nothing(&error) => unanswered = true,
            Ok(_) | Err(_) => {}
        }
    }
    match unanswered {
        true => Found::Nothing,
        false => Found::Fault(format!("its name {} does not lead back", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::{FakeResolver, Question, Record};

    use super::*;

    const IP: &str = "2606:4700::11";

    fn ip() -> IpAddr {
        IP.parse().unwrap()
    }

    #[tokio::test]
    async fn a_name_leads_back_or_not_and_no_answer_is_no_proof() {
        let dns = FakeResolver::default();
        let reverse = Question::reverse(ip());
        let found = async || look_up(&dns, ip()).await;
        let fault = |text: &str| Found::Fault(text.to_owned());
        assert_eq!(found().await, fault("the address has no name"));
        dns.fail(reverse.name());
        assert_eq!(found().await, Found::Nothing);
        dns.mend(reverse.name());
        dns.add(reverse.name(), Record::Ptr("out.test".into()));
        let elsewhere = "its name out.test does not lead back";
        assert_eq!(found().await, fault(elsewhere));
        dns.add_address("out.test", "2606:4700::12");
        assert_eq!(found().await, fault(elsewhere));
        dns.fail("out.test");
        assert_eq!(found().await, Found::Nothing);
        dns.mend("out.test");
        dns.add_address("out.test", IP);
        assert_eq!(found().await, Found::Name);
    }

    #[test]
    fn what_was_found_holds_until_it_is_looked_up_again() {
        let names = Names::default();
        let at = |minutes: u64| Moment(Duration::from_secs(60 * minutes));
        assert!(names.is_due(ip(), at(0)));
        names.note(ip(), Found::Nothing, at(0));
        assert_eq!(names.fault(ip()), None);
        assert!(!names.is_due(ip(), at(4)) && names.is_due(ip(), at(5)));
        names.note(ip(), Found::Fault("no".into()), at(5));
        assert_eq!(names.fault(ip()).as_deref(), Some("no"));
        assert!(!names.is_due(ip(), at(64)) && names.is_due(ip(), at(65)));
        names.note(ip(), Found::Nothing, at(65));
        assert_eq!(names.fault(ip()).as_deref(), Some("no"), "it stays");
        names.note(ip(), Found::Name, at(70));
        assert_eq!(names.fault(ip()), None);
        assert!(!names.is_due(ip(), at(70 + 24 * 60 - 1)));
    }

    #[test]
    fn only_addresses_of_the_internet_need_a_name() {
        let source = |ip: &str| Source {
            name: "one".into(),
            via: Via::Ip(ip.parse().unwrap()),
            ehlo: "mail.example.org".parse().unwrap(),
            terms: Default::default(),
        };
        assert_eq!(source(IP).named_ip(), Some(ip()));
        for other in ["::1", "fd00::1", "fe80::1", "2001:db8::1", "8.8.8.8"] {
            assert_eq!(source(other).named_ip(), None, "{other}");
        }
    }
}
