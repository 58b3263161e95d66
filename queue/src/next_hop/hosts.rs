//! The hosts that take the mail of a domain, and the addresses of a host.

use std::{net::IpAddr, time::Duration};

use postrider_dns::{Answer, DnsError, Mx, Resolver};
use postrider_smtp::{Cause, DeliveryStatus, Domain, EnhancedCode};

use super::Hop;
use crate::faults::OwnFault;

/// How many hosts of a domain a plan has. An attempt tries ten of them, so hosts of one preference
/// take turns.
const HOSTS_MAX: usize = 20;
/// How many of them a plan has in any case.
const HOSTS_MIN: usize = 10;
/// How long the names of the hosts are together, in bytes. Longer names are for nobody's good.
const NAMES_MAX: usize = 2048;

/// A host, and its preference: the host with the lowest preference is tried first.
pub(crate) type MailHost = (u16, String);

/// Why a look-up gave nothing to go by.
#[derive(Clone, Debug)]
pub(crate) struct LookUpFailure {
    /// The reason, as the sender is told.
    pub(crate) status: DeliveryStatus,
    /// It is a fault of ours. It counts for no message.
    pub(crate) fault: Option<OwnFault>,
    /// There was no answer. Another time there may be one.
    pub(crate) unanswered: bool,
    /// How long that holds. Zero: it may be over at once.
    pub(crate) holds: Duration,
}

/// The failure of a look-up without an answer.
pub(super) fn unanswered(what: &str, error: &DnsError) -> LookUpFailure {
    let text = format!("looking up {what}: {error}");
    let fault = match error {
        DnsError::System { errno, .. } => OwnFault::of_errno(*errno),
        _ => None,
    };
    LookUpFailure {
        status: DeliveryStatus::transient(Cause::Dns, EnhancedCode::DIRECTORY_FAILURE, text),
        fault,
        unanswered: true,
        holds: Duration::ZERO,
    }
}

/// No host of a domain has an address. That is often repaired, so only the third attempt is final.
pub(crate) fn nowhere(text: String) -> DeliveryStatus {
    DeliveryStatus::transient(Cause::Dns, EnhancedCode::NO_ROUTE_TRANSIENT, text)
}

/// The hosts of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MailHosts {
    /// By preference.
    pub(super) hosts: Vec<MailHost>,
    /// The domain has no MX records, so it is its own host.
    pub(super) implicit: bool,
    /// How long that holds.
    pub(super) holds: Duration,
}

/// The hosts that the MX answer of a domain names, by preference (RFC 5321 §5.1). An address in
/// the place of a name is no host.
///
/// # Errors
/// Why the domain has no hosts. A failed look-up does not hold.
pub(super) fn mail_hosts(
    domain: &Domain,
    answer: Result<Answer<Mx>, DnsError>,
) -> Result<MailHosts, LookUpFailure> {
    let answered = |status, holds| LookUpFailure {
        status,
        fault: None,
        unanswered: false,
        holds,
    };
    let never = |code, text: String, holds| {
        answered(DeliveryStatus::permanent(Cause::Dns, code, text), holds)
    };
    let Answer { records, ttl, .. } = match answer {
        Ok(answer) => answer,
        // Without MX records the domain itself is the host.
        Err(DnsError::NoRecords(negative)) => {
            return Ok(MailHosts {
                hosts: vec![(0, domain.ascii().to_owned())],
                implicit: true,
                holds: negative.ttl,
            });
        }
        Err(DnsError::NoName(negative)) => {
            let text = format!("the domain {domain} does not exist");
            return Err(never(EnhancedCode::UNKNOWN_SYSTEM, text, negative.ttl));
        }
        Err(
            error @ (DnsError::Temporary(_) | DnsError::Bogus { .. } | DnsError::System { .. }),
        ) => {
            return Err(unanswered(&format!("the MX records of {domain}"), &error));
        }
    };
    let mut hosts: Vec<MailHost> = records
        .into_iter()
        .filter(|mx| !mx.host.is_empty())
        .map(|mx| (mx.preference, mx.host))
        .collect();
    if hosts.is_empty() {
        // RFC 7505 §4.2.
        let text = format!("{domain} says that it takes no mail (null MX)");
        return Err(never(EnhancedCode::NULL_MX, text, ttl));
    }
    hosts.retain(|(_, host)| host.parse::<IpAddr>().is_err());
    if hosts.is_empty() {
        let text = format!("the MX hosts of {domain} are addresses, not names");
        return Err(answered(nowhere(text), ttl));
    }
    // Each host once, with its lowest preference.
    hosts.sort_by(|(preference_a, a), (preference_b, b)| (a, preference_a).cmp(&(b, preference_b)));
    hosts.dedup_by(|(_, next), (_, host)| next == host);
    hosts.sort_by_key(|(preference, _)| *preference);
    Ok(MailHosts {
        hosts,
        implicit: false,
        holds: ttl,
    })
}

/// Leaves as many of the best hosts as a plan has. Whoever owns a domain chooses how many hosts it
/// has, and how long their names are.
pub(super) fn shorten(hosts: &mut Vec<MailHost>) {
    let mut left = NAMES_MAX;
    let mut names = hosts.iter().enumerate();
    let over = names.position(|(at, (_, name))| {
        left = left.saturating_sub(name.len());
        at >= HOSTS_MAX || (at >= HOSTS_MIN && left == 0)
    });
    hosts.truncate(over.unwrap_or(hosts.len()));
    hosts.shrink_to_fit();
}

/// Whether no host has a better preference than those of a level.
pub(crate) fn is_best(level: &[Hop], hops: &[Hop]) -> bool {
    let best = hops.iter().map(|hop| hop.preference).min();
    level.first().map(|hop| hop.preference) == best
}

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostAddresses {
    pub(crate) addresses: Vec<IpAddr>,
    /// The names at which the TLSA records of the host may be, the best first. Empty if DNSSEC does
    /// not prove the host.
    pub(crate) tlsa_bases: Vec<String>,
}

/// Where the TLSA records of a host may be (RFC 7672 §2.2.2): at the name that its CNAMEs lead to,
/// if DNSSEC proves all of them and the addresses, and at its own name. That one counts also if
/// DNSSEC proves no more than its CNAME. Elsewhere nobody asks: many servers of zones without
/// DNSSEC do not answer questions for TLSA records.
fn tlsa_bases(host: &str, found: &Answer<IpAddr>) -> Vec<String> {
    let first = found.aliases.first();
    match (found.authentic, found.expanded()) {
        (true, Some(expanded)) => vec![expanded.to_owned(), host.to_owned()],
        (true, None) => vec![host.to_owned()],
        (false, _) if first.is_some_and(|alias| alias.authentic) => vec![host.to_owned()],
        (false, _) => Vec::new(),
    }
}

/// The addresses of a host. The families take turns, so that one broken family does not take all
/// the time.
///
/// # Errors
/// Why the host has no addresses. This is never permanent: another host of the domain may do, and
/// names are often repaired. It has the status [`nowhere`] if the DNS says that there are none.
pub(crate) async fn addresses(
    resolver: &dyn Resolver,
    host: &str,
    first_ipv6: bool,
) -> Result<HostAddresses, LookUpFailure> {
    if let Ok(address) = host.parse() {
        return Ok(HostAddresses {
            addresses: vec![address],
            tlsa_bases: Vec::new(),
        });
    }
    let found = resolver.addresses(host).await;
    let found = found.map_err(|error| match error.negative() {
        Some(negative) => LookUpFailure {
            status: nowhere(format!("{host} has no address: {error}")),
            fault: None,
            unanswered: false,
            holds: negative.ttl,
        },
        None => unanswered(&format!("the addresses of {host}"), &error),
    })?;
    let tlsa_bases = tlsa_bases(host, &found);
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = found.records.into_iter().partition(IpAddr::is_ipv6);
    let (first, second) = if first_ipv6 { (v6, v4) } else { (v4, v6) };
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        match (first.next(), second.next()) {
            (None, None) => {
                return Ok(HostAddresses {
                    addresses: mixed,
                    tlsa_bases,
                });
            }
            (a, b) => mixed.extend(a.into_iter().chain(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::FakeResolver;

    use super::*;

    async fn of(resolver: &FakeResolver, domain: &str) -> Result<Vec<MailHost>, String> {
        let domain: Domain = domain.parse().unwrap();
        match mail_hosts(&domain, resolver.mx(domain.ascii()).await) {
            Ok(found) => {
                assert_eq!(found.holds, Duration::from_secs(60));
                assert_eq!(found.implicit, domain.ascii() == "none.test");
                Ok(found.hosts)
            }
            Err(failure) => Err(failure.status.to_string()),
        }
    }

    #[tokio::test]
    async fn hosts_by_preference() {
        let resolver = FakeResolver::default();
        resolver.set_mx(
            "two.test",
            &[
                (20, "b.test"),
                (10, "a.test"),
                (0, ""),
                (20, "b.test"),
                (30, "a.test"),
                (5, "192.0.2.1"),
                (5, "2001:db8::1"),
            ],
        );
        resolver.set_mx("null.test", &[(0, "")]);
        resolver.set_mx("none.test", &[]);
        resolver.set_mx("addresses.test", &[(10, "192.0.2.1")]);
        resolver.fail("fail.test");
        resolver.bogus("bogus.test");
        assert_eq!(
            of(&resolver, "two.test").await,
            Ok(vec![(10, "a.test".into()), (20, "b.test".into())])
        );
        assert_eq!(
            of(&resolver, "none.test").await,
            Ok(vec![(0, "none.test".into())])
        );
        for (domain, code) in [
            ("null.test", "5.1.10"),
            ("gone.test", "5.1.2"),
            ("addresses.test", "4.4.4"),
            ("fail.test", "4.4.3"),
            ("bogus.test", "4.4.3"),
        ] {
            let error = of(&resolver, domain).await.unwrap_err();
            assert!(error.contains(code), "{error}");
        }
    }

    #[test]
    fn a_plan_has_the_best_hosts_and_few_bytes_of_names() {
        for (count, length, left) in [(100, 20, 20), (9, 250, 9), (100, 250, 10), (100, 150, 13)] {
            let name = |number: usize| format!("{number:0>length$}");
            let mut hosts: Vec<MailHost> = (1..=count).map(|it| (10, name(it))).collect();
            shorten(&mut hosts);
            assert_eq!(hosts.len(), left, "{count} {length}");
            assert_eq!(hosts[0].1, name(1));
        }
    }

    /// `a` is an alias of `b`, and that of `c`, which has the address.
    #[tokio::test]
    async fn tlsa_records_are_where_dnssec_proves_the_way() {
        for (host, distrusted, expected) in [
            ("a.test", "", &["c.test", "a.test"][..]),
            ("a.test", "c.test", &["a.test"]),
            ("a.test", "b.test", &["a.test"]),
            ("a.test", "a.test", &[]),
            ("c.test", "", &["c.test"]),
            ("c.test", "c.test", &[]),
            ("192.0.2.1", "", &[]),
        ] {
            let resolver = FakeResolver::default();
            let alias = |target: &str| postrider_dns::Record::Cname(target.to_owned());
            resolver.add("a.test", alias("b.test"));
            resolver.add("b.test", alias("c.test"));
            resolver.add_address("c.test", "192.0.2.1");
            resolver.distrust(distrusted);
            let found = addresses(&resolver, host, true).await.unwrap();
            assert_eq!(found.tlsa_bases, expected, "{host} {distrusted}");
        }
    }

    #[tokio::test]
    async fn families_take_turns() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let resolver = FakeResolver::default();
        for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            resolver.add_address("a.test", address);
        }
        let turns = addresses(&resolver, "a.test", true).await.unwrap();
        assert_eq!(
            turns.addresses,
            ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map(ip)
        );
        resolver.set_mx("mx-only.test", &[(10, "a.test")]);
        resolver.fail("fail.test");
        for (host, code, is_unanswered) in [
            ("b.test", "4.4.4", false),
            ("mx-only.test", "4.4.4", false),
            ("fail.test", "4.4.3", true),
        ] {
            let failure = addresses(&resolver, host, true).await.unwrap_err();
            assert_eq!(failure.status.enhanced.unwrap().to_string(), code, "{host}");
            assert_eq!(failure.unanswered, is_unanswered, "{host}");
        }
    }
}
