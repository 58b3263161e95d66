//! The next hops of messages. A [`Plan`] is made before the messages of a destination are worked
//! on, and without connections: it follows from answers of DNS and from the configuration.
//!
//! [`Plans`] remembers plans for the smallest TTL of the answers. The addresses of hosts are not
//! part of a plan. They are looked up for each attempt, and the cache of `postrider-dns` keeps
//! them.

mod hosts;
mod plans;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use postrider_config::{Direct, Lmtp, Smarthost};
use postrider_dns::Resolver;
use postrider_smtp::{DeliveryStatus, Host, client::Credentials};
use postrider_store::Destination;
use rand::{Rng, seq::SliceRandom};

pub(crate) use hosts::{LookUpFailure, addresses};
pub(crate) use plans::Plans;

use crate::{
    faults::OwnFault,
    route::{self, SmarthostTls},
    tls::TlsRule,
};

/// A site shares connections and limits: a set of MX hosts, an address, or a transport.
///
/// | kind | text |
/// |---|---|
/// | MX hosts | their names, sorted, without preferences, with commas between them |
/// | address literal | `[192.0.2.1]` |
/// | smarthost, LMTP server | `transport:NAME` |
/// | this machine (localserve) | `local:DESTINATION` |
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Site(Arc<str>);

impl Site {
    fn of_hosts(hops: &[Hop]) -> Self {
        let mut names: Vec<&str> = hops.iter().map(|hop| hop.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        Self(names.join(",").into())
    }
}

impl From<&str> for Site {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    /// A name, or an address.
    pub(crate) name: String,
    /// The hosts with the lowest preference are tried first, in random order.
    pub(crate) preference: u16,
    pub(crate) port: u16,
}

impl Hop {
    /// A host of the configuration.
    fn named(host: &Host, port: u16) -> Self {
        Self {
            name: match host {
                Host::Domain(domain) => domain.ascii().to_owned(),
                Host::Literal(address) => address.to_string(),
            },
            preference: 0,
            port,
        }
    }
}

/// How the hosts are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As the hosts of the recipient's domain.
    Direct(Direct),
    /// As a host of the configuration, with this login.
    Smarthost(Option<Credentials>),
    /// By LMTP (RFC 2033): the host has the mailboxes.
    Lmtp(LmtpPlace),
}

/// Where an LMTP server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LmtpPlace {
    /// At the hops of the plan.
    Hops,
    /// At a Unix socket.
    Socket(Arc<Path>),
}

impl Way {
    /// The other side has the mailboxes of the recipients.
    pub(crate) const fn is_last(&self) -> bool {
        matches!(self, Self::Lmtp(_))
    }
}

/// The way of the messages of a destination, by one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) site: Site,
    /// The transport's name; empty without one.
    pub(crate) transport: String,
    /// By preference.
    pub(crate) hops: Vec<Hop>,
    pub(crate) tls: TlsRule,
    pub(crate) way: Way,
}

impl Plan {
    /// The plan for a smarthost.
    pub(crate) fn smarthost(transport: &str, host: &Smarthost, tls: SmarthostTls) -> Self {
        let login = route::login(host);
        Self {
            site: format!("transport:{transport}").as_str().into(),
            transport: transport.to_owned(),
            hops: vec![Hop::named(&host.host, host.port)],
            tls: TlsRule::Smarthost {
                tls,
                verify: !host.insecure_skip_verify,
                login: login.is_some(),
            },
            way: Way::Smarthost(login),
        }
    }

    /// The plan for an LMTP server. Over TCP it gets TLS if it offers it.
    pub(crate) fn lmtp(transport: &str, place: &Lmtp) -> Self {
        let (hops, place) = match place {
            Lmtp::Tcp { host, port } => (vec![Hop::named(host, *port)], LmtpPlace::Hops),
            Lmtp::Socket(path) => (Vec::new(), LmtpPlace::Socket(path.as_path().into())),
        };
        Self {
            site: format!("transport:{transport}").as_str().into(),
            transport: transport.to_owned(),
            hops,
            tls: TlsRule::Lmtp,
            way: Way::Lmtp(place),
        }
    }

    /// The plan for messages that do not leave this machine.
    pub(crate) fn local(destination: &str) -> Self {
        Self {
            site: format!("local:{destination}").as_str().into(),
            transport: String::new(),
            hops: Vec::new(),
            tls: TlsRule::ByHost,
            way: Way::Direct(Direct::default()),
        }
    }

    /// The hosts in the order of one attempt: hosts of one preference in random order, so that load
    /// spreads.
    pub(crate) fn shuffled(&self, rng: &mut impl Rng) -> Vec<Hop> {
        let mut hops = self.hops.clone();
        hops.shuffle(rng);
        hops.sort_by_key(|hop| hop.preference);
        hops
    }
}

/// The target of a plan: a destination, by a transport that goes straight to its hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PlanKey {
    pub(crate) destination: Destination,
    /// The transport's name; empty without one.
    pub(crate) transport: String,
}

/// A plan that was made, or why there is none.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Result<Arc<Plan>, DeliveryStatus>,
    /// There is none by a fault of ours.
    pub(crate) fault: Option<OwnFault>,
    /// How long it holds. Zero after a failure that may be over at once.
    pub(crate) holds: Duration,
}

/// Makes the plan for a destination whose hosts are reached directly. An address literal is its own
/// host.
pub(crate) async fn plan(
    resolver: &dyn Resolver,
    destination: &Host,
    transport: &str,
    settings: &Direct,
) -> Planned {
    let found = match destination {
        Host::Literal(address) => Ok((vec![(0, address.to_string())], Duration::MAX)),
        Host::Domain(domain) => hosts::mail_hosts(domain, resolver.mx(domain.ascii()).await),
    };
    let (hosts, holds) = match found {
        Ok(found) => found,
        Err(failure) => {
            return Planned {
                plan: Err(failure.status),
                fault: failure.fault,
                holds: failure.holds,
            };
        }
    };
    let hops: Vec<Hop> = hosts
        .into_iter()
        .map(|(preference, name)| Hop {
            name,
            preference,
            port: 25,
        })
        .collect();
    let site = match destination {
        Host::Literal(_) => destination.ascii().as_str().into(),
        Host::Domain(_) => Site::of_hosts(&hops),
    };
    let plan = Plan {
        site,
        transport: transport.to_owned(),
        hops,
        tls: TlsRule::ByHost,
        way: Way::Direct(settings.clone()),
    };
    Planned {
        plan: Ok(Arc::new(plan)),
        fault: None,
        holds,
    }
}

#[cfg(test)]
mod tests {
    use postrider_dns::FakeResolver;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    async fn direct(resolver: &FakeResolver, destination: &str) -> Plan {
        let destination = Host::parse(destination).unwrap();
        let planned = plan(resolver, &destination, "", &Direct::default()).await;
        Plan::clone(&planned.plan.unwrap())
    }

    #[tokio::test]
    async fn a_site_is_a_set_of_hosts() {
        let resolver = FakeResolver::default();
        resolver.set_mx("a.test", &[(10, "mx1.test"), (20, "mx2.test")]);
        resolver.set_mx("b.test", &[(5, "mx2.test"), (5, "mx1.test")]);
        resolver.set_mx("c.test", &[(10, "mx1.test")]);
        resolver.set_mx("d.test", &[]);
        let site = async |destination: &str| direct(&resolver, destination).await.site.to_string();
        assert_eq!(site("a.test").await, "mx1.test,mx2.test");
        assert_eq!(site("b.test").await, "mx1.test,mx2.test");
        assert_eq!(site("c.test").await, "mx1.test");
        assert_eq!(site("d.test").await, "d.test");
        assert_eq!(site("[192.0.2.1]").await, "[192.0.2.1]");
        assert_eq!(site("[IPv6:2001:db8::1]").await, "[IPv6:2001:db8::1]");
    }

    #[tokio::test]
    async fn hosts_of_one_preference_change_places() {
        let resolver = FakeResolver::default();
        resolver.set_mx(
            "a.test",
            &[(10, "mx1.test"), (10, "mx2.test"), (5, "mx3.test")],
        );
        let plan = direct(&resolver, "a.test").await;
        let mut rng = StdRng::seed_from_u64(1);
        let mut seconds = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let hops = plan.shuffled(&mut rng);
            assert_eq!(hops[0].name, "mx3.test");
            seconds.insert(hops[1].name.clone());
        }
        assert_eq!(seconds.len(), 2);
    }
}
