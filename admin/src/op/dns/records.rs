//! The records that a domain should have, as a pure function of the configuration and the facts
//! about the host.

use postrider_config::{DomainConfig, MtaStsMode, Static};
use postrider_dns::{Caa, Mx, Record, Srv, Tlsa, is_within};
use postrider_smtp::{Domain, LocalPart};

use super::{
    super::config::dkim::waiting,
    facts::HostFacts,
    record::{Need, Purpose, Wanted},
};

/// The largest report that a DMARC record asks for.
const DMARC_REPORT_SIZE: &str = "!10m";

/// The records of a domain, in the order for people.
#[must_use]
pub fn wanted(
    statics: &Static,
    config: &DomainConfig,
    domain: &Domain,
    facts: &HostFacts,
) -> Vec<Wanted> {
    let mut list = List {
        statics,
        config,
        domain: domain.ascii(),
        host: statics.hostname.ascii(),
        facts,
        records: Vec::new(),
    };
    list.mail();
    list.tlsa();
    list.host();
    list.dkim();
    list.spf();
    list.dmarc();
    list.mta_sts();
    list.tls_rpt();
    list.mail_programs();
    list.services();
    list.caa();
    list.records
}

struct List<'a> {
    statics: &'a Static,
    config: &'a DomainConfig,
    domain: &'a str,
    host: &'a str,
    facts: &'a HostFacts,
    records: Vec<Wanted>,
}

impl List<'_> {
    fn add(&mut self, name: String, record: Record, purpose: Purpose, need: Need, comment: &str) {
        self.records.push(Wanted {
            name,
            record,
            purpose,
            need,
            comment: comment.to_owned(),
        });
    }

    fn at(&self, prefix: &str) -> String {
        format!("{prefix}.{}", self.domain)
    }

    fn mail(&mut self) {
        let mx = Record::Mx(Mx {
            preference: 10,
            host: self.host.to_owned(),
        });
        let comment = "This server takes the mail of the domain.";
        let name = self.domain.to_owned();
        self.add(name, mx, Purpose::Mx, Need::Needed, comment);
    }

    fn tlsa(&mut self) {
        let (need, comment) = match self.facts.dnssec {
            true => (
                Need::Needed,
                "Other servers verify this server by its keys (DANE).",
            ),
            false => (
                Need::Later,
                "DANE: add these records once DNSSEC signs the zone of the host, and never before.",
            ),
        };
        for key in &self.facts.tls_keys {
            let tlsa = Record::Tlsa(tlsa_of(&key.digest));
            let name = format!("_25._tcp.{}", self.host);
            self.add(name, tlsa, Purpose::Tlsa, need, comment);
        }
    }

    /// The records of a host that is not the domain itself.
    fn host(&mut self) {
        if self.host == self.domain {
            return;
        }
        let comment = "The host itself sends mail too, such as reports about failed deliveries.";
        let host = self.host.to_owned();
        let text = txt(HOST_SPF);
        self.add(host, text, Purpose::Spf, Need::Needed, comment);
        if let Some(reports) = &self.statics.host_tls_rpt {
            let name = format!("_smtp._tls.{}", self.host);
            let text = txt(&tls_rpt(&mailto(&reports.localpart, self.host)));
            let comment = "Other servers report TLS failures at the host to this address.";
            self.add(name, text, Purpose::TlsRpt, Need::Needed, comment);
        }
    }

    fn dkim(&mut self) {
        let dkim = &self.config.dkim;
        let signs = "The key signs mail of the domain (DKIM).";
        let waits = "The key does not sign yet. With the record in place, it can at any time.";
        let idle =
            "The key does not sign now. Add or keep the record if it signs soon or signed lately.";
        let next = waiting(dkim);
        for (selector, settings) in &dkim.selectors {
            let comment = match selector {
                _ if dkim.sign.contains(selector) => signs,
                _ if next.contains(selector) => waits,
                _ => idle,
            };
            let name = self.at(&format!("{}._domainkey", selector.ascii()));
            let text = txt(&settings.record());
            self.records.push(Wanted {
                name,
                record: text,
                purpose: Purpose::Dkim,
                need: Need::Needed,
                comment: comment.to_owned(),
            });
        }
    }

    fn spf(&mut self) {
        let comment = "These hosts send mail of the domain (SPF). Add other servers that do.";
        let text = txt(&spf(self.facts));
        let name = self.domain.to_owned();
        self.add(name, text, Purpose::Spf, Need::Needed, comment);
    }

    fn dmarc(&mut self) {
        let name = self.at("_dmarc");
        let Some(reports) = &self.config.dmarc else {
            let comment = "Mail in the name of the domain needs SPF or DKIM (DMARC). No report is \
                asked for: set domains.D.dmarc.";
            let text = txt("v=DMARC1; p=reject");
            return self.add(name, text, Purpose::Dmarc, Need::Needed, comment);
        };
        let reports_at = reports.domain.ascii();
        let rua = mailto(&reports.localpart, reports_at);
        let comment = "Mail in the name of the domain needs SPF or DKIM. Others report what they \
            saw (DMARC).";
        let text = format!("v=DMARC1; p=reject; rua={rua}{DMARC_REPORT_SIZE}");
        self.add(name, txt(&text), Purpose::Dmarc, Need::Needed, comment);
        if needs_opt_in(self.domain, reports_at) {
            let name = format!("{}._report._dmarc.{reports_at}", self.domain);
            let comment = "The reports about this domain go to an address of another domain. That \
                domain agrees.";
            let text = txt("v=DMARC1");
            self.add(name, text, Purpose::DmarcOptIn, Need::Needed, comment);
        }
    }

    fn mta_sts(&mut self) {
        let Some(policy) = &self.config.mta_sts else {
            return;
        };
        let comment = match policy.mode {
            MtaStsMode::None => {
                "The domain had a TLS policy (MTA-STS). Keep both until it is over."
            }
            _ => "Other servers fetch the TLS policy from the first, when the second has a new id.",
        };
        let text = txt(&mta_sts(&policy.policy_id));
        let host = self.at("mta-sts");
        self.own_name(host, Need::Needed, comment);
        let name = self.at("_mta-sts");
        self.add(name, text, Purpose::MtaSts, Need::Needed, comment);
    }

    fn tls_rpt(&mut self) {
        let own = self.config.tls_rpt.as_ref();
        let of_host = self.statics.host_tls_rpt.as_ref();
        let of_host = of_host.filter(|_| self.host == self.domain);
        let rua = match (own, of_host) {
            (Some(reports), _) => mailto(&reports.localpart, reports.domain.ascii()),
            (None, Some(reports)) => mailto(&reports.localpart, self.host),
            (None, None) => return,
        };
        let comment = "Other servers report TLS failures to this address.";
        let name = self.at("_smtp._tls");
        let text = txt(&tls_rpt(&rua));
        self.add(name, text, Purpose::TlsRpt, Need::Needed, comment);
    }

    /// The names under which mail programs find this server.
    fn mail_programs(&mut self) {
        let listeners = || self.statics.listeners.values();
        let submission =
            listeners().any(|listener| listener.submission.enabled || listener.submissions.enabled);
        let autoconfig = listeners().any(|listener| listener.autoconfig_https.enabled);
        let need = |offered| match offered {
            true => Need::Needed,
            false => Need::Optional,
        };
        let name = self.config.client_settings_domain.ascii().to_owned();
        if name != self.domain {
            let comment = match submission {
                true => "Mail programs use this name, so that the host can change.",
                false => "Optional, until a listener has submission: a name for mail programs.",
            };
            self.own_name(name, need(submission), comment);
        }
        let comment = match autoconfig {
            true => "Mail programs ask this name for their settings.",
            false => "Optional, until a listener has autoconfig_https: settings for mail programs.",
        };
        let name = self.at("autoconfig");
        self.own_name(name, need(autoconfig), comment);
    }

    /// Makes a name an alias of the host, unless it is the host.
    fn own_name(&mut self, name: String, need: Need, comment: &str) {
        if name != self.host {
            let alias = Record::Cname(self.host.to_owned());
            self.add(name, alias, Purpose::HostName, need, comment);
        }
    }

    fn services(&mut self) {
        let has_settings = autoconfig_port(self.statics).is_some();
        for (service, port, target) in services(self.statics, self.config) {
            let (need, comment) = match service {
                "_autodiscover" if !has_settings => (
                    Need::Optional,
                    "Optional, until a listener has autoconfig_https: settings for mail programs.",
                ),
                _ => (
                    Need::Needed,
                    "Mail programs find the services by these records.",
                ),
            };
            let name = self.at(&format!("{service}._tcp"));
            let record = srv(port, target);
            self.add(name, record, Purpose::Service, need, comment);
        }
        let comment =
            "Optional: mail programs do not try these services, which this server does not have.";
        for service in ABSENT_SERVICES {
            let name = self.at(&format!("{service}._tcp"));
            let record = srv(0, "");
            self.add(name, record, Purpose::Service, Need::Optional, comment);
        }
    }

    fn caa(&mut self) {
        let mut names = vec![self.domain.to_owned()];
        if !is_within(self.host, self.domain) {
            names.push(self.host.to_owned());
        }
        let narrow = "Better: only the ACME account of this server gets certificates. Add these \
            instead of the others once the account is there, and change them with it.";
        let issue = |value: String| {
            Record::Caa(Caa {
                critical: false,
                tag: "issue".to_owned(),
                value: value.into_bytes(),
            })
        };
        for ca in &self.facts.cas {
            let comment = "Only this CA issues certificates for the names. Add the CAs of other \
                servers below the domain.";
            for name in &names {
                let record = issue(ca.issuer.ascii().to_owned());
                self.add(name.clone(), record, Purpose::Caa, Need::Optional, comment);
            }
        }
        for ca in &self.facts.cas {
            let uris = ca.account_uris.iter();
            for (uri, name) in uris.flat_map(|uri| names.iter().map(move |name| (uri, name))) {
                let record = issue(format!(
                    "{}; accounturi={uri}; validationmethods=tls-alpn-01,http-01",
                    ca.issuer.ascii()
                ));
                self.add(name.clone(), record, Purpose::Caa, Need::Later, narrow);
            }
        }
    }
}

/// Services that this server never has, or that clients should not use (RFC 8314 §4).
pub(super) const ABSENT_SERVICES: [&str; 4] = ["_imap", "_submission", "_pop3", "_pop3s"];

/// The SPF record of the host.
pub(super) const HOST_SPF: &str = "v=spf1 a -all";

/// The services of a domain: the name, the port and the host.
pub(super) fn services<'a>(
    statics: &'a Static,
    config: &'a DomainConfig,
) -> Vec<(&'static str, u16, &'a str)> {
    let host = statics.hostname.ascii();
    let mut services = vec![(
        "_autodiscover",
        autoconfig_port(statics).unwrap_or(443),
        host,
    )];
    let mut listeners = statics.listeners.values();
    if let Some(listener) = listeners.find(|listener| listener.submissions.enabled) {
        services.push(("_submissions", known(listener.submissions.port, 465), host));
    }
    if let Some((imap, port)) = &config.client_settings_imap {
        services.push(("_imaps", *port, imap.ascii()));
    }
    services
}

/// The port at which mail programs get their settings. None: not here.
pub(super) fn autoconfig_port(statics: &Static) -> Option<u16> {
    let mut listeners = statics.listeners.values();
    let listener = listeners.find(|listener| listener.autoconfig_https.enabled)?;
    Some(known(listener.autoconfig_https.port, 443))
}

/// A configured port, or the registered port of the service if the system chooses one.
const fn known(port: u16, registered: u16) -> u16 {
    match port {
        0 => registered,
        port => port,
    }
}

fn srv(port: u16, target: &str) -> Record {
    Record::Srv(Srv {
        priority: 0,
        weight: u16::from(!target.is_empty()),
        port,
        target: target.to_owned(),
    })
}

fn txt(text: &str) -> Record {
    Record::Txt(text.as_bytes().to_vec())
}

/// The TLSA record of a key: DANE-EE, the public key, SHA-256.
pub(super) fn tlsa_of(digest: &[u8]) -> Tlsa {
    Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: digest.to_vec(),
    }
}

/// The SPF record of a domain without other senders.
pub(super) fn spf(facts: &HostFacts) -> String {
    let mut text = String::from("v=spf1");
    for address in facts.sources.keys() {
        text.push(' ');
        text.push_str(&spf_term(*address));
    }
    text.push_str(" mx ~all");
    text
}

/// The term of an SPF record for an address.
pub(super) fn spf_term(address: std::net::IpAddr) -> String {
    match address {
        std::net::IpAddr::V4(address) => format!("ip4:{address}"),
        std::net::IpAddr::V6(address) => format!("ip6:{address}"),
    }
}

/// The text of the record that announces a policy (RFC 8461 §3.1).
pub(super) fn mta_sts(policy_id: &str) -> String {
    format!("v=STSv1; id={policy_id}")
}

fn tls_rpt(rua: &str) -> String {
    format!("v=TLSRPTv1; rua={rua}")
}

/// Whether a domain must agree to get reports about another one (RFC 9990 §4). Only a list of
/// public suffixes would tell for two domains side by side, so they agree too.
pub(super) fn needs_opt_in(domain: &str, reports_at: &str) -> bool {
    !(is_within(domain, reports_at) || is_within(reports_at, domain))
}

/// The URI of an address (RFC 6068), for lists that are separated by commas and semicolons.
pub(super) fn mailto(local: &LocalPart, domain: &str) -> String {
    let mut uri = String::from("mailto:");
    for byte in local.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'=' => {
                uri.push(char::from(byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{uri}@{domain}")
}
