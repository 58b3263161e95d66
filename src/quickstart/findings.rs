//! What quickstart finds out, and its advice about it. Nothing that it finds stops it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use postrider_config::is_public;
use postrider_dns::{DnsError, Resolver};
use postrider_smtp::Domain;
use tokio::time::timeout;

use super::machine::Machine;

/// The time limit of all questions together.
const IN_ALL: Duration = Duration::from_secs(10);
/// The block lists that are asked about the own addresses.
const BLOCK_LISTS: [&str; 2] = ["sbl.spamhaus.org", "bl.spamcop.net"];
/// A domain whose mail servers are always reachable, to try port 25.
const KNOWN_DOMAIN: &str = "gmail.com";

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Whether there is nothing to do about it.
    pub(super) good: bool,
    /// The finding, with advice if it is not good.
    pub(super) text: String,
}

/// What quickstart found out.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The name of the mail server.
    pub(super) hostname: Domain,
    /// The addresses to listen on, for the internet.
    pub(super) listen: Vec<IpAddr>,
    /// The public addresses behind which a router forwards to `listen`. Empty without a router.
    pub(super) nat: Vec<IpAddr>,
    /// Whether the ports 80 and 443 are free, which ACME needs.
    pub(super) web_ports_free: bool,
    /// The report, line by line.
    pub(super) report: Vec<Finding>,
}

impl Facts {
    /// The addresses that the world sees.
    #[must_use]
    pub(super) fn public(&self) -> &[IpAddr] {
        if self.nat.is_empty() {
            &self.listen
        } else {
            &self.nat
        }
    }
}

/// Finds out what the configuration needs.
///
/// # Errors
/// If the hostname that was given, or the one that was made, is no domain name.
pub(super) async fn gather(
    machine: &Machine,
    domain: &Domain,
    hostname: Option<&Domain>,
) -> anyhow::Result<Facts> {
    let mut search = Search {
        machine,
        report: Vec::new(),
    };
    let (hostname, from) = match hostname {
        Some(given) => (given.clone(), "as given"),
        None => search.hostname(domain).await?,
    };
    let mut facts = Facts {
        hostname,
        listen: machine.addresses.clone(),
        nat: Vec::new(),
        web_ports_free: true,
        report: Vec::new(),
    };
    match &machine.resolver {
        None => search.good(format!(
            "host name {} ({from}); nobody was asked about it",
            facts.hostname
        )),
        Some(resolver) => {
            let asked = search.ask(resolver, &mut facts, from);
            if timeout(IN_ALL, asked).await.is_err() {
                search.bad(format!(
                    "not all questions were answered within {} s; check the network and the DNS \
                     servers ({}) later with: postrider dns check {domain}",
                    IN_ALL.as_secs(),
                    machine.servers
                ));
            }
        }
    }
    search.ports(&mut facts);
    if facts.listen.is_empty() {
        search.bad("no network interface has an address; the server listens on all (0.0.0.0)");
        facts.listen = vec![[0, 0, 0, 0].into()];
    }
    facts.report = search.report;
    Ok(facts)
}

struct Search<'a> {
    machine: &'a Machine,
    report: Vec<Finding>,
}

impl Search<'_> {
    fn good(&mut self, text: impl Into<String>) {
        let (good, text) = (true, text.into());
        self.report.push(Finding { good, text });
    }

    fn bad(&mut self, text: impl Into<String>) {
        let (good, text) = (false, text.into());
        self.report.push(Finding { good, text });
    }

    /// The name of the mail server, and where it comes from: the system, the reverse name of an
    /// address, or a name that is made.
    async fn hostname(&self, domain: &Domain) -> anyhow::Result<(Domain, &'static str)> {
        let parse = |name: &str| {
            let name = Domain::parse(name.trim_end_matches('.')).ok()?;
            (name.ascii().contains('.') && !name.ascii().ends_with(".localdomain")).then_some(name)
        };
        let system = self.machine.system_name.as_deref();
        if let Some(name) = system.and_then(parse) {
            return Ok((name, "from the system"));
        }
        let public = self.machine.addresses.iter().filter(|ip| is_public(**ip));
        if let Some(resolver) = &self.machine.resolver {
            for address in public {
                let names = timeout(IN_ALL / 4, resolver.ptr(*address)).await;
                let names = names.ok().and_then(Result::ok);
                let names = names.into_iter().flat_map(|answer| answer.records);
                if let Some(name) = names.filter_map(|name| parse(&name)).next() {
                    return Ok((name, "the reverse name of an address"));
                }
            }
        }
        let label = system
            .filter(|label| *label != "localhost" && !label.contains('.'))
            .unwrap_or("mail");
        let made = format!("{label}.{}", domain.ascii());
        let made = Domain::parse(&made).or_else(|_| Domain::parse(&format!("mail.{domain}")));
        Ok((made?, "made of the system's name and the domain"))
    }

    async fn ask(&mut self, resolver: &Arc<dyn Resolver>, facts: &mut Facts, from: &str) {
        let host = facts.hostname.ascii().to_owned();
        let signed = resolver.txt("com");
        let host_addresses = resolver.addresses(&host);
        let (signed, host_addresses) = tokio::join!(signed, host_addresses);
        self.dnssec(signed.map(|answer| answer.authentic));
        self.host(facts, host_addresses.map(|it| it.records), from);
        let public: Vec<IpAddr> = facts
            .public()
            .iter()
            .copied()
            .filter(|ip| is_public(*ip))
            .collect();
        let reverse = async {
            let names = public.iter().map(|ip| async move {
                let names = resolver.ptr(*ip).await.map(|answer| answer.records);
                (*ip, names.unwrap_or_default())
            });
            futures_util::future::join_all(names).await
        };
        let (reverse, listed, reached) =
            tokio::join!(reverse, listed(resolver, &public), self.port_25(resolver));
        for (ip, names) in reverse {
            let is_host = |name: &String| name.trim_end_matches('.').eq_ignore_ascii_case(&host);
            match names.iter().any(is_host) {
                true => self.good(format!("{ip} has the reverse name {host}")),
                false if names.is_empty() => self.bad(format!(
                    "{ip} has no reverse name: ask the provider for {host}, since many servers \
                     refuse mail without it"
                )),
                false => self.bad(format!(
                    "{ip} has the reverse name {}: ask the provider for {host}",
                    names.join(", ")
                )),
            }
        }
        match reached {
            true => self.good("port 25 outwards is open"),
            false => self.bad(
                "no mail server answers at port 25: the provider seems to block it; ask to open it, \
                 or configure a smarthost (transports, routes)",
            ),
        }
        match listed.is_empty() {
            true if public.is_empty() => {}
            true => self.good("no own address is on a block list"),
            false => {
                for (ip, list) in listed {
                    self.bad(format!(
                        "{ip} is on the block list {list}: ask to be removed there"
                    ));
                }
            }
        }
    }

    /// The TLD com is signed, so an authentic answer about it shows that DNSSEC works.
    fn dnssec(&mut self, answer: Result<bool, DnsError>) {
        let servers = &self.machine.servers;
        let authentic = match &answer {
            Ok(authentic) => Some(*authentic),
            Err(error) => error.negative().map(|negative| negative.authentic),
        };
        match authentic {
            Some(true) => self.good(format!("DNSSEC works through the DNS server {servers}")),
            Some(false) => self.bad(format!(
                "the DNS server {servers} does not pass DNSSEC on, so DANE does not protect \
                 outgoing mail: install a local resolver, such as unbound"
            )),
            None => self.bad(format!("the DNS server {servers} does not answer")),
        }
    }

    fn host(&mut self, facts: &mut Facts, found: Result<Vec<IpAddr>, DnsError>, from: &str) {
        let host = facts.hostname.to_string();
        let mut found = match found {
            Ok(found) => found,
            Err(DnsError::NoName(_) | DnsError::NoRecords(_)) => Vec::new(),
            Err(error) => {
                return self.bad(format!(
                    "host name {host} ({from}): the DNS gave no answer: {error}"
                ));
            }
        };
        let all = found.len();
        found.retain(|ip| !ip.is_loopback());
        if found.len() < all {
            self.bad(format!(
                "host name {host} ({from}) has a loopback address, which was left out: check \
                 /etc/hosts"
            ));
        }
        if found.is_empty() {
            return self.bad(format!(
                "host name {host} ({from}) has no address in the DNS yet: add A and AAAA records \
                 with the addresses of this machine, and the records below"
            ));
        }
        let list = |addresses: &[IpAddr]| {
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            addresses.join(", ")
        };
        let own: Vec<IpAddr> = found
            .iter()
            .copied()
            .filter(|ip| facts.listen.contains(ip))
            .collect();
        if own.len() == found.len() {
            self.good(format!(
                "host name {host} ({from}): {}, on this machine",
                list(&own)
            ));
            facts.listen = own;
        } else if own.is_empty() && facts.listen.iter().all(|ip| !is_public(*ip)) {
            self.good(format!(
                "host name {host} ({from}): {}, and this machine has private addresses only: a \
                 router must forward the ports 25, 80, 443 and 465 to {}",
                list(&found),
                list(&facts.listen)
            ));
            facts.nat = found;
        } else {
            self.bad(format!(
                "host name {host} ({from}) has the addresses {}, but this machine has {}: change \
                 the records, or choose another name with --hostname",
                list(&found),
                list(&facts.listen)
            ));
        }
    }

    async fn port_25(&self, resolver: &Arc<dyn Resolver>) -> bool {
        let Ok(answer) = resolver.mx(KNOWN_DOMAIN).await else {
            return false;
        };
        for mx in answer.records.into_iter().take(2) {
            let Ok(addresses) = resolver.a(&mx.host).await else {
                continue;
            };
            for address in addresses.records.into_iter().take(2) {
                let dialed = self.machine.dialer.dial((address, 25).into(), None);
                if matches!(timeout(IN_ALL / 4, dialed).await, Ok(Ok(_))) {
                    return true;
                }
            }
        }
        false
    }

    /// ACME needs the ports of the web.
    fn ports(&mut self, facts: &mut Facts) {
        let all = |port| {
            let mut addresses = facts.listen.iter();
            addresses.all(|ip| (self.machine.is_free)((*ip, port).into()))
        };
        let taken: Vec<String> = [80, 443, 25, 465]
            .into_iter()
            .filter(|port| !all(*port))
            .map(|port: u16| port.to_string())
            .collect();
        facts.web_ports_free = all(80) && all(443);
        if !taken.is_empty() {
            self.bad(format!(
                "another program has the port {}: stop it before the start of the server{}",
                taken.join(" and "),
                match facts.web_ports_free {
                    true => "",
                    false =>
                        ", or name a certificate in postrider.conf (tls.certs) and let that program \
                         forward the paths in docs/tls.md",
                }
            ));
        }
    }
}

/// The addresses that are on block lists, with the list.
async fn listed(resolver: &Arc<dyn Resolver>, addresses: &[IpAddr]) -> Vec<(IpAddr, &'static str)> {
    let questions = addresses.iter().flat_map(|ip| {
        BLOCK_LISTS.into_iter().map(move |list| async move {
            let name = postrider_dns::Question::reverse(*ip);
            let name = name.name().trim_end_matches('.');
            let name = name
                .strip_suffix("in-addr.arpa")
                .or_else(|| name.strip_suffix("ip6.arpa"))?;
            let answer = resolver.a(&format!("{name}{list}")).await.ok()?;
            // Answers outside 127.0.0.0/24 tell that the list refuses to answer.
            let is_entry = answer
                .records
                .iter()
                .any(|ip| ip.octets().starts_with(&[127, 0, 0]));
            is_entry.then_some((*ip, list))
        })
    });
    let answers = futures_util::future::join_all(questions).await;
    answers.into_iter().flatten().collect()
}
