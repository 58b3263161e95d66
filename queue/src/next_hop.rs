//! The next hops of messages. A [`Plan`] is made before the messages of a destination are worked
//! on, and without connections: it follows from answers of DNS and from the configuration.
//!
//! [`Plans`] remembers plans for the smallest TTL of the answers. The addresses of hosts are not
//! part of a plan. They are looked up for each attempt, and the cache of `postrider-dns` keeps
//! them.

mod dane;
mod failures;
mod hosts;
mod ours;
mod plans;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use postrider_config::{Direct, Lmtp, Provider, Providers, ReplyRule, Smarthost};
use postrider_dns::Resolver;
use postrider_smtp::{Cause, DeliveryStatus, Domain, EnhancedCode, Host};
use postrider_store::{Destination, Queued, StoreError};
use rand::{Rng, seq::SliceRandom};
use sha2::{Digest, Sha256};

use hosts::MailHosts;

pub(crate) use dane::{HostTlsa, host_tlsa};
pub(crate) use hosts::{HostAddresses, LookUpFailure, addresses, is_best, nowhere};
pub use ours::interfaces;
pub(crate) use ours::{Ours, circle};
pub(crate) use plans::Plans;

use crate::{
    faults::OwnFault,
    mta_sts::{Applied, FetchFault, Known},
    route::{Login, SmarthostTls},
    tls::TlsRule,
};

/// What shares limits: the hosts of a provider, a set of MX hosts, an address, or a transport.
///
/// | kind | text |
/// |---|---|
/// | MX hosts of a provider whose entry rolls up | the name of the entry |
/// | other MX hosts | `mx:` and their [`HostSet`] in hexadecimal |
/// | address literal | `[192.0.2.1]` |
/// | smarthost | `transport:NAME` |
/// | LMTP server | `lmtp:HOST:PORT`, `lmtp:PATH` |
/// | this machine (our own domains, localserve) | `local:DESTINATION` |
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Site(Arc<str>);

impl Site {
    /// The site of MX hosts. An entry that has the domain itself, and not only its hosts, is for no
    /// other domain with the same hosts. So the domain has a site of its own.
    fn of_hosts(hosts: &[&str], domain: &Domain, provider: &Provider) -> Self {
        if provider.rollup && provider.has_all(hosts) {
            return Self(provider.name.as_str().into());
        }
        let set = match provider.domains.contains(domain) {
            true => HostSet::of(hosts.iter().copied().chain([domain.ascii()])),
            false => HostSet::of(hosts.iter().copied()),
        };
        Self(format!("mx:{set}").into())
    }
}

/// The first 128 bits of a hash of host names: sorted, without preferences. Connections belong to a
/// set. A site may have several sets, and mail of one never goes to the hosts of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostSet([u8; 16]);

impl HostSet {
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        names.dedup();
        let mut hash = Sha256::new();
        for name in names {
            hash.update(name);
            // A NUL is in no name.
            hash.update([0]);
        }
        let mut set = [0; 16];
        for (to, from) in set.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(set)
    }
}

impl fmt::Display for HostSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Site {
    /// The text of the site.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
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
    Smarthost(Option<Login>),
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
    /// The hosts that connections of the plan belong to.
    pub(crate) set: HostSet,
    /// The limits of the site, and the meaning of its replies. Those of hosts that the
    /// configuration names are the figures of `queue.per_destination`.
    pub(crate) provider: Arc<Provider>,
    /// The transport's name; empty without one.
    pub(crate) transport: String,
    /// By preference. The site of the plan shares them.
    pub(crate) hops: Arc<[Hop]>,
    /// The domain has no MX records, so it is its own host.
    pub(crate) implicit: bool,
    pub(crate) tls: TlsRule,
    /// The MTA-STS policy of the destination.
    pub(crate) mta_sts: Option<Arc<Applied>>,
    /// It is not known whether there is one.
    pub(crate) mta_sts_unknown: bool,
    /// What is wrong with the policy, if one is announced and none is known.
    pub(crate) mta_sts_fault: Option<FetchFault>,
    /// The domain's names that the certificates of its hosts may have under DANE. None if DNSSEC
    /// does not prove the hosts, so that there is no DANE.
    pub(crate) secure_names: Option<Vec<String>>,
    pub(crate) way: Way,
}

impl Plan {
    /// The same plan with other entries of providers. A plan by a transport that names a host has
    /// none.
    pub(crate) fn with(&self, destination: &Host, providers: &Providers) -> Self {
        let Host::Domain(domain) = destination else {
            let provider = Arc::clone(providers.default());
            return Self {
                tls: TlsRule::of_provider(&provider),
                provider,
                ..self.clone()
            };
        };
        let hosts: Vec<&str> = self.hops.iter().map(|hop| hop.name.as_str()).collect();
        let provider = providers.find(domain, &hosts);
        Self {
            site: Site::of_hosts(&hosts, domain, provider),
            tls: TlsRule::of_provider(provider),
            provider: Arc::clone(provider),
            ..self.clone()
        }
    }

    /// Whether the messages of the plan stay on this machine. Any other direct plan has hosts.
    pub(crate) fn stays_here(&self) -> bool {
        matches!(self.way, Way::Direct(_)) && self.hops.is_empty()
    }

    /// What sets the TLS of the plan, in words.
    pub(crate) const fn tls_in_words(&self) -> &'static str {
        use postrider_config::ProviderTls::{Dane, Encrypt, None, Opportunistic, Verify};

        match self.tls {
            TlsRule::ByHost | TlsRule::Provider(Opportunistic) => "by DANE and MTA-STS",
            TlsRule::Provider(None) => "none, by the entry of the provider",
            TlsRule::Provider(Encrypt) => "encrypted at least, by the entry of the provider",
            TlsRule::Provider(Verify) => "verified at least, by the entry of the provider",
            TlsRule::Provider(Dane) => "DANE, by the entry of the provider",
            TlsRule::Lmtp => "if offered",
            TlsRule::Smarthost { tls, verify, .. } => match (tls, verify) {
                (SmarthostTls::Never, _) => "none, by the transport",
                (SmarthostTls::Implicit | SmarthostTls::StartTls, true) => {
                    "verified, by the transport"
                }
                (SmarthostTls::Implicit | SmarthostTls::StartTls, false) => {
                    "encrypted, by the transport"
                }
            },
        }
    }

    /// The rule of the provider for a reply. None for what is no reply, or a success.
    pub(crate) fn rule_for(&self, status: &DeliveryStatus) -> Option<&ReplyRule> {
        if status.cause != Cause::Reply || status.is_success() {
            return None;
        }
        self.provider.replies.find(&status.diagnostic()?)
    }

    /// The plan for a smarthost.
    pub(crate) fn smarthost(
        transport: &str,
        host: &Smarthost,
        tls: SmarthostTls,
        providers: &Providers,
    ) -> Self {
        let login = Login::of(host);
        let site = format!("transport:{transport}");
        Self {
            set: HostSet::of(std::iter::once(site.as_str())),
            site: site.as_str().into(),
            provider: Arc::clone(providers.per_destination()),
            transport: transport.to_owned(),
            implicit: false,
            hops: [Hop::named(&host.host, host.port)].into(),
            tls: TlsRule::Smarthost {
                tls,
                verify: !host.insecure_skip_verify,
                login: login.is_some(),
            },
            mta_sts: None,
            mta_sts_unknown: false,
            mta_sts_fault: None,
            secure_names: None,
            way: Way::Smarthost(login),
        }
    }

    /// The plan for an LMTP server. Over TCP it gets TLS if it offers it.
    pub(crate) fn lmtp(transport: &str, place: &Lmtp, providers: &Providers) -> Self {
        let (address, hops, place) = match place {
            Lmtp::Tcp { host, port } => (
                format!("lmtp:{}:{port}", host.ascii()),
                Arc::from([Hop::named(host, *port)]),
                LmtpPlace::Hops,
            ),
            Lmtp::Socket(path) => (
                format!("lmtp:{}", path.display()),
                Arc::default(),
                LmtpPlace::Socket(path.as_path().into()),
            ),
        };
        Self {
            set: HostSet::of(std::iter::once(address.as_str())),
            site: address.as_str().into(),
            provider: Arc::clone(providers.per_destination()),
            transport: transport.to_owned(),
            hops,
            implicit: false,
            tls: TlsRule::Lmtp,
            mta_sts: None,
            mta_sts_unknown: false,
            mta_sts_fault: None,
            secure_names: None,
            way: Way::Lmtp(place),
        }
    }

    /// The plan for messages that do not leave this machine.
    pub(crate) fn local(destination: &str, providers: &Providers) -> Self {
        let site = format!("local:{destination}");
        Self {
            set: HostSet::of(std::iter::once(site.as_str())),
            site: site.as_str().into(),
            provider: Arc::clone(providers.per_destination()),
            transport: String::new(),
            hops: Arc::default(),
            implicit: false,
            tls: TlsRule::ByHost,
            mta_sts: None,
            mta_sts_unknown: false,
            mta_sts_fault: None,
            secure_names: None,
            way: Way::Direct(Direct::default()),
        }
    }

    /// The hosts in the order of one attempt: hosts of one preference in random order, so that load
    /// spreads.
    pub(crate) fn shuffled(&self, rng: &mut impl Rng) -> Vec<Hop> {
        let mut hops = self.hops.to_vec();
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

impl PlanKey {
    /// The key of the plan of a message, by this transport.
    pub(crate) fn of(message: &Queued, transport: &str) -> Self {
        Self {
            destination: message.destination(),
            transport: transport.to_owned(),
        }
    }
}

/// A plan that was made, or why there is none.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Result<Arc<Plan>, DeliveryStatus>,
    /// There is none by a fault of ours.
    pub(crate) fault: Option<OwnFault>,
    /// There is none because a look-up had no answer.
    pub(crate) unanswered: bool,
    /// How long it holds. Zero after a failure that may be over at once.
    pub(crate) holds: Duration,
}

impl Planned {
    /// The same plan, under what the store tells of the destination's MTA-STS policy. None: MTA-STS
    /// does not count.
    pub(crate) fn under_known(
        self,
        destination: &Host,
        known: Result<Option<Known>, StoreError>,
    ) -> Self {
        match known {
            Ok(Some(known)) => self.under(known),
            Ok(None) => self,
            Err(error) => Self::without_policy(destination, &error),
        }
    }

    /// There is no plan, since the store does not tell the MTA-STS policy of the destination. An
    /// earlier plan goes on.
    fn without_policy(destination: &Host, error: &StoreError) -> Self {
        let text = format!("reading the MTA-STS policy of {destination}: {error}");
        let code = EnhancedCode::DIRECTORY_FAILURE;
        Self {
            plan: Err(DeliveryStatus::transient(Cause::Local, code, text)),
            fault: Some(OwnFault::Store),
            unanswered: false,
            holds: Duration::ZERO,
        }
    }

    /// The same plan, under what is known of the destination's MTA-STS policy.
    fn under(mut self, known: Known) -> Self {
        if let Ok(plan) = &mut self.plan {
            let plan = Arc::make_mut(plan);
            plan.mta_sts_unknown = !known.learnt;
            plan.mta_sts_fault = known.fault;
            plan.mta_sts = known.policy;
            self.holds = self.holds.min(known.holds);
        }
        self
    }
}

/// What plans follow from, beside the answers of DNS.
#[derive(Clone, Copy)]
pub(crate) struct Planner<'a> {
    pub(crate) resolver: &'a dyn Resolver,
    pub(crate) providers: &'a Providers,
    pub(crate) ours: &'a Ours,
}

impl Planner<'_> {
    /// Makes the plan for a destination whose hosts are reached directly. An address literal is its
    /// own host.
    pub(crate) async fn plan(
        self,
        destination: &Host,
        transport: &str,
        settings: &Direct,
    ) -> Planned {
        let mut secure_names = None;
        let found = match destination {
            Host::Literal(address) => Ok(MailHosts {
                hosts: vec![(0, address.to_string())],
                implicit: false,
                holds: Duration::MAX,
            }),
            Host::Domain(domain) => {
                let answer = self.resolver.mx(domain.ascii()).await;
                secure_names = dane::secure_names(domain, &answer);
                hosts::mail_hosts(domain, answer)
            }
        };
        let found = found.and_then(|found| self.without_ours(destination, found));
        let MailHosts {
            mut hosts,
            implicit,
            holds,
        } = match found {
            Ok(found) => found,
            Err(failure) => {
                return Planned {
                    plan: Err(failure.status),
                    fault: failure.fault,
                    unanswered: failure.unanswered,
                    holds: failure.holds,
                };
            }
        };
        hosts::shorten(&mut hosts);
        let hops = hosts.into_iter().map(|(preference, name)| Hop {
            name,
            preference,
            port: 25,
        });
        let hops: Arc<[Hop]> = hops.collect();
        let plan = Plan {
            site: destination.ascii().as_str().into(),
            set: HostSet::of(hops.iter().map(|hop| hop.name.as_str())),
            provider: Arc::clone(self.providers.default()),
            transport: transport.to_owned(),
            hops,
            implicit,
            tls: TlsRule::ByHost,
            mta_sts: None,
            mta_sts_unknown: false,
            mta_sts_fault: None,
            secure_names,
            way: Way::Direct(settings.clone()),
        };
        Planned {
            plan: Ok(Arc::new(plan.with(destination, self.providers))),
            fault: None,
            unanswered: false,
            holds,
        }
    }

    /// Leaves out this server, and all hosts that are no better: they would send the mail here
    /// (RFC 5321 §5.1).
    fn without_ours(
        self,
        destination: &Host,
        mut found: MailHosts,
    ) -> Result<MailHosts, LookUpFailure> {
        let mut hosts = found.hosts.iter();
        let Some((limit, name)) = hosts.find(|(_, name)| self.ours.has_name(name)).cloned() else {
            return Ok(found);
        };
        found.hosts.retain(|(preference, _)| *preference < limit);
        match found.hosts.is_empty() {
            false => Ok(found),
            true => Err(LookUpFailure {
                status: circle(destination, &name),
                fault: None,
                unanswered: false,
                holds: found.holds,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_config::{Dynamic, Static};
    use postrider_dns::FakeResolver;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const STATIC: &str = "hostname = \"a.example\"\npostmaster.account = \"a\"\n\
                          listeners.l.ips = [\"127.0.0.1\"]\n";

    /// The shipped entries, under those of a `domains.conf`.
    fn providers(text: &str) -> Arc<Providers> {
        let statics = Static::parse(STATIC, "postrider.conf").unwrap();
        let text =
            format!("domains.\"a.example\" = {{}}\n[accounts.a]\ndomain = \"a.example\"\n{text}");
        let config = Dynamic::parse(&text, "domains.conf", &statics).unwrap();
        config.providers
    }

    async fn direct(resolver: &FakeResolver, destination: &str, providers: &Providers) -> Plan {
        let destination = Host::parse(destination).unwrap();
        let ours = Ours::default();
        let planner = Planner {
            resolver,
            providers,
            ours: &ours,
        };
        let planned = planner.plan(&destination, "", &Direct::default()).await;
        Plan::clone(&planned.plan.unwrap())
    }

    #[tokio::test]
    async fn this_server_is_no_host_and_neither_are_those_that_are_no_better() {
        let text =
            format!("{STATIC}[listeners.mx]\nips = [\"127.0.0.2\"]\nhostname = \"mx.a.example\"\n");
        let statics = Static::parse(&text, "postrider.conf").unwrap();
        let (ours, providers) = (Ours::new(&statics, Vec::new), providers(""));
        let resolver = FakeResolver::default();
        resolver.set_mx(
            "backup.test",
            &[(10, "b.test"), (20, "mx.a.example"), (30, "c.test")],
        );
        resolver.set_mx(
            "same.test",
            &[(10, "b.test"), (20, "mx.a.example"), (20, "c.test")],
        );
        resolver.set_mx(
            "first.test",
            &[(10, "a.example"), (10, "b.test"), (20, "c.test")],
        );
        resolver.set_mx("a.example", &[]);
        let planner = Planner {
            resolver: &resolver,
            providers: &providers,
            ours: &ours,
        };
        for (domain, expected) in [
            ("backup.test", Ok("b.test")),
            ("same.test", Ok("b.test")),
            (
                "first.test",
                Err("5.4.6 a.example is this server, so mail for first.test would come back to it"),
            ),
            (
                "a.example",
                Err("5.4.6 a.example is this server, so mail for a.example would come back to it"),
            ),
        ] {
            let destination = Host::parse(domain).unwrap();
            let planned = planner.plan(&destination, "", &Direct::default()).await;
            let found = planned.plan.map(|plan| {
                let names: Vec<&str> = plan.hops.iter().map(|hop| hop.name.as_str()).collect();
                names.join(" ")
            });
            let found = found.map_err(|status| status.to_string());
            assert_eq!(
                found,
                expected.map(str::to_owned).map_err(str::to_owned),
                "{domain}"
            );
        }
    }

    #[tokio::test]
    async fn a_site_is_a_set_of_hosts() {
        let resolver = FakeResolver::default();
        resolver.set_mx("a.test", &[(10, "mx1.test"), (20, "mx2.test")]);
        resolver.set_mx("b.test", &[(5, "mx2.test"), (5, "mx1.test")]);
        resolver.set_mx("c.test", &[(10, "mx1.test")]);
        resolver.set_mx("d.test", &[]);
        let providers = providers("");
        let plan = async |destination: &str| direct(&resolver, destination, &providers).await;
        let site = async |destination: &str| plan(destination).await.site.to_string();
        // 128 bits of SHA-256 of "mx1.test\0mx2.test\0". What is stored of sites relies on it.
        let both = "mx:ef5ea4e69f30d1d5163646cb91df29a3";
        assert_eq!(site("a.test").await, both);
        assert_eq!(site("b.test").await, both);
        assert_ne!(site("c.test").await, both);
        assert_eq!(plan("a.test").await.set, plan("b.test").await.set);
        let set = HostSet::of(["d.test"].into_iter());
        assert_eq!(site("d.test").await, format!("mx:{set}"));
        assert_eq!(plan("d.test").await.set, set);
        assert_eq!(site("[192.0.2.1]").await, "[192.0.2.1]");
        assert_eq!(site("[IPv6:2001:db8::1]").await, "[IPv6:2001:db8::1]");
        assert_eq!(plan("[192.0.2.1]").await.provider.name, "default");
    }

    #[tokio::test]
    async fn hosts_of_a_provider_are_one_site_and_several_sets() {
        let resolver = FakeResolver::default();
        resolver.set_mx("one.test", &[(1, "mx1.google.com"), (2, "mx2.google.com")]);
        resolver.set_mx("two.test", &[(1, "mx3.googlemail.com")]);
        resolver.set_mx("backup.test", &[(1, "mx1.google.com"), (2, "mx.test")]);
        resolver.set_mx("filtered.test", &[(1, "a.pphosted.com")]);
        resolver.set_mx("filtered2.test", &[(1, "b.pphosted.com")]);
        resolver.set_mx("own.test", &[(1, "mx1.google.com"), (2, "mx2.google.com")]);
        let providers = providers("[providers.own]\ndomains = [\"own.test\"]\nconnections = 1\n");
        let plan = async |destination: &str| direct(&resolver, destination, &providers).await;
        let (one, two) = (plan("one.test").await, plan("two.test").await);
        assert_eq!(
            (one.site.to_string(), one.provider.connections),
            ("google".to_owned(), 5)
        );
        assert_eq!(two.site, one.site);
        assert_ne!(two.set, one.set);
        let backup = plan("backup.test").await;
        assert_eq!(backup.provider.name, "default");
        assert!(backup.site.to_string().starts_with("mx:"));
        // Without roll-up, each set has the limits for itself.
        let filtered = (plan("filtered.test").await, plan("filtered2.test").await);
        assert_eq!(filtered.0.provider.name, "proofpoint");
        assert_ne!(filtered.0.site, filtered.1.site);
        // The same hosts, but other limits.
        let own = plan("own.test").await;
        assert_eq!((own.provider.connections, own.set), (1, one.set));
        assert!(own.site.to_string().starts_with("mx:"));
        // A change of the entries moves the domain, without a look-up.
        let destination = Host::parse("one.test").unwrap();
        let config = self::providers("[providers.google]\nrollup = false\nconnections = 3\n");
        let changed = one.with(&destination, &config);
        assert_eq!((changed.provider.connections, changed.set), (3, one.set));
        assert_eq!(changed.site.to_string(), format!("mx:{}", one.set));
        assert_eq!(changed.with(&destination, &providers), one);
    }

    #[test]
    fn hosts_of_the_configuration_have_the_limits_of_the_queue() {
        let text = format!(
            "{STATIC}queue.per_destination.connections = 3\n\
             [transports]\nrelay.smtp.host = \"mx1.google.com\"\n\
             box.lmtp = {{ host = \"127.0.0.1\", port = 24 }}\nsocket.lmtp.socket = \"/run/lmtp\"\n"
        );
        let statics = Static::parse(&text, "postrider.conf").unwrap();
        let plans = Plans::new(&statics);
        for (transport, site) in [
            ("relay", "transport:relay"),
            ("box", "lmtp:[127.0.0.1]:24"),
            ("socket", "lmtp:/run/lmtp"),
        ] {
            let plan = plans.named(transport).unwrap();
            assert_eq!(plan.site.to_string(), site);
            assert_eq!(
                (plan.provider.connections, plan.provider.connect_rate),
                (3, None)
            );
        }
    }

    #[tokio::test]
    async fn hosts_of_one_preference_change_places() {
        let resolver = FakeResolver::default();
        resolver.set_mx(
            "a.test",
            &[(10, "mx1.test"), (10, "mx2.test"), (5, "mx3.test")],
        );
        let plan = direct(&resolver, "a.test", &providers("")).await;
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
