//! Compares what DNS and the services of a domain say with what they should say.
//!
//! Each row of the check is a function that gives items. All rows run at once. A row about DNS
//! asks past our cache. If it finds a fault, it asks the servers of the zone too: a record that is
//! right there only needs time.

mod dkim;
mod dmarc;
mod hosts;
mod http;
mod mx;
mod other;
mod resolvers;
mod smtp;
pub(super) mod spf;
mod sts;
pub(super) mod tags;
mod tls;
mod web;

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use postrider_config::{DomainConfig, Dynamic, Static};
use postrider_dns::{DnsError, Resolver};
use postrider_queue::Dialer;
use postrider_smtp::Domain;
use postrider_store::Clock;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::resolvers::{Memo, ZoneServers};
pub(super) use self::tls::Trust;
use super::{ThisHost, facts::HostFacts};

/// The time limit of a check as a whole.
const CHECK_TIME: Duration = Duration::from_secs(30);
/// The time limit of one connection, from its beginning to its end.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// The most hosts or lists that one row looks at.
const MANY: usize = 10;

/// The result of one comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All is right.
    Ok,
    /// The record is not there.
    Missing,
    /// Something else is there.
    Differs,
    /// The right record is there, and beside it a record that does harm.
    Extra,
    /// It can't be found out, or a service does not work.
    Error,
}

/// What a check found about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckItem {
    /// The type of the record, or the service: `SMTP`, `HTTPS`, `TLS`, `DNSBL`, `DNSSEC`.
    #[serde(rename = "type")]
    pub record_type: String,
    /// The name, with a dot at the end.
    pub name: String,
    /// What should be there. Empty if many things are right.
    pub wanted: String,
    /// What is there.
    pub found: Vec<String>,
    /// The comparison of both.
    pub verdict: Verdict,
    /// What to do, or what else to know. Empty if there is nothing.
    pub advice: String,
    /// The subject, for people: `SPF`, `DKIM`.
    pub check: String,
    /// Whether the domain needs it to be right. If not, a fault is a warning.
    pub needed: bool,
}

/// What a check works on.
#[derive(Clone)]
pub struct World {
    /// The static configuration.
    pub statics: Arc<Static>,
    /// The dynamic configuration.
    pub config: Arc<Dynamic>,
    /// Asks DNS servers, without a cache.
    pub resolver: Arc<dyn Resolver>,
    /// Connects to services.
    pub dialer: Arc<dyn Dialer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The URIs of our accounts at CAs, by the URL of the CA's directory.
    pub ca_accounts: BTreeMap<String, String>,
}

/// The domain that a check is about, with all that rows need.
struct Subject<'a> {
    world: &'a World,
    config: &'a DomainConfig,
    /// The domain in ASCII.
    domain: &'a str,
    /// The hostname in ASCII.
    host: &'a str,
    facts: &'a HostFacts,
    tls: &'a Trust,
}

/// An item, and how long the answers behind it hold in caches.
#[derive(Clone, Debug)]
struct Found {
    item: CheckItem,
    ttl: Option<Duration>,
}

/// A row under way.
type Row<'a> = Pin<Box<dyn Future<Output = Vec<Found>> + Send + 'a>>;
/// A row that asks only DNS.
type DnsRow = for<'a> fn(&'a Subject<'a>, &'a dyn Resolver) -> Row<'a>;
/// A row that uses a service too. The resolver gives the addresses.
type ServiceRow = DnsRow;

/// The rows, in the order of the output.
const ROWS: &[(&str, Kind)] = &[
    ("DNSSEC", Kind::Public(other::dnssec)),
    ("host", Kind::Dns(hosts::addresses)),
    ("PTR", Kind::Public(hosts::reverse)),
    ("MX", Kind::Dns(mx::mx)),
    ("SMTP", Kind::Service(smtp::smtp)),
    ("TLSA", Kind::Dns(mx::tlsa)),
    ("SPF", Kind::Dns(spf::spf)),
    ("DKIM", Kind::Dns(dkim::dkim)),
    ("DMARC", Kind::Dns(dmarc::dmarc)),
    ("TLS-RPT", Kind::Dns(dmarc::tls_rpt)),
    ("MTA-STS", Kind::Dns(sts::records)),
    ("MTA-STS policy", Kind::Service(sts::policy)),
    ("SRV", Kind::Dns(web::services)),
    ("mail programs", Kind::Dns(web::names)),
    ("mail programs", Kind::Service(web::connections)),
    ("CAA", Kind::Dns(other::caa)),
    ("DNSBL", Kind::Public(other::dnsbl)),
];

/// How a row asks.
#[derive(Clone, Copy)]
enum Kind {
    /// Resolvers, and the servers of the zone if something is wrong.
    Dns(DnsRow),
    /// Resolvers only.
    Public(DnsRow),
    /// Resolvers and services.
    Service(ServiceRow),
}

impl World {
    /// The same, where the resolver asks each question once. So the checks of many domains ask once
    /// for what is of this host.
    pub(super) fn remembering(&self) -> Self {
        Self {
            resolver: Arc::new(Memo::new(Arc::clone(&self.resolver))),
            ..self.clone()
        }
    }
}

/// Checks a domain. The result has the items of all rows in a fixed order.
pub(super) async fn check(
    world: &World,
    domain: &Domain,
    config: &DomainConfig,
    this_host: &ThisHost,
) -> Vec<CheckItem> {
    let subject = Subject {
        world,
        config,
        domain: domain.ascii(),
        host: world.statics.hostname.ascii(),
        facts: &this_host.facts,
        tls: &this_host.trust,
    };
    let end = Instant::now() + CHECK_TIME;
    let public = Memo::new(Arc::clone(&world.resolver));
    let zone = ZoneServers::new(Arc::clone(&world.resolver));
    let rows = ROWS.iter().map(|(name, kind)| {
        let (subject, public, zone) = (&subject, &public, &zone);
        async move {
            let row = run(subject, *kind, public, zone);
            match tokio::time::timeout_at(end, row).await {
                Ok(items) => items,
                Err(_) => vec![subject.out_of_time(name)],
            }
        }
    });
    let found = futures_util::future::join_all(rows).await;
    found.into_iter().flatten().collect()
}

async fn run(
    subject: &Subject<'_>,
    kind: Kind,
    public: &dyn Resolver,
    zone: &dyn Resolver,
) -> Vec<CheckItem> {
    let (row, look_again) = match kind {
        Kind::Dns(row) => (row, true),
        Kind::Public(row) | Kind::Service(row) => (row, false),
    };
    let mut found = row(subject, public).await;
    let faults = found.iter().any(|found| found.item.verdict != Verdict::Ok);
    if look_again && faults {
        let row = row(subject, zone);
        // Without an answer in time, the first answer stands.
        if let Ok(at_zone) = tokio::time::timeout(CONNECTION_TIME, row).await {
            found
                .iter_mut()
                .for_each(|found| found.compare_with_zone(&at_zone));
        }
    }
    found.into_iter().map(|found| found.item).collect()
}

impl Found {
    /// Tells that a fault is mended already at the servers of the zone.
    fn compare_with_zone(&mut self, at_zone: &[Self]) {
        let item = &mut self.item;
        if item.verdict == Verdict::Ok {
            return;
        }
        let mended = at_zone.iter().any(|other| {
            let other = &other.item;
            other.verdict == Verdict::Ok
                && (&other.check, &other.record_type, &other.name)
                    == (&item.check, &item.record_type, &item.name)
        });
        if mended {
            item.advice = match self.ttl.map(|ttl| ttl.as_secs()) {
                None | Some(0) => "published at the servers of the zone; resolvers do not have it \
                    yet"
                .to_owned(),
                Some(seconds) => format!(
                    "published at the servers of the zone, but the old answer is cached for \
                    {seconds} s"
                ),
            };
        }
    }
}

impl Subject<'_> {
    fn out_of_time(&self, row: &str) -> CheckItem {
        CheckItem {
            record_type: row.to_owned(),
            name: format!("{}.", self.domain),
            wanted: String::new(),
            found: Vec::new(),
            verdict: Verdict::Error,
            advice: format!("no result within {} s; try again", CHECK_TIME.as_secs()),
            check: row.to_owned(),
            needed: true,
        }
    }

    fn at(&self, prefix: &str) -> String {
        format!("{prefix}.{}", self.domain)
    }

    /// The time in seconds since 1970.
    fn now(&self) -> i64 {
        self.world.clock.now().0.div_euclid(1_000_000)
    }
}

/// The beginning of an item: a name, and what should be there.
struct About<'a> {
    check: &'a str,
    record_type: &'a str,
    name: &'a str,
    wanted: String,
    needed: bool,
}

impl About<'_> {
    fn found(&self, verdict: Verdict, found: Vec<String>, advice: impl Into<String>) -> Found {
        Found {
            item: CheckItem {
                record_type: self.record_type.to_owned(),
                name: format!("{}.", self.name),
                wanted: self.wanted.clone(),
                found,
                verdict,
                advice: advice.into(),
                check: self.check.to_owned(),
                needed: self.needed,
            },
            ttl: None,
        }
    }

    fn ok(&self, found: Vec<String>) -> Found {
        self.found(Verdict::Ok, found, "")
    }

    /// The item for an answer without records. `advice` is for records that do not exist.
    fn failed(&self, error: &DnsError, advice: &str) -> Found {
        let ttl = error.negative().map(|negative| negative.ttl);
        let found = match error {
            DnsError::NoName(_) | DnsError::NoRecords(_) => {
                self.found(Verdict::Missing, Vec::new(), advice)
            }
            DnsError::Temporary(_) | DnsError::Bogus { .. } | DnsError::System { .. } => {
                let advice = format!("no answer from DNS ({error}); try again");
                self.found(Verdict::Error, Vec::new(), advice)
            }
        };
        found.holds(ttl)
    }
}

impl Found {
    fn holds(self, ttl: Option<Duration>) -> Self {
        Self { ttl, ..self }
    }

    /// The same, as a warning.
    fn warning(mut self) -> Self {
        self.item.needed = false;
        self
    }
}
