//! The hosts that take the mail of a domain, and the addresses of a host.

use std::{net::IpAddr, time::Duration};

use postrider_dns::{Answer, DnsError, Mx, Resolver};
use postrider_smtp::{Cause, DeliveryStatus, Domain, EnhancedCode};

use crate::faults::OwnFault;

/// How many hosts of a domain a plan has. It only bounds memory: an attempt tries fewer.
const HOSTS_MAX: usize = 100;

/// A host, and its preference: the host with the lowest preference is tried first.
pub(crate) type MailHost = (u16, String);

/// Why a look-up gave nothing to go by.
#[derive(Clone, Debug)]
pub(crate) struct LookUpFailure {
    /// The reason, as the sender is told.
    pub(crate) status: DeliveryStatus,
    /// It is a fault of ours. It counts for no message.
    pub(crate) fault: Option<OwnFault>,
    /// How long that holds. Zero: it may be over at once.
    pub(crate) holds: Duration,
}

/// The failure of a look-up without an answer.
fn unanswered(what: &str, error: &DnsError) -> LookUpFailure {
    let text = format!("looking up {what}: {error}");
    let fault = match error {
        DnsError::System { errno, .. } => OwnFault::of_errno(*errno),
        _ => None,
    };
    LookUpFailure {
        status: DeliveryStatus::transient(Cause::Dns, EnhancedCode::DIRECTORY_FAILURE, text),
        fault,
        holds: Duration::ZERO,
    }
}

/// The hosts that the MX answer of a domain names, by preference (RFC 5321 §5.1), and how long
/// that holds.
///
/// # Errors
/// Why the domain has no hosts. A failed look-up does not hold.
pub(super) fn mail_hosts(
    domain: &Domain,
    answer: Result<Answer<Mx>, DnsError>,
) -> Result<(Vec<MailHost>, Duration), LookUpFailure> {
    let never = |code, text: String, holds| LookUpFailure {
        status: DeliveryStatus::permanent(Cause::Dns, code, text),
        fault: None,
        holds,
    };
    let Answer { records, ttl, .. } = match answer {
        Ok(answer) => answer,
        // Without MX records the domain itself is the host.
        Err(DnsError::NoRecords(negative)) => {
            return Ok((vec![(0, domain.ascii().to_owned())], negative.ttl));
        }
        Err(DnsError::NoName(negative)) => {
            let text = format!("the domain {domain} does not exist");
            return Err(never(EnhancedCode::UNKNOWN_SYSTEM, text, negative.ttl));
        }
        Err(error @ (DnsError::Temporary(_) | DnsError::System { .. })) => {
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
    // Each host once, with its lowest preference.
    hosts.sort_by(|(preference_a, a), (preference_b, b)| (a, preference_a).cmp(&(b, preference_b)));
    hosts.dedup_by(|(_, next), (_, host)| next == host);
    hosts.sort_by_key(|(preference, _)| *preference);
    hosts.truncate(HOSTS_MAX);
    Ok((hosts, ttl))
}

/// The addresses of a host. The families take turns, so that one broken family does not take all
/// the time.
///
/// # Errors
/// Why the host has no addresses. This is never permanent: another host of the domain may do, and
/// names are often repaired.
pub(crate) async fn addresses(
    resolver: &dyn Resolver,
    host: &str,
    first_ipv6: bool,
) -> Result<Vec<IpAddr>, LookUpFailure> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let found = resolver.addresses(host).await;
    let found = found.map_err(|error| unanswered(&format!("the addresses of {host}"), &error))?;
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = found.records.into_iter().partition(IpAddr::is_ipv6);
    let (first, second) = if first_ipv6 { (v6, v4) } else { (v4, v6) };
    let mut mixed = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        match (first.next(), second.next()) {
            (None, None) => return Ok(mixed),
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
            Ok((hosts, ttl)) => {
                assert_eq!(ttl, Duration::from_secs(60));
                Ok(hosts)
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
            ],
        );
        resolver.set_mx("null.test", &[(0, "")]);
        resolver.set_mx("none.test", &[]);
        resolver.fail("fail.test");
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
            ("fail.test", "4.4.3"),
        ] {
            let error = of(&resolver, domain).await.unwrap_err();
            assert!(error.contains(code), "{error}");
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
        assert_eq!(turns, ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map(ip));
        assert!(addresses(&resolver, "b.test", true).await.is_err());
    }
}
