//! The sites of a world: domains with their hosts, DNS records and policies.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use postrider_dns::{Mx, Record, Tlsa};
use rand::{RngExt, rngs::StdRng};

use super::{
    certificates,
    certificates::Kind as Certificate,
    host::{Act, Host, HostPolicy, Reach, Stage, Tls, When},
    kind::Kind,
    policy_host::{Policies, Policy},
    zones::{DnsFault, SIGNED, UNSIGNED},
};

/// The name of this server.
pub(crate) const OUR_NAME: &str = "mail.example.org";
/// The address at which it takes mail.
pub(crate) const OUR_ADDRESS: &str = "127.0.0.1";
/// The address of the policy host.
const POLICY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
const MINUTE: Duration = Duration::from_secs(60);

/// Where mail is to be delivered.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) kind: Kind,
    pub(crate) domain: String,
    /// The hosts that may get its mail.
    pub(crate) hosts: Vec<usize>,
    /// The hosts that may not.
    pub(crate) others: Vec<usize>,
    /// While the world has an age between these, the trouble of the site lasts.
    pub(crate) span: Option<(Duration, Duration)>,
}

/// A change of the world.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Answers about a name are right again.
    Mend(String),
    /// A domain has other MX hosts.
    Replace(String, Vec<(u16, String)>),
    /// An administrator pauses a domain until an age of the world.
    Pause(String, Duration),
}

/// All that is at the other side of a queue.
#[derive(Default)]
pub(crate) struct Map {
    pub(crate) sites: Vec<Site>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) records: Vec<(String, Record)>,
    pub(crate) faults: Vec<(String, DnsFault)>,
    pub(crate) policies: Policies,
    pub(crate) changes: Vec<(Duration, Change)>,
}

/// Hosts that serve several domains.
const SETS: usize = 4;

/// Makes the sites.
pub(crate) struct Builder<'a> {
    map: Map,
    rng: &'a mut StdRng,
    sets: Vec<Vec<usize>>,
}

impl<'a> Builder<'a> {
    /// So many sites: one of each kind, and others by their weights.
    pub(crate) fn build(count: usize, rng: &'a mut StdRng) -> Map {
        let mut builder = Self {
            map: Map::default(),
            rng,
            sets: Vec::new(),
        };
        builder.record("mta-sts.test", Record::A(POLICY_ADDRESS));
        for set in 0..SETS {
            let tls = match set % 2 {
                0 => Tls::None,
                _ => Tls::Offered(Certificate::Trusted),
            };
            let policy = HostPolicy {
                tls,
                ..HostPolicy::default()
            };
            let hosts = (0..3).map(|_| builder.host(policy.clone())).collect();
            builder.sets.push(hosts);
        }
        let total: u32 = Kind::ALL.iter().map(|kind| kind.weight()).sum();
        for index in 0..count {
            let kind = match Kind::ALL.get(index) {
                Some(kind) => *kind,
                None => {
                    let mut left = builder.rng.random_range(0..total);
                    let mut kinds = Kind::ALL.iter();
                    let found = kinds.find(|kind| {
                        let is_it = left < kind.weight();
                        left = left.saturating_sub(kind.weight());
                        is_it
                    });
                    *found.unwrap_or(&Kind::Healthy)
                }
            };
            builder.site(kind);
        }
        builder.map
    }

    fn record(&mut self, name: &str, record: Record) {
        self.map.records.push((name.to_owned(), record));
    }

    fn mx(&mut self, domain: &str, hosts: &[(u16, &str)]) {
        for (preference, host) in hosts {
            let record = Record::Mx(Mx {
                preference: *preference,
                host: (*host).to_owned(),
            });
            self.record(domain, record);
        }
    }

    fn tlsa(&mut self, host: usize, records: &[Tlsa]) {
        let name = format!("_25._tcp.{}", self.name(host));
        for record in records {
            self.record(&name, Record::Tlsa(record.clone()));
        }
    }

    /// A policy of MTA-STS, from an age of the world on.
    fn policy(&mut self, domain: &str, from: Duration, policy: Policy) {
        let policies = self.map.policies.entry(domain.to_owned()).or_default();
        policies.push((from, policy));
        if policies.len() == 1 {
            let text = Record::Txt(b"v=STSv1; id=1;".to_vec());
            self.record(&format!("_mta-sts.{domain}"), text);
            self.record(&format!("mta-sts.{domain}"), Record::A(POLICY_ADDRESS));
        }
    }

    fn name(&self, host: usize) -> String {
        self.map.hosts[host].name.clone()
    }

    /// A host with a name below `pkix.test`, and one address.
    fn host(&mut self, policy: HostPolicy) -> usize {
        self.host_below("pkix.test", policy)
    }

    fn host_below(&mut self, above: &str, policy: HostPolicy) -> usize {
        let index = self.map.hosts.len();
        let host = Host {
            name: format!("h{index}.{above}"),
            addresses: vec![address(index)],
            policy,
        };
        let IpAddr::V4(ip) = host.addresses[0] else {
            unreachable!("hosts have IPv4 addresses");
        };
        self.record(&host.name, Record::A(ip));
        self.map.hosts.push(host);
        index
    }

    /// A time of some hours, in which something does not work.
    fn span(&mut self) -> (Duration, Duration) {
        let from = MINUTE * self.rng.random_range(20..8 * 60);
        (from, from + MINUTE * self.rng.random_range(60..6 * 60))
    }

    fn site(&mut self, kind: Kind) {
        let index = self.map.sites.len();
        let above = match kind {
            Kind::DaneNoMatchUnsigned => UNSIGNED,
            _ => SIGNED,
        };
        let domain = format!("d{index}.{above}");
        let (from, to) = self.span();
        let span = When::Between(from, to);
        let mut site = Site {
            kind,
            domain: domain.clone(),
            hosts: Vec::new(),
            others: Vec::new(),
            span: Some((from, to)),
        };
        match kind {
            Kind::SharedHosts => {
                let set = self.rng.random_range(0..SETS);
                site.hosts = self.sets[set].clone();
            }
            Kind::FirstHostDead => {
                let dead = HostPolicy::default().unreachable(Reach::Refused, When::Always);
                let dead = self.host(dead);
                let host = self.host(HostPolicy::default());
                let names = [self.name(dead), self.name(host)];
                self.mx(&domain, &[(10, &names[0]), (20, &names[1])]);
                site.hosts = vec![host];
                site.others = vec![dead];
            }
            Kind::SmallSizeFirst => {
                let small = self.host(HostPolicy {
                    size_max: Some(10_000),
                    ..HostPolicy::default()
                });
                let host = self.host(HostPolicy::default());
                let names = [self.name(small), self.name(host)];
                self.mx(&domain, &[(10, &names[0]), (20, &names[1])]);
                site.hosts = vec![host];
                site.others = vec![small];
            }
            Kind::StsOtherHost => {
                let other = self.host(self_signed());
                let host = self.host(trusted());
                let names = [self.name(other), self.name(host)];
                self.mx(&domain, &[(10, &names[0]), (20, &names[1])]);
                let policy = Policy::Of("enforce", vec![names[1].clone()]);
                self.policy(&domain, Duration::ZERO, policy);
                site.hosts = vec![host];
                site.others = vec![other];
            }
            Kind::Moves => {
                let old = self.host(HostPolicy::default());
                let new = self.host(HostPolicy::default());
                let (old_name, new_name) = (self.name(old), self.name(new));
                self.mx(&domain, &[(10, &old_name)]);
                let change = Change::Replace(domain, vec![(10, new_name)]);
                self.map.changes.push((from, change));
                site.hosts = vec![old, new];
            }
            Kind::OneFamilyDead => {
                let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, index as u16));
                let host = self.host(HostPolicy {
                    lost_address: Some(v6),
                    ..HostPolicy::default()
                });
                let name = self.name(host);
                let IpAddr::V6(ip) = v6 else { return };
                self.record(&name, Record::Aaaa(ip));
                self.map.hosts[host].addresses.push(v6);
                self.mx(&domain, &[(10, &name)]);
                site.hosts = vec![host];
            }
            Kind::ImplicitHost => {
                let host = self.host(HostPolicy::default());
                let IpAddr::V4(ip) = self.map.hosts[host].addresses[0] else {
                    return;
                };
                self.record(&domain, Record::A(ip));
                site.hosts = vec![host];
            }
            Kind::Alias => {
                let host = self.host(HostPolicy::default());
                let (name, target) = (self.name(host), format!("target.{domain}"));
                self.record(&domain, Record::Cname(target.clone()));
                self.mx(&target, &[(10, &name)]);
                site.hosts = vec![host];
            }
            Kind::AliasLoop => {
                let other = format!("other.{domain}");
                self.record(&domain, Record::Cname(other.clone()));
                self.record(&other, Record::Cname(domain));
            }
            Kind::NoAddress => {
                let name = format!("mx.{domain}");
                self.record(&name, Record::Txt(b"no address".to_vec()));
                self.mx(&domain, &[(10, &name)]);
            }
            Kind::NoDomain => {}
            Kind::NullMx => self.mx(&domain, &[(0, "")]),
            Kind::OurName => self.mx(&domain, &[(10, OUR_NAME)]),
            Kind::OurAddress => {
                let name = format!("mx.{domain}");
                let ip = OUR_ADDRESS.parse().unwrap();
                self.record(&name, Record::A(ip));
                self.mx(&domain, &[(10, &name)]);
            }
            kind => {
                let above = match kind {
                    Kind::DaneNoMatchUnsigned => UNSIGNED,
                    _ => "pkix.test",
                };
                let host = self.host_below(above, one_host(kind, span));
                let name = self.name(host);
                self.mx(&domain, &[(10, &name)]);
                self.add_policies(&site, host, (from, to));
                site.hosts = vec![host];
            }
        }
        if kind == Kind::SharedHosts {
            let names: Vec<String> = site.hosts.iter().map(|it| self.name(*it)).collect();
            let hosts: Vec<_> = names.iter().map(|name| (10, name.as_str())).collect();
            self.mx(&site.domain, &hosts);
        }
        self.map.sites.push(site);
    }

    /// The records and policies of a site with one host.
    fn add_policies(&mut self, site: &Site, host: usize, (from, to): (Duration, Duration)) {
        let (domain, name) = (&site.domain, self.name(host));
        let of_host = |mode| Policy::Of(mode, vec![name.clone()]);
        match site.kind {
            Kind::DaneKey | Kind::DaneBogus | Kind::RequireTlsOffered | Kind::RequireTlsMissing => {
                self.tlsa(host, &[certificates::end_entity(Certificate::SelfSigned)]);
            }
            Kind::DaneIssuer | Kind::DaneExpiredIssuer => {
                self.tlsa(host, &[certificates::trust_anchor()]);
            }
            Kind::DaneExpiredKey => {
                self.tlsa(host, &[certificates::end_entity(Certificate::Expired)]);
            }
            Kind::DaneOneOfTwo => {
                let right = certificates::end_entity(Certificate::SelfSigned);
                self.tlsa(host, &[certificates::nobody(), right]);
            }
            Kind::DaneNoMatch
            | Kind::DaneNoMatchUnsigned
            | Kind::DaneStripped
            | Kind::TlsNotRequired => self.tlsa(host, &[certificates::nobody()]),
            Kind::DaneUnusable => {
                let unusable = Tlsa {
                    usage: 0,
                    ..certificates::nobody()
                };
                self.tlsa(host, &[unusable]);
            }
            Kind::StsEnforced | Kind::StsStripped => {
                self.policy(domain, Duration::ZERO, of_host("enforce"));
            }
            Kind::StsSelfSigned => {
                self.policy(domain, Duration::ZERO, of_host("enforce"));
                self.policy(domain, to, of_host("none"));
            }
            Kind::StsTesting => self.policy(domain, Duration::ZERO, of_host("testing")),
            Kind::StsMissing => self.policy(domain, Duration::ZERO, Policy::Missing),
            Kind::StsSilent => self.policy(domain, Duration::ZERO, Policy::Silent),
            Kind::Paused => {
                let change = Change::Pause(domain.clone(), to);
                self.map.changes.push((from, change));
            }
            Kind::ServFail | Kind::ServFailForever => {
                self.map.faults.push((domain.clone(), DnsFault::ServFail));
            }
            _ => {}
        }
        match site.kind {
            Kind::ServFail => {
                let change = Change::Mend(domain.clone());
                self.map.changes.push((to, change));
            }
            Kind::DaneBogus => {
                let name = format!("_25._tcp.{name}");
                self.map.faults.push((name.clone(), DnsFault::Bogus));
                self.map.changes.push((to, Change::Mend(name)));
            }
            _ => {}
        }
    }
}

/// The address of a host: loopback, and no other host has it.
fn address(index: usize) -> IpAddr {
    let [_, _, high, low] = (index as u32).to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 16, high, low))
}

fn trusted() -> HostPolicy {
    with_tls(Certificate::Trusted)
}

fn self_signed() -> HostPolicy {
    with_tls(Certificate::SelfSigned)
}

fn with_tls(kind: Certificate) -> HostPolicy {
    HostPolicy {
        tls: Tls::Offered(kind),
        ..HostPolicy::default()
    }
}

/// The host of a site that has only one.
fn one_host(kind: Kind, span: When) -> HostPolicy {
    let plain = HostPolicy::default;
    match kind {
        Kind::Healthy => HostPolicy {
            words: vec!["8BITMIME", "CHUNKING", "DSN"],
            ..plain()
        },
        Kind::Slow => HostPolicy {
            pace: Duration::from_secs(3),
            ..plain()
        },
        Kind::LateGreeting => plain().with(Stage::Greeting, Act::Late(MINUTE * 4), When::Always),
        Kind::LateEndOfData => plain().with(Stage::EndOfData, Act::Late(MINUTE * 8), When::Always),
        Kind::FewConnections => HostPolicy {
            connections_max: 2,
            ..plain()
        },
        Kind::FewInAMinute => HostPolicy {
            rate_max: Some(10),
            ..plain()
        },
        Kind::Greylist => HostPolicy {
            greylist: Some(MINUTE * 5),
            ..plain()
        },
        Kind::FewRecipients => HostPolicy {
            recipients_max: 2,
            ..plain()
        },
        Kind::Block => HostPolicy {
            block: Some(span),
            ..plain()
        },
        Kind::Refused => plain().unreachable(Reach::Refused, When::Always),
        Kind::BlackHole => plain().unreachable(Reach::BlackHole, When::Always),
        Kind::NoWay => plain().unreachable(Reach::NoWay, When::Always),
        Kind::Outage => plain().unreachable(Reach::Refused, span),
        Kind::SilentOutage => plain().unreachable(Reach::BlackHole, span),
        Kind::BusyOutage => {
            let reply = Act::Say("421 4.3.2 service not available");
            plain().with(Stage::Greeting, reply, span)
        }
        Kind::LaterOutage => plain().with(Stage::Rcpt, Act::Say("451 4.3.0 try again later"), span),
        Kind::GarbageGreeting => plain().with(Stage::Greeting, Act::Garbage, span),
        Kind::GarbageEhlo => plain().with(Stage::Ehlo, Act::Garbage, span),
        Kind::EndlessEhlo => plain().with(Stage::Ehlo, Act::Endless, span),
        Kind::SilentGreeting => plain().with(Stage::Greeting, Act::Silence, span),
        Kind::SilentRcpt => plain().with(Stage::Rcpt, Act::Silence, When::First(1)),
        Kind::DropAtGreeting => plain().with(Stage::Greeting, Act::Drop, When::First(2)),
        Kind::DropAtMail => plain().with(Stage::Mail, Act::Drop, When::First(2)),
        Kind::DropAtRcpt => plain().with(Stage::Rcpt, Act::Drop, When::First(2)),
        Kind::DropAtData => plain().with(Stage::Data, Act::Drop, When::First(2)),
        Kind::DropInText => plain().with(Stage::EndOfData, Act::Drop, When::First(2)),
        Kind::DropBehindText => plain().with(Stage::EndOfData, Act::TakeAndDrop, When::First(1)),
        Kind::RefusesGreeting => {
            let reply = Act::Say("554 no mail service here");
            plain().with(Stage::Greeting, reply, When::Always)
        }
        Kind::RefusesForGood => {
            let reply = Act::Say("521 no mail here");
            plain().with(Stage::Greeting, reply, When::Always)
        }
        Kind::RefusesEhlo => {
            let reply = Act::Say("550 not you");
            plain().with(Stage::Ehlo, reply, When::Always)
        }
        Kind::RefusesData => {
            let reply = Act::Say("554 5.3.0 no");
            plain().with(Stage::Data, reply, When::Always)
        }
        Kind::TlsSelfSigned
        | Kind::DaneKey
        | Kind::DaneOneOfTwo
        | Kind::DaneNoMatch
        | Kind::DaneNoMatchUnsigned
        | Kind::DaneBogus
        | Kind::DaneUnusable
        | Kind::StsSelfSigned
        | Kind::StsTesting
        | Kind::StsMissing
        | Kind::StsSilent
        | Kind::TlsNotRequired
        | Kind::RequireTlsMissing => self_signed(),
        Kind::RequireTlsOffered => HostPolicy {
            words: vec!["8BITMIME", "REQUIRETLS"],
            ..self_signed()
        },
        Kind::TlsExpired | Kind::DaneExpiredKey | Kind::DaneExpiredIssuer => {
            with_tls(Certificate::Expired)
        }
        Kind::TlsTrusted | Kind::DaneIssuer | Kind::StsEnforced => trusted(),
        Kind::TlsCut => self_signed().with(Stage::StartTls, Act::Cut, When::Always),
        Kind::TlsRefused => {
            let reply = Act::Say("454 4.7.0 TLS not available");
            self_signed().with(Stage::StartTls, reply, When::Always)
        }
        Kind::SmallSize => HostPolicy {
            size_max: Some(10_000),
            ..plain()
        },
        Kind::NoEightBit => HostPolicy {
            words: Vec::new(),
            ..plain()
        },
        _ => plain(),
    }
}
