//! DNS as delivery needs it: the few questions, their answers, and which hosts take a domain's mail.

use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
};
use postrider_smtp::{Cause, DeliveryStatus, Domain, EnhancedCode, Host};
use rand::{Rng, seq::SliceRandom};

/// How many hosts of a domain are tried in one attempt.
const HOSTS_MAX: usize = 10;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// There is no such name.
    #[error("the name does not exist")]
    NoName,
    /// The name is there, but has no such records.
    #[error("the name has no such records")]
    NoRecords,
    /// No answer now.
    #[error("{0}")]
    Temporary(String),
}

/// An MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mx {
    /// Lower is better.
    pub preference: u16,
    /// The host in lower-case without its last dot; empty for the root, which means "no mail" (RFC 7505).
    pub host: String,
}

/// An answer in the making.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, DnsError>> + Send>>;

/// Answers questions.
pub trait Resolver: Send + Sync {
    /// The MX records of a domain, CNAMEs followed; not empty.
    fn mx(&self, name: &str) -> Answer<Vec<Mx>>;
    /// The addresses of a host, of both families; not empty.
    fn addresses(&self, name: &str) -> Answer<Vec<IpAddr>>;
}

/// Asks DNS servers.
#[derive(Clone)]
pub struct SystemResolver(TokioResolver);

/// Why no resolver can be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up the DNS resolver: {0}; set resolver.servers")]
pub struct SetupError(String);

impl SystemResolver {
    /// Asks `servers`; those of the system if there are none.
    ///
    /// # Errors
    /// If the system's configuration can't be read.
    pub fn new(servers: &[SocketAddr], timeout: Duration) -> Result<Self, SetupError> {
        let mut options = ResolverOpts::default();
        options.timeout = timeout;
        options.attempts = 2;
        options.ndots = 0;
        let failed = |error: NetError| SetupError(error.to_string());
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio().map_err(failed)?
        } else {
            let servers = servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        builder
            .with_options(options)
            .build()
            .map(Self)
            .map_err(failed)
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn failure(error: &NetError) -> DnsError {
    if error.is_nx_domain() {
        DnsError::NoName
    } else if error.is_no_records_found() {
        DnsError::NoRecords
    } else {
        DnsError::Temporary(error.to_string())
    }
}

impl Resolver for SystemResolver {
    fn mx(&self, name: &str) -> Answer<Vec<Mx>> {
        let (resolver, name) = (self.0.clone(), format!("{name}."));
        Box::pin(async move {
            let found = resolver
                .lookup(name, RecordType::MX)
                .await
                .map_err(|error| failure(&error))?;
            let records: Vec<Mx> = found
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::MX(mx) => Some(Mx {
                        preference: mx.preference,
                        host: mx
                            .exchange
                            .to_ascii()
                            .trim_end_matches('.')
                            .to_ascii_lowercase(),
                    }),
                    _ => None,
                })
                .collect();
            if records.is_empty() {
                Err(DnsError::NoRecords)
            } else {
                Ok(records)
            }
        })
    }

    fn addresses(&self, name: &str) -> Answer<Vec<IpAddr>> {
        let (resolver, name) = (self.0.clone(), format!("{name}."));
        Box::pin(async move {
            let (v4, v6) = tokio::join!(
                resolver.lookup(name.clone(), RecordType::A),
                resolver.lookup(name.clone(), RecordType::AAAA)
            );
            let mut addresses = Vec::new();
            let mut error = None;
            for found in [v4, v6] {
                match found {
                    Ok(found) => addresses.extend(
                        found
                            .answers()
                            .iter()
                            .filter_map(|record| record.data.ip_addr()),
                    ),
                    // That one family is missing is no failure; a failed look-up is, if the other finds nothing.
                    Err(found) => match (&error, failure(&found)) {
                        (Some(DnsError::Temporary(_)), _) => {}
                        (_, failure) => error = Some(failure),
                    },
                }
            }
            match error {
                Some(error) if addresses.is_empty() => Err(error),
                _ if addresses.is_empty() => Err(DnsError::NoRecords),
                _ => Ok(addresses),
            }
        })
    }
}

/// Answers from tables: for tests, and to see what a zone would do.
#[derive(Clone, Debug, Default)]
pub struct MapResolver {
    /// MX records by domain.
    pub mx: HashMap<String, Vec<Mx>>,
    /// Addresses by host.
    pub addresses: HashMap<String, Vec<IpAddr>>,
    /// Names whose look-ups fail for now.
    pub failing: Vec<String>,
}

impl MapResolver {
    fn find<T: Clone + Send + 'static>(
        &self,
        table: &HashMap<String, Vec<T>>,
        name: &str,
    ) -> Answer<Vec<T>> {
        let known = self.mx.contains_key(name) || self.addresses.contains_key(name);
        let answer = match table.get(name) {
            _ if self.failing.iter().any(|failing| failing == name) => {
                Err(DnsError::Temporary("no server answers".to_owned()))
            }
            Some(records) if !records.is_empty() => Ok(records.clone()),
            _ if known => Err(DnsError::NoRecords),
            _ => Err(DnsError::NoName),
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Resolver for MapResolver {
    fn mx(&self, name: &str) -> Answer<Vec<Mx>> {
        self.find(&self.mx, name)
    }

    fn addresses(&self, name: &str) -> Answer<Vec<IpAddr>> {
        self.find(&self.addresses, name)
    }
}

/// The hosts that take a destination's mail, best first (RFC 5321 §5.1). An address literal is its own host.
///
/// # Errors
/// Why there are none, as it is told to the sender.
pub async fn hosts(
    resolver: &dyn Resolver,
    destination: &Host,
    rng: &mut (impl Rng + Send),
) -> Result<Vec<String>, DeliveryStatus> {
    let domain = match destination {
        Host::Domain(domain) => domain,
        Host::Literal(address) => return Ok(vec![address.to_string()]),
    };
    let mut records = match resolver.mx(domain.ascii()).await {
        Ok(records) => records,
        // Without MX the domain itself is the host.
        Err(DnsError::NoRecords) => return Ok(vec![domain.ascii().to_owned()]),
        Err(DnsError::NoName) => return Err(no_domain(domain)),
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
pub async fn addresses(
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
    let (v6, v4): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv6);
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
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn mx(preference: u16, host: &str) -> Mx {
        Mx {
            preference,
            host: host.into(),
        }
    }

    async fn of(resolver: &MapResolver, destination: &str) -> Result<Vec<String>, String> {
        let destination = Host::parse(destination).unwrap();
        hosts(resolver, &destination, &mut StdRng::seed_from_u64(1))
            .await
            .map_err(|status| status.to_string())
    }

    #[tokio::test]
    async fn hosts_by_preference() {
        let mut resolver = MapResolver::default();
        resolver.mx.insert(
            "two.test".into(),
            vec![mx(20, "b.test"), mx(10, "a.test"), mx(20, "b.test")],
        );
        resolver.mx.insert("null.test".into(), vec![mx(0, "")]);
        resolver.mx.insert("none.test".into(), vec![]);
        resolver.failing.push("fail.test".into());
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
        assert!(
            of(&resolver, "null.test")
                .await
                .unwrap_err()
                .contains("5.1.10")
        );
        assert!(
            of(&resolver, "gone.test")
                .await
                .unwrap_err()
                .contains("5.1.2")
        );
        assert!(
            of(&resolver, "fail.test")
                .await
                .unwrap_err()
                .contains("4.4.3")
        );
    }

    #[tokio::test]
    async fn families_take_turns() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut resolver = MapResolver::default();
        let all = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(ip);
        resolver.addresses.insert("a.test".into(), all.into());
        let turns = addresses(&resolver, "a.test", true).await.unwrap();
        assert_eq!(turns, ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map(ip));
        assert!(addresses(&resolver, "b.test", true).await.is_err());
    }
}
