//! The next hops of a message: the hosts that take the mail of a domain, and their addresses.

use std::net::IpAddr;

use postrider_dns::{DnsError, Resolver};
use postrider_smtp::{Cause, DeliveryStatus, Domain, EnhancedCode, Host};
use rand::{Rng, seq::SliceRandom};

/// How many hosts of a domain are tried in one attempt.
const HOSTS_MAX: usize = 10;

/// The hosts that take a destination's mail, best first (RFC 5321 §5.1). An address literal is its own host.
///
/// # Errors
/// Why there are none, as it is told to the sender.
pub(crate) async fn hosts(
    resolver: &dyn Resolver,
    destination: &Host,
    rng: &mut (impl Rng + Send),
) -> Result<Vec<String>, DeliveryStatus> {
    let domain = match destination {
        Host::Domain(domain) => domain,
        Host::Literal(address) => return Ok(vec![address.to_string()]),
    };
    let mut records = match resolver.mx(domain.ascii()).await {
        Ok(answer) => answer.records,
        // Without MX the domain itself is the host.
        Err(DnsError::NoRecords(_)) => return Ok(vec![domain.ascii().to_owned()]),
        Err(DnsError::NoName(_)) => return Err(no_domain(domain)),
        Err(DnsError::Temporary(text)) => {
            let text = format!("looking up the MX records of {domain}: {text}");
            return Err(DeliveryStatus::transient(
                Cause::Dns,
                EnhancedCode::transient(4, 3),
                text,
            ));
        }
    };
    if records.iter().all(|mx| mx.host.is_empty()) {
        // RFC 7505 §4.2.
        let text = format!("{domain} says that it takes no mail (null MX)");
        return Err(DeliveryStatus::permanent(
            Cause::Dns,
            EnhancedCode::permanent(1, 10),
            text,
        ));
    }
    records.retain(|mx| !mx.host.is_empty());
    // Equals in random order, so that load spreads.
    records.shuffle(rng);
    records.sort_by_key(|mx| mx.preference);
    let mut hosts: Vec<String> = Vec::new();
    for mx in records {
        if !hosts.contains(&mx.host) {
            hosts.push(mx.host);
        }
    }
    hosts.truncate(HOSTS_MAX);
    Ok(hosts)
}

fn no_domain(domain: &Domain) -> DeliveryStatus {
    let text = format!("the domain {domain} does not exist");
    DeliveryStatus::permanent(Cause::Dns, EnhancedCode::permanent(1, 2), text)
}

/// The addresses of a host, the families taking turns so that one broken family does not take all the time.
///
/// # Errors
/// Why there are none. Always for now: another host of the domain may do, and names are often repaired.
pub(crate) async fn addresses(
    resolver: &dyn Resolver,
    host: &str,
    first_ipv6: bool,
) -> Result<Vec<IpAddr>, DeliveryStatus> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let found = resolver.addresses(host).await.map_err(|error| {
        let text = format!("looking up the addresses of {host}: {error}");
        DeliveryStatus::transient(Cause::Dns, EnhancedCode::transient(4, 3), text)
    })?;
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
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    async fn of(resolver: &FakeResolver, destination: &str) -> Result<Vec<String>, String> {
        let destination = Host::parse(destination).unwrap();
        hosts(resolver, &destination, &mut StdRng::seed_from_u64(1))
            .await
            .map_err(|status| status.to_string())
    }

    #[tokio::test]
    async fn hosts_by_preference() {
        let resolver = FakeResolver::default();
        resolver.mx(
            "two.test",
            &[(20, "b.test"), (10, "a.test"), (20, "b.test")],
        );
        resolver.mx("null.test", &[(0, "")]);
        resolver.mx("none.test", &[]);
        resolver.fail("fail.test");
        assert_eq!(
            of(&resolver, "two.test").await,
            Ok(vec!["a.test".into(), "b.test".into()])
        );
        assert_eq!(
            of(&resolver, "none.test").await,
            Ok(vec!["none.test".into()])
        );
        assert_eq!(
            of(&resolver, "[192.0.2.1]").await,
            Ok(vec!["192.0.2.1".into()])
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
            resolver.address("a.test", address);
        }
        let turns = addresses(&resolver, "a.test", true).await.unwrap();
        assert_eq!(turns, ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map(ip));
        assert!(addresses(&resolver, "b.test", true).await.is_err());
    }
}
